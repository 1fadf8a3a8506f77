"""Apps that are declared while the instances run, on two real nodes: an App, an annotated Service, annotated Pods."""

from __future__ import annotations

import pytest

from tests.support.kubernetes_objects import app, deployment, service, subscriber

pytestmark = pytest.mark.e2e
APPS = ("parcels", "letters", "cards")
POST = "post"
"""The topic of all three."""


@pytest.fixture
def declared(release):
    """`parcels` by an App, `letters` by an annotated Service with no pod yet, `cards` by annotated Pods on node2."""
    release.apply(
        app("parcels", release.namespace),
        service("parcels", 8000),
        deployment("parcels", subscriber(POST)),
        service("letters", 8000, {"dapr.io/app-id": "letters", "dapr.io/app-port": "8000"}),
        deployment("letters", subscriber(POST), replicas=0),
        deployment(
            *("cards", subscriber(POST)),
            node="node2",
            annotations={"dapr.io/app-id": "cards", "dapr.io/app-port": "8000"},
        ),
    )
    yield release
    release.kubectl("delete", "deployment", *APPS, "--ignore-not-found")
    release.kubectl("delete", "service", "parcels", "letters", "--ignore-not-found")
    release.kubectl("delete", "apps.shared.dapr.io", "parcels", "--ignore-not-found")


def _answers(release, name: str) -> set[int]:
    return {status for status, _ in release.statuses(f"/v1.0/invoke/{name}/method/where").values()}


def _is_unknown(release, name: str) -> bool:
    """Whether no instance serves the app: its name is looked for elsewhere."""
    answers = release.statuses(f"/v1.0/invoke/{name}/method/where").values()
    return all(status == 500 and "resolve address" in body for status, body in answers)


def test_apps_come_and_go_while_the_instances_run(declared):
    """Each is invoked from both nodes and gets its messages; deleted again it is unknown; no instance has restarted."""
    release = declared
    instances = release.ids_of_instances()
    for name in ("parcels", "cards"):
        release.wait_until(lambda name=name: _answers(release, name) == {200}, name)
        release.wait_until(lambda name=name: release.is_subscribed(name), f"the subscription of {name}")
    assert not _is_unknown(release, "letters")  # it has no pod, and is an app all the same
    release.publish(1, 5, topic=POST)
    for name in ("parcels", "cards"):
        release.wait_until(lambda name=name: release.received(name) >= set(range(1, 6)), f"the post of {name}")

    release.scale_app(1, "letters")
    release.wait_until(lambda: _answers(release, "letters") == {200}, "letters")
    release.wait_until(lambda: release.is_subscribed("letters"), "the subscription of letters")
    for node in ("node1", "node2"):
        found = {name: release.client(node, "/apps/client.py", "invoke", name, "1")[0]["node"] for name in APPS}
        assert found == {"parcels": "node1", "letters": "node1", "cards": "node2"}
    release.scale_app(0, "letters")
    release.publish(6, 10, topic=POST, node="node2")
    release.scale_app(1, "letters")
    for name in APPS:
        release.wait_until(lambda name=name: release.received(name) >= set(range(6, 11)), f"the post of {name}")

    release.kubectl("delete", "apps.shared.dapr.io", "parcels")
    release.kubectl("delete", "deployment", "cards")
    for name in ("parcels", "cards"):
        release.wait_until(lambda name=name: _is_unknown(release, name), f"the end of {name}")
    release.publish(11, 15, topic=POST)
    release.wait_until(lambda: release.received("letters") >= set(range(11, 16)), "the post of letters")
    assert not release.received("parcels") & set(range(11, 16))  # its pod is there, and it is no app any more
    release.kubectl("annotate", "service", "letters", "dapr.io/app-id-")
    release.wait_until(lambda: _is_unknown(release, "letters"), "the end of letters")
    assert release.ids_of_instances() == instances
