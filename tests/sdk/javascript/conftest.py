"""The official JavaScript SDK against the real process: programs of Node, each with an app's token."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import until
from tests.support.instance import Instance, app, component, environment, free_ports, running, token_of
from tests.support.node import node_with_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PATIENCE = 20.0
"""Seconds that an answer, a start or an end of a program may take."""


class Client:
    """A running `client.mjs`: `call` is one call of the SDK's `DaprClient`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="answers of client.mjs")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.answers.put(line)

    def send(self, call: str, *words: Any) -> None:
        """Ask for a call without waiting for what comes of it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"call": call, "words": words}) + "\n")
        self._process.stdin.flush()

    def _ask(self, call: str, *words: Any) -> dict[str, Any]:
        self.send(call, *words)
        return json.loads(self.answers.get(timeout=PATIENCE))

    def call(self, call: str, *words: Any) -> Any:
        """The value of a call such as `state.get`."""
        answer = self._ask(call, *words)
        assert "value" in answer, answer
        return answer["value"]

    def refused(self, call: str, *words: Any) -> str:
        """The text of the error that the SDK throws or returns."""
        answer = self._ask(call, *words)
        assert "error" in answer, answer
        return answer["error"]

    def close(self) -> None:
        """End the program, by force: it may be waiting for an instance that refuses it."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


@dataclass
class Server:
    """A running `server.mjs`."""

    process: subprocess.Popen[bytes]
    output: Path

    def lines(self) -> list[dict[str, Any]]:
        """What it has printed, whole lines only."""
        whole = self.output.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def given(self, at: str, mark: str) -> list[Any]:
        """The data of the messages of one subscription that carry the test's mark, in the order of arrival."""
        return [line["data"] for line in self.lines() if line["at"] == at and mark in json.dumps(line["data"])]


@dataclass
class World:
    """One instance: `orders` and `stock` only call, `mail` and `callback` are running servers, `late` is not yet started."""

    instance: Instance
    node: str
    ports: dict[str, int]
    stack: ExitStack
    mail: Server = field(init=False)
    """Over HTTP."""
    callback: Server = field(init=False)
    """Over gRPC."""
    _clients: dict[tuple[str, str], Client] = field(default_factory=dict, init=False)

    def _start(self, name: str, *words: object, **streams: Any) -> subprocess.Popen[Any]:
        folder = self.instance.folder
        with (folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [self.node, str(HERE / name), *map(str, words)],
                cwd=folder,
                env=environment(folder),
                stderr=log,
                **streams,
            )

    def start_client(self, protocol: str, token: str) -> Client:
        """A `client.mjs` with any token."""
        port = self.instance.grpc_port if protocol == "grpc" else self.instance.http_port
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return Client(self._start("client.mjs", "127.0.0.1", port, protocol, token, **pipes))

    def client(self, app_id: str, protocol: str) -> Client:
        """The client of an app; it lives as long as the instance."""
        found = self._clients.get((app_id, protocol))
        if found is None:
            found = self._clients[app_id, protocol] = self.start_client(protocol, token_of(app_id))
            self.stack.callback(found.close)
        return found

    @contextmanager
    def server(self, app_id: str, *, run: int = 1, protocol: str = "http") -> Iterator[Server]:
        """The server of an app for a block of code, started; at its end it must end with 0."""
        output = self.instance.folder / f"{app_id}-{run}.jsonl"
        port = self.instance.grpc_port if protocol == "grpc" else self.instance.http_port
        words = (self.ports[app_id], "127.0.0.1", port, token_of(app_id), protocol)
        with output.open("wb") as stream:
            process = self._start("server.mjs", *words, stdin=subprocess.DEVNULL, stdout=stream)
        made = Server(process, output)
        try:
            until(lambda: process.poll() is not None or made.lines())
            assert process.poll() is None, (self.instance.folder / "server.mjs.log").read_text()
            yield made
            process.terminate()
            assert process.wait(PATIENCE) == 0, (self.instance.folder / "server.mjs.log").read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE)


@pytest.fixture(scope="session")
def node() -> str:
    """The command `node`, with the packages of package-lock.json installed beside the programs."""
    return node_with_packages()


@pytest.fixture(scope="package", params=["aio", "native"])
def world(request, node, tmp_path_factory):
    """The instance on one gRPC engine, with its apps."""
    folder = tmp_path_factory.mktemp(f"javascript-{request.param}")
    (folder / "secrets.json").write_text(json.dumps({"key": "of-orders", "db": {"user": "u", "password": "p"}}))
    ports = dict(zip(("mail", "callback", "late"), free_ports(3), strict=True))
    scopes = [{"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": ["db:password"]}]
    resources = [
        app("orders", secrets={"scopes": scopes}),
        app("stock"),
        app("mail", ports["mail"]),
        app("callback", ports["callback"], protocol="grpc"),
        app("late", ports["late"]),
        component("statestore", "state.sqlite", connectionString=str(folder / "state.db")),
        component("vault", "secretstores.local.file", secretsFile=str(folder / "secrets.json"), scopes=["orders"]),
        component("configstore", "configuration.sqlite", connectionString=str(folder / "configuration.db")),
        component("lockstore", "lock.sqlite", connectionString=str(folder / "locks.db")),
        component("files", "bindings.localstorage", rootPath=str(folder / "files")),
        component("tick", "bindings.cron", schedule="@every 1s", scopes=["mail", "callback"]),
        component("pubsub", "pubsub.sqlite", connectionString=str(folder / "pubsub.db"), redeliverInterval="100ms"),
    ]
    with running(folder, f"--grpc-engine={request.param}", resources=resources) as instance, ExitStack() as stack:
        made = World(instance, node, ports, stack)
        made.mail = stack.enter_context(made.server("mail"))
        made.callback = stack.enter_context(made.server("callback", protocol="grpc"))
        for app_id in ("mail", "callback"):
            instance.wait_for_line("app is reachable", app_id=app_id)
        yield made
