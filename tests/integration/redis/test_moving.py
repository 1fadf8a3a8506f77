"""The steps of docs/moving-from-sidecars.md, there and back, with a real daprd beside each app. Needs DAPRD."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import recording_app
from tests.support.calls import ask
from tests.support.daprd import daprd, daprd_path
from tests.support.instance import component, free_ports, running, token_of, write_resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.daprd import Daprd

TOPIC = recording_app.TOPICS[0]
PUBLISH = f"/v1.0/publish/{recording_app.PUBSUB}/{TOPIC}"
JSON = ("content-type", "application/json")
APP = """
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {name: NAME}
spec:
  channel: {protocol: http, port: PORT}
  tokens:
    - envRef: NAME_TOKEN
"""


@pytest.fixture
def components(tmp_path, server, database) -> Path:
    """The folder with the component files of the sidecars."""
    daprd_path()
    folder = tmp_path / "components"
    folder.mkdir()
    where = {"redisHost": server.address, "redisDB": str(database)}
    kinds = {"statestore": "state.redis", recording_app.PUBSUB: "pubsub.redis"}
    write_resources(folder / "all.yaml", [component(name, kind, **where) for name, kind in kinds.items()])
    return folder


@contextmanager
def _app(folder: Path) -> Iterator[int]:
    """An app that writes down what it accepts, and has nothing of Dapr's; its port."""
    folder.mkdir()
    (port,) = free_ports(1)
    words = [sys.executable, recording_app.__file__, str(port), str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _sidecar(folder: Path, components: Path, app_id: str, port: int) -> AbstractContextManager[Daprd]:
    return daprd(folder, components, app_id, f"--app-port={port}")


class Dapr:
    """What an app is told: an endpoint, and where it is an instance's, a token."""

    def __init__(self, address: str, app_id: str = "") -> None:
        self._address = address
        self._token = [("dapr-api-token", token_of(app_id))] if app_id else []

    def ask(self, method: str, target: str, body: bytes | None = None):
        return ask(self._address, method, target, body, headers=[*self._token, JSON])

    def saves(self, value: str) -> None:
        """The state of the app is this from now on."""
        body = json.dumps([{"key": "kind", "value": value}]).encode()
        assert self.ask("POST", "/v1.0/state/statestore", body).status == 204

    def reads(self) -> str:
        return self.ask("GET", "/v1.0/state/statestore/kind").json()

    def publishes(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            assert self.ask("POST", PUBLISH, json.dumps({"id": f"m-{number}"}).encode()).status == 204


def _gets(folder: Path, last: int) -> None:
    """The app has accepted all messages up to this one, each once."""
    file, end = folder / "accepted", time.monotonic() + 30
    wanted = {f"m-{number}" for number in range(1, last + 1)}
    while not (found := file.read_text().split() if file.exists() else []) or not wanted <= set(found):
        assert time.monotonic() < end, wanted - set(found)
        time.sleep(0.05)
    assert len(found) == len(set(found)), found


def test_the_steps_from_sidecars_and_back(tmp_path, components):
    """Two apps are moved one at a time, and back: state and messages go on, none is lost and none comes twice."""
    apps = tmp_path / "apps"
    apps.mkdir()
    accepted = [tmp_path / name for name in ("orders", "stock")]
    tokens = {f"{folder.name.upper()}_TOKEN": token_of(folder.name) for folder in accepted}

    def all_get(last: int) -> None:
        for folder in accepted:
            _gets(folder, last)

    with ExitStack() as stack:
        ports = {folder.name: stack.enter_context(_app(folder)) for folder in accepted}
        side = {name: stack.enter_context(ExitStack()) for name in ports}
        own = {
            name: Dapr(side[name].enter_context(_sidecar(tmp_path / f"{name}-daprd", components, name, port)).http)
            for name, port in ports.items()
        }
        own["orders"].saves("green")
        own["stock"].publishes(1, 10)
        all_get(10)
        for name, port in ports.items():  # 1
            text = APP.replace("NAME_TOKEN", f"{name.upper()}_TOKEN").replace("NAME", name)
            (apps / f"{name}.yaml").write_text(text.replace("PORT", str(port)))
        instance = stack.enter_context(ExitStack())  # 2
        flags = [f"--apps={apps}", f"--resources-path={components}"]
        shared = instance.enter_context(running(tmp_path / "instance", *flags, env=tokens))
        moved = Dapr(shared.http, "orders")  # 3
        assert moved.reads() == "green"
        own["stock"].publishes(11, 30)  # both have sidecar and instance, which share its messages
        all_get(30)
        side["orders"].close()  # 5
        moved.saves("blue")
        own["stock"].publishes(31, 50)
        moved.publishes(51, 60)
        all_get(60)
        again = Dapr(stack.enter_context(_sidecar(tmp_path / "back", components, "orders", ports["orders"])).http)
        instance.close()  # back
        assert again.reads() == "blue"
        again.publishes(61, 70)
        all_get(70)
