"""Tells when files of resources change, for reload.

Before both roads. File system events are only hints to look: what counts is a picture of the files that was taken
before. So a path may not exist yet, vanish, or be a link that is set to another place (a Kubernetes ConfigMap), and a
file system without events (NFS) is looked at now and then.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles._rust_notify import RustNotify

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

_SUFFIXES = (".yaml", ".yml")
_LONGEST_WAIT_FOR_QUIET = 10  # times the debounce time
_PAUSE_WITHOUT_EVENTS = 1.0  # seconds between two looks when watching fails

Picture = tuple[object, ...]


def changes(paths: Sequence[Path], *, debounce: float = 0.3, recheck: float = 30.0) -> AsyncGenerator[None]:
    """Yield each time that the files of resources under these paths have changed; never ends by itself.

    `debounce` (seconds): changes that follow each other faster are one; with no rest between them, one in ten times
    this. `recheck` (seconds): look after so long even without an event. The first picture is taken in this call: call
    it before loading, then no change is missed between loading and watching.
    """
    watch = _Watch([Path(os.path.abspath(path)) for path in paths], debounce, recheck)  # noqa: PTH100 - keeps links
    return _changes(watch)


async def _changes(watch: _Watch) -> AsyncGenerator[None]:
    loop = asyncio.get_running_loop()
    # A thread of its own: the loop's shared ones are few and this one waits all the time.
    executor = ThreadPoolExecutor(1, thread_name_prefix="watch")
    try:
        while True:
            await loop.run_in_executor(executor, watch.wait)
            yield
    finally:
        watch.stop.set()
        executor.shutdown(wait=False)


class _Watch:
    """The part in the thread."""

    def __init__(self, paths: list[Path], debounce: float, recheck: float) -> None:
        self.stop = threading.Event()
        self._paths = paths
        self._debounce = debounce
        self._recheck = recheck
        self._seen = self._picture()

    def wait(self) -> None:
        """Return when there is another picture than before, or `stop` is set."""
        while not self.stop.is_set():
            try:
                changed = self._wait_for_event()
            except (OSError, RuntimeError):
                # A folder vanished while we began to watch it, or the system's watches are used up.
                self.stop.wait(min(_PAUSE_WITHOUT_EVENTS, self._recheck))
                changed = self._changed()
            if changed:
                return

    def _wait_for_event(self) -> bool:
        """Watch until something happens; whether the picture is another now."""
        quiet = max(1, round(self._debounce * 1000))
        folders = sorted({str(folder) for path in self._paths for folder in _folders(path)})
        with RustNotify(folders, False, False, 300, False, True) as watcher:  # noqa: FBT003 - positional only
            # What changed before the watching began makes no event: only wait for the end of the changes then.
            timeout = quiet if self._picture() != self._seen else max(1, round(self._recheck * 1000))
            watcher.watch(quiet * _LONGEST_WAIT_FOR_QUIET, quiet, timeout, self.stop)
        return self._changed()

    def _changed(self) -> bool:
        picture = self._picture()
        changed = picture != self._seen
        self._seen = picture
        return changed

    def _picture(self) -> Picture:
        return tuple(_picture_of(path) for path in self._paths)


def _folders(path: Path) -> list[Path]:
    """The folders whose events tell of a path: itself, where it is or would be, and where its link leads."""
    folders = [next((parent for parent in path.parents if parent.is_dir()), Path(path.anchor))]
    if path.is_dir():
        folders.append(path)
    elif path.is_symlink() and (target := path.resolve().parent).is_dir():
        folders.append(target)
    return folders


def _picture_of(path: Path) -> Picture:
    """What the path leads to and how its files are; a change of content shows in time, size or file number."""
    try:
        if not path.is_dir():
            return _file_picture(path)
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(_SUFFIXES))  # noqa: PTH208 - names
        return tuple((name, _file_picture(path / name)) for name in names)
    except OSError as error:
        return (error.errno,)


def _file_picture(file: Path) -> Picture:
    try:
        status = file.stat()
    except OSError as error:
        return (error.errno,)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
