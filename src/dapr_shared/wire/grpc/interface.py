"""The small interface between gRPC handlers and the engine that speaks HTTP/2.

First step of the request road. Handlers see a method, metadata and bytes; they never see grpc.aio, so that the engine
is a choice of one factory (`engines.py`): our own HTTP/2, or grpc.aio, the baseline of correctness.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from dapr_shared.core.errors import GrpcCode
    from dapr_shared.wire.tls import PeerCertificate, ServerTls

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Lower-case keys; values are `bytes` for keys that end in `-bin`, `str` otherwise."""


class Kind(Enum):
    """The four kinds of gRPC methods."""

    UNARY = "unary"
    SERVER_STREAM = "server-stream"
    CLIENT_STREAM = "client-stream"
    BIDI = "bidi"


class GrpcError(Exception):
    """A gRPC status other than OK, in either direction."""

    def __init__(
        self,
        code: GrpcCode,
        message: str = "",
        *,
        trailers: Metadata = (),
        initial: Metadata = (),
        unreachable: bool = False,
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.trailers = trailers
        """Trailing metadata, `grpc-status-details-bin` among it where there are details."""
        self.initial = initial
        """Initial metadata that came before the status (client side)."""
        self.unreachable = unreachable
        """UNAVAILABLE because there is no connection (refused, broken, name unknown), not because a server said so."""


class Call(Protocol):
    """One call, server side."""

    @property
    def method(self) -> str:
        """Full name: `/package.Service/Method`."""
        ...

    @property
    def metadata(self) -> Metadata:
        """What the client sent."""
        ...

    @property
    def listener(self) -> object:
        """What the engine was given for the listener that accepted the call: the evidence of the listener."""
        ...

    @property
    def certificate(self) -> PeerCertificate | None:
        """The client's verified certificate, on a TLS listener that requires one."""
        ...

    @property
    def peer(self) -> str:
        """Address of the client, for logs only."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; `None` without one."""
        ...

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send response headers; at most once, before the first message."""
        ...

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Trailers to send with the status."""
        ...


UnaryHandler: TypeAlias = Callable[[Call, bytes], Awaitable[bytes]]
ServerStreamHandler: TypeAlias = Callable[[Call, bytes], AsyncIterator[bytes]]
ClientStreamHandler: TypeAlias = Callable[[Call, AsyncIterator[bytes]], Awaitable[bytes]]
BidiHandler: TypeAlias = Callable[[Call, AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Handlers raise `GrpcError` to answer with a status. Cancellation of the call cancels the handler."""


OnDefect: TypeAlias = Callable[[str, BaseException], None]
"""Called with the full method name and what a handler raised that is no `GrpcError`: a defect of ours. The name is
empty when it is not one call that failed but the engine itself."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a service table."""

    name: str
    """Full name: `/package.Service/Method`."""
    kind: Kind
    handler: UnaryHandler | ServerStreamHandler | ClientStreamHandler | BidiHandler


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Bounds of one gRPC server (reference grpc-api §1.1)."""

    max_message_bytes: int = 4 * 1024 * 1024
    """Largest message in either direction; 0 means no limit."""
    max_metadata_bytes: int = 4 * 1024 * 1024
    """Largest metadata of one call."""
    minimum_ping_interval: float = 8.0
    """Seconds; a client that pings faster is disconnected."""
    keepalive_interval: float = 10.0
    """Seconds between the server's own pings on a connection with calls."""
    keepalive_timeout: float = 5.0
    """Seconds to wait for the answer of a ping."""
    idle_timeout: float = 180.0
    """Seconds without a call after which a connection is closed (the client opens another); 0 means never."""
    max_concurrent_calls: int = 1024
    """Calls at a time on one connection; a client keeps further ones waiting on its side."""
    reuse_port: bool = False
    """Let several processes share the port (SO_REUSEPORT), as workers do; otherwise a busy port is an error."""
    tls: ServerTls | None = None
    """What a TCP listener serves TLS with; `None`: it speaks plain HTTP/2."""
    handshake_timeout: float = 10.0
    """Seconds for a TLS handshake, and for the first frame behind it; afterwards the connection is closed."""
    on_trouble: Callable[[str, str, str], None] | None = None
    """Told of connections that came to nothing: the reason, the peer's address and the problem (`TlsAcceptor`). The
    engine `aio` tells nothing."""


class Server(Protocol):
    """One listening gRPC server."""

    @property
    def address(self) -> str:
        """`host:port` with the real port, or `unix:path`."""
        ...

    async def stop(self, grace: float | None) -> None:
        """Stop accepting, wait at most `grace` seconds (`None`: for ever) for calls in flight, then cancel them."""
        ...


class Engine(Protocol):
    """Makes servers."""

    @property
    def name(self) -> str:
        """`http2` or `aio`."""
        ...

    async def serve(
        self,
        address: str,
        methods: Sequence[Method],
        unknown: BidiHandler,
        *,
        listener: object = None,
        options: ServerOptions | None = None,
    ) -> Server:
        """Listen on `host:port` or `unix:path`; methods not in the table go to `unknown`.

        Raises `OSError` when the address cannot be bound, also when another server of this kind holds it.
        """
        ...


class Answer(Protocol):
    """A unary call's whole answer, client side."""

    @property
    def data(self) -> bytes:
        """The message."""
        ...

    @property
    def initial(self) -> Metadata:
        """Response headers."""
        ...

    @property
    def trailers(self) -> Metadata:
        """Trailing metadata."""
        ...


class StreamCall(Protocol):
    """A call in progress, client side, whatever its kind."""

    async def initial_metadata(self) -> Metadata:
        """Response headers, once they are there. Raises `GrpcError` if the call failed before."""
        ...

    def messages(self) -> AsyncIterator[bytes]:
        """The answers. Raises `GrpcError` on a status other than OK."""
        ...

    def trailers(self) -> Metadata:
        """Trailing metadata, after `messages()` has ended."""
        ...

    def cancel(self) -> None:
        """End the call with CANCELLED unless it has ended; stop reading the requests."""
        ...


class Client(Protocol):
    """A connection to one gRPC server; reconnects by itself."""

    async def unary(
        self,
        method: str,
        data: bytes,
        metadata: Metadata = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline travels with the call
    ) -> Answer:
        """Call a unary method with raw bytes. Raises `GrpcError`."""
        ...

    def stream(
        self,
        method: str,
        messages: AsyncIterator[bytes],
        metadata: Metadata = (),
        *,
        timeout: float | None = None,
    ) -> StreamCall:
        """Call any method as a stream of raw bytes in both directions."""
        ...

    async def aclose(self) -> None:
        """Close; calls in flight are cancelled."""
        ...
