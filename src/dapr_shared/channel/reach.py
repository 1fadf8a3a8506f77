"""Whether a port accepts TCP connections, asked as cheaply as possible.

Beside both roads: absent apps are asked again and again (`watch.py`), so a refused connect must cost microseconds.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from weakref import WeakKeyDictionary

_RESOLVING_AT_ONCE = 2
"""Names resolved at a time for probes: the loop's few resolver threads are for calls."""

_resolving: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def accepts_tcp(host: str, port: int, timeout: float) -> bool:  # noqa: ASYNC109 - the promise is an answer in time
    """Whether `host:port` accepts a TCP connection within `timeout` seconds. Never raises but for cancellation.

    The connection is closed at once; nothing is sent. All addresses of a name are tried in turn.
    """
    literal = _literal(host)
    connection: socket.socket | None = None
    try:
        if literal is not None:
            # The kernel refuses on loopback at once: no timer and no turn of the loop for the usual absent app.
            connection, connected = _begin(literal, (host, port))
            if connected:
                return True
        async with asyncio.timeout(timeout):
            if connection is not None:
                await asyncio.get_running_loop().sock_connect(connection, (host, port))
                return True
            return await _any_accepts(host, port)
    except (OSError, TimeoutError, UnicodeError):
        return False
    finally:
        if connection is not None:
            connection.close()


def _literal(host: str) -> socket.AddressFamily | None:
    """The family of a literal address; `None` for a name."""
    try:
        return socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    except ValueError:
        return None


def _begin(family: socket.AddressFamily, address: tuple[object, ...]) -> tuple[socket.socket, bool]:
    """A socket that connects, and whether it has done so already. Raises `OSError`."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        connection.connect(address)
    except BlockingIOError:
        return connection, False
    except BaseException:
        connection.close()
        raise
    return connection, True


async def _any_accepts(host: str, port: int) -> bool:
    """Whether one of a name's addresses does. Raises `OSError` for a name without any."""
    loop = asyncio.get_running_loop()
    resolving = _resolving.setdefault(loop, asyncio.Semaphore(_RESOLVING_AT_ONCE))
    async with resolving:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, address in found:
        try:
            connection, connected = _begin(family, address)
        except OSError:
            continue
        try:
            if not connected:
                await loop.sock_connect(connection, address)
            return True
        except OSError:
            continue
        finally:
            connection.close()
    return False
