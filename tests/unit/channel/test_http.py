"""The channel to HTTP and HTTPS apps, against real servers on loopback."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import uvloop

from dapr_shared.channel.base import ChannelConfigurationError, ChannelProperties, HealthProperties
from dapr_shared.channel.http import HttpAppChannel
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
)
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import ChannelTls
from dapr_shared.wire.http.messages import BodyError, BodyTooLargeError
from tests.support.app_servers import HttpApp, raw_server, until
from tests.support.ports import free_port

REF = AppRef("orders")


@asynccontextmanager
async def channel(port: int, *, protocol="http", max_concurrency=0, health=None, **options):
    properties = ChannelProperties(protocol, "127.0.0.1", port, max_concurrency, health)
    async with AsyncExitStack() as stack:
        made = HttpAppChannel(REF, properties, **options)
        await made.start(stack)
        yield made
    assert made.concurrency == 0


class Upload:
    """A body on its way from a caller."""

    def __init__(self, *chunks: bytes, length: int | None = None, error: Exception | None = None) -> None:
        self.content_length = length
        self.chunks = list(chunks)
        self.error = error
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        if self.chunks:
            return self.chunks.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def aclose(self) -> None:
        self.closed = True


async def test_a_call_reaches_the_app_as_it_was_made(call):
    """Verb, path, query, headers, content type and body arrive; status, headers and body come back."""
    app = HttpApp(status=418, headers=[("X-A", "1"), ("x-a", "2"), ("content-type", "text/tea")], body=b"short")
    async with raw_server(app) as port, channel(port, base_path="/base/") as orders:
        request = call("a b/c", "PUT", b"x=%20", [(b"x-h", b"v")], b"body", b"application/json")
        answer = await orders.invoke(request)
    (seen,) = app.seen
    assert (seen.method, seen.target, seen.body) == ("PUT", "/base/a%20b/c?x=%20", b"body")
    assert seen.header("content-type") == ["application/json"]
    assert seen.header("x-h") == ["v"]
    assert seen.header("host") == [f"127.0.0.1:{port}"]
    assert (answer.status, answer.body, answer.content_type) == (418, b"short", b"text/tea")
    assert answer.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert answer.grpc_status is None


async def test_an_absent_content_type_stays_absent(call):
    """Nothing is invented where the caller gave no content type."""
    app = HttpApp()
    async with raw_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call(body=b"x"))
    assert app.seen[0].header("content-type") == []
    assert answer.content_type is None


async def test_the_token_is_the_apps_own_and_never_the_callers(call):
    """The app gets its configured token; a caller's value never reaches it, configured or not."""
    app = HttpApp()
    forged = [(b"dapr-api-token", b"forged")]
    async with raw_server(app) as port:
        async with channel(port, api_token="secret") as orders:
            await orders.invoke(call(headers=forged))
        async with channel(port) as orders:
            await orders.invoke(call(headers=forged))
    assert [seen.header("dapr-api-token") for seen in app.seen] == [["secret"], []]


async def test_large_and_chunked_bodies_are_streamed_both_ways(call):
    """A body that is not whole goes through piece by piece, chunked or with its length."""
    app = HttpApp(chunks=[b"x" * 70000, b"y"])
    async with raw_server(app) as port, channel(port) as orders:
        for length in (None, 6):
            upload = Upload(b"abc", b"def", length=length)
            answer = await orders.invoke(call(body=upload))
            assert not isinstance(answer.body, bytes)
            assert orders.concurrency == 1
            assert await answer.body.read(100_000) == b"x" * 70000 + b"y"
            assert orders.concurrency == 0
            assert upload.closed or not upload.chunks
    assert [seen.body for seen in app.seen] == [b"abcdef"] * 2
    assert app.seen[0].header("transfer-encoding") == ["chunked"]
    assert app.seen[1].header("content-length") == ["6"]


@pytest.mark.parametrize("error", [BodyError("the caller broke off"), BodyTooLargeError("too long")])
async def test_a_body_that_the_caller_breaks_off_is_the_callers_error(call, error):
    """The body's own error comes out, not one that blames the app."""
    app = HttpApp()
    async with raw_server(app) as port, channel(port) as orders:
        with pytest.raises(type(error), match=str(error)):
            await orders.invoke(call(body=Upload(b"a", error=error)))
    assert app.seen == []


async def test_a_refused_connection_says_so_and_is_reported(call):
    """Nobody listens: AppUnreachableError in the words of a dial, and the watcher hears of it."""
    port = free_port()
    async with channel(port) as orders:
        heard: list[None] = []
        orders.on_unreachable = lambda: heard.append(None)
        with pytest.raises(AppUnreachableError, match=rf"^dial tcp 127.0.0.1:{port}: connection refused$"):
            await orders.invoke(call())
        assert heard == [None]
        assert not await orders.reachable()


async def test_a_name_that_does_not_resolve_is_unreachable(call):
    """An unknown host name is a failed dial too."""
    async with AsyncExitStack() as stack:
        orders = HttpAppChannel(REF, ChannelProperties("http", "no-such-host.invalid", 80))
        await orders.start(stack)
        with pytest.raises(AppUnreachableError, match=r"dial tcp no-such-host\.invalid:80: "):
            await orders.invoke(call())
        assert not await orders.reachable()


async def test_an_app_that_hangs_is_a_timeout(call):
    """No answer in time: AppTimeoutError with the limit, the slot is free again."""
    async with raw_server(HttpApp(hold=asyncio.Event())) as port, channel(port) as orders:
        with pytest.raises(AppTimeoutError, match=rf"no answer from 127.0.0.1:{port} within 0.05 s"):
            await orders.invoke(call(), timeout=0.05)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"\x00\x01garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    ],
    ids=["nothing", "half a head", "garbage", "half a body"],
)
async def test_an_app_that_breaks_off_or_talks_nonsense_is_a_channel_error(call, answer):
    """What reached the app and came to nothing is no 'unreachable': it may have been carried out."""

    async def misbehave(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with raw_server(misbehave) as port, channel(port) as orders:
        with pytest.raises(ChannelError) as caught:
            await orders.invoke(call())
    assert type(caught.value) is ChannelError


async def test_an_app_that_closes_midway_fails_the_reader(call):
    """A streamed answer that ends too early is an error for who reads it, and frees the slot."""

    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()

    async with raw_server(half) as port, channel(port) as orders:
        answer = await orders.invoke(call())
        with pytest.raises(BodyError):
            await answer.body.read(1000)
        assert orders.concurrency == 0


async def test_an_app_that_restarts_on_its_port_is_called_again(call):
    """Connections to the old process are forgotten; the next call reaches the new one."""
    port = free_port()
    async with channel(port) as orders:
        for status in (200, 201):
            async with raw_server(HttpApp(status=status), port=port):
                assert (await orders.invoke(call(verb="GET"))).status == status
            with pytest.raises(ChannelError):
                await orders.invoke(call(verb="GET"))


async def test_no_more_calls_at_a_time_than_the_app_takes(call):
    """The limit holds, streamed answers included; the rest waits and is served."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port, max_concurrency=3) as orders:
        calls = [asyncio.create_task(orders.invoke(call())) for _ in range(10)]
        await until(lambda: app.busy == 3 and orders.waiting == 7)
        app.hold.set()
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
        assert app.busiest == 3

        app.chunks = [b"a", b"b"]
        streamed = [await orders.invoke(call()) for _ in range(3)]
        waiting = asyncio.create_task(orders.invoke(call()))
        await until(lambda: orders.waiting == 1)
        await streamed[0].body.aclose()
        last = await waiting
        for answer in [*streamed[1:], last]:
            assert await answer.body.read(10) == b"ab"


async def test_waiting_for_a_slot_ends_in_time_and_is_bounded(call):
    """The timeout covers the wait; past the bound of waiters the answer is ChannelBusyError at once."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port, max_concurrency=1, waiting=1) as orders:
        first = asyncio.create_task(orders.invoke(call()))
        await until(lambda: app.busy == 1)
        second = asyncio.create_task(orders.invoke(call(), timeout=0.1))
        await until(lambda: orders.waiting == 1)
        with pytest.raises(ChannelBusyError):
            await orders.invoke(call())
        with pytest.raises(AppTimeoutError, match=r"no free slot within 0.1 s: the app takes 1 calls at a time"):
            await second
        app.hold.set()
        await first


async def test_a_cancelled_call_frees_its_slot(call):
    """Cancelling while the app works gives the slot back."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port, max_concurrency=1) as orders:
        first = asyncio.create_task(orders.invoke(call()))
        await until(lambda: app.busy == 1)
        first.cancel()
        await asyncio.wait((first,))
        app.hold.set()
        assert (await orders.invoke(call())).status == 200


async def test_a_slot_is_held_for_a_proxied_call(call):
    """`slot()` counts against maxConcurrency like any call."""
    async with raw_server(HttpApp()) as port, channel(port, max_concurrency=1) as orders:
        async with orders.slot():
            assert orders.concurrency == 1
            with pytest.raises(AppTimeoutError):
                await orders.invoke(call(), timeout=0.02)
            with pytest.raises(AppTimeoutError):
                async with orders.slot(timeout=0.02):
                    pass
        assert (await orders.invoke(call())).status == 200


async def test_an_unhealthy_app_is_not_called(call):
    """With health checks on, calls are refused in Dapr's words until the app is healthy."""
    app = HttpApp()
    async with raw_server(app) as port, channel(port, health=HealthProperties()) as orders:
        with pytest.raises(AppNotHealthyError, match=r"^app is not in a healthy state$"):
            await orders.invoke(call())
        with pytest.raises(AppNotHealthyError):
            async with orders.slot():
                pass
        assert app.connections == 0
        orders.healthy = True
        assert (await orders.invoke(call())).status == 200


@pytest.mark.parametrize(
    ("status", "healthy"), [(200, True), (204, True), (299, True), (302, False), (404, False), (500, False)]
)
async def test_a_health_probe_asks_the_path_without_the_token(status, healthy):
    """2xx is healthy; the probe carries no token of the app."""
    app = HttpApp(status=status)
    health = HealthProperties("/healthz/déjà?x=1")
    async with raw_server(app) as port, channel(port, health=health, api_token="secret") as orders:
        assert await orders.check_health() is healthy
        assert (await orders.probe_health()).status == str(status)
    assert (app.seen[0].method, app.seen[0].target) == ("GET", "/healthz/d%C3%A9j%C3%A0?x=1")
    assert app.seen[0].header("dapr-api-token") == []


async def test_a_health_probe_of_a_silent_app_ends_in_time():
    """A probe that gets no answer is unhealthy after its timeout, and one that is refused at once."""
    health = HealthProperties(timeout=0.05)
    async with raw_server(HttpApp(hold=asyncio.Event())) as port, channel(port, health=health) as orders:
        answer = await orders.probe_health()
        assert (answer.healthy, answer.status) == (False, "")
        assert await orders.reachable()
    async with channel(port, health=health) as orders:
        assert not await orders.check_health()


async def test_closing_lets_calls_in_flight_finish(call):
    """Closing waits for what runs, still takes what comes meanwhile, and refuses afterwards."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port) as orders:
        running = asyncio.create_task(orders.invoke(call()))
        await until(lambda: app.busy == 1)
        closing = asyncio.create_task(orders.aclose(5))
        late = asyncio.create_task(orders.invoke(call()))
        await until(lambda: app.busy == 2)
        assert not closing.done()
        app.hold.set()
        assert [answer.status for answer in await asyncio.gather(running, late)] == [200, 200]
        await closing
        with pytest.raises(AppUnreachableError, match=r"the channel to app orders\.default is closed"):
            await orders.invoke(call())
        await orders.aclose()


async def test_closing_ends_what_outlasts_its_grace(call):
    """After the grace, calls in flight fail; none hangs."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, channel(port) as orders:
        running = asyncio.create_task(orders.invoke(call()))
        await until(lambda: app.busy == 1)
        await orders.aclose(0.05)
        with pytest.raises(ChannelError):
            await running


def server_context(certificates, *, client_ca=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_https_without_settings_takes_any_certificate(call, certificates):
    """As daprd does: an app's own certificate is not verified when nothing is said about TLS."""
    async with (
        raw_server(HttpApp(), ssl=server_context(certificates)) as port,
        channel(port, protocol="https") as orders,
    ):
        assert (await orders.invoke(call())).status == 200


async def test_https_with_settings_verifies(call, certificates):
    """With a caFile the certificate and the server name must match."""
    ca = str(certificates.ca)
    async with raw_server(HttpApp(), ssl=server_context(certificates)) as port:
        good = ChannelTls(ca_file=ca, server_name="app.test")
        async with channel(port, protocol="https", tls=good) as orders:
            assert (await orders.invoke(call())).status == 200
        for bad in (ChannelTls(ca_file=ca, server_name="other.test"), ChannelTls(server_name="app.test"), ChannelTls()):
            async with channel(port, protocol="https", tls=bad) as orders:
                with pytest.raises(AppUnreachableError, match=r"(?i)certificate verify failed"):
                    await orders.invoke(call())


async def test_https_shows_its_client_certificate(call, certificates):
    """An app that wants a client certificate gets the configured one."""
    context = server_context(certificates, client_ca=certificates.ca)
    tls = ChannelTls(
        ca_file=str(certificates.ca),
        server_name="app.test",
        cert_file=str(certificates.client_cert),
        key_file=str(certificates.client_key),
    )
    async with raw_server(HttpApp(), ssl=context) as port, channel(port, protocol="https", tls=tls) as orders:
        assert (await orders.invoke(call())).status == 200


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (ChannelTls(ca_file="/nowhere/ca.pem"), r"channel.tls.caFile: cannot use /nowhere/ca.pem"),
        (
            ChannelTls(cert_file="/nowhere/c.pem", key_file="/nowhere/k.pem"),
            r"certFile, keyFile: cannot use /nowhere/c",
        ),
    ],
)
async def test_unusable_tls_files_are_named_at_the_start(tls, message):
    """A channel whose certificate files cannot be read does not start."""
    with pytest.raises(ChannelConfigurationError, match=message):
        async with channel(1, protocol="https", tls=tls):
            pass


async def test_an_address_that_is_no_host_name_is_named_at_the_start():
    """An address that can never be looked up is a configuration error."""
    orders = HttpAppChannel(REF, ChannelProperties("http", "x" * 300, 1))
    async with AsyncExitStack() as stack:
        with pytest.raises(ChannelConfigurationError, match=r"channel.address"):
            await orders.start(stack)


def test_calls_work_on_the_production_loop(call):
    """The same on uvloop: whole and streamed answers, a slot limit, a health probe, a refused connection."""

    async def use() -> None:
        app = HttpApp()
        async with raw_server(app) as port, channel(port, max_concurrency=2, health=HealthProperties()) as orders:
            orders.healthy = await orders.check_health()
            answers = await asyncio.gather(*(orders.invoke(call(), timeout=5) for _ in range(10)))
            assert [answer.body for answer in answers] == [b"ok"] * 10
            app.chunks = [b"x" * 100_000]
            assert len(await (await orders.invoke(call())).body.read(100_000)) == 100_000
        async with channel(free_port()) as orders:
            with pytest.raises(AppUnreachableError, match="connection refused"):
                await orders.invoke(call())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())
