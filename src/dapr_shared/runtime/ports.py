"""Who holds a port: the answer to the most frequent start error.

Assembly of the front doors. Reads /proc on Linux; elsewhere it knows only that the port is taken.
"""

from __future__ import annotations

import errno
from pathlib import Path

_LISTEN = "0A"


class PortTakenError(Exception):
    """A listener could not be bound. The message says by whom, and which flag changes the port."""


def port_taken(address: str, flag: str, error: OSError) -> PortTakenError:
    """The error for a listener that could not be bound."""
    port = address.rpartition(":")[2]
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(int(port)) if port.isdigit() else None
        by = f" by {holder}" if holder else ""
        return PortTakenError(f"{address} is taken{by}: end that process, or choose another port with {flag}")
    if error.errno == errno.EACCES:
        return PortTakenError(f"{address} may not be bound by this user: choose a port above 1023 with {flag}")
    return PortTakenError(f"{address} cannot be bound ({error.strerror or error}): see {flag}")


def holder_of(port: int) -> str | None:
    """`name (process id)` of the process that listens on a TCP port; `None` when that cannot be found out."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                target = str(descriptor.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    name = (process / "comm").read_text().strip()
                    return f"{name} (process {process.name})"
        except OSError:  # another user's process, or one that has just ended
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def joined(address: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs."""
    host = address.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
