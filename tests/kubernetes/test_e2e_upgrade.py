"""Changes of a running release by `helm upgrade`, on two real nodes, under load: no request is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kubernetes_objects import deployment, service, subscriber
from tests.support.kubernetes_release import PATIENCE, Release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kubernetes_cluster import Cluster

pytestmark = pytest.mark.e2e
WAIT = ("--wait", "--timeout", f"{PATIENCE:.0f}s")
STAY = 20
"""Seconds that pods which are replaced serve on: longer than the new ones need to be ready."""


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[Release]:
    """A release of its own, whose pods stay long when they are replaced."""
    release = Release(cluster, "daemonset", preStopSeconds=STAY)
    try:
        yield release.install()
    finally:
        release.remove()


def test_an_app_is_added_to_the_values(running):
    """An app that `helm upgrade` adds to `apps` is served by the same processes; no request is lost meanwhile."""
    instances = running.ids_of_instances()
    running.apply(deployment("late", subscriber()), service("late", 8000))
    with running.under_load() as loads:
        channel = {"address": f"late.{running.namespace}.svc.cluster.local", "port": 8000}
        running.further_apps.append({"appId": "late", "channel": channel})
        running.helm("upgrade", *WAIT)
        running.rollout("deployment/late")
        path = "/v1.0/invoke/late/method/where"
        running.wait_until(lambda: {status for status, _ in running.statuses(path).values()} == {200}, "the app")
    assert all(load.is_clean for load in loads.values()), loads
    assert running.ids_of_instances() == instances


def _change(release: Release, strategy: str, **shared: Any) -> None:
    """Change the strategy, and wait until the pods of before are gone."""
    former = release.ids_of_instances()
    release.strategy = strategy
    release.helm("upgrade", *WAIT, **shared)
    release.rollout()
    release.wait_until(lambda: not former & release.ids_of_instances(all_of_them=True), "the end of the former pods")


def test_the_strategy_is_changed_to_per_cluster(running):
    """Pods that stay longer than the new ones need to be ready bridge the change: no request and no order is lost."""
    with running.under_load() as loads:
        _change(running, "deployment", deployment={"replicas": 1})
        running.publish(501, 520)
    assert all(load.is_clean for load in loads.values()), loads
    assert len(running.nodes()) == 1
    running.wait_until(lambda: running.received() >= set(range(501, 521)), "the orders of the change")


def test_the_strategy_is_changed_to_per_node(running):
    """From one replica for both nodes to an instance on each, in two steps: no request and no order is lost."""
    with running.under_load() as loads:
        # A node that has no pod yet is served by the replica of the other until its own is ready.
        _change(running, "daemonset", service={"internalTrafficPolicy": "Cluster"})
        instances = running.ids_of_instances()
        running.helm("upgrade", *WAIT, service={})
        running.publish(601, 620)
    assert all(load.is_clean for load in loads.values()), loads
    assert running.nodes() == ["node1", "node2"]
    assert running.ids_of_instances() == instances  # the second step changes the Service alone
    running.wait_until(lambda: running.received() >= set(range(601, 621)), "the orders of the change")
