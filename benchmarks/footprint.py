"""Memory, start-to-ready and idle processor time for one app and for twenty."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.deployments import Deployment, start_apps, start_ours, start_peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.deployments import App

APP_COUNTS = (1, 20)
SETTLE_SECONDS = 1.0
"""Between ready and the first look: start-up work ends, memory is given back."""


@dataclass(frozen=True)
class Footprint:
    """What a deployment costs when nobody calls it."""

    deployment: str
    apps: int
    processes: int
    start_seconds: float
    """From the first process started until all answer their health check."""
    pss_bytes: int
    idle_percent: float
    """Processor time without a request, in percent of one core."""


def measure(folder: Path, peer: str | None, *, rounds: int, seconds: float) -> list[Footprint]:
    """Start and stop everything `rounds` times, ours and the peer in alternation; medians."""
    found: list[Footprint] = []
    for count in APP_COUNTS:
        with ExitStack() as stack:
            # The apps proper, without the three that the other scenarios call.
            apps = start_apps(stack, folder, count)[-count:]
            starters: list[Callable[[ExitStack], Deployment]] = [lambda s, apps=apps: start_ours(s, folder, apps)]
            if peer is not None:
                starters.append(lambda s, apps=apps: start_peer(s, folder, apps, peer))
            looks: list[list[Footprint]] = [[] for _ in starters]
            for _ in range(rounds):
                for starter, into in zip(starters, looks, strict=True):
                    into.append(_look(starter, apps, seconds))
            found += [_median(done) for done in looks]
    return found


def _look(starter: Callable[[ExitStack], Deployment], apps: list[App], seconds: float) -> Footprint:
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
        first.processes,
        statistics.median(look.start_seconds for look in looks),
        round(statistics.median(look.pss_bytes for look in looks)),
        statistics.median(look.idle_percent for look in looks),
    )
