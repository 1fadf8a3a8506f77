"""`dapr-shared run` with apps, in tests: started with a terminal or without one, read, signalled, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.calls import Answer, ask
from tests.support.instance import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

APP = str(Path(__file__).parent / "run_app.py")
SERVE = [sys.executable, APP]
"""The command of the small app."""
_POLL = 0.02


@dataclass
class Run:
    """One run."""

    process: subprocess.Popen[bytes]
    output: Path
    terminal: int = -1
    """The terminal's other end, where the run has one."""
    _read: bytes = field(default=b"", init=False)

    def text(self) -> str:
        """What was printed until now."""
        if self.terminal < 0:
            return self.output.read_bytes().decode()
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.terminal, 65536):
                self._read += data
        return self._read.decode()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something is printed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = re.search(pattern, self.text())
            if found:
                return found
            if self.process.poll() is not None and not re.search(pattern, self.text()):
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.text()}")
            time.sleep(_POLL)
        raise AssertionError(f"never printed {pattern!r}:\n{self.text()}")

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is so; what it is."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, self.text()
            time.sleep(_POLL)
        return found

    def port(self, app: str, protocol: str = "HTTP") -> int:
        """The port of an app's own API."""
        return int(self.wait_for(rf"app {app}: .*{protocol} 127\.0\.0\.1:(\d+)")[1])

    def ask(self, app: str, method: str, path: str, **fields: Any) -> Answer:
        """Call the API as an app, at its own port."""
        return ask(f"127.0.0.1:{self.port(app)}", method, path, **fields)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the run and wait for its end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            self.text()  # a terminal that nobody reads would stop it
            time.sleep(_POLL)
        return self.process.returncode


@contextmanager
def running(
    folder: Path,
    words: Sequence[str],
    *,
    terminal: bool = False,
    env: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """A `dapr-shared run` in a folder, ended at the end."""
    at = words.index("--") if "--" in words else len(words)
    flags = [*words[:at], "--data-dir", str(folder / "state"), *words[at:]]
    command = [sys.executable, "-P", "-m", "dapr_shared", "run", *flags]
    output = folder / "output"
    variables = {name: value for name, value in os.environ.items() if name not in ("DAPR_API_TOKEN", "NO_COLOR")}
    variables |= {"HOME": str(folder), "TERM": "xterm", **(env or {})}
    ours = theirs = -1
    if terminal:
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs if terminal else file,
            stderr=theirs if terminal else file,
            start_new_session=True,
            preexec_fn=_own_terminal if terminal else None,  # noqa: PLW1509 - one thread
        )
    if terminal:
        os.close(theirs)
    run = Run(process, output, ours)
    try:
        yield run
    finally:
        with contextlib.suppress(AssertionError):
            run.end()
        if process.poll() is None:
            process.kill()
            process.wait()
        if terminal:
            os.close(ours)


def _own_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C means what it does."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def write_run_file(folder: Path, apps: Sequence[Mapping[str, Any]], **common: Any) -> Path:
    """A run file in a folder; the directories of its apps are made."""
    for app in apps:
        (folder / app["appDirPath"]).mkdir(parents=True, exist_ok=True)
    path = folder / "dapr.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "common": common, "apps": list(apps)}), encoding="utf-8")
    return path


def components_of(run: Run, app: str) -> set[str]:
    """The names of the components that an app sees."""
    return {one["name"] for one in json.loads(run.ask(app, "GET", "/v1.0/metadata").body)["components"]}


def pids_of(folder: Path) -> list[int]:
    """The processes of an app in its directory, when it has said so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := [int(pid) for pid in (folder / "pids").read_text().split()]:
                return found
        time.sleep(_POLL)
    raise AssertionError("the app has not started")


def wait_until_gone(pids: Sequence[int]) -> None:
    """Wait until none of these processes runs."""
    deadline = time.monotonic() + PATIENCE
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if runs(pid)]}"
        time.sleep(_POLL)


def runs(pid: int) -> bool:
    """Whether a process is there and is more than a name that its parent has not read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
