"""The log as operators follow it: lines of the ring, then new ones as they come.

Assembly, beside both roads. A follower holds a place in the ring and no lines: one who is slow misses lines, is told how
many, and costs the instance nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dapr_shared.observability.log_ring import LogLine, LogRing

_PIECE = 64 * 1024


async def stream(ring: LogRing, *, app: str, rank: int, lines: int, follow: bool) -> AsyncGenerator[bytes]:
    """JSON lines: the last `lines` of one app (empty: all) from this level on; with `follow`, new ones without end."""
    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:  # in the thread that wrote the line
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(wanted.set)

    def chosen(found: list[LogLine]) -> list[LogLine]:
        return [line for line in found if line.rank >= rank and (not app or line.app_id == app)]

    end = ring.on_line(wake) if follow else None
    try:
        _, found = ring.after(0)
        seen = found[-1].number if found else 0
        for piece in _pieces([line.data for line in (chosen(found)[-lines:] if lines else [])]):
            yield piece
        while follow:
            await wanted.wait()
            wanted.clear()
            missed, found = ring.after(seen)
            if missed:
                yield orjson.dumps({"level": "warning", "msg": "lines were left out", "count": missed}) + b"\n"
            if found:
                seen = found[-1].number
            for piece in _pieces([line.data for line in chosen(found)]):
                yield piece
    finally:
        if end is not None:
            end()


def _pieces(lines: list[bytes]) -> list[bytes]:
    """The lines, joined to pieces of about 64 KiB."""
    pieces: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for line in lines:
        part += (line, b"\n")
        size += len(line)
        if size >= _PIECE:
            pieces.append(b"".join(part))
            part, size = [], 0
    return [*pieces, b"".join(part)] if part else pieces
