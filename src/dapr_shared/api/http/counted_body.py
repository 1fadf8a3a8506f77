"""An answer's body that is streamed: the call goes on until its last byte.

Last step of the request road, on the way up. The app's place among its calls in flight is held, and metrics and access
log wait, until the body has ended or nobody reads on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dapr_shared.wire.http.messages import BodyStream


class CountedBody:
    """Passes a body through and tells once when it has ended."""

    __slots__ = ("_body", "_done", "_pieces", "sent")

    def __init__(self, body: BodyStream | AsyncIterator[bytes], done: Callable[[int], None]) -> None:
        """`done` is called once, with the bytes that were passed on."""
        self._body = body
        self._pieces = aiter(body)
        self._done: Callable[[int], None] | None = done
        self.sent = 0

    @property
    def content_length(self) -> int | None:
        """Announced length in bytes, where the body has one."""
        return getattr(self._body, "content_length", None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._pieces)
        except BaseException:
            self._end()
            raise
        self.sent += len(piece)
        return piece

    async def read(self, limit: int) -> bytes:
        """All of it, see `BodyStream.read`."""
        try:
            data: bytes = await cast("Any", self._body).read(limit)
        finally:
            self._end()
        self.sent += len(data)
        return data

    async def aclose(self) -> None:
        """Nobody reads on."""
        try:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._end()

    def _end(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self.sent)
