"""What an instance tells at the objects of a real API server: status, printer columns, Events; one of several instances."""

from __future__ import annotations

import json
import time
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import echo_app
from tests.support.instance import digest_of
from tests.support.kubernetes_instance import app, cluster_instance, memory, of_dapr, pod, service
from tests.support.topic_apps import stream

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kubernetes


def until(condition: Callable[[], object], what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.2)


def status_of(server, namespace: str, name: str) -> dict[str, Any]:
    return server.get("app.shared.dapr.io", name, namespace).get("status", {})


def reasons(server, namespace: str, kind: str, name: str) -> list[str]:
    """The reasons of the Events about this very object, in alphabetical order."""
    uid = server.get(kind, name, namespace)["metadata"]["uid"]
    found = server.items("events", namespace)
    return sorted(event["reason"] for event in found if event["involvedObject"].get("uid") == uid)


@pytest.mark.slow
def test_status_and_events(kinds, namespace, tmp_path):
    """Status, columns and Events say what became of apps and what is refused; writing them makes no reload."""
    with echo_app() as tea:
        broker = of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []})
        orders = of_dapr(
            "Subscription", "orders", {"pubsubname": "broker", "topic": "orders", "routes": {"default": "/o"}}
        )
        kinds.apply(
            app("tea", channel={"port": tea.port, "address": "127.0.0.1"}),
            app("away", channel={"port": 9, "address": "127.0.0.1"}),
            app("bad", configuration="missing", tokens=[{"sha256": digest_of("x")}]),
            app("quiet"),
            service("tea", app_id="tea", app_protocol="grpc", app_port="80"),
            of_dapr("Component", "wrong", {"type": "state.nonsense", "version": "v1", "metadata": []}),
            {**orders, "scopes": ["tea"]},
            memory("store"),
            broker,
            namespace=namespace,
        )
        with cluster_instance(tmp_path / "one", kinds.kubeconfig, namespace, "--multi-app") as instance:
            until(lambda: status_of(kinds, namespace, "tea").get("ready") is True, "an app that is ready")
            tea_status = status_of(kinds, namespace, "tea")
            assert tea_status["address"] == f"http://127.0.0.1:{tea.port}"
            assert tea_status["subscriptions"] == [{"pubsub": "broker", "topic": "orders", "state": "active"}]
            assert (tea_status["subscriptionCount"], tea_status["lastError"]) == (1, "")
            until(lambda: all(status_of(kinds, namespace, name) for name in ("away", "bad", "quiet")), "the other apps")
            assert status_of(kinds, namespace, "away")["ready"] is False
            assert status_of(kinds, namespace, "quiet")["ready"] is True
            assert "there is no Configuration 'missing'" in status_of(kinds, namespace, "bad")["lastError"]
            kinds.kubectl("wait", "app.shared.dapr.io/tea", "-n", namespace, "--for=condition=Ready", "--timeout=5s")
            columns = kinds.kubectl("get", "apps.shared.dapr.io", "-n", namespace)
            assert columns.split()[:7] == ["NAME", "APP", "ID", "READY", "ADDRESS", "SUBSCRIPTIONS", "ERROR"]
            assert f"http://127.0.0.1:{tea.port}" in columns

            until(
                lambda: reasons(kinds, namespace, "app.shared.dapr.io", "tea") == ["Accepted", "Ready"],
                "Events of an App",
            )
            until(
                lambda: reasons(kinds, namespace, "app.shared.dapr.io", "bad") == ["Refused"],
                "the Event of a wrong App",
            )
            until(lambda: reasons(kinds, namespace, "component.dapr.io", "wrong") == ["Refused"], "that of a Component")
            until(lambda: reasons(kinds, namespace, "service", "tea") == ["Refused"], "that of a Service that loses")

            kinds.patch_status("app.shared.dapr.io", "tea", namespace, {"other": "x"})
            kinds.apply(of_dapr("Configuration", "missing", {}), namespace=namespace)
            until(lambda: status_of(kinds, namespace, "bad").get("lastError") == "", "a mended app")
            assert status_of(kinds, namespace, "tea")["other"] == "x", "what others write stays"
            until(
                lambda: reasons(kinds, namespace, "app.shared.dapr.io", "bad") == ["Accepted", "Ready", "Refused"],
                "its Events",
            )
            assert not [line for line in instance.log() if line["msg"] == "app changed"], (
                "a status is no change of an app"
            )
    secret = json.dumps(kinds.items("events", namespace)) + json.dumps(kinds.items("apps.shared.dapr.io", namespace))
    assert "-token-" not in secret


def holder(server, namespace: str) -> str:
    return server.get("lease", "dapr-shared-status", namespace)["spec"]["holderIdentity"].partition("_")[0]


def topics(server, namespace: str, name: str) -> list[str]:
    return [each["topic"] for each in status_of(server, namespace, name).get("subscriptions", [])]


@pytest.mark.slow
def test_what_every_instance_knows(kinds, namespace, tmp_path):
    """The status lists streams at instances that do not write, until they end; another holder knows the same."""
    broker = of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []})
    kinds.apply(broker, app("caller"), namespace=namespace)
    kinds.apply(*(pod(name) for name in ("one", "two", "three")), namespace=namespace)

    def start(name: str):
        uid = kinds.get("pod", name, namespace)["metadata"]["uid"]
        env = {"POD_NAME": name, "POD_UID": uid, "RELEASE_NAME": "my"}
        return cluster_instance(tmp_path / name, kinds.kubeconfig, namespace, "--multi-app", env=env)

    def parts() -> list[str]:
        found = kinds.items("leases", namespace, selector="shared.dapr.io/status=dapr-shared-status")
        return sorted(lease["spec"]["holderIdentity"] for lease in found)

    def count() -> int:
        return status_of(kinds, namespace, "caller")["subscriptionCount"]

    with start("one") as one, start("two") as two:
        until(lambda: status_of(kinds, namespace, "caller"), "a status")
        first = holder(kinds, namespace)
        other = {"one": two, "two": one}[first]
        with stream(other.grpc, "caller", "orders", pubsub="broker"):
            until(lambda: topics(kinds, namespace, "caller") == ["orders"], "a stream that the holder does not have")
            assert count() == 1
            lease = kinds.get("lease", f"dapr-shared-status.{'two' if first == 'one' else 'one'}", namespace)
            assert lease["metadata"]["labels"]["shared.dapr.io/instance"] == "my"
            assert '"caller":{"s":[["broker","orders","active"]]}' in json.dumps(lease).replace("\\", "")
            with start("three") as three, stream(three.grpc, "caller", "beans", pubsub="broker"):
                until(lambda: topics(kinds, namespace, "caller") == ["beans", "orders"], "streams of two others")
                # The holder goes: another one writes, and knows the same.
                {"one": one, "two": two}[first].stop(Signals.SIGKILL)
                until(lambda: holder(kinds, namespace) not in (first, ""), "another holder")
                kinds.apply(app("new"), namespace=namespace)
                until(lambda: status_of(kinds, namespace, "new"), "the status of a new App")
                assert topics(kinds, namespace, "caller") == ["beans", "orders"]
                reports = [event["reason"] for event in kinds.items("events", namespace)]
                assert "NotReady" not in reports, "nothing turns when another one writes"
            until(lambda: topics(kinds, namespace, "caller") == ["orders"], "the end of an instance with a stream")
        until(lambda: topics(kinds, namespace, "caller") == [], "the end of the stream")
    kinds.delete("pod", "two", namespace)
    kinds.delete("pod", "one", namespace)
    kinds.delete("pod", "three", namespace)
    until(lambda: parts() == [], "the garbage collector")


@pytest.mark.slow
def test_an_older_role(kinds, namespace, tmp_path):
    """With the Role of an older release the holder writes what it knows itself, and says once which verb is missing."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs}
        for group, resource, verbs in (
            ("dapr.io", "*", ["list", "watch"]),
            ("shared.dapr.io", "apps", ["list", "watch"]),
            ("shared.dapr.io", "apps/status", ["patch"]),
            ("", "services", ["list", "watch"]),
            ("", "pods", ["get", "list", "watch"]),
            ("", "events", ["create", "patch"]),
            ("coordination.k8s.io", "leases", ["get", "create", "update"]),
        )
    ]
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "older"}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "older"}
    subject = {"kind": "ServiceAccount", "name": "default"}
    binding = {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    kinds.apply({**head, "kind": "Role", "rules": rules}, binding, app("tea"), namespace=namespace)
    account = kinds.kubeconfig_for(kinds.service_account_token(namespace, "default"), namespace)
    with cluster_instance(tmp_path / "one", account, namespace, "--multi-app") as instance:
        until(lambda: status_of(kinds, namespace, "tea").get("ready") is True, "a status")
        line = instance.wait_for_line("the status of apps says what this instance knows alone")
        for word in (f"the service account {namespace}/default", "verb list on leases.coordination.k8s.io"):
            assert word in line["problem"]
        time.sleep(4)  # the list is tried again meanwhile
        warnings = [line["msg"] for line in instance.log() if line["level"] in ("warning", "error")]
        assert warnings == ["the status of apps says what this instance knows alone"]


@pytest.mark.slow
def test_one_instance_of_two(kinds, namespace, tmp_path):
    """Of two instances one writes; when it is killed the other goes on after the lease has run out."""
    kinds.apply(app("tea", channel={"port": 9, "address": "127.0.0.1"}), namespace=namespace)

    def start(name: str):
        return cluster_instance(tmp_path / name, kinds.kubeconfig, namespace, "--multi-app", env={"POD_NAME": name})

    with start("one") as one:
        until(lambda: status_of(kinds, namespace, "tea"), "a status")
        assert holder(kinds, namespace) == "one"
        with start("two"):
            one.stop(Signals.SIGKILL)
            kinds.apply(app("new"), namespace=namespace)
            until(lambda: status_of(kinds, namespace, "new"), "the status of a new app, by the other instance")
            assert holder(kinds, namespace) == "two"
        assert holder(kinds, namespace) == "", "an instance that ends in order gives the lease back"
