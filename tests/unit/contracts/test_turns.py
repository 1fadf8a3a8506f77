"""Turns at a component's few places: shares, order, and waiting that ends."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.turns import NoTurnError, Turns
from dapr_shared.core.ids import AppRef

GREEDY, QUICK, OTHER = AppRef("greedy"), AppRef("quick"), AppRef("other")


def fill(turns: Turns, app: AppRef) -> int:
    """Take what the app gets without waiting; how many places that is."""
    count = 0
    while turns.try_enter(app):
        count += 1
    return count


@pytest.mark.parametrize(("total", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (10, 8), (100, 75)])
def test_no_app_has_all_places(total, share):
    """One app has three quarters of the places at most; the rest is for others, all together no more than there are."""
    turns = Turns(total)
    assert fill(turns, GREEDY) == share
    assert fill(turns, QUICK) == min(total - share, share)
    for _ in range(share):
        turns.leave(GREEDY)
    assert fill(turns, GREEDY) == share


async def test_waiting_apps_take_turns():
    """A free place goes to the app that has waited longest since its last turn, not to the call that came first."""
    turns = Turns(2)
    assert turns.try_enter(GREEDY)
    assert turns.try_enter(OTHER)
    order: list[str] = []

    async def call(app: AppRef) -> None:
        await turns.wait(app)
        order.append(app.app_id)
        await asyncio.sleep(0)
        turns.leave(app)

    calls = [asyncio.create_task(call(app)) for app in (GREEDY, GREEDY, GREEDY, QUICK, QUICK)]
    await asyncio.sleep(0)
    assert not turns.try_enter(OTHER)
    turns.leave(OTHER)
    async with asyncio.timeout(5):
        await calls[4]
    assert order == ["quick", "quick"], "the greedy app has its share already"
    turns.leave(GREEDY)
    async with asyncio.timeout(5):
        await asyncio.gather(*calls)
    assert order[2:] == ["greedy"] * 3
    assert fill(turns, GREEDY) == 1


async def test_waiting_ends():
    """A call whose turn does not come in time is refused, one that is given up takes nothing; others go on."""
    turns = Turns(1, timeout=0.05)
    assert turns.try_enter(GREEDY)
    with pytest.raises(NoTurnError):
        await turns.wait(QUICK)
    given_up = asyncio.create_task(turns.wait(QUICK))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    turns.leave(GREEDY)
    assert turns.try_enter(QUICK)
    late = asyncio.create_task(turns.wait(OTHER))
    await asyncio.sleep(0)
    turns.leave(QUICK)
    late.cancel()  # its turn has come, and it does not know yet
    await asyncio.gather(late, return_exceptions=True)
    assert turns.try_enter(GREEDY)
