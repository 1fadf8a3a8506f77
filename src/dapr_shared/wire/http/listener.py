"""Listening sockets: TCP addresses and Unix socket files.

First step of the request road: where an address of the settings becomes a socket. A busy address is an error at once.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us while we are busy."""

_UNIX: Final = "unix:"


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`. Raises `ValueError`."""
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} is not an address: write an IPv6 address as [host]:port")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not an address: use host:port, [host]:port or unix:/path")
    return host, int(port)


async def open_listener(loop: asyncio.AbstractEventLoop, address: str, *, reuse_port: bool = False) -> socket.socket:
    """Bind and listen on `host:port`, `[v6]:port` or `unix:/path`.

    A name that resolves to several addresses is bound at one, IPv4 first, as Go does. A Unix socket gets mode 0600
    before anybody can connect; a stale file of an ended process is replaced. Raises `OSError` (a live Unix socket, a
    busy port) and `ValueError` (not an address).
    """
    if address.startswith(_UNIX):
        return _listen_unix(address.removeprefix(_UNIX))
    host, port = split_address(address)
    if not host:
        return _listen_everywhere(port, reuse_port=reuse_port)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return _listen_tcp(found[0][0], found[0][4], reuse_port=reuse_port)


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket as `open_listener` reads it, with its real port."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{_UNIX}{name}"
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def remove_socket_file(path: str, inode: int) -> None:
    """Remove a Unix socket's file unless another process has replaced it."""
    try:
        if Path(path).stat().st_ino == inode:
            Path(path).unlink()
    except FileNotFoundError:
        pass


def _listen_tcp(family: int, where: tuple[object, ...], *, reuse_port: bool, both: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_everywhere(port: int, *, reuse_port: bool) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return _listen_tcp(socket.AF_INET6, ("::", port), reuse_port=reuse_port, both=True)
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
    return _listen_tcp(socket.AF_INET, ("0.0.0.0", port), reuse_port=reuse_port)  # noqa: S104 - asked for by an empty host


def _listen_unix(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        Path(path).chmod(0o600)  # before listen(): nobody can have connected
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket file of a process that has ended. Raises `OSError` when it is live or no socket."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "exists and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)
