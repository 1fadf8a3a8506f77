"""How heads, bodies and chunks are handed to the transport.

Belongs to the wire, on both roads. `writelines` is not used: asyncio's own of Python 3.12.0 to 3.12.8, 3.13.0 and
3.13.1 never pauses the writer (CVE-2024-12254), so that a slow reader fills the memory. uvloop gathers several
`write` of one turn of the loop into one system call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import WriteTransport

JOIN_LIMIT: Final = 16 * 1024
"""Bytes. What is up to this long goes out in one piece with its frame; joining longer ones costs more than it saves."""


def write_whole(transport: WriteTransport, head: bytes, body: bytes) -> None:
    """Write a head and its whole body, which may be empty."""
    if len(body) <= JOIN_LIMIT:
        transport.write(head + body if body else head)
    else:
        transport.write(head)
        transport.write(body)


def write_chunk(transport: WriteTransport, piece: bytes) -> None:
    """Write a piece, not an empty one, in the chunked coding (RFC 9112 §7.1)."""
    if len(piece) <= JOIN_LIMIT:
        transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    else:
        transport.write(b"%x\r\n" % len(piece))
        transport.write(piece)
        transport.write(b"\r\n")
