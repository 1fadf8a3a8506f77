"""A process that keeps one Kubernetes for all test processes of a run, and ends it when the last of them has gone.

    python -m tests.support.kubernetes_keeper MODULE:CLASS FOLDER

Each test process holds a connection to the keeper's socket. The kernel closes it, however the process ends, so that
nothing is left behind by a run that was interrupted or killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

ALONE = 60.0
"""Seconds after which a keeper that nobody has asked ends."""
_ROOT = Path(__file__).resolve().parents[2]


class Kept(Protocol):
    """What a keeper keeps; made with the folder of its files."""

    def start(self) -> object:
        """Start it and wait until it can be used."""

    def stop(self) -> None:
        """End whatever of it runs."""


@contextlib.contextmanager
def kept(what: str, folder: Path, patience: float) -> Iterator[None]:
    """Have `module:Class` run, started by the first process that asks; `patience` is in seconds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as held:
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _connected(held, folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                _start(what, folder)
                _wait(lambda: _connected(held, folder), ALONE, folder)
        _wait(lambda: (folder / "ready").exists() or _failed(folder), patience, folder)
        yield


def _start(what: str, folder: Path) -> None:
    with (folder / "keeper.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", __name__, what, str(folder)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests: the keeper sees them go
        ).returncode = 0  # never waited for: it ends when the tests have gone


def _connected(held: socket.socket, folder: Path) -> bool:
    try:
        held.connect(str(folder / "keeper.sock"))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _failed(folder: Path) -> bool:
    failed = folder / "failed"
    if failed.exists():
        raise AssertionError(f"Kubernetes has not started: {failed.read_text(encoding='utf-8')}")
    return False


def _wait(condition, patience: float, folder: Path) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited {patience:.0f} s: {(folder / 'keeper.log').read_text()[-2000:]}"
        time.sleep(0.05)


def main(what: str, folder: Path) -> int:
    """Start it, hold it as long as somebody is connected, end it; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    module, name = what.split(":")
    thing: Kept = getattr(importlib.import_module(module), name)(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "keeper.sock"))
        listener.listen(64)
        try:
            thing.start()
            (folder / "ready").touch()
            _hold(listener)
        except Exception:  # noqa: BLE001 - told to the tests, whatever it is
            (folder / "failed").write_text(traceback.format_exc()[-4000:], encoding="utf-8")
            _hold(listener)
            return 1
        finally:
            (folder / "keeper.sock").unlink()  # whoever comes now starts another
            thing.stop()
    return 0


def _hold(listener: socket.socket) -> None:
    """Until all connections have been closed, or nobody has come."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        users, came = 0, False
        while users or not came:
            ready = selector.select(None if came else ALONE)
            if not ready:
                return
            for key, _ in ready:
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    users, came = users + 1, True
                elif isinstance(key.fileobj, socket.socket) and not key.fileobj.recv(1):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    users -= 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
