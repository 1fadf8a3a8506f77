"""Streamed answers and bodies: flushing, back-pressure, and what becomes of iterators."""
# ruff: noqa: SIM117 - what runs inside what is clearer nested

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.wire.http.body import HIGH_WATER, LOW_WATER, IncomingBody
from dapr_shared.wire.http.framing import ChunkedDecoder
from dapr_shared.wire.http.messages import Response
from tests.support.http_peers import connected, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE = 1024 * 1024


class Pieces:
    """An iterator that notes how it was used."""

    def __init__(self, *pieces, error=None, endless=None):
        self.left = list(pieces)
        self.error = error
        self.endless = endless
        self.given = 0
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.left:
            self.given += 1
            return self.left.pop(0)
        if self.endless:
            self.given += 1
            return self.endless
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self):
        self.closed += 1


def answering(*responses):
    left = list(responses)

    async def handler(_):
        return left.pop(0)

    return handler


async def test_chunks_are_flushed_one_by_one(running):
    """Head and pieces of an event stream reach the peer as they come, not when there are more of them."""
    events = asyncio.Queue()

    async def stream():
        while (event := await events.get()) is not None:
            yield event

    async with running(answering(Response(200, [(b"content-type", b"text/event-stream")], stream()))) as server:
        async with connected(server.address) as peer:
            peer.send(GET)
            assert b"transfer-encoding: chunked" in await peer.reader.readuntil(b"\r\n\r\n")
            for event in (b"data: 1\n\n", b"data: two\n\n"):
                await events.put(event)
                assert await peer.reader.readuntil(b"\n\n\r\n") == b"%x\r\n" % len(event) + event + b"\r\n"
            await events.put(None)
            assert await peer.reader.readexactly(5) == b"0\r\n\r\n"


async def test_empty_pieces_do_not_end_the_body(running):
    """An empty piece is nothing; as a chunk it would be the end."""
    async with running(answering(Response(200, [], Pieces(b"a", b"", b"b")))) as server:
        async with connected(server.address) as peer:
            answer = await peer.ask(GET)
    assert answer.chunks == [b"a", b"b"]


async def test_a_stream_with_a_length_is_not_chunked(running):
    """A handler that knows the length of its stream has it announced, and the connection is kept."""
    responses = Response(200, [(b"content-length", b"4")], Pieces(b"ab", b"cd")), Response(200, [], b"next")
    async with running(answering(*responses)) as server, connected(server.address) as peer:
        answer = await peer.ask(GET)
        assert answer.headers["content-length"] == "4"
        assert answer.body == b"abcd"
        assert (await peer.ask(GET)).body == b"next"


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abc", b"de")])
async def test_a_stream_of_another_length_is_broken_off(pieces, running):
    """A stream shorter or longer than announced is a defect; the connection ends, so that nobody takes it for whole."""
    body = Pieces(*pieces)
    async with running(answering(Response(200, [(b"content-length", b"4")], body)), defects=1) as server:
        async with connected(server.address) as peer:
            peer.send(GET + GET)
            raw = await peer.rest()
    assert raw.partition(b"\r\n\r\n")[2] in (b"abc", b"")
    assert body.closed


async def test_a_failing_stream_is_broken_off(running):
    """A stream that fails has no last chunk: the peer sees that it broke off."""
    body = Pieces(b"abc", error=RuntimeError())
    async with running(answering(Response(200, [], body)), defects=1) as server, connected(server.address) as peer:
        peer.send(GET)
        raw = await peer.rest()
    assert b"\r\n0\r\n" not in raw
    assert body.closed == 1


async def test_iterators_are_closed_in_every_case(running):
    """Read to the end, for HEAD, for 204, or with an impossible head: the iterator is closed."""
    bodies = [Pieces(b"a") for _ in range(4)]
    responses = (
        Response(200, [], bodies[0]),
        Response(204, [], bodies[1]),
        Response(200, [], bodies[2]),
        Response(200, [(b"x", b"\n")], bodies[3]),
    )
    async with running(answering(*responses), defects=1) as server, connected(server.address) as peer:
        await peer.ask(GET)
        await peer.ask(GET)
        await peer.ask(GET.replace(b"GET", b"HEAD"), head=True)
        await peer.ask(GET)
    assert [body.closed for body in bodies] == [1, 1, 1, 1]


async def test_a_disconnect_closes_the_iterator(running):
    """A peer that goes midway ends the iteration."""
    body = Pieces(endless=b"x" * 1000)
    async with running(answering(Response(200, [], body))) as server, connected(server.address) as peer:
        peer.send(GET)
        await peer.reader.read(100)
        peer.abort()
        await until(lambda: body.closed)


async def test_a_slow_reader_holds_the_handler_back(running):
    """While the peer does not read, only about a write buffer is taken from the iterator."""
    body = Pieces(endless=b"x" * 10_000)
    async with running(answering(Response(200, [], body))) as server:
        async with connected(server.address, receive_buffer=4096) as peer:
            peer.send(GET)
            await until(lambda: server.connections)
            connection = next(iter(server._state.connections))
            await until(lambda: connection._write_paused)
            given = body.given
            await asyncio.sleep(0.1)
            assert body.given == given
            assert connection._transport.get_write_buffer_size() < 256 * 1024


async def test_a_slow_handler_holds_the_peer_back(running):
    """While the handler does not read, a bounded part of a large upload is held, and all of it arrives in the end."""
    size = 20 * MEGABYTE
    read = asyncio.Event()
    held = []

    async def handler(request):
        await read.wait()
        total = 0
        async for piece in request.body:
            total += len(piece)
            held.append(request.body.held)
            if total % 7 == 0:
                await asyncio.sleep(0)
        return Response(200, [], b"%d" % total)

    from dapr_shared.wire.http.server import ServerLimits

    async with running(handler, limits=ServerLimits(body_bytes=0)) as server, connected(server.address) as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(b"x" * size)
        await until(lambda: server.connections)
        connection = next(iter(server._state.connections))
        await until(lambda: connection._reading_paused)
        held.append(connection._body.held)
        await asyncio.sleep(0.05)
        assert connection._body.held == held[0]
        read.set()
        assert (await peer.answer()).body == b"%d" % size
    assert max(held) < HIGH_WATER + 2 * 256 * 1024
    assert LOW_WATER < HIGH_WATER


async def test_tiny_chunks_cost_what_they_cost():
    """A flood of one-byte chunks, each in a packet of its own, is held back early: bookkeeping counts."""
    full = []

    class Source:
        def body_full(self):
            full.append(body.held)

        def body_drained(self):
            full.append("drained")

    body = IncomingBody(Source(), None, ChunkedDecoder(100), 0)
    for _ in range(10_000):
        body.feed(b"1\r\nx\r\n")
    body.feed(b"0\r\n")
    assert len(full) == 1
    assert HIGH_WATER < full[0] < HIGH_WATER + 100
    assert body.held > 10_000 * 64
    pieces = [await anext(body) for _ in range(10_000)]
    assert pieces == [b"x"] * 10_000
    assert full[1:] == ["drained"]


async def test_an_echo_streams_both_ways(running):
    """A handler may answer with the body that it is still receiving."""

    async def handler(request):
        return Response(200, [], request.body)

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.reader.readuntil(b"\r\n\r\n")
        for piece in (b"one", b"two"):
            peer.send(b"3\r\n" + piece + b"\r\n")
            assert await peer.reader.readuntil(piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
        peer.send(b"0\r\n\r\n" + GET.replace(b"GET", b"OPTIONS"))
        assert await peer.reader.readexactly(5) == b"0\r\n\r\n"
        assert (await peer.answer()).status == 200
