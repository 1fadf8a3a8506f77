"""docs/command-line.md: its commands print what it shows, and it knows every command that there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from dapr_shared.cli.commands import app
from dapr_shared.cli.problem import BROKEN_PIPE, FAILED, INTERRUPTED, USAGE
from tests.support.demo import CHECKOUT
from tests.support.pages import Page

if TYPE_CHECKING:
    from pathlib import Path

PAGE = Page(CHECKOUT / "docs" / "command-line.md")
TEXT = PAGE.path.read_text(encoding="utf-8")


SESSIONS = [
    pytest.param(name, marks=pytest.mark.slow if name == "session" else ()) for name in sorted(PAGE.names("run"))
]


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session(tmp_path: Path, name: str) -> None:
    """The commands print what the page shows."""
    PAGE.put_files(tmp_path)
    shown = PAGE.run(name, tmp_path)
    assert re.fullmatch(PAGE.printed(name), shown), shown


def test_every_block_is_run() -> None:
    """No block of the page is unmarked."""
    assert all(block.mark for block in PAGE.blocks)


def test_every_command_is_named() -> None:
    """Each command of the program is in the table of the page."""
    commands = {name for name in app if not name.startswith("-")}
    table = TEXT.partition("## A first session")[0]
    missing = {name for name in commands - {"version"} if not re.search(rf"`(dapr-shared )?{name}\b", table)}
    assert not missing
    assert "--version" in table


def test_every_exit_code_is_told() -> None:
    """The exit codes of the page are those of the code."""
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert told == {0, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE}
