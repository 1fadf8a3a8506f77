"""The gRPC engine on grpc.aio: the baseline of correctness.

First step of the request road: sockets to `Call`s. Messages stay bytes; all methods go through one generic handler.
One grpc.aio server listens on one address (a name may stand for several).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import grpc.aio

from dapr_shared.wire.grpc.address import TcpAddress, UnixAddress, bind_tcp, bind_unix, parse, resolve
from dapr_shared.wire.grpc.interface import BidiHandler, Method, ServerOptions
from dapr_shared.wire.grpc.serving import OnDefect, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

FOREVER: Final = 10 * 365 * 86_400.0
"""Seconds; what "wait without end" is to grpc, for which no grace means to cancel at once."""
CANCEL_SECONDS: Final = 1.0
"""How long cancelled handlers may take to clean up before `stop` returns without them."""


def server_options(options: ServerOptions) -> list[tuple[str, int]]:
    """Grpc's channel arguments for `options`."""
    message_bytes = options.max_message_bytes or -1
    timeout = round(options.keepalive_timeout * 1000)
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Between the two limits grpc refuses at random; equal limits are one clear limit.
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_calls),
        ("grpc.http2.min_ping_interval_without_data_ms", round(options.minimum_ping_interval * 1000)),
        ("grpc.http2.max_ping_strikes", 2),
        # Without it a client that pings without a call is held to one ping in two hours.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", round(options.keepalive_interval * 1000)),
        ("grpc.keepalive_timeout_ms", timeout),
        ("grpc.http2.ping_timeout_ms", timeout),
        # grpc's default lets two servers share a port silently.
        ("grpc.so_reuseport", int(options.reuse_port)),
    ]


class AioServer:
    """One listening grpc.aio server (or one with its interface)."""

    def __init__(self, server: grpc.aio.Server, service: Service, address: TcpAddress | UnixAddress) -> None:
        self._server = server
        self._service = service
        self._address = address

    @property
    def address(self) -> str:
        """`host:port` with the real port, or `unix:path`."""
        return str(self._address)

    async def stop(self, grace: float | None) -> None:
        """Stop accepting, wait at most `grace` seconds (`None`: for ever) for calls in flight, then cancel them.

        Returns when the handlers have ended, or at most a second after they were cancelled. May be called again, also
        with a shorter grace while the first call still waits.
        """
        await self._server.stop(FOREVER if grace is None else grace)
        # grpc waits for the calls, not for the handlers it has cancelled.
        await self._service.drained(CANCEL_SECONDS)


class AioEngine:
    """Makes grpc.aio servers."""

    def __init__(self, on_defect: OnDefect) -> None:
        """`on_defect` hears of every exception of a handler that is no `GrpcError`."""
        self._on_defect = on_defect

    @property
    def name(self) -> str:
        """`aio`."""
        return "aio"

    async def serve(
        self,
        address: str,
        methods: Sequence[Method],
        unknown: BidiHandler,
        *,
        listener: object = None,
        options: ServerOptions | None = None,
    ) -> AioServer:
        """Listen on `host:port` or `unix:path` (mode 0600); methods not in the table go to `unknown`.

        Raises `OSError` when the address cannot be bound, `ValueError` when it is malformed or a method is in the table
        twice.
        """
        options = options or ServerOptions()
        wanted = parse(address)
        literals = await resolve(wanted) if isinstance(wanted, TcpAddress) else []
        service = Service(methods, unknown, listener, self._on_defect)
        arguments: list[tuple[str, Any]] = [*server_options(options)]
        if options.idle_timeout:
            arguments.append(("grpc.max_connection_idle_ms", round(options.idle_timeout * 1000)))
        server = grpc.aio.server(handlers=[service.generic()], options=arguments)
        add_port = cast("Any", server).add_insecure_port
        try:
            if isinstance(wanted, UnixAddress):
                bind_unix(add_port, wanted)
            else:
                wanted = TcpAddress(wanted.host, bind_tcp(add_port, literals))
        except OSError:
            # A server that never started keeps what it has bound.
            await server.start()
            await server.stop(None)
            raise
        try:
            await server.start()
        except asyncio.CancelledError:
            await server.stop(None)
            raise
        return AioServer(server, service, wanted)
