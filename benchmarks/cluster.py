"""An instance for many apps at a real API server. `python -m benchmarks.cluster` measures, prints, and writes nothing.

Each app is an App whose token is in a Secret, with a component of its own; a tenth has a Subscription. API server, etcd and
instance share the machine. Needs the programs of `make kubernetes-kit`. Numbers of apps: `python -m benchmarks.cluster 1 1000`.
"""

from __future__ import annotations

import asyncio
import http.client
import statistics
import sys
import tempfile
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import Process
from benchmarks.report import table
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.objects import SECRETS, custom
from dapr_shared.kubernetes.resources import APPS
from tests.support.instance import token_of
from tests.support.kubernetes_api_server import ApiServer
from tests.support.kubernetes_instance import (
    address,
    app,
    cluster_instance,
    install_kinds,
    memory,
    metadata,
    of_dapr,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dapr_shared.kube.objects import ObjectKind
    from tests.support.instance import Instance

COMPONENTS = custom("dapr.io", "v1alpha1", "components", "Component")
SUBSCRIPTIONS = custom("dapr.io", "v2alpha1", "subscriptions", "Subscription")
CHANGES = 5
"""Of which the median is told."""
REST = 10.0
PATIENCE = 300.0
Write = tuple[str, "ObjectKind", dict[str, Any]]


def main() -> int:
    """Measure and print."""
    rows = [
        ("apps", "ready s", "CPU s", "PSS MB", "at rest ms/s", "App in force s", "Component s", "CPU s", "waits ms",
         "all Apps s", "reloads"),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="dapr-shared-cluster-") as name:
        server = ApiServer(Path(name) / "kubernetes").start()
        try:
            install_kinds(server)
            rows += [
                _measured(server, Path(name) / f"{count}", count) for count in map(int, sys.argv[1:] or ("1", "1000"))
            ]
        finally:
            server.stop()
    print(table(rows))
    return 0


def _measured(server: ApiServer, folder: Path, count: int) -> tuple[str, ...]:
    namespace = server.create_namespace()
    _write(server.kubeconfig, namespace, _objects(count))
    begun = time.monotonic()
    with cluster_instance(folder, server.kubeconfig, namespace, "--multi-app", patience=PATIENCE) as instance:
        process = Process("instance", instance.process, instance.folder / "instance.log")
        ready, cpu, pss = time.monotonic() - begun, process.cpu_seconds(), process.pss_bytes()
        until(lambda: _told(server, namespace) == count, "the status of all Apps", PATIENCE)
        time.sleep(REST)
        before = process.exact_cpu_seconds()
        time.sleep(REST)
        rest = (process.exact_cpu_seconds() - before) / REST

        def seen(number: int, port: int) -> bool:
            return address(instance, f"app-{number}") == ("127.0.0.1", port)

        chosen = [number % count for number in range(CHANGES)]
        apps = [
            _timed(server, namespace, [_port(number, 1000 + turn)], lambda n=number, t=turn: seen(n, 1000 + t))
            for turn, number in enumerate(chosen)
        ]
        found: list[tuple[float, float, float]] = []
        for turn in range(CHANGES):
            worst = _Worst(instance)
            before = process.exact_cpu_seconds()
            taken = _timed(server, namespace, [_extra(turn)], lambda t=turn: f"extra-{t}" in _names(instance))
            time.sleep(1)
            found.append((taken, process.exact_cpu_seconds() - before, worst.end()))
        reloads = instance.metric("dapr_shared_reload_total")
        last = count - 1
        all_apps = _timed(
            server,
            namespace,
            [_port(number, 2000) for number in range(count)],
            lambda: seen(last, 2000) and seen(0, 2000),
        )
        reloads = instance.metric("dapr_shared_reload_total") - reloads
    taken, spent, waits = (statistics.median(column) for column in zip(*found, strict=True))
    return (
        str(count), f"{ready:.1f}", f"{cpu:.1f}", f"{pss / 1e6:.0f}", f"{rest * 1e3:.1f}", f"{statistics.median(apps):.2f}",
        f"{taken:.2f}", f"{spent:.2f}", f"{waits * 1e3:.0f}", f"{all_apps:.1f}", f"{reloads:.0f}",
    )  # fmt: skip


class _Worst:
    """Asks for a state in a loop; the longest wait for an answer, in seconds."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._worst = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def end(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._worst

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._instance.http, timeout=60)
        while not self._ended.wait(0.005):
            begun = time.monotonic()
            connection.request("GET", "/v1.0/state/store-0/key", headers={"dapr-api-token": token_of("app-0")})
            connection.getresponse().read()
            self._worst = max(self._worst, time.monotonic() - begun)
        connection.close()


def _timed(server: ApiServer, namespace: str, writes: Iterable[Write], done: Callable[[], bool]) -> float:
    """Seconds from the last write's answer until it is in force."""
    _write(server.kubeconfig, namespace, writes)
    begun = time.monotonic()
    until(done, "a change", PATIENCE)
    return time.monotonic() - begun


def _objects(count: int) -> Iterable[Write]:
    for number in range(count):
        name = f"app-{number}"
        yield "create", SECRETS, {"metadata": {"name": name}, "stringData": {"token": token_of(name)}}
        yield "create", APPS, app(name, tokens=[{"secretKeyRef": {"name": name, "key": "token"}}])
        yield "create", COMPONENTS, memory(f"store-{number}", scopes=[name])
    broker = {"type": "pubsub.in-memory", "version": "v1", "metadata": []}
    yield "create", COMPONENTS, of_dapr("Component", "broker", broker)
    for number in range(0, count, 10):
        spec = {"pubsubname": "broker", "topic": f"t-{number}", "routes": {"default": "/o"}}
        yield "create", SUBSCRIPTIONS, of_dapr("Subscription", f"s-{number}", spec, scopes=[f"app-{number}"])


def _port(number: int, port: int) -> Write:
    spec = {"channel": {"address": "127.0.0.1", "port": port}}
    return "patch", APPS, {"metadata": {"name": f"app-{number}"}, "spec": spec}


def _extra(turn: int) -> Write:
    return "create", COMPONENTS, memory(f"extra-{turn}", scopes=["app-0"])


def _names(instance: Instance) -> set[str]:
    return {one["name"] for one in metadata(instance, "app-0").get("components", [])}


def _told(server: ApiServer, namespace: str) -> int:
    time.sleep(1)
    return sum("status" in each for each in server.items("apps.shared.dapr.io", namespace))


def _write(kubeconfig: Path, namespace: str, writes: Iterable[Write]) -> None:
    async def write() -> None:
        async with AsyncExitStack() as stack:
            client = KubeClient.from_environment({"KUBECONFIG": str(kubeconfig)}, agent="benchmark")
            await client.start(stack)
            at_once = asyncio.Semaphore(8)

            async def one(verb: str, kind: ObjectKind, body: dict[str, Any]) -> None:
                async with at_once:
                    if verb == "create":
                        await client.create(kind, body, namespace)
                    else:
                        await client.patch(kind, body["metadata"]["name"], body, namespace)

            await asyncio.gather(*(one(*each) for each in writes))

    asyncio.run(write())


if __name__ == "__main__":
    sys.exit(main())
