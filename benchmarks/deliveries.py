"""Publish → delivered, end to end: what a message costs from its publication until every subscriber has it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from benchmarks.deployments import PEER, SERVED, App, Deployment, start_ours, start_peer
from benchmarks.load import HTTP_CONNECTIONS, Load
from benchmarks.measure import Result, Round, summarize
from benchmarks.processes import BenchmarkError, Process, free_ports, wait_healthy
from benchmarks.servers import Servers
from benchmarks.subscribers import Run

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = "bench"
WARM_UP_SECONDS = 1.0
_REPLY_SECONDS = 60.0


@dataclass(frozen=True)
class Delivery:
    """Messages to so many apps, each of which gets every message."""

    name: str
    broker: str
    """Name of the component."""
    subscribers: int
    goal: float = 0.0
    """The ratio to daprd's processor time that is aimed at; 0: none."""

    @property
    def compared(self) -> bool:
        """Whether a daprd can do the same: its broker in memory knows the one app of its own process.

        With Redis it could for any number, but a hundred daprds are more than a small machine takes.
        """
        return self.broker in {"bus-memory", "bus-redis"} and self.subscribers == 1

    @property
    def server(self) -> str:
        """The server that it needs; empty: none."""
        return SERVED.get(self.broker.removeprefix("bus-"), "")


def deliveries() -> dict[str, Delivery]:
    """All of them by name, in the order in which they run."""
    rows = [
        Delivery("deliver-memory-1", "bus-memory", 1, goal=0.4),
        Delivery("deliver-memory-100", "bus-memory", 100),
        Delivery("deliver-sqlite-1", "bus-sqlite", 1),
        Delivery("deliver-sqlite-100", "bus-sqlite", 100),
        Delivery("deliver-redis-1", "bus-redis", 1, goal=0.5),
        Delivery("deliver-redis-100", "bus-redis", 100),
    ]
    return {row.name: row for row in rows}


def run(delivery: Delivery, folder: Path, peer: str | None, *, rounds: int, seconds: float) -> list[Result]:
    """Start the apps and the deployments, warm them up, and measure them in turn. Raises `BenchmarkError`."""
    with ExitStack() as stack:
        servers = Servers()
        servers.start(stack, folder, {delivery.server})
        if delivery.server and delivery.server not in servers.kinds:
            print(f"{delivery.name}: not measured, there is no {delivery.server} here", file=sys.stderr)
            return []
        started: list[tuple[Deployment, Subscribers]] = []
        for name, binary in (("dapr-shared aio", None), (PEER, peer if delivery.compared else None)):
            if name == PEER and binary is None:
                continue
            # Apps of their own for each deployment: an event must have come from the one that is measured.
            subscribers = Subscribers(stack, folder, delivery.subscribers)
            resources = "---\n".join(filter(None, [_subscription(delivery.broker), servers.components()]))
            if binary is None:
                deployment = start_ours(stack, folder, subscribers.apps, brokers=True, resources=resources)
            else:
                deployment = start_peer(stack, folder, subscribers.apps, binary, brokers=True, resources=resources)
            started.append((deployment, subscribers))
        for deployment, subscribers in started:
            subscribers.publish(deployment, delivery, WARM_UP_SECONDS)
        measured: list[list[Round]] = [[] for _ in started]
        for _ in range(rounds):
            for (deployment, subscribers), into in zip(started, measured, strict=True):
                into.append(_round(delivery, deployment, subscribers, seconds))
        return [
            summarize(
                delivery.name,
                deployment.name,
                done,
                sum(process.pss_bytes() for process in deployment.serving(app.app_id for app in subscribers.apps)),
            )
            for (deployment, subscribers), done in zip(started, measured, strict=True)
        ]


class Subscribers:
    """The running process of `benchmarks.subscribers`."""

    def __init__(self, stack: ExitStack, folder: Path, count: int) -> None:
        ports = free_ports(count)
        self.apps = [App(f"subscriber-{number}", port) for number, port in enumerate(ports, 1)]
        command = [sys.executable, "-m", "benchmarks.subscribers", *map(str, ports)]
        log = folder / f"subscribers-{ports[0]}.log"
        with log.open("wb") as errors:
            popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self._process = Process("subscribers", popen, log)
        stack.callback(self._end)
        wait_healthy(self._process, ports[0], "/")

    def publish(self, deployment: Deployment, delivery: Delivery, seconds: float) -> Load:
        """Publish for so long; every message has come to every app. Raises `BenchmarkError`."""
        popen = self._process.popen
        path = f"/v1.0/publish/{delivery.broker}/{TOPIC}"
        order = Run(deployment.http_port, path, deployment.headers, HTTP_CONNECTIONS, seconds)
        if popen.stdin is None or popen.stdout is None:
            raise BenchmarkError("the subscribers have no pipes")
        popen.stdin.write(msgspec.json.encode(order) + b"\n")
        popen.stdin.flush()
        line = popen.stdout.readline()
        self._process.check_alive()
        try:
            return msgspec.json.decode(line, type=Load)
        except msgspec.ValidationError:
            raise BenchmarkError(f"{delivery.name} on {deployment.name}: {line.decode().strip()}") from None

    def _end(self) -> None:
        popen = self._process.popen
        self._process.stop()
        for pipe in (popen.stdin, popen.stdout):
            if pipe is not None:
                pipe.close()


def _round(delivery: Delivery, deployment: Deployment, subscribers: Subscribers, seconds: float) -> Round:
    processes = deployment.serving(app.app_id for app in subscribers.apps)
    before = sum(process.cpu_seconds() for process in processes)
    load = subscribers.publish(deployment, delivery, seconds)
    for process in processes:
        process.check_alive()
    used = sum(process.cpu_seconds() for process in processes) - before
    return Round(load, used / load.requests * 1e6)


def _subscription(broker: str) -> str:
    return (
        "apiVersion: dapr.io/v2alpha1\n"
        "kind: Subscription\n"
        "metadata: {name: bench}\n"
        f"spec: {{pubsubname: {broker}, topic: {TOPIC}, routes: {{default: /events}}}}\n"
    )
