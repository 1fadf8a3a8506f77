"""The lock block: whose lock it is, and what is refused before a store is asked."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.lock import LockBlock, resource_prefix
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.lock import LockStore, TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.contracts.settings import Settings
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError


class FakeLocks(LockStore[Settings]):
    """Keeps what it is asked."""

    settings_type = Settings

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("locks", "fake"))
        self.asked: list[TryLockRequest | UnlockRequest] = []
        self.error: BackendError | None = None

    async def start(self, stack) -> None:
        """Nothing to open."""

    def data_location(self) -> str | None:
        return None

    async def try_lock(self, request):
        self.asked.append(request)
        if self.error:
            raise self.error
        return True

    async def unlock(self, request):
        self.asked.append(request)
        if self.error:
            raise self.error
        return UnlockStatus.LOCK_BELONGS_TO_OTHERS


@pytest.fixture
def locks(components) -> FakeLocks:
    return components.add(FakeLocks(), "locks")


@pytest.fixture
def block(components) -> LockBlock:
    return LockBlock(components)


async def refused(call, row) -> DaprError:
    with pytest.raises(DaprError) as raised:
        await call
    assert raised.value.row is row
    return raised.value


async def test_a_resource_is_locked_under_its_app(block, locks, caller, caller_of):
    """The store gets the app's own name for the resource, with owner and expiry; unlocking finds the same one."""
    assert await block.try_lock(caller, "locks", "tea", "me", 60) is True
    assert await block.unlock(caller, "locks", "tea", "me") is UnlockStatus.LOCK_BELONGS_TO_OTHERS
    await block.try_lock(caller_of("stock"), "locks", "tea", "you", 1)
    assert locks.asked == [
        TryLockRequest("lock||orders||tea", "me", 60),
        UnlockRequest("lock||orders||tea", "me"),
        TryLockRequest("lock||stock||tea", "you", 1),
    ]


@pytest.mark.parametrize(
    ("strategy", "prefix"),
    [
        (None, "lock||orders||"),
        ("appid", "lock||orders||"),
        ("AppId", "lock||orders||"),
        ("name", "lock||locks||"),
        ("none", "lock||"),
        ("namespace", "lock||namespace||"),
        ("Team A", "lock||Team A||"),
    ],
)
def test_key_prefixes(strategy, prefix):
    """`keyPrefix` chooses app, component, nothing or a text of its own; letters' case counts in that text alone."""
    metadata = {} if strategy is None else {"keyprefix": strategy}
    assert resource_prefix(metadata, "locks", "orders") == prefix


async def test_no_resource_can_forge_a_prefix(block, locks, components, caller):
    """The separator within a resource or a prefix is refused by both methods, and the store is not asked."""
    await refused(block.try_lock(caller, "locks", "a||b", "me", 60), errors.LOCK_TRY)
    await refused(block.unlock(caller, "locks", "stock||tea", "me"), errors.LOCK_UNLOCK)
    components.add(FakeLocks(), "odd", metadata={"keyprefix": "a||b"})
    await refused(block.try_lock(caller, "odd", "tea", "me", 60), errors.LOCK_TRY)
    assert locks.asked == []


async def test_what_is_refused_comes_in_daprs_order(block, components, caller, caller_of):
    """Expiry, no store at all, resource, owner, unknown store: each before the next."""
    for expiry in (0, -1):
        await refused(block.try_lock(caller, "locks", "", "", expiry), errors.LOCK_EXPIRY)
    await refused(block.try_lock(caller, "locks", "", "", 1), errors.LOCK_NOT_CONFIGURED)
    components.add(FakeLocks(), "locks")
    await refused(block.unlock(caller, "absent", "", ""), errors.LOCK_RESOURCE_EMPTY)
    await refused(block.unlock(caller, "absent", "tea", ""), errors.LOCK_OWNER_EMPTY)
    await refused(block.unlock(caller, "absent", "tea", "me"), errors.LOCK_NOT_FOUND)
    await refused(block.try_lock(caller_of("blind"), "locks", "tea", "me", 1), errors.LOCK_NOT_CONFIGURED)


async def test_a_failing_store_is_told(block, locks, caller):
    """Its words are in the error of the method."""
    locks.error = BackendError("disk full")
    assert "disk full" in (await refused(block.try_lock(caller, "locks", "tea", "me", 1), errors.LOCK_TRY)).message
    assert "disk full" in (await refused(block.unlock(caller, "locks", "tea", "me"), errors.LOCK_UNLOCK)).message
