"""The two nodes of the tests are gone after a run, however it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.kubernetes_cluster import need_cluster

pytestmark = pytest.mark.e2e
_PROGRAM = """
import pathlib, sys, time
from tests.support import images
from tests.support.kubernetes_cluster import Cluster
Cluster(pathlib.Path(sys.argv[1]), images.for_nodes()).start()
print("up", flush=True)
time.sleep(600)
"""


def test_nothing_of_two_nodes_outlives_a_run_that_is_killed(tmp_path):
    """With the process that started them, control plane, nodes, and all containers on these are gone."""
    need_cluster()
    folder = tmp_path / "cluster"
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "up\n"
            spaces = {_space(pid) for pid in _processes() if str(folder) in _line(pid)} - {_space("self")}
            assert len(spaces) == 2  # of processes, one a node
            assert _in_containers(run.pid)
        finally:
            run.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while left := [
        *_in_containers(run.pid),
        *(_line(pid) for pid in _processes() if str(folder) in _line(pid) or _space(pid) in spaces),
    ]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _in_containers(run: int) -> list[str]:
    """The processes in the containers of a run's nodes, by their cgroups."""
    return [_line(pid) for pid in _processes() if f"/dapr-shared-{run}-node" in _text(pid, "cgroup")]


def _processes() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _line(pid: str) -> str:
    return _text(pid, "cmdline").replace("\0", " ")


def _text(pid: str, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def _space(pid: str) -> str:
    """The namespace of processes that a process is in."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""
