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
        self.tried_at: list[float] = []
        self.refreshes = 0

    @property
    def tries(self) -> int:
        return len(self.tried_at)

    async def open_missing(self, *, quiet: bool) -> bool:
        assert quiet
        self.tried_at.append(asyncio.get_running_loop().time())
        return True

    async def refresh(self, *, quiet: bool) -> bool:
        assert quiet
        self.refreshes += 1
        return True

    def refuse(self, *problems: str) -> None:
        self.refusals.replace(APPLYING, [Refusal("App", Origin(text, 0, 0), text) for text in problems])


class Away:
    """Whether the source is away, and how often that was asked."""

    def __init__(self) -> None:
        self.now = False
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.now


@pytest.fixture
async def running(monkeypatch):
    """Runs the loop with short times; secrets, which are looked at as often as a first try comes, show that time goes by."""
    monkeypatch.setattr(try_again, "FIRST", 0.02)
    monkeypatch.setattr(try_again, "LONGEST", 0.1)
    monkeypatch.setattr(try_again, "SECRETS", 0.02)
    away = Away()
    reloader = FakeReloader()
    task = asyncio.create_task(TryAgain(reloader, away=away).run())
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
    await until(lambda: reloader.refreshes >= 4)
    assert reloader.tries == 0
    reloader.refuse("a")
    await until(lambda: reloader.tries >= 3)
    first, second, third = reloader.tried_at[:3]
    shortest = 0.02 * (1 - try_again._SPREAD)
    assert (second - first >= 2 * shortest, third - second >= 4 * shortest) == (True, True)
    reloader.refuse()
    tries, refreshes = reloader.tries, reloader.refreshes
    await until(lambda: reloader.refreshes >= refreshes + 10)
    assert reloader.tries == tries


async def test_not_while_the_source_is_away(running):
    """While nobody answers nothing is tried; as soon as somebody does, it is."""
    reloader, away = running
    away.now = True
    reloader.refuse("a")
    asked, refreshes = away.asked, reloader.refreshes
    await until(lambda: away.asked >= asked + 5)
    assert (reloader.tries, reloader.refreshes) == (0, refreshes)
    away.now = False
    await until(lambda: reloader.tries)


async def test_secrets_are_read_again(running):
    """Nothing tells that a Secret was changed, so all are looked at now and then."""
    reloader, _ = running
    await until(lambda: reloader.refreshes >= 2)


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
