"""Free ports of loopback for the servers of tests."""

from __future__ import annotations

import contextlib
import random
import socket

_PORTS = range(20_000, 32_768)
"""Below those that systems give to outgoing connections: one of these would be taken before its user listens."""
_RANDOM = random.SystemRandom()
"""Test processes that run side by side choose differently, whatever seeds they set."""


def free_ports(count: int) -> list[int]:
    """Different ports of loopback that nobody listens on now, and that no connection of others takes meanwhile."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = _RANDOM.choice(_PORTS)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]
