"""Example 02 does what its README says, and the page on apps that come and go is true, with real processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dapr_shared.components.sqlite.pubsub_settings import SqlitePubSubSettings
from dapr_shared.contracts.settings import fields_of
from tests.support.apps import until
from tests.support.calls import ask
from tests.support.demo import CHECKOUT, PATIENCE, Demo, demo
from tests.support.instance import app, free_ports, running
from tests.support.pages import Page
from tests.support.required import need_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = CHECKOUT / "examples" / "02-apps-that-come-and-go"
RUN = [sys.executable, str(FOLDER / "run.py")]
READY = "/v1.0/metadata\n"
"""The end of its summary."""
PAGE = (CHECKOUT / "docs" / "apps-that-come-and-go.md").read_text(encoding="utf-8")
BLOCKS = {
    block.name: block.text
    for block in Page(FOLDER.parents[1] / "docs" / "apps-that-come-and-go.md").blocks
    if block.mark
}


def ports_for_a_run() -> dict[str, int]:
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "ORDER_PORT", "STOCK_PORT", "MAIL_PORT")
    return dict(zip(names, free_ports(len(names)), strict=True))


@contextmanager
def example(state: Path, ports: Mapping[str, int] | None = None) -> Iterator[Demo]:
    """One run, ready; at its end it must end with 0 and leave no process."""
    with demo(state, ports or ports_for_a_run(), command=RUN, ready=False) as made:
        made.wait_for(READY)
        yield made
        children = made.children().values()
        assert made.stop() == 0, made.text()
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


class Mail:
    """The app `mail`, started by the command that `run.py` prints."""

    def __init__(self, made: Demo, output: Path) -> None:
        (line,) = re.findall(r"^  (env .*mail\.py)$", made.text(), re.MULTILINE)
        self._output = output
        with output.open("wb") as stream:
            # `exec`: the process id is that of the app. The paths in the line are relative to the checkout.
            self.process = subprocess.Popen(
                ["sh", "-c", f"exec {line}"], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def mails(self) -> list[str]:
        return [line for line in self.lines() if line.startswith("To ")]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def mail(made: Demo, name: str, end: signal.Signals = signal.SIGINT) -> Iterator[Mail]:
    """The app `mail` for a block of code."""
    started = Mail(made, made.state.with_name(name))
    try:
        yield started
    finally:
        code = started.end(end)
    assert code == (0 if end is signal.SIGINT else -end), started.lines()


def place(made: Demo, item: str, amount: int = 2) -> str:
    """Place an order; its id."""
    body = json.dumps({"item": item, "amount": amount, "to": "ann@example.org"}).encode()
    headers = [*made.token("order"), ("content-type", "application/json")]
    answer = ask(made.http, "POST", "/v1.0/invoke/order/method/orders", body, headers=headers)
    assert answer.status == 202, answer
    return answer.json()["order"]


def published(made: Demo, topic: str) -> int:
    """How many messages the broker has taken for a topic."""
    text = ask(f"127.0.0.1:{made.ports['METRICS_PORT']}", "GET", "/metrics").body.decode()
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("dapr_component_pubsub_egress_count")
        and {"topic": topic, "success": "true"}.items() <= sample.labels.items()
    )


def subscriptions(made: Demo, app_id: str) -> list[dict[str, Any]]:
    answer = ask(made.http, "GET", "/v1.0/metadata", headers=made.token(app_id))
    return answer.json().get("subscriptions", [])


def pending(made: Demo, app_id: str) -> int | None:
    """What waits for an app whose subscription is paused; `None` when it is not."""
    for one in subscriptions(made, app_id):
        if one["state"] == "paused":
            return one["pending"]
    return None


def done(made: Demo, app_id: str) -> bool:
    """Whether the app is there and nothing waits for it."""
    found = subscriptions(made, app_id)
    return bool(found) and all((one["state"], one.get("pending")) == ("active", 0) for one in found)


def test_mail_comes_last_goes_and_comes_again(tmp_path: Path) -> None:
    """`mail`, started after its messages were published, gets each once; so do those that came while it was killed."""
    with example(tmp_path / "state") as made:
        first = {place(made, item) for item in ("tea", "cup", "pot")}
        until(lambda: published(made, "reserved") == 3, PATIENCE)
        assert subscriptions(made, "mail") == []  # nobody has seen it yet
        with mail(made, "mail-1.out", signal.SIGKILL) as one:
            until(lambda: len(one.mails()) == 3, PATIENCE)
            until(lambda: done(made, "mail"), PATIENCE)
            assert {line.split()[4] for line in one.mails()} == first
        fourth = place(made, "tea")
        until(lambda: pending(made, "mail") == 1, PATIENCE)
        with mail(made, "mail-2.out") as two:
            until(two.mails, PATIENCE)
            until(lambda: done(made, "mail"), PATIENCE)
            assert [line.split()[4] for line in two.mails()] == [fourth]


def test_messages_and_subscriptions_survive_a_restart(tmp_path: Path) -> None:
    """After a restart the instance knows what waits for `mail` before `mail` is there, and delivers it when it is."""
    ports = ports_for_a_run()
    with example(tmp_path / "state", ports) as made:
        with mail(made, "mail-1.out"):
            until(lambda: subscriptions(made, "mail"), PATIENCE)
        order = place(made, "tea")
        until(lambda: pending(made, "mail") == 1, PATIENCE)
    with example(tmp_path / "state", ports) as made:
        until(lambda: pending(made, "mail") == 1, PATIENCE)
        with mail(made, "mail-2.out") as again:
            until(again.mails, PATIENCE)
            assert [line.split()[4] for line in again.mails()] == [order]


def test_stock_is_killed_and_started_again(tmp_path: Path) -> None:
    """Orders are taken while `stock` is away; `run.py` says how to start it again, and it works on them then."""
    with example(tmp_path / "state") as made:
        os.kill(made.children()["stock"], signal.SIGKILL)
        made.wait_for("stock has ended; the instance goes on.")
        made.wait_for("stock.py\n")
        place(made, "tea", 60)
        place(made, "tea", 60)
        until(lambda: pending(made, "stock") == 2, PATIENCE)
        (line,) = re.findall(r"^  (env .*stock\.py)$", made.text(), re.MULTILINE)
        stock = subprocess.Popen(["sh", "-c", f"exec {line}"], cwd=CHECKOUT, stdout=subprocess.DEVNULL)
        try:
            with mail(made, "mail.out") as one:
                until(lambda: len(one.mails()) == 2, PATIENCE)
            assert sorted(line.split(") ")[1] for line in one.mails()) == [
                "has to wait, only 40 left",
                "is on its way",
            ]
        finally:
            stock.terminate()
            assert stock.wait(PATIENCE) == 0


def test_the_printed_order_works(tmp_path: Path) -> None:
    """The curl command of the summary places an order as it stands; tokens are for their owner alone."""
    need_command("curl", "curl")
    with example(tmp_path / "state") as made:
        order, look = made.curls()
        done = subprocess.run([*shlex.split(order), "-s"], check=True, capture_output=True, timeout=20)
        assert json.loads(done.stdout).keys() == {"order"}
        done = subprocess.run([*shlex.split(look), "-s"], check=True, capture_output=True, timeout=20)
        assert json.loads(done.stdout)["id"] == "mail"
        for file in (*(made.state / "tokens").iterdir(), *made.state.glob("*.env")):
            assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("body", [b'{"item":"tea"}', b'{"item":"tea","amount":0,"to":"a"}', b"[]", b"no"])
def test_a_wrong_order(shared: Demo, body: bytes) -> None:
    """What is no order is answered with 400 and publishes nothing."""
    before = published(shared, "orders")
    headers = [*shared.token("order"), ("content-type", "application/json")]
    answer = ask(shared.http, "POST", "/v1.0/invoke/order/method/orders", body, headers=headers)
    assert (answer.status, published(shared, "orders")) == (400, before)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One run for the tests that leave it as it was."""
    with example(tmp_path_factory.mktemp("example") / "state") as made:
        yield made


# The page ------------------------------------------------------------------------------------------------------------


def shell(block: str, replaced: Mapping[str, str]) -> str:
    """Run the commands of a block in the checkout, at other ports and folders; what they print."""
    script = "\n".join(line[2:] for line in BLOCKS[block].splitlines() if line.startswith("$ "))
    for old, new in replaced.items():
        script = script.replace(old, new)
    done = subprocess.run(
        ["bash", "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shows(block: str, output: str) -> bool:
    """Whether this is what the page shows below the commands; `…` stands for anything."""
    lines = [line for line in BLOCKS[block].splitlines() if not line.startswith("$ ")]
    pattern = "".join(re.escape(line).replace("…", "[^\n]*") + "\n" for line in lines)
    return re.fullmatch(pattern, output) is not None


def test_the_session_of_the_page(tmp_path: Path) -> None:
    """The commands of the page, in its order, print what it shows."""
    need_command("curl", "curl")
    assert set(BLOCKS) == {"start", "orders", "mail", "one more", "look", "pubsub.yaml"}
    assert BLOCKS["start"].endswith("examples/02-apps-that-come-and-go/run.py\n")
    with example(tmp_path / "state") as made:
        replaced = {
            "127.0.0.1:3500": made.http,
            ".state/02": str(made.state),
            ".venv/bin/python": sys.executable,
        }
        assert shows("orders", shell("orders", replaced))
        output = tmp_path / "mail.out"
        (line,) = [line[2:] for line in BLOCKS["mail"].splitlines() if line.startswith("$ ")]
        for old, new in replaced.items():
            line = line.replace(old, new)
        with output.open("wb") as stream:
            process = subprocess.Popen(["sh", "-c", f"exec {line}"], cwd=CHECKOUT, stdout=stream, stderr=stream)
        try:
            until(lambda: shows("mail", output.read_text()), PATIENCE)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        assert shows("one more", shell("one more", replaced))
        deadline = time.monotonic() + PATIENCE
        while not shows("look", seen := shell("look", replaced)):  # `stock` and the watch take a moment
            assert time.monotonic() < deadline, seen


def test_the_component_of_the_page(tmp_path: Path) -> None:
    """The Component resource of the page is accepted and makes a broker."""
    resources = [app("one"), yaml.safe_load(BLOCKS["pubsub.yaml"])]
    with running(tmp_path, resources=resources) as instance:
        assert instance.ask("POST", "/v1.0/publish/pubsub/topic", b"{}", app="one").status == 204
    assert (tmp_path / "pubsub.db").exists()


def test_the_settings_of_the_page() -> None:
    """The page lists exactly the settings that `pubsub.sqlite` has."""
    section = PAGE.partition("## Settings of pubsub.sqlite")[2]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(field.name for field in fields_of(SqlitePubSubSettings))
