"""What a request costs on the test cluster: packets that cross between the nodes, processor time, memory.

Both nodes are on one machine, so that a hop takes no time here; that it happens is counted all the same. The one cable
of node1 sees all that pods of the two nodes send to each other.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.support.kubernetes_cluster import Cluster

LEGS = {"dapr": 3500, "app": 8000, "redis": 6379, "instance": 50002}
"""Ports by which a crossing is told: to an instance, from there to an app, to Redis, to another instance."""
Pod = dict[str, Any]
_PODS = "10.244.0.0/16"


@dataclass(frozen=True)
class Crossed:
    """What has crossed on one leg."""

    packets: float
    """All of them, both ways, those that only open a connection or acknowledge too."""
    requests: float
    """Packets with content towards the port: one for each small request."""
    bytes: float
    """Both ways, with the headers of IP and TCP."""

    def __sub__(self, other: Crossed) -> Crossed:
        return Crossed(self.packets - other.packets, self.requests - other.requests, self.bytes - other.bytes)

    def __mul__(self, factor: float) -> Crossed:
        return Crossed(self.packets * factor, self.requests * factor, self.bytes * factor)


@dataclass
class Spent:
    """What was used by something, without what is used all the time: consumers ask Redis for messages, apps are probed."""

    crossed: dict[str, Crossed] = field(default_factory=dict)
    """By leg."""
    packets: dict[str, float] = field(default_factory=dict)
    """By leg, each packet: nothing is taken off."""
    seconds: float = 0.0
    """Of a processor."""

    def said(self, count: int) -> str:
        """Crossings, bytes and microseconds of a processor of one of so many."""
        requests = sum(one.requests for one in self.crossed.values()) / count
        size = sum(one.bytes for one in self.crossed.values()) / count
        return f"{requests:.2f}, {size:.0f}, {self.seconds / count * 1e6:.0f}"


@contextlib.contextmanager
def spending(cluster: Cluster, pods: Sequence[Pod], command: str = "") -> Iterator[Spent]:
    """Measure what the body makes the pods use; what it gives is filled at the end."""
    spent = Spent()
    quiet = 2.0
    began = crossings(cluster)
    rest = at_rest(pods, command, seconds=quiet)
    before, used, start = crossings(cluster), processor_seconds(pods, command), time.monotonic()
    yield spent
    took = time.monotonic() - start
    spent.seconds = processor_seconds(pods, command) - used - rest * took
    after = crossings(cluster)
    for leg in LEGS:
        spent.packets[leg] = (after[leg] - before[leg]).packets
        spent.crossed[leg] = after[leg] - before[leg] - (before[leg] - began[leg]) * (took / quiet)


def count_crossings(cluster: Cluster) -> None:
    """Begin to count what pods of one node send to pods of the other, by ports, at the cable of node1."""
    lines = ["table inet hops", "delete table inet hops", "table inet hops {"]
    for leg in LEGS:
        lines += [f"counter {leg}-{what} {{ }}" for what in ("there", "back", "asked")]
    lines += ["chain crossing {"]
    for leg, port in LEGS.items():
        lines += [
            f"tcp dport {port} counter name {leg}-there",
            f"tcp sport {port} counter name {leg}-back",
            f"tcp dport {port} tcp flags & psh == psh counter name {leg}-asked",
        ]
    lines += ["}", "chain forward { type filter hook forward priority 100;"]
    lines += [f'{side} "eth0" ip saddr {_PODS} ip daddr {_PODS} jump crossing' for side in ("iifname", "oifname")]
    cluster.node("node1").run("nft", "-f", "-", given="\n".join([*lines, "}", "}", ""]))


def crossings(cluster: Cluster) -> dict[str, Crossed]:
    """What has crossed so far, by leg."""
    said = json.loads(cluster.node("node1").run("nft", "-j", "list", "counters", "table", "inet", "hops"))
    found = {one["counter"]["name"]: one["counter"] for one in said["nftables"] if "counter" in one}
    return {
        leg: Crossed(
            packets=found[f"{leg}-there"]["packets"] + found[f"{leg}-back"]["packets"],
            requests=found[f"{leg}-asked"]["packets"],
            bytes=found[f"{leg}-there"]["bytes"] + found[f"{leg}-back"]["bytes"],
        )
        for leg in LEGS
    }


def processor_seconds(pods: Iterable[Pod], command: str = "") -> float:
    """What the processes of pods have used since they started, to the nanosecond: /proc/…/schedstat."""
    total = 0
    for process in _processes(pods, command):
        tasks = [task / "schedstat" for task in (process / "task").iterdir()]
        total += sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks)
    return total / 1e9


def memory(pods: Iterable[Pod], command: str = "") -> list[float]:
    """The proportional share (PSS) of the processes of each pod, in MB."""
    return [sum(_pss(process) for process in _processes([pod], command)) for pod in pods]


def at_rest(pods: Iterable[Pod], command: str = "", *, seconds: float = 5) -> float:
    """Seconds of a processor that pods use each second while nobody asks anything; measured over a time."""
    before = processor_seconds(pods, command)
    time.sleep(seconds)  # this is the time that is measured, and nothing is waited for
    return (processor_seconds(pods, command) - before) / seconds


def _processes(pods: Iterable[Pod], command: str) -> Iterator[Path]:
    """The folders in /proc of the processes in the pods' containers, or those of one command; a sandbox is none of them."""
    uids = [pod["metadata"]["uid"] for pod in pods]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                group = (process / "cgroup").read_text(encoding="utf-8")
                name = (process / "comm").read_text(encoding="utf-8").strip()
            except OSError:  # it has ended meanwhile
                continue
            if any(uid in group for uid in uids) and name != "pause" and name == (command or name):
                yield process


def _pss(process: Path) -> float:
    for line in (process / "smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise AssertionError(f"{process} has no memory")
