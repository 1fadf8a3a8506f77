"""What our own code does for one request, counted: calls and bytecodes. Exact on any machine, however busy it is.

Counted is what the package's frames do: each of their calls (a coroutine that goes on after a wait counts again), each
call that they make to something written in C, and each bytecode that they run. Libraries in Python are not looked into.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dapr_shared

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import CodeType, FrameType

_PACKAGE = str(Path(dapr_shared.__file__).parent) + "/"


class Counts:
    """Calls by the name of what is called; bytecodes by the function that runs them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytecodes: Counter[str] = Counter()
        self._names: dict[CodeType, str] = {}

    def _name(self, frame: FrameType) -> str:
        """`module:function` of a frame of the package, else empty."""
        code = frame.f_code
        name = self._names.get(code)
        if name is None:
            inside = code.co_filename.startswith(_PACKAGE)
            module = code.co_filename.removeprefix(_PACKAGE).removesuffix(".py").replace("/", ".")
            name = self._names[code] = f"{module}:{code.co_qualname}" if inside else ""
        return name

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """See `sys.setprofile`."""
        if event == "call":
            name = self._name(frame)
            if name:
                self.calls[name] += 1
        elif event == "c_call" and (name := self._name(frame)):
            self.calls[f"{name} -> {argument.__qualname__}"] += 1

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        """See `sys.settrace`."""
        name = self._name(frame)
        if not name:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.bytecodes[name] += 1
        return self.trace


@contextmanager
def counted_calls() -> Generator[Counts]:
    """Count the calls of this thread."""
    counts = Counts()
    before = sys.getprofile()
    sys.setprofile(counts.profile)
    try:
        yield counts
    finally:
        sys.setprofile(before)


@contextmanager
def counted_bytecodes() -> Generator[Counts]:
    """Count the bytecodes of this thread, of frames that begin or go on inside."""
    counts = Counts()
    before = sys.gettrace()
    sys.settrace(counts.trace)
    try:
        yield counts
    finally:
        sys.settrace(before)
