"""Whether a port accepts TCP connections, asked as cheaply as possible.

Beside both roads: absent apps are asked again and again (`watch.py`).
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
    try:
        async with asyncio.timeout(timeout):
            for family, address in await _addresses(host, port):
                if await _connects(family, address):
                    return True
    except (OSError, TimeoutError, UnicodeError):
        return False
    return False


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Family and socket address of each address; a literal one needs no resolver."""
    try:
        version = ip_address(host).version
    except ValueError:
        pass
    else:
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    loop = asyncio.get_running_loop()
    resolving = _resolving.setdefault(loop, asyncio.Semaphore(_RESOLVING_AT_ONCE))
    async with resolving:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _connects(family: int, address: tuple[object, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
            await asyncio.get_running_loop().sock_connect(connection, address)
    except OSError:
        return False
    return True
