"""HTTP messages as the wire hands them up: bytes and lists, nothing interpreted.

First step of the request road and last step of the delivery road. Header names are lower-case bytes, values are as
received; the target is the raw request target. A small body of a known length arrives whole, as `bytes`; a larger or
chunked one arrives as a `BodyStream`, which holds the sender back when its reader is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.wire.tls import PeerCertificate

Header: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = list[Header]

WHOLE_BODY_LIMIT = 64 * 1024
"""Bytes. A body announced to be at most this long arrives whole and may be sent again; a longer one is streamed."""


class BodyStream(Protocol):
    """A body that arrives while it is read. One reader; iterate it once."""

    @property
    def content_length(self) -> int | None:
        """Announced length in bytes; `None` when the sender did not announce one (chunked)."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks, as they arrive. Raises `BodyError` when the sender breaks off or exceeds the limit."""
        ...

    async def read(self, limit: int) -> bytes:
        """All of it. Raises `BodyTooLargeError` past `limit` bytes without holding more than that."""
        ...

    async def aclose(self) -> None:
        """Say that nobody will read on: the rest is dropped, and the connection is not used again."""
        ...


Body: TypeAlias = bytes | BodyStream


class BodyError(Exception):
    """The body could not be read to its end."""


class BodyTooLargeError(BodyError):
    """The body is longer than the limit in force."""


class Request(msgspec.Struct, eq=False):
    """One request, server side.

    Made for every request, and so a struct: made without a frame of Python it costs 0.2 µs less, a `Response` 0.1.
    """

    method: str
    target: bytes
    headers: Headers
    body: Body
    version: str = "1.1"
    peer: str = ""
    """Address of the sender, for logs and forwarding headers; never evidence."""
    listener: object = None
    """What the server was given for the listener that accepted the connection: the evidence of the listener."""
    certificate: PeerCertificate | None = None
    """The client's verified certificate, on a TLS listener that asks for one."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def header_values(self, name: bytes) -> list[bytes]:
        """All values of a header; `name` in lower case."""
        found: list[bytes] = []
        for key, value in self.headers:  # a comprehension is a function call more: 0.1 µs
            if key == name:
                found.append(value)
        return found


class Response(msgspec.Struct, eq=False):
    """One response. The server adds `date`, framing headers and `connection` itself."""

    status: int
    headers: Headers
    body: Body | AsyncIterator[bytes] = b""


class Handler(Protocol):
    """What the server calls for each request."""

    async def __call__(self, request: Request) -> Response:
        """Answer one request. An exception that escapes is answered with a bare 500 and logged as a defect."""
        ...
