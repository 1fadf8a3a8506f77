"""The channel to apps that speak HTTP/2 without TLS, against a real server on loopback."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.channel.base import ChannelConfigurationError, ChannelProperties, HealthProperties
from dapr_shared.channel.h2c import H2cAppChannel
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError
from dapr_shared.core.ids import AppRef
from dapr_shared.wire.http.messages import BodyError, BodyTooLargeError
from tests.support.app_servers import H2cApp, HttpApp, raw_server
from tests.support.ports import free_port
from tests.support.required import need_module

REF = AppRef("orders")


@pytest.fixture(autouse=True)
def _client_library():
    """What the channel connects with."""
    need_module("pyreqwest")


@asynccontextmanager
async def channel(port: int, *, max_concurrency=0, health=None, **options):
    properties = ChannelProperties("h2c", "127.0.0.1", port, max_concurrency, health)
    async with AsyncExitStack() as stack:
        made = H2cAppChannel(REF, properties, **options)
        await made.start(stack)
        yield made
    assert made.concurrency == 0


class Upload:
    def __init__(self, *, length: int | None = None, error: Exception | None = None) -> None:
        self.content_length = length
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.error = error

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        piece = await self.queue.get()
        if piece is not None:
            return piece
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        pass


async def test_a_call_reaches_the_app_as_it_was_made(call):
    """Verb, path, query, headers, content type, token and body arrive; status, headers and body come back."""
    app = H2cApp(202, [("x-a", "1"), ("x-a", "2"), ("content-type", "text/plain"), ("content-length", "2")], b"ok")
    async with raw_server(app) as port, channel(port, api_token="secret", base_path="/b") as orders:
        headers = [(b"x-h", b"v"), (b"dapr-api-token", b"forged"), (b"host", b"us"), (b"x-l", b"caf\xe9")]
        answer = await orders.invoke(call("a b/c'|", "PUT", b"x=%20'", headers, b"body", b"application/json"))
    (seen,) = app.seen
    assert (seen.method, seen.target, seen.body) == ("PUT", "/b/a%20b/c'%7C?x=%20%27", b"body")
    assert seen.header("content-type") == ["application/json"]
    assert seen.header("x-h") == ["v"]
    assert seen.header("dapr-api-token") == ["secret"]
    assert seen.header("content-length") == ["4"]
    assert (answer.status, answer.body, answer.content_type) == (202, b"ok", b"text/plain")
    assert answer.headers == [(b"x-a", b"1"), (b"x-a", b"2")]


async def test_an_answers_header_that_cannot_be_shown_does_not_spoil_the_rest(call):
    """A header value outside ASCII is left out, the others come."""
    app = H2cApp(headers=[("x-l", "caf\xe9"), ("x-a", "1"), ("x-b", "2"), ("x-b", "3")], body=b"")
    async with raw_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call())
        assert answer.headers == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-b", b"3")]
        assert await answer.body.read(10) == b""


async def test_bodies_are_streamed_both_ways(call):
    """The answer's head and pieces come while the request's body is still being sent."""
    app = H2cApp()
    async with raw_server(app) as port, channel(port, max_concurrency=1) as orders:
        upload = Upload()
        upload.queue.put_nowait(b"one")
        async with asyncio.timeout(5):
            answer = await orders.invoke(call(body=upload))
            assert await anext(answer.body) == b"one"
            assert orders.concurrency == 1
            upload.queue.put_nowait(b"two")
            assert await anext(answer.body) == b"two"
            upload.queue.put_nowait(None)
            assert [piece async for piece in answer.body] == []
    assert app.seen[0].body == b"onetwo"
    assert app.seen[0].header("content-length") == []


async def test_a_large_answer_comes_whole_or_is_refused_by_the_reader(call):
    """A long body is streamed, up to the limit that its reader sets; closing it early tells the app."""
    app = H2cApp(headers=[("content-length", "300000")], body=b"x" * 300_000)
    async with raw_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call())
        assert answer.body.content_length == 300_000
        assert len(await answer.body.read(300_000)) == 300_000
        answer = await orders.invoke(call())
        with pytest.raises(BodyTooLargeError):
            await answer.body.read(1000)
        await answer.body.aclose()


async def test_a_body_that_the_caller_breaks_off_is_the_callers_error(call):
    """The body's own error comes out, not one that blames the app."""
    app = H2cApp(body=b"never")
    async with raw_server(app) as port, channel(port) as orders:
        upload = Upload(length=10, error=BodyError("the caller broke off"))
        upload.queue.put_nowait(b"a")
        upload.queue.put_nowait(None)
        with pytest.raises(BodyError, match="the caller broke off"):
            await orders.invoke(call(body=upload), timeout=5)


async def test_a_refused_connection_says_so(call):
    """Nobody listens: AppUnreachableError in the words of a dial."""
    port = free_port()
    async with channel(port) as orders:
        with pytest.raises(AppUnreachableError, match=rf"^dial tcp 127.0.0.1:{port}: connection refused$"):
            await orders.invoke(call())


async def test_an_app_that_hangs_is_a_timeout(call):
    """No answer in time: AppTimeoutError, and the connection still serves other calls."""
    app = H2cApp(204, silent=True, body=b"")
    async with raw_server(app) as port, channel(port) as orders:
        with pytest.raises(AppTimeoutError, match=r"within 0.1 s"):
            await orders.invoke(call(), timeout=0.1)
        app.silent = False
        assert (await orders.invoke(call(), timeout=5)).status == 204


@pytest.mark.parametrize("how", ["reset", "http/1.1", "closed"])
async def test_an_app_that_breaks_off_or_talks_nonsense_is_a_channel_error(call, how):
    """What reached the app and came to nothing is no 'unreachable'."""

    async def nonsense(reader, writer):
        await reader.read(10)
        if how == "http/1.1":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

    async with raw_server(H2cApp(reset=True) if how == "reset" else nonsense) as port, channel(port) as orders:
        with pytest.raises(ChannelError) as caught:
            await orders.invoke(call(), timeout=5)
    assert type(caught.value) is ChannelError


async def test_an_app_that_restarts_on_its_port_is_called_again(call):
    """The next call after a restart reaches the new process."""
    port = free_port()
    async with channel(port) as orders:
        for status in (200, 201):
            async with raw_server(H2cApp(status, [("content-length", "0")], b""), port=port):
                assert (await orders.invoke(call(), timeout=5)).status == status
            with pytest.raises(ChannelError):
                await orders.invoke(call(), timeout=5)


async def test_a_health_probe_asks_the_path_without_the_token():
    """2xx is healthy; an HTTP/1.1 app is not; the probe carries no token."""
    health = HealthProperties("/well")
    app = H2cApp(status=204, body=b"")
    async with raw_server(app) as port, channel(port, health=health, api_token="secret") as orders:
        assert await orders.check_health()
        app.status = 500
        assert (await orders.probe_health()).status == "500"
    assert app.seen[0].target == "/well"
    assert app.seen[0].header("dapr-api-token") == []
    async with raw_server(HttpApp()) as port, channel(port, health=health) as orders:
        assert not await orders.check_health()


async def test_connections_do_not_live_for_ever(call):
    """After its life a connection takes no new calls, and those on it end undisturbed."""
    app = H2cApp()
    async with raw_server(app) as port, channel(port) as orders:
        upload = Upload()
        upload.queue.put_nowait(b"one")
        answer = await orders.invoke(call(body=upload), timeout=5)
        first = orders._client
        orders._expires = 0.0
        second = await orders.invoke(call(body=b"x"), timeout=5)
        assert await second.body.read(10) == b"x"
        assert orders._client is not first
        del first
        upload.queue.put_nowait(b"two")
        upload.queue.put_nowait(None)
        assert await answer.body.read(10) == b"onetwo"


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch):
    """A missing pyreqwest is named with the extra that brings it."""
    monkeypatch.setitem(sys.modules, "pyreqwest.client", None)
    with pytest.raises(ChannelConfigurationError, match=r"install the extra dapr-shared\[h2c\]"):
        async with channel(1):
            pass
