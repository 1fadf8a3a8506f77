"""Releases of the chart in a real API server: accepted, upgraded, beside each other, gone without a trace."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from pathlib import Path

import pytest

from tests.support.chart import CHART, ONE_APP, merged
from tests.support.kubernetes_client import CommandError

pytestmark = pytest.mark.kubernetes
OLD_CHART = Path(__file__).parent / "chart" / "old-release"
NAME = "my-dapr-shared-chart"
LABELS = {"app.kubernetes.io/name": "dapr-shared-chart", "app.kubernetes.io/instance": "my"}
UNSET = {"shared": {"appId": "orders", "remotePort": 8080}}
MANY = {
    "apps": [{"appId": "stock", "channel": {"port": 8001}}],
    "shared": {"identity": {"serviceAccountAudience": "dapr-shared"}},
}


@contextlib.contextmanager
def crds_once(server):
    """Processes of one run share a server: only one at a time installs what the cluster has once."""
    lock = server.folder / "crds.lock"
    server.wait_until(lambda: _taken(lock), "the other process")
    try:
        yield
    finally:
        lock.rmdir()


def _taken(lock: Path) -> bool:
    with contextlib.suppress(FileExistsError):
        lock.mkdir()
        return True
    return False


def install(server, namespace, values, *words, release="my", chart=CHART, upgrade=False) -> str:
    """Install or upgrade a release; what Helm says."""
    command = ["upgrade", "--install"] if upgrade else ["install"]
    with crds_once(server):
        return server.helm(
            *(*command, release, str(chart), "-n", namespace, "-f", "-", *words), given=json.dumps(values)
        )


def token(server, namespace, name=NAME, key="dapr-api-token") -> str:
    """A token of a Secret."""
    return base64.b64decode(server.get("secret", name, namespace)["data"][key]).decode()


def everything(server, namespace) -> set[str]:
    """Every object of a namespace, and what the cluster has of roles, but for what comes and goes by itself."""
    kinds = server.kubectl("api-resources", "--namespaced", "--verbs=list,create", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith(("events", "pods", "controllerrevisions", "replicasets"))]
    there = server.kubectl("get", ",".join(kinds), "-n", namespace, "-o", "name", "--ignore-not-found").split()
    roles = server.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").split()
    return {*there, *(each for each in roles if f":{namespace}:" in each)}


BOTH = pytest.mark.parametrize("strategy", ["daemonset", pytest.param("deployment", marks=pytest.mark.slow)])


@BOTH
def test_a_release_comes_stays_and_goes(api_server, namespace, strategy):
    """Both strategies are accepted as they are written; an upgrade keeps the token and the pods; the end leaves nothing."""
    before = everything(api_server, namespace)
    values = merged(UNSET, MANY, {"shared": {"strategy": strategy, "networkPolicy": {"enabled": True}}})
    told = install(api_server, namespace, values)
    assert f"http://my-dapr.{namespace}.svc.cluster.local:3500" in told
    made = token(api_server, namespace), token(api_server, namespace, "stock-dapr-token", "token")
    assert [len(each) for each in made] == [40, 40]
    found = api_server.get(strategy, NAME, namespace)
    assert found["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}
    local = api_server.get("service", "my-dapr", namespace)["spec"]["internalTrafficPolicy"]
    assert local == ("Local" if strategy == "daemonset" else "Cluster")
    more = merged(values, {"apps": [*MANY["apps"], {"appId": "mail"}]})
    install(api_server, namespace, more, upgrade=True)
    assert (token(api_server, namespace), token(api_server, namespace, "stock-dapr-token", "token")) == made
    assert token(api_server, namespace, "mail-dapr-token", "token") not in made
    assert "mail" in api_server.get("configmap", f"{NAME}-apps", namespace)["data"]["apps.yaml"]
    assert api_server.get(strategy, NAME, namespace)["spec"]["template"] == found["spec"]["template"]
    api_server.helm("uninstall", "my", "-n", namespace, "--wait=watcher")
    api_server.wait_until(lambda: everything(api_server, namespace) <= before, "the end of the release")
    assert "apps.shared.dapr.io" in api_server.kubectl("get", "crds", "-o", "name")


@BOTH
def test_upgrade_from_the_existing_chart(api_server, namespace, strategy):
    """A release of the existing chart is upgraded in place, and back: selectors and token stay, what it could read goes."""
    old = merged(UNSET, {"shared": {"strategy": strategy, "daprd": {"token": "tea"}}})
    install(api_server, namespace, old, chart=OLD_CHART)
    left = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-shared-cm"}}
    api_server.apply({**left, "data": {"dapr-cert-key": "a key"}}, namespace=namespace)
    before = api_server.get(strategy, NAME, namespace)
    values = merged(UNSET, {"shared": {"strategy": strategy}})  # the token was given by --set, and is not given again
    told = install(api_server, namespace, values, upgrade=True)
    after = api_server.get(strategy, NAME, namespace)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["selector"] == before["spec"]["selector"] == {"matchLabels": LABELS}
    assert token(api_server, namespace) == "tea"
    template = after["spec"]["template"]["spec"]
    assert "initContainers" not in template
    assert "DAPR_TRUST_ANCHORS" not in {each["name"] for each in template["containers"][0]["env"]}
    assert template["containers"][0]["image"] == "localhost/dapr-shared:0.1.0"
    roles = api_server.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert f"{NAME}-secret-reader" not in roles
    assert f"{NAME}-configmap-creator" not in roles
    assert f"kubectl delete configmap -n {namespace} my-shared-cm" in told
    assert "dapr mtls renew-certificate" in told
    api_server.helm("rollback", "my", "1", "-n", namespace)
    template = api_server.get(strategy, NAME, namespace)["spec"]["template"]["spec"]
    assert [each["name"] for each in template["initContainers"]] == ["shared-init-container"]
    assert token(api_server, namespace) == "tea"
    api_server.delete("configmap", "my-shared-cm", namespace)
    assert "my-shared-cm" not in install(api_server, namespace, values, upgrade=True)
    api_server.helm("uninstall", "my", "-n", namespace, "--wait=watcher")
    assert not any("shared" in each for each in everything(api_server, namespace))


@pytest.mark.slow
def test_reusing_the_values_of_the_existing_chart(api_server, namespace):
    """Helm's --reuse-values leaves this chart without its own values, which is said; --reset-then-reuse-values works."""
    given = merged(ONE_APP, {"fullnameOverride": f"x-{uuid.uuid4().hex[:6]}"})
    install(api_server, namespace, given, chart=OLD_CHART)
    with pytest.raises(CommandError, match="Use --reset-then-reuse-values, or give your values file"):
        api_server.helm("upgrade", "my", str(CHART), "-n", namespace, "--reuse-values")
    api_server.helm("upgrade", "my", str(CHART), "-n", namespace, "--reset-then-reuse-values", "--skip-crds")
    api_server.helm("uninstall", "my", "-n", namespace)


@pytest.mark.slow
def test_releases_beside_each_other(api_server, namespace):
    """Two releases of one namespace, and two of one name in two namespaces, install into one cluster and do not meet."""
    other = api_server.create_namespace()
    install(api_server, namespace, merged(UNSET, MANY))
    install(api_server, namespace, {"shared": {"appId": "bill", "remotePort": 1}}, release="his")
    install(api_server, other, merged(UNSET, MANY))
    names = {each["metadata"]["name"] for each in api_server.items("services", namespace)}
    assert names == {"orders-dapr", "my-dapr", "bill-dapr", "his-dapr"}
    for one in (namespace, other):
        api_server.get("clusterrole", f"{NAME}:{one}:tokens")
    api_server.helm("uninstall", "my", "-n", other)
    api_server.get("clusterrole", f"{NAME}:{namespace}:tokens")
    api_server.delete("namespace", other)
    for release in ("my", "his"):
        api_server.helm("uninstall", release, "-n", namespace)


@pytest.mark.slow
def test_what_the_service_account_may_do(api_server, namespace):
    """Asked as the release's service account, the API server allows what the runtime needs and nothing beside it."""
    other = api_server.create_namespace()
    install(api_server, namespace, merged(MANY, {"shared": {"secrets": {"names": ["redis"]}}}))

    def may(verb: str, resource: str, where: str = namespace) -> bool:
        user = f"system:serviceaccount:{namespace}:{NAME}"
        words = ("auth", "can-i", verb, resource, "-n", where, "--as", user)
        with contextlib.suppress(CommandError):
            return api_server.kubectl(*words).strip() == "yes"
        return False

    granted = [
        "list components.dapr.io", "watch apps.shared.dapr.io", "get secrets/redis", "get secrets/stock-dapr-token",
        "create events", "update leases.coordination.k8s.io", "watch leases.coordination.k8s.io",
        "create tokenreviews.authentication.k8s.io",
    ]  # fmt: skip
    refused = [
        "list secrets", "get secrets/other", "watch secrets", "create pods", "delete services", "list configmaps",
        "update apps.shared.dapr.io", "create components.dapr.io", "delete leases.coordination.k8s.io",
    ]  # fmt: skip
    assert [each for each in granted if not may(*each.split())] == []
    assert [each for each in refused if may(*each.split())] == []
    elsewhere = [each for each in granted if "tokenreviews" not in each]
    assert [each for each in elsewhere if may(*each.split(), other)] == []
    api_server.delete("namespace", other)
    api_server.helm("uninstall", "my", "-n", namespace)
