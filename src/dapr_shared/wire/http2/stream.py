"""One stream of an HTTP/2 connection: what it may still send, and what waits to be sent.

First step of the request road and last step of both; gRPC's calls (`wire/grpc/http2_*.py`) are made of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.wire.http2.frames import DATA, END_STREAM, ErrorCode, frame, rst_stream, window_update

if TYPE_CHECKING:
    from dapr_shared.wire.http2.connection import Connection


class Stream:
    """What both sides of a call share. Subclasses say what becomes of what arrives."""

    __slots__ = (
        "_credit", "_sent", "_tail", "_waiting", "connection", "id", "local_closed", "receive_window", "remote_closed", "send_window",
    )  # fmt: skip

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.id = number
        self.send_window = connection.peer_initial_window
        """Octets that the peer takes now; negative after its settings shrank it."""
        self.receive_window = connection.initial_window
        """Octets that the peer may still send."""
        self._credit = 0
        """Octets taken in and not yet given back to the peer's window."""
        self._waiting: memoryview | None = None
        """What a full window has kept from being sent."""
        self._tail = b""
        """Frames behind what waits: the trailers."""
        self._sent: asyncio.Future[None] | None = None
        """Done when what waits has been sent."""
        self.local_closed = False
        """We have sent the end of the stream, or have queued it."""
        self.remote_closed = False
        """The peer has sent the end of the stream."""

    # What arrives: for subclasses

    def headers_received(self, headers: list[tuple[str, str]], *, end: bool) -> None:
        """A block of headers behind the first one of a request: an answer's headers, or trailers."""
        raise NotImplementedError

    def data_received(self, data: bytes, *, end: bool) -> None:
        """Octets of messages, perhaps none."""
        raise NotImplementedError

    def ended(self, code: ErrorCode | None, problem: str) -> None:
        """The peer has reset the stream, or the connection is gone (`None`). Nothing arrives after it."""
        raise NotImplementedError

    # Sending

    def send_data(self, data: bytes, tail: bytes = b"", *, end: bool = False) -> bool:
        """Send octets, then the frames of `tail`, as soon as the windows allow; whether all is on its way.

        One call at a time: when it is false, wait for `sent()` first. `end`: the stream ends with the octets.
        """
        connection = self.connection
        length = len(data)
        if length <= self.send_window and length <= connection.send_window and length <= connection.peer_frame_bytes:
            self.send_window -= length
            connection.send_window -= length
            connection.write(frame(DATA, END_STREAM if end else 0, self.id, data) + tail)
            return True
        self._waiting = memoryview(data)
        self._tail = frame(DATA, END_STREAM, self.id) + tail if end else tail
        self.pump()
        return not self.is_sending

    @property
    def is_sending(self) -> bool:
        """Whether something waits for a window."""
        return self._waiting is not None

    async def sent(self) -> None:
        """Wait until what waits has been sent, or the stream has ended."""
        if self._waiting is None:
            return
        if self._sent is None:
            self._sent = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._sent)

    def pump(self) -> None:
        """Send what the windows allow now."""
        connection, waiting = self.connection, self._waiting
        if waiting is None:
            return
        parts: list[bytes] = []
        while waiting:
            octets = min(len(waiting), self.send_window, connection.send_window, connection.peer_frame_bytes)
            if octets <= 0:
                break
            parts.append(frame(DATA, 0, self.id, bytes(waiting[:octets])))
            waiting = waiting[octets:]
            self.send_window -= octets
            connection.send_window -= octets
        if waiting:
            self._waiting = waiting
            connection.blocked[self.id] = self
        else:
            if self._tail:
                parts.append(self._tail)
            self.drop_waiting()
            self.all_sent()
        if parts:
            connection.write(b"".join(parts))

    def all_sent(self) -> None:
        """What had to wait has been sent: for subclasses."""

    def drop_waiting(self) -> None:
        """Forget what waits, and wake who waits for it."""
        self._waiting, self._tail = None, b""
        self.connection.blocked.pop(self.id, None)
        if self._sent is not None:
            if not self._sent.done():
                self._sent.set_result(None)
            self._sent = None

    def reset(self, code: ErrorCode) -> None:
        """Tell the peer that we are done with the stream, and forget it."""
        if not self.connection.lost:
            self.connection.write(rst_stream(self.id, code))
        self.local_closed = self.remote_closed = True
        self.connection.forget(self)

    # Receiving

    def taken(self, octets: int) -> None:
        """So many octets have been used: the peer may send as many again, told in portions."""
        self._credit += octets
        if self._credit * 2 >= self.connection.initial_window and not self.remote_closed:
            self.receive_window += self._credit
            self.connection.write(window_update(self.id, self._credit))
            self._credit = 0
