"""The promise of a store of locks.

Last step of the request road. Resources arrive complete (`lock||<app>||<resource>`): an adapter knows nothing of apps.
Facts: reference http-api §8, components §2.
"""

from __future__ import annotations

from abc import abstractmethod
from enum import IntEnum

import msgspec

from dapr_shared.contracts.component import Component, S


class UnlockStatus(IntEnum):
    """What became of an unlock, by the numbers of Dapr's protocol."""

    SUCCESS = 0
    LOCK_DOES_NOT_EXIST = 1
    """Nobody holds it: never locked, unlocked already, or expired."""
    LOCK_BELONGS_TO_OTHERS = 2
    """Another owner holds it; it stays locked."""
    INTERNAL_ERROR = 3
    """The block's answer for a `BackendError`; adapters do not return it."""


class TryLockRequest(msgspec.Struct, frozen=True):
    """Take a lock, if nobody holds it."""

    resource: str
    owner: str
    expiry: int
    """Seconds until the lock is free again by itself; at least 1."""


class UnlockRequest(msgspec.Struct, frozen=True):
    """Give a lock back."""

    resource: str
    owner: str


class LockStore(Component[S]):
    """Locks with a lease: a resource has at most one owner, until it is unlocked or the lease is over.

    Every method raises `BackendError`. Both calls are atomic, also between processes that share the backend.
    """

    @abstractmethod
    async def try_lock(self, request: TryLockRequest) -> bool:
        """Whether the lock was taken. Never waits; it is no re-entrant lock: the owner's second try is `False`."""

    @abstractmethod
    async def unlock(self, request: UnlockRequest) -> UnlockStatus:
        """Free the lock if this owner holds it. `SUCCESS`, `LOCK_DOES_NOT_EXIST` or `LOCK_BELONGS_TO_OTHERS`."""
