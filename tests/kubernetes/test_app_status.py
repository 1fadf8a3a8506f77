"""What an instance tells at the objects of a real API server: status, printer columns, Events; one of several instances."""

from __future__ import annotations

import json
import time
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import echo_app
from tests.support.instance import digest_of
from tests.support.kubernetes_instance import app, cluster_instance, memory, of_dapr, service

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


@pytest.mark.slow
def test_one_instance_of_two(kinds, namespace, tmp_path):
    """Of two instances one writes; when it is killed the other goes on after the lease has run out."""
    kinds.apply(app("tea", channel={"port": 9, "address": "127.0.0.1"}), namespace=namespace)

    def holder() -> str:
        return kinds.get("lease", "dapr-shared-status", namespace)["spec"]["holderIdentity"]

    def start(name: str):
        return cluster_instance(tmp_path / name, kinds.kubeconfig, namespace, "--multi-app", env={"POD_NAME": name})

    with start("one") as one:
        until(lambda: status_of(kinds, namespace, "tea"), "a status")
        assert holder().startswith("one_")
        with start("two"):
            one.stop(Signals.SIGKILL)
            kinds.apply(app("new"), namespace=namespace)
            until(lambda: status_of(kinds, namespace, "new"), "the status of a new app, by the other instance")
            assert holder().startswith("two_")
        assert holder() == "", "an instance that ends in order gives the lease back"
