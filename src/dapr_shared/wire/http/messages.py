"""HTTP messages as the wire hands them up: bytes and lists, nothing interpreted.

First step of the request road and last step of the delivery road. Header names are lower-case bytes, values are as
received; the target is the raw request target. A small body of a known length arrives whole, as `bytes`; a larger or
chunked one arrives as a `BodyStream`, which holds the sender back when its reader is slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

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


class Request:
    """One request, server side. Plain attributes: this class is made for every request."""

    __slots__ = ("body", "certificate", "headers", "listener", "method", "peer", "target", "version")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body,
        *,
        version: str = "1.1",
        peer: str = "",
        listener: object = None,
        certificate: PeerCertificate | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.version = version
        self.peer = peer
        """Address of the sender, for logs and forwarding headers; never evidence."""
        self.listener = listener
        """What the server was given for the listener that accepted the connection: the evidence of the listener."""
        self.certificate = certificate
        """The client's verified certificate, on a TLS listener that asks for one."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def header_values(self, name: bytes) -> list[bytes]:
        """All values of a header; `name` in lower case."""
        return [value for key, value in self.headers if key == name]


class Response:
    """One response. The server adds `date`, framing headers and `connection` itself."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: Body | AsyncIterator[bytes] = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Handler(Protocol):
    """What the server calls for each request."""

    async def __call__(self, request: Request) -> Response:
        """Answer one request. An exception that escapes is answered with a bare 500 and logged as a defect."""
        ...
