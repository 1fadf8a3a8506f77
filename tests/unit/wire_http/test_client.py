"""The client: what it sends, its pool, retries, time limits, cancellation, and streams both ways."""
# ruff: noqa: SIM117 - what runs inside what is clearer nested

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from dapr_shared.wire.http import deadlines
from dapr_shared.wire.http.client import (
    ClientLimits,
    ConnectError,
    ConnectionLostError,
    HttpClient,
    HttpClientError,
    PoolFullError,
    RequestBodyError,
    RequestTimeoutError,
)
from dapr_shared.wire.http.messages import BodyError, Response
from tests.support.http_peers import Origin, origin, read_request, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MEGABYTE = 1024 * 1024


async def pieces(*parts, closed=None, error=None):
    try:
        for part in parts:
            yield part
        if error is not None:
            raise error
    finally:
        if closed is not None:
            closed.append(True)


# What is sent --------------------------------------------------------------------------------------------------------


async def test_the_request_on_the_wire(client_of):
    """Host first, then the headers as given, then the framing; framing headers that were given are dropped."""
    headers = [
        (b"x-a", b"1"), (b"X-A", b"2"), (b"content-length", b"99"), (b"Transfer-Encoding", b"chunked"), (b"connection", b"close"),
        (b"te", b"x"), (b"expect", b"100-continue"), (b"upgrade", b"h2c"),
    ]  # fmt: skip
    async with origin(OK) as app, client_of(app) as client:
        answer = await client.request("POST", b"/a%20b?c", headers, b"hi")
        assert (answer.status, answer.body, answer.header(b"content-length")) == (200, b"ok", b"2")
        assert answer.header(b"x") is None
    assert app.heads == [
        b"POST /a%%20b?c HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-a: 1\r\nX-A: 2\r\ncontent-length: 2\r\n\r\n" % app.port
    ]
    assert app.requests[0][1] == b"hi"


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("GET", b"", b""),
        ("DELETE", b"", b""),
        ("HEAD", b"", b""),
        ("POST", b"", b"content-length: 0\r\n"),
        ("PUT", b"", b"content-length: 0\r\n"),
        ("PATCH", b"", b"content-length: 0\r\n"),
        ("GET", b"x", b"content-length: 1\r\n"),
        ("REPORT", b"x", b"content-length: 1\r\n"),
    ],
)
async def test_the_length_is_sent_where_a_body_is_expected(method, body, line, client_of):
    """A request without a body has no length, unless its method is known for bodies."""
    async with origin(b"HTTP/1.1 204 No Content\r\n\r\n") as app, client_of(app) as client:
        await client.request(method, b"/", [(b"host", b"b")], body)
    assert app.heads == [method.encode() + b" / HTTP/1.1\r\nhost: b\r\n" + line + b"\r\n"]


@pytest.mark.parametrize(
    ("client", "host"),
    [
        (HttpClient("http", "a", 80), b"host: a\r\n"),
        (HttpClient("http", "a", 8080), b"host: a:8080\r\n"),
        (HttpClient("http", "::1", 8080), b"host: [::1]:8080\r\n"),
        (HttpClient("http", "bücher.example", 80), b"host: xn--bcher-kva.example\r\n"),
    ],
)
def test_the_host_header(client, host):
    """The host header names the origin, without the scheme's own port."""
    assert client._host_line == host


INJECTIONS = [
    ("GET ", b"/", []),
    ("", b"/", []),
    ("GET\r\n", b"/", []),
    ("GËT", b"/", []),
    ("GET", b"", []),
    ("GET", b"/ HTTP/1.1\r\nx: y", []),
    ("GET", b"/a b", []),
    ("GET", b"/\n", []),
    ("GET", b"/\0", []),
    ("GET", b"/\xff", []),
    ("GET", b"/", [(b"x", b"a\r\ny: b")]),
    ("GET", b"/", [(b"x", b"a\nb")]),
    ("GET", b"/", [(b"x", b"a\rb")]),
    ("GET", b"/", [(b"x", b"a\0b")]),
    ("GET", b"/", [(b"x\r\ny", b"a")]),
    ("GET", b"/", [(b"x y", b"a")]),
    ("GET", b"/", [(b"", b"a")]),
    ("GET", b"/", [(b"host", b"a\r\nx: y")]),
    ("GET", b"/", [("x", "y")]),
    ("GET", b"/", [(b"x", "y")]),
]


@pytest.mark.parametrize(("method", "target", "headers"), INJECTIONS)
async def test_what_would_forge_a_request_is_refused(method, target, headers, client_of):
    """Methods, targets and headers that would end their line raise ValueError; nothing is sent, the body is closed."""
    closed = []
    body = pieces(b"x", closed=closed)
    await body.asend(None)
    async with origin(OK) as app, client_of(app) as client:
        with pytest.raises(ValueError):  # noqa: PT011 - the class is the promise
            await client.request(method, target, headers, body)
    assert app.connections == 0
    assert closed


async def test_unix_sockets(tmp_path):
    """With `unix_path` the requests go to that socket."""
    path = str(tmp_path / "app.socket")
    async with origin(OK, unix=path):
        client = HttpClient("http", "localhost", 80, unix_path=path)
        assert (await client.request("GET", b"/", [])).body == b"ok"
        await client.aclose()


def test_a_scheme_that_is_none_is_refused():
    """The scheme is http, or https with a context."""
    for scheme in ("ftp", "https"):
        with pytest.raises(ValueError, match="scheme"):
            HttpClient(scheme, "a", 80)


# The pool ------------------------------------------------------------------------------------------------------------


async def test_connections_are_reused_last_in_first_out(client_of):
    """The connection that was used last is used first."""
    async with origin(OK) as app, client_of(app) as client:
        await asyncio.gather(*(client.request("GET", b"/", []) for _ in range(5)))
        assert (app.connections, client.idle_connections) == (5, 5)
        first = client._idle[-1]
        for _ in range(5):
            await client.request("GET", b"/", [])
            assert client._idle[-1] is first
        assert app.connections == 5


async def test_an_idle_connection_that_the_origin_closes_is_told(client_of):
    """Whoever asked is told of a kept connection that the origin closes, and of none that the client closes itself."""
    lost: list[bool] = []
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(origin(OK))
        async with client_of(app, limits=ClientLimits(idle_timeout=0.05)) as client:
            client.on_idle_lost = lambda: lost.append(True)
            await client.request("GET", b"/", [])
            await until(lambda: not client.connections)  # idle for too long
            assert not lost
            client.limits = ClientLimits()
            await client.request("GET", b"/", [])
            await stack.aclose()
            await until(lambda: lost == [True])


async def test_requests_wait_for_a_connection(client_of):
    """Beyond the limit of connections requests wait, in order, and all are answered."""
    async with origin(OK) as app, client_of(app, limits=ClientLimits(connections=2)) as client:
        answers = await asyncio.gather(*(client.request("GET", b"/%d" % number, []) for number in range(50)))
        assert [answer.body for answer in answers] == [b"ok"] * 50
        assert app.connections == 2


async def test_waiting_requests_get_the_place_of_a_closed_connection(client_of):
    """When connections do not survive their answer, waiting requests open their own."""
    raw = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with origin(raw) as app, client_of(app, limits=ClientLimits(connections=2)) as client:
        await asyncio.gather(*(client.request("GET", b"/", []) for _ in range(10)))
        assert app.connections == 10


async def test_too_many_waiting_requests_are_refused(client_of):
    """Waiting is bounded: one more is PoolFullError."""
    async with origin(b"") as app, client_of(app, limits=ClientLimits(connections=1, waiting=1)) as client:
        asking = [asyncio.create_task(client.request("GET", b"/", [])) for _ in range(2)]
        await until(lambda: app.connections)  # by then the second one waits
        with pytest.raises(PoolFullError):
            await client.request("GET", b"/", [])
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


async def test_a_cancelled_waiter_gives_its_place_on(client_of):
    """A request that stops waiting, also at the moment when its turn comes, blocks nobody."""
    async with origin(OK) as app, client_of(app, limits=ClientLimits(connections=1)) as client:
        for delay in range(12):
            asking = [asyncio.create_task(client.request("GET", b"/", [])) for _ in range(4)]
            for _ in range(delay):
                await asyncio.sleep(0)
            asking[1].cancel()
            asking[2].cancel()
            await asyncio.wait(asking, timeout=5)
            assert asking[3].result().body == b"ok"
        assert app.connections <= 13


async def test_failed_connects_give_their_place_on(client_of):
    """A request that cannot connect lets the next one try."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = Origin(port=unused.getsockname()[1])
        async with client_of(closed, limits=ClientLimits(connections=1)) as client:
            results = await asyncio.gather(*(client.request("GET", b"/", []) for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [ConnectError] * 5


async def test_surplus_idle_connections_are_closed(client_of):
    """Only `idle` connections are kept."""
    async with origin(OK) as app, client_of(app, limits=ClientLimits(idle=2)) as client:
        await asyncio.gather(*(client.request("GET", b"/", []) for _ in range(6)))
        assert client.idle_connections == 2
        await until(lambda: client.connections == 2)
        await until(lambda: app.open == 2)


async def test_idle_connections_are_closed_in_time(client_of):
    """A connection that nobody needs is closed after `idle_timeout`."""
    async with origin(OK) as app, client_of(app, limits=ClientLimits(idle_timeout=0.1)) as client:
        await client.request("GET", b"/", [])
        await until(lambda: not client.connections)
        await until(lambda: not app.open)


async def test_old_connections_are_not_used_again(client_of):
    """After `life` a connection is replaced, so that the name is resolved again."""
    async with origin(OK) as app, client_of(app, limits=ClientLimits(life=0.05)) as client:
        await client.request("GET", b"/", [])
        await asyncio.sleep(0.08)
        await client.request("GET", b"/", [])
        assert app.connections == 2


async def test_a_connection_that_dies_while_idle_leaves_the_pool(client_of):
    """An origin that closes a kept connection costs the next request nothing."""

    async def script(reader, writer):
        await read_request(reader, Origin())
        writer.write(OK)
        await writer.drain()

    async with origin(script) as app, client_of(app) as client:
        for number in range(1, 4):
            assert (await client.request("POST", b"/", [], b"x")).body == b"ok"
            await until(lambda: not client.idle_connections)
            assert app.connections == number


# Failures and retries ------------------------------------------------------------------------------------------------


async def test_no_connection(client_of):
    """Refused connections and unknown names are ConnectError: nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client_of(Origin(port=unused.getsockname()[1])) as client:
            with pytest.raises(ConnectError):
                await client.request("GET", b"/", [])
    client = HttpClient("http", "name.invalid", 80)
    with pytest.raises(ConnectError):
        await client.request("GET", b"/", [])
    await client.aclose()


async def test_a_connect_that_takes_too_long():
    """A connection that is not there in `connect_timeout` is ConnectError, and leaves nothing behind."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        blockers = [socket.socket() for _ in range(3)]
        for blocker in blockers:
            blocker.settimeout(0)
            blocker.connect_ex(("127.0.0.1", port))
        client = HttpClient("http", "127.0.0.1", port, limits=ClientLimits(connect_timeout=0.1))
        with pytest.raises(ConnectError):
            await client.request("GET", b"/", [])
        with pytest.raises(RequestTimeoutError) as raised:
            await client.request("GET", b"/", [], timeout=0.02)
        assert not raised.value.sent
        assert client.connections == 0
        await client.aclose()
        for blocker in blockers:
            blocker.close()


def dying_when_asked_again(seen, *, answer=b""):
    """Serve one request on each connection; at the second one send `answer` and close."""

    async def script(reader, writer):
        await read_request(reader, seen)
        writer.write(OK)
        await read_request(reader, seen)
        if answer or len(seen.requests) < 3:
            writer.write(answer)
            return
        writer.write(OK)
        await reader.read()

    return script


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_an_idempotent_request_on_a_dead_connection_is_sent_again(method, client_of):
    """A kept connection that dies before any byte of the answer: sent again once, on a fresh connection."""
    seen = Origin()
    async with origin(dying_when_asked_again(seen)) as app, client_of(app) as client:
        await client.request("GET", b"/", [])
        assert (await client.request(method, b"/", [], timeout=5)).status == 200
        assert app.connections == 2


async def test_what_may_have_been_done_is_not_done_again(client_of):
    """POST, PATCH, a streamed body, or an answer that has begun: ConnectionLostError, nothing is sent twice."""
    cases = (
        ("POST", b"x", b""),
        ("PATCH", b"x", b""),
        ("PUT", pieces(b"x"), b""),
        ("GET", b"", b"HTTP/1.1 2"),
        ("GET", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    )
    for method, body, begun in cases:
        seen = Origin()
        async with origin(dying_when_asked_again(seen, answer=begun)) as app, client_of(app) as client:
            await client.request("GET", b"/", [])
            with pytest.raises(ConnectionLostError) as raised:
                await client.request(method, b"/", [], body)
            assert raised.value.sent
            assert app.connections == 1
            assert len(seen.requests) == 2


async def test_a_fresh_connection_that_dies_is_not_tried_again(client_of):
    """Only a kept connection excuses a second attempt."""
    async with origin(b"", close=True) as app, client_of(app) as client:
        with pytest.raises(ConnectionLostError):
            await client.request("GET", b"/", [])
        assert app.connections == 1


async def test_a_second_loss_is_final(client_of):
    """There is one second attempt, not a loop."""
    seen = Origin()

    async def script(reader, writer):
        await read_request(reader, seen)
        if len(seen.requests) == 1:
            writer.write(OK)
            await read_request(reader, seen)

    async with origin(script) as app, client_of(app) as client:
        await client.request("GET", b"/", [])
        with pytest.raises(ConnectionLostError):
            await client.request("GET", b"/", [])
        assert len(seen.requests) == 3
        assert app.connections == 2


# Time limits and cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
async def test_an_answer_that_does_not_come(raw, client_of):
    """Without an answer in time the request raises, and its connection is gone; the next one works as ever."""
    async with origin(raw) as app, client_of(app) as client:
        with pytest.raises(RequestTimeoutError) as raised:
            await client.request("GET", b"/", [], timeout=0.05)
        assert raised.value.sent
        await until(lambda: not app.open)


async def test_far_deadlines(client_of, monkeypatch):
    """A deadline that is far has no timer of its own and holds all the same; an answer in time is an answer."""
    monkeypatch.setattr(deadlines, "FAR", 0.01)
    monkeypatch.setattr(deadlines, "LOOK", 0.02)

    async def script(reader, writer):
        for number in range(2):
            await read_request(reader, Origin())
            if number == 0:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with origin(script) as app, client_of(app) as client:
        assert (await client.request("GET", b"/", [], timeout=0.1)).body == b"ok"
        with pytest.raises(RequestTimeoutError) as raised:
            await client.request("GET", b"/", [], timeout=0.1)
        assert raised.value.sent
        await until(lambda: client.connections == 0)
        await until(lambda: client._deadlines._timer is None)


async def test_a_stream_may_take_longer_than_the_timeout(client_of):
    """The timeout ends with the head of a streamed answer."""

    async def script(reader, writer):
        await read_request(reader, Origin())
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"2\r\nok\r\n0\r\n\r\n")
        await reader.read()

    async with origin(script) as app, client_of(app) as client:
        answer = await client.request("GET", b"/", [], timeout=0.05)
        assert await answer.body.read(10) == b"ok"
        assert client.idle_connections == 1


async def test_waiting_for_a_connection_counts(client_of):
    """A request that gets no connection in time raises, with nothing sent."""
    async with origin(b"") as app, client_of(app, limits=ClientLimits(connections=1)) as client:
        first = asyncio.create_task(client.request("GET", b"/", []))
        await until(lambda: app.connections)
        with pytest.raises(RequestTimeoutError) as raised:
            await client.request("GET", b"/", [], timeout=0.03)
        assert not raised.value.sent
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancellation_anywhere_leaves_nothing(streamed, client_of):
    """Cancelled after any number of turns of the loop, a request leaves no connection, task or open body."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    async with origin(raw) as app, client_of(app) as client:
        for turns in range(25):
            closed = []
            body = pieces(b"x" * 100, b"y", closed=closed)
            if streamed:
                await body.asend(None)
            asking = asyncio.create_task(client.request("POST", b"/", [], body if streamed else b"x"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            if not asking.cancelled():
                await asking.result().body.aclose()
            await body.aclose()
            assert not streamed or closed
            await until(lambda: client.connections == client.idle_connections)
            await until(lambda: app.open == client.connections)


async def test_a_late_cancellation_spares_the_next_request(client_of):
    """A request whose answer has come, and that is cancelled before it runs on, does not take down its successor."""
    async with origin(b"") as app, client_of(app, limits=ClientLimits(connections=1)) as client:
        first = asyncio.create_task(client.request("GET", b"/1", []))
        second = asyncio.create_task(client.request("GET", b"/2", []))
        await until(lambda: len(app.requests) == 1)
        connection = next(iter(client._open))
        connection.data_received(OK)  # the first one's answer: the connection now is the second one's
        first.cancel()
        await until(lambda: len(app.requests) == 2)
        connection.data_received(OK)
        assert (await asyncio.wait_for(second, 5)).body == b"ok"
        assert first.cancelled()
        assert app.connections == 1


async def test_a_late_time_limit_spares_the_next_request(client_of):
    """A time limit that strikes when the answer has just come does nothing."""
    async with origin(b"") as app, client_of(app) as client:
        asking = asyncio.create_task(client.request("GET", b"/", []))
        await until(lambda: app.requests)
        connection = next(iter(client._open))
        answer = connection._answer
        connection.data_received(OK)
        connection.give_up(answer, RequestTimeoutError("late", sent=True))
        assert (await asking).body == b"ok"
        assert connection.usable


async def test_an_answer_cancelled_as_it_comes_ends_its_connection(client_of):
    """A streamed answer that comes in the moment of the cancellation is closed, since nobody will read it."""
    async with origin(b"") as app, client_of(app) as client:
        asking = asyncio.create_task(client.request("GET", b"/", []))
        await until(lambda: app.requests)
        next(iter(client._open)).data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        asking.cancel()
        await until(lambda: not client.connections)
        assert asking.cancelled()


async def test_a_connection_that_dies_on_its_way_to_a_waiter_is_replaced(client_of):
    """A waiting request that is given a connection just before that dies gets another one."""
    seen = Origin()

    async def script(reader, writer):
        while True:
            await read_request(reader, seen)
            if len(seen.requests) > 1:
                writer.write(OK)

    async with origin(script) as app, client_of(app, limits=ClientLimits(connections=1)) as client:
        first = asyncio.create_task(client.request("GET", b"/1", []))
        second = asyncio.create_task(client.request("POST", b"/2", [], b"x"))
        await until(lambda: client._open)
        connection = next(iter(client._open))
        await until(lambda: seen.requests)
        connection.data_received(OK)
        connection.abort()
        assert (await asyncio.wait_for(second, 5)).body == b"ok"
        await asyncio.wait([first])


async def test_a_closed_client_refuses(client_of):
    """After `aclose` requests raise ConnectError, also those that wait; those in flight are broken off."""
    async with origin(b"") as app, client_of(app, limits=ClientLimits(connections=1)) as client:
        asking = [asyncio.create_task(client.request("GET", b"/", [])) for _ in range(2)]
        await until(lambda: app.requests)
        await client.aclose()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionLostError, ConnectError]
        with pytest.raises(ConnectError):
            await client.request("GET", b"/", [])


async def test_aclose_with_grace_lets_requests_finish(client_of):
    """With `grace` what is in flight ends by itself."""

    async def script(reader, writer):
        await read_request(reader, Origin())
        await asyncio.sleep(0.05)
        writer.write(OK)
        await reader.read()

    async with origin(script) as app, client_of(app) as client:
        asking = asyncio.create_task(client.request("GET", b"/", []))
        await until(lambda: app.connections)
        await client.aclose(grace=5)
        assert (await asking).body == b"ok"


# Streams -------------------------------------------------------------------------------------------------------------


class Sized:
    """A body stream of a known length."""

    def __init__(self, length, *parts, error=None):
        self.content_length = length
        self.closed = []
        self._parts = pieces(*parts, closed=self.closed, error=error)

    def __aiter__(self):
        return self._parts

    async def aclose(self):
        await self._parts.aclose()


async def test_streamed_bodies(client_of):
    """An iterator is sent in chunks, a body of known length with its length; both are closed."""
    async with origin(OK) as app, client_of(app) as client:
        closed = []
        await client.request("POST", b"/", [], pieces(b"ab", b"", b"cd", closed=closed))
        sized = Sized(4, b"ab", b"cd")
        await client.request("POST", b"/", [], sized)
        await client.request("POST", b"/", [], pieces())
        assert app.connections == 1
    assert [body for _, body in app.requests] == [b"abcd", b"abcd", b""]
    assert b"transfer-encoding: chunked\r\n" in app.heads[0]
    assert b"content-length: 4\r\n" in app.heads[1]
    assert closed
    assert sized.closed


@pytest.mark.parametrize(
    "body",
    [
        lambda: Sized(4, b"abc"),
        lambda: Sized(4, b"abcde"),
        lambda: Sized(4, b"ab", error=RuntimeError("broken")),
        lambda: pieces(b"ab", error=BodyError("cut off")),
        lambda: pieces("text"),
    ],
)
async def test_a_failing_body_breaks_the_request_off(body, client_of):
    """A body that fails or has another length than announced raises RequestBodyError; the origin never sees an end."""
    async with origin(OK) as app, client_of(app) as client:
        with pytest.raises(RequestBodyError) as raised:
            await client.request("POST", b"/", [], body())
        assert isinstance(raised.value.cause, Exception)
        assert isinstance(raised.value, HttpClientError)
        await until(lambda: app.lost == 1)
    assert app.requests == []


async def test_an_early_answer_is_heard(client_of):
    """An origin that refuses before it has the body is heard; sending stops, the body is closed, nothing is pooled."""

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    closed = []

    async def endless():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            closed.append(True)

    async with origin(script) as app, client_of(app) as client:
        answer = await client.request("POST", b"/", [], endless(), timeout=5)
        assert (answer.status, answer.body) == (413, b"no")
        assert closed
        assert client.idle_connections == 0
        await until(lambda: not client.connections)


async def test_an_early_answer_to_a_large_body_is_not_pooled(client_of):
    """The same for a body of bytes that the origin has not read."""

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(5)

    async with origin(script) as app, client_of(app) as client:
        answer = await client.request("POST", b"/", [], b"x" * 30 * MEGABYTE, timeout=5)
        assert answer.body == b"ok"
        assert client.idle_connections == 0


async def test_an_origin_may_answer_while_it_reads(client_of):
    """A streamed answer that begins early does not stop the request: an echo works piece by piece."""

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            writer.write(b"%x\r\n" % size + await reader.readexactly(size + 2))
        writer.write(b"0\r\n\r\n")
        await reader.read()

    queue = asyncio.Queue()

    async def body():
        while (piece := await queue.get()) is not None:
            yield piece

    async with origin(script) as app, client_of(app) as client:
        answer = await client.request("POST", b"/", [], body())
        for piece in (b"one", b"two"):
            await queue.put(piece)
            assert await anext(aiter(answer.body)) == piece
        await queue.put(None)
        assert await answer.body.read(10) == b""
        assert client.idle_connections == 0  # answered before it was sent


async def test_a_body_until_the_end_of_the_connection(client_of):
    """An answer without a length ends with its connection, which is not pooled."""
    async with origin(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True) as app, client_of(app) as client:
        answer = await client.request("GET", b"/", [])
        assert answer.body.content_length is None
        assert await answer.body.read(100) == b"all of it"
        await until(lambda: not client.connections)


async def test_a_slow_reader_holds_the_origin_back(client_of):
    """While nobody reads, a bounded part of a large answer is held; then all of it arrives, and the connection is kept."""
    size = 30 * MEGABYTE
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with origin(raw) as app, client_of(app) as client:
        answer = await client.request("GET", b"/", [])
        connection = next(iter(client._open))
        await until(lambda: connection._reading_paused)
        held = answer.body.held
        await asyncio.sleep(0.05)
        assert answer.body.held == held < MEGABYTE
        assert len(await answer.body.read(size)) == size
        assert client.idle_connections == 1


async def test_a_slow_origin_holds_the_body_back(client_of):
    """While the origin does not read, only about a write buffer is taken from the request's body."""
    release = asyncio.Event()
    seen = Origin()

    async def script(reader, writer):
        await release.wait()
        await read_request(reader, seen)
        writer.write(OK)
        await reader.read()

    given = 0

    async def body():
        nonlocal given
        for _ in range(2000):
            given += 1
            yield b"x" * 10_000

    async with origin(script) as app, client_of(app) as client:
        asking = asyncio.create_task(client.request("POST", b"/", [], body()))
        await until(lambda: client._open)
        connection = next(iter(client._open))
        await until(lambda: connection._write_paused)
        before = given
        await asyncio.sleep(0.05)
        assert given == before < 2000
        release.set()
        assert (await asking).body == b"ok"
    assert len(seen.requests[0][1]) == 20_000_000


async def test_an_abandoned_answer_ends_its_connection(client_of):
    """`aclose` on an answer's body drops the connection; reading on raises."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"
    async with origin(raw) as app, client_of(app) as client:
        answer = await client.request("GET", b"/", [])
        await answer.body.aclose()
        with pytest.raises(BodyError):
            await answer.body.read(10)
        await until(lambda: not client.connections)
        await until(lambda: not app.open)


async def test_the_pool_does_not_depend_on_the_reader(client_of):
    """An answer that has come in full frees its connection, also if nobody has read it yet; closing it is harmless."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000
    async with origin(raw) as app, client_of(app) as client:
        first = await client.request("GET", b"/", [])
        await until(lambda: client.idle_connections)
        second = await client.request("GET", b"/", [])
        assert len(await first.body.read(10**6)) == 70_000
        await first.body.aclose()
        assert len(await second.body.read(10**6)) == 70_000
        assert app.connections == 1


# With our own server -------------------------------------------------------------------------------------------------


async def test_a_proxy_passes_everything_on(running, client_of):
    """Server, client and server again: small and large bodies of known and unknown length survive both ways."""

    async def echo(request):
        return Response(200, [(b"x-target", request.target)], request.body)

    async with running(echo) as app:
        async with client_of(Origin(port=int(app.address.rpartition(":")[2]))) as inner:

            async def forward(request):
                answer = await inner.request(request.method, request.target, request.headers, request.body)
                return Response(answer.status, answer.headers, answer.body)

            async with running(forward) as proxy:
                async with client_of(Origin(port=int(proxy.address.rpartition(":")[2]))) as outer:
                    for size in (0, 1, 65536, 65537, 3 * MEGABYTE):
                        whole = await outer.request("POST", b"/a?b", [], b"x" * size)
                        body = whole.body if isinstance(whole.body, bytes) else await whole.body.read(size)
                        assert body == b"x" * size
                        assert whole.header(b"x-target") == b"/a?b"
                        parts = [b"y" * (size // 3)] * 3
                        chunked = await outer.request("POST", b"/", [], pieces(*parts))
                        assert await chunked.body.read(size) == b"".join(parts)
                    assert (await outer.request("HEAD", b"/", [])).body == b""
