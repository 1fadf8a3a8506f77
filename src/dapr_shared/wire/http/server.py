"""The HTTP/1.1 server: listening, the one timer, draining and closing.

First step of the request road. Connections do the work (`connection.py`); the server owns what they share, and ends
them: it never leaves a request unanswered that was sent before it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dapr_shared.wire.http.connection import ServerConnection
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.listener import BACKLOG, address_of, open_listener, remove_socket_file
from dapr_shared.wire.http.tls_acceptor import OnTrouble, TlsAcceptor, ignore_trouble

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable

    from dapr_shared.wire.http.messages import Handler, Request

__all__ = ["HttpServer", "ServerLimits", "serve"]

_DRAIN_WINDOW: Final = 0.25
"""Seconds for which kept connections are still answered, with `connection: close`, after the stop was asked for."""
_CANCEL_WAIT: Final = 1.0
"""Seconds for cancelled handlers to end."""


class ServerState:
    """What the connections of one server share."""

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits,
        listener: object,
        on_defect: Callable[[Request, BaseException], None] | None,
        on_trouble: OnTrouble,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.handler = handler
        self.limits = limits
        self.listener = listener
        self.connections: set[ServerConnection] = set()
        self.draining = False
        self.closed = False
        self.empty = asyncio.Event()
        self.empty.set()
        shortest = min(limits.header_timeout, limits.body_timeout, limits.write_timeout, limits.idle_timeout)
        self.step = min(1.0, max(0.01, shortest / 4))
        """Seconds between two ticks; time limits are kept to within two of them."""
        self.now = self.loop.time()
        """The loop's time at the last tick."""
        self.date = b""
        """The date header, as of the last tick."""
        self.on_trouble = on_trouble
        """Hears of connections that came to nothing over TLS."""
        self._on_defect = on_defect
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: ServerConnection) -> None:
        """Take in a connection; the timer runs while there is one."""
        self.connections.add(connection)
        self.empty.clear()
        if self._timer is None:
            self._tick()

    def leave(self, connection: ServerConnection) -> None:
        """Let go of a connection that has ended, with its handler."""
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def report(self, request: Request, error: BaseException) -> None:
        """Tell of a defect of a handler."""
        if self._on_defect is not None:
            self._on_defect(request, error)
        else:
            self.loop.call_exception_handler({"message": "an HTTP handler failed", "exception": error})

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.date = b"date: " + formatdate(time.time(), usegmt=True).encode("ascii") + b"\r\n"
        self._timer = self.loop.call_later(self.step, self._tick)
        for connection in tuple(self.connections):
            connection.check(self.now)


class HttpServer:
    """One listening server; made by `serve`."""

    def __init__(
        self,
        state: ServerState,
        acceptor: asyncio.Server | TlsAcceptor,
        listener: socket.socket,
    ) -> None:
        self._state = state
        self._acceptor = acceptor
        self._tls = acceptor if isinstance(acceptor, TlsAcceptor) else None
        self._listener: socket.socket | None = listener
        """A second handle of the listening socket, to take over what waits in its backlog when accepting stops."""
        self.address = address_of(listener)
        """`host:port` with the real port, `[v6]:port`, or `unix:/path`."""
        self._inode = Path(self._path).stat().st_ino if self._path else 0

    @property
    def _path(self) -> str:
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else ""

    @property
    def connections(self) -> int:
        """Connections that are open, or whose handler has not ended yet."""
        return len(self._state.connections)

    async def drain(self, grace: float | None) -> None:
        """Stop without dropping a request that was sent.

        Accepting stops at once. For a quarter of a second kept connections are still answered, with
        `connection: close`; then idle ones are closed. Requests in progress end by themselves; after `grace` seconds
        (`None`: no limit) those that are left are aborted.
        """
        state = self._state
        state.draining = True
        await self._stop_accepting()
        try:
            async with asyncio.timeout(grace):
                if state.connections or (self._tls is not None and self._tls.shaking):
                    await asyncio.sleep(_DRAIN_WINDOW)
                if self._tls is not None:
                    self._tls.drop()
                for connection in tuple(state.connections):
                    connection.close_idle()
                await state.empty.wait()
        except TimeoutError:
            pass
        finally:
            self.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_WAIT):
                await state.empty.wait()

    def close(self) -> None:
        """Stop at once: abort every connection, cancel every handler."""
        self._state.closed = True
        self._state.draining = True
        self._close_listener()
        if self._tls is not None:
            self._tls.drop()
        for connection in tuple(self._state.connections):
            connection.abort()

    async def _stop_accepting(self) -> None:
        """Close the listening socket, after taking over the connections that the kernel has accepted for us."""
        listener = self._listener
        self._acceptor.close()
        if listener is None:
            return
        for _ in range(BACKLOG):
            try:
                accepted, peer = listener.accept()
            except OSError:
                break
            if self._tls is not None:
                self._tls.take(accepted, peer)
                continue
            accepted.settimeout(0)
            with contextlib.suppress(OSError):
                # Shielded: uvloop never tells a protocol of the loss of a connection whose opening is cancelled late.
                await asyncio.shield(
                    self._state.loop.connect_accepted_socket(lambda: ServerConnection(self._state), accepted)
                )
        self._close_listener()

    def _close_listener(self) -> None:
        self._acceptor.close()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            if self._path:
                remove_socket_file(self._path, self._inode)


async def serve(
    address: str,
    handler: Handler,
    *,
    listener: object = None,
    limits: ServerLimits | None = None,
    ssl: tls.SSLContext | Callable[[], tls.SSLContext] | None = None,
    on_defect: Callable[[Request, BaseException], None] | None = None,
    on_trouble: OnTrouble = ignore_trouble,
    reuse_port: bool = False,
) -> HttpServer:
    """Listen on `host:port`, `[v6]:port` or `unix:/path`, and call `handler` for every request.

    `listener` is handed on in every `Request`, as the evidence of the listener. `on_defect` hears of what escapes a
    handler and of answers that cannot be sent; without it they go to the loop's exception handler. With `ssl` the
    listener speaks TLS alone; given as a function it is asked for each connection. `on_trouble` hears (why, peer,
    problem) of connections that came to nothing (`tls_acceptor.Trouble`). `reuse_port` lets
    several workers listen on one port. A Unix socket gets mode 0600; a stale file is replaced. Raises `OSError` when
    the address cannot be bound (a live Unix socket included), `ValueError` when it is no address.
    """
    limits = limits or ServerLimits()
    loop = asyncio.get_running_loop()
    state = ServerState(handler, limits, listener, on_defect, on_trouble)
    bound = await open_listener(loop, address, reuse_port=reuse_port)
    second = bound.dup()
    second.settimeout(0)
    try:
        acceptor = await _accepting(state, bound, ssl)
    except BaseException:
        bound.close()
        second.close()
        raise
    return HttpServer(state, acceptor, second)


async def _accepting(
    state: ServerState, bound: socket.socket, ssl: tls.SSLContext | Callable[[], tls.SSLContext] | None
) -> asyncio.Server | TlsAcceptor:
    def make() -> ServerConnection:
        return ServerConnection(state)

    if ssl is not None:
        context = ssl if callable(ssl) else lambda: ssl
        acceptor = TlsAcceptor(bound, context, make, state.limits, state.on_trouble)
        acceptor.start()
        return acceptor
    create = state.loop.create_unix_server if bound.family == socket.AF_UNIX else state.loop.create_server
    return await create(make, sock=bound, backlog=BACKLOG)
