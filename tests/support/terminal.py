"""A command in a pseudo-terminal, as a person has it: of a given width, with what it wrote and its exit code."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

from tests.support.instance import PATIENCE, command, environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from signal import Signals


class Terminal:
    """A running command whose input and output are one terminal."""

    def __init__(
        self, folder: Path, *words: str, width: int = 80, height: int = 40, env: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._fd = ours
        self.text = ""
        """What it has written so far."""
        self.process = subprocess.Popen(
            command(*words),
            cwd=folder,
            env={**environment(folder, env), "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def wait_for(self, words: str) -> None:
        """Read until these words were written."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            if not self._read(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"{words!r} never came:\n{self.text}")

    def end(self, signal: Signals | None = None) -> int:
        """Send a signal, if one is given; read to the end; the exit code."""
        if signal is not None:
            self.process.send_signal(signal)
        deadline = time.monotonic() + PATIENCE
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            os.close(self._fd)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the terminal's other side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def in_terminal(folder: Path, *words: str, width: int = 80, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command to its end in a terminal; its exit code and what it wrote, escape sequences among it."""
    terminal = Terminal(folder, *words, width=width, env=env)
    code = terminal.end()
    return code, terminal.text.replace("\r\n", "\n")
