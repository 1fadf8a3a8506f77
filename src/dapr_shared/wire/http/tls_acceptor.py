"""Accepts TLS connections: each gets the context of the moment, and so much time and no more for its handshake.

First step of the request road, before `connection.py`. asyncio's server keeps one context for ever, shakes hands with
any number of peers at once and tells nobody why it failed; so accepting is ours here, the rest is asyncio's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from dapr_shared.wire.http.limits import ServerLimits

Trouble: TypeAlias = str
"""Why a connection came to nothing: `plain_text`, `client_certificate`, `handshake`, `timeout`, `too_many`; on a
listener without TLS `tls`."""

OnTrouble: TypeAlias = Callable[[Trouble, str, str], None]
"""Called with the reason, the peer's address and the problem in words, which may be empty."""

_HANDSHAKE_RECORD: Final = b"\x16"
_ACCEPTED_AT_ONCE: Final = 64
_PAUSE: Final = 0.1
"""Seconds without accepting after the system refused to give us a connection (no file left, for example)."""
_PLAIN_TEXT: Final = b"this port speaks TLS: use https:// in place of http://\n"
_PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_PLAIN_TEXT), _PLAIN_TEXT)
)


def ignore_trouble(reason: Trouble, peer: str, problem: str) -> None:
    """Nobody wants to know."""
    del reason, peer, problem


class TlsAcceptor:
    """Accepts on one listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        context: Callable[[], ssl.SSLContext],
        make: Callable[[], asyncio.Protocol],
        limits: ServerLimits,
        on_trouble: OnTrouble,
    ) -> None:
        """`make` makes the protocol of a connection whose handshake is done."""
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = listener
        self._context = context
        self._make = make
        self._limits = limits
        self._on_trouble = on_trouble
        self._shaking: dict[socket.socket, str] = {}
        """Connections whose handshake is not done, oldest first, with the reason for which each was dropped."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def shaking(self) -> int:
        """Connections whose handshake is not done."""
        return len(self._shaking)

    def start(self) -> None:
        """Begin to accept."""
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; handshakes go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def drop(self) -> None:
        """End the connections whose handshake is not done."""
        for connection in list(self._shaking):
            self._end(connection, "stopped")

    def take(self, connection: socket.socket, peer: object) -> None:
        """Shake hands with an accepted connection. At the bound the oldest unfinished one makes room."""
        connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        if len(self._shaking) >= self._limits.handshakes:
            oldest = next((each for each, reason in self._shaking.items() if not reason), None)
            if oldest is not None:
                self._end(oldest, "too_many")
        self._shaking[connection] = ""
        name = str(peer[0]) if isinstance(peer, tuple) and peer else ""  # pyright: ignore[reportUnknownArgumentType]
        task = self._loop.create_task(self._shake(connection, name), name="TLS handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._listener is None:
                return
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listener.fileno())
                self._loop.call_later(_PAUSE, self.start)
                return
            self.take(connection, peer)

    async def _shake(self, connection: socket.socket, peer: str) -> None:
        started = self._loop.time()
        try:
            first = await self._first_byte(connection)
            if first == b"":
                connection.close()  # a probe of the port
            elif first != _HANDSHAKE_RECORD:
                self._tell(connection, "plain_text", peer, "")
                _answer_plain(connection)
            else:
                left = max(self._limits.header_timeout - (self._loop.time() - started), 0.01)
                # Shielded: uvloop never tells a protocol of the loss of a connection whose opening is cancelled late.
                await asyncio.shield(
                    self._loop.connect_accepted_socket(
                        self._make, connection, ssl=self._context(), ssl_handshake_timeout=left
                    )
                )
        except TimeoutError:
            self._tell(connection, "timeout", peer, "")
            connection.close()
        except (OSError, ssl.CertificateError) as error:  # an SSLError is an OSError
            self._tell(connection, _kind(error), peer, _problem(error))
            connection.close()
        finally:
            self._shaking.pop(connection, None)

    async def _first_byte(self, connection: socket.socket) -> bytes:
        """The first byte, left in the socket for TLS to read; empty where the peer has gone. Raises `TimeoutError`."""
        readable: asyncio.Future[None] = self._loop.create_future()

        def ready() -> None:
            if not readable.done():
                readable.set_result(None)

        self._loop.add_reader(connection.fileno(), ready)
        try:
            async with asyncio.timeout(self._limits.header_timeout):
                await readable
        finally:
            self._loop.remove_reader(connection.fileno())
        return connection.recv(1, socket.MSG_PEEK)

    def _end(self, connection: socket.socket, reason: str) -> None:
        self._shaking[connection] = reason
        # Not closed: the event loop may hold it. An end of the stream ends the handshake.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _tell(self, connection: socket.socket, reason: Trouble, peer: str, problem: str) -> None:
        given = self._shaking.get(connection)
        if given != "stopped":
            self._on_trouble(given or reason, peer, "" if given else problem)


def _answer_plain(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.send(_PLAIN_ANSWER)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # closing with unread bytes would reset the connection over the answer
    connection.close()


def _kind(error: Exception) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "client_certificate"
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "client_certificate"
    if isinstance(error, ConnectionAbortedError) and "handshake" in str(error):
        return "timeout"
    return "handshake"


def _problem(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(error)
