"""The page "Ten minutes" is true from its first command to its last."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.demo import CHECKOUT
from tests.support.instance import free_ports
from tests.support.pages import Page
from tests.support.required import need_command
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

PAGE = Page(CHECKOUT / "docs" / "tutorial.md")


def shown(name: str, folder: Path, **replaced: str) -> None:
    """Run the blocks of a name, which must print what the page shows."""
    printed = PAGE.run(name, folder, **replaced)
    assert re.fullmatch(PAGE.printed(name), printed), printed


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    """Each block prints what the page shows, in the order of the page, with two free ports in place of 8001 and 8002."""
    need_command("curl", "curl")
    assert PAGE.names("run") == {"init", "start", "order", "look", "durable", "mistake"}
    http, grpc, orders, mail = free_ports(4)
    ports = {"8001": str(orders), "8002": str(mail)}
    shown("init", tmp_path)
    run_file = tmp_path / "shop" / "dapr.yaml"
    for old, new in ports.items():
        run_file.write_text(run_file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    (words,) = PAGE.commands("start")
    words = [*words.split()[1:], "--dapr-http-port", str(http), "--dapr-grpc-port", str(grpc)]
    running = Terminal(tmp_path, *words, width=200, env={"XDG_STATE_HOME": ""})
    try:
        running.wait_for("orders listens")
        running.wait_for("mail listens")
        shown("order", tmp_path, **ports)
        shown("look", tmp_path)
    except BaseException:
        running.process.kill()
        raise
    assert running.end(signal.SIGINT) == 0, running.text
    shown("durable", tmp_path)
    again = Terminal(tmp_path, *words, width=200, env={"XDG_STATE_HOME": ""})
    try:
        again.wait_for("orders listens")
        again.wait_for("mail listens")
        shown("order", tmp_path, **ports)
    except BaseException:
        again.process.kill()
        raise
    assert again.end(signal.SIGINT) == 0, again.text
    shown("mistake", tmp_path)
