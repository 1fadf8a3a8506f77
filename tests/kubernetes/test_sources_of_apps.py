"""Where apps come from at a real API server: App, file, Service, Pod, each live; which counts, and who is told that it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.instance import token_of, write_resources
from tests.support.kubernetes_instance import address, annotated, app, id_of, pod, served, service, until

if TYPE_CHECKING:
    from tests.support.kubernetes_client import KubernetesClient

pytestmark = pytest.mark.kubernetes
APP = "app.shared.dapr.io"
SIDECAR = {"dapr.io/enabled": "true"}


@pytest.fixture
def proof(kinds, namespace):
    """The kinds, and Secrets of the namespace that hold the tokens of apps: `proof-orders` that of orders."""
    for name in ("orders", "stock"):
        literal = f"--from-literal=token={token_of(name)}"
        kinds.kubectl("create", "secret", "generic", f"proof-{name}", "-n", namespace, literal)
    return kinds


def of_secret(name: str) -> list[dict[str, Any]]:
    """The `tokens` of an App, in a Secret."""
    return [{"secretKeyRef": {"name": f"proof-{name}", "key": "token"}}]


def orders_app(name: str = "orders", port: int = 1, host: str = "app") -> dict[str, Any]:
    return app(name, appId="orders", tokens=of_secret("orders"), channel={"port": port, "address": host})


def orders_service(name: str, port: int = 3, **annotations: str) -> dict[str, Any]:
    given = {"app_id": "orders", "app_port": str(port), "api_token_secret": "proof-orders", **annotations}
    return service(name, **given)


def orders_pod(name: str, port: int = 4, **annotations: str) -> dict[str, Any]:
    given = {"app_id": "orders", "app_port": str(port), "api_token_secret": "proof-orders", **annotations}
    return pod(name, **given)


def annotate(server: KubernetesClient, namespace: str, kind: str, name: str, *changes: str) -> None:
    """Set `key=value`, or remove `key-`, of `dapr.io/`."""
    words = [f"dapr.io/{change}" for change in changes]
    server.kubectl("annotate", kind, name, "-n", namespace, "--overwrite", *words)


# Live -----------------------------------------------------------------------------------------------------------------
def test_a_service_comes_changes_and_goes(proof, namespace, many):
    """An annotated Service is an app from then on, without a pod, for as long as it says so; each annotation is followed."""
    host = f"svc.{namespace}.svc.example.org"
    with many("--cluster-domain=example.org") as instance:
        proof.apply(orders_service("svc", 80), namespace=namespace)
        until(lambda: address(instance, "orders") == (host, 80), "a new Service")
        annotate(proof, namespace, "service", "svc", "app-port=81")
        until(lambda: address(instance, "orders") == (host, 81), "another port")
        annotate(proof, namespace, "service", "svc", "app-id=stock", "api-token-secret=proof-stock")
        until(lambda: address(instance, "stock") == (host, 81), "another app id")
        assert id_of(instance, "orders") == ""
        annotate(proof, namespace, "service", "svc", "enabled=true")
        until(lambda: id_of(instance, "stock") == "", "a sidecar takes it over")
        annotate(proof, namespace, "service", "svc", "enabled-")
        until(lambda: id_of(instance, "stock") == "stock", "the sidecar is gone")
        annotate(proof, namespace, "service", "svc", "app-port=none")
        line = instance.wait_for_line("resource refused", origin=f"Service {namespace}/svc")
        assert "dapr.io/app-port: 'none' is not a whole number" in line["problem"]
        annotate(proof, namespace, "service", "svc", "app-port-")
        until(lambda: (id_of(instance, "stock"), address(instance, "stock")) == ("stock", None), "no port")
        annotate(proof, namespace, "service", "svc", "app-id-")
        until(lambda: id_of(instance, "stock") == "", "no app id")
        proof.apply(orders_service("svc", 80), namespace=namespace)
        until(lambda: id_of(instance, "orders") == "orders", "it is one again")
        proof.delete("service", "svc", namespace)
        until(lambda: id_of(instance, "orders") == "", "it is deleted")


def test_a_pod_comes_changes_and_goes(proof, namespace, many):
    """An annotated Pod is an app from its address on; another takes its place when it is not ready, or goes."""
    proof.apply(orders_pod("first"), namespace=namespace)
    with many() as instance:
        assert id_of(instance, "orders") == "", "it has no address"
        run(proof, namespace, "first", address="10.244.1.1")
        until(lambda: address(instance, "orders") == ("10.244.1.1", 4), "a new Pod")
        annotate(proof, namespace, "pod", "first", "app-port=5")
        until(lambda: address(instance, "orders") == ("10.244.1.1", 5), "another port")
        proof.apply(orders_pod("second", 5), namespace=namespace)
        run(proof, namespace, "second", address="10.244.1.2")
        unready = {"conditions": [{"type": "Ready", "status": "False"}]}
        proof.patch_status("pod", "first", namespace, unready)
        until(lambda: address(instance, "orders") == ("10.244.1.2", 5), "the one that is ready")
        run(proof, namespace, "first", address="10.244.1.1")
        remove_pod(proof, namespace, "second")
        until(lambda: address(instance, "orders") == ("10.244.1.1", 5), "the one that is left")
        annotate(proof, namespace, "pod", "first", "enabled=true")
        until(lambda: id_of(instance, "orders") == "", "a sidecar takes it over")
        annotate(proof, namespace, "pod", "first", "enabled-")
        until(lambda: id_of(instance, "orders") == "orders", "the sidecar is gone")
        remove_pod(proof, namespace, "first")
        until(lambda: id_of(instance, "orders") == "", "the last is gone")


def test_a_file_comes_changes_and_goes(proof, namespace, many, tmp_path):
    """Apps of a mounted file come, change and go as the file does, in the namespace of the release or one of their own."""
    files = tmp_path / "files"
    files.mkdir()
    with many(f"--apps={files}") as instance:
        write_resources(files / "apps.yaml", [orders_app(port=1)])
        until(lambda: address(instance, "orders") == ("app", 1), "a new file")
        write_resources(files / "apps.yaml", [orders_app(port=2), app("stock", tokens=of_secret("stock"))])
        until(lambda: address(instance, "orders") == ("app", 2), "a changed app")
        assert id_of(instance, "stock") == "stock"
        (files / "apps.yaml").unlink()
        until(lambda: (id_of(instance, "orders"), id_of(instance, "stock")) == ("", ""), "the file is gone")


def run(server: KubernetesClient, namespace: str, name: str, *, address: str) -> None:
    """Say of a pod that it is ready at an address. It is bound to no node: it would be removed soon, as there is none."""
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    server.patch_status("pod", name, namespace, {**status, "conditions": [{"type": "Ready", "status": "True"}]})


def remove_pod(server: KubernetesClient, namespace: str, name: str) -> None:
    """At once: no kubelet here would say that it has ended."""
    server.kubectl("delete", "pod", name, "-n", namespace, "--force", "--grace-period=0")


# What is no app -------------------------------------------------------------------------------------------------------
def test_what_is_no_app(proof, namespace, many):
    """Passed over: what has a sidecar, the operator's Service of one, what a release of ours consists of, what has no app id."""
    ours = {"shared.dapr.io/instance": "my"}
    pods = [
        orders_pod("with-sidecar", enabled="true"),
        annotated("Pod", "ours", {"containers": [{"name": "app", "image": "none"}]}, ours, app_id="orders"),
        pod("plain"),
    ]
    proof.apply(
        *pods,
        orders_service("with-sidecar", enabled="true"),
        # as Dapr's operator makes it: the label of the app, and its id as an annotation
        service("orders-dapr", dict(SIDECAR), app_id="orders", app_port="50002"),
        service("ours", ours, app_id="orders", app_port="3500"),
        service("plain"),
        service("stock", app_id="stock", app_port="80", api_token_secret="proof-stock"),
        namespace=namespace,
    )
    for number, each in enumerate(pods):
        run(proof, namespace, each["metadata"]["name"], address=f"10.244.2.{number}")
    with many() as instance:
        until(lambda: id_of(instance, "stock") == "stock", "the one app")
        until(lambda: list(served(instance)) == ["stock"], "the line about it, and no other")
        proof.kubectl("label", "service", "orders-dapr", "-n", namespace, "dapr.io/enabled-")
        until(lambda: set(served(instance)) == {"orders", "stock"}, "what had the label alone")
        assert not [line for line in instance.log() if line["msg"] == "resource refused"]


# Which counts ---------------------------------------------------------------------------------------------------------
def test_the_order_of_sources(proof, namespace, many, tmp_path):
    """App, file, Service, Pod: what goes uncovers the next, what comes covers it again, all of it live."""
    files = tmp_path / "files"
    files.mkdir()
    file = files / "apps.yaml"
    places = {
        "app": ("app", 1),
        "file": ("file", 1),
        "service": (f"svc.{namespace}.svc.cluster.local", 1),
        "pod": ("10.244.1.8", 4),
    }
    in_file = [orders_app(host="file")]

    def come(source: str) -> None:
        if source == "app":
            proof.apply(orders_app(), namespace=namespace)
        elif source == "file":
            write_resources(file, in_file)
        elif source == "service":
            proof.apply(orders_service("svc", 1), namespace=namespace)
        else:
            proof.apply(orders_pod("pod"), namespace=namespace)
            run(proof, namespace, "pod", address="10.244.1.8")

    for source in places:
        come(source)
    with many(f"--apps={files}") as instance:
        gone = [
            ("app", lambda: proof.delete(APP, "orders", namespace)),
            ("file", file.unlink),
            ("service", lambda: proof.delete("service", "svc", namespace)),
            ("pod", lambda: remove_pod(proof, namespace, "pod")),
        ]
        for source, go in gone:
            until(lambda source=source: address(instance, "orders") == places[source], f"the app of the {source}")
            go()
        until(lambda: id_of(instance, "orders") == "", "no source is left")
        for source in reversed(places):
            come(source)
            until(lambda source=source: address(instance, "orders") == places[source], f"the {source} that came")
        assert not [line for line in instance.log() if line["msg"] == "defect"]


def events(server: KubernetesClient, namespace: str, kind: str, name: str) -> list[tuple[str, str, str]]:
    """Type, reason and message of the Events about an object, the oldest first."""
    uid = server.get(kind, name, namespace)["metadata"]["uid"]
    found = [one for one in server.items("events", namespace) if one["involvedObject"].get("uid") == uid]
    found.sort(key=lambda one: (one["firstTimestamp"], one["metadata"]["name"]))
    return [(one["type"], one["reason"], one["message"]) for one in found]


CONFLICTS = {
    "two Apps": (APP, orders_app("first"), APP, orders_app("second"), "is described already by App {}/first"),
    "two Services": (
        *("service", orders_service("first"), "service", orders_service("second")),
        "is described already by Service {}/first",
    ),
    "App and Service": (
        *(APP, orders_app("first", port=1), "service", orders_service("second", port=3)),
        "is described by App {}/first, which counts, with another port",
    ),
    "App and Pod": (
        *(APP, orders_app("first", port=1), "pod", orders_pod("second", port=4)),
        "is described by App {}/first, which counts, with another port",
    ),
    "Service and Pod": (
        *("service", orders_service("first"), "pod", orders_pod("second", app_protocol="grpc")),
        "is described by Service {}/first, which counts, with another protocol",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_is_told_at_the_object_that_does_not_count(proof, namespace, many, case):
    """An Event of the loser names app id, winner and what differs; none is at the winner; when that goes the loser counts."""
    kind, first, other_kind, second, problem = CONFLICTS[case]
    proof.apply(first, namespace=namespace)
    proof.apply(second, namespace=namespace)
    if other_kind == "pod":
        run(proof, namespace, "second", address="10.244.1.8")
    with many() as instance:
        port = address(instance, "orders")
        assert port is not None
        until(lambda: events(proof, namespace, other_kind, "second"), "the Event", 40)
        ((severity, reason, message),) = events(proof, namespace, other_kind, "second")
        assert (severity, reason) == ("Warning", "Refused")
        assert message == f"the app orders.{namespace} {problem.format(namespace)} (it is left out)"
        assert not [one for one in events(proof, namespace, kind, "first") if one[0] == "Warning"]
        proof.delete(kind, "first", namespace)
        until(
            lambda: ("Normal", "Accepted") in [one[:2] for one in events(proof, namespace, other_kind, "second")],
            "the Event of the loser that counts now",
            40,
        )
        assert id_of(instance, "orders") == "orders"


def test_a_file_that_does_not_count_is_told_in_the_log(proof, namespace, many, tmp_path):
    """A file has no Events: the log names file and winner; two files for one app are told too, and the first counts."""
    files = tmp_path / "files"
    files.mkdir()
    write_resources(files / "1.yaml", [orders_app(port=2, host="file")])
    write_resources(files / "2.yaml", [orders_app(port=3, host="file")])
    with many(f"--apps={files}") as instance:
        assert address(instance, "orders") == ("file", 2)
        (line,) = [line for line in instance.log() if line["msg"] == "resource refused"]
        assert "2.yaml" in line["origin"]
        assert "is described already by" in line["problem"]
        assert "1.yaml" in line["problem"]
        proof.apply(orders_app(port=1), namespace=namespace)
        until(lambda: address(instance, "orders") == ("app", 1), "the App")
        found = [line for line in instance.log() if line["msg"] == "resource refused" and "1.yaml" in line["origin"]]
        assert [f"App {namespace}/orders, which counts, with another port" in line["problem"] for line in found] == [
            True
        ]
