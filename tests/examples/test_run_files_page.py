"""docs/run-files.md: its commands print what it shows, and its table has the fields that are read."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from dapr_shared.resources import run_file
from dapr_shared.resources.run_file import load_run_file
from tests.support.demo import CHECKOUT
from tests.support.pages import Page
from tests.support.required import need_command
from tests.support.runs import running, write_run_file

if TYPE_CHECKING:
    from pathlib import Path

PAGE = Page(CHECKOUT / "docs" / "run-files.md")
TEXT = PAGE.path.read_text(encoding="utf-8")
FIELDS = [
    (name, where)
    for row in re.findall(r"^\| (`[^|]+`) \| (app|both|common) \|", TEXT, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", row[0])
    for where in (("app", "common") if row[1] == "both" else (row[1],))
]


@pytest.mark.parametrize("name", sorted(PAGE.names("run")))
def test_a_session(tmp_path: Path, name: str) -> None:
    """The commands print what the page shows."""
    need_command("curl", "curl")
    need_command("timeout", "coreutils")
    PAGE.put_files(tmp_path)
    shown = PAGE.run(name, tmp_path)
    assert re.fullmatch(PAGE.printed(name), shown), shown


def test_every_block_is_run_or_loaded() -> None:
    """No block of the page is unmarked, and its run file loads."""
    assert all(block.mark for block in PAGE.blocks)


def test_every_field_of_the_table_is_known(tmp_path: Path) -> None:
    """Each field is read where the table says, and has no effect where it says that."""
    for where in ("app", "common"):
        text = "\n".join(f"    {name}: null" for name, of in FIELDS if of == where and name != "appDirPath")
        file = tmp_path / "dapr.yaml"
        if where == "app":
            file.write_text(
                f"version: 1\napps:\n  - appDirPath: .\n    appID: a\n{text.replace('    appID: null', '')}\n"
            )
        else:
            file.write_text(f"version: 1\ncommon:\n{text}\napps: [{{appDirPath: ., appID: a}}]\n")
        assert load_run_file(str(file)).notices == ()


def test_the_table_has_every_field() -> None:
    """What is read is in the table."""
    read = {*run_file._SHARED, *run_file._WITHOUT_EFFECT, *run_file._OF_THE_INSTANCE, *run_file._KUBERNETES}
    read |= {"appDirPath", "appID", "command", "appPort", "appChannelAddress", "daprHTTPPort", "daprGRPCPort"}
    read |= {"unixDomainSocket", "logLevel", "enableApiLogging", "daprdLogDestination"}
    assert {name for name, _ in FIELDS} == read


def test_the_mistakes_read_as_shown(tmp_path: Path) -> None:
    """Each mistake of the table, made for real, is told in the words of the table."""
    shown = re.findall(r"^\| `([^`]+)` \|", TEXT.partition("## The most likely mistakes")[2], re.MULTILINE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = {"appDirPath": "orders"}
        told = [
            told_by(tmp_path, None),
            told_by(tmp_path, {**app, "command": "python3 app.py"}),
            told_by(tmp_path, {**app, "command": ["true"], "appPort": port}),
            told_by(tmp_path, {**app, "command": ["./app"]}),
            told_by(tmp_path, {**app, "command": ["true"], "appId": "x"}),
        ]
    assert len(shown) == len(told)
    for line, output in zip(shown, told, strict=True):
        line = line.replace("8001", str(port)).replace("python3 (process 4711)", f"… (process {os.getpid()})")  # noqa: PLW2901
        output = re.sub(r"dapr\.yaml, document 1, line \d+: ", "dapr.yaml: ", output)  # noqa: PLW2901
        assert re.search(re.escape(line).replace("…", ".*"), output), output


def told_by(folder: Path, app: dict | None) -> str:
    """What a run of this one app prints."""
    if app is not None:
        write_run_file(folder, [app])
    with running(folder, ["-f", "dapr.yaml"]) as run:
        run.wait()
        return run.text()
