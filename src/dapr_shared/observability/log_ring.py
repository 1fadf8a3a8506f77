"""The last lines of the log, kept in memory for operators (`dapr-shared logs`).

Beside both roads: a step of `logs.py`, after secrets and controls are gone. Lines may come from any thread; they are
read on the event loop. Two bounds, lines and bytes: what is older goes first, and a reader who is too slow is told how
many lines it has missed.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

MOST_LINES = 2000
"""Lines that are kept."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes that the kept lines have in all."""
LEVEL_RANKS = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "fatal": 4}
"""Levels in order, by the names that a log line or a flag has."""


class LogLine(NamedTuple):
    """One line."""

    number: int
    """Counts up from 1 for each line of the process."""
    rank: int
    """See `LEVEL_RANKS`."""
    app_id: str
    data: bytes
    """The line as a JSON object: `time`, `level`, `msg`, `scope`, `app_id` and its own fields."""


class LogRing:
    """The kept lines. A structlog processor: put it after `make_safe` and before the renderer."""

    def __init__(self, *, lines: int = MOST_LINES, size: int = MOST_BYTES) -> None:
        self._lines: deque[LogLine] = deque()
        self._most_lines = lines
        self._most_bytes = size
        self._bytes = 0
        self._number = 0
        self._lock = threading.Lock()
        self._waiting: set[Callable[[], None]] = set()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Keep a copy of the line and hand it on."""
        line = {name: value for name, value in event.items() if name != "event"}
        line["msg"] = event.get("event", "")
        data = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
        level, app_id = str(event.get("level", "")), str(event.get("app_id", ""))
        with self._lock:
            self._number += 1
            self._lines.append(LogLine(self._number, LEVEL_RANKS.get(level, 1), app_id, data))
            self._bytes += len(data)
            while len(self._lines) > self._most_lines or (self._bytes > self._most_bytes and len(self._lines) > 1):
                self._bytes -= len(self._lines.popleft().data)
            waiting = list(self._waiting)
        for wake in waiting:
            wake()
        return event

    @property
    def newest(self) -> int:
        """Number of the newest line; 0 before the first."""
        return self._number

    def after(self, number: int) -> tuple[int, list[LogLine]]:
        """The lines after that number, oldest first, and how many of them are no longer kept."""
        with self._lock:
            lines = [line for line in self._lines if line.number > number]
            oldest = self._lines[0].number if self._lines else self._number + 1
        return max(0, oldest - number - 1), lines

    def on_line(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after each line, in the thread that wrote it; the answer ends that."""
        with self._lock:
            self._waiting.add(wake)

        def end() -> None:
            with self._lock:
                self._waiting.discard(wake)

        return end
