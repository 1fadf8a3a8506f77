"""Our HTTP/2, frame by frame: windows, settings, limits, and peers that break the rules or only keep us busy."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from contextlib import asynccontextmanager

import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient
from dapr_shared.wire.grpc.http2_server import Http2Engine
from dapr_shared.wire.grpc.interface import Kind, Method, ServerOptions
from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.frames import ErrorCode, frame
from dapr_shared.wire.http2.hpack import HeaderDecoder, encode
from tests.support.grpc_calls import ALL_KINDS, CHAT, COUNT, ECHO, collect, fail, refuse_unknown, stream_of, until

HEAD = b"".join(
    encode(name, value)
    for name, value in ((":method", "POST"), (":path", ECHO), (":scheme", "http"), ("content-type", "application/grpc"))
)
MESSAGE = b"\0\0\0\0\1x"


class Peer:
    """The other side of a connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = HeaderDecoder()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload."""
        head = await asyncio.wait_for(self.reader.readexactly(9), 5)
        size = int.from_bytes(head[:3], "big")
        stream = int.from_bytes(head[5:], "big")
        return head[3], head[4], stream, await self.reader.readexactly(size)

    async def expect(self, kind: int, stream: int | None = None) -> tuple[int, int, int, bytes]:
        """The next frame of this kind."""
        while True:
            found = await self.frame()
            if found[0] == kind and stream in (None, found[2]):
                return found

    async def headers(self, stream: int) -> dict[str, str]:
        _, _, _, payload = await self.expect(frames.HEADERS, stream)
        return dict(self.decoder.decode(payload, 100_000).headers)

    async def goodbye(self) -> ErrorCode | None:
        """The code with which the connection ends; `None`: it was reset while we were still sending."""
        code = None
        with contextlib.suppress(ConnectionResetError):
            _, _, _, payload = await self.expect(frames.GOAWAY)
            code = ErrorCode(int.from_bytes(payload[4:8], "big"))
            assert await asyncio.wait_for(self.reader.read(), 5) == b""
        return code


@asynccontextmanager
async def served(*methods: Method, defects: list | None = None, **options: object):
    """A server, and a peer that has said hello."""
    defects = [] if defects is None else defects
    engine = Http2Engine(lambda method, error: defects.append((method, error)))
    server = await engine.serve(
        "127.0.0.1:0",
        methods or ALL_KINDS,
        refuse_unknown,
        options=ServerOptions(**options),  # type: ignore[arg-type]
    )
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = Peer(reader, writer)
    peer.send(frames.PREFACE, frames.settings({}))
    try:
        yield server, peer
    finally:
        writer.close()
        await server.stop(0)
        assert not defects


def opened(stream: int, *, end: bool = False, head: bytes = HEAD) -> bytes:
    return frames.headers(stream, head, 16_384, end_stream=end)


def said(stream: int, data: bytes = MESSAGE, *, end: bool = True) -> bytes:
    return frame(frames.DATA, frames.END_STREAM if end else 0, stream, data)


async def test_an_answer_is_three_frames() -> None:
    """Headers, the message, and the status, which ends the stream."""
    async with served() as (_, peer):
        peer.send(opened(1), said(1))
        assert await peer.headers(1) == {":status": "200", "content-type": "application/grpc"}
        assert (await peer.frame())[::3] == (frames.DATA, MESSAGE)
        kind, flags, _, payload = await peer.frame()
        assert (kind, flags) == (frames.HEADERS, frames.END_STREAM | frames.END_HEADERS)
        assert peer.decoder.decode(payload, 100).headers == [("grpc-status", "0")]


async def test_octets_that_come_one_by_one() -> None:
    """However the stream of octets is cut, the frames are the same."""
    async with served() as (_, peer):
        for octet in opened(1) + said(1):
            peer.send(bytes((octet,)))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert (await peer.expect(frames.DATA, 1))[3] == MESSAGE


async def test_padding_priority_and_continuations() -> None:
    """Padded frames, headers with a priority, and a block in many parts mean what they mean without."""
    async with served() as (_, peer):
        first, rest = HEAD[:10], HEAD[10:]
        flags = frames.PADDED | frames.PRIORITIZED
        peer.send(frame(frames.HEADERS, flags, 1, b"\x03" + bytes(5) + first + b"pad"))
        for octet in rest[:-1]:
            peer.send(frame(frames.CONTINUATION, 0, 1, bytes((octet,))))
        peer.send(frame(frames.CONTINUATION, frames.END_HEADERS, 1, rest[-1:]))
        peer.send(frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\x04" + MESSAGE + b"padd"))
        assert (await peer.expect(frames.DATA, 1))[3] == MESSAGE


async def test_a_client_with_a_small_window() -> None:
    """An answer waits for the windows of the stream and of the connection, and comes whole."""
    large = bytes(range(256)) * 400  # 102,400 octets: more than the connection's window too
    async with served() as (_, peer):
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
        data = b"\0" + struct.pack(">I", len(large)) + large
        peer.send(opened(1), *(said(1, data[at : at + 10_000], end=False) for at in range(0, len(data), 10_000)))
        peer.send(said(1, b""))
        assert (await peer.expect(frames.DATA, 1))[3] == data[:10]
        got = data[:10]
        peer.send(frames.window_update(1, 200_000))
        while len(got) < 65_535:
            got += (await peer.expect(frames.DATA, 1))[3]
        assert len(got) == 65_535
        peer.send(frames.window_update(0, 200_000))
        while len(got) < len(data):
            got += (await peer.expect(frames.DATA, 1))[3]
        assert got == data
        assert await peer.headers(1) == {"grpc-status": "0"}


async def test_a_window_that_shrinks_and_grows() -> None:
    """A new initial window changes the windows of streams that are there, below zero too."""
    async with served() as (_, peer):
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 4}), opened(1), said(1, b"\0\0\0\0\x08abcdefgh"))
        assert (await peer.expect(frames.DATA, 1))[3] == b"\0\0\0\0"
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), frames.window_update(1, 4))
        peer.send(frame(frames.PING, 0, 0, b"12345678"))
        assert (await peer.expect(frames.PING))[3] == b"12345678"
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
        assert (await peer.frame())[:2] == (frames.SETTINGS, frames.ACK)  # before what it allows
        assert (await peer.frame())[::3] == (frames.DATA, b"\x08ab")
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))
        assert (await peer.expect(frames.DATA, 1))[3] == b"cdefgh"


async def test_a_stream_that_is_not_read_is_held_back() -> None:
    """A stream whose handler does not read takes no more than its window; a client that goes beyond it is cut off."""
    go = asyncio.Event()

    async def handler(call, messages):
        await go.wait()
        async for message in messages:
            yield message[:1]

    async with served(Method(CHAT, Kind.BIDI, handler)) as (server, peer):
        head = HEAD.replace(ECHO.encode(), CHAT.encode()).replace(
            bytes((len(ECHO),)) + b"/", bytes((len(CHAT),)) + b"/"
        )
        peer.send(opened(1, head=head))
        message = b"\0" + struct.pack(">I", 16_000) + bytes(16_000)
        for _ in range(16):
            peer.send(said(1, message, end=False))
        stream = None

        def taken() -> bool:
            nonlocal stream
            stream = next((each for one in server.connections for each in one.streams.values()), None)
            return stream is not None and stream.receive_window < 10_000

        await until(taken)
        go.set()
        seen: list[tuple[int, int, int, bytes]] = []
        while len([each for each in seen if each[0] == frames.DATA]) < 16:
            seen.append(await peer.frame())
        assert any(kind == frames.WINDOW_UPDATE and number == 1 for kind, _, number, _ in seen)
        go.clear()
        peer.send(opened(3, head=head), *(said(3, message, end=False) for _ in range(17)))
        assert await peer.goodbye() in (ErrorCode.FLOW_CONTROL_ERROR, None)


BREACHES = {
    "a frame too large": ((16_385).to_bytes(3, "big") + bytes(6), ErrorCode.FRAME_SIZE_ERROR),
    "a window update of 3 octets": (frame(frames.WINDOW_UPDATE, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "a connection's window of nothing": (frames.window_update(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
    "a connection's window too large": (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "settings on a stream": (frame(frames.SETTINGS, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "an initial window too large": (frames.settings({4: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame size too small": (frames.settings({5: 100}), ErrorCode.PROTOCOL_ERROR),
    "a push": (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a reset of nothing": (frames.rst_stream(9, 8), ErrorCode.PROTOCOL_ERROR),
    "a ping of 7 octets": (frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "more padding than payload": (frame(frames.DATA, frames.PADDED, 1, b"\xff"), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(frames.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
    "a frame within a block": (frame(frames.HEADERS, 0, 3, HEAD) + said(1), ErrorCode.PROTOCOL_ERROR),
    "headers that cannot be decoded": (frame(frames.HEADERS, 4, 3, b"\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a stream with an even number": (opened(2), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("data", "code"), BREACHES.values(), ids=BREACHES.keys())
async def test_breaches_end_the_connection(data, code) -> None:
    """A peer that breaks the protocol is told so with the right code, and its connection ends; the server goes on."""
    async with served() as (server, peer):
        peer.send(opened(1), data)
        assert await peer.goodbye() is code
        client = GrpcClient(server.address)
        assert (await client.unary(ECHO, b"x")).data == b"x"
        await client.aclose()


FLOODS = {
    "continuations": frame(frames.HEADERS, 0, 1, HEAD) + frame(frames.CONTINUATION, 0, 1) * 1000,
    "settings": frames.settings({}) * 11_000,
    "priorities": frame(frames.PRIORITY, 0, 1, bytes(5)) * 11_000,
    "unknown frames": frame(0xEE, 0, 0, b"x") * 11_000,
    "empty data": opened(1) + frame(frames.DATA, 0, 1) * 11_000,
    "resets": b"".join(opened(n) + frames.rst_stream(n, 8) for n in range(1, 24_000, 2)),
    "requests that are no gRPC": b"".join(
        opened(n, head=encode(":method", "GET"), end=True) for n in range(1, 24_000, 2)
    ),
    "forbidden headers": b"".join(opened(n, head=encode("X", "")) for n in range(1, 24_000, 2)),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_floods_end(flood) -> None:
    """A peer that only keeps us busy is told to calm down and loses its connection."""
    async with served() as (_, peer):
        peer.send(flood)
        assert await peer.goodbye() in (ErrorCode.ENHANCE_YOUR_CALM, None)


async def test_a_client_that_pings_too_often() -> None:
    """The third ping too soon without a call between is answered with a goodbye; pings between answers are not counted."""
    ping = frame(frames.PING, 0, 0, bytes(8))
    async with served(minimum_ping_interval=60.0) as (_, peer):
        for number in range(1, 21, 2):
            peer.send(opened(number), said(number), ping)
            assert (await peer.headers(number))[":status"] == "200"
            assert await peer.headers(number) == {"grpc-status": "0"}
        peer.send(ping * 4)
        assert await peer.goodbye() is ErrorCode.ENHANCE_YOUR_CALM


async def test_calls_that_were_reset_count_until_their_handlers_have_ended() -> None:
    """Resetting calls at once does not give a client more handlers than it may have (CVE-2023-44487)."""
    running, most = 0, 0
    go = asyncio.Event()

    async def handler(call, data):
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            raise
        finally:
            running -= 1
        return data

    async with served(Method(ECHO, Kind.UNARY, handler), max_concurrent_calls=4) as (_, peer):
        for number in range(1, 9, 2):
            peer.send(opened(number), said(number))
        await until(lambda: running == 4)
        for number in range(1, 9, 2):
            peer.send(frames.rst_stream(number, 8))
        for number in range(9, 41, 2):
            peer.send(opened(number), said(number), frames.rst_stream(number, 8))
        peer.send(opened(41), said(41))
        assert int.from_bytes((await peer.expect(frames.RST_STREAM, 41))[3], "big") == ErrorCode.REFUSED_STREAM
        await until(lambda: not running)
        assert most == 4


async def test_a_request_that_is_no_grpc() -> None:
    """A request of another media type is answered 415, as gRPC wants it."""
    async with served() as (_, peer):
        peer.send(opened(1, head=encode(":method", "GET") + encode(":path", "/"), end=True))
        assert await peer.headers(1) == {":status": "415"}


async def test_metadata_beyond_the_limit() -> None:
    """Metadata above the limit are answered RESOURCE_EXHAUSTED, and the connection goes on."""
    async with served(max_metadata_bytes=5000) as (_, peer):
        peer.send(opened(1, head=HEAD + encode("x", "v" * 6000), end=True))
        assert (await peer.headers(1))["grpc-status"] == "8"
        peer.send(opened(3), said(3))
        assert (await peer.expect(frames.DATA, 3))[3] == MESSAGE


async def test_an_idle_connection_and_one_that_is_silent_from_the_start() -> None:
    """Without a call a connection is closed after its time, and sooner when the client never said hello."""
    async with served(idle_timeout=0.2) as (_, peer):
        assert await peer.goodbye() is ErrorCode.NO_ERROR
    async with served(handshake_timeout=0.1) as (server, _):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        silent = Peer(reader, writer)
        assert await silent.goodbye() is ErrorCode.SETTINGS_TIMEOUT
        writer.close()


async def test_a_client_that_is_gone_without_a_word() -> None:
    """A connection with a call on it whose client does not answer pings is closed, and the call is cancelled."""
    cancelled = asyncio.Event()

    async def handler(call, data):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    row = Method(ECHO, Kind.UNARY, handler)
    async with served(row, keepalive_interval=0.05, keepalive_timeout=0.05) as (_, peer):
        peer.send(opened(1), said(1))
        await peer.expect(frames.PING)
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_stopping_says_which_calls_were_seen() -> None:
    """A server that stops names the last call that it took up, and finishes it."""
    started, go = asyncio.Event(), asyncio.Event()

    async def handler(call, data):
        started.set()
        await go.wait()
        return data

    async with served(Method(ECHO, Kind.UNARY, handler)) as (server, peer):
        peer.send(opened(5), said(5))
        await started.wait()
        stopping = asyncio.create_task(server.stop(5))
        assert int.from_bytes((await peer.expect(frames.GOAWAY))[3][:4], "big") == 5
        peer.send(opened(7), said(7))
        go.set()
        assert (await peer.expect(frames.DATA))[2] == 5
        await stopping
        assert b"\0\0\0\7" not in await asyncio.wait_for(peer.reader.read(), 5)


# The client ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def scripted(script, **options: object):
    """A client of a server that follows the script."""
    peers: list[asyncio.Task] = []

    async def run(reader, writer):
        await reader.readexactly(len(frames.PREFACE))
        peer = Peer(reader, writer)
        peer.send(frames.settings({}))
        peers.append(asyncio.current_task())
        await script(peer, len(peers))
        writer.close()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as server:
        client = GrpcClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", ClientOptions(**options))  # type: ignore[arg-type]
        yield client
        await client.aclose()
        await asyncio.wait_for(asyncio.gather(*peers, return_exceptions=True), 5)


ANSWER = encode(":status", "200") + encode("content-type", "application/grpc")
STATUS = encode("grpc-status", "0")


def answered(stream: int) -> bytes:
    return opened(stream, head=ANSWER) + said(stream, end=False) + opened(stream, head=STATUS, end=True)


async def test_a_call_that_the_server_has_not_seen_is_made_again() -> None:
    """After REFUSED_STREAM, and after a goodbye that does not know the call, it is made again, and only then."""

    async def refuse(peer: Peer, number: int) -> None:
        if number == 1:
            await peer.expect(frames.DATA, 1)
            peer.send(frames.rst_stream(1, ErrorCode.REFUSED_STREAM))
            await peer.expect(frames.DATA, 3)
            peer.send(frames.goaway(1, ErrorCode.NO_ERROR))
        else:
            await peer.expect(frames.DATA, 1)
            peer.send(answered(1))
            await peer.reader.read()

    async with scripted(refuse) as client:
        assert (await client.unary(ECHO, b"x", timeout=5)).data == b"x"


async def test_a_call_that_the_server_may_have_seen_is_not_made_again() -> None:
    """A connection that breaks with the call on it is an error: whether it took effect nobody knows."""
    calls = []

    async def take(peer: Peer, number: int) -> None:
        await peer.expect(frames.DATA, 1)
        calls.append(number)

    async with scripted(take) as client:
        error = await fail(client.unary(ECHO, b"x", timeout=5))
        assert (error.code, error.unreachable) == (GrpcCode.UNAVAILABLE, True)
        assert calls == [1]


async def test_a_server_that_takes_few_calls_at_a_time() -> None:
    """Calls beyond the server's limit wait, and one that is given up while it waits leaves the place to the next."""

    async def one_at_a_time(peer: Peer, number: int) -> None:
        peer.send(frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}))
        await peer.expect(frames.SETTINGS)
        for stream in (1, 3, 5):
            while (found := await peer.expect(frames.DATA))[2] != stream:
                raise AssertionError(f"stream {found[2]} too soon")
            peer.send(answered(stream))
        await peer.reader.read()

    async with scripted(one_at_a_time) as client:
        assert (await client.unary(ECHO, b"x", timeout=5)).data == b"x"
        calls = [asyncio.create_task(client.unary(ECHO, b"x", timeout=5)) for _ in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(each, BaseException) for each in done] == [False, True, False]


ODD_ANSWERS = {
    "an HTTP error": (opened(1, head=encode(":status", "404"), end=True), GrpcCode.UNIMPLEMENTED),
    "an HTTP error with a body": (opened(1, head=encode(":status", "503")) + said(1, b"<html>"), GrpcCode.UNAVAILABLE),
    "no status": (opened(1, head=ANSWER) + said(1), GrpcCode.UNKNOWN),
    "trailers without a status": (
        opened(1, head=ANSWER) + opened(1, head=encode("x", "y"), end=True),
        GrpcCode.UNKNOWN,
    ),
    "no message": (opened(1, head=ANSWER) + opened(1, head=STATUS, end=True), GrpcCode.INTERNAL),
    "two messages": (
        opened(1, head=ANSWER) + said(1, MESSAGE * 2, end=False) + opened(1, head=STATUS, end=True),
        GrpcCode.INTERNAL,
    ),
    "half a message": (
        opened(1, head=ANSWER) + said(1, MESSAGE[:-1], end=False) + opened(1, head=STATUS, end=True),
        GrpcCode.INTERNAL,
    ),
    "a message before the headers": (said(1), GrpcCode.INTERNAL),
    "headers twice": (opened(1, head=ANSWER) * 2, GrpcCode.INTERNAL),
    "a message too large": (
        opened(1, head=ANSWER) + said(1, b"\0\x7f\xff\xff\xff", end=False),
        GrpcCode.RESOURCE_EXHAUSTED,
    ),
    "binary metadata that are none": (
        opened(1, head=ANSWER) + said(1, end=False) + opened(1, head=STATUS + encode("x-bin", "*"), end=True),
        GrpcCode.INTERNAL,
    ),
    "a reset": (frames.rst_stream(1, ErrorCode.ENHANCE_YOUR_CALM), GrpcCode.RESOURCE_EXHAUSTED),
    "a status of its own": (opened(1, head=ANSWER + encode("grpc-status", "77"), end=True), GrpcCode.UNKNOWN),
}


@pytest.mark.parametrize(("answer", "code"), ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
async def test_odd_answers(answer, code) -> None:
    """An answer that is no gRPC is an error with the code that gRPC has for it."""

    async def odd(peer: Peer, number: int) -> None:
        await peer.expect(frames.DATA, 1)
        peer.send(answer)
        await peer.reader.read()

    async with scripted(odd) as client:
        assert (await fail(client.unary(ECHO, b"x", timeout=5))).code is code


async def test_informational_headers_are_passed_over() -> None:
    """A 1xx answer before the real one is none."""

    async def hint(peer: Peer, number: int) -> None:
        await peer.expect(frames.DATA, 1)
        peer.send(opened(1, head=encode(":status", "103")), answered(1))
        await peer.reader.read()

    async with scripted(hint) as client:
        assert (await client.unary(ECHO, b"x", timeout=5)).data == b"x"


async def test_a_slow_reader_of_answers_holds_the_server_back() -> None:
    """A client that does not read a stream takes no more than its window."""
    sent = 0

    async def pour(peer: Peer, number: int) -> None:
        nonlocal sent
        await peer.expect(frames.DATA, 1)
        peer.send(opened(1, head=ANSWER))
        message = b"\0" + struct.pack(">I", 16_000) + bytes(16_000)
        for _ in range(16):
            peer.send(said(1, message, end=False))
            sent += 1
        peer.send(frame(frames.PING, 0, 0, bytes(8)))
        while True:
            kind, _, stream, _ = await peer.frame()
            assert (kind, stream) != (frames.WINDOW_UPDATE, 1)
            if kind == frames.PING:
                break
        assert await peer.expect(frames.WINDOW_UPDATE, 1)
        peer.send(opened(1, head=STATUS, end=True))
        await peer.reader.read()

    async with scripted(pour) as client:
        call = client.stream(COUNT, stream_of([b"1"]))
        await until(lambda: sent == 16)
        assert len(await collect(call.messages())) == 16


async def test_a_server_that_does_not_answer_pings() -> None:
    """With pings a client notices that its server is gone without a word, and the call fails."""

    async def silent(peer: Peer, number: int) -> None:
        await peer.expect(frames.PING)
        await peer.reader.read()

    async with scripted(silent, keepalive_interval=0.05, keepalive_timeout=0.05) as client:
        error = await fail(client.unary(ECHO, b"x", timeout=5))
        assert (error.code, error.unreachable) == (GrpcCode.UNAVAILABLE, True)
        assert "keepalive" in error.message
