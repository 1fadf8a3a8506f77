"""`validate --mode kubernetes` says of manifests, without a cluster, what an instance says of them in one."""

from __future__ import annotations

import pytest
import yaml

from dapr_shared.runtime.validation.cluster import validate_cluster
from tests.support.chart import helm
from tests.support.kubernetes_instance import app, cluster_instance, memory, of_dapr, pod, service, until

pytestmark = pytest.mark.kubernetes


def test_what_the_chart_renders(tmp_path):
    """The manifests of a release have no problem, and its apps are read; an App beside them that says otherwise counts."""
    apps = [{"appId": "orders", "channel": {"port": 80, "address": "orders"}}, {"appId": "stock"}]
    text = helm("template", "my", {"apps": apps})
    (tmp_path / "release.yaml").write_text(text, encoding="utf-8")
    report = validate_cluster([tmp_path], "shop")
    assert report.problems == []
    assert report.resources == {"App of values": 2}
    other = app("orders", channel={"port": 81, "address": "orders"})
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    told = [(each.object, each.severity.value) for each in validate_cluster([tmp_path], "shop").problems]
    assert told == [("App shop/orders", "warning")]


@pytest.mark.slow
def test_the_same_as_in_a_cluster(kinds, namespace, tmp_path):
    """What an instance refuses of objects at a real API server is what `validate` finds in their manifests, and no more."""
    secret = {"metadata": [{"name": "", "value": "x"}], "type": "state.in-memory", "version": "v1"}
    manifests = [
        app("fine"),
        app("bad", configuration="missing"),
        app("tea", channel={"port": 80, "address": "tea"}),
        service("tea", app_id="tea", app_port="80", app_protocol="grpc"),
        service("odd", app_id="odd", app_port="http"),
        service("listed", app_id="listed", app_port="80"),
        pod("runner", app_id="runner", app_port="eighty"),
        memory("store", scopes=["fine"]),
        of_dapr("Component", "wrong", {"type": "state.nonsense", "version": "v1", "metadata": []}),
        of_dapr("Component", "nameless", secret),
        of_dapr("Subscription", "news", {"pubsubname": "broker", "topic": "t", "routes": {"rules": [{"match": "((", "path": "/a"}]}}),
        of_dapr("Component", "broker", {"type": "pubsub.in-memory", "version": "v1", "metadata": []}),
        of_dapr("HTTPEndpoint", "web", {"baseUrl": "ftp://x"}),
    ]  # fmt: skip
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    found = {each.object for each in validate_cluster([file], namespace).problems}
    assert found == {
        f"{kind} {namespace}/{name}"
        for kind, name in (
            ("App", "bad"), ("Service", "tea"), ("Service", "odd"), ("Pod", "runner"), ("Component", "wrong"),
            ("Component", "nameless"), ("Subscription", "news"), ("HTTPEndpoint", "web"),
        )
    }  # fmt: skip

    kinds.apply(*manifests, namespace=namespace)
    kinds.run_pod(namespace, "runner", address="10.244.1.7")
    with cluster_instance(tmp_path / "instance", kinds.kubeconfig, namespace, "--multi-app") as instance:

        def refused() -> set[str]:
            return {line["origin"] for line in instance.log() if line["msg"] == "resource refused"}

        until(lambda: found <= refused(), "what validate has found")
        assert refused() == found
