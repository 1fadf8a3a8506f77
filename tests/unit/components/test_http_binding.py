from __future__ import annotations

import asyncio
import gzip
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from dapr_shared.components.http.binding import HttpBinding
from dapr_shared.contracts.bindings import BindingError, BindingRequest
from dapr_shared.contracts.component import BackendError, BackendUnavailableError, ComponentContext
from dapr_shared.contracts.settings import SettingError, decode_settings


@pytest.fixture
async def endpoint():
    """A server that answers what `app.answer` gives and keeps what it was asked."""

    class Endpoint:
        def __init__(self) -> None:
            self.seen: list[tuple[web.BaseRequest, bytes]] = []
            self.answer = lambda _request: web.Response(text="ok", headers=[("X-Many", "1"), ("X-Many", "2")])
            self.url = ""

        async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
            self.seen.append((request, await request.read()))
            answer = self.answer(request)
            return await answer if asyncio.iscoroutine(answer) else answer

    made = Endpoint()
    runner = web.ServerRunner(web.Server(made), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def call(endpoint, monkeypatch):
    """Opens the binding with these settings and calls it."""
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    async with AsyncExitStack() as stack:

        async def invoke(operation: str, data: bytes = b"null", settings: dict | None = None, **metadata: str):
            given = {"url": endpoint.url, **(settings or {})}
            binding = HttpBinding(
                decode_settings(HttpBinding.settings_type, given), ComponentContext("e", "bindings.http")
            )
            await binding.start(stack)
            named = {name.replace("_", "-"): value for name, value in metadata.items()}
            return await binding.invoke(BindingRequest(operation, data, named))

        yield invoke


@pytest.mark.parametrize("operation", HttpBinding.operations)
async def test_every_verb(endpoint, call, operation):
    """Each operation is its verb, `create` is POST; only POST, PUT and PATCH have a body."""
    answer = await call(operation, b'{"a":1}')
    request, body = endpoint.seen[0]
    verb = "POST" if operation == "create" else operation.upper()
    assert request.method == verb
    assert body == (b'{"a":1}' if verb in ("POST", "PUT", "PATCH") else b"")
    assert answer.metadata["statusCode"] == "200"
    assert answer.metadata["status"] == "200 OK"
    assert answer.metadata["X-Many"] == "1, 2"
    assert request.headers["Accept"] == "application/json; charset=utf-8"


async def test_headers(endpoint, call):
    """Names with a capital are headers, the trace goes on, what frames the message cannot be set."""
    await call(
        "post", b"x", Content_Type="text/plain", X_Mine="1", lower="no", traceparent="00-a-b-01",
        Host="evil", Content_Length="9", Transfer_Encoding="chunked",
    )  # fmt: skip
    request, body = endpoint.seen[0]
    assert body == b"x"
    assert request.headers["Content-Type"] == "text/plain"
    assert request.headers["X-Mine"] == "1"
    assert request.headers["traceparent"] == "00-a-b-01"
    assert "lower" not in request.headers
    assert request.headers["Host"] != "evil"
    assert request.headers["Content-Length"] == "1"


async def test_a_header_cannot_smuggle(endpoint, call):
    """A line end in a value is refused before anything is sent."""
    with pytest.raises(BackendError):
        await call("get", X_Mine="1\r\nX-Other: 2")
    assert endpoint.seen == []


@pytest.mark.parametrize(
    ("path", "seen"), [("a", "/base/a"), ("/a?b=c%20d", "/base/a?b=c%20d"), ("a%2Fb", "/base/a%2Fb")]
)
async def test_path(endpoint, call, path, seen):
    """The path is joined with one slash and sent as it is written."""
    await call("get", settings={"url": endpoint.url + "/base/"}, path=path)
    assert endpoint.seen[0][0].raw_path == seen


@pytest.mark.parametrize("path", ["../admin", "a/../../x", "%2e%2e/x", "..\\x", "a b", "a\r\nb"])
async def test_path_stays_below(endpoint, call, path):
    """A path that leads out of the url's, or that makes no URL, is refused."""
    with pytest.raises(BackendError):
        await call("get", settings={"url": endpoint.url + "/base"}, path=path)
    assert endpoint.seen == []


async def test_other_statuses(endpoint, call):
    """Not 2xx is an error with the answer in hand, unless the component or the request says otherwise."""
    endpoint.answer = lambda _request: web.Response(status=404, text="gone")
    with pytest.raises(BindingError, match="received status code 404") as caught:
        await call("get")
    assert (caught.value.response.data, caught.value.response.metadata["statusCode"]) == (b"gone", "404")
    assert (await call("get", settings={"errorIfNot2XX": "false"})).data == b"gone"
    assert (await call("get", errorIfNot2XX="false")).data == b"gone"


async def test_a_long_answer_is_cut_off(endpoint, call):
    """Past maxResponseBodySize the rest is left; 0 reads all."""
    endpoint.answer = lambda _request: web.Response(body=b"x" * 300_000)
    assert len((await call("get", settings={"maxResponseBodySize": "1000"})).data) == 1000
    assert len((await call("get", settings={"maxResponseBodySize": "0"})).data) == 300_000


async def test_a_packed_answer_is_unpacked(endpoint, call):
    """Gzip is undone, and no metadata says otherwise."""
    packed = gzip.compress(b"hello")
    endpoint.answer = lambda _request: web.Response(body=packed, headers={"Content-Encoding": "gzip"})
    answer = await call("get")
    assert answer.data == b"hello"
    assert "Content-Encoding" not in answer.metadata


async def test_time_out(endpoint, call):
    """ResponseTimeout bounds the whole answer."""

    async def hang(_request):
        await asyncio.sleep(30)

    endpoint.answer = hang
    with pytest.raises(BackendError, match=r"no answer within 0\.1 s"):
        await call("get", settings={"responseTimeout": "100ms"})


async def test_nobody_there(call):
    """A refused connection may be tried again, and the message shows no URL."""
    with pytest.raises(BackendUnavailableError) as caught:
        await call("get", settings={"url": "http://127.0.0.1:1/?key=hidden"})
    assert "hidden" not in str(caught.value)


async def test_the_token_goes_to_no_other_host(endpoint, call):
    """With a securityToken it is in its header and a redirect is not followed; without one it is."""
    endpoint.answer = lambda request: (
        web.Response(text="there")
        if request.path == "/there"
        else web.Response(status=302, headers={"Location": "/there"})
    )
    token = {"securityToken": "t", "securityTokenHeader": "X-Token", "errorIfNot2XX": "false"}
    assert (await call("get", settings=token)).metadata["statusCode"] == "302"
    assert endpoint.seen[0][0].headers["X-Token"] == "t"
    assert (await call("get")).data == b"there"


async def test_no_cookies_are_kept(endpoint, call):
    """What the endpoint sets for one app's call is not sent with the next."""
    endpoint.answer = lambda _request: web.Response(headers={"Set-Cookie": "who=orders"})
    await call("get")
    await call("get")
    assert "Cookie" not in endpoint.seen[1][0].headers


@pytest.mark.parametrize(
    "metadata",
    [
        {"url": "ftp://host"},
        {"url": "http://"},
        {"url": "http://h", "securityToken": "t"},
        {"url": "http://h", "MTLSClientCert": "c"},
        {"url": "http://h", "MTLSRenegotiation": "Sometimes"},
    ],
)
def test_wrong_settings(metadata):
    """What cannot work is refused when the component is read."""
    with pytest.raises(SettingError):
        decode_settings(HttpBinding.settings_type, metadata)


async def test_certificates_that_are_none():
    """A start with certificates that cannot be read says so, without showing the key."""
    metadata = {"url": "https://h", "MTLSClientCert": "/nowhere", "MTLSClientKey": "-----BEGIN hidden"}
    binding = HttpBinding(decode_settings(HttpBinding.settings_type, metadata), ComponentContext("e", "bindings.http"))
    async with AsyncExitStack() as stack:
        with pytest.raises(BackendError, match="certificates") as caught:
            await binding.start(stack)
        assert "hidden" not in str(caught.value)
