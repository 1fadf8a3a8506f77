from __future__ import annotations

import json
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.http_peers import connected
from tests.support.inprocess import inprocess
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef


class Desk:
    """Writes resources, puts them in force, and asks as an app."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.instance: Any = None
        self.told = ""
        """Every problem that failed a reload."""

    @staticmethod
    def token(name: str) -> str:
        return f"{name}-token"

    def app(self, name: str, *, token: str | None = None, namespace: str = "default", **spec: Any) -> dict:
        """An App proved by `token`, by default its own; `tokens=…` says it otherwise."""
        digest = sha256((token or self.token(name)).encode()).hexdigest()
        return {
            "apiVersion": "shared.dapr.io/v1alpha1",
            "kind": "App",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"tokens": [{"sha256": digest}], **spec},
        }

    @staticmethod
    def of_dapr(kind: str, name: str, spec: dict, **top: Any) -> dict:
        metadata = {"name": name, "namespace": top.pop("namespace", "default")}
        return {"apiVersion": "dapr.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, **top}

    def component(self, name: str, type_: str = "state.in-memory", values: dict | None = None, **top: Any) -> dict:
        items = [{"name": key, "value": value} for key, value in (values or {}).items()]
        return self.of_dapr("Component", name, {"type": type_, "version": "v1", "metadata": items}, **top)

    @asynccontextmanager
    async def start(self, *resources: dict, **settings: Any):
        """An instance that serves these resources."""
        async with inprocess(self.folder, yaml.safe_dump_all(resources), **settings) as self.instance:
            events = self.instance.reloader._events
            tell = events.reload_failed
            events.reload_failed = lambda problem: (self._hear(problem), tell(problem))
            try:
                yield self
            finally:
                await self.instance.parts.listeners.drain(0)

    async def reload(self, *resources: dict) -> bool:
        """Put these resources in force instead; whether that went well."""
        self.instance.write("resources.yaml", yaml.safe_dump_all(resources))
        return await self.instance.reloader.reload()

    async def ask(self, name: str, target: str, body: bytes = b"", *, method: str = "GET", token: str = ""):
        """Call the HTTP API as an app."""
        return await self.instance.http(method, target, body, token=token or self.token(name))

    async def status(self, name: str, target: str = "/v1.0/metadata", **options: Any) -> int:
        return (await self.ask(name, target, **options)).status

    async def id_of(self, token: str) -> str:
        """The app that a token proves; empty: none."""
        answer = await self.ask("", "/v1.0/metadata", token=token)
        return json.loads(answer.body)["id"] if answer.status == 200 else ""

    def _hear(self, problem: str) -> None:
        self.told += problem + "\n"

    @property
    def log(self) -> str:
        """What was logged; whole once the instance has ended."""
        return self.instance.log.getvalue().decode()

    @property
    def listening(self) -> set[AppRef]:
        return set(self.instance.parts.listeners.apps())


@pytest.fixture
def desk(tmp_path):
    folder = tmp_path / "resources"
    folder.mkdir()
    return Desk(folder)


@pytest.fixture
def ports():
    """Some ports that nobody listens on."""
    return free_ports(4)


@pytest.fixture
def id_at():
    """Ask who the listener at an address thinks that we are; `None`: nobody listens."""

    async def ask(where: str | int, token: str = "") -> str | int | None:
        address = where if isinstance(where, str) else f"127.0.0.1:{where}"
        proof = f"dapr-api-token: {token}\r\n" if token else ""
        try:
            async with connected(address) as peer:
                answer = await peer.ask(f"GET /v1.0/metadata HTTP/1.1\r\nhost: x\r\n{proof}\r\n".encode())
        except OSError:
            return None
        return json.loads(answer.body)["id"] if answer.status == 200 else answer.status

    return ask
