"""The gRPC engine on pygrpc-native: HTTP/2 in Rust threads, 4 to 10 times cheaper with several calls in flight.

First step of the request road. Unary methods are served natively. Streams and unknown methods go through the library's
fallback, a grpc.aio server on a private Unix socket behind it, at grpc.aio's price and with one more hop. Server
streams could be native too, but the library waits for a client that is slow to read in a thread of asyncio's default
pool: a handful of such clients would stop every `to_thread` and name lookup of the process.

How it differs from the engine `aio` (pygrpc-native 0.5.0):

- Not for apps that are not trusted: the library takes in a whole unary message, and decompresses it, before it looks
  at its size. The answer is RESOURCE_EXHAUSTED all the same.
- `max_concurrent_calls` is the library's own 1024: the fallback, to which all clients' streams go over one connection,
  would take the same limit for the sum.
- The limit on client pings, the idle timeout and TLS are not there; a name is bound to one address.
- While it stops with a grace the port stays open and answers new calls with UNAVAILABLE. An answer that a client has
  not taken in 0.2 s after its handler's end is lost with the connection when the server stops.
- A request with too much metadata is refused with HTTP status 431, which clients show as UNKNOWN.
- A unary handler's initial metadata go out with its answer. When it fails after all, clients get them as trailers:
  the library has no way to send headers and an error (its `fail` takes trailers only), and of itself drops them.
  So `dapr-http-status` of an error is a trailer here.
- `peer` of a stream is the private Unix socket.
- Handlers of unary methods see `grpc-trace-bin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dapr_shared.wire.grpc.address import TcpAddress, UnixAddress, bind_tcp, bind_unix, parse, resolve
from dapr_shared.wire.grpc.aio import CANCEL_SECONDS, server_options
from dapr_shared.wire.grpc.interface import BidiHandler, Kind, Method, ServerOptions
from dapr_shared.wire.grpc.serving import OnDefect, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAVE_SECONDS: Final = 0.2
"""How long an answer may take from its handler to the socket."""


class MissingEngineError(ImportError):
    """The engine's package is not installed; the message names the extra that brings it."""


class NativeServer:
    """One listening pygrpc-native server."""

    def __init__(self, server: Any, service: Service, address: TcpAddress | UnixAddress) -> None:
        self._server = server
        self._service = service
        self._address = address

    @property
    def address(self) -> str:
        """`host:port` with the real port, or `unix:path`."""
        return str(self._address)

    async def stop(self, grace: float | None) -> None:
        """Wait at most `grace` seconds (`None`: for ever) for calls in flight, then cancel them and close the port.

        New calls are answered with UNAVAILABLE meanwhile. May be called again, also with a shorter grace while the first
        call still waits.
        """
        self._service.refuse()
        if grace is None or grace > 0:
            # The library's own grace waits for handlers and then drops the connections together with the answers that
            # are still on their way through its threads; nothing tells when they have left.
            await self._service.drained(grace, _LEAVE_SECONDS)
        await self._server.stop(0)
        await self._service.drained(CANCEL_SECONDS)


class NativeEngine:
    """Makes pygrpc-native servers."""

    def __init__(self, on_defect: OnDefect) -> None:
        """`on_defect` hears of every exception of a handler that is no `GrpcError`.

        Raises `MissingEngineError` when pygrpc-native is not installed.
        """
        try:
            import pygrpc_native.aio as library  # noqa: PLC0415 - the package is optional
        except ImportError as exc:
            raise MissingEngineError(
                "the gRPC engine 'native' needs the package pygrpc-native: install dapr-shared[native], "
                "or choose the engine 'aio'"
            ) from exc
        self._library: Any = library
        self._on_defect = on_defect

    @property
    def name(self) -> str:
        """`native`."""
        return "native"

    async def serve(
        self,
        address: str,
        methods: Sequence[Method],
        unknown: BidiHandler,
        *,
        listener: object = None,
        options: ServerOptions | None = None,
    ) -> NativeServer:
        """Listen on `host:port` or `unix:path` (mode 0600); methods not in the table go to `unknown`.

        A name with several addresses is bound to the first, IPv4 before IPv6. Raises `OSError` when the address cannot
        be bound, `ValueError` when it is malformed or a method is in the table twice.
        """
        options = options or ServerOptions()
        if options.tls is not None:
            raise ValueError("the gRPC engine 'native' has no TLS: choose the engine 'aio'")
        wanted = parse(address)
        literals = (await resolve(wanted))[:1] if isinstance(wanted, TcpAddress) else []
        service = Service(methods, unknown, listener, self._on_defect, unary_headers_with_answer=True)
        arguments = [pair for pair in server_options(options) if pair[0] != "grpc.max_concurrent_streams"]
        server = self._library.server(handlers=[service.generic()], options=arguments)
        for row in methods:
            if row.kind is Kind.UNARY:
                service_name, _, method = row.name[1:].rpartition("/")
                server.add_registered_method_handlers(service_name, {method: service.handlers[row.name]})
        if isinstance(wanted, UnixAddress):
            bind_unix(server.add_insecure_port, wanted)
        else:
            wanted = TcpAddress(wanted.host, bind_tcp(server.add_insecure_port, literals))
        try:
            await server.start()
        except BaseException:
            await server.stop(0)
            raise
        return NativeServer(server, service, wanted)
