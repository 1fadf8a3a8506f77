"""What holds for every component type of the catalog."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from dapr_shared.contracts.settings import fields_of
from tests.support.component_setups import CATALOG, SETUPS, Harness, cases, setup_key

BLOCKS = ("bindings", "configuration", "lock", "pubsub", "secretstores", "state")
MOST_SKEW = 5.0
"""Seconds: these backends run on this machine; a pause is not skew."""
ALL = [case for block in BLOCKS for case in cases(block)]


@pytest.fixture(params=ALL)
def harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


def test_no_row_without_a_setup():
    """Every type of the catalog is set up for a conformance suite, so that no adapter exists untested."""
    assert {setup_key(row) for row in CATALOG.rows()} == set(SETUPS)
    assert len(ALL) == sum(len(functions) for functions in SETUPS.values())


@pytest.mark.parametrize("row", CATALOG.rows(), ids=setup_key)
def test_settings_are_documented(row):
    """Every setting of every type has a meaning in words, and the class its own docstring."""
    adapter = CATALOG.load(row)
    assert adapter.__doc__
    assert all(spec.setting.doc for spec in fields_of(adapter.settings_type))


async def test_start_and_end(harness):
    """A component can be opened, pinged, closed and opened again."""
    for _ in range(2):
        async with harness.opened() as component:
            await component.ping()


async def test_the_clock_of_its_backend(harness):
    """A component tells its backend's time in seconds since 1970, or that there is no clock but this machine's."""
    async with harness.opened() as component:
        told = await component.backend_time()
        assert told is None or abs(told - time.time()) < MOST_SKEW
        assert (told is not None) == component.context.type.endswith((".redis", ".postgresql", ".postgres"))


async def test_stop_twice(harness):
    """Unwinding a second time does no harm."""
    async with AsyncExitStack() as stack:
        component = harness.make()
        async with AsyncExitStack() as inner:
            await component.start(inner)
            closing = inner.pop_all()
        await closing.aclose()
        await closing.aclose()
        stack.push_async_callback(closing.aclose)


async def test_capabilities_are_claimed_by_the_class(harness):
    """What a component can do with its settings is never more than its class claims."""
    assert harness.make().effective_capabilities() <= type(harness.make()).capabilities


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
async def test_start_cancelled_midway(harness, steps):
    """A start that is cancelled anywhere leaves nothing open, and the next start succeeds."""
    stack = AsyncExitStack()
    starting = asyncio.ensure_future(harness.make().start(stack))
    for _ in range(steps):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await stack.aclose()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    async with harness.opened() as component:
        await component.ping()
