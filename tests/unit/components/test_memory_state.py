"""What is special about state.in-memory: the sweep, and transactions in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dapr_shared.components.memory import state as memory_state
from dapr_shared.components.memory.state import ITEM_BYTES, TURN, MemoryStateSettings, MemoryStateStore
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.contracts.state import Concurrency, DeleteRequest, EtagMismatchError, GetRequest, SetRequest
from tests.support.component_setups import HandClock, must_get, until, value_of


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def often(monkeypatch):
    """Sweep every 10 ms; requested before the store."""
    monkeypatch.setattr(memory_state, "SWEEP_INTERVAL", 0.01)


@pytest.fixture
async def store(clock):
    store = MemoryStateStore(MemoryStateSettings(), ComponentContext("m", "state.in-memory", clock=clock))
    async with AsyncExitStack() as stack:
        await store.start(stack)
        yield store


async def test_sweep_removes_what_has_expired(store, clock):
    """Expired values leave the memory, whether or not anybody asks for them; others stay."""
    await store.bulk_set([SetRequest(f"app||{number}", b"1", ttl=10 if number % 2 else 1000) for number in range(100)])
    await store.set(SetRequest("app||for ever", b"1"))
    assert store.sweep() == 0
    clock.ahead += 11
    assert store.sweep() == 50
    assert len(store._items) == 51
    assert len(store._expiring) == 50


async def test_sweep_is_bounded(store, clock, monkeypatch):
    """One sweep looks at a bounded number of values; the next ones go on from there until all were looked at."""
    monkeypatch.setattr(memory_state, "SWEEP_LIMIT", 10)
    await store.bulk_set([SetRequest(f"app||{number}", b"1", ttl=1000 if number < 15 else 10) for number in range(40)])
    clock.ahead += 11
    assert [store.sweep() for _ in range(5)] == [0, 5, 10, 10, 0]
    assert len(store._items) == 15


async def test_sweep_runs_by_itself(often, store, clock):
    """The sweep runs in the background while the store is open."""
    await store.set(SetRequest("app||k", b"1", ttl=1))
    clock.ahead += 2

    async def swept() -> bool:
        return "app||k" not in store._items

    await until(swept)


async def test_no_expiry_is_not_watched(store):
    """A value that is written without a time to live, or deleted, is no longer looked at by the sweep."""
    for key in ("app||a", "app||b"):
        await store.set(SetRequest(key, b"1", ttl=10))
    await store.set(SetRequest("app||a", b"1"))
    await store.delete(DeleteRequest("app||b"))
    assert len(store._expiring) == 0


async def test_transaction_restores_expiry(store, clock):
    """A failed transaction leaves the expiry of every key as it was."""
    await store.set(SetRequest("app||a", b"1", ttl=10))
    await store.set(SetRequest("app||b", b"1"))
    with pytest.raises(EtagMismatchError):
        await store.transact(
            [
                SetRequest("app||a", b"2"),
                SetRequest("app||b", b"2", ttl=1),
                DeleteRequest("app||a"),
                SetRequest("app||b", b"3", concurrency=Concurrency.FIRST_WRITE),
            ],
            {},
        )
    assert "ttlExpireTime" in (await must_get(store, "app||a")).metadata
    clock.ahead += 11
    assert [await value_of(store, key) for key in ("app||a", "app||b")] == [None, b"1"]


async def test_patterns_take_no_time(store):
    """A pattern with many wildcards is matched quickly."""
    await store.set(SetRequest("app||" + "a" * 500, b"1"))
    async with asyncio.timeout(5):
        assert (await store.keys_like("%" * 1000 + "b")).keys == ()


@pytest.fixture
async def small(clock):
    """A store with room for two items with a key of 5 bytes and a value of 1,000."""
    settings = decode_settings(MemoryStateSettings, {"maxBytes": str(2 * (ITEM_BYTES + 1_005))})
    store = MemoryStateStore(settings, ComponentContext("m", "state.in-memory", clock=clock))
    async with AsyncExitStack() as stack:
        await store.start(stack)
        yield store


BIG = b"x" * 1_000


async def fill(store, **options) -> None:
    for key in ("a||k1", "a||k2"):
        await store.set(SetRequest(key, BIG, **options))


async def full(store, key: str = "a||k3", value: bytes = b"") -> bool:
    (answer,) = await asyncio.gather(store.set(SetRequest(key, value)), return_exceptions=True)
    assert answer is None or (isinstance(answer, BackendError) and "maxBytes" in str(answer))
    return answer is not None


async def test_a_full_store(small):
    """A write that does not fit fails and changes nothing; a value may be replaced by one that is not larger."""
    await fill(small)
    assert await full(small)
    assert await full(small, "a||k1", BIG + b"x")
    assert await value_of(small, "a||k1") == BIG
    assert not await full(small, "a||k1", b"y" * 1_000)
    assert await value_of(small, "a||k3") is None


@pytest.mark.parametrize("way", ["delete", "prefix", "bulk", "transaction", "smaller"])
async def test_room_after_deletes(small, way):
    """What is deleted or replaced by something smaller gives room."""
    await fill(small)
    match way:
        case "delete":
            await small.delete(DeleteRequest("a||k1"))
        case "prefix":
            await small.delete_with_prefix("a||")
        case "bulk":
            await small.bulk_delete([DeleteRequest("a||k1")])
        case "transaction":
            await small.transact([DeleteRequest("a||k1"), SetRequest("a||k4", b"")], {})
            await small.delete(DeleteRequest("a||k4"))
        case _:
            await small.set(SetRequest("a||k1", b""))
            await small.set(SetRequest("a||k2", b""))
    assert not await full(small)


async def test_room_after_expiry(small, clock):
    """What has expired gives room to the next write, before any sweep."""
    await fill(small, ttl=10)
    assert await full(small)
    clock.ahead += 11
    assert not await full(small)


async def test_a_transaction_that_does_not_fit(small):
    """A transaction that does not fit changes nothing, and its room is free again."""
    await small.set(SetRequest("a||k1", BIG))
    with pytest.raises(BackendError, match="maxBytes"):
        await small.transact([DeleteRequest("a||k1"), *(SetRequest(f"a||n{number}", BIG) for number in range(3))], {})
    assert await value_of(small, "a||k1") == BIG
    assert small._size == ITEM_BYTES + 1_005
    assert not await full(small, "a||k2", BIG)


async def test_bulk_calls_give_others_a_turn(store):
    """A bulk call of many items lets other tasks run every now and then."""
    count = 5 * TURN
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    try:
        for call in (
            store.bulk_set([SetRequest(str(number), b"1") for number in range(count)]),
            store.bulk_get([GetRequest(str(number)) for number in range(count)]),
            store.bulk_delete([DeleteRequest(str(number)) for number in range(count)]),
        ):
            turns = 0
            await call
            assert turns >= 4
    finally:
        task.cancel()


async def test_bulk_sets_try_all(store):
    """After an error of one item the others are written all the same."""
    requests = [SetRequest("a", b"1"), SetRequest("b", b"1", etag="none"), SetRequest("c", b"1")]
    with pytest.raises(EtagMismatchError):
        await store.bulk_set(requests)
    assert [await value_of(store, key) for key in "abc"] == [b"1", None, b"1"]
