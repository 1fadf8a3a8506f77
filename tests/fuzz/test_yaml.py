"""Resources that somebody has edited, loaded and put in force beside resources that are in use.

Whatever the file says: it takes effect, or the reload fails with a message; what was there before works on either way,
and after the file is gone everything is as it was. Every run tries the same examples; `FUZZ_SECONDS=60` tries fresh
random ones, for that long in each test. A file that fails belongs into `corpus/yaml/`; the names of files that must
take effect begin with `valid-`.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.runtime.reload import WRONG_RESOURCES
from tests.support.fuzz_instance import CORPUS, explore
from tests.support.fuzz_yaml import VALID, damaged, edited
from tests.support.inprocess import inprocess

SEEDS = sorted((CORPUS / "yaml").glob("*.yaml"))
BOTH = {AppRef("orders"), AppRef("stock")}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory):
    """A file path that an edit makes relative to nothing ends in a folder of the test."""
    with contextlib.chdir(tmp_path_factory.mktemp("current")):
        yield


async def _put_in_force(target, data: bytes) -> bool:
    instance = target.instance
    file = instance.folder / "edited.yaml"
    file.write_bytes(data)
    try:
        good = await instance.reloader.reload()
        target.judge()
        await target.still_serves()
    finally:
        file.unlink()
    assert await instance.reloader.reload(), f"the old resources do not come back: {instance.log.getvalue()[-500:]!r}"
    target.judge()
    assert {app.ref for app in instance.parts.apps.apps()} == BOTH
    assert not instance.parts.listeners.apps(), "a listener was left open"
    await target.still_serves()
    return good


def _survives(arena, text: str | bytes) -> bool:
    return arena.bounded(_put_in_force(arena.target, text if isinstance(text, bytes) else text.encode()))


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.stem for seed in SEEDS])
def test_seeds(arena, seed) -> None:
    """Files that must take effect do, the others are refused, and the old resources work on."""
    assert _survives(arena, seed.read_bytes()) is seed.stem.startswith("valid-")


def test_there_are_seeds(arena) -> None:
    """The corpus is found, and what all edits start from is right."""
    assert len(SEEDS) >= 10
    assert _survives(arena, VALID)


def test_edited_resources(arena) -> None:
    """A wrong value, a lost field or a repeated resource is refused or takes effect; nothing else breaks."""
    explore(edited(), lambda text: _survives(arena, text), examples=100)


def test_damaged_files(arena) -> None:
    """A file that is hardly YAML any more is refused, or takes effect; nothing else breaks."""
    explore(damaged(), lambda data: _survives(arena, data), examples=120)


def test_start_with_edited_resources(tmp_path_factory) -> None:
    """An instance starts with what an edit left, or says in words what is wrong with it."""

    async def start(text: str) -> None:
        with contextlib.suppress(*WRONG_RESOURCES):
            async with asyncio.timeout(5), inprocess(tmp_path_factory.mktemp("start"), text):
                pass

    explore(edited(), lambda text: asyncio.run(start(text)), examples=30)
