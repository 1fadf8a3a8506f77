"""What is special about state.in-memory: the sweep, and transactions in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dapr_shared.components.memory import state as memory_state
from dapr_shared.components.memory.state import MemoryStateSettings, MemoryStateStore
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.state import Concurrency, DeleteRequest, EtagMismatchError, SetRequest
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
