"""Two real nodes, the chart, the image: what a cluster promises to apps that have only an endpoint and a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kubernetes_release import Release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kubernetes_cluster import Cluster

pytestmark = pytest.mark.e2e
STRATEGIES = ("daemonset", "deployment")


@pytest.fixture(scope="module", params=STRATEGIES)
def release(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Release]:
    """A release of each strategy, with two instances."""
    release = Release(cluster, request.param)
    try:
        yield release.install()
    finally:
        release.remove()


def test_both_nodes_have_an_instance(release):
    """Either strategy runs the image on both nodes, ready, without rights."""
    pods = release.instances()
    assert set(pods) == {"node1", "node2"}
    for pod in pods.values():
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def test_an_unmodified_app_with_three_variables(release):
    """Dapr's SDK works with nothing but DAPR_HTTP_ENDPOINT, DAPR_GRPC_ENDPOINT and DAPR_API_TOKEN, from either node."""
    for node in ("node1", "node2"):
        assert release.client(node, "/apps/client.py", "whoami") == "client"
        assert release.client(node, "/apps/client.py", "state", f"kind-{node}", "green") == "green"
        answers = release.client(node, "/apps/client.py", "invoke", "orders", "3")
        assert [answer["node"] for answer in answers] == ["node1"] * 3


def test_a_request_stays_on_its_node(release):
    """With a DaemonSet, a client is served by the instance of its own node alone; a Deployment is for the whole cluster."""
    before = release.requests_of("client")
    load = release.load("node1", 3)
    assert set(load.statuses) <= {"200", "204"}
    assert not load.errors
    after = release.requests_of("client")
    served = {node: after[node] - before[node] for node in after}
    assert sum(served.values()) == sum(load.statuses.values())
    if release.strategy == "daemonset":
        assert served["node2"] == 0


def test_an_app_that_was_scaled_to_zero_gets_everything(release):
    """Messages published while the app has no pod are delivered when it has one; the instances have not restarted."""
    release.publish(1, 5)
    release.wait_until(lambda: release.received() == set(range(1, 6)), "five orders")
    instances = release.ids_of_instances()
    release.scale_app(0)
    release.publish(6, 55, "node1")
    release.publish(56, 105, "node2")
    release.scale_app(1)
    release.wait_until(lambda: release.received() >= set(range(6, 106)), "the hundred orders of meanwhile")
    assert release.ids_of_instances() == instances


def test_a_rolling_update_loses_no_request(release):
    """While every instance is replaced by a new one, each request is answered, and every order is delivered."""
    instances = {uid for uid, _ in release.ids_of_instances()}
    with release.under_load(40) as loads:
        release.kubectl("rollout", "restart", release.workload)
        release.publish(201, 230)
        release.rollout()
    for load in loads.values():
        assert set(load.statuses) <= {"200", "204"}
        assert not load.errors
        assert sum(load.statuses.values()) > 100
    assert not instances & {uid for uid, _ in release.ids_of_instances()}
    release.wait_until(lambda: release.received() >= set(range(201, 231)), "the orders of the update")


def test_a_drained_node(release):
    """Draining a node takes its replica of a Deployment without losing a request; a DaemonSet's instance stays."""
    with release.under_load(40, ["node1"]) as loads:
        others = "app!=redis,app!=orders"
        words = [
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=90s",
            f"--pod-selector={others}",
        ]
        try:
            release.cluster.kubectl("drain", "node2", *words, patience=120)
            release.rollout()
        finally:
            release.cluster.kubectl("uncordon", "node2")
    load = loads["node1"]
    assert set(load.statuses) <= {"200", "204"}
    assert not load.errors
    pods = release.cluster.items("pods", release.namespace, selector="app.kubernetes.io/instance=shared")
    nodes = sorted(pod["spec"]["nodeName"] for pod in pods if "deletionTimestamp" not in pod["metadata"])
    assert nodes == (["node1", "node2"] if release.strategy == "daemonset" else ["node1", "node1"])


def test_a_killed_node(release):
    """A node that loses its power takes no order along, and the other one serves on; it comes back when it has power."""
    release.kubectl("rollout", "restart", release.workload)  # a Deployment's replicas are spread over both again
    release.rollout()
    release.publish(301, 310)
    try:
        release.cluster.kill_node("node2")
        release.publish(311, 320, "node1") if release.strategy == "daemonset" else None
        release.wait_until(lambda: not release.cluster.node_is_ready("node2"), "the loss of node2")
        release.publish(321, 330, "node1")
        release.wait_until(lambda: release.received() >= {*range(301, 311), *range(321, 331)}, "the orders")
        load = release.load("node1", 5)
        assert set(load.statuses) <= {"200", "204"}
        assert not load.errors
    finally:
        release.cluster.start_node("node2")
        release.wait_until(lambda: release.cluster.node_is_ready("node2"), "node2")
    release.rollout()
