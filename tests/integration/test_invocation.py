"""Invocation of HTTP apps over HTTP: naming, verbs, paths, headers, statuses, failures (reference http-api §3)."""

from __future__ import annotations

import base64
import json
import time

import pytest

from tests.support.apps import canned_app, echo_app
from tests.support.calls import ask
from tests.support.instance import app, component, free_ports, running, token_of

TOKEN = ("dapr-api-token", token_of("orders"))
METHOD = "/v1.0/invoke/stock/method/"


@pytest.fixture(scope="module")
def stock():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def instance(stock, tmp_path_factory):
    resources = [
        app("orders"),
        app("stock", stock.port),
        app("Mixed_Case-1", stock.port),
        app("gone", free_ports(1)[0]),
        app("quiet", stock.port, channel={"apiToken": {"value": "for-the-app"}}),
        component("statestore", "state.in-memory"),
        {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "HTTPEndpoint",
            "metadata": {"name": "outside"},
            "spec": {
                "baseUrl": f"http://127.0.0.1:{stock.port}",
                "headers": [{"name": "x-set", "value": "by-the-endpoint"}],
            },
        },
    ]
    with running(tmp_path_factory.mktemp("invocation"), resources=resources) as made:
        yield made


def _basic(text: str) -> tuple[str, str]:
    return ("authorization", "Basic " + base64.b64encode(text.encode()).decode())


# Naming the target -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("target", "headers", "path"),
    [
        (METHOD + "a/b?c=d", [], "/a/b?c=d"),
        ("/v1.0/invoke/stock.default/method/a/b", [], "/a/b"),
        ("/v1.0/invoke/st%6Fck/method/a", [], "/a"),
        ("/a/b?c=d", [("dapr-app-id", "stock")], "/a/b?c=d"),
        ("/a/b", [("Dapr-App-Id", "stock.default")], "/a/b"),
        ("/a/b", [_basic("dapr-app-id:stock")], "/a/b"),
        ("/a/b", [_basic("DAPR-APP-ID:stock")], "/a/b"),
        ("/v1.0/invoke/other/method/a", [("dapr-app-id", "stock")], "/v1.0/invoke/other/method/a"),
        ("/v1.0/invoke/Mixed_Case-1/method/a", [], "/a"),
        ("/v1.0/invoke/stock/method/", [], "/"),
    ],
)
def test_three_ways_of_naming(instance, stock, target, headers, path):
    """Path, header and basic authorization name the target; the app gets the method's path and the query."""
    answer = instance.ask("GET", target, headers=headers, app="orders")
    assert answer.status == 200, answer
    assert answer.json()["path"] == path
    seen = stock.seen[-1]
    assert seen.header("dapr-app-id") == []
    assert seen.header("authorization") == [value for name, value in headers if name == "authorization"]


def test_the_header_goes_before_the_path(instance, stock):
    """Of header, authorization and path the header counts."""
    answer = instance.ask(
        "GET", METHOD + "a", headers=[("dapr-app-id", "quiet"), _basic("dapr-app-id:gone")], app="orders"
    )
    assert answer.status == 200
    assert stock.seen[-1].header("dapr-callee-app-id") == ["quiet"]


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/nothing/here", []),
        ("/v1.0/invoke/stock", []),
        ("/v1.0/invoke/stock/method", []),
        ("/v1.0/invoke//method/x", []),
        ("/v1.0/invoke/stock/methods/x", []),
        ("/x", [_basic("dapr-app-id:stock:more")]),
        ("/x", [_basic("somebody:stock")]),
        ("/x", [("authorization", "Basic !!!")]),
        ("/x", [("dapr-app-id", "")]),
    ],
)
def test_no_target(instance, target, headers):
    """A path without a route that names no app is 404 with Dapr's message."""
    answer = instance.ask("GET", target, headers=headers, app="orders")
    assert answer.status == 404
    assert answer.json() == {
        "errorCode": "ERR_DIRECT_INVOKE",
        "message": "failed getting app id either from the URL path or the header dapr-app-id",
    }


# Verb, path, query, body -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_verb(instance, verb):
    """The verb is passed on, with a body and without."""
    assert instance.ask(verb, METHOD + "x", app="orders").json()["method"] == verb
    told = instance.ask(verb, METHOD + "x", b"\x00body\xff", app="orders").json()
    assert (told["method"], base64.b64decode(told["body"])) == (verb, b"\x00body\xff")


def test_head(instance, stock):
    """HEAD is passed on; its answer has headers and no body (nor its length, as in Dapr), and the connection goes on."""
    from tests.support.calls import KeptConnection

    kept = KeptConnection(instance.http)
    try:
        answer = kept.ask("HEAD", METHOD + "x", headers=[TOKEN])
        assert answer.status == 200
        assert answer.header("content-type") == "application/json"
        assert answer.body == b""
        assert stock.seen[-1].method == "HEAD"
        assert kept.ask("GET", METHOD + "y", headers=[TOKEN]).json()["path"] == "/y"
    finally:
        kept.close()


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("a%20b", "/a%20b"),
        ("%C3%BC/%E2%82%AC", "/%C3%BC/%E2%82%AC"),
        ("a//b/./c/../d", "/a/b/d"),
        ("../../x", "/x"),
        ("a%2Fb", "/a/b"),
        ("a;b=c,d:e@f!$&'()*+,~", "/a;b=c,d:e@f!$&'()*+,~"),
        ("a%3Bb", "/a;b"),
        ("x?q=%20a+b&q=2&&=&%zz", "/x?q=%20a+b&q=2&&=&%zz"),
        ("x?", "/x"),
        ("x?a?b", "/x?a?b"),
        ("v1.0/state/statestore/k", "/v1.0/state/statestore/k"),
    ],
)
def test_paths_and_queries(instance, path, arrives):
    """The path is decoded, cleaned and encoded again; the query is verbatim."""
    answer = instance.ask("GET", METHOD + path, app="orders")
    assert answer.status == 200, answer
    assert answer.json()["path"] == arrives


@pytest.mark.parametrize("path", ["a%00b", "a%0Ab", "a%23b", "a%3Fb", "a%7Fb"])
def test_forbidden_in_a_method(instance, path):
    """A method with '#', '?', NUL or a control character is refused before anybody is called."""
    answer = instance.ask("GET", METHOD + path, app="orders")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")


@pytest.mark.parametrize("path", ["a%zz", "a%2", "%", "%ff"])
def test_a_bad_escape(instance, path):
    """A path that cannot be decoded is refused as the client's error, wherever the target is named."""
    answer = instance.ask("GET", METHOD + path, app="orders")
    assert (answer.status, answer.code) == (400, "ERR_BAD_REQUEST")
    answer = instance.ask("GET", "/" + path, headers=[("dapr-app-id", "stock")], app="orders")
    assert (answer.status, answer.code) == (400, "ERR_BAD_REQUEST")
    assert instance.ask("GET", f"/v1.0/invoke/{path}/method/x", app="orders").status == 400


def test_bodies_are_passed_as_they_are(instance):
    """Empty, small and large bodies, with a length or in chunks, arrive unchanged."""
    for body in (b"", b"x", bytes(range(256)) * 4096):
        told = instance.ask("POST", METHOD + "x", body, app="orders").json()
        assert base64.b64decode(told["body"]) == body
    chunks = b"".join(b"%x\r\n%s\r\n" % (n, b"y" * n) for n in (1, 10, 5000)) + b"0\r\n\r\n"
    answer = instance.ask("POST", METHOD + "x", chunks, headers=[("transfer-encoding", "chunked")], app="orders")
    assert base64.b64decode(answer.json()["body"]) == b"y" * 5011


def test_a_body_over_the_limit(tmp_path, stock):
    """A body over --max-body-size is refused, whether its length is told or not, and 0 means no limit."""
    with running(tmp_path / "a", "--max-body-size=1Mi", resources=[app("orders"), app("stock", stock.port)]) as made:
        assert made.ask("POST", METHOD + "sink", bytes(1 << 20), app="orders").status == 200
        answer = made.ask("POST", METHOD + "sink", bytes((1 << 20) + 1), app="orders")
        assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (2 << 20, bytes(2 << 20))
        answer = made.ask("POST", METHOD + "sink", chunked, headers=[("transfer-encoding", "chunked")], app="orders")
        assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    with running(tmp_path / "b", "--max-body-size=0", resources=[app("orders"), app("stock", stock.port)]) as made:
        assert made.ask("POST", METHOD + "sink", bytes(6 << 20), app="orders").json()["size"] == 6 << 20


# Headers -----------------------------------------------------------------------------------------------------------
def test_request_headers(instance, stock):
    """End-to-end headers arrive as sent, also repeated ones; those of one hop and of Dapr do not."""
    headers = [
        ("x-one", "1"), ("X-Many", "a"), ("x-many", "b"), ("accept", "text/x-test"), ("cookie", "c=d"),
        ("accept-encoding", "br"), ("content-encoding", "x-none"), ("user-agent", "tester"), ("referer", "r"),
        ("connection", "close, x-hop"), ("x-hop", "gone"), ("keep-alive", "timeout=5"), ("te", "trailers"),
        ("proxy-authorization", "gone"), ("proxy-connection", "gone"), ("upgrade", "gone"), ("trailer", "gone"),
        ("grpc-timeout", "1S"), ("x-data-bin", "gone"), ("destination-app-id", "gone"),
        ("authorization", "Bearer kept"), ("baggage", "a=b"), ("x-latin", b"\xfc"),
    ]  # fmt: skip
    assert instance.ask("POST", METHOD + "x", b"b", headers=headers, app="orders").status == 200
    seen = stock.seen[-1]
    for name, value in (
        ("x-one", ["1"]), ("x-many", ["a", "b"]), ("accept", ["text/x-test"]), ("cookie", ["c=d"]),
        ("accept-encoding", ["br"]), ("content-encoding", ["x-none"]), ("user-agent", ["tester"]), ("referer", ["r"]),
        ("x-hop", []), ("keep-alive", []), ("te", []), ("proxy-authorization", []), ("proxy-connection", []),
        ("upgrade", []), ("trailer", []), ("grpc-timeout", []), ("dapr-grpc-timeout", ["1S"]), ("x-data-bin", []),
        ("destination-app-id", []), ("authorization", ["Bearer kept"]), ("baggage", ["a=b"]),
        ("dapr-caller-app-id", ["orders"]), ("dapr-callee-app-id", ["stock"]), ("dapr-caller-namespace", ["default"]),
        ("dapr-api-token", []), ("host", [f"127.0.0.1:{stock.port}"]), ("content-length", ["1"]), ("content-type", []),
    ):  # fmt: skip
        assert seen.header(name) == value, name
    assert seen.header("x-latin") in (["\udcfc"], ["ü"])


def test_content_type(instance, stock):
    """The content type is passed on, and an absent one stays absent."""
    instance.ask("POST", METHOD + "x", b"b", headers=[("content-type", "text/x; charset=a")], app="orders")
    assert stock.seen[-1].header("content-type") == ["text/x; charset=a"]
    instance.ask("POST", METHOD + "x", b"b", app="orders")
    assert stock.seen[-1].header("content-type") == []


def test_the_token_of_the_channel(instance, stock):
    """The app gets the token of its own channel as dapr-api-token."""
    assert instance.ask("GET", "/v1.0/invoke/quiet/method/x", app="orders").status == 200
    assert stock.seen[-1].header("dapr-api-token") == ["for-the-app"]


def test_answer_headers(instance):
    """The app's end-to-end headers come back, repeated ones too; those of one hop do not."""
    head = (
        b"HTTP/1.1 200 Fine\r\ncontent-type: text/x\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-app: yes\r\n"
        b'etag: "e"\r\nlocation: /elsewhere\r\nconnection: close, x-hop\r\nx-hop: gone\r\nkeep-alive: timeout=9\r\n'
        b"proxy-authenticate: gone\r\nx-data-bin: gone\r\ngrpc-status: 0\r\ncontent-encoding: gzip\r\n"
        b"content-length: 3\r\n\r\nabc"
    )
    with canned_app(head) as (port, _):
        write = [app("orders"), app("stock", port)]
        with running(instance.folder / "headers", resources=write) as made:
            answer = made.ask("GET", METHOD + "x", app="orders")
    assert (answer.status, answer.body) == (200, b"abc")
    values = {
        "content-type": "text/x", "set-cookie": "a=1, b=2", "x-app": "yes", "etag": '"e"', "location": "/elsewhere",
        "content-encoding": "gzip", "content-length": "3", "x-hop": None, "keep-alive": None,
        "proxy-authenticate": None, "x-data-bin": None, "grpc-status": None, "dapr-grpc-status": "0",
    }  # fmt: skip
    assert {name: answer.header(name) for name in values} == values


def test_hop_headers_of_the_caller_do_not_come_back(instance):
    """The answer says nothing about the app's connection."""
    answer = instance.ask("GET", METHOD + "x", app="orders")
    assert answer.header("connection") == "close"
    assert answer.header("traceparent")


# Statuses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "status",
    [200, 201, 202, 203, 206, 226, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410,
     412, 413, 415, 418, 422, 425, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 599],
)  # fmt: skip
def test_a_status_passes_through(instance, stock, status):
    """The app's status, headers and body come back unchanged, whatever the status."""
    stock.answer_headers.append(("x-app", "yes"))
    try:
        answer = instance.ask("POST", METHOD + f"status/{status}", b"body", app="orders")
    finally:
        stock.answer_headers.clear()
    assert answer.status == status
    assert answer.header("x-app") == "yes"
    assert base64.b64decode(answer.json()["body"]) == b"body"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body(instance, status):
    """204 and 304 come back without a body."""
    answer = instance.ask("GET", METHOD + f"status/{status}", app="orders")
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
def test_an_interim_status_is_not_the_answer(tmp_path, interim):
    """An app's 1xx comes before its answer and does not replace it."""
    with (
        canned_app(interim + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as (port, _),
        running(tmp_path, resources=[app("orders"), app("stock", port)]) as made,
    ):
        answer = made.ask("GET", METHOD + "x", app="orders")
        assert (answer.status, answer.body) == (200, b"ok")


# Failures ----------------------------------------------------------------------------------------------------------
def test_an_app_that_refuses_is_answered_at_once(instance):
    """An app of this instance that refuses connections is a failed invocation in under a second."""
    started = time.monotonic()
    answer = instance.ask("POST", "/v1.0/invoke/gone/method/x", b"{}", app="orders")
    assert time.monotonic() - started < 1
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert answer.json()["message"].startswith("failed to invoke, id: gone, err: ")
    assert "connection refused" in answer.json()["message"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nobody", "couldn't find service: nobody"),
        ("stock.elsewhere", "couldn't find service: stock.elsewhere"),
        ("stock.default.more", "invalid app id"),
        ("orders", "app channel is not initialized"),
    ],
)
def test_an_app_that_is_not_there(instance, target, words):
    """An unknown app, a wrong name and an app without a channel are 500 and name the app."""
    answer = instance.ask("GET", f"/v1.0/invoke/{target}/method/x", app="orders")
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert words in answer.json()["message"]
    assert f"id: {target}" in answer.json()["message"]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", b"HTTP/1.1 999999 x\r\n\r\n"],
    ids=["nothing", "garbage", "short", "status"],
)
def test_an_app_that_answers_garbage(tmp_path, garbage):
    """An app that closes, answers garbage or less than it announced fails its call and nothing else."""
    with canned_app(garbage) as (port, _):
        resources = [app("orders"), app("stock", port), component("statestore", "state.in-memory")]
        with running(tmp_path, resources=resources) as made:
            answer = made.ask("GET", METHOD + "x", app="orders")
            assert answer.status == 500 or (answer.status == 200 and answer.body != b"abc") or answer.status == 0
            if answer.status == 500:
                assert answer.code == "ERR_DIRECT_INVOKE"
            assert made.ask("GET", "/v1.0/state/statestore/x", app="orders").status == 204


def test_an_endpoint_outside(instance, stock):
    """An HTTPEndpoint is invoked by its name, with its headers, and gets no token."""
    answer = instance.ask("GET", "/v1.0/invoke/outside/method/a?b=c", headers=[("x-set", "mine")], app="orders")
    assert answer.status == 200
    assert answer.json()["path"] == "/a?b=c"
    assert stock.seen[-1].header("x-set") == ["by-the-endpoint"]
    assert stock.seen[-1].header("dapr-api-token") == []


def test_absolute_urls_where_they_are_allowed(tmp_path, stock):
    """An absolute URL is invoked on a single instance, and on a shared one where its host is allowed."""
    url = f"http://127.0.0.1:{stock.port}"
    forms = (url, url.replace("://", ":/"), url.replace(":", "%3A").replace("/", "%2F"))
    with running(tmp_path / "one", app_id="orders") as made:
        for form in forms:
            answer = ask(made.http, "GET", f"/v1.0/invoke/{form}/method/a?b=c")
            assert (answer.status, answer.json()["path"]) == (200, "/a?b=c")
    with running(tmp_path / "many", "--allow-external-urls=127.0.0.1", resources=[app("orders")]) as made:
        for form in forms:
            answer = made.ask("GET", f"/v1.0/invoke/{form}/method/a?b=c", app="orders")
            assert (answer.status, answer.json()["path"]) == (200, "/a?b=c")
            assert stock.seen[-1].header("dapr-api-token") == []
        assert made.ask("GET", "/v1.0/invoke/http://localhost:1/method/a", app="orders").status == 403


# Trace -------------------------------------------------------------------------------------------------------------
def test_trace_context_is_passed_on(instance, stock):
    """A caller's W3C trace id reaches the app and comes back, with its state; the parent is this call's own."""
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = [("traceparent", f"00-{trace}-{parent}-01"), ("tracestate", "a=1,b=2")]
    answer = instance.ask("GET", METHOD + "x", headers=headers, app="orders")
    (given,) = stock.seen[-1].header("traceparent")
    assert given.split("-")[1] == trace
    assert given.split("-")[3] == "01"
    assert stock.seen[-1].header("tracestate") == ["a=1,b=2"]
    assert (answer.header("traceparent") or "").split("-")[1] == trace


@pytest.mark.parametrize("wrong", ["garbage", "00-0-0-0", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
def test_a_wrong_trace_context_is_replaced(instance, stock, wrong):
    """A malformed traceparent begins a new trace; the call goes on."""
    assert instance.ask("GET", METHOD + "x", headers=[("traceparent", wrong)], app="orders").status == 200
    (given,) = stock.seen[-1].header("traceparent")
    assert given != wrong
    assert len(given) == 55


def test_a_wrong_baggage_is_refused(instance):
    """A malformed baggage header is 400 with a plain text, as Dapr answers it."""
    answer = instance.ask("GET", METHOD + "x", headers=[("baggage", "=;=")], app="orders")
    assert answer.status == 400
    assert (answer.header("content-type") or "").startswith("text/plain")


def test_json_numbers_survive(instance):
    """A JSON body is no JSON to the instance: it arrives byte by byte."""
    body = b'{ "big": 12345678901234567890.000 , "a":1,"a":2}'
    told = instance.ask("POST", METHOD + "x", body, headers=[("content-type", "application/json")], app="orders").json()
    assert base64.b64decode(told["body"]) == body
    assert json.loads(base64.b64decode(told["body"]))
