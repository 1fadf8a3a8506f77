"""What ends a command: one line for people, and its exit code."""

from __future__ import annotations

FAILED = 1
"""It could not be done, or what was looked at is not right."""
USAGE = 2
"""The words are wrong: nothing was tried."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""Nobody reads what we write: as a shell tells it of a program that a signal ended."""


class CommandError(Exception):
    """Ends a command. The message is one line: what is wrong, and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
