"""A body that arrives while it is read: the one `BodyStream` of both the server and the client.

Belongs to the wire, on both roads. The connection feeds it; when more is held than the water mark, the connection stops
reading from its socket, so that a slow reader slows the sender down instead of filling memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from dapr_shared.wire.http.framing import FramingError
from dapr_shared.wire.http.messages import BodyError, BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.wire.http.framing import Decoder

HIGH_WATER: Final = 256 * 1024
"""Bytes held (with their bookkeeping) at which the connection stops reading."""
LOW_WATER: Final = 64 * 1024
"""Bytes held at which it reads on."""
_PIECE_COST: Final = 64
"""Bytes of bookkeeping counted for each piece, so that a flood of tiny chunks is bounded too."""


class BodySource(Protocol):
    """The connection that a body comes from, as the body sees it."""

    def body_wanted(self) -> None:
        """A reader is waiting for more."""
        ...

    def body_full(self) -> None:
        """More is held than the high-water mark."""
        ...

    def body_drained(self) -> None:
        """Less is held than the low-water mark again."""
        ...

    def body_dropped(self) -> None:
        """Nobody will read on, although the end has not come."""
        ...


class IncomingBody:
    """A `BodyStream`; see there for what readers may expect. `limit` in bytes, 0 for none."""

    __slots__ = (
        "_decoder",
        "_error",
        "_full",
        "_held",
        "_limit",
        "_pieces",
        "_received",
        "_source",
        "_waiter",
        "content_length",
        "ended",
    )

    def __init__(self, source: BodySource, content_length: int | None, decoder: Decoder, limit: int) -> None:
        self.content_length = content_length
        self._decoder = decoder
        self._limit = limit
        self._received = 0
        self._source: BodySource | None = source
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._full = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: BodyError | None = None
        self.ended = False
        """Whether nothing more will come: complete, broken off or dropped."""
        if limit and content_length is not None and content_length > limit:
            self._fail_too_large()

    # The connection's side -------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a reader is waiting for more."""
        return self._waiter is not None

    @property
    def held(self) -> int:
        """Bytes held for the reader, with their bookkeeping."""
        return self._held

    @property
    def error(self) -> BodyError | None:
        """Why the body broke off."""
        return self._error

    @property
    def rest(self) -> bytes:
        """Bytes that came after the end of the body."""
        return self._decoder.rest

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection; afterwards `ended` and `error` say how the body stands."""
        decoder = self._decoder
        try:
            piece = decoder.feed(data)
        except FramingError as error:
            self.fail(BodyError(str(error)), at_once=True)
            return
        self._received += len(piece)
        if self._limit and self._received + decoder.announced > self._limit:
            self._fail_too_large()
            return
        if piece:
            self._pieces.append(piece)
            self._held += len(piece) + _PIECE_COST
            if self._held > HIGH_WATER and not self._full and self._source is not None:
                self._full = True
                self._source.body_full()
        if decoder.done:
            self.finish()
        elif piece:
            self._wake()

    def finish(self) -> None:
        """Note that the last byte has come."""
        self.ended = True
        self._wake()

    def fail(self, error: BodyError, *, at_once: bool = False) -> None:
        """Break off; what has arrived is still delivered first, unless `at_once`."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        if at_once:
            self._pieces.clear()
            self._held = 0
        self._wake()

    def _fail_too_large(self) -> None:
        self.fail(BodyTooLargeError(f"the body is longer than {self._limit} bytes"), at_once=True)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The reader's side -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            await self._wait()
        piece = self._pieces.popleft()
        self._held -= len(piece) + _PIECE_COST
        if self._full and self._held <= LOW_WATER:
            self._full = False
            if self._source is not None and not self.ended:
                self._source.body_drained()
        return piece

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("a body has one reader")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            if self._source is not None:
                self._source.body_wanted()
            await self._waiter
        finally:
            self._waiter = None

    async def read(self, limit: int) -> bytes:
        """All of it; see `BodyStream.read`."""
        if self._error is None and self.content_length is not None and self.content_length > limit:
            raise BodyTooLargeError(f"the body is longer than {limit} bytes")
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                raise BodyTooLargeError(f"the body is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Drop the rest; see `BodyStream.aclose`."""
        self.drop()

    def drop(self) -> None:
        """Drop the rest, at once: `aclose` for those who cannot wait."""
        source, self._source = self._source, None
        unfinished = not self.ended
        if (unfinished or self._pieces) and self._error is None:
            self._error = BodyError("the body was closed")  # whoever reads on must not take this for its end
        self._pieces.clear()
        self._held = 0
        self.finish()
        if unfinished and source is not None:
            source.body_dropped()
