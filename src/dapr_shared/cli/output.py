"""Rows on the screen: tables that fit a terminal, plain columns into a pipe, JSON and YAML for programs.

A terminal gets the columns that fit: of those that do not, the least important ones are left out and named below. A pipe
gets every column, aligned, without colours. Widths count cells, so that wide characters keep the columns straight.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence  # noqa: TC003 - part of a public data class
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dapr_shared.observability.log_safety import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_GAP = 2
_HINTS = {
    "ok": "green", "active": "green", "yes": "green", "paused": "yellow", "warning": "yellow", "failing": "red",
    "failed": "red", "no": "red", "error": "bold red",
}  # fmt: skip

R = TypeVar("R")


class Format(StrEnum):
    """How a command writes what it found."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column of a table."""

    title: str
    cell: Callable[[R], str]
    rank: int = 0
    """Columns of a higher rank are left out first; 0: never."""
    least: int = 8
    """Cells that it needs to say anything, where its text is longer."""
    right: bool = False


def console(stream: Any = None) -> Console:
    """The console of standard output, or of another stream. `NO_COLOR` and `COLUMNS` count."""
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)


def write(text: str) -> None:
    """Write to standard output and have it written now, so that a closed pipe is noticed here."""
    sys.stdout.write(text)
    sys.stdout.flush()


def as_text(data: Any, form: Format, *, compact: bool = False) -> str:
    """JSON or YAML of rows, for programs."""
    plain = msgspec.to_builtins(data)
    if form is Format.YAML:
        import yaml  # noqa: PLC0415 - only for this form

        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    encoded = msgspec.json.encode(plain)
    return (encoded if compact else msgspec.json.format(encoded, indent=2)).decode() + "\n"


def say(sentence: str, data: Any, form: Format) -> None:
    """Write what was done: a sentence for people, or the same as data."""
    write(f"{sentence}\n" if form is Format.TABLE else as_text(data, form))


def show(rows: Sequence[R], columns: Sequence[Column[R]], form: Format, *, nothing: str) -> None:
    """Write rows in a form; `nothing` is said in place of an empty table."""
    if form is not Format.TABLE:
        write(as_text(rows, form))
    elif not rows:
        write(f"{nothing}\n")
    elif sys.stdout.isatty():
        screen = console()
        screen.print(table(rows, columns, screen.width))
        sys.stdout.flush()
    else:
        write(plain_table(rows, columns))


def table(rows: Sequence[R], columns: Sequence[Column[R]], width: int) -> RenderableType:
    """A table for a terminal of that many cells."""
    cells = [[one_line(column.cell(row)) for column in columns] for row in rows]
    natural = [
        max(cell_len(column.title), *(cell_len(line[index]) for line in cells)) for index, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))

    def needed() -> int:
        least = [min(natural[i], max(columns[i].least, cell_len(columns[i].title))) for i in kept]
        return sum(least) + _GAP * len(kept)

    for index in sorted(kept, key=lambda i: (-columns[i].rank, -i)):
        if needed() <= width or columns[index].rank == 0:
            break
        kept.remove(index)
    # The box has a cell of its own between two columns; it is one of the gap's.
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP - 1, 0, 0), show_edge=False, header_style="bold")
    for i in kept:
        least = min(natural[i], max(columns[i].least, cell_len(columns[i].title)))
        made.add_column(
            columns[i].title, justify="right" if columns[i].right else "left", overflow="fold", min_width=least
        )
    for line in cells:
        made.add_row(*(Text(line[i], style=_HINTS.get(line[i], "")) for i in kept))
    hidden = [column.title for i, column in enumerate(columns) if i not in kept]
    if not hidden:
        return made
    note = f"left out for want of room: {', '.join(hidden).lower()} (a wider terminal, or --output json)"
    return Group(made, Text(note, style="dim"))


def plain_table(rows: Iterable[R], columns: Sequence[Column[R]]) -> str:
    """All columns, aligned, for a pipe or a file."""
    lines = [[column.title for column in columns]]
    lines += [[one_line(column.cell(row)) for column in columns] for row in rows]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]
    text = ""
    for line in lines:
        padded = (
            " " * (width - cell_len(cell)) + cell if column.right else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        text += (" " * _GAP).join(padded).rstrip() + "\n"
    return text


def span(since: datetime | None) -> str:
    """How long ago that was, in one unit."""
    if since is None:
        return ""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def yes_no(value: bool | None) -> str:  # noqa: FBT001 - the value of a cell
    """`yes`, `no`, or `-` where nobody knows."""
    return "-" if value is None else "yes" if value else "no"


def coloured() -> bool:
    """Whether standard output is a terminal that may be coloured."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
