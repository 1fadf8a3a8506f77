"""A cluster worked out from what was measured: 10,000 apps on 500 nodes with sidecars, an instance a node, or a few for all.

    python -m benchmarks.scale [--apps N] [--nodes N] [--seed N]

Nothing is started. Apps are placed on nodes at random, most get little traffic and few get much, and each request costs what
`docs/performance.md` says it costs. What comes out is the model's, no measurement; `docs/scale.md` says what it leaves out.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from dataclasses import dataclass

from benchmarks.report import table

MB, GB = 1e6, 1e9


@dataclass(frozen=True)
class Costs:
    """What was measured (2026-11, Python 3.11, daprd 1.18.2, two cores)."""

    instance_bytes: float = 67 * MB
    """Of an instance in a pod, with Redis and without apps. Nobody shares the pages of its program on its node."""
    app_bytes: float = 32e3
    """Of each app that an instance knows."""
    subscription_bytes: float = 9.5e3
    sidecar_bytes: float = 29 * MB
    """Of each of twenty daprds on one node, which share the pages of their program."""
    instance_idle: float = 0.001
    """Cores."""
    absent_idle: float = 6.8e-6
    """Cores of an app that is not there, once its probes have backed off."""
    sidecar_idle: float = 0.0007
    request_us: tuple[tuple[str, float, float, float], ...] = (
        # kind, share of all requests, µs at an instance, µs at sidecars
        ("state get, Redis", 0.45, 56.0, 78.0),
        ("state save, Redis", 0.20, 86.0, 90.0),
        ("invocation", 0.20, 60.0, 387.0),
        ("publish and delivery, Redis", 0.15, 205.0, 333.0),
    )


@dataclass(frozen=True)
class Cluster:
    """What there is to serve."""

    apps: int = 10_000
    nodes: int = 500
    replicas: int = 2
    """Of each app that is awake."""
    asleep: float = 0.6
    """Share of the apps that are scaled to zero at a time."""
    subscriptions: float = 1.0
    """Of an app."""
    requests: float = 50_000.0
    """A second, of all apps together."""


@dataclass(frozen=True)
class Bill:
    """What a way of running costs."""

    name: str
    processes: int
    memory: float
    node_memory: float
    """Bytes on the fullest node of a hundred (p99)."""
    cores: float
    idle_cores: float
    hops: float
    """Runtimes that a request passes on average."""


def simulate(cluster: Cluster, costs: Costs, seed: int) -> list[Bill]:
    """The bills of the four ways."""
    rng = random.Random(seed)
    rates = _rates(cluster, rng)
    awake = [rng.random() >= cluster.asleep for _ in rates]
    placed: list[list[int]] = [[] for _ in range(cluster.nodes)]
    for app, is_awake in enumerate(awake):
        if is_awake:
            for node in rng.sample(range(cluster.nodes), cluster.replicas):
                placed[node].append(app)
    return [
        _sidecars(cluster, costs, placed),
        _per_node(cluster, costs, placed, releases=1),
        _per_node(cluster, costs, placed, releases=20),
        _per_cluster(cluster, costs),
    ]


def _rates(cluster: Cluster, rng: random.Random) -> list[float]:
    """Requests a second of each app: a Pareto distribution, in which a fifth of the apps makes four fifths of the load."""
    weights = [rng.paretovariate(1.16) for _ in range(cluster.apps)]
    whole = sum(weights)
    return [cluster.requests * weight / whole for weight in weights]


def _request_cores(cluster: Cluster, costs: Costs, *, sidecars: bool) -> float:
    each = sum(share * (side if sidecars else ours) for _, share, ours, side in costs.request_us)
    return cluster.requests * each / 1e6


def _sidecars(cluster: Cluster, costs: Costs, placed: list[list[int]]) -> Bill:
    processes = sum(map(len, placed))
    invoked = next(share for kind, share, _, _ in costs.request_us if kind == "invocation")
    return Bill(
        "a sidecar each replica",
        processes,
        processes * costs.sidecar_bytes,
        _p99([len(apps) * costs.sidecar_bytes for apps in placed]),
        _request_cores(cluster, costs, sidecars=True),
        processes * costs.sidecar_idle,
        1 + invoked,
    )


def _per_node(cluster: Cluster, costs: Costs, placed: list[list[int]], *, releases: int) -> Bill:
    """Each instance knows the apps of its release; of several releases each has nodes of its own."""
    known = cluster.apps / releases
    memory = _instance(cluster, costs, known)
    processes = len(placed)
    return Bill(
        "an instance a node" if releases == 1 else f"the same, {releases} releases on nodes of their own",
        processes,
        processes * memory,
        memory,
        _request_cores(cluster, costs, sidecars=False),
        processes * (costs.instance_idle + known * cluster.asleep * costs.absent_idle),
        1.0,
    )


def _per_cluster(cluster: Cluster, costs: Costs) -> Bill:
    """As many replicas as the load needs with each at half a core, three at least."""
    cores = _request_cores(cluster, costs, sidecars=False)
    replicas = max(3, math.ceil(cores / 0.5))
    memory = _instance(cluster, costs, cluster.apps)
    return Bill(
        "a few for the cluster",
        replicas,
        replicas * memory,
        memory,
        cores,
        replicas * (costs.instance_idle + cluster.apps * cluster.asleep * costs.absent_idle),
        1.0,
    )


def _instance(cluster: Cluster, costs: Costs, apps: float) -> float:
    return costs.instance_bytes + apps * (costs.app_bytes + cluster.subscriptions * costs.subscription_bytes)


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * 0.99) - 1)]


def bills_table(bills: list[Bill]) -> str:
    """One line a way of running."""
    rows = [("way", "processes", "memory GB", "fullest node MB", "cores for requests", "cores idle", "hops")]
    rows += [
        (
            bill.name,
            str(bill.processes),
            f"{bill.memory / GB:.1f}",
            f"{bill.node_memory / MB:.0f}",
            f"{bill.cores:.1f}",
            f"{bill.idle_cores:.1f}",
            f"{bill.hops:.2f}",
        )
        for bill in bills
    ]
    return table(rows)


def main(words: list[str] | None = None) -> int:
    """Work it out and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, default=Cluster.apps)
    parser.add_argument("--nodes", type=int, default=Cluster.nodes)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(words)
    cluster = Cluster(apps=arguments.apps, nodes=arguments.nodes)
    print(bills_table(simulate(cluster, Costs(), arguments.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
