"""Telling when files of resources change, on a real file system."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dapr_shared.resources import watch
from dapr_shared.resources.watch import changes

DEBOUNCE = 0.02
LONG = 10.0
SHORT = 0.3


@asynccontextmanager
async def watching(*paths: Path, recheck: float = 60.0) -> AsyncIterator[AsyncGenerator[None]]:
    found = changes(paths, debounce=DEBOUNCE, recheck=recheck)
    try:
        yield found
    finally:
        await found.aclose()


async def told(found: AsyncGenerator[None]) -> None:
    """Wait until a change is told."""
    await asyncio.wait_for(anext(found), LONG)


async def told_when(found: AsyncGenerator[None], change: Callable[[], object]) -> None:
    """Wait for a change that is made while the watching goes on."""
    waiting = asyncio.ensure_future(anext(found))
    await asyncio.sleep(0.1)  # so that events tell it; a change before they are watched is tested by itself
    change()
    await asyncio.wait_for(waiting, LONG)


async def quiet(found: AsyncGenerator[None]) -> None:
    """Make sure that nothing is told for a while."""
    waiting = asyncio.ensure_future(anext(found))
    done, _ = await asyncio.wait({waiting}, timeout=SHORT)
    assert not done
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_files_of_a_directory(tmp_path: Path) -> None:
    """A new, changed, renamed and removed file of a directory is told, each once."""
    async with watching(tmp_path) as found:
        file = tmp_path / "a.yaml"
        await told_when(found, lambda: file.write_text("a: 1"))
        await told_when(found, lambda: file.write_text("a: 22"))
        await told_when(found, lambda: file.rename(tmp_path / "b.yaml"))
        await told_when(found, (tmp_path / "b.yaml").unlink)


async def test_other_files_do_not_matter(tmp_path: Path) -> None:
    """Changes of files that are no YAML, and in subdirectories, are not told."""
    (tmp_path / "sub").mkdir()
    async with watching(tmp_path) as found:
        waiting = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0.1)
        (tmp_path / "a.txt").write_text("x")
        (tmp_path / "sub" / "a.yaml").write_text("x")
        done, _ = await asyncio.wait({waiting}, timeout=SHORT)
        assert not done
        (tmp_path / "a.yml").write_text("x")
        await asyncio.wait_for(waiting, LONG)


async def test_a_change_before_the_watching_began_is_told(tmp_path: Path) -> None:
    """A change after the call and before the first wait is not missed."""
    async with watching(tmp_path) as found:
        (tmp_path / "a.yaml").write_text("a: 1")
        await told(found)
        (tmp_path / "a.yaml").write_text("a: 22")
        await told(found)


async def test_a_config_map_swap_is_told(tmp_path: Path) -> None:
    """Kubernetes exchanges the link ..data and touches nothing else; that is a change of the files behind it."""
    for version in ("one", "two"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")

    def swap() -> None:
        (tmp_path / "..tmp").symlink_to("..two")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        shutil.rmtree(tmp_path / "..one")

    async with watching(tmp_path) as found:
        await told_when(found, swap)


@pytest.mark.parametrize("name", ["res.yaml", "folder", "deep/er/folder"])
async def test_a_path_that_comes_and_goes(tmp_path: Path, name: str) -> None:
    """A path that is not there yet, appears, vanishes and appears again is told each time."""
    path = tmp_path / name

    def appear() -> None:
        target = path if path.suffix else path / "a.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("a: 1")

    def vanish() -> None:
        shutil.rmtree(tmp_path / name.split("/", maxsplit=1)[0]) if not path.suffix else path.unlink()

    async with watching(path, recheck=1.0) as found:
        for _ in range(2):
            appear()
            await told(found)
            vanish()
            await told(found)


async def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """An editor writes beside the file and renames; that is told, and the next time too."""
    file = tmp_path / "a.yaml"
    file.write_text("0")
    async with watching(file) as found:
        for content in ("1", "2"):
            (tmp_path / "new").write_text(content)
            await told_when(found, lambda: (tmp_path / "new").rename(file))


async def test_a_link_to_a_directory_that_is_set_elsewhere(tmp_path: Path) -> None:
    """A directory given as a link is followed to its new target."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(name)
    link = tmp_path / "link"
    link.symlink_to("one")

    def swap() -> None:
        (tmp_path / "tmp").symlink_to("two")
        (tmp_path / "tmp").rename(link)

    async with watching(link) as found:
        await told_when(found, swap)
        await told_when(found, lambda: (tmp_path / "two" / "a.yaml").write_text("changed"))


async def test_changes_that_follow_each_other_are_one(tmp_path: Path) -> None:
    """A burst of changes is told once."""
    found = changes([tmp_path], debounce=0.2)
    try:
        waiting = asyncio.ensure_future(anext(found))
        for index in range(5):
            (tmp_path / f"{index}.yaml").write_text("x")
            await asyncio.sleep(0.02)
        await asyncio.wait_for(waiting, LONG)
        await quiet(found)
    finally:
        await found.aclose()


async def test_touching_nothing_is_quiet(tmp_path: Path) -> None:
    """Reading the files is no change."""
    (tmp_path / "a.yaml").write_text("x")
    async with watching(tmp_path) as found:
        (tmp_path / "a.yaml").read_text()
        await quiet(found)


async def test_cancellation_stops_at_once(tmp_path: Path) -> None:
    """A task that waits for changes ends promptly when it is cancelled, and its thread soon after."""

    async def consume() -> None:
        async for _ in changes([tmp_path], debounce=DEBOUNCE):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - began < 1


async def test_without_events_it_looks_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no watches (its limit is reached), changes are still told."""

    def refuse(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watch, "RustNotify", refuse)
    async with watching(tmp_path, recheck=0.05) as found:
        waiting = asyncio.ensure_future(anext(found))
        (tmp_path / "a.yaml").write_text("x")
        await asyncio.wait_for(waiting, LONG)


async def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be listed does not end the watch; when it can be again, that is a change."""
    monkeypatch.setattr(os, "listdir", lambda _: (_ for _ in ()).throw(PermissionError(13, "no")))
    async with watching(tmp_path, recheck=0.05) as found:
        waiting = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0.1)
        monkeypatch.undo()
        await asyncio.wait_for(waiting, LONG)
