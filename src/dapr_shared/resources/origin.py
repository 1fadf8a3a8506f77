"""Where a resource was written: file, document and line, for every message about it.

Before both roads: it is made when resources are loaded and only read afterwards.
"""

from __future__ import annotations

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """A place in a YAML file."""

    file: str
    """The path as the user gave it; empty: made by the program, not read from a file."""
    document: int = 1
    """Number of the document in the file, from 1; 0: the file as a whole."""
    line: int = 0
    """Line in the file, from 1; 0: not known."""

    def __str__(self) -> str:
        parts = [self.file or "<made by the program>"]
        if self.document:
            parts.append(f"document {self.document}")
        if self.line:
            parts.append(f"line {self.line}")
        return ", ".join(parts)


NOWHERE = Origin("", 0, 0)
"""The origin of what no file holds: resources of tests, or made from command line flags."""
