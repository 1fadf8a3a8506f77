"""Memory, start-to-ready and idle processor time for one app and for many, present and absent, with ten components.

Of the ten, three are those of every benchmark, two need nothing, and five reach a Redis; without a `redis-server` on this
machine there are five, which the table says.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.deployments import App, Deployment, start_apps, start_ours, start_peer
from benchmarks.processes import free_ports
from benchmarks.servers import Servers, component

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP_COUNTS = (1, 20, 100, 1000)
COMPARED_UP_TO = 100
"""More sidecars than that are not started side by side: a thousand would need 25 to 45 GB."""
ALTERNATED_UP_TO = 20
"""More sidecars than that are started once, not in each round: a hundred take a minute until all are ready."""
SETTLE_SECONDS = 1.0
"""Between ready and the first look: start-up work ends, memory is given back."""


@dataclass(frozen=True)
class Footprint:
    """What a deployment costs when nobody calls it."""

    deployment: str
    apps: int
    absent: int
    """Of them, those that nobody listens for."""
    processes: int
    start_seconds: float
    """From the first process started until all answer their health check."""
    components: int
    pss_bytes: int
    idle_percent: float
    """Processor time without a request, in percent of one core."""


def measure(folder: Path, peer: str | None, *, rounds: int, seconds: float) -> list[Footprint]:
    """Start and stop everything `rounds` times, ours and the peer in alternation; medians."""
    found: list[Footprint] = []
    for count, absent in [*((count, 0) for count in APP_COUNTS), (APP_COUNTS[-1], APP_COUNTS[-1])]:
        with ExitStack() as stack:
            servers = Servers()
            servers.start(stack, folder, {"redis"})
            components = Components(servers)
            # The apps proper, without the three that the other scenarios call.
            apps = start_apps(stack, folder, 0 if absent else count)[-count:]
            if absent:
                apps = [App(f"absent-{number}", port) for number, port in enumerate(free_ports(count))]
            starters: list[Callable[[ExitStack], Deployment]] = [
                partial(_ours, folder=folder, apps=apps, more=components.document())
            ]
            if peer is not None and count <= COMPARED_UP_TO:
                starters.append(partial(_peer, folder=folder, apps=apps, peer=peer, more=components.document()))
            looks: list[list[Footprint]] = [[] for _ in starters]
            for done in range(rounds):
                for number, (starter, into) in enumerate(zip(starters, looks, strict=True)):
                    if number and done and count > ALTERNATED_UP_TO:
                        continue
                    into.append(_look(starter, apps, absent, seconds, components.count))
            found += [_median(done) for done in looks]
    return found


class Components:
    """The components beside those of every deployment."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.count = 3 + len(_EMBEDDED) + (len(ON_REDIS) if "redis" in servers.kinds else 0)
        """With the three of every deployment."""

    def document(self) -> str:
        """Documents for one more deployment, which has a database of its own."""
        served = self._servers.components(on_redis=ON_REDIS)
        return "---\n".join([*_EMBEDDED, *([served] if served else [])])


ON_REDIS = (
    ("redis", "state.redis"),
    ("bus-redis", "pubsub.redis"),
    ("lock-redis", "lock.redis"),
    ("configuration-redis", "configuration.redis"),
    ("binding-redis", "bindings.redis"),
)
_EMBEDDED = tuple(
    component(name, kind, metadata)
    for name, kind, metadata in (
        ("environment", "secretstores.local.env", {}),
        ("outside", "bindings.http", {"url": "http://127.0.0.1:9"}),
    )
)


def _ours(stack: ExitStack, *, folder: Path, apps: list[App], more: str) -> Deployment:
    return start_ours(stack, folder, apps, resources=more)


def _peer(stack: ExitStack, *, folder: Path, apps: list[App], peer: str, more: str) -> Deployment:
    return start_peer(stack, folder, apps, peer, resources=more)


def _look(
    starter: Callable[[ExitStack], Deployment], apps: list[App], absent: int, seconds: float, components: int
) -> Footprint:
    with ExitStack() as stack:
        deployment = starter(stack)
        processes = deployment.serving(app.app_id for app in apps)
        time.sleep(SETTLE_SECONDS)
        before = sum(process.exact_cpu_seconds() for process in processes)
        time.sleep(seconds)
        used = sum(process.exact_cpu_seconds() for process in processes) - before
        memory = sum(process.pss_bytes() for process in processes)
        return Footprint(
            deployment.name,
            len(apps),
            absent,
            len(processes),
            deployment.start_seconds,
            components,
            memory,
            used / seconds * 100,
        )


def _median(looks: list[Footprint]) -> Footprint:
    first = looks[0]
    return Footprint(
        first.deployment,
        first.apps,
        first.absent,
        first.processes,
        statistics.median(look.start_seconds for look in looks),
        first.components,
        round(statistics.median(look.pss_bytes for look in looks)),
        statistics.median(look.idle_percent for look in looks),
    )
