"""The gRPC engine on grpc.aio: the baseline of correctness.

First step of the request road: sockets to `Call`s. Messages stay bytes; all methods go through one generic handler.
One grpc.aio server listens on one address (a name may stand for several).

What grpc.aio does that others do not:

- One request whose path is not UTF-8 ends the server (seen in grpcio 1.85.1: the path is decoded in the task that
  accepts calls). `AioServer` replaces such a server at once; calls in flight end undisturbed on the old one, and
  clients are told to connect again.
- gRPC's core keeps `grpc-trace-bin` and `grpc-tags-bin` from handlers; `traceparent` arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import grpc.aio

from dapr_shared.wire.grpc.address import TcpAddress, UnixAddress, bind_tcp, bind_unix, parse, resolve
from dapr_shared.wire.grpc.interface import BidiHandler, Method, OnDefect, ServerOptions
from dapr_shared.wire.grpc.serving import Service
from dapr_shared.wire.grpc.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.wire.tls import ServerTls

FOREVER: Final = 10 * 365 * 86_400.0
"""Seconds; what "wait without end" is to grpc, for which no grace means to cancel at once."""
CANCEL_SECONDS: Final = 1.0
"""How long cancelled handlers may take to clean up before `stop` returns without them."""
REFUSE_SECONDS: Final = 0.3
"""After the last call in flight has ended, new ones are answered UNAVAILABLE for so long before the port closes."""
_PENDING_CALLS: Final = 16_384
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 1.0
_ACCEPTING: Final = "_server_main_loop"
"""Name of the coroutine in which grpc.aio accepts calls."""


def server_options(options: ServerOptions) -> list[tuple[str, int]]:
    """Channel arguments that both engines take."""
    message_bytes = options.max_message_bytes or -1
    timeout = round(options.keepalive_timeout * 1000)
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Between the two limits grpc refuses at random; equal limits are one clear limit.
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_calls),
        # Else a polite client that keeps its limit is refused too: an answered call counts until grpc has freed it.
        ("grpc.http.overload_protection", 0),
        # Calls of all clients that wait for Python; grpc's default answers CANCELLED at random above 1000.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
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
    """One listening grpc.aio server, replaced when it crashes."""

    def __init__(
        self,
        service: Service,
        address: TcpAddress | UnixAddress,
        literals: list[TcpAddress],
        arguments: list[tuple[str, int]],
        on_defect: OnDefect,
        tls: ServerTls | None = None,
    ) -> None:
        self._tls = tls
        self._service = service
        self._address = address
        self._literals = literals
        self._arguments = arguments
        self._on_defect = on_defect
        self._server: grpc.aio.Server | None = None
        self._draining: dict[asyncio.Task[None], grpc.aio.Server] = {}
        self._reviving: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def address(self) -> str:
        """`host:port` with the real port, or `unix:path`."""
        return str(self._address)

    async def start(self) -> None:
        """Listen. Raises `OSError`."""
        server = grpc.aio.server(handlers=[self._service.generic()], options=cast("Any", self._arguments))
        try:
            self._bind(server)
        except OSError:
            # A server that never started keeps what it has bound.
            await server.start()
            await server.stop(None)
            raise
        others = asyncio.all_tasks()
        try:
            await server.start()
        except BaseException:
            await server.stop(None)
            raise
        self._server = server
        for task in asyncio.all_tasks() - others:
            if getattr(task.get_coro(), "__name__", "") == _ACCEPTING:
                task.add_done_callback(self._crashed)

    async def stop(self, grace: float | None) -> None:
        """Stop accepting, wait at most `grace` seconds (`None`: for ever) for calls in flight, then cancel them.

        Returns when the handlers have ended, or at most a second after they were cancelled. May be called again, also
        with a shorter grace while the first call still waits.
        """
        self._stopping = True
        if self._reviving is not None:
            self._reviving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reviving
        started = asyncio.get_running_loop().time()
        self._service.refuse()
        if grace is None or grace > 0:
            # grpc cancels what has arrived and is not yet with a handler; so clients are told UNAVAILABLE for a while.
            await self._service.drained(grace, REFUSE_SECONDS)
        servers = [*self._draining.values()]
        if self._server is not None:
            servers.append(self._server)
        seconds = FOREVER
        if grace is not None:
            seconds = max(grace - (asyncio.get_running_loop().time() - started), 0.0)
        await asyncio.gather(*(server.stop(seconds) for server in servers), *self._draining)
        # grpc waits for the calls, not for the handlers that it has cancelled.
        await self._service.drained(CANCEL_SECONDS)

    def _bind(self, server: grpc.aio.Server) -> None:
        add_port = cast("Any", server).add_insecure_port
        if self._tls is not None:
            add_port = partial(_add_secure_port, server, server_credentials(self._tls))
        if isinstance(self._address, UnixAddress):
            bind_unix(add_port, self._address)
            return
        port = bind_tcp(add_port, self._literals)
        self._address = TcpAddress(self._address.host, port)
        self._literals = [TcpAddress(literal.host, port) for literal in self._literals]

    def _crashed(self, accepting: asyncio.Task[None]) -> None:
        if self._stopping or accepting.cancelled():
            return
        error = accepting.exception()
        if error is not None:
            self._on_defect("", error)
            self._reviving = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        """Listen again on the same address; grpc has closed the crashed server's port, or is about to."""
        crashed, self._server = self._server, None
        if crashed is not None:
            task = asyncio.get_running_loop().create_task(crashed.stop(FOREVER))
            self._draining[task] = crashed
            task.add_done_callback(self._draining.pop)
        pause = _FIRST_PAUSE
        while True:
            try:
                await self.start()
            except OSError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return


def _add_secure_port(server: grpc.aio.Server, credentials: grpc.ServerCredentials, address: str) -> int:
    return cast("Any", server).add_secure_port(address, credentials)


class AioEngine:
    """Makes grpc.aio servers."""

    def __init__(self, on_defect: OnDefect) -> None:
        """`on_defect` hears of every exception of a handler that is no `GrpcError`, and of crashes of the engine."""
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
        arguments = server_options(options)
        if options.idle_timeout:
            arguments.append(("grpc.max_connection_idle_ms", round(options.idle_timeout * 1000)))
        tls = options.tls if isinstance(wanted, TcpAddress) else None
        if tls is not None:
            arguments.append(("grpc.server_handshake_timeout_ms", round(options.handshake_timeout * 1000)))
        certified = tls is not None and tls.files.client_ca is not None and tls.files.client_required
        service = Service(methods, unknown, listener, self._on_defect, certified=certified)
        server = AioServer(service, wanted, literals, arguments, self._on_defect, tls)
        await server.start()
        return server
