"""What was refused is tried again, and secrets are read again."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.resources.origin import Origin
from dapr_shared.runtime import try_again
from dapr_shared.runtime.refusals import APPLYING, Refusal, Refusals
from dapr_shared.runtime.try_again import TryAgain


class Silent:
    def __getattr__(self, name):
        return lambda *_: None


class FakeReloader:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.refusals = Refusals(Silent())
        self.tries = 0
        self.refreshes = 0

    async def open_missing(self, *, quiet: bool) -> bool:
        assert quiet
        self.tries += 1
        return True

    async def refresh(self, *, quiet: bool) -> bool:
        assert quiet
        self.refreshes += 1
        return True

    def refuse(self, *problems: str) -> None:
        self.refusals.replace(APPLYING, [Refusal("App", Origin(text, 0, 0), text) for text in problems])


@pytest.fixture
async def running(monkeypatch):
    """Runs the loop with short times; away is said by the test."""
    monkeypatch.setattr(try_again, "FIRST", 0.05)
    monkeypatch.setattr(try_again, "LONGEST", 0.2)
    monkeypatch.setattr(try_again, "SECRETS", 3600.0)
    away: list[bool] = []
    reloader = FakeReloader()
    task = asyncio.create_task(TryAgain(reloader, away=lambda: bool(away)).run())
    await asyncio.sleep(0)
    yield reloader, away
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


async def test_what_was_refused_is_tried_again(running):
    """Again and again, later and later; with nothing refused there is nothing to try."""
    reloader, _ = running
    await asyncio.sleep(0.15)
    assert reloader.tries == 0
    reloader.refuse("a")
    await until(lambda: reloader.tries >= 3)
    reloader.refuse()
    tries = reloader.tries
    await asyncio.sleep(0.3)
    assert reloader.tries <= tries + 1


async def test_not_while_the_source_is_away(running):
    """While nobody answers nothing is tried; as soon as somebody does, it is."""
    reloader, away = running
    away.append(True)
    reloader.refuse("a")
    await asyncio.sleep(0.3)
    assert reloader.tries == 0
    away.clear()
    await until(lambda: reloader.tries)


async def test_secrets_are_read_again(running, monkeypatch):
    """Nothing tells that a Secret was changed, so all are looked at now and then."""
    reloader, _ = running
    monkeypatch.setattr(try_again, "SECRETS", 0.05)
    task = asyncio.create_task(TryAgain(reloader, away=lambda: False).run())
    await until(lambda: reloader.refreshes >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_refusals_are_told_when_they_change():
    """Once when refused, again with another problem, and once when mended; never again in between."""
    told: list[tuple[str, ...]] = []

    class Recording:
        def resource_refused(self, *words):
            told.append(("refused", *words))

        def resource_mended(self, *words):
            told.append(("mended", *words))

    changes: list[None] = []
    refusals = Refusals(Recording())
    refusals.on_change.append(lambda: changes.append(None))
    origin = Origin("App shop/a", 0, 0)
    refusals.replace(APPLYING, [Refusal("App", origin, "no secret")])
    refusals.replace(APPLYING, [Refusal("App", origin, "no secret")])
    refusals.replace(APPLYING, [Refusal("App", origin, "no secret"), Refusal("App", origin, "no Configuration")])
    refusals.replace(APPLYING, [])
    assert told == [
        ("refused", "App", "App shop/a", "no secret (it is left out)"),
        ("refused", "App", "App shop/a", "no secret; no Configuration (it is left out)"),
        ("mended", "App", "App shop/a"),
    ]
    assert len(changes) == 3
