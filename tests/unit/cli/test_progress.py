"""A sign of life where something takes longer than a second."""

from __future__ import annotations

import io
import threading
from contextlib import redirect_stderr

import pytest

from dapr_shared.cli import progress
from dapr_shared.cli.progress import working


class _Screen(io.StringIO):
    """Standard error as a terminal; tells when something is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        self.drawn.set()
        return written


def test_what_takes_long_says_so_and_leaves_nothing_behind(monkeypatch):
    """Once its second is over the line tells what is being done; at the end, also after an error, the line is empty."""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    screen = _Screen()

    def fail() -> None:
        with redirect_stderr(screen), working("checking many files"):
            assert screen.drawn.wait(5)
            assert screen.getvalue() == "\rchecking many files …"
            raise ValueError("wrong file")

    with pytest.raises(ValueError, match="wrong file"):
        fail()
    assert screen.getvalue().endswith("\r\x1b[2K")


def test_what_is_quick_says_nothing():
    """Nothing is drawn, and nothing wiped, where it takes less than a second."""
    screen = _Screen()
    with redirect_stderr(screen), working("checking a file"):
        pass
    assert screen.getvalue() == ""


def test_a_pipe_gets_nothing(monkeypatch):
    """Without a terminal there is no sign of life, however long it takes."""
    pipe = io.StringIO()
    monkeypatch.setattr(progress, "Timer", None)  # not even a timer
    with redirect_stderr(pipe), working("checking many files"):
        pass
    assert pipe.getvalue() == ""
