"""Programs around an SDK of another language: one that answers calls, one that receives and prints what it gets.

Both speak JSON lines: a call is `{"call": …, …}` on standard input and its answer `{"value": …}` or `{"error": …}` on
standard output; a received event is `{"at": …, "data": …}`.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.apps import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PATIENCE = 20.0
"""Seconds that an answer, a start or an end of a program may take."""


class CallingProgram:
    """A running program that answers calls, one at a time."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with log.open("ab") as stream:
            self._process: subprocess.Popen[str] = subprocess.Popen(command, env=environment, stderr=stream, **pipes)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"answers of {command[0]}")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(line)

    def send(self, call: str, *words: Any, **given: Any) -> None:
        """Ask for a call without waiting for what comes of it."""
        assert self._process.stdin
        asked = {"call": call, **given} | ({"words": words} if words else {})
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def answered(self) -> bool:
        """Whether an answer is there that was not taken."""
        return not self._answers.empty()

    def _ask(self, call: str, words: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        self.send(call, *words, **given)
        return json.loads(self._answers.get(timeout=PATIENCE))

    def call(self, call: str, *words: Any, **given: Any) -> Any:
        """The value of a call, whose arguments are a list (`words`) or have names (`given`)."""
        answer = self._ask(call, words, given)
        assert "value" in answer, answer
        return answer["value"]

    def refused(self, call: str, *words: Any, **given: Any) -> str:
        """The text of the error that the SDK throws or returns."""
        answer = self._ask(call, words, given)
        assert "error" in answer, answer
        return answer["error"]

    def close(self) -> None:
        """End the program, by force: it may be waiting for an instance that refuses it."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


@dataclass
class ReceivingProgram:
    """A running program that prints what it receives."""

    process: subprocess.Popen[bytes]
    output: Path

    def lines(self) -> list[dict[str, Any]]:
        """What it has printed, whole lines only."""
        whole = self.output.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def given(self, at: str, mark: str) -> list[Any]:
        """The data of the events of one handler that carry the test's mark, in the order of arrival."""
        return [line["data"] for line in self.lines() if line["at"] == at and mark in json.dumps(line["data"])]


@contextmanager
def receiving(
    command: Sequence[str], environment: Mapping[str, str], output: Path, log: Path
) -> Iterator[ReceivingProgram]:
    """Such a program for a block of code, started; at its end it must end with 0 after SIGTERM."""
    with output.open("wb") as stream, log.open("ab") as errors:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=errors)
    made = ReceivingProgram(process, output)
    try:
        until(lambda: process.poll() is not None or made.lines())
        assert process.poll() is None, log.read_text()
        yield made
        process.terminate()
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
