"""The HTTP/1.1 client: one object an origin, with a pool of connections.

Last step of the delivery road and of an invocation (the app channel). The pool is last in, first out, so that the
connections that are not needed grow old and go; dead ones leave it the moment the event loop sees them die.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from dapr_shared.wire.http import deadlines
from dapr_shared.wire.http.client_connection import ClientConnection
from dapr_shared.wire.http.client_errors import (
    ConnectError,
    ConnectionLostError,
    HttpClientError,
    PoolFullError,
    RequestBodyError,
    RequestTimeoutError,
    ResponseProtocolError,
    ResponseTooLargeError,
)
from dapr_shared.wire.http.client_response import ClientResponse, close_body
from dapr_shared.wire.http.fields import Fields, request_head
from dapr_shared.wire.http.limits import ClientLimits

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dapr_shared.wire.http.messages import Body, Headers

__all__ = [
    "ClientLimits",
    "ClientResponse",
    "ConnectError",
    "ConnectionLostError",
    "HttpClient",
    "HttpClientError",
    "PoolFullError",
    "RequestBodyError",
    "RequestTimeoutError",
    "ResponseProtocolError",
    "ResponseTooLargeError",
]

_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
_BODY_EXPECTED: Final = frozenset(("POST", "PUT", "PATCH"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class HttpClient:
    """Sends requests to one origin.

    `scheme` is `http` or `https`; `ssl` is required for the latter. `server_name` is the name that the certificate is
    checked against, if it is not `host`. With `unix_path` connections go to that socket; `host` and `port` then only
    make the `host` header. Use it on one event loop.
    """

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        *,
        limits: ClientLimits | None = None,
        ssl: tls.SSLContext | None = None,
        server_name: str | None = None,
        unix_path: str | None = None,
    ) -> None:
        if scheme not in _DEFAULT_PORTS or (scheme == "https") != (ssl is not None):
            raise ValueError("the scheme is http, or https with an SSL context")
        self.limits = limits or ClientLimits()
        self._host = host
        self._port = port
        self._ssl = ssl
        self._server_name = (server_name or host) if ssl is not None else None
        self._unix_path = unix_path
        name = f"[{host}]".encode() if ":" in host else host.encode("idna")
        authority = name if port == _DEFAULT_PORTS[scheme] else b"%b:%d" % (name, port)
        self._host_line = Fields.of([(b"host", authority)]).block()
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._count = 0
        """Connections that are open or being opened."""
        self._waiters: deque[asyncio.Future[ClientConnection | None]] = deque()
        self._closed = False
        self.on_idle_lost: Callable[[], None] | None = None
        """Called when the origin has closed a connection that waited in the pool."""
        self._empty = asyncio.Event()
        self._empty.set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._deadlines = deadlines.Deadlines(self._open)

    @property
    def connections(self) -> int:
        """Connections that are open or being opened."""
        return self._count

    @property
    def idle_connections(self) -> int:
        """Connections that wait in the pool."""
        return len(self._idle)

    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body | AsyncIterator[bytes] = b"",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a timer on the answer costs less than a scope around it
    ) -> ClientResponse:
        """Send one request and wait for the head of its answer (for all of an answer of known length up to 64 KiB).

        `target` is what stands in the request line. `host` is added unless given; framing headers are the client's own
        and given ones are dropped. A body with a `content_length` is sent with it, other iterators are chunked; the
        body is closed in every case. `timeout` in seconds includes waiting for a connection; one of more than ten may
        be a second late.

        A request that a kept connection lost before any byte of the answer is sent again, once, on a fresh one, if its
        body is `bytes` and its method idempotent (RFC 9112 §9.3.1). An origin that answers early is heard: sending goes
        on until its answer ends. Raises `HttpClientError` (see `client_errors`), and `ValueError` for a method, target
        or header that must not be written.
        """
        whole = isinstance(body, bytes)
        length = len(body) if whole else cast("int | None", getattr(body, "content_length", None))
        try:
            if not whole or body or method in _BODY_EXPECTED:
                framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
            else:
                framing = b""
            head = request_head(method, target, headers, self._host_line, framing)
            if whole:
                return await self._send_whole(method, head, body, timeout)
            return await self._send_stream(method, head, cast("AsyncIterator[bytes]", body), length, timeout)
        except BaseException:
            if not whole:
                await close_body(body)
            raise

    def post_start(self, target: bytes, headers: Headers) -> bytes:
        """The part of a POST's head that is the same each time, for `post`. Raises `ValueError` as `request` does."""
        return request_head("POST", target, headers, self._host_line, b"")[:-2]

    def post(
        self, start: bytes, headers: Headers, body: bytes, *, timeout: float | None = None
    ) -> Awaitable[ClientResponse]:
        """`request` for what is posted to one target again and again; `headers` has what differs. Raises as `request`."""
        more = Fields.of(headers).block() if headers else b""
        head = b"%b%bcontent-length: %d\r\n\r\n" % (start, more, len(body))
        return self._send_whole("POST", head, body, timeout)

    async def _send_whole(
        self,
        method: str,
        head: bytes,
        body: bytes,
        timeout: float | None,  # noqa: ASYNC109 - as in `request`
    ) -> ClientResponse:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        connection = self._take_idle(loop)
        if connection is not None:
            try:
                answer = connection.begin(method, head, body, loop)
                # Without a near deadline it waits here: five calls and a coroutine less.
                if timeout is not None and timeout <= deadlines.FAR:
                    return await self._answer(connection, answer, deadline, loop)
                if deadline is not None:
                    self._watch(connection, deadline)
                try:
                    return await answer
                except asyncio.CancelledError:
                    await _cancelled(connection, answer)
                    raise
            except ConnectionLostError:
                if connection.answering or method not in _IDEMPOTENT:
                    raise
        connection = await self._connection(deadline, loop)
        return await self._answer(connection, connection.begin(method, head, body, loop), deadline, loop)

    async def _send_stream(
        self,
        method: str,
        head: bytes,
        body: AsyncIterator[bytes],
        length: int | None,
        timeout: float | None,  # noqa: ASYNC109 - as in `request`
    ) -> ClientResponse:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        connection = self._take_idle(loop) or await self._connection(deadline, loop)
        answer = connection.begin_stream(method, head, body, length, loop)
        sender = connection.sender
        try:
            response = await self._answer(connection, answer, deadline, loop)
        except BaseException:
            if sender is not None:
                sender.cancel()
                await asyncio.wait((sender,))  # it closes the body, unless it never began
            raise
        if sender is not None and connection.sender is not sender:  # answered in full before the body was sent
            await asyncio.wait((sender,))
            await close_body(body)
        return response

    async def _answer(
        self,
        connection: ClientConnection,
        answer: asyncio.Future[ClientResponse],
        deadline: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> ClientResponse:
        """Wait for the answer; whoever stops waiting takes the connection down."""
        timer = None
        if deadline is not None:
            if deadline - loop.time() > deadlines.FAR:
                self._watch(connection, deadline)
            else:
                timer = loop.call_at(deadline, connection.give_up, answer, deadlines.late())
        try:
            return await answer
        except asyncio.CancelledError:
            await _cancelled(connection, answer)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _watch(self, connection: ClientConnection, deadline: float) -> None:
        """Give the present answer up at a deadline that is far."""
        connection.far_deadline = deadline
        if not self._deadlines.looking:
            self._deadlines.look_later()

    # The pool --------------------------------------------------------------------------------------------------------

    def _take_idle(self, loop: asyncio.AbstractEventLoop) -> ClientConnection | None:
        if self._closed:
            raise ConnectError("the client is closed")
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable and connection.expires > loop.time():
                return connection
            connection.abort()
        return None

    async def _connection(self, deadline: float | None, loop: asyncio.AbstractEventLoop) -> ClientConnection:
        """A fresh connection, or, with as many open as may be, the next one that becomes free."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    if self._count < self.limits.connections:
                        self._count += 1
                        return await self._connect(loop)
                    freed = await self._wait(loop)
                    if freed is None:
                        return await self._connect(loop)
                    if freed.usable:  # it may have died since it was given to us
                        return freed
        except TimeoutError as error:
            raise RequestTimeoutError("no connection was free in time", sent=False) from error

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> ClientConnection | None:
        """Wait for a connection, or (`None`) for the right to open one."""
        if len(self._waiters) >= self.limits.waiting:
            raise PoolFullError(f"{self.limits.waiting} requests are waiting for a connection")
        waiter: asyncio.Future[ClientConnection | None] = loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                freed = waiter.result()  # given to us, and not needed any more
                if freed is None:
                    self._give_up_slot()
                else:
                    self.connection_free(freed)
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> ClientConnection:
        """Open a connection, for a slot that is already counted."""
        connection = ClientConnection(self, self.limits)
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                if self._unix_path is not None:
                    await loop.create_unix_connection(
                        lambda: connection, self._unix_path, ssl=self._ssl, server_hostname=self._server_name
                    )
                else:
                    await loop.create_connection(
                        lambda: connection, self._host, self._port, ssl=self._ssl, server_hostname=self._server_name
                    )
        except BaseException as error:
            # Not left to connection_lost(): uvloop never calls it for a connection whose opening is cancelled late.
            if connection.connected:
                connection.abort()
                self.connection_ended(connection)
            else:
                connection.abandon()
                self._give_up_slot()
            if isinstance(error, TimeoutError):
                raise ConnectError(f"no connection within {self.limits.connect_timeout} s") from error
            if isinstance(error, OSError | UnicodeError):
                raise ConnectError(str(error)) from error
            raise
        if self._closed or not connection.usable:
            connection.abort()
            raise ConnectError("the client was closed" if self._closed else "the origin closed the connection")
        connection.expires = loop.time() + self.limits.life * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret
        return connection

    def connection_opened(self, connection: ClientConnection) -> None:
        """Know of a connection (called by the connection)."""
        self._open.add(connection)
        self._empty.clear()

    def _give_up_slot(self) -> None:
        """Pass the right to open a connection on to a waiting request, or return it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._count -= 1

    def connection_free(self, connection: ClientConnection) -> None:
        """Take a connection back (called by the connection)."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._closed or not connection.usable or connection.expires <= now:
            connection.abort()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if len(self._idle) >= self.limits.idle:
            connection.abort()
            return
        connection.idle_since = now
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(max(0.02, self.limits.idle_timeout / 4), self._sweep)

    def connection_ended(self, connection: ClientConnection) -> None:
        """Forget a connection (called by the connection, once or more)."""
        if connection in self._idle:
            self._idle.remove(connection)  # not by us: what we close has left the pool before
            if self.on_idle_lost is not None and not self._closed:
                self.on_idle_lost()
        if connection in self._open:
            self._open.remove(connection)
            self._give_up_slot()
            if not self._open:
                self._empty.set()

    def _sweep(self) -> None:
        """Close what has been idle, or alive, for too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        oldest = now - self.limits.idle_timeout
        kept = [connection for connection in self._idle if connection.idle_since > oldest and connection.expires > now]
        for connection in set(self._idle).difference(kept):
            connection.abort()
        self._idle = kept
        self._sweeper = loop.call_later(max(0.02, self.limits.idle_timeout / 4), self._sweep) if kept else None

    async def aclose(self, grace: float | None = 0.0) -> None:
        """Close idle connections, wait `grace` seconds (`None`: no limit) for requests in flight, abort the rest.

        Requests that are still waiting for a connection fail with `ConnectError`.
        """
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectError("the client was closed"))
        for connection in self._idle:
            connection.abort()
        self._idle = []
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            for connection in self._open:
                connection.abort()
            await self._empty.wait()
        finally:
            self._deadlines.close()


async def _cancelled(connection: ClientConnection, answer: asyncio.Future[ClientResponse]) -> None:
    """Nobody waits for this answer any more."""
    connection.give_up(answer, HttpClientError("the request was cancelled"))
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        await close_body(answer.result().body)  # it came, but nobody will read it
