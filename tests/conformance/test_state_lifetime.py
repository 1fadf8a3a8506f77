"""State stores: the end of their life, with calls under way, and what is there in the next."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import DeleteRequest, GetRequest, SetRequest
from tests.support.component_setups import must_get, value_of


async def test_stop_under_load(state_harness):
    """Closing while many calls run ends promptly; each call is done or a `BackendError`; what was answered is kept."""
    stack = AsyncExitStack()
    store = state_harness.make()
    await store.start(stack)
    answered: dict[str, bytes] = {}
    running = asyncio.Event()

    async def caller(name: int) -> None:
        for count in range(1_000_000):
            key, value = f"app||{name}", str(count).encode()
            try:
                await store.set(SetRequest(key, value))
                answered[key] = value
                await store.get(GetRequest(key))
            except BackendError:
                return
            if count == 5:
                running.set()
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller(name)) for name in range(32)]
    async with asyncio.timeout(20):
        await running.wait()
        await stack.aclose()
        await asyncio.gather(*callers)
    assert answered
    if state_harness.setup.durable:
        async with state_harness.opened() as again:
            for key, value in answered.items():
                assert int((await must_get(again, key)).data) >= int(value)


async def test_closed(state_harness):
    """A closed store answers every call with a `BackendError`."""
    async with state_harness.opened() as store:
        pass
    for call in (
        store.get(GetRequest("app||k")),
        store.set(SetRequest("app||k", b"1")),
        store.delete(DeleteRequest("app||k")),
        store.transact([SetRequest("app||k", b"1")], {}),
        store.bulk_set([SetRequest("app||k", b"1")]),
    ):
        with pytest.raises(BackendError):
            await call


async def test_reopened(state_harness):
    """A durable store has values, etags and expiry when it is opened again; another one is empty."""
    async with state_harness.opened() as store:
        await store.set(SetRequest("app||k", b"1", ttl=1000))
        before = await must_get(store, "app||k")
    async with state_harness.opened() as again:
        assert await again.get(GetRequest("app||k")) == (before if state_harness.setup.durable else None)


async def test_cancelled_callers(state):
    """Callers that give up do not disturb the others."""
    async with asyncio.timeout(20):
        for turn in range(5):
            tasks = [asyncio.create_task(state.set(SetRequest(f"app||{n}", str(turn).encode()))) for n in range(50)]
            for _ in range(turn % 3):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None for result in results[1::2])
            assert await value_of(state, "app||1") == str(turn).encode()
