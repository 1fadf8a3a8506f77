"""Annotated Services and Pods become apps; of several descriptions of one app one counts."""

from __future__ import annotations

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.kubernetes.discovery import (
    AnnotationError,
    Candidate,
    Rank,
    annotated_app,
    choose,
    choose_pod,
    describes_app,
    service_address,
)
from dapr_shared.resources.model import App, AppChannel, ChannelProtocol, SecretKeyRef
from dapr_shared.resources.origin import Origin


def annotated(
    name: str = "orders", *, labels: dict | None = None, created: str = "2026-01-01T00:00:00Z", **annotations
):
    """An object with annotations of `dapr.io/`: `app_port="80"` is `dapr.io/app-port`."""
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": created,
            "labels": labels or {},
            "annotations": {f"dapr.io/{key.replace('_', '-')}": value for key, value in annotations.items()},
        }
    }


def pod(name: str, ip: str = "", *, ready: bool = False, day: int = 1, phase: str = "Running", deleted: bool = False):
    made = annotated(name, created=f"2026-01-{day:02}T00:00:00Z", app_id="orders")
    made["status"] = {"podIP": ip, "phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    if deleted:
        made["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    return made


def test_all_annotations():
    """Each annotation of the documented table has its effect."""
    app = annotated_app(
        "Service",
        annotated(
            "svc",
            app_id="orders", app_port="8080", app_protocol="GRPC", config="strict", app_token_secret="to-app",
            api_token_secret="of-app", app_max_concurrency="7", enable_app_health_check="yes",
            app_health_check_path="/up", app_health_probe_interval="9", app_health_probe_timeout="700",
            app_health_threshold="4", log_level="Debug", enable_api_logging="false",
        ),
        "svc.shop.svc.cluster.local",
    )  # fmt: skip
    channel = app.channel
    assert app.ref == AppRef("orders", "shop")
    assert (channel.address, channel.port, channel.protocol) == ("svc.shop.svc.cluster.local", 8080, "grpc")
    assert channel.api_token.secret_key_ref == SecretKeyRef(name="to-app", key="token")
    assert [token.secret_key_ref for token in app.tokens] == [SecretKeyRef(name="of-app", key="token")]
    assert (app.secret_store, app.configuration) == ("kubernetes", "strict")
    health = channel.health_check
    assert (health.enabled, health.path, health.interval, health.timeout, health.threshold) == (True, "/up", 9, 0.7, 4)
    assert (channel.max_concurrency, app.log_level, app.api_logging) == (7, "debug", False)
    assert str(app.origin) == "Service shop/svc"


def test_the_defaults_are_daprs():
    """With an app id alone the app only calls; a port gives it a channel over HTTP, and no limit."""
    assert annotated_app("Pod", annotated(app_id="a"), "10.0.0.1").channel is None
    app = annotated_app("Pod", annotated(app_id="a", app_port="80", app_max_concurrency="-1"), "10.0.0.1")
    assert app.channel == AppChannel(port=80, address="10.0.0.1")
    assert (app.tokens, app.configuration, app.api_logging) == ((), "", None)


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"app_id": "a.b"}, "dapr.io/app-id"),
        ({"app_id": ""}, "dapr.io/app-id"),
        ({"app_id": "a", "app_port": "http"}, "dapr.io/app-port: 'http' is not a whole number"),
        ({"app_id": "a", "app_port": "70000"}, "dapr.io/app-port: 70000"),
        ({"app_id": "a", "app_protocol": "smtp"}, "dapr.io/app-protocol: 'smtp'"),
        ({"app_id": "a", "app_health_check_path": "up"}, "dapr.io/app-health-check-path"),
        ({"app_id": "a", "app_health_probe_timeout": "9000"}, "dapr.io/app-health-probe-timeout"),
        ({"app_id": "a", "log_level": "loud"}, "dapr.io/log-level"),
    ],
)
def test_annotations_that_cannot_be_followed(annotations, problem):
    """A wrong annotation is named with its value; nothing is guessed."""
    with pytest.raises(AnnotationError, match=problem):
        annotated_app("Pod", annotated(**annotations), "10.0.0.1")


def test_what_is_no_app_of_ours():
    """Without an app id, with a sidecar of Dapr's, or with the label of a release of ours, an object is no app.

    The Service that Dapr's operator makes for an app with a sidecar says so by a label.
    """
    assert describes_app(annotated(app_id="a"))
    assert describes_app(annotated(app_id="a", enabled="false"))
    assert not describes_app(annotated(app_port="80"))
    assert not describes_app(annotated(app_id="a", enabled="true"))
    assert not describes_app(annotated("a-dapr", app_id="a", labels={"dapr.io/enabled": "true"}))
    assert not describes_app(annotated(app_id="a", labels={"shared.dapr.io/instance": "release"}))
    assert not describes_app({"metadata": {"name": "bare"}})


def test_the_oldest_ready_pod_stands_for_the_app():
    """Ready goes before not ready, then age; a pod that ended, goes, or has no address never counts."""
    young, old = pod("young", "10.0.0.2", ready=True, day=2), pod("old", "10.0.0.1", ready=True)
    starting = pod("starting", "10.0.0.3", day=1)
    gone = [pod("ended", "10.0.0.4", phase="Succeeded"), pod("going", "10.0.0.5", ready=True, deleted=True), pod("new")]
    assert choose_pod([young, starting, old, *gone]) is old
    assert choose_pod([*gone, starting, young]) is young
    assert choose_pod([*gone, starting]) is starting
    assert choose_pod(gone) is None


def test_a_ready_pod_in_use_stays():
    """An older pod that becomes ready again does not take over from the one in use; one that is not ready is left."""
    old, young = pod("old", "10.0.0.1", ready=True), pod("young", "10.0.0.2", ready=True, day=2)
    assert choose_pod([old, young], "10.0.0.2") is young
    assert choose_pod([old, pod("young", "10.0.0.2", day=2)], "10.0.0.2") is old


def test_a_service_is_found_by_name():
    """The address of a Service is its name in the cluster's DNS."""
    assert service_address(annotated("svc"), "cluster.local") == "svc.shop.svc.cluster.local"


def app(origin: str, app_id: str = "orders", *, port: int = 80, **fields) -> App:
    channel = AppChannel(port=port, protocol=fields.pop("protocol", ChannelProtocol.HTTP))
    return App(name=app_id, app_id=app_id, namespace="shop", channel=channel, origin=Origin(origin, 0, 0), **fields)


def test_the_order_of_descriptions():
    """App, file, Service, Pod: the first that is there counts, whatever the order in which they are found."""
    ranked = [
        Candidate(Rank.APP, "3", app("App shop/orders")),
        Candidate(Rank.FILE, "", app("apps.yaml")),
        Candidate(Rank.SERVICE, "2", app("Service shop/orders")),
        Candidate(Rank.POD, "1", app("Pod shop/orders-1")),
    ]
    while ranked:
        choice = choose(list(reversed(ranked)))
        assert [found.origin for found in choice.apps] == [ranked[0].app.origin]
        assert choice.conflicts == (), "they say the same"
        ranked.pop(0)


def test_two_of_one_rank_are_a_conflict():
    """Of two Apps for one app id the older counts, and the other is told about; other apps are not concerned."""
    choice = choose(
        [
            Candidate(Rank.APP, "2026-02", app("App shop/second")),
            Candidate(Rank.APP, "2026-01", app("App shop/first")),
            Candidate(Rank.APP, "2026-03", app("App shop/other", "other")),
        ]
    )
    assert [str(found.origin) for found in choice.apps] == ["App shop/first", "App shop/other"]
    (conflict,) = choice.conflicts
    assert str(conflict.origin) == "App shop/second"
    assert "described already by App shop/first" in conflict.problem


@pytest.mark.parametrize(
    ("lower", "differing"),
    [
        ({"port": 81}, "port"),
        ({"protocol": ChannelProtocol.GRPC}, "protocol"),
        ({"configuration": "other"}, "configuration"),
    ],
)
def test_a_lower_description_that_says_otherwise(lower, differing):
    """What a description of lower rank says in vain is a conflict."""
    counts, other = app("App shop/orders"), app("Pod shop/orders-1", **lower)
    (conflict,) = choose([Candidate(Rank.POD, "1", other), Candidate(Rank.APP, "2", counts)]).conflicts
    assert conflict.origin == other.origin
    assert f"with another {differing}" in conflict.problem


def test_a_service_may_have_another_port_than_its_pods():
    """A Service maps ports, so that of its pods is no contradiction."""
    service, behind = app("Service shop/orders", port=80), app("Pod shop/orders-1", port=8080)
    assert choose([Candidate(Rank.SERVICE, "1", service), Candidate(Rank.POD, "2", behind)]).conflicts == ()
