"""Who calls, by tokens that a real API server has made: reviewed by it, and verified by its published keys."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest

from tests.support.cluster_tokens import AUDIENCE, claims, rsa_key, signed
from tests.support.inprocess import inprocess

pytestmark = pytest.mark.kubernetes

_APPS = """
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: orders, namespace: NAMESPACE}
    spec: {serviceAccount: orders}
    ---
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: stock, namespace: NAMESPACE}
    spec: {}
"""
_REVIEWS = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
_GET_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
_CLUSTER = "dapr-shared-test-tokenreviews"


def _pod(name: str, app_id: str) -> dict:
    metadata = {"name": name, "annotations": {"dapr.io/app-id": app_id}}
    containers = [{"name": "app", "image": "localhost/app:1"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def _account(name: str) -> dict:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def _grant(server, namespace: str, *, reviews: bool = True, pods: bool = True) -> None:
    """Give the instance's service account, `dapr`, what is documented, or less."""
    subject = {"kind": "ServiceAccount", "name": "dapr", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    version = f"{group}/v1"
    role = {"apiVersion": version, "kind": "Role", "metadata": {"name": "dapr"}, "rules": [_GET_PODS] if pods else []}
    reference = {"apiGroup": group, "kind": "Role", "name": "dapr"}
    binding = {"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "dapr"}, "subjects": [subject]}
    server.apply(role, {**binding, "roleRef": reference}, namespace=namespace)
    name = f"{_CLUSTER}-{namespace}"
    rules = [_REVIEWS] if reviews else []
    cluster = {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    bound = {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": [subject]}
    server.apply(cluster, {**bound, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}})


def _prepare(server, namespace: str) -> None:
    server.apply(*(_account(name) for name in ("dapr", "orders", "others")), namespace=namespace)
    server.apply(_pod("stock-1", "stock"), _pod("stray", "absent"), namespace=namespace)


@asynccontextmanager
async def _instance(server, namespace: str, folder, monkeypatch, **settings):
    """An instance that is the service account `dapr` of the namespace."""
    kubeconfig = server.kubeconfig_for(server.service_account_token(namespace, "dapr"), namespace)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    folder.mkdir()
    given = {"mode": "kubernetes", "service_account_audience": AUDIENCE, **settings}
    async with inprocess(folder, _APPS.replace("NAMESPACE", namespace), **given) as made:
        yield made


async def _answer(made, token: str) -> tuple[int, str]:
    """Status, and app id or what is said."""
    response = await made.http("GET", "/v1.0/metadata", token=token)
    body = json.loads(response.body)
    return response.status, body.get("id") or body["message"]


@pytest.mark.parametrize("verification", ["review", "keys"])
async def test_tokens_of_the_cluster(api_server, namespace, tmp_path, monkeypatch, verification):
    """Service account and bound pod prove their apps; other audiences, clusters, accounts and pods that go do not."""
    _prepare(api_server, namespace)
    _grant(api_server, namespace, reviews=verification == "review")

    def token(account: str = "default", pod: str = "", audience: str = AUDIENCE, of: str = namespace) -> str:
        return api_server.service_account_token(of, account, audience, pod=pod)

    settings = {"service_account_verification": verification}
    async with _instance(api_server, namespace, tmp_path / "i", monkeypatch, **settings) as made:
        assert await _answer(made, token("orders")) == (200, "orders")
        bound = token(pod="stock-1")
        assert await _answer(made, bound) == (200, "stock")
        for given, said in (
            (token("orders", audience="vault"), "for another audience"),
            (token("orders", audience=""), "for another audience"),
            (token("others"), "no app has its service account"),
            (token(pod="stray"), "names no app of this instance"),
            (token(of="default"), "does not watch"),
            (token("orders")[:-6] + "AAAAAA", "does not accept" if verification == "review" else "signature"),
        ):
            status, text = await _answer(made, given)
            assert (status, said in text) == (401, True), text
        forged = signed(claims(namespace=namespace, account="orders"), rsa_key("other")).decode()
        assert (await _answer(made, forged))[0] == 401
        late = token(pod="stock-1")
        api_server.kubectl("delete", "pod", "stock-1", "-n", namespace, "--force", "--grace-period=0")
        assert (await _answer(made, late))[0] == 401
        api_server.apply(_pod("stock-1", "stock"), namespace=namespace)  # the same name, another pod
        made.parts.cluster.service_accounts._refused.clear()
        assert (await _answer(made, late))[0] == 401
        assert await _answer(made, token(pod="stock-1")) == (200, "stock")


@pytest.mark.parametrize(
    ("granted", "lacks"),
    [({"reviews": False}, "needs the verb create on tokenreviews"), ({"pods": False}, "needs the verb get on pods")],
)
async def test_a_missing_role_is_named(api_server, namespace, tmp_path, monkeypatch, granted, lacks):
    """Without one of its roles the instance answers 503 and the log names verb and resource; it lets nobody in."""
    _prepare(api_server, namespace)
    _grant(api_server, namespace, **granted)
    async with _instance(api_server, namespace, tmp_path / "i", monkeypatch) as made:
        token = api_server.service_account_token(namespace, "orders", AUDIENCE, pod="")
        bound = api_server.service_account_token(namespace, "default", AUDIENCE, pod="stock-1")
        assert (await _answer(made, bound))[0] == 503
        assert (await _answer(made, token))[0] == (200 if "reviews" not in granted else 503)
    assert lacks in made.log.getvalue().decode()


@pytest.mark.slow
async def test_the_api_server_is_killed_and_comes_back(own_api_server, tmp_path, monkeypatch):
    """Known tokens go on, others are answered 503, and are verified when the server is back."""
    namespace = own_api_server.create_namespace()
    _prepare(own_api_server, namespace)
    _grant(own_api_server, namespace)
    async with _instance(own_api_server, namespace, tmp_path / "i", monkeypatch) as made:
        known, other = (own_api_server.service_account_token(namespace, "orders", AUDIENCE) for _ in range(2))
        assert await _answer(made, known) == (200, "orders")
        own_api_server.kill_server()
        assert await _answer(made, known) == (200, "orders")
        assert (await _answer(made, other))[0] == 503
        own_api_server.start_server()
        assert await _answer(made, other) == (200, "orders")
