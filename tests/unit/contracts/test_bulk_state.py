"""Bulk calls of stores that have none of their own: bounded work, answers in order."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.settings import Settings
from dapr_shared.contracts.state import (
    BULK_PARALLELISM,
    DeleteRequest,
    GetRequest,
    SetRequest,
    StateStore,
    StateValue,
)


class SlowStore(StateStore[Settings]):
    """A store whose every call waits a turn; it counts the tasks and calls that are alive meanwhile."""

    settings_type = Settings

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("slow", "state.slow"))
        self.calls = self.at_once = self.most_tasks = 0
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def start(self, stack) -> None:
        """Nothing to open."""

    async def _turn(self, key: str) -> None:
        self.asked.append(key)
        self.calls += 1
        self.at_once = max(self.at_once, self.calls)
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        try:
            await asyncio.sleep(0)
        finally:
            self.calls -= 1
        if self.error is not None and key == "bad":
            raise self.error

    async def get(self, request):
        await self._turn(request.key)
        return StateValue(request.key.encode())

    async def set(self, request):
        await self._turn(request.key)

    async def delete(self, request):
        await self._turn(request.key)


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.mark.parametrize(("parallelism", "expected"), [(0, BULK_PARALLELISM), (3, 3), (1_000, BULK_PARALLELISM)])
async def test_few_tasks_for_many_keys(store, parallelism, expected):
    """A bulk call of any size makes as many tasks as it may run at a time, no more, and answers in order."""
    keys = [str(number) for number in range(2_000)]
    answers = await store.bulk_get([GetRequest(key) for key in keys], parallelism)
    assert [answer.data.decode() for answer in answers] == keys
    assert store.at_once == expected
    assert store.most_tasks <= expected + 5


async def test_all_are_tried_after_an_error(store):
    """An error of one item is raised when all were tried; in a bulk get it is that key's answer."""
    store.error = BackendError("broken")
    keys = ["a", "bad", *map(str, range(100))]
    for call in (
        store.bulk_set([SetRequest(key, b"1") for key in keys]),
        store.bulk_delete([DeleteRequest(key) for key in keys]),
    ):
        store.asked.clear()
        with pytest.raises(BackendError, match="broken"):
            await call
        assert sorted(store.asked) == sorted(keys)
    answers = await store.bulk_get([GetRequest(key) for key in keys])
    assert isinstance(answers[1], BackendError)


async def test_what_is_no_backend_error_ends_the_call(store):
    """A defect in an adapter ends the bulk call at once, and leaves no task behind."""
    store.error = ZeroDivisionError()
    tasks = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await store.bulk_get([GetRequest(key) for key in ("bad", *map(str, range(1_000)))])
    assert len(store.asked) < 100
    assert asyncio.all_tasks() == tasks


async def test_nothing_asked(store):
    """An empty bulk call is answered without a task."""
    assert await store.bulk_get([]) == []
    await store.bulk_set([])
