"""The commands of README.md work as they stand there, but for ports and folders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from dapr_shared.components.catalog import BUILT_IN
from tests.support.demo import CHECKOUT, demo
from tests.support.instance import free_ports
from tests.support.pages import Page, all_pages
from tests.support.required import need, need_command

if TYPE_CHECKING:
    from pathlib import Path

README = Page(CHECKOUT / "README.md")


def test_every_marked_block_is_run_here() -> None:
    """A block that is marked and that no test below runs would be a promise nobody keeps."""
    assert README.names("run") == {"start", "session", "one app", "many apps"}
    assert README.names("file") == {"apps.yaml"}


def test_make_run_and_the_session(tmp_path: Path) -> None:
    """`make run` starts the demo, and the session in a second terminal prints what README shows."""
    need_command("make", "make")
    need_command("curl", "curl")
    need((CHECKOUT / ".venv" / "bin" / "python").exists(), "the environment of the checkout (make environment-dev)")
    (words,) = README.commands("start")
    # -o: installing into the environment that runs these tests is not for a test.
    command = [*words.split(), "--no-print-directory", "-o", "environment-run"]
    with demo(tmp_path / "state", command=command) as running:
        shown = README.run("session", tmp_path, **{"127.0.0.1:3500": running.http, ".state/": f"{running.state}/"})
        assert re.fullmatch(README.printed("session"), shown), shown


@pytest.mark.parametrize(("name", "ports"), [("one app", (3600, 50600, 9600)), ("many apps", (3700, 50700, 9700))])
def test_a_session_with_an_instance(tmp_path: Path, name: str, ports: tuple[int, ...]) -> None:
    """The sessions that start an instance of their own print what README shows, and end it."""
    need_command("curl", "curl")
    README.put_files(tmp_path)
    changed = {str(old): str(new) for old, new in zip(ports, free_ports(len(ports)), strict=True)}
    shown = README.run(name, tmp_path, **changed)
    assert re.fullmatch(README.printed(name), shown), shown


def test_the_listed_components_are_the_catalogs() -> None:
    """README lists the component types of the catalog: all of them, and no others."""
    (row,) = [
        line for line in README.path.read_text(encoding="utf-8").splitlines() if line.startswith("| components |")
    ]
    now = row.split("|")[2]
    assert sorted(re.findall(r"`([^`]+)`", now)) == sorted({row.type for row in BUILT_IN})


def test_links_lead_somewhere() -> None:
    """Every relative link of the pages for readers names a file that exists."""
    missing = [
        (page.name, target)
        for page in all_pages()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not missing


def test_named_files_exist() -> None:
    """ARCHITECTURE.md names files of the source by their paths, and each is there."""
    text = (CHECKOUT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", text))
    assert named
    assert not [
        path for path in named if not any((root / path).exists() for root in (CHECKOUT / "src/dapr_shared", CHECKOUT))
    ]
