"""Two real nodes, the chart, the image: what a cluster promises to apps that have only an endpoint and a token."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e


def test_both_nodes_have_an_instance(release):
    """Either strategy runs the image on both nodes, ready, without rights, and the chart's own test passes."""
    assert release.nodes() == ["node1", "node2"]
    for pod in release.instances():
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert "Succeeded" in release.cluster.helm("test", "shared", "-n", release.namespace)


def test_an_unmodified_app_with_three_variables(release):
    """Dapr's SDK works with nothing but DAPR_HTTP_ENDPOINT, DAPR_GRPC_ENDPOINT and DAPR_API_TOKEN, from either node."""
    for node in ("node1", "node2"):
        assert release.client(node, "/apps/client.py", "whoami") == "client"
        assert release.client(node, "/apps/client.py", "state", f"kind-{node}", "green") == "green"
        answers = release.client(node, "/apps/client.py", "invoke", "orders", "3")
        assert [answer["node"] for answer in answers] == ["node1"] * 3


def test_a_request_stays_on_its_node(release, measured):
    """With a DaemonSet, a client is served by the instance of its own node alone; a Deployment is for the whole cluster."""
    for node, other in (("node1", "node2"), ("node2", "node1")):
        before = release.requests_of("client")
        load = release.load(node, 3)
        assert load.is_clean, load
        measured(f"milliseconds of a request from {node}, the middle one:", round(load.median, 2))
        after = release.requests_of("client")
        served = {name: after[name] - before[name] for name in after}
        assert sum(served.values()) == load.count
        if release.strategy == "daemonset":
            assert served[other] == 0


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
    with release.under_load() as loads:
        release.kubectl("rollout", "restart", release.workload)
        release.publish(201, 230)
        release.rollout()
    assert all(load.is_clean for load in loads.values()), loads
    assert not instances & {uid for uid, _ in release.ids_of_instances()}
    assert release.nodes() == ["node1", "node2"]
    release.wait_until(lambda: release.received() >= set(range(201, 231)), "the orders of the update")


def test_a_drained_node(release):
    """Draining a node takes its replica of a Deployment without losing a request; a DaemonSet's instance stays."""
    with release.under_load(["node1"]) as loads:
        ours = "--pod-selector=app.kubernetes.io/instance=shared"
        words = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s", ours]
        try:
            release.cluster.kubectl("drain", "node2", *words, patience=120)
            release.rollout()
            nodes = release.nodes()
        finally:
            release.cluster.kubectl("uncordon", "node2")
    assert loads["node1"].is_clean, loads
    assert nodes == (["node1", "node2"] if release.strategy == "daemonset" else ["node1", "node1"])


def test_a_killed_node(release):
    """A node that loses its power takes no order along, and the other one serves on; it comes back when it has power."""
    release.spread()
    release.publish(301, 400)
    try:
        release.cluster.kill_node("node2")
        release.wait_until(lambda: not release.cluster.node_is_ready("node2"), "the loss of node2")
        release.publish(401, 410, "node1")
        release.wait_until(lambda: release.received() >= set(range(301, 411)), "the orders")
        load = release.load("node1", 5)
        assert load.is_clean, load
    finally:
        release.cluster.start_node("node2")
        release.wait_until(lambda: release.cluster.node_is_ready("node2"), "node2")
        release.cluster.wait_for_dns()
    release.kubectl(
        "delete", "pod", "client-node2", "--ignore-not-found", "--timeout=60s"
    )  # it was lost, or is about to
    release.start_clients()
    release.spread()
