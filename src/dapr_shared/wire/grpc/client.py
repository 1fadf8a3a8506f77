"""The gRPC client: raw bytes to an app, a peer instance or a daprd sidecar.

Last step of both roads. Calls of one client share one HTTP/2 connection (`http2_client.py`), which lives for a limited
time, so that names are resolved again, and is made when a call needs it. What is sent as metadata is always legal
(`metadata.py`); a request stream ends when its call does.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from dapr_shared import __version__
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.address import TcpAddress, UnixAddress, parse
from dapr_shared.wire.grpc.http2_client import ClientConnection, ClientStream, request_head
from dapr_shared.wire.grpc.http2_messages import prefixed, too_large_to_send
from dapr_shared.wire.grpc.interface import GrpcError, Metadata
from dapr_shared.wire.grpc.messages import close
from dapr_shared.wire.grpc.metadata import Pairs, request_metadata
from dapr_shared.wire.http2.connection import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LIFE_JITTER: Final = 0.1
_BACK_OFF_FIRST: Final = 0.1
_BACK_OFF_MOST: Final = 5.0
_BACK_OFF_GROWTH: Final = 1.6
_CONNECT_SECONDS: Final = 5.0
_TRIES: Final = 5
"""How often a call is made that the server says it has not looked at."""
_KEPT_HEADS: Final = 256


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS towards the server."""

    root_certificates: bytes | None = None
    """PEM; `None`: the public roots of the system."""
    certificate_chain: bytes | None = None
    """PEM of the client's certificate; with `private_key` or not at all."""
    private_key: bytes | None = None
    """PEM; secret."""
    server_name: str | None = None
    """Name to expect in the server's certificate instead of the target's host."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Bounds of one gRPC client."""

    max_message_bytes: int = 4 * 1024 * 1024
    """Largest message in either direction; 0 means no limit."""
    max_metadata_bytes: int = 4 * 1024 * 1024
    """Largest metadata of an answer."""
    keepalive_interval: float | None = None
    """Seconds between pings while calls are in flight; `None`: no pings. A Go server closes connections that ping more
    often than every 5 minutes unless it was told otherwise."""
    keepalive_timeout: float = 5.0
    """Seconds to wait for the answer of a ping."""
    life: float = 300.0
    """Seconds, give or take 10 %, after which new calls use a new connection and resolve the name again; calls in
    flight end on the old one."""
    tls: TlsOptions | None = None
    """`None`: plain text."""
    user_agent: str = ""
    """Put before our own in the `user-agent` header."""


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """A unary call's whole answer."""

    data: bytes
    initial: Metadata
    trailers: Metadata


class GrpcStream:
    """A call in progress, whatever its kind: `StreamCall`."""

    def __init__(
        self,
        client: GrpcClient,
        method: str,
        messages: AsyncIterator[bytes],
        metadata: Pairs,
        timeout: float | None,
    ) -> None:
        self._client = client
        self._trailers: Pairs = ()
        self._failure: Exception | None = None
        """What the iterator of requests raised."""
        self._given_up = False
        self._call: ClientStream | None = None
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._sending = loop.create_task(self._run(method, messages, metadata, timeout))

    async def initial_metadata(self) -> Metadata:
        """Response headers, once they are there. Raises `GrpcError` if the call failed before."""
        try:
            return await (await self._open_call()).begun()
        except GrpcError:
            if self._failure is not None:
                raise self._failure from None
            raise

    async def messages(self) -> AsyncIterator[bytes]:
        """The answers. Raises `GrpcError` on a status other than OK.

        An exception of the iterator of requests cancels the call and is raised here.
        """
        try:
            call = await self._open_call()
            while (message := await call.read()) is not None:
                yield message
            self._trailers = call.trailers
        except GrpcError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self.cancel()
            # The iterator of requests has ended when the answers have.
            await asyncio.wait({self._sending})

    def trailers(self) -> Metadata:
        """Trailing metadata, after `messages()` has ended."""
        return self._trailers

    def cancel(self) -> None:
        """End the call with CANCELLED unless it has ended; stop reading the requests."""
        self._given_up = True
        if self._call is not None:
            self._call.cancel(_cancelled())
        self._sending.cancel()
        if not self._opened.done():
            self._opened.set_result(None)

    async def _open_call(self) -> ClientStream:
        if self._call is None:
            await asyncio.shield(self._opened)
            if self._call is None:
                if isinstance(self._failure, GrpcError):
                    raise self._failure
                raise _cancelled()
        return self._call

    async def _run(
        self,
        method: str,
        messages: AsyncIterator[bytes],
        metadata: Pairs,
        timeout: float | None,  # noqa: ASYNC109 - the deadline travels with the call
    ) -> None:
        try:
            try:
                call = await self._client.open(method, metadata, timeout, single=False)
                if self._given_up:
                    call.cancel(_cancelled())
                    return
                self._call = call
                self._opened.set_result(None)
                await self._send(call, messages)
            finally:
                await close(messages)
        except Exception as exc:  # noqa: BLE001 - raised again by who reads the answers
            self._failure = exc
            if self._call is not None:
                self._call.cancel(_cancelled())
        finally:
            if not self._opened.done():
                self._opened.set_result(None)

    async def _send(self, call: ClientStream, messages: AsyncIterator[bytes]) -> None:
        connection = call.connection
        limit = connection.max_message_bytes
        count = 0
        async for message in messages:
            if call.done:
                return
            error = too_large_to_send(message, limit)
            if error is not None:
                call.cancel(error)
                return
            if not call.send_data(prefixed(message)):
                await call.sent()
            if connection.paused:
                await connection.resumed()
            count += 1
            if count % AT_ONCE == 0:  # an iterator that never waits must not stop the world
                await asyncio.sleep(0)
        if not call.done:
            call.half_close()


class GrpcClient:
    """A connection to one gRPC server; reconnects by itself.

    A call fails at once with UNAVAILABLE while the server refuses connections; reconnecting backs off from 100 ms to
    5 s. Reserved metadata keys are dropped (`metadata.py`); `user-agent` is always ours (see
    `ClientOptions.user_agent`).
    """

    def __init__(
        self, target: str, options: ClientOptions | None = None, *, on_lost: Callable[[], None] | None = None
    ) -> None:
        """`target` is `host:port` or `unix:path`. Connects with the first call; use it on one event loop.

        `on_lost` is called when the server closes the connection or breaks it off, also while no call is in flight.
        Raises `ValueError` for a target that is none.
        """
        self.target = target
        self._options = options or ClientOptions()
        self._on_lost = on_lost
        self._address = parse(target)
        self._connection: ClientConnection | None = None
        self._connections: set[ClientConnection] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._failure: GrpcError | None = None
        """Why the last attempt to connect failed."""
        self._pause = 0.0
        """Seconds until the next attempt, once one has failed."""
        self._retry_at = 0.0
        self._closed = False
        self._heads: dict[str, bytes] = {}
        self._context: ssl.SSLContext | None = None
        self._agent = f"{self._options.user_agent} grpc-python-dapr-shared/{__version__}".lstrip()

    async def unary(
        self,
        method: str,
        data: bytes,
        metadata: Metadata = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline travels with the call
    ) -> GrpcAnswer:
        """Call a unary method. `timeout`: seconds, sent as the deadline. Raises `GrpcError`."""
        cleaned = request_metadata(metadata) if metadata else ()
        error = too_large_to_send(data, self._options.max_message_bytes)
        if error is not None:
            raise error
        message = prefixed(data)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        for left in range(_TRIES - 1, -1, -1):
            call = await self.open(method, cleaned, timeout, single=True)
            call.local_closed = True
            call.send_data(message, end=True)
            try:
                answer = await call.whole()
            except GrpcError:
                if not call.not_seen or not left:
                    raise
                if deadline is not None:
                    timeout = deadline - asyncio.get_running_loop().time()
                continue
            except asyncio.CancelledError:
                call.cancel(_cancelled())
                raise
            return GrpcAnswer(answer, call.initial or (), call.trailers)
        raise AssertionError("the last try answers or raises")

    def stream(
        self,
        method: str,
        messages: AsyncIterator[bytes],
        metadata: Metadata = (),
        *,
        timeout: float | None = None,
    ) -> GrpcStream:
        """Call any method as a stream of raw bytes in both directions; the end of `messages` half-closes.

        The call starts now. Read `messages()` to its end or call `cancel()`; either ends the reading of `messages`.
        Raises `GrpcError` for metadata that cannot be sent and when the client is closed.
        """
        cleaned = request_metadata(metadata) if metadata else ()
        if self._closed:
            raise GrpcError(GrpcCode.CANCELLED, "the client is closed")
        return GrpcStream(self, method, messages, cleaned, timeout)

    async def open(
        self,
        method: str,
        metadata: Pairs,
        timeout: float | None,  # noqa: ASYNC109 - the deadline travels with the call
        *,
        single: bool,
    ) -> ClientStream:
        """Start a call: its headers are on their way. Raises `GrpcError`."""
        head = self._heads.get(method)
        if head is None:
            head = self._head(method)
        connection = self._connection
        if connection is not None and connection.usable:
            stream = await connection.call(head, metadata, timeout, single=single)
            if stream is not None:
                return stream
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    connection = await self._connected()
                    left = None if timeout is None else timeout - (asyncio.get_running_loop().time() - started)
                    stream = await connection.call(head, metadata, left, single=single)
                    if stream is not None:
                        return stream
        except TimeoutError:
            raise GrpcError(GrpcCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    def reconnect(self) -> None:
        """Use a new connection for the next call, at once: for who knows that a refusing server is back."""
        self._pause = self._retry_at = 0.0
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.retire()

    async def aclose(self) -> None:
        """Close; calls in flight are cancelled and fail with `GrpcError` CANCELLED."""
        self._closed = True
        self._connection = None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.cancel_all()

    def _head(self, method: str) -> bytes:
        host = "localhost"
        if isinstance(self._address, TcpAddress):
            tls = self._options.tls
            host = tls.server_name if tls and tls.server_name else str(self._address)
        try:
            head = request_head(method, "https" if self._options.tls else "http", host, self._agent)
        except UnicodeEncodeError:
            raise GrpcError(GrpcCode.INTERNAL, f"the method {method[:200]!r} cannot be sent") from None
        if len(self._heads) >= _KEPT_HEADS:  # a proxied caller chooses the names
            self._heads.clear()
        self._heads[method] = head
        return head

    # Connecting

    async def _connected(self) -> ClientConnection:
        """A connection that takes calls. Raises `GrpcError` UNAVAILABLE."""
        while True:
            if self._closed:
                raise GrpcError(GrpcCode.CANCELLED, "the client is closed")
            connection = self._connection
            if connection is not None and connection.usable:
                return connection
            if self._connecting is None:
                if self._failure is not None and asyncio.get_running_loop().time() < self._retry_at:
                    raise _copy(self._failure)
                self._connecting = asyncio.get_running_loop().create_task(
                    self._connect(), name=f"gRPC to {self.target}"
                )
            connecting = self._connecting
            await asyncio.wait({connecting})
            if connecting.cancelled():
                continue
            connecting.result()
            if self._connection is None and self._failure is not None:
                raise _copy(self._failure)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._connection = await self._try_to_connect()
        except (OSError, TimeoutError, ValueError) as error:
            self._pause = min(self._pause * _BACK_OFF_GROWTH, _BACK_OFF_MOST) if self._pause else _BACK_OFF_FIRST
            self._retry_at = loop.time() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
            self._failure = GrpcError(
                GrpcCode.UNAVAILABLE,
                f"failed to connect to all addresses; last error: {self.target}: {_reason(error)}",
                unreachable=True,
            )
        else:
            self._failure, self._pause = None, 0.0
        finally:
            self._connecting = None

    async def _try_to_connect(self) -> ClientConnection:
        loop, options = asyncio.get_running_loop(), self._options
        make = partial(
            ClientConnection,
            max_message_bytes=options.max_message_bytes,
            max_metadata_bytes=options.max_metadata_bytes,
            keepalive_interval=options.keepalive_interval,
            keepalive_timeout=options.keepalive_timeout,
            ended=self._ended,
        )
        async with asyncio.timeout(_CONNECT_SECONDS):
            connect: Any
            if isinstance(self._address, UnixAddress):
                connect = loop.create_unix_connection(make, str(self._address.path))
            elif options.tls is None:
                connect = loop.create_connection(make, self._address.host, self._address.port)
            else:
                context = await self._tls_context(options.tls)
                name = options.tls.server_name or self._address.host
                connect = loop.create_connection(
                    make, self._address.host, self._address.port, ssl=context, server_hostname=name
                )
            _, connection = cast("tuple[object, ClientConnection]", await connect)
            self._connections.add(connection)
            try:
                await asyncio.shield(connection.ready)
            except BaseException:
                connection.cancel_all()
                raise
        if connection.lost:
            raise OSError(connection.problem or "the connection was closed before it was one")
        life = options.life * (1 + random.uniform(-_LIFE_JITTER, _LIFE_JITTER))  # noqa: S311 - jitter
        connection.expires = loop.time() + life
        connection.life = loop.call_later(life, self._expire, connection)
        return connection

    async def _tls_context(self, tls: TlsOptions) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(_context, tls)
        return self._context

    def _expire(self, connection: ClientConnection) -> None:
        """A connection has lived its life."""
        if self._connection is connection:
            self._connection = None
        if not connection.lost:
            connection.retire()

    def _ended(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if self._connection is connection:
            self._connection = None
        if connection.ready.done() and connection.settings_seen and not connection.closed_by_us and self._on_lost:
            self._on_lost()


def _cancelled() -> GrpcError:
    return GrpcError(GrpcCode.CANCELLED, "the call was cancelled")


def _copy(error: GrpcError) -> GrpcError:
    """An exception of its own for each call: one object raised in many places gathers all their tracebacks."""
    return GrpcError(error.code, error.message, unreachable=error.unreachable)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_SECONDS:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror | ssl.SSLError):
        return os.strerror(error.errno).lower()  # asyncio's own text differs from one event loop to another
    return str(error) or type(error).__name__


def _context(tls: TlsOptions) -> ssl.SSLContext:
    """Blocks. Raises `OSError` and `ValueError` for certificates that are none."""
    roots = tls.root_certificates.decode("ascii") if tls.root_certificates else None
    context = ssl.create_default_context(cadata=roots)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if tls.certificate_chain and tls.private_key:
        # OpenSSL reads them from files alone; these are this user's, and gone at once.
        with tempfile.TemporaryDirectory() as folder:
            chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
            chain.write_bytes(tls.certificate_chain)
            key.touch(0o600)
            key.write_bytes(tls.private_key)
            context.load_cert_chain(chain, key)
    return context
