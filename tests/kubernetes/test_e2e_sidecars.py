"""The steps of docs/kubernetes/from-sidecars.md, there and back, with a real daprd as the sidecar."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.support.daprd import daprd_path
from tests.support.kubernetes_hops import count_crossings, memory, spending
from tests.support.kubernetes_objects import app, app_container, deployment, idle, service, subscriber
from tests.support.kubernetes_sidecars import operators_service, resources, with_sidecar

pytestmark = pytest.mark.e2e
BILLS = "bills"


@pytest.fixture
def sidecars(release):
    """`bill` on node1, which takes messages, and `till` on node2, which calls: both with sidecars."""
    daprd_path()
    release.apply(resources(release.components()), operators_service("bill"), operators_service("till"))
    release.apply(with_sidecar("bill", subscriber(BILLS), port=8000), with_sidecar("till", idle(), node="node2"))
    for name in ("bill", "till"):
        release.rollout(f"deployment/{name}")
    yield release
    release.kubectl("delete", "deployment", "bill", "till")
    release.kubectl("delete", "service", "bill-dapr", "till-dapr", "bill", "--ignore-not-found")
    release.kubectl("delete", "apps.shared.dapr.io", "bill", "--ignore-not-found")


def _publish(release, first: int, last: int) -> None:
    assert release.run("deployment/till", "/apps/client.py", "publish", str(first), str(last), BILLS) == "published"


def _gets(release, first: int, last: int) -> None:
    """The running pod of `bill` gets these orders, and none twice."""
    _publish(release, first, last)
    wanted = set(range(first, last + 1))
    release.wait_until(lambda: release.received("bill") >= wanted, f"the bills from {first} to {last}")
    given = release.deliveries("bill")
    assert len(given) == len(set(given)), given


def _invokes(release, times: int = 3) -> list[str]:
    """Where the sidecar of `till` finds `bill`."""
    return [one["node"] for one in release.run("deployment/till", "/apps/client.py", "invoke", "bill", str(times))]


def _moved(release) -> dict:
    """The Deployment of step 4."""
    token = {"secretKeyRef": {"name": "bill-dapr-token", "key": "token"}}
    three = {"DAPR_HTTP_ENDPOINT": release.endpoint(3500), "DAPR_GRPC_ENDPOINT": release.endpoint(50001)}
    env = {"TOPIC": BILLS, **three, "DAPR_API_TOKEN": token}
    return deployment("bill", app_container("/apps/subscriber.py", env=env, ready="/where"))


def _instances_service() -> dict:
    """The Service of step 5."""
    selector = {"app.kubernetes.io/name": "dapr-shared-chart", "app.kubernetes.io/instance": "shared"}
    spec = {"selector": selector, "ports": [{"name": "dapr-internal", "port": 50002}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bill-dapr"}, "spec": spec}


def test_the_steps_from_injected_sidecars_and_back(sidecars):
    """An app is moved to the instance and back beside one that keeps its sidecar: state, messages and calls go on."""
    release = sidecars
    bill, began = "deployment/bill", datetime.now(UTC)
    assert release.run(bill, "/apps/client.py", "state", "paid", "yes") == "yes"
    _gets(release, 1, 5)
    assert _invokes(release) == ["node1"] * 3
    assert not release.is_subscribed("bill")  # the instance leaves it to its sidecar, and reaches it there
    assert release.client("node2", "/apps/client.py", "invoke", "bill", "1")[0]["node"] == "node1"

    release.kubectl("create", "secret", "generic", "bill-dapr-token", "--from-literal=token=" + "b" * 40)  # 2
    token = {"secretKeyRef": {"name": "bill-dapr-token", "key": "token"}}  # 3
    release.apply(service("bill", 8000), app("bill", release.namespace, tokens=[token]))
    release.kubectl("wait", "--for=condition=Ready", "apps.shared.dapr.io/bill", "--timeout=60s")
    release.wait_until(lambda: release.is_subscribed("bill"), "its subscription")
    _gets(release, 6, 15)

    release.kubectl("replace", "-f", "-", given=json.dumps(_moved(release)))  # 4
    release.rollout(bill)
    release.wait_until(lambda: _containers(release) == [["app"]], "a pod without a sidecar")
    assert release.run(bill, "/apps/client.py", "whoami") == "bill"
    assert release.run(bill, "/apps/client.py", "read", "paid") == "yes"
    _gets(release, 16, 25)

    release.kubectl("delete", "service", "bill-dapr")  # 5
    release.apply(_instances_service())
    release.wait_until(
        lambda: release.can_invoke("deployment/till", "bill"), "the way from the sidecar to the instance"
    )
    assert _invokes(release) == ["node1"] * 3

    assert "true" in release.kubectl("get", "apps.shared.dapr.io", "bill", "--no-headers")  # 6
    words = ["-l", "app.kubernetes.io/instance=shared", "--tail=-1", f"--since-time={began:%Y-%m-%dT%H:%M:%SZ}"]
    assert "identity refused" not in release.kubectl("logs", *words)  # since then: other tests are refused on purpose

    release.kubectl("delete", "service", "bill-dapr")  # back
    release.kubectl("replace", "-f", "-", given=json.dumps(with_sidecar("bill", subscriber(BILLS), port=8000)))
    release.rollout(bill)
    release.apply(operators_service("bill"))
    release.kubectl("delete", "apps.shared.dapr.io", "bill")
    release.wait_until(lambda: not release.is_subscribed("bill"), "the end of its subscription")
    release.wait_until(lambda: _containers(release) == [["app", "daprd"]], "the pod with a sidecar alone")
    release.wait_until(lambda: release.can_invoke("deployment/till", "bill"), "the way from sidecar to sidecar")
    assert release.run(bill, "/apps/client.py", "read", "paid") == "yes"
    _gets(release, 26, 30)


def _containers(release) -> list[list[str]]:
    """The names of the containers of each pod of `bill`."""
    return [[one["name"] for one in pod["spec"]["containers"]] for pod in release.pods("bill")]


SIDECAR_ROWS = {  # what the sidecar on node2 is asked, and the fewest crossings a request
    "an app to its Dapr": ("GET", "/v1.0/metadata", 0),
    "invocation, app on another node": ("GET", "/v1.0/invoke/bill/method/where", 1),
    "state, Redis on another node": ("GET", "/v1.0/state/statestore/hop", 1),
    "publishing, Redis on another node": ("POST", "/v1.0/publish/pubsub/nobody", 1),
}


def test_what_sidecars_cost(sidecars, measured):
    """The column of sidecars in docs/kubernetes/per-node-or-per-cluster.md: no crossing to Dapr, at least one to all else."""
    count_crossings(sidecars.cluster)
    pods = [
        pod for name in ("bill", "till") for pod in sidecars.pods(name) if "deletionTimestamp" not in pod["metadata"]
    ]
    for row, (method, path, fewest) in SIDECAR_ROWS.items():
        body = ['{"number": 0}'] if method == "POST" else []
        words = [method, f"http://127.0.0.1:3500{path}", "1000", *body]
        with spending(sidecars.cluster, pods, "daprd") as spent:
            statuses = sidecars.run("deployment/till", "/apps/burst.py", *words)
        assert sum(statuses.values()) == 1000
        assert set(statuses) <= {"200", "204"}, statuses
        measured(f"sidecars: {row}, crossings of packets, bytes and microseconds a request:", spent.said(1000))
        assert spent.packets["dapr"] == 0
        assert sum(one.requests for one in spent.crossed.values()) >= fewest * 1000 - 30
    measured("sidecars: MB (PSS) of each daprd:", ", ".join(f"{size:.0f}" for size in memory(pods, "daprd")))
