"""What a request crosses and costs, with both strategies: the measured table of docs/kubernetes/per-node-or-per-cluster.md.

Packets between the nodes are counted by the kernel, so that a hop is seen though both nodes are on one machine. `orders`
and Redis are on node1.
"""

from __future__ import annotations

import time

import pytest

from tests.support.kubernetes_hops import (
    LEGS,
    at_rest,
    count_crossings,
    crossings,
    memory,
    processor_seconds,
)

pytestmark = pytest.mark.e2e
COUNT = 1000
SLACK = 0.03
"""Crossings a request that are nobody's: consumers that ask Redis for messages all the time."""
METADATA, STATE, PUBLISH = "/v1.0/metadata", "/v1.0/state/statestore/hop", "/v1.0/publish/pubsub/nobody"
INVOKE = "/v1.0/invoke/orders/method/where"
ROWS = {  # what is asked, from which node, and the most crossings of each leg: per node, per cluster
    "an app to its Dapr": ("GET", METADATA, "node2", {"dapr": (0, 1)}),
    "invocation, app on another node": ("GET", INVOKE, "node2", {"dapr": (0, 1), "app": (1, 1)}),
    "invocation, app on the same node": ("GET", INVOKE, "node1", {"dapr": (0, 1), "app": (0, 1)}),
    "state, Redis on another node": ("GET", STATE, "node2", {"dapr": (0, 1), "redis": (1, 1)}),
    "state, Redis on the same node": ("GET", STATE, "node1", {"dapr": (0, 1), "redis": (0, 1)}),
    "publishing, Redis on another node": ("POST", PUBLISH, "node2", {"dapr": (0, 1), "redis": (1, 1)}),
}


@pytest.fixture
def counted(release):
    """A release whose crossings are counted, with a value to read."""
    count_crossings(release.cluster)
    assert release.client("node1", "/apps/client.py", "state", "hop", "green") == "green"
    return release


def _burst(release, method: str, path: str, node: str, count: int = COUNT) -> dict[str, int]:
    body = ['{"number": 0}'] if method == "POST" else []
    return release.client(node, "/apps/burst.py", method, release.endpoint(3500) + path, str(count), *body)


@pytest.mark.parametrize("row", ROWS)
def test_what_a_request_crosses(counted, measured, row):
    """Per node no packet between an app and its Dapr leaves the node; no leg crosses more often than the page says."""
    method, path, node, most = ROWS[row]
    pods = counted.instances()
    quiet = at_rest(pods, seconds=2)
    before, used = crossings(counted.cluster), processor_seconds(pods)
    began = time.monotonic()
    assert _burst(counted, method, path, node) == {"204" if method == "POST" else "200": COUNT}
    spent = processor_seconds(pods) - used - quiet * (time.monotonic() - began)
    after = crossings(counted.cluster)
    crossed = {leg: after[leg] - before[leg] for leg in LEGS}
    per_cluster = counted.strategy == "deployment"
    for leg in LEGS:
        assert crossed[leg].requests / COUNT <= most.get(leg, (0, 0))[per_cluster] + SLACK, (leg, crossed)
    if not per_cluster:
        assert crossed["dapr"].packets == 0
        assert all(crossed[leg].requests / COUNT >= (1 - SLACK) for leg, (each, _) in most.items() if each), crossed
    elif node == "node2" and row == "an app to its Dapr":
        assert crossed["dapr"].requests > 0  # of fifty connections: a count of none would prove nothing above
    total = sum(one.requests for one in crossed.values()) / COUNT
    size = sum(one.bytes for one in crossed.values()) / COUNT
    measured(
        f"{row}, crossings, bytes and microseconds a request:", f"{total:.2f}, {size:.0f}, {spent / COUNT * 1e6:.0f}"
    )


def test_what_a_delivery_crosses(counted, measured):
    """A message crosses at most twice: from the broker to an instance and from there to the app."""
    known = counted.received()
    pods = counted.instances()
    quiet = at_rest(pods, seconds=2)
    before, used = crossings(counted.cluster), processor_seconds(pods)
    began = time.monotonic()
    count = 300
    counted.publish(10001, 10000 + count, "node1")
    wanted = known | set(range(10001, 10001 + count))
    counted.wait_until(lambda: counted.received() >= wanted, "the orders")
    spent = processor_seconds(pods) - used - quiet * (time.monotonic() - began)
    after = crossings(counted.cluster)
    brought, size = (after["app"] - before["app"]).requests / count, 0.0
    size = sum((after[leg] - before[leg]).bytes for leg in ("app", "redis")) / count
    # The instance of node2 brings each of its messages over; it has got the same number from Redis, in fewer packets.
    assert 0 < brought <= 1 + SLACK
    text = f"{brought:.2f} to the app, as many from Redis, {size:.0f}, {spent / count * 1e6:.0f}"
    measured("publishing by the SDK and delivery, crossings, bytes and microseconds a message:", text)


def test_what_an_instance_takes(release, measured):
    """At rest an instance keeps to the memory that its pod asks for, and uses little of a processor."""
    pods = release.instances()
    sizes = memory(pods)
    assert len(sizes) == 2
    assert all(0 < size < 128 for size in sizes), sizes
    quiet = at_rest(pods)
    assert quiet < 0.2
    each = ", ".join(f"{size:.0f}" for size in sizes)
    measured("MB (PSS) of each instance, of the release:", f"{each}; {sum(sizes):.0f}")
    measured("milliseconds of a processor a second, at rest, of the release:", f"{quiet * 1000:.1f}")
