"""One HTTP/2 connection, either side (RFC 9113): frames in and out, windows, settings, pings, the end.

First step of the request road and last step of both. Streams hang on it by their number; what a stream means is
`wire/grpc`'s. A peer that breaks the protocol, or keeps us busy with frames that lead to nothing, loses the connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.frames import DEFAULT_WINDOW, FRAME_BYTES, ConnectionBroken, ErrorCode
from dapr_shared.wire.http2.hpack import CompressionError, HeaderBlock, HeaderDecoder

if TYPE_CHECKING:
    from dapr_shared.wire.http2.stream import Stream

CONNECTION_WINDOW: Final = 1024 * 1024
"""Octets that the peer may have on the way in all; given back at once, as the streams' own windows hold it back."""
LINGER: Final = 0.5
"""Seconds that a peer has to close a connection after our goodbye."""
_LARGEST_SETTING_FRAME: Final = 2**24 - 1
_NOISE: Final = 10_000
_NOISE_SECONDS: Final = 10.0
"""Frames that lead to nothing (resets, settings, empty data, priorities) which a peer may send between two calls and in
so many seconds."""
_FLUSH_BYTES: Final = 64 * 1024
"""Octets that are collected in one turn of the loop at most."""
AT_ONCE: Final = 32
"""Messages of one stream that are sent before the others have their turn."""
_CACHED_BLOCKS: Final = 64
_CACHED_BLOCK_BYTES: Final = 2048
_SETTING_BYTES: Final = 6
_MORE: Final = 256
"""CONTINUATION frames of one block beyond those that its size needs."""


class Connection(asyncio.Protocol):
    """What both sides share. Subclasses open streams (`open_stream`) and say what ends mean."""

    initial_window: int = 256 * 1024
    """Octets that the peer may send on a stream before some are taken."""

    def __init__(self, *, max_header_bytes: int) -> None:
        """`max_header_bytes`: of one block, decoded, as HTTP/2 counts them."""
        self.loop = asyncio.get_running_loop()
        self.transport = cast("asyncio.Transport", None)
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        """Streams with something that waits for a window."""
        self.send_window = DEFAULT_WINDOW
        self.peer_initial_window = DEFAULT_WINDOW
        self.peer_frame_bytes = FRAME_BYTES
        self.peer_max_streams: int | None = None
        self.last_stream = 0
        """Newest stream that the peer has opened."""
        self.last_taken = 0
        """Newest of them that was not passed over after our goodbye."""
        self.lost = False
        self.paused = False
        """The transport's buffer is full."""
        self.received_at = self.loop.time()
        self.settings_seen = False
        self._max_header_bytes = max_header_bytes
        self._decoder = HeaderDecoder()
        self._cache: dict[bytes, HeaderBlock] = {}
        self._cache_changes = 0
        self._rest = b""
        self._to_skip = 0
        """Octets of the preface that are still to come."""
        self._block: bytearray | None = None
        """Headers whose CONTINUATION frames are still to come."""
        self._block_stream = 0
        self._block_flags = 0
        self._block_parts = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._reading = False
        self._returned = 0
        """Octets of data to give back to the connection's window."""
        self._noise = 0
        self._noise_since = self.received_at
        self._resumed: asyncio.Future[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._ping_answered: asyncio.Future[None] | None = None

    # For subclasses

    def open_stream(self, number: int, block: HeaderBlock, *, end: bool) -> None:
        """A block of headers for a stream that is not there."""
        raise NotImplementedError

    def goaway_received(self, last: int, code: ErrorCode, text: str) -> None:
        """The peer takes no new streams, and has not seen ours behind `last`."""
        raise NotImplementedError

    def peer_settings_changed(self) -> None:
        """The peer's settings have come, for the first time or again."""

    def ping_received(self) -> None:
        """The peer pings; the answer is on its way."""

    def connection_ended(self, problem: str) -> None:
        """The connection takes and gives nothing any more; the streams have been told."""

    def closed(self) -> None:
        """The socket is closed."""

    def forgotten(self, stream: Stream) -> None:
        """A stream's slot is free."""

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.end(None, str(exc) if exc else "the peer closed the connection")
        if self._lingering is not None:
            self._lingering.cancel()
        self.closed()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.paused = False
        if self._resumed is not None:
            if not self._resumed.done():
                self._resumed.set_result(None)
            self._resumed = None

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.lost:
            return  # read all the same: closing with octets unread would reset the connection over our last answer
        self.received_at = self.loop.time()
        self._reading = True
        try:
            self._take(self._rest + data if self._rest else data)
        except ConnectionBroken as broken:
            self.fail(broken.code, broken.problem)
        except CompressionError as broken:
            self.fail(ErrorCode.COMPRESSION_ERROR, str(broken))
        finally:
            self._reading = False
            if self._returned:
                self._out.append(frames.window_update(0, self._returned))
                self._returned = 0
            self.flush()

    # Writing

    def write(self, data: bytes) -> None:
        """Send bytes with what else is sent in this turn of the loop."""
        if not self._out and not self._reading:
            self.loop.call_soon(self.flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _FLUSH_BYTES:  # so that the transport can say when it is full
            self.flush()

    def flush(self) -> None:
        """Hand what was written to the transport."""
        out = self._out
        if out:
            self._out = []
            self._out_bytes = 0
            if not self.lost:
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    async def resumed(self) -> None:
        """Wait while the transport's buffer is full."""
        while self.paused and not self.lost:
            if self._resumed is None:
                self._resumed = self.loop.create_future()
            await asyncio.shield(self._resumed)

    def forget(self, stream: Stream) -> None:
        """A stream has ended on both sides."""
        if self.streams.pop(stream.id, None) is not None:
            stream.drop_waiting()
            self.forgotten(stream)

    def calm(self) -> None:
        """A call went its way: the peer is no flood."""
        self._noise, self._noise_since = 0, self.received_at

    def fail(self, code: ErrorCode, problem: str) -> None:
        """End the connection because of the peer."""
        if not self.lost:
            self._out.append(frames.goaway(self.last_taken, code, problem.encode()))
            self.flush()
            self.end(code, problem)

    def end(self, code: ErrorCode | None, problem: str) -> None:
        """Close; what is on its way is still sent."""
        if self.lost:
            return
        self.flush()
        self.transport.close()
        self._gone(problem if code is None else f"{code.name}: {problem}")

    def _gone(self, problem: str) -> None:
        self.lost = True
        streams = list(self.streams.values())
        self.streams.clear()
        self.blocked.clear()
        for stream in streams:
            stream.drop_waiting()
            stream.ended(None, problem)
            self.forgotten(stream)
        self.resume_writing()
        for waiting in (self._resumed, self._ping_answered):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        self.connection_ended(problem)

    def leave(self, problem: str) -> None:
        """Close when the peer has seen our last frames, or after `LINGER` seconds. There are no streams any more."""
        if self.lost:
            return
        self.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._lingering = self.loop.call_later(LINGER, self.transport.close)
        self._gone(problem)

    async def ping(self, timeout: float) -> None:  # noqa: ASYNC109 - the peer's, not the caller's
        """Ask whether the peer is there; ends the connection when it does not answer within `timeout` seconds."""
        if self._ping_answered is None:
            self._ping_answered = self.loop.create_future()
            self.write(frames.frame(frames.PING, 0, 0, b"dapr-shr"))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ping_answered)
        except TimeoutError:
            self.end(None, "keepalive watchdog timeout")
            self.transport.abort()
        finally:
            self._ping_answered = None

    # Reading

    def _take(self, data: bytes) -> None:
        position, length = 0, len(data)
        if self._to_skip:
            position = min(self._to_skip, length)
            sent = len(frames.PREFACE) - self._to_skip
            if data[:position] != frames.PREFACE[sent : sent + position]:
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface: this port speaks gRPC")
            self._to_skip -= position
        while length - position >= frames.HEAD_BYTES:
            head = int.from_bytes(data[position : position + 9], "big")
            size = head >> 48
            if size > FRAME_BYTES:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            end = position + 9 + size
            if end > length:
                break
            kind, flags, number = head >> 40 & 0xFF, head >> 32 & 0xFF, head & 0x7FFFFFFF
            payload = data[position + 9 : end]
            position = end
            if self._block is not None and (kind != frames.CONTINUATION or number != self._block_stream):
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a frame between the parts of a block of headers")
            if kind == frames.DATA:
                self._data(flags, number, payload)
            elif kind == frames.HEADERS:
                self._headers(flags, number, payload)
            else:
                self._other(kind, flags, number, payload)
            if self.lost:
                return
        self._rest = data[position:]

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._returned += size
        stream = self.streams.get(number)
        if flags & frames.PADDED:
            payload = _without_padding(payload)
        if stream is None or stream.remote_closed:
            if number == 0 or not self.was_open(number):
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"data for stream {number}, which was never opened")
            self.noise()
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, f"more data than stream {number} may have")
        padding = size - len(payload)
        if padding:
            stream.taken(padding)
        end = bool(flags & frames.END_STREAM)
        if not payload and not end:
            self.noise()
        if end:
            stream.remote_closed = True
        stream.data_received(payload, end=end)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "headers without a stream")
        if flags & frames.PADDED:
            payload = _without_padding(payload)
        if flags & frames.PRIORITIZED:
            if len(payload) < 5:  # a stream and a weight
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "headers too short for their priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._block_done(number, payload, end=bool(flags & frames.END_STREAM))
        else:
            self._block, self._block_stream, self._block_flags = bytearray(payload), number, flags
            self._block_parts = 0

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        self._block += payload
        self._block_parts += 1
        needed = len(self._block) // FRAME_BYTES
        if len(self._block) > 2 * self._max_header_bytes or self._block_parts > needed + _MORE:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "a block of headers without end")
        if flags & frames.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._block_done(self._block_stream, block, end=bool(self._block_flags & frames.END_STREAM))

    def _block_done(self, number: int, data: bytes, *, end: bool) -> None:
        block = self._decoded(data)
        stream = self.streams.get(number)
        if stream is None:
            self.open_stream(number, block, end=end)
        elif stream.remote_closed:
            self.noise()
        elif block.malformed or block.too_large:
            stream.ended(ErrorCode.PROTOCOL_ERROR, "trailers that HTTP/2 forbids, or too many")
            stream.reset(ErrorCode.PROTOCOL_ERROR)
        else:
            if end:
                stream.remote_closed = True
            stream.headers_received(block.headers, end=end)

    def _decoded(self, data: bytes) -> HeaderBlock:
        """Decode, once for equal blocks: calls of one client differ in little, mostly in nothing (6 of 25 µs a call)."""
        decoder = self._decoder
        found = self._cache.get(data)
        if found is not None:
            return found
        block = decoder.decode(data, self._max_header_bytes)
        if decoder.changes != self._cache_changes:
            self._cache_changes = decoder.changes
            if self._cache:
                self._cache.clear()
        elif len(data) <= _CACHED_BLOCK_BYTES:
            if len(self._cache) >= _CACHED_BLOCKS:
                self._cache.clear()
            self._cache[data] = block
        return block

    def _other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, number, payload)
        elif kind == frames.PING:
            self._ping(flags, number, payload)
        elif kind == frames.RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        elif kind == frames.GOAWAY:
            if number or len(payload) < 8:  # a stream and a code
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a GOAWAY that is none")
            last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
            self.goaway_received(last, _code(payload[4:8]), payload[8:].decode("utf-8", "replace"))
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a push, which nobody asked for")
        else:
            self.noise()

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:  # one number
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a window update that is none")
        octets = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if number == 0:
            self.send_window += octets
            if not octets or self.send_window > frames.LARGEST_WINDOW:
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "a window of nothing, or one too large")
            for stream in list(self.blocked.values()):
                if self.send_window <= 0:
                    break
                stream.pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            if not self.was_open(number):
                raise ConnectionBroken(
                    ErrorCode.PROTOCOL_ERROR, f"a window for stream {number}, which was never opened"
                )
            self.noise()
            return
        stream.send_window += octets
        if not octets or stream.send_window > frames.LARGEST_WINDOW:
            stream.ended(ErrorCode.FLOW_CONTROL_ERROR, "a window of nothing, or one too large")
            stream.reset(ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.is_sending:
            stream.pump()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % _SETTING_BYTES or (flags & frames.ACK and payload):
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "settings that are none")
        if flags & frames.ACK:
            return
        self.noise()
        for start in range(0, len(payload), _SETTING_BYTES):
            self._setting(
                int.from_bytes(payload[start : start + 2], "big"), int.from_bytes(payload[start + 2 : start + 6], "big")
            )
        # Before any octet that the new windows allow: for the peer they are in force behind this frame.
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for stream in list(self.blocked.values()):
            stream.pump()
        self.settings_seen = True
        self.peer_settings_changed()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "an initial window too large")
            change = value - self.peer_initial_window
            self.peer_initial_window = value
            for stream in list(self.streams.values()):
                stream.send_window += change
                if stream.send_window > frames.LARGEST_WINDOW:
                    raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "a window too large")
        elif key == frames.MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value <= _LARGEST_SETTING_FRAME:
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"a largest frame of {value} bytes")
            self.peer_frame_bytes = value
        elif key == frames.MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a setting that is none")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:  # as RFC 9113 §6.7 has it
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a ping that is none")
        if flags & frames.ACK:
            if self._ping_answered is not None and not self._ping_answered.done():
                self._ping_answered.set_result(None)
            return
        self.noise()
        self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        self.ping_received()

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if number == 0 or len(payload) != 4:  # one number
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a reset that is none")
        self.noise()
        stream = self.streams.get(number)
        if stream is None:
            if not self.was_open(number):
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"a reset of stream {number}, which was never opened")
            return
        stream.local_closed = stream.remote_closed = True
        code = _code(payload)
        self.forget(stream)
        stream.ended(code, f"the peer reset the stream: {code.name}")

    def was_open(self, number: int) -> bool:
        """Whether a stream of this number has been there."""
        return number <= self.last_stream

    def noise(self) -> None:
        """A frame that leads to nothing."""
        self._noise += 1
        if self._noise > _NOISE:
            if self.received_at - self._noise_since > _NOISE_SECONDS:
                self._noise, self._noise_since = 0, self.received_at
                return
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that lead to nothing")


def _without_padding(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "more padding than there is payload")
    return payload[1 : len(payload) - payload[0]]


def _code(data: bytes) -> ErrorCode:
    try:
        return ErrorCode(int.from_bytes(data, "big"))
    except ValueError:
        return ErrorCode.INTERNAL_ERROR  # RFC 9113 §7: an unknown code is treated so
