"""The code blocks of documentation pages, and running them as a reader would.

A console block below a comment `<!-- run: NAME -->` is run: the lines that begin with `$ `, and go on with `> `, by one shell, in order, and
what it prints must be the other lines, where `…` stands for anything, and a line of it alone for any lines. Blocks of one name are one session. A block below
`<!-- file: NAME -->` is put into a file first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.support.demo import CHECKOUT, PATIENCE

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>run|file): (?P<name>[^>]*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block of code."""

    mark: str
    """`run`, `file`, or empty."""
    name: str
    language: str
    text: str
    line: int
    """Where it begins, from 1."""


class Page:
    """One page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        self.blocks = [
            Block(
                found["mark"] or "",
                found["name"] or "",
                found["language"],
                textwrap.dedent(found["text"]),
                text.count("\n", 0, found.start()) + 1,
            )
            for found in _BLOCK.finditer(text)
        ]

    def names(self, mark: str) -> set[str]:
        """The names of the blocks with this mark."""
        return {block.name for block in self.blocks if block.mark == mark}

    def commands(self, name: str) -> list[str]:
        """The commands of all blocks of a name; a line that begins with `> ` goes on with the one before."""
        return [line[2:] for line in self._lines(name) if line.startswith(("$ ", "> "))]

    def printed(self, name: str) -> str:
        """What they print, as a regular expression."""
        expected = [line for line in self._lines(name) if not line.startswith(("$ ", "> "))]
        return "".join("(?:.*\\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in expected)

    def put_files(self, folder: Path) -> None:
        """Write the blocks that are files."""
        for block in self.blocks:
            if block.mark == "file":
                (folder / block.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.name).write_text(block.text, encoding="utf-8")

    def run(self, name: str, folder: Path, *, patience: float = PATIENCE, **replaced: str) -> str:
        """Run the blocks of a name in a folder, with texts replaced in the commands; what they print.

        `patience` in seconds.
        """
        script = "\n".join([*self.commands(name), "wait"])
        for old, new in {".venv/bin/": f"{Path(sys.executable).parent}/", **replaced}.items():
            script = script.replace(old, new)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _lines(self, name: str) -> list[str]:
        return [
            line
            for block in self.blocks
            if (block.mark, block.name) == ("run", name)
            for line in block.text.splitlines()
        ]


def all_pages() -> list[Path]:
    """The pages for readers: of the checkout's root, of docs/, of the examples."""
    roots = [CHECKOUT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*roots, *sorted(CHECKOUT.glob("docs/**/*.md")), *sorted(CHECKOUT.glob("examples/*/README.md"))]
