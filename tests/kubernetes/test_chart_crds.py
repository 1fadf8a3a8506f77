"""The resource definitions that come with the chart, in a real API server: what is taken, kept and refused."""

from __future__ import annotations

import pytest
import yaml

from tests.support.chart import CHART
from tests.support.kubernetes_client import CommandError

pytestmark = pytest.mark.kubernetes
OWN, DAPR = "shared.dapr.io/v1alpha1", "dapr.io/v1alpha1"


@pytest.fixture
def server(api_server):
    """An API server with the definitions, brought up to date as the documentation says it."""
    api_server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    api_server.kubectl("wait", "--for=condition=Established", "-f", str(CHART / "crds"), "--timeout=30s")
    return api_server


def resource(api_version, kind, spec, **rest) -> dict:
    """A resource named tea."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "tea"}, "spec": spec, **rest}


APP = {
    "appId": "orders",
    "channel": {
        "protocol": "grpc", "address": "orders.shop", "port": 8001, "maxConcurrency": 5,
        "healthCheck": {"enabled": True, "path": "/health", "intervalSeconds": 0.5, "timeoutMs": 200, "threshold": 2},
        "tls": {"serverName": "orders"}, "apiToken": {"secretKeyRef": {"name": "orders", "key": "app"}},
    },
    "tokens": [{"secretKeyRef": {"name": "orders", "key": "token"}}, {"sha256": "0" * 64}],
    "serviceAccount": "shop:orders",
    "certificates": [{"spiffeId": "spiffe://example.org/ns/shop/sa/orders"}],
    "listeners": {"httpPort": 3600},
    "secrets": {"scopes": [{"storeName": "kubernetes", "defaultAccess": "deny", "allowedSecrets": ["rates"]}]},
    "configuration": "appconfig",
    "logLevel": "debug",
    "apiLogging": True,
}  # fmt: skip


def test_an_app(server, namespace):
    """Every field of an App is kept, its status is written apart from it, and `kubectl get` shows how it is."""
    server.apply(resource(OWN, "App", APP, auth={"secretStore": "kubernetes"}), namespace=namespace)
    assert server.get("apps.shared.dapr.io", "tea", namespace)["spec"] == APP
    status = {
        "appId": "orders", "ready": False, "lastError": "connection refused", "address": "orders.shop:8001",
        "subscriptionCount": 1,
        "subscriptions": [{"pubsub": "broker", "topic": "orders", "state": "paused"}],
        "conditions": [{"type": "Ready", "status": "False", "reason": "Unreachable"}],
    }  # fmt: skip
    server.patch_status("apps.shared.dapr.io", "tea", namespace, status)
    found = server.get("apps.shared.dapr.io", "tea", namespace)
    assert (found["status"], found["metadata"]["generation"]) == (status, 1)
    titles, values = server.kubectl("get", "daprapp", "-n", namespace).splitlines()
    assert titles.split() == ["NAME", "APP", "ID", "READY", "ADDRESS", "SUBSCRIPTIONS", "ERROR", "AGE"]
    assert values.split()[:-1] == ["tea", "orders", "false", "orders.shop:8001", "1", "connection", "refused"]


REFUSED = [
    ({"chanel": {}}, "field not declared in schema"),
    ({"channel": {"port": 0}}, "should be greater than or equal to 1"),
    ({"tokens": [{"envRef": "TOKEN"}]}, "envRef reads the environment of the runtime"),
    ({"channel": {"port": 1, "apiToken": {"envRef": "TOKEN"}}}, "use secretKeyRef"),
    ({"tokens": [{}]}, "should have at least 1 properties"),
    ({"appId": "a.b"}, "should match"),
]


def test_an_app_that_cannot_be(server, namespace):
    """An App that the runtime could not read is refused when it is applied."""
    for spec, said in REFUSED:
        with pytest.raises(CommandError, match=said):
            server.apply(resource(OWN, "App", spec), namespace=namespace)


DAPRS = [
    resource(
        DAPR, "Component", {"type": "state.redis", "version": "v1", "metadata": [{"name": "redisHost", "value": "r:6379"}]},
        auth={"secretStore": "kubernetes"}, scopes=["orders"],
    ),
    resource(DAPR, "Configuration", {"tracing": {"samplingRate": "1"}, "new": {"deep": [1, {"x": True}]}}),
    resource(DAPR, "HTTPEndpoint", {"baseUrl": "https://example.org", "headers": [{"name": "a", "value": "b"}]}),
    resource(DAPR, "Resiliency", {"policies": {"timeouts": {"fast": "1s"}}}, scopes=["orders"]),
    resource(DAPR, "Subscription", {"pubsubname": "p", "topic": "t", "route": "/t"}, scopes=["orders"]),
    resource(
        "dapr.io/v2alpha1", "Subscription",
        {"pubsubname": "p", "topic": "t", "routes": {"default": "/t", "rules": [{"match": "true", "path": "/x"}]}},
    ),
]  # fmt: skip


def test_daprs_kinds(server, namespace):
    """Resources of Dapr's kinds are kept as they are, also what this version knows nothing of."""
    for given in DAPRS:
        server.apply(given, namespace=namespace)
        kind = f"{given['kind'].lower()}.{given['apiVersion'].partition('/')[2]}.dapr.io"
        found = server.get(kind, "tea", namespace)
        assert {**found, "metadata": given["metadata"]} == given
        server.kubectl("delete", kind, "tea", "-n", namespace)


def test_names_are_daprs():
    """The definitions have the names, groups and versions of Dapr's, and Subscription is stored in its newer version."""
    found = {}
    for file in (CHART / "crds").glob("dapr.io_*.yaml"):
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
        spec = definition["spec"]
        assert definition["metadata"]["name"] == f"{spec['names']['plural']}.dapr.io"
        found[spec["names"]["kind"]] = [(each["name"], each["storage"]) for each in spec["versions"]]
    assert found == {
        "Component": [("v1alpha1", True)],
        "Configuration": [("v1alpha1", True)],
        "HTTPEndpoint": [("v1alpha1", True)],
        "Resiliency": [("v1alpha1", True)],
        "Subscription": [("v1alpha1", False), ("v2alpha1", True)],
    }
