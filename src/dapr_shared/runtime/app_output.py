"""What apps print, made fit for one console: whole lines, each behind the name of its app.

Beside both roads. Used in the keeper's process (`runtime/app_keeper.py`), so it imports the standard library alone.
"""

from __future__ import annotations

import re

LONGEST_LINE = 16 * 1024
"""Bytes; a longer line is shown in pieces of this size."""
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
"""Of the apps, in order and again from the start: the numbers of ANSI foreground colours."""
OWN_NAME = "dapr-shared"
_LINE_ENDS = re.compile(rb"\r\n|\n|\r")
_NOT_FOR_A_CONSOLE = re.compile("\x1b\\[[0-9;:]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = re.compile(rb"[\t\x20-\x7e]*")


class Lines:
    """Cuts what one app prints into lines, however it comes. Holds at most one piece of `LONGEST_LINE`."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_return = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends. A carriage return alone ends one too."""
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
        if not data:
            return []
        self._after_return = data.endswith(b"\r")
        *whole, rest = _LINE_ENDS.split(self._rest + data)
        lines = [piece for line in whole for piece in _pieces(line)]
        *pieces, self._rest = _pieces(rest)
        return lines + pieces

    def end(self) -> list[bytes]:
        """The last line, where it has no end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    """The line, or what it is cut into; no character of UTF-8 is torn."""
    pieces: list[bytes] = []
    while len(line) > LONGEST_LINE:
        cut = LONGEST_LINE
        while cut > LONGEST_LINE - 4 and line[cut] & 0xC0 == 0x80:
            cut -= 1
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


def prefix(name: str, number: int | None, *, coloured: bool) -> bytes:
    """What stands before each line of an app (`number`: which one, for its colour), or of the run itself (`None`)."""
    text = f"== {name} ==" if number is None else f"== APP - {name} =="
    if coloured:
        colour = 1 if number is None else COLOURS[number % len(COLOURS)]
        text = f"\x1b[{colour}m{text}\x1b[0m"
    return f"{text} ".encode()


def shown(line: bytes, *, coloured: bool) -> bytes:
    """A line as a console may have it: UTF-8, and of control sequences only colours, where there are colours at all."""
    if _PLAIN.fullmatch(line):
        return line
    text = line.decode("utf-8", "backslashreplace")
    found = _NOT_FOR_A_CONSOLE.sub(lambda match: _replaced(match[0], coloured=coloured), text)
    if coloured and "\x1b[" in found:
        found += "\x1b[0m"  # a colour ends with its line
    return found.encode("utf-8", "backslashreplace")


def _replaced(sequence: str, *, coloured: bool) -> str:
    if len(sequence) > 1:
        return sequence if coloured else ""
    return f"\\x{ord(sequence):02x}"
