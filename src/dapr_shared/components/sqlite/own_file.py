"""What the component types share that keep a file of their own layout: its settings, its version, opening it.

Last step of the request road. The version is SQLite's `user_version`, the type its `application_id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from dapr_shared.components.sqlite.database import Database, DatabaseOptions
from dapr_shared.components.sqlite.location import parse_location
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from dapr_shared.components.sqlite.cursor import Cursor


class OwnFileSettings(Settings, frozen=True, kw_only=True):
    """The settings of every type that keeps a file of its own."""

    connection_string: Annotated[
        str,
        Setting(
            "Path of the file, on a disk of this machine; it belongs to this component type alone.",
            aliases=("url",),
            example="data/shared.db",
        ),
    ]
    timeout: Annotated[
        float, Setting("How long a call may take.", Kind.DURATION, unit="seconds", minimum=1, example="20s")
    ] = 20.0
    busy_timeout: Annotated[
        float,
        Setting(
            "How long to wait for another process's lock; 0: not at all.", Kind.DURATION, unit="seconds", example="2s"
        ),
    ] = 2.0
    synchronous: Annotated[
        Literal["full", "normal"],
        Setting(
            "full: what is written survives a killed process and lost power. normal: lost power may take the last "
            "writes, and writing costs less; a killed process takes none in either.",
            choices=("full", "normal"),
        ),
    ] = "full"
    exclusive: Annotated[
        bool,
        Setting("Refuse a file that another instance holds in the same way (by a lock on <file>.lock).", Kind.BOOLEAN),
    ] = False

    def __post_init__(self) -> None:
        """Check what no single annotation says. Raises `SettingError`."""
        location = parse_location(self.connection_string)
        if location.path is None or location.read_only:
            raise SettingError("connectionString", "must name a file that may be written")

    @property
    def file(self) -> Path:
        """The file."""
        path = parse_location(self.connection_string).path
        if path is None:  # `__post_init__` has seen to it
            raise SettingError("connectionString", "must name a file that may be written")
        return path

    @property
    def place(self) -> str:
        """The answer of `Component.data_location`."""
        return f"sqlite:{self.file.resolve()}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one type's file."""

    type: str
    application: int
    """SQLite's `application_id` of these files."""
    steps: tuple[str, ...]
    """`steps[n]` leads from version n to n + 1."""
    tables: frozenset[str]

    @property
    def version(self) -> int:
        """The version that this code reads and writes."""
        return len(self.steps)

    async def open(self, settings: OwnFileSettings, stack: AsyncExitStack) -> Database:
        """Open the file, made and brought to this version where needed. Raises `BackendError`; then it is as it was."""
        database = Database(
            DatabaseOptions(
                location=parse_location(settings.connection_string),
                timeout=settings.timeout,
                busy_timeout=settings.busy_timeout,
                synchronous=settings.synchronous,
                exclusive=settings.exclusive,
            ),
        )
        await database.start(stack, migrate=self._migrate, check=self._check)
        return database

    def _migrate(self, cursor: Cursor) -> None:
        """In one transaction."""
        version = self._checked_version(cursor)
        for step in self.steps[version:]:
            cursor.execute(step).fetchall()
        if version != self.version:
            cursor.execute(f"PRAGMA application_id = {self.application}")
            cursor.execute(f"PRAGMA user_version = {self.version}")

    def _check(self, cursor: Cursor) -> None:
        self._checked_version(cursor)
        missing = self.tables - _tables(cursor)
        if missing:
            raise BackendError(f"the file is not whole: it has no table {', '.join(sorted(missing))}; restore a backup")

    def _checked_version(self, cursor: Cursor) -> int:
        application = _number(cursor, "PRAGMA application_id")
        version = _number(cursor, "PRAGMA user_version")
        if application != self.application and (application or version or _tables(cursor)):
            raise BackendError(f"the file is used by something else: give {self.type} a file of its own")
        if version > self.version:
            raise BackendError(
                f"the file was written by a newer dapr-shared (layout {version}, this one knows {self.version}): "
                "upgrade this one, or give it another file",
            )
        return version


def _tables(cursor: Cursor) -> set[str]:
    rows = cursor.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    return {str(row[0]) for row in rows}


def _number(cursor: Cursor, statement: str) -> int:
    row = cursor.execute(statement).fetchone()
    return 0 if row is None else int(row[0])
