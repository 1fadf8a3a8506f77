"""Invocation by the official Python SDK: HTTP and gRPC callers, HTTP and gRPC apps, relayed services."""

from __future__ import annotations

import base64
import json

import grpc
import pytest
from dapr.clients.exceptions import DaprInternalError

from tests.support.apps import SERVICE
from tests.support.instance import token_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:invoke_method with protocol gRPC is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:metadata argument is deprecated:DeprecationWarning"),
]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_http_app_is_invoked(sdk, world, protocol):
    """An HTTP app gets verb, path, query, content type and body, and the proved caller; its answer comes back."""
    client = sdk("orders", protocol)
    answer = client.invoke_method(
        "stock", "some/path", b'{"n": 1}', content_type="application/json", http_verb="PUT",
        http_querystring=(("a", "1"), ("b", "x y")),
    )  # fmt: skip
    told = json.loads(answer.data)
    assert told["method"] == "PUT"
    assert told["path"].replace("%20", "+") == "/some/path?a=1&b=x+y"
    assert base64.b64decode(told["body"]) == b'{"n": 1}'
    seen = world.stock.seen[-1]
    assert seen.header("content-type") == ["application/json"]
    assert seen.header("dapr-caller-app-id") == ["orders"]
    assert seen.header("dapr-api-token") == []
    assert answer.content_type.startswith("application/json")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_apps_error_comes_back(sdk, protocol):
    """The status of an HTTP app's error reaches the SDK's caller: itself over HTTP, mapped over gRPC."""
    client = sdk("orders", protocol)
    if protocol == "http":
        with pytest.raises(DaprInternalError) as refused:
            client.invoke_method("stock", "status/409", b"", http_verb="POST")
        assert refused.value.as_dict()["status_code"] == 409
    else:
        with pytest.raises(grpc.RpcError) as refused:
            client.invoke_method("stock", "status/409", b"", http_verb="POST")
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_sdks_own_callback_app_is_invoked(sdk, protocol):
    """An app made with `dapr.ext.grpc.App` is invoked over either protocol, with headers both ways."""
    answer = sdk("orders", protocol).invoke_method("callback", "greet", "there", http_verb="POST")
    assert answer.data == b"hello orders: there"
    assert answer.content_type.startswith("text/plain")
    assert {key.lower(): value for key, value in dict(answer.headers).items()}["app-header"] in (
        "from-the-app",
        ["from-the-app"],
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unknown_method_of_a_callback_app(sdk, protocol):
    """What the callback app does not have is UNIMPLEMENTED over gRPC and 501 over HTTP."""
    client = sdk("orders", protocol)
    if protocol == "http":
        with pytest.raises(DaprInternalError) as refused:
            client.invoke_method("callback", "absent", b"", http_verb="POST")
        assert refused.value.as_dict()["status_code"] == 501
    else:
        with pytest.raises(grpc.RpcError) as refused:
            client.invoke_method("callback", "absent", b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unknown_app(sdk, protocol):
    """An app that nobody serves is an error that names it."""
    client = sdk("orders", protocol)
    if protocol == "http":
        with pytest.raises(DaprInternalError) as refused:
            client.invoke_method("nobody", "x", b"", http_verb="POST")
        assert refused.value.error_code == "ERR_DIRECT_INVOKE"
        assert "nobody" in refused.value.as_dict()["message"]
    else:
        with pytest.raises(grpc.RpcError) as refused:
            client.invoke_method("nobody", "x", b"")
        assert "nobody" in refused.value.details()


def test_a_service_of_an_app_is_relayed(world):
    """A stub of an app's own service reaches it through the instance: unary and all three kinds of streams."""
    metadata = (("dapr-app-id", "remote"), ("dapr-api-token", token_of("orders")))
    with grpc.insecure_channel(world.instance.grpc) as channel:
        say = channel.unary_unary(f"/{SERVICE}/Say")
        answer, ended = say.with_call(b"\x00\xffhello", metadata=metadata, timeout=10)
        assert answer == b"\x00\xffhello"
        assert ("app-header", "header") in ended.initial_metadata()
        assert ("app-bytes-bin", b"\x00\xff") in ended.initial_metadata()
        assert ("app-trailer", "trailer") in ended.trailing_metadata()

        count = channel.unary_stream(f"/{SERVICE}/Count")
        assert list(count(b"1000", metadata=metadata, timeout=10)) == [b"%d" % n for n in range(1000)]

        join = channel.stream_unary(f"/{SERVICE}/Join")
        assert join(iter([b"a", b"b", b"c"]), metadata=metadata, timeout=10) == b"a,b,c"

        chat = channel.stream_stream(f"/{SERVICE}/Chat")
        assert list(chat(iter([b"x", b"", b"y" * 100_000]), metadata=metadata, timeout=10)) == [
            b"<x>",
            b"<>",
            b"<" + b"y" * 100_000 + b">",
        ]


def test_a_relayed_conversation_goes_to_and_fro(world):
    """In a relayed bidirectional stream each side hears the other before it goes on."""
    import queue

    metadata = (("dapr-app-id", "remote"), ("dapr-api-token", token_of("orders")))
    sent: queue.Queue[bytes | None] = queue.Queue()
    with grpc.insecure_channel(world.instance.grpc) as channel:
        answers = channel.stream_stream(f"/{SERVICE}/Chat")(iter(sent.get, None), metadata=metadata, timeout=10)
        for number in range(20):
            sent.put(b"%d" % number)
            assert next(answers) == b"<%d>" % number
        sent.put(None)
        assert list(answers) == []
        assert answers.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_a_relayed_error_keeps_code_message_and_details(world, code):
    """Whatever code an app's service ends with, the caller gets it, its message and its details."""
    metadata = (("dapr-app-id", "remote"), ("dapr-api-token", token_of("orders")))
    with grpc.insecure_channel(world.instance.grpc) as channel:
        fail = channel.unary_unary(f"/{SERVICE}/Fail")
        with pytest.raises(grpc.RpcError) as refused:
            fail(b"%d" % code.value[0], metadata=metadata, timeout=10)
    assert refused.value.code() is code
    assert refused.value.details() == "as told"
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"AS_TOLD" in details


def test_a_cancelled_relayed_call_is_cancelled_at_the_app(world):
    """A caller that goes away ends its relayed call at the app."""
    from tests.support.apps import until

    metadata = (("dapr-app-id", "remote"), ("dapr-api-token", token_of("orders")))
    before, called = world.remote.cancelled, len(world.remote.called)
    with grpc.insecure_channel(world.instance.grpc) as channel:
        pending = channel.unary_unary(f"/{SERVICE}/Hang").future(b"", metadata=metadata, timeout=10)
        until(lambda: len(world.remote.called) > called)
        pending.cancel()
        until(lambda: world.remote.cancelled == before + 1)


def test_a_deadline_is_passed_on(world):
    """The deadline of a relayed call holds: the caller gets DEADLINE_EXCEEDED and the app is told."""
    from tests.support.apps import until

    metadata = (("dapr-app-id", "remote"), ("dapr-api-token", token_of("orders")))
    before = world.remote.cancelled
    with grpc.insecure_channel(world.instance.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE}/Hang")(b"", metadata=metadata, timeout=0.3)
        assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: world.remote.cancelled == before + 1)


def test_relaying_needs_a_target(world):
    """A call of an unknown service without `dapr-app-id` is refused with Dapr's message."""
    metadata = (("dapr-api-token", token_of("orders")),)
    with grpc.insecure_channel(world.instance.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/Say")(b"", metadata=metadata, timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNKNOWN
    assert "required metadata dapr-callee-app-id or dapr-app-id not found" in refused.value.details()
