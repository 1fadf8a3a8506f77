"""What a request crosses and costs, with both strategies: the measured table of docs/kubernetes/per-node-or-per-cluster.md.

Packets between the nodes are counted by the kernel, so that a hop is seen though both nodes are on one machine. `orders`
and Redis are on node1.
"""

from __future__ import annotations

import pytest

from tests.support.kubernetes_hops import LEGS, at_rest, count_crossings, memory, spending

pytestmark = pytest.mark.e2e
COUNT = 1000
SLACK = 0.03
"""Crossings a request that may be of something else, such as consumers that ask Redis for messages all the time."""
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
    with spending(counted.cluster, counted.instances()) as spent:
        assert _burst(counted, method, path, node) == {"204" if method == "POST" else "200": COUNT}
    per_cluster = counted.strategy == "deployment"
    crossed = {leg: one.requests / COUNT for leg, one in spent.crossed.items()}
    for leg in LEGS:
        assert crossed[leg] <= most.get(leg, (0, 0))[per_cluster] + SLACK, (leg, crossed)
    if not per_cluster:
        assert spent.packets["dapr"] == 0
        assert all(crossed[leg] >= 1 - SLACK for leg, (each, _) in most.items() if each), crossed
    elif node == "node2" and row == "an app to its Dapr":
        assert crossed["dapr"] > 0  # of fifty connections: a count of none would prove nothing above
    measured(f"{row}, crossings, bytes and microseconds a request:", spent.said(COUNT))


def test_what_a_delivery_crosses(counted, measured):
    """A message crosses at most twice: from the broker to an instance and from there to the app."""
    known, count = counted.received(), 300
    wanted = known | set(range(10001, 10001 + count))
    with spending(counted.cluster, counted.instances()) as spent:
        counted.publish(10001, 10000 + count, "node1")
        counted.wait_until(lambda: counted.received() >= wanted, "the orders")
    brought = spent.crossed["app"].requests / count
    # The instance of node2 brings each of its messages over; it has got the same number from Redis, in fewer packets.
    assert 0 < brought <= 1 + SLACK
    what = "publishing by the SDK and delivery, brought to the app; crossings of packets, bytes and microseconds a message:"
    measured(what, f"{brought:.2f}; {spent.said(count)}")


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
