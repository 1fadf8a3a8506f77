"""A delivery over HTTP does what an invocation does, by a shorter way: both are asked of the same app and compared."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.channel.base import ChannelProperties, HealthProperties
from dapr_shared.channel.http import HttpAppChannel
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError, InvokeRequest
from dapr_shared.core.ids import AppRef
from tests.support.app_servers import HttpApp, raw_server, until
from tests.support.ports import free_port

EVENTS = b"application/cloudevents+json"
TRACE = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@asynccontextmanager
async def channel(port: int, *, max_concurrency=0, health=None, **options):
    properties = ChannelProperties("http", "127.0.0.1", port, max_concurrency, health)
    async with AsyncExitStack() as stack:
        made = HttpAppChannel(AppRef("orders"), properties, **options)
        await made.start(stack)
        yield made
    assert made.concurrency == 0


async def deliver(made, path="a b/c", body=b"{}", headers=(), limit=5.0):
    return await made.deliver(path, body, list(headers), EVENTS, timeout=limit)


async def invoke(made, path="a b/c", body=b"{}", headers=(), limit=5.0):
    answer = await made.invoke(InvokeRequest(path, "POST", b"", list(headers), body, EVENTS), timeout=limit)
    return answer.status, answer.body


async def came_of(way, made, **given):
    """Status and body, or the error and its words; and how often the watcher heard that the app is not there."""
    heard: list[None] = []
    made.on_unreachable = lambda: heard.append(None)
    try:
        status, body = await way(made, **given)
        if not isinstance(body, bytes):
            body = await body.read(1_000_000)
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error), str(error), len(heard)
    return status, body, len(heard)


async def test_the_app_sees_the_same_request():
    """Target, headers, the app's own token and no other, content type and body: the same, also the second time."""
    app = HttpApp(body=b"ok")
    forged = [TRACE, (b"dapr-api-token", b"forged"), (b"x-h", b"v")]
    async with raw_server(app) as port, channel(port, base_path="/base/", api_token="secret") as orders:
        for headers in (forged, [], forged):
            assert await invoke(orders, headers=headers) == await deliver(orders, headers=headers) == (200, b"ok")
    for invoked, delivered in zip(app.seen[::2], app.seen[1::2], strict=True):
        assert (delivered.method, delivered.target, delivered.body) == (invoked.method, invoked.target, invoked.body)
        assert sorted(delivered.headers) == sorted(invoked.headers)
    assert [seen.header("dapr-api-token") for seen in app.seen] == [["secret"]] * 6


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"status":"DROP"}',
        b"HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"\x00\x01garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    ],
)
async def test_every_answer_means_the_same(answer):
    """Good answers, odd ones and none at all come to the same, told to the watcher or not."""

    async def say(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with raw_server(say) as port, channel(port) as one, channel(port) as other:
        assert await came_of(deliver, one) == await came_of(invoke, other)


async def test_an_app_that_is_not_there_or_not_well():
    """Refused, unhealthy, closed: the same errors in the same words."""
    port = free_port()
    async with channel(port) as orders:
        refused = await came_of(deliver, orders)
        assert refused == await came_of(invoke, orders)
        assert refused[0] is AppUnreachableError
    assert await came_of(deliver, orders) == await came_of(invoke, orders)
    async with channel(port, health=HealthProperties()) as orders:
        assert await came_of(deliver, orders) == await came_of(invoke, orders)


async def test_what_cannot_be_written_is_an_error():
    """A header that would end its line is refused, and nothing is sent."""
    app = HttpApp()
    async with raw_server(app) as port, channel(port) as orders:
        for way in (deliver, invoke):
            kind, words, _ = await came_of(way, orders, headers=[(b"x", b"y\r\nz: 1")])
            assert (kind, words) == (ChannelError, "the call cannot be sent over HTTP: invalid header value")
    assert app.seen == []


@pytest.mark.parametrize("limit", [0.05, None])
async def test_an_app_that_hangs(limit, monkeypatch):
    """No answer in time is a time-out, by a timer of its own or by the common one for far ones."""
    if limit is None:
        monkeypatch.setattr("dapr_shared.wire.http.deadlines.FAR", 0.01)
        monkeypatch.setattr("dapr_shared.wire.http.deadlines.LOOK", 0.02)
    hold = asyncio.Event()
    app = HttpApp()
    async with raw_server(app) as port, channel(port) as orders:
        assert (await deliver(orders))[0] == 200
        app.hold = hold
        kind, words, heard = await came_of(deliver, orders, limit=limit or 0.1)
        assert (kind, heard) == (AppTimeoutError, 0)
        assert words == f"no answer from 127.0.0.1:{port} within {limit or 0.1:g} s"


async def test_the_apps_concurrency_holds():
    """No more deliveries at a time than the app takes, streamed answers included; a cancelled one frees its place."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port, max_concurrency=2) as orders:
        calls = [asyncio.create_task(deliver(orders)) for _ in range(6)]
        await until(lambda: app.busy == 2 and orders.waiting == 4)
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        app.hold.set()
        assert {status for status, _ in await asyncio.gather(*calls[1:])} == {200}
        app.chunks = [b"a" * 70_000]
        _, body = await deliver(orders)
        assert orders.concurrency == 1
        await body.aclose()
        assert orders.concurrency == 0
