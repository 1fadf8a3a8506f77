"""How much one call of the state block may ask for, and that a large one does not hold up the others."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dapr_shared.blocks.state import block as state_block
from dapr_shared.blocks.state.block import MAX_ITEMS, WRITE_CHUNK, StateBlock
from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem
from dapr_shared.contracts.component import BackendError, BackendUnavailableError, ComponentContext
from dapr_shared.contracts.settings import Settings
from dapr_shared.contracts.state import StateCapability, StateStore, StateValue
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError


class CountingStore(StateStore[Settings]):
    """Answers each key with `value`, never waits, and counts what it is asked."""

    settings_type = Settings
    capabilities = frozenset({StateCapability.TRANSACTIONAL})

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("store", "fake"))
        self.value = b"1"
        self.reads: Counter[str] = Counter()
        self.chunks: list[int] = []
        self.errors: dict[int, BackendError] = {}
        """What the bulk call of that number raises."""

    async def start(self, stack) -> None:
        """Nothing to open."""

    async def get(self, request):
        return StateValue(self.value)

    async def set(self, request):
        self.chunks.append(1)

    async def delete(self, request):
        self.chunks.append(1)

    async def bulk_get(self, requests, parallelism=0):
        self.reads.update(request.key for request in requests)
        self.chunks.append(len(requests))
        return [StateValue(self.value) for _ in requests]

    async def bulk_set(self, requests):
        number = len(self.chunks)
        self.chunks.append(len(requests))
        if number in self.errors:
            raise self.errors[number]

    async def bulk_delete(self, requests):
        await self.bulk_set(requests)

    async def transact(self, operations, metadata):
        self.chunks.append(len(operations))


@pytest.fixture
def store(components) -> CountingStore:
    return components.add(CountingStore())


@pytest.fixture
def block(components, metrics, store) -> StateBlock:
    return StateBlock(components, metrics)


async def refused(awaitable) -> DaprError:
    with pytest.raises(DaprError) as caught:
        await awaitable
    return caught.value


def saves(count: int) -> list[SaveItem]:
    return [SaveItem(f"k{number}", b"1") for number in range(count)]


async def turns_during(awaitable) -> int:
    """How many turns another task has meanwhile."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    try:
        await awaitable
    finally:
        task.cancel()
    return turns


async def test_too_many_items(block, store, caller):
    """A call of more items than the bound is refused with both numbers, before the store is asked."""
    count = MAX_ITEMS + 1
    for call in (
        block.bulk_get(caller, "store", ["k"] * count, 0, {}),
        block.save(caller, "store", saves(count)),
        block.bulk_delete(caller, "store", [DeleteItem("k")] * count),
        block.transact(caller, "store", [TransactionItem("upsert", SaveItem("k", b"1"))] * count, {}),
    ):
        error = await refused(call)
        assert error.row is errors.STATE_TOO_MANY_ITEMS
        assert str(count) in error.message
        assert str(MAX_ITEMS) in error.message
    assert store.chunks == []


async def test_the_bound_itself_is_allowed(block, store, caller):
    """Exactly as many items as the bound are carried out, all of them, in chunks, but a transaction in one."""
    await block.save(caller, "store", saves(MAX_ITEMS))
    assert sum(store.chunks) == MAX_ITEMS
    assert max(store.chunks) == WRITE_CHUNK
    store.chunks.clear()
    await block.transact(caller, "store", [TransactionItem("upsert", item) for item in saves(MAX_ITEMS)], {})
    assert store.chunks == [MAX_ITEMS]


async def test_a_key_that_is_asked_for_often(block, store, caller):
    """A key is read once however often it is asked for, and answered each time, in the order of the request."""
    items = await block.bulk_get(caller, "store", ["a", "b", "a", "a"], 0, {})
    assert [item.key for item in items] == ["a", "b", "a", "a"]
    assert all(item.value is not None for item in items)
    assert store.reads == {"orders||a": 1, "orders||b": 1}


@pytest.mark.parametrize("keys", [["same"] * 700, [f"k{number}" for number in range(700)]], ids=["one", "many"])
async def test_an_answer_that_is_too_large(block, store, caller, monkeypatch, keys):
    """Values of more bytes than the bound are refused, and not read to the end, be they of one key or of many."""
    monkeypatch.setattr(state_block, "MAX_BULK_BYTES", 100_000)
    store.value = bytes(1_000)
    error = await refused(block.bulk_get(caller, "store", keys, 0, {}))
    assert error.row is errors.STATE_BULK_GET_TOO_LARGE
    assert "100000" in error.message
    assert store.reads.total() <= 100 + state_block.READ_CHUNK


async def test_an_answer_within_the_bound(block, store, caller, monkeypatch):
    """Just as many bytes as the bound are answered."""
    monkeypatch.setattr(state_block, "MAX_BULK_BYTES", 100 * (1_000 + len("key")))
    store.value = bytes(1_000)
    assert len(await block.bulk_get(caller, "store", ["key"] * 100, 0, {})) == 100
    error = await refused(block.bulk_get(caller, "store", ["key"] * 101, 0, {}))
    assert error.row is errors.STATE_BULK_GET_TOO_LARGE


async def test_others_have_turns(block, caller):
    """While a large call is prepared and carried out by a store that never waits, other calls go on."""
    count = 20 * WRITE_CHUNK
    deletes = [DeleteItem(f"k{number}") for number in range(count)]
    operations = [TransactionItem("upsert", item) for item in saves(count)]
    assert await turns_during(block.save(caller, "store", saves(count))) >= 40
    assert await turns_during(block.bulk_delete(caller, "store", deletes)) >= 40
    assert await turns_during(block.bulk_get(caller, "store", [item.key for item in deletes], 0, {})) >= 40
    assert await turns_during(block.transact(caller, "store", operations, {})) >= 20


async def test_an_error_in_one_chunk(block, store, caller):
    """An error of one chunk is told after the others were tried, as in any save that is not atomic."""
    store.errors = {1: BackendError("second"), 2: BackendError("third")}
    error = await refused(block.save(caller, "store", saves(4 * WRITE_CHUNK)))
    assert error.row is errors.STATE_SAVE
    assert "second" in error.message
    assert store.chunks == [WRITE_CHUNK] * 4


async def test_an_unreachable_backend_is_not_asked_for_each_chunk(block, store, caller):
    """A backend that cannot be reached ends the call at its first chunk."""
    store.errors = {0: BackendUnavailableError("gone")}
    deletes = [DeleteItem(item.key) for item in saves(4 * WRITE_CHUNK)]
    error = await refused(block.bulk_delete(caller, "store", deletes))
    assert error.row is errors.STATE_BULK_DELETE
    assert store.chunks == [WRITE_CHUNK]


async def test_a_wrong_item_stops_all_chunks(block, store, caller):
    """Nothing is written when one of many items is wrong, wherever it stands."""
    items = [*saves(3 * WRITE_CHUNK), SaveItem("a||b", b"1")]
    assert (await refused(block.save(caller, "store", items))).row is errors.STATE_ILLEGAL_KEY
    assert store.chunks == []
