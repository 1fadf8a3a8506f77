"""The thread that carries what apps print to the console and to their log files.

Beside both roads; in the keeper's process. A thread of its own, because a console may be slow or stand still: apps then
wait as they would on the console itself, and the keeper's first thread still does what it is told.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dapr_shared.runtime.app_output import OWN_NAME, Lines, prefix, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

_CHUNK = 64 * 1024
_MOST_BEFORE_NOTE = 16
"""Chunks of an app's last output that are read before the note on its end is written."""


@dataclass(slots=True)
class Source:
    """One thing that prints: an app, or the instance with its log."""

    pipe: int
    """Reading end, not blocking."""
    prefix: bytes
    """Empty: lines are passed on as they are."""
    to_console: bool = True
    file: FileIO | None = None
    """Gets what the app prints as it is."""
    lines: Lines = field(default_factory=Lines)


class Relay:
    """Reads all sources until each has ended."""

    def __init__(self, console: int, *, coloured: bool, on_console_gone: Callable[[], None]) -> None:
        """`on_console_gone` is called once, from the thread, when nobody can read the console any more."""
        self._console = console
        self._coloured = coloured
        self._on_console_gone = on_console_gone
        self._console_open = True
        self._own = prefix(OWN_NAME, None, coloured=coloured)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._waiting: deque[tuple[Source | None, str] | None] = deque()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self, sources: list[Source]) -> None:
        """Begin with these sources."""
        for source in sources:
            os.set_blocking(source.pipe, False)
            self._selector.register(source.pipe, selectors.EVENT_READ, source)
        self._thread.start()

    def say(self, text: str, *, after: Source | None = None) -> None:
        """Write a line of our own, behind what `after` has printed until now. From any thread."""
        self._waiting.append((after, text))
        self._wake()

    def finish(self, timeout: float) -> None:
        """Write what is there and end; what still runs and prints is not read any more."""
        self._waiting.append(None)
        self._wake()
        self._thread.join(timeout)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is awake
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._read(key.data)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            while self._waiting:
                note = self._waiting.popleft()
                if note is None:
                    self._read_the_rest()
                    return
                source, text = note
                if source is not None:
                    self._drain(source)
                self._write(self._own + shown(text.encode(), coloured=self._coloured) + b"\n")

    def _read(self, source: Source) -> bool:
        """Read once; false where nothing is there now, or nothing will come any more."""
        if source.pipe < 0:
            return False
        try:
            data = os.read(source.pipe, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(source.pipe)
            os.close(source.pipe)
            source.pipe = -1
            self._show(source, source.lines.end())
            self._close_file(source)
            return False
        self._keep(source, data)
        self._show(source, source.lines.feed(data))
        return True

    def _drain(self, source: Source) -> None:
        for _ in range(_MOST_BEFORE_NOTE):
            if not self._read(source):
                break
        self._show(source, source.lines.end())

    def _read_the_rest(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._drain(key.data)
                self._close_file(key.data)

    def _show(self, source: Source, lines: list[bytes]) -> None:
        if not source.to_console or not lines:
            return
        if source.prefix:
            lines = [source.prefix + shown(line, coloured=self._coloured) for line in lines]
        self._write(b"".join(line + b"\n" for line in lines))

    def _keep(self, source: Source, data: bytes) -> None:
        if source.file is None:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[source.file.write(rest) or 0 :]
        except OSError as error:
            self.say(f"{source.file.name!s} cannot be written any more: {error.strerror}")
            self._close_file(source)

    def _close_file(self, source: Source) -> None:
        if source.file is not None:
            source.file.close()
            source.file = None

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and self._console_open:
            try:
                rest = rest[os.write(self._console, rest) :]
            except BlockingIOError:  # somebody else has made it so
                select.select([], [self._console], [], 1.0)
            except OSError:
                self._console_open = False
                self._on_console_gone()
