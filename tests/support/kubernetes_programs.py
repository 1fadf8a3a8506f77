"""The programs of the Kubernetes tests, and processes that do not outlive the one that started them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

from tests.kubernetes.kit import programs
from tests.support.required import need, need_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def program(name: str) -> str:
    """The path of a program of the kit; `need` where it is not there in the version that the tests want."""
    absent = programs.missing(programs.folder())
    need(name not in absent, f"{name} of the programs of the Kubernetes tests (make kubernetes-kit)")
    return str(programs.folder() / name)


def need_programs() -> None:
    """`need` for all of them."""
    absent = programs.missing(programs.folder())
    need(not absent, f"{', '.join(absent)} of the programs of the Kubernetes tests (make kubernetes-kit)")


class Child:
    """A process with a log, ended by its id, and by the kernel when whoever started it is killed."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None):
        self.name = name
        self.log = folder / f"{name}.log"
        bound = [need_command("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*bound, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.process.wait()

    def wait_until(self, condition: Callable[[], bool], patience: float) -> None:
        """Wait for a condition of the running process; its log is in the error if it does not come, in seconds."""
        end = time.monotonic() + patience
        while not condition():
            ended = self.process.poll()
            assert ended is None, f"{self.name} has ended with {ended}: {self.tail()}"
            assert time.monotonic() < end, f"{self.name} is not ready after {patience:.0f} s: {self.tail()}"
            time.sleep(0.1)

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
