"""One connection of our gRPC client, and the calls on it.

Last step of both roads, below `client.py`, which connects, connects again, and turns a call's end into an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.http2_messages import (
    ENCODINGS,
    MessageReader,
    code_of,
    code_of_reset,
    decoded_message,
    decoded_metadata,
    encoded_metadata,
    format_timeout,
)
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.connection import CONNECTION_WINDOW, Connection
from dapr_shared.wire.http2.frames import DEFAULT_WINDOW, ConnectionBroken, ErrorCode
from dapr_shared.wire.http2.hpack import encode
from dapr_shared.wire.http2.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.wire.grpc.metadata import Pairs
    from dapr_shared.wire.http2.hpack import HeaderBlock

_STATUS_KEYS: Final = frozenset({"grpc-status", "grpc-message"})
_LAST_ID: Final = 2**31 - 3
_OF_HTTP: Final = {
    "400": GrpcCode.INTERNAL,
    "401": GrpcCode.UNAUTHENTICATED,
    "403": GrpcCode.PERMISSION_DENIED,
    "404": GrpcCode.UNIMPLEMENTED,
    "429": GrpcCode.UNAVAILABLE,
    "502": GrpcCode.UNAVAILABLE,
    "503": GrpcCode.UNAVAILABLE,
    "504": GrpcCode.UNAVAILABLE,
}
"""What an HTTP status without gRPC's means (gRPC's http-grpc-status-mapping)."""


class ClientStream(Stream):
    """One call in progress."""

    __slots__ = (
        "_held", "_messages", "_reader", "_timer", "_waiters", "done", "error", "initial", "not_seen", "single", "trailers",
    )  # fmt: skip

    connection: ClientConnection

    def __init__(self, connection: ClientConnection, number: int, *, single: bool) -> None:
        """`single`: the answer is one message at most."""
        super().__init__(connection, number)
        self.single = single
        self.initial: Pairs | None = None
        """Response headers; `None`: not there yet, or the answer had trailers alone."""
        self.trailers: Pairs = ()
        self.done = False
        """The call has ended; with `error` or well."""
        self.error: GrpcError | None = None
        self.not_seen = False
        """The server says that it has not looked at the call: it may be made again."""
        self._reader = MessageReader(connection.max_message_bytes, "")
        self._messages: deque[bytes] = deque()
        self._held = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def expire_in(self, seconds: float) -> None:
        """End the call with DEADLINE_EXCEEDED after so many seconds."""
        self._timer = self.connection.loop.call_later(
            seconds, self.cancel, GrpcError(GrpcCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        )

    # What arrives

    def headers_received(self, headers: list[tuple[str, str]], *, end: bool) -> None:
        """See `Stream`."""
        if self.initial is None:
            status = next((value for key, value in headers if key == ":status"), "")
            if status.startswith("1") and not end:
                return  # informational; the answer is still to come
            if status != "200":
                self._refused(status, headers, end=end)
                return
            if not end:
                self._begun(headers)
                return
        elif not end:
            self.cancel(GrpcError(GrpcCode.INTERNAL, "the server sent headers twice"))
            return
        self._status(headers)

    def data_received(self, data: bytes, *, end: bool) -> None:
        """See `Stream`."""
        if self.initial is None:
            self.cancel(GrpcError(GrpcCode.INTERNAL, "the server sent a message before its headers"))
            return
        try:
            found = self._reader.feed(data) if data else []
        except GrpcError as error:
            self.cancel(error)
            return
        self._messages += found
        if self._messages and not self.single:
            self._held += len(data)
        else:
            self.taken(self._held + len(data))
            self._held = 0
        if end:
            self.finish(GrpcError(GrpcCode.UNKNOWN, "the server ended the call without a status"))
            self._close()
        elif found and not self.single:
            self._wake()

    def ended(self, code: ErrorCode | None, problem: str) -> None:
        """See `Stream`."""
        if code is None:
            error = self.connection.loss(problem)
        else:
            self.not_seen = code is ErrorCode.REFUSED_STREAM
            error = GrpcError(code_of_reset(code), f"the server ended the call: {code.name}")
        self.finish(error)

    def _begun(self, headers: list[tuple[str, str]]) -> None:
        encoding = next((value for key, value in headers if key == "grpc-encoding"), "")
        if encoding:
            self._reader = MessageReader(self.connection.max_message_bytes, encoding)
        try:
            self.initial = decoded_metadata(headers)
        except GrpcError as error:
            self.initial = ()
            self.cancel(error)
            return
        self._wake()

    def _status(self, headers: list[tuple[str, str]]) -> None:
        """Take the trailers."""
        code, message = None, ""
        for key, value in headers:
            if key == "grpc-status":
                code = code_of(value)
            elif key == "grpc-message":
                message = decoded_message(value)
        try:
            self.trailers = decoded_metadata(headers, _STATUS_KEYS)
        except GrpcError as error:
            code, message = error.code, error.message
        if code is None:
            code, message = GrpcCode.UNKNOWN, "the server's trailers have no status"
        error = None
        if code is not GrpcCode.OK:
            error = GrpcError(code, message, trailers=self.trailers, initial=self.initial or ())
        elif self._reader.incomplete:
            error = GrpcError(GrpcCode.INTERNAL, "the last message breaks off")
        self.finish(error)
        self._close()

    def _refused(self, status: str, headers: list[tuple[str, str]], *, end: bool) -> None:
        """An answer that is no 200. One with a gRPC status is gRPC's all the same."""
        if end and any(key == "grpc-status" for key, _ in headers):
            self._status(headers)
            return
        code = _OF_HTTP.get(status, GrpcCode.UNKNOWN)
        self.cancel(GrpcError(code, f"the server answered with the HTTP status {status[:20] or 'none'}, not with gRPC"))

    # The caller

    async def read(self) -> bytes | None:
        """The next message; `None` when the call has ended well. Raises `GrpcError`."""
        while not self._messages:
            if self.done:
                if self.error is not None:
                    raise self.error
                return None
            await self._changed()
        message = self._messages.popleft()
        if not self._messages and self._held:
            self.taken(self._held)
            self._held = 0
        return message

    async def whole(self) -> bytes:
        """The one message of a unary call's answer. Raises `GrpcError`."""
        while not self.done:
            await self._changed()
        if self.error is not None:
            raise self.error
        if len(self._messages) != 1:
            count = "no message" if not self._messages else "several messages"
            raise GrpcError(GrpcCode.INTERNAL, f"the answer of a unary call has {count}", initial=self.initial or ())
        return self._messages[0]

    async def begun(self) -> Pairs:
        """Response headers, once they are there. Raises `GrpcError` if the call failed before."""
        while self.initial is None and not self.done:
            await self._changed()
        if self.initial is None and self.error is not None:
            raise self.error
        return self.initial or ()

    def half_close(self) -> None:
        """All messages of the request have been sent."""
        if not self.local_closed:
            self.local_closed = True
            self.connection.write(frames.frame(frames.DATA, frames.END_STREAM, self.id))
            if self.remote_closed:
                self.connection.forget(self)

    def cancel(self, error: GrpcError) -> None:
        """End the call with this error unless it has ended, and tell the server."""
        if self.done:
            return
        if error.initial == () and self.initial:
            error.initial = self.initial
        self.finish(error)
        self.reset(ErrorCode.CANCEL)

    def finish(self, error: GrpcError | None) -> None:
        """The call has ended."""
        if self.done:
            return
        self.done, self.error = True, error
        if self._timer is not None:
            self._timer.cancel()
        self.drop_waiting()
        self._wake()

    def _close(self) -> None:
        """The server has said all. What we have not said nobody wants to hear."""
        if not self.local_closed:
            self.reset(ErrorCode.CANCEL)
        else:
            self.connection.forget(self)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self) -> None:
        waiter = self.connection.loop.create_future()
        self._waiters.append(waiter)
        await waiter


class ClientConnection(Connection):
    """One connection to a server."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        max_metadata_bytes: int,
        keepalive_interval: float | None,
        keepalive_timeout: float,
        ended: Callable[[ClientConnection], None],
    ) -> None:
        """`ended` is called when the connection is gone."""
        super().__init__(max_header_bytes=max_metadata_bytes)
        self.max_message_bytes = max_message_bytes
        self.ready: asyncio.Future[None] = self.loop.create_future()
        """Done when the server's settings are there, or the connection is gone."""
        self.closing = False
        """It takes no new calls."""
        self.closed_by_us = False
        self.problem = ""
        self.expires = 0.0
        """When it has lived its life, by the loop's clock."""
        self.life: asyncio.TimerHandle | None = None
        self._ended = ended
        self._next = 1
        self._slots: deque[asyncio.Future[None]] = deque()
        self._keepalive = keepalive_interval
        self._keepalive_timeout = keepalive_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.write(
            frames.PREFACE
            + frames.settings(
                {
                    frames.ENABLE_PUSH: 0,
                    frames.INITIAL_WINDOW_SIZE: self.initial_window,
                    frames.MAX_HEADER_LIST_SIZE: self._max_header_bytes,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        )
        if self._keepalive is not None:
            self._timer = self.loop.call_later(self._keepalive, self._tick, self._keepalive)

    @property
    def usable(self) -> bool:
        """Whether a new call may use it."""
        return not self.closing and not self.lost

    async def call(
        self,
        head: bytes,
        metadata: Pairs,
        timeout: float | None,  # noqa: ASYNC109 - the deadline travels with the call
        *,
        single: bool,
    ) -> ClientStream | None:
        """Open a call; its headers are on their way. `None`: the connection takes none any more."""
        while self.peer_max_streams is not None and len(self.streams) >= self.peer_max_streams:
            slot: asyncio.Future[None] = self.loop.create_future()
            self._slots.append(slot)
            try:
                await slot
            except asyncio.CancelledError:
                if slot.done():
                    self._free_slot()
                raise
            if not self.usable:
                return None
        number = self._next
        self._next += 2
        if number >= _LAST_ID:
            self.retire()
        stream = ClientStream(self, number, single=single)
        self.streams[number] = stream
        block = head
        if timeout is not None:
            block += encode("grpc-timeout", format_timeout(timeout))
            stream.expire_in(timeout)
        if metadata:
            block += encoded_metadata(metadata)
        if len(block) <= frames.FRAME_BYTES:
            self.write(frames.frame(frames.HEADERS, frames.END_HEADERS, number, block))
        else:
            self.write(frames.headers(number, block, self.peer_frame_bytes, end_stream=False))
        return stream

    def retire(self) -> None:
        """Take no new calls; close when those in flight have ended."""
        self.closing = self.closed_by_us = True
        self._wake_slots()
        if not self.streams:
            self._leave()

    def cancel_all(self) -> None:
        """End all calls with CANCELLED, and the connection."""
        self.closing = self.closed_by_us = True
        for stream in tuple(self.streams.values()):
            cast("ClientStream", stream).cancel(GrpcError(GrpcCode.CANCELLED, "the client was closed"))
        self._leave()

    def loss(self, problem: str) -> GrpcError:
        """The error of a call that the connection has taken with it."""
        return GrpcError(GrpcCode.UNAVAILABLE, problem or "Socket closed", unreachable=True)

    # Connection

    def open_stream(self, number: int, block: HeaderBlock, *, end: bool) -> None:
        """See `Connection`: servers open no streams here; an answer to a call that was given up is dropped."""
        del block, end
        if not self.was_open(number):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"an answer to call {number}, which was never made")
        self.noise()

    def was_open(self, number: int) -> bool:
        """See `Connection`."""
        return number % 2 == 1 and number < self._next

    def peer_settings_changed(self) -> None:
        """See `Connection`."""
        if not self.ready.done():
            self.ready.set_result(None)
        self._wake_slots()

    def goaway_received(self, last: int, code: ErrorCode, text: str) -> None:
        """See `Connection`: calls behind `last` may be made again elsewhere."""
        self.closing = True
        if code is not ErrorCode.NO_ERROR:
            self.problem = f"GOAWAY received: {code.name} {text}".rstrip()
        for stream in [each for number, each in self.streams.items() if number > last]:
            self.forget(stream)
            stream.ended(ErrorCode.REFUSED_STREAM, "GOAWAY received")
        self._wake_slots()
        if not self.streams:
            self._leave()

    def forgotten(self, stream: Stream) -> None:
        """See `Connection`."""
        del stream
        self.calm()
        self._free_slot()
        if self.closing and not self.streams:
            self._leave()

    def connection_ended(self, problem: str) -> None:
        """See `Connection`."""
        self.closing = True
        self.problem = self.problem or problem
        if not self.ready.done():
            self.ready.set_result(None)
        for timer in (self._timer, self.life):
            if timer is not None:
                timer.cancel()
        self._wake_slots()
        self._ended(self)

    def _leave(self) -> None:
        if not self.lost:
            self.write(frames.goaway(0, ErrorCode.NO_ERROR))
            self.end(None, "the connection is no longer needed")

    def _free_slot(self) -> None:
        while self._slots:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                return

    def _wake_slots(self) -> None:
        slots, self._slots = self._slots, deque()
        for slot in slots:
            if not slot.done():
                slot.set_result(None)

    def _tick(self, interval: float) -> None:
        self._timer = self.loop.call_later(interval, self._tick, interval)
        if self.streams and self._pinging is None and self.loop.time() - self.received_at >= interval:
            self._pinging = self.loop.create_task(self._ping_server(), name="gRPC keepalive")

    async def _ping_server(self) -> None:
        try:
            await self.ping(self._keepalive_timeout)
        finally:
            self._pinging = None


def request_head(path: str, scheme: str, authority: str, user_agent: str) -> bytes:
    """The headers that all calls of a method have in common."""
    return b"".join(
        encode(key, value)
        for key, value in (
            (":method", "POST"),
            (":scheme", scheme),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", user_agent),
            ("grpc-accept-encoding", ENCODINGS),
        )
    )
