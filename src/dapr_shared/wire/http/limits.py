"""The bounds of the HTTP wire: what one peer may cost, as a server and towards apps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one listening server."""

    header_bytes: int = 4096
    """Bytes of a whole header block with its request line; past it 431 and close (Dapr's --read-buffer-size). Also
    bounds the trailers of a chunked body."""
    body_bytes: int = 4 * 1024**2
    """Bytes of a body; 0 means no limit. Past it the handler's read raises `BodyTooLargeError`, and the connection is
    closed after the answer (Dapr's --max-body-size)."""
    header_timeout: float = 10.0
    """Seconds for a complete header block, after accept and after its first byte; 408 and close, silently if no byte
    came. Also the TLS handshake's limit."""
    body_timeout: float = 60.0
    """Seconds without progress of a body that somebody wants to read on."""
    write_timeout: float = 60.0
    """Seconds without progress of a peer that does not read its answer; then the connection is aborted."""
    idle_timeout: float = 180.0
    """Seconds that a kept connection may wait for its next request."""
    connections: int = 10000
    """Open at once; further ones are answered 503 and closed."""
    handshakes: int = 256
    """TLS handshakes at once; one more ends the oldest of them."""
    pipelined: int = 16
    """Header blocks' worth of bytes that may wait behind the request in progress before reading is paused."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of one client, that is, towards one origin."""

    connections: int = 1024
    """Open at once; more requests wait."""
    waiting: int = 10000
    """Requests waiting for a connection; more are refused with `PoolFullError`."""
    idle: int = 64
    """Connections kept idle; more are closed when their answer has ended."""
    idle_timeout: float = 60.0
    """Seconds that a connection is kept idle."""
    life: float = 300.0
    """Seconds, ± 10 %, after which a connection is not used again, so that the name is resolved again."""
    connect_timeout: float = 5.0
    """Seconds to resolve, connect and shake hands."""
    header_bytes: int = 65536
    """Bytes of an answer's header block; bounds its trailers too."""
    body_bytes: int = 0
    """Bytes of an answer's body; 0 means no limit."""
