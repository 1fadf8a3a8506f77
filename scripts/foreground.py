"""Run a command as the terminal's foreground job, so that Ctrl-C reaches it and not the `make` that started it.

    python scripts/foreground.py COMMAND [ARGUMENT …]

GNU make ends itself by the signal when Ctrl-C reaches it, and its exit code is then never 0, however cleanly the
command ended. So the command gets a process group of its own, which is the terminal's foreground group while it runs.
Signals that reach this process (a `kill`, a terminal that closes) are passed on once. Standard library only.
The exit code is the command's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_EVENT = 1.0
"""Seconds in which signals are one: `kill` of a group reaches this process directly and through make."""


def main(words: list[str]) -> int:
    """Run the command; its exit code, or 128 and the number of the signal that ended it."""
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # inherited: make would not see that its job stopped
    pending: list[int] = []
    for number in PASSED_ON:
        signal.signal(number, lambda received, frame: pending.append(received))  # noqa: ARG005 - a handler's arguments
    process = subprocess.Popen(words, process_group=0)
    last = -ONE_EVENT

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal last
        del frame
        now = time.monotonic()
        if now - last >= ONE_EVENT:
            last = now
            process.send_signal(number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    for number in pending[:1]:
        pass_on(number, None)
    with _foreground(process.pid):
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _foreground(group: int) -> Generator[None]:
    """Give the terminal to a process group, where there is one and it is ours to give."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        ours = os.getpgrp()
        if os.tcgetpgrp(terminal) != ours:  # a background job
            yield
            return
        _hand_over(terminal, group)
        try:
            yield
        finally:
            _hand_over(terminal, ours)
    finally:
        os.close(terminal)


def _hand_over(terminal: int, group: int) -> None:
    # From a background group the call would stop this process by SIGTTOU.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):  # the group has ended, or the terminal is gone
            os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
