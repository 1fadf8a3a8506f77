"""Example 01 does what its README says, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.calls import Answer, ask
from tests.support.demo import Demo, demo, ports_for_a_run
from tests.support.required import need_command

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDERS = "/v1.0/invoke/orders/method/orders"
TEA = "/v1.0/state/statestore/tea"
JSON = ("content-type", "application/json")


def place(running: Demo, item: str, amount: object) -> Answer:
    body = json.dumps({"item": item, "amount": amount}).encode()
    return ask(running.http, "POST", ORDERS, body, headers=[*running.token("orders"), JSON])


def read(running: Demo, app_id: str, target: str) -> Answer:
    return ask(running.http, "GET", target, headers=running.token(app_id))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One run for the tests that leave it as it was."""
    with demo(tmp_path_factory.mktemp("example") / "state") as made:
        yield made
        assert made.stop() == 0, made.text()


def test_an_order_is_placed_and_kept(running: Demo) -> None:
    """An order comes back with its id, can be read by it, and has taken goods out of stock."""
    placed = place(running, "cup", 3)
    assert (placed.status, placed.json()["left"]) == (201, 97)
    found = read(running, "orders", f"{ORDERS}/{placed.json()['id']}")
    assert found.json() == {"id": placed.json()["id"], "item": "cup", "amount": 3}


def test_too_few_are_refused(running: Demo) -> None:
    """An order of more than there is gets the answer of `stock`, and none of it is taken."""
    assert place(running, "pot", 101).status == 409
    assert place(running, "pot", 100).json()["left"] == 0


@pytest.mark.parametrize("amount", [0, -1, "2", None])
def test_a_wrong_order_is_refused(running: Demo, amount: object) -> None:
    """What is no order is answered with 400 and how one looks."""
    answer = place(running, "tea", amount)
    assert answer.status == 400
    assert "amount" in answer.json()["error"]


def test_an_unknown_order(running: Demo) -> None:
    """An id that was never given is 404, the app's own status."""
    assert read(running, "orders", f"{ORDERS}/nothing").status == 404


def test_one_key_two_values(running: Demo) -> None:
    """Both apps use the key of the item, and each reads its own value: the state of an app is its own."""
    place(running, "milk", 4)
    key = "/v1.0/state/statestore/milk"
    assert read(running, "orders", key).json()["amount"] == 4
    assert read(running, "stock", key).json() == 96
    assert read(running, "orders", "/v1.0/state/statestore/stock%7C%7Cmilk").status in (204, 400)


def test_a_wrong_token_is_refused(running: Demo) -> None:
    """Without a token, and with one that is nobody's, the API answers 401."""
    assert ask(running.http, "GET", TEA).status == 401
    assert ask(running.http, "GET", TEA, headers=[("dapr-api-token", "guessed")]).status == 401


def test_the_offered_commands_work(running: Demo) -> None:
    """The three curl commands of the summary work as they stand."""
    need_command("curl", "curl")
    answers = [
        subprocess.run(command, shell=True, check=True, capture_output=True, timeout=20).stdout
        for command in running.curls()
    ]
    assert len(answers) == 3
    placed, order, left = (json.loads(answer) for answer in answers)
    assert placed == order | {"left": left}


def test_tokens_are_for_their_owner_alone(running: Demo) -> None:
    """The made tokens are readable by the user who runs the example and by nobody else."""
    for name in ("orders", "stock"):
        assert (running.state / "tokens" / name).stat().st_mode & 0o777 == 0o600


def test_a_second_run_of_one_checkout(running: Demo) -> None:
    """A second run on the same state folder says who has it and changes nothing."""
    with demo(running.state.parent / "second", running.ports, ready=False) as other:
        assert other.process.wait(20) == 1
    before = place(running, "tea", 1).json()["left"]
    command = [*other.process.args]  # type: ignore[misc]
    environment = dict(os.environ) | {"STATE": str(running.state)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"in use by another run (process {running.process.pid})" in done.stderr
    assert place(running, "tea", 1).json()["left"] == before - 1


def test_state_survives_a_restart(tmp_path: Path) -> None:
    """Orders and stock are there after a restart, under the same tokens."""
    ports = ports_for_a_run()
    with demo(tmp_path / "state", ports) as first:
        placed = place(first, "tea", 2).json()
        assert first.stop(signal.SIGTERM) == 0
    with demo(tmp_path / "state", ports) as second:
        assert read(second, "orders", f"{ORDERS}/{placed['id']}").json()["amount"] == 2
        assert place(second, "tea", 1).json()["left"] == 97
        assert second.stop() == 0


def test_the_end_is_quick_and_complete(tmp_path: Path) -> None:
    """Ctrl-C ends everything with exit code 0, in well under the grace of a shutdown, and leaves no process."""
    with demo(tmp_path / "state") as running:
        children = running.children()
        assert set(children) == {"instance", "orders", "stock"}
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 4
    assert not [pid for pid in children.values() if Path(f"/proc/{pid}").exists()]


def test_an_app_that_dies_is_reported(tmp_path: Path) -> None:
    """The end of an app is told with its exit code and log, and the instance serves the others."""
    with demo(tmp_path / "state") as running:
        os.kill(running.children()["stock"], signal.SIGKILL)
        running.wait_for("The app stock has ended with exit code -9; the instance goes on.")
        assert read(running, "orders", TEA).status == 204
        assert place(running, "tea", 1).status == 500
        assert running.stop() == 0


def test_an_instance_that_dies_ends_the_run(tmp_path: Path) -> None:
    """Without the instance nothing works: the run says so, ends the apps and fails."""
    with demo(tmp_path / "state") as running:
        children = running.children()
        os.kill(children["instance"], signal.SIGKILL)
        assert running.process.wait(20) == 1
        assert "the instance ended with exit code -9" in running.text()
    assert not [pid for pid in children.values() if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("variable", ["HTTP_PORT", "GRPC_PORT", "METRICS_PORT"])
def test_a_taken_port(tmp_path: Path, variable: str) -> None:
    """A port that is taken is said with its holder and the variable that changes it."""
    ports = ports_for_a_run()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[variable]))
        taken.listen()
        with demo(tmp_path / "state", ports, ready=False) as running:
            assert running.process.wait(20) == 1
            assert f"127.0.0.1:{ports[variable]} is taken by " in running.text()
            assert f"(process {os.getpid()})" in running.text()
            assert f"With make: make run {variable}=PORT" in running.text()


def test_a_taken_app_port(tmp_path: Path) -> None:
    """An app that cannot start is named, with what it wrote."""
    ports = ports_for_a_run()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["STOCK_PORT"]))
        taken.listen()
        with demo(tmp_path / "state", ports, ready=False) as running:
            assert running.process.wait(20) == 1
            assert "the app stock ended with exit code 1" in running.text()
            assert "Address already in use" in running.text()


def test_a_port_that_is_none(tmp_path: Path) -> None:
    """A variable that is no port is named with its value."""
    with demo(tmp_path / "state", {"HTTP_PORT": 70000}, ready=False) as running:
        assert running.process.wait(20) == 1
        assert "HTTP_PORT=70000 is not a port" in running.text()
