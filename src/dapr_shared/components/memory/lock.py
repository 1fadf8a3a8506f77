"""`lock.in-memory`: locks in this process, gone when it ends.

Last step of the request road. Waiting times go by a clock that is never set. An expired lock is free at once and is
removed when it is next asked for, or when there are too many.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import LockStore, TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.contracts.settings import Kind, Setting, Settings

if TYPE_CHECKING:
    from contextlib import AsyncExitStack


class MemoryLockSettings(Settings, frozen=True, kw_only=True):
    """The settings of `lock.in-memory`."""

    max_locks: Annotated[
        int,
        Setting("Most locks that are held at a time; a further one is refused with an error.", Kind.INTEGER, minimum=1),
    ] = 100_000


class _Lock(NamedTuple):
    owner: str
    expires: float


class MemoryLockStore(LockStore[MemoryLockSettings]):
    """A dictionary with leases."""

    settings_type = MemoryLockSettings

    _locks: dict[str, _Lock] | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return None

    async def start(self, stack: AsyncExitStack) -> None:
        self._locks = {}
        stack.callback(self._forget)

    async def try_lock(self, request: TryLockRequest) -> bool:
        locks, now = self._open(), self.context.clock.monotonic()
        held = locks.get(request.resource)
        if held is not None and held.expires > now:
            return False
        if len(locks) >= self.settings.max_locks:
            for resource in [resource for resource, lock in locks.items() if lock.expires <= now]:
                del locks[resource]
            if len(locks) >= self.settings.max_locks:
                raise BackendError(f"{self.settings.max_locks} locks are held, the most there may be (maxLocks)")
        locks[request.resource] = _Lock(request.owner, now + request.expiry)
        return True

    async def unlock(self, request: UnlockRequest) -> UnlockStatus:
        locks = self._open()
        held = locks.get(request.resource)
        if held is None or held.expires <= self.context.clock.monotonic():
            return UnlockStatus.LOCK_DOES_NOT_EXIST
        if held.owner != request.owner:
            return UnlockStatus.LOCK_BELONGS_TO_OTHERS
        del locks[request.resource]
        return UnlockStatus.SUCCESS

    def _open(self) -> dict[str, _Lock]:
        if self._locks is None:
            raise BackendError(f"lock store {self.context.name} is not open")
        return self._locks

    def _forget(self) -> None:
        self._locks = None
