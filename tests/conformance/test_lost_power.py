"""Lost power: what SQLite components answer is on the disk before the answer, as the system calls of a process show.

A machine cannot be switched off in a test. What decides is visible all the same: between the last write to the database
or its log and the answer there must be an fsync of that file. A run with `synchronous: normal` shows that the test sees
the difference.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.demo import CHECKOUT
from tests.support.required import need_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWERS = 20
PROGRAM = """
import asyncio, json, os, sys
from tests.support.component_setups import Harness, Setup
from tests.support.component_pubsub import publish
from dapr_shared.contracts.state import SetRequest

async def main(kind, metadata, times):
    async with Harness(kind, Setup(metadata)).opened() as component:
        os.write(1, b"ready\\n")
        for number in range(times):
            if kind.startswith("state"):
                await component.set(SetRequest(f"app||{number}", b"1"))
            else:
                await publish(component, str(number))
            os.write(1, b"answered\\n")

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])))
"""
_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<fd>\d+)<(?P<file>[^>]*)>(?P<rest>.*)$")


def calls(trace: str) -> Iterator[tuple[str, str, str]]:
    """Name, file and the rest of each system call, in the order in which they ended."""
    unfinished: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            unfinished[thread] = text.removesuffix("<unfinished ...>").strip()
            continue
        if text.startswith("<... "):
            text = unfinished.pop(thread, "") + text.partition("resumed>")[2]
        found = _CALL.match(text)
        if found:
            yield found["name"], found["file"], found["rest"]


def answers_before_the_disk(tmp_path: Path, kind: str, **metadata: str) -> tuple[int, int]:
    """How many answers there were, and how many of them while something written was not yet synced."""
    strace = need_command("strace", "strace")
    trace, database = tmp_path / "trace", tmp_path / "data.db"
    given = {"connectionString": str(database), **metadata}
    words = [strace, "-f", "-y", "-s", "16", "-o", str(trace), "-e", "trace=pwrite64,write,fdatasync,fsync"]
    done = subprocess.run(
        [*words, sys.executable, "-c", PROGRAM, kind, json.dumps(given), str(ANSWERS)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ready, answered, early = False, 0, 0
    unsynced: set[str] = set()
    for name, file, rest in calls(trace.read_text(encoding="utf-8", errors="replace")):
        if name == "pwrite64" and file.startswith(str(database)) and not file.endswith("-shm"):
            unsynced.add(file)
        elif name in {"fdatasync", "fsync"}:
            unsynced.discard(file)
        elif name == "write" and '"ready' in rest:
            ready = True
        elif name == "write" and ready and '"answered' in rest:
            answered += 1
            early += bool(unsynced)
    return answered, early


@pytest.mark.parametrize(
    ("kind", "metadata"),
    [("pubsub.sqlite", {}), ("state.sqlite", {}), ("state.sqlite", {"disableWAL": "true"})],
    ids=["pubsub", "state", "state-journal"],
)
def test_an_answer_is_on_the_disk(tmp_path, kind, metadata):
    """With `synchronous: full`, the default, no write is answered before it is synced."""
    assert answers_before_the_disk(tmp_path, kind, **metadata) == (ANSWERS, 0)


def test_normal_answers_earlier(tmp_path):
    """With `synchronous: normal` answers come before the disk has them, as the page says: this test can tell."""
    answered, early = answers_before_the_disk(tmp_path, "pubsub.sqlite", synchronous="normal")
    assert answered == ANSWERS
    assert early > ANSWERS // 2
