"""The part of apsw that calls to a database use, with its types.

Last step of the request road. apsw's own type stubs name a type that Python 3.11 lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SqlValue = str | bytes | int | float | None


class Cursor(Protocol):
    """The part of `apsw.Cursor` that is used, with its types."""

    def execute(self, statement: str, values: Sequence[SqlValue] = ..., /) -> Cursor:
        """Run a statement; its rows are read from the cursor that is returned."""
        ...

    def executemany(self, statement: str, values: Iterable[Sequence[SqlValue]], /) -> Cursor:
        """Run a statement once for each sequence of values."""
        ...

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        ...

    @property
    def connection(self) -> Connection:
        """The connection of the cursor."""
        ...


class Connection(Protocol):
    """The part of `apsw.Connection` that calls use."""

    def changes(self) -> int:
        """Rows that the last statement changed."""
        ...
