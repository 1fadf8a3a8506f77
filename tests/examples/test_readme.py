"""The commands of README.md work as they stand there, but for ports and folders.

A console block below a comment `<!-- run: NAME -->` is run: the lines that begin with `$ ` by one shell, in order, and
what it prints must be the other lines, where `…` stands for anything. Blocks of one name are one session. A block below
`<!-- file: NAME -->` is put into a file first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dapr_shared.components.catalog import BUILT_IN
from tests.support.demo import CHECKOUT, PATIENCE, demo
from tests.support.instance import free_ports
from tests.support.required import need, need_command

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"<!-- (run|file): ([^>]*?) -->\n```\w+\n(.*?)```", re.DOTALL)
BLOCKS = [(kind, name, text) for kind, name, text in _BLOCK.findall(README)]


def commands(name: str) -> list[str]:
    """The commands of all blocks of a name."""
    return [line[2:] for line in _lines(name) if line.startswith("$ ")]


def printed(name: str) -> str:
    """What they print, as a regular expression."""
    expected = [line for line in _lines(name) if not line.startswith("$ ")]
    return "".join(re.escape(line).replace("…", ".*") + "\n" for line in expected)


def _lines(name: str) -> list[str]:
    return [line for kind, of, text in BLOCKS for line in text.splitlines() if (kind, of) == ("run", name)]


def run(name: str, folder: Path, **replaced: str) -> str:
    """Run the blocks of a name in a folder; what they print."""
    script = "\n".join([*commands(name), "wait"])
    for old, new in {".venv/bin/": f"{Path(sys.executable).parent}/", **replaced}.items():
        script = script.replace(old, new)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_marked_block_is_run_here() -> None:
    """A block that is marked and that no test below runs would be a promise nobody keeps."""
    assert {name for kind, name, _ in BLOCKS if kind == "run"} == {"start", "session", "one app", "many apps"}
    assert {name for kind, name, _ in BLOCKS if kind == "file"} == {"apps.yaml"}


def test_make_run_and_the_session(tmp_path: Path) -> None:
    """`make run` starts the demo, and the session in a second terminal prints what README shows."""
    need_command("make", "make")
    need_command("curl", "curl")
    need((CHECKOUT / ".venv" / "bin" / "python").exists(), "the environment of the checkout (make environment-dev)")
    (words,) = commands("start")
    # -o: installing into the environment that runs these tests is not for a test.
    command = [*words.split(), "--no-print-directory", "-o", "environment-run"]
    with demo(tmp_path / "state", command=command) as running:
        shown = run("session", tmp_path, **{"127.0.0.1:3500": running.http, ".state/": f"{running.state}/"})
        assert re.fullmatch(printed("session"), shown), shown


@pytest.mark.parametrize(("name", "ports"), [("one app", (3600, 50600, 9600)), ("many apps", (3700, 50700, 9700))])
def test_a_session_with_an_instance(tmp_path: Path, name: str, ports: tuple[int, ...]) -> None:
    """The sessions that start an instance of their own print what README shows, and end it."""
    need_command("curl", "curl")
    for kind, of, text in BLOCKS:
        if kind == "file":
            (tmp_path / of).write_text(text, encoding="utf-8")
    changed = {str(old): str(new) for old, new in zip(ports, free_ports(len(ports)), strict=True)}
    shown = run(name, tmp_path, **changed)
    assert re.fullmatch(printed(name), shown), shown


def test_the_listed_components_are_the_catalogs() -> None:
    """README lists the component types of the catalog: all of them, and no others."""
    (row,) = [line for line in README.splitlines() if line.startswith("| components |")]
    now = row.split("|")[2]
    assert sorted(re.findall(r"`([^`]+)`", now)) == sorted(row.type for row in BUILT_IN)


def test_links_lead_somewhere() -> None:
    """Every relative link of the pages for readers names a file that exists."""
    pages = [CHECKOUT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [*CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("examples/*/README.md")]
    missing = [
        (page.name, target)
        for page in pages
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
