"""Keeping something in step: one look at a time, again later after a failure."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.blocks.upkeep import Upkeep
from tests.support.pubsub_fakes import until

DONE, AGAIN = True, False
"""What a look answers."""


class Defects:
    """The one event that is told."""

    def __init__(self) -> None:
        self.told = []

    def defect(self, where, error) -> None:
        self.told.append((where, str(error)))


class Looks:
    """Looks that end as the test says, the last answer again and again."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.begun = self.under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> bool:
        assert not self.under_way
        self.begun += 1
        self.under_way = 1
        try:
            await self.gate.wait()
        finally:
            self.under_way = 0
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_what_happens_during_a_look_is_one_more_look():
    """However often it is told while it looks, it looks once more, after that look and not beside it."""
    look = Looks(DONE)
    look.gate.clear()
    upkeep = Upkeep("u", look, Defects())
    upkeep.kick()
    await until(lambda: look.begun == 1)
    upkeep.kick()
    upkeep.kick()
    look.gate.set()
    await until(lambda: upkeep.settled)
    assert look.begun == 2


@pytest.mark.parametrize("failure", [AGAIN, ValueError("x")], ids=["not done", "a defect"])
async def test_a_failed_look_is_made_again(failure):
    """It looks again without being told, until a look is done; a defect is told and is no end."""
    look, defects = Looks(failure, failure, DONE), Defects()
    upkeep = Upkeep("u", look, defects, first=0.01)
    upkeep.kick()
    await until(lambda: look.begun == 3 and upkeep.settled)
    assert defects.told == ([("u", "x")] * 2 if failure else [])


async def test_after_its_end_it_looks_no_more():
    """Its end cancels the look that is under way, the one that was to come, and those that are asked for."""
    look = Looks(AGAIN)
    upkeep = Upkeep("u", look, Defects(), first=0.01)
    upkeep.kick()
    await until(lambda: look.begun == 2)
    look.gate.clear()
    upkeep.kick()
    await until(lambda: look.under_way)
    begun = look.begun
    await upkeep.close()
    assert not look.under_way
    look.gate.set()
    upkeep.kick()
    upkeep.again_in(0)
    await asyncio.sleep(0.03)
    assert look.begun == begun
