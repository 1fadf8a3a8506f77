"""Example 04, run as its README says, on other ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.calls import ask
from tests.support.demo import CHECKOUT
from tests.support.instance import free_ports
from tests.support.required import need_command
from tests.support.runs import components_of, running

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = CHECKOUT / "examples" / "04-run-file"


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A copy with free ports, so that it may run anywhere; the port of each app."""
    need_command("python3", "python3")
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".dapr"))
    text = (folder / "dapr.yaml").read_text()
    ports = dict(zip(("orders", "stock", "mail"), free_ports(3), strict=True))
    for old, new in zip(("8101", "8102", "8103"), ports.values(), strict=True):
        assert text.count(old) == 1
        text = text.replace(old, str(new))
    (folder / "dapr.yaml").write_text(text)
    return folder, ports


def test_the_steps_of_the_readme(example):
    """An order goes through all three apps; who sees which component, what is sold out, and how an app's end is told."""
    folder, ports = example
    orders = f"127.0.0.1:{ports['orders']}"
    with running(folder, ["-f", "."]) as run:
        run.wait_for(rf"== APP - orders == Corner Shop takes orders on {ports['orders']}\n")
        run.wait_for("== APP - stock == 5 packets of tea\n")
        run.wait_until(lambda: "ordered" in run.ask("mail", "GET", "/v1.0/metadata").body.decode())
        answers = [
            ask(orders, "POST", "/orders", json.dumps({"id": str(number), "item": "tea"}).encode())
            for number in range(1, 7)
        ]
        assert [answer.status for answer in answers] == [200] * 5 + [409]
        assert answers[0].json() == {"item": "tea", "left": 4}
        assert ask(orders, "GET", "/orders/1").json() == {"id": "1", "item": "tea"}
        run.wait_until(lambda: run.text().count("== APP - mail == mail: your tea is on its way\n") == 5)
        assert components_of(run, "orders") == {"pubsub", "statestore"}
        assert components_of(run, "mail") == components_of(run, "stock") == {"pubsub"}
        (log,) = (folder / ".dapr" / "logs").glob("dapr-shared_daprd_*.log")
        pid = int(re.search(r"app process started app_id=mail pid=(\d+)", log.read_text())[1])
        os.kill(pid, signal.SIGTERM)
        run.wait_for("app mail was ended by SIGTERM")
        assert run.end(signal.SIGINT) == 1
    assert list((folder / "orders" / ".dapr" / "logs").glob("orders_app_*.log"))


def test_the_readme_names_its_files():
    """Every file and folder of the table is there, and every one that is there is in the table."""
    table = re.findall(r"^\| `([^`]+)` \|", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert all((EXAMPLE / name).exists() for name in table)
    there = {path.name for path in EXAMPLE.iterdir() if path.name not in ("README.md", ".dapr")}
    assert there == {name.partition("/")[0] for name in table}
