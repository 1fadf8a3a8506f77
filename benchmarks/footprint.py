"""Memory, start-to-ready and idle processor time for one app and for many, present and absent."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.deployments import App, Deployment, start_apps, start_ours, start_peer
from benchmarks.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP_COUNTS = (1, 20, 100, 1000)
COMPARED_UP_TO = 20
"""More sidecars than that are not started side by side."""
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
    pss_bytes: int
    idle_percent: float
    """Processor time without a request, in percent of one core."""


def measure(folder: Path, peer: str | None, *, rounds: int, seconds: float) -> list[Footprint]:
    """Start and stop everything `rounds` times, ours and the peer in alternation; medians."""
    found: list[Footprint] = []
    for count, absent in [*((count, 0) for count in APP_COUNTS), (APP_COUNTS[-1], APP_COUNTS[-1])]:
        with ExitStack() as stack:
            # The apps proper, without the three that the other scenarios call.
            apps = start_apps(stack, folder, 0 if absent else count)[-count:]
            if absent:
                apps = [App(f"absent-{number}", port) for number, port in enumerate(free_ports(count))]
            starters: list[Callable[[ExitStack], Deployment]] = [partial(_ours, folder=folder, apps=apps)]
            if peer is not None and count <= COMPARED_UP_TO:
                starters.append(partial(_peer, folder=folder, apps=apps, peer=peer))
            looks: list[list[Footprint]] = [[] for _ in starters]
            for _ in range(rounds):
                for starter, into in zip(starters, looks, strict=True):
                    into.append(_look(starter, apps, absent, seconds))
            found += [_median(done) for done in looks]
    return found


def _ours(stack: ExitStack, *, folder: Path, apps: list[App]) -> Deployment:
    return start_ours(stack, folder, apps)


def _peer(stack: ExitStack, *, folder: Path, apps: list[App], peer: str) -> Deployment:
    return start_peer(stack, folder, apps, peer)


def _look(starter: Callable[[ExitStack], Deployment], apps: list[App], absent: int, seconds: float) -> Footprint:
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
        round(statistics.median(look.pss_bytes for look in looks)),
        statistics.median(look.idle_percent for look in looks),
    )
