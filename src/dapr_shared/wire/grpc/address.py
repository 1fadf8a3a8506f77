"""Addresses of gRPC servers: what they mean, and binding them so that a busy one is an error.

First step of the request road, at start only. grpc answers a port that it cannot bind with a `RuntimeError` without a
reason, binds what it can of a name with several addresses, and takes over the file of a Unix socket that another
server still serves; here each of these is an `OSError` that names the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

AddPort: TypeAlias = Callable[[str], int]
"""`add_insecure_port` of a grpc server: returns the port bound."""

_SOCKET_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """`host:port`; an IPv6 host in brackets when written."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """`unix:path`."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse(address: str) -> TcpAddress | UnixAddress:
    """Read `host:port`, `[ipv6]:port`, `:port` (all interfaces) or `unix:path`. Raises `ValueError`."""
    scheme, _, path = address.partition("unix:")
    if not scheme and path:
        return UnixAddress(Path(path.removeprefix("//")))
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError(f"{address!r} is no gRPC address: expected host:port or unix:path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} is no gRPC address: write an IPv6 host in brackets")
    return TcpAddress(host or "::", int(port))


async def resolve(address: TcpAddress) -> list[TcpAddress]:
    """The literal addresses of `address`, IPv4 first. Raises `OSError` for an unknown name."""
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    hosts = dict.fromkeys(str(info[4][0]) for info in found)
    return [TcpAddress(host, address.port) for host in hosts]


def bind_tcp(add_port: AddPort, addresses: list[TcpAddress]) -> int:
    """Bind all of `addresses` to one port; port 0 takes a free one.

    An address that this machine does not have is skipped while another is bound (`localhost` has an IPv6 address also
    where IPv6 is off). Raises `OSError`.
    """
    port = 0
    missing: OSError | None = None
    for address in addresses:
        wanted = TcpAddress(address.host, port or address.port)
        try:
            port = _bind(add_port, wanted)
        except OSError as exc:
            if exc.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            missing = exc
    if not port:
        raise missing or OSError(errno.EADDRNOTAVAIL, "no address to listen on")
    return port


def bind_unix(add_port: AddPort, address: UnixAddress) -> None:
    """Bind a Unix socket that only this user can reach. Raises `OSError`."""
    _refuse_taken(address)
    # The umask keeps others out from the first moment on; the mode bits it leaves are set right after. It belongs to
    # the whole process, so it is one that does no harm to a directory that another thread makes meanwhile.
    before = os.umask(0o077)
    try:
        if not _try(add_port, str(address)):
            raise _reason(address)
    finally:
        os.umask(before)
    address.path.chmod(_SOCKET_MODE)


def _bind(add_port: AddPort, address: TcpAddress) -> int:
    port = _try(add_port, str(address))
    if not port:
        raise _reason(address)
    return port


def _try(add_port: AddPort, address: str) -> int:
    try:
        return add_port(address)
    except RuntimeError:
        return 0


def _refuse_taken(address: UnixAddress) -> None:
    """Raise `OSError` for a path that is no socket or whose server is alive; a dead one's file may be replaced."""
    try:
        mode = address.path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the file is there and is no socket", str(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            probe.connect(str(address.path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:
            pass  # its queue is full: alive
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(address))


def _reason(address: TcpAddress | UnixAddress) -> OSError:
    """Why grpc, which does not say, could not bind: the operating system's answer to the same question."""
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(address, UnixAddress):
                probe = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                probe.bind(str(address.path))
                address.path.unlink()
            else:
                family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
                probe = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address.host, address.port))
                probe.listen(1)
        except OSError as exc:
            return OSError(exc.errno or errno.EADDRINUSE, exc.strerror or str(exc), str(address))
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(address))
