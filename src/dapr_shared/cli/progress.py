"""A sign of life on a terminal where something takes longer than a second; nothing into a pipe."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE = 1.0
"""Seconds until anything is shown."""


@contextmanager
def working(what: str) -> Generator[None]:
    """Say on standard error what is being done, once it has taken a second; the line is gone at the end."""
    if not sys.stderr.isatty():
        yield
        return
    shown = False

    def show() -> None:
        nonlocal shown
        shown = True
        sys.stderr.write(f"\r{what} …")
        sys.stderr.flush()

    timer = Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
