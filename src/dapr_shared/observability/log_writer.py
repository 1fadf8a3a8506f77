"""Writes log lines from a thread of its own, so that a slow terminal, pipe or disk never stops the event loop.

Beside both roads. The queue is bounded: what finds it full is dropped and counted, and a line says so once there is
room again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_LINES = 10_000
"""Lines that may wait to be written."""

QUEUE_BYTES = 16 * 1024 * 1024
"""Bytes that may wait to be written."""

_FULL_PIPE_PAUSE = 0.01


class ByteStream(Protocol):
    """What is written to: a file without a buffer of its own, or a `BytesIO`."""

    def write(self, data: memoryview, /) -> int | None:
        """Write some of it; how many bytes, or `None` for none at the moment."""
        ...


class LogWriter:
    """The sink of all loggers of one process. `write` may be called from any thread."""

    def __init__(
        self,
        stream: ByteStream,
        dropped_line: Callable[[int], bytes],
        *,
        lines: int = QUEUE_LINES,
        size: int = QUEUE_BYTES,
    ) -> None:
        self._stream = stream
        self._dropped_line = dropped_line
        """Makes the line that says how many were dropped; called in the writing thread."""
        self._most_lines = lines
        self._most_bytes = size
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._unreported = 0
        self._closing = False
        self._changed = threading.Condition()
        self.dropped = 0
        """Lines dropped since the start."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, without its line end; dropped when the queue is full or closed."""
        with self._changed:
            full = len(self._waiting) >= self._most_lines or self._waiting_bytes + len(line) > self._most_bytes
            if full or self._closing:
                self.dropped += 1
                self._unreported += 1
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds; later lines are dropped. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                lines = list(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
                unreported, self._unreported = self._unreported, 0
            if unreported:
                lines.append(self._dropped_line(unreported))
            try:
                self._write_all(b"\n".join(lines) + b"\n")
            except (OSError, ValueError):
                # Nobody reads (a closed pipe, a full disk): the instance goes on without a log.
                with self._changed:
                    self.dropped += len(lines) - bool(unreported)
                    self._unreported += len(lines) - bool(unreported) + unreported

    def _write_all(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            written = self._stream.write(rest)
            if written is None:  # a pipe that does not block and is full
                time.sleep(_FULL_PIPE_PAUSE)
            else:
                rest = rest[written:]
