"""Processes that a benchmark starts, watches from outside and ends by their id.

Everything is read from `/proc`, so that what is measured needs no support for it: Linux only.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.01
STOP_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A benchmark that cannot run or whose figures would mean nothing; the message says why."""


@dataclass(frozen=True)
class Process:
    """A started process."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    """Standard output and standard error."""

    def cpu_seconds(self) -> float:
        """Processor time of all threads, user and system, in steps of a clock tick (10 ms)."""
        # The second field is the command in parentheses and may hold spaces: count from behind it.
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / _TICKS

    def exact_cpu_seconds(self) -> float:
        """Processor time of the threads that live now, in nanosecond steps: for times in which no thread ends."""
        total = 0
        for path in Path(f"/proc/{self.popen.pid}/task").glob("*/schedstat"):
            total += int(path.read_text(encoding="ascii").split()[0])
        return total / 1e9

    def pss_bytes(self) -> int:
        """Memory, shared pages divided by the number of processes that share them (proportional set size)."""
        text = Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text(encoding="ascii")
        return parse_pss(text)

    def check_alive(self) -> None:
        """Raise `BenchmarkError` with the end of the log if the process has ended."""
        code = self.popen.poll()
        if code is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchmarkError(f"{self.name} ended with exit code {code}:\n{tail}")

    def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL after `STOP_SECONDS`."""
        self.popen.terminate()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def parse_pss(smaps_rollup: str) -> int:
    """The PSS in bytes of the text of `/proc/<pid>/smaps_rollup`. Raises `BenchmarkError` if there is none."""
    found = re.search(r"^Pss:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    if found is None:
        raise BenchmarkError("/proc/<pid>/smaps_rollup has no line 'Pss:'")
    return int(found[1]) * 1024


def start(stack: ExitStack, folder: Path, name: str, command: Sequence[str], **environment: str) -> Process:
    """Start a process that the stack ends; its output goes to a file of the folder."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    process = Process(name, popen, log)
    stack.callback(process.stop)
    return process


_PORTS = range(10_000, 32_000)
_RANDOM = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free now, all different.

    Below those that the system gives to connections: the thousand of a thousand apps would take one of them meanwhile.
    """
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            port = _RANDOM.choice(_PORTS)
            one = stack.enter_context(socket.socket())
            with suppress(OSError):  # somebody has it
                one.bind((LOOPBACK, port))
                found.append(port)
    return found


def wait_healthy(process: Process, port: int, path: str = "/v1.0/healthz", seconds: float = 30.0) -> None:
    """Wait until a GET of the path answers 2xx. Raises `BenchmarkError` when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.check_alive()
        if status(port, "GET", path) // 100 == 2:
            return
        time.sleep(POLL_SECONDS)
    raise BenchmarkError(f"{process.name}: no 2xx for {path} on port {port} within {seconds:g} s; log: {process.log}")


def status(port: int, method: str, path: str, body: bytes | None = None, headers: Iterable[str] = ()) -> int:
    """The status of one HTTP request, 0 if it got no answer. `headers`: lines `name: value`."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        named = dict(line.split(": ", 1) for line in headers)
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()
