"""`lock.sqlite`: locks in one file, ours.

Last step of the request road. For a laptop or a single node: every process that uses the file must run on the machine
that has the disk. One row a lock; taking and freeing are one transaction each, so that of many processes exactly one
gets it. A lock outlives a killed process, and with `synchronous: full` lost power, until it expires.

Expiry goes by the time of day, which processes share and a restart keeps: where it is set back, locks last longer by as
much. Expired rows are removed by whoever takes a lock next.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dapr_shared.components.sqlite.own_file import Layout, OwnFileSettings
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import LockStore, TryLockRequest, UnlockRequest, UnlockStatus

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from dapr_shared.components.sqlite.cursor import Cursor
    from dapr_shared.components.sqlite.database import Database

LAYOUT = Layout(
    "lock.sqlite",
    0x44504C31,
    (
        """
        CREATE TABLE locks (resource TEXT PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE INDEX locks_by_expiry ON locks (expires);
        """,
    ),
    frozenset({"locks"}),
)
SWEEP = 100
"""Expired locks that taking one removes at most."""


class SqliteLockSettings(OwnFileSettings, frozen=True, kw_only=True):
    """The settings of `lock.sqlite`."""


class SqliteLockStore(LockStore[SqliteLockSettings]):
    """Locks in a SQLite file."""

    settings_type = SqliteLockSettings

    _database: Database | None = None

    def data_location(self) -> str | None:
        return self.settings.place

    async def start(self, stack: AsyncExitStack) -> None:
        self._database = await LAYOUT.open(self.settings, stack)

    async def ping(self) -> None:
        await self._open().read(_ping)

    async def try_lock(self, request: TryLockRequest) -> bool:
        _check(request.resource, request.owner)
        return await self._open().write(partial(_try_lock, request, self._now()), atomic=True)

    async def unlock(self, request: UnlockRequest) -> UnlockStatus:
        _check(request.resource, request.owner)
        return await self._open().write(partial(_unlock, request, self._now()), atomic=True)

    def _now(self) -> int:
        return int(self.context.clock.now().timestamp() * 1000)

    def _open(self) -> Database:
        if self._database is None:
            raise BackendError(f"lock store {self.context.name} is not open")
        return self._database


def _check(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BackendError("the resource or the owner is not valid Unicode") from error


def _try_lock(request: TryLockRequest, now: int, cursor: Cursor) -> bool:
    cursor.execute(
        "DELETE FROM locks WHERE resource IN (SELECT resource FROM locks WHERE expires <= ? LIMIT ?)", (now, SWEEP)
    )
    cursor.execute(
        "INSERT INTO locks VALUES (?1, ?2, ?3) ON CONFLICT (resource) DO UPDATE SET owner = ?2, expires = ?3 "
        "WHERE expires <= ?4",
        (request.resource, request.owner, now + request.expiry * 1000, now),
    )
    return cursor.connection.changes() > 0


def _unlock(request: UnlockRequest, now: int, cursor: Cursor) -> UnlockStatus:
    row = cursor.execute(
        "SELECT owner FROM locks WHERE resource = ? AND expires > ?", (request.resource, now)
    ).fetchone()
    if row is None:
        return UnlockStatus.LOCK_DOES_NOT_EXIST
    if row[0] != request.owner:
        return UnlockStatus.LOCK_BELONGS_TO_OTHERS
    cursor.execute("DELETE FROM locks WHERE resource = ?", (request.resource,))
    return UnlockStatus.SUCCESS


def _ping(cursor: Cursor) -> None:
    cursor.execute("SELECT 1 FROM locks LIMIT 1").fetchall()
