"""Example 01 as a user runs it: the script in its own session, watched by what it prints, ended by its id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.instance import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parent.parent.parent
RUN = [sys.executable, str(CHECKOUT / "examples" / "01-two-apps" / "run.py")]
PATIENCE = 30.0
_POLL = 0.02


@dataclass
class Demo:
    """One run of the example."""

    process: subprocess.Popen[bytes]
    output: Path
    ports: Mapping[str, int]
    state: Path

    @property
    def http(self) -> str:
        """`host:port` of the HTTP API."""
        return f"127.0.0.1:{self.ports['HTTP_PORT']}"

    def text(self) -> str:
        """Everything that it has printed."""
        return self.output.read_text(errors="replace")

    def token(self, app_id: str) -> list[tuple[str, str]]:
        """The header that proves an app."""
        return [("dapr-api-token", (self.state / "tokens" / app_id).read_text())]

    def curls(self) -> list[str]:
        """The commands that the summary offers."""
        return re.findall(r"^  (curl .*)$", self.text(), re.MULTILINE)

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this. Fails when it ends before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.text():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"did not print {text!r}:\n{self.text()}"
            time.sleep(_POLL)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it by a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def children(self) -> dict[str, int]:
        """The process ids of what it started, by the last word of script or module."""
        found: dict[str, int] = {}
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in tasks:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            found["instance" if "dapr_shared" in words else Path(words[1]).stem] = int(child)
        return found


def ports_for_a_run() -> dict[str, int]:
    """The variables of a run, each with a port that is free now."""
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "ORDERS_PORT", "STOCK_PORT")
    return dict(zip(names, free_ports(len(names)), strict=True))


def environment_for(state: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """The environment of a run: small, and nothing of Dapr's in it."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(state.parent),
        "LANG": "C.UTF-8",
        "STATE": str(state),
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        **{name: str(port) for name, port in ports.items()},
    }


@contextmanager
def demo(
    state: Path, ports: Mapping[str, int] | None = None, *, command: Sequence[str] = RUN, ready: bool = True
) -> Iterator[Demo]:
    """Run it for a block of code. `ready=False`: do not wait for its summary."""
    ports = ports or ports_for_a_run()
    output = state.with_suffix(".out")
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment_for(state, ports),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    made = Demo(process, output, ports, state)
    try:
        if ready:
            made.wait_for("/v1.0/state/statestore/tea\n")
        yield made
    finally:
        if process.poll() is None:
            made.stop(signal.SIGTERM)
