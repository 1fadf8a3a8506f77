"""What every lock store promises."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import TryLockRequest, UnlockRequest, UnlockStatus
from tests.support.component_setups import until

RESOURCE = "lock||orders||printer"
LONG = 600


async def test_one_owner_at_a_time(locks):
    """A lock that is held is not taken: not by another, and not again by its owner."""
    assert await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    assert not await locks.try_lock(TryLockRequest(RESOURCE, "b", LONG))
    assert not await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))


async def test_unlock_frees_it(locks):
    """The owner's unlock lets the next one take it."""
    await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    assert await locks.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.SUCCESS
    assert await locks.try_lock(TryLockRequest(RESOURCE, "b", LONG))


async def test_another_owner_cannot_unlock(locks):
    """Who does not hold the lock is told so, and it stays locked."""
    await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    assert await locks.unlock(UnlockRequest(RESOURCE, "b")) is UnlockStatus.LOCK_BELONGS_TO_OTHERS
    assert not await locks.try_lock(TryLockRequest(RESOURCE, "b", LONG))


async def test_unlock_of_nothing(locks):
    """What nobody holds does not exist: never locked, or unlocked already."""
    assert await locks.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.LOCK_DOES_NOT_EXIST
    await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    await locks.unlock(UnlockRequest(RESOURCE, "a"))
    assert await locks.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.LOCK_DOES_NOT_EXIST


async def test_a_lease_ends(locks_harness, locks):
    """After its expiry a lock is free, and its former owner has nothing to unlock."""
    assert await locks.try_lock(TryLockRequest(RESOURCE, "a", 1))
    if locks_harness.setup.own_clock:
        locks_harness.clock.ahead += 1.1

    async def taken() -> bool:
        return await locks.try_lock(TryLockRequest(RESOURCE, "b", LONG))

    await until(taken)
    assert await locks.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.LOCK_BELONGS_TO_OTHERS


async def test_an_expired_lock_does_not_exist(locks_harness, locks):
    """Unlocking after the expiry says that there is no lock."""
    assert await locks.try_lock(TryLockRequest(RESOURCE, "a", 1))
    if locks_harness.setup.own_clock:
        locks_harness.clock.ahead += 1.1
    else:
        await asyncio.sleep(1.3)  # the backend's clock sends no event
    assert await locks.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.LOCK_DOES_NOT_EXIST


async def test_resources_are_apart(locks):
    """Names that look alike are different locks."""
    names = [
        "lock||orders||a",
        "lock||Orders||a",
        "lock||orders||a ",
        "lock||orders||%",
        "lock||orders||ü",
        "lock||stock||a",
    ]
    assert all([await locks.try_lock(TryLockRequest(name, "x", LONG)) for name in names])
    assert await locks.unlock(UnlockRequest(names[0], "x")) is UnlockStatus.SUCCESS
    assert not await locks.try_lock(TryLockRequest(names[1], "x", LONG))


async def test_exactly_one_of_many_gets_it(locks):
    """Of fifty that try at once one gets the lock."""
    tries = [locks.try_lock(TryLockRequest(RESOURCE, f"owner-{number}", LONG)) for number in range(50)]
    assert sum(await asyncio.gather(*tries)) == 1


async def test_two_components_share_what_is_durable(locks_harness, locks):
    """A second component on the same place sees the lock; one that keeps to itself does not."""
    await locks.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    async with locks_harness.opened() as other:
        shared = not await other.try_lock(TryLockRequest(RESOURCE, "b", LONG))
        assert shared is locks_harness.setup.durable
        if shared:
            assert await other.unlock(UnlockRequest(RESOURCE, "a")) is UnlockStatus.SUCCESS


async def test_locks_outlive_their_component(locks_harness):
    """Where the backend is durable, a lock is there when the component is opened again."""
    async with locks_harness.opened() as first:
        await first.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    async with locks_harness.opened() as second:
        assert await second.try_lock(TryLockRequest(RESOURCE, "b", LONG)) is not locks_harness.setup.durable


async def test_after_the_end(locks_harness):
    """A closed store refuses with an error that says so."""
    async with locks_harness.opened() as closed:
        pass
    with pytest.raises(BackendError):
        await closed.try_lock(TryLockRequest(RESOURCE, "a", LONG))
    with pytest.raises(BackendError):
        await closed.unlock(UnlockRequest(RESOURCE, "a"))
