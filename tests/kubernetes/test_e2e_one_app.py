"""A release for one app, made by the command of the existing chart's README, on two real nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support import images
from tests.support.kubernetes_hops import count_crossings, crossings
from tests.support.kubernetes_objects import deployment, service, subscriber
from tests.support.kubernetes_release import CHART, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kubernetes_cluster import Cluster

pytestmark = pytest.mark.e2e
RELEASE = "my-shared-instance"


@pytest.fixture(scope="module")
def one_app(cluster: Cluster) -> Iterator[str]:
    """The namespace of the app `greeter` on node1 and of its release; the image has its default name on the nodes."""
    tag = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    cluster.tag_image(images.NAME, f"localhost/dapr-shared:{tag}")
    namespace = cluster.create_namespace("one")
    cluster.apply(deployment("greeter", subscriber()), service("greeter", 8000), namespace=namespace)
    given = {
        "appId": "greeter",
        "remoteURL": f"greeter.{namespace}.svc.cluster.local",
        "remotePort": "8000",
        "strategy": "deployment",
    }
    words = [word for key, value in given.items() for word in ("--set", f"shared.{key}={value}")]
    cluster.helm("install", RELEASE, str(CHART), *words, "-n", namespace, "--wait", patience=PATIENCE)
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/greeter", patience=PATIENCE)
    yield namespace
    cluster.helm("uninstall", RELEASE, "-n", namespace)
    cluster.delete("namespace", namespace)


def test_the_chart_tests_itself(cluster, one_app):
    """`helm test` of a release for one app: healthy, let in with its token, refused without."""
    assert "Succeeded" in cluster.helm("test", RELEASE, "-n", one_app)


def test_apps_of_another_release_invoke_it_across_nodes(release, one_app):
    """`<app id>.<namespace>` leads from either node, by the Service `<app id>-dapr` and port 50002, to the app."""
    cluster = release.cluster
    (instance,) = cluster.items("pods", one_app, selector=f"app.kubernetes.io/instance={RELEASE}")
    count_crossings(cluster)
    wanted = f"greeter.{one_app}"
    for node in ("node1", "node2"):
        release.wait_until(lambda name=node: release.can_invoke(f"client-{name}", wanted), wanted)
        before = crossings(cluster)["instance"]
        answers = release.client(node, "/apps/client.py", "invoke", wanted, "3")
        assert [answer["node"] for answer in answers] == ["node1"] * 3
        crossed = crossings(cluster)["instance"] - before
        if release.strategy == "daemonset":  # the caller's instance is on its node
            assert (crossed.requests > 0) == (node != instance["spec"]["nodeName"]), crossed
