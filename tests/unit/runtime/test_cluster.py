"""An instance in a cluster: who calls by a service account token, and which Secrets resources and apps read."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64decode
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared._proto import runtime_pb
from dapr_shared.components.kubernetes.secrets import CREDENTIALS
from dapr_shared.kube.objects import PODS, SECRETS, TOKEN_REVIEWS
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.runtime.apps import AppsError
from dapr_shared.runtime.cluster import cluster_access
from dapr_shared.runtime.settings import Settings, SettingsError, check
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.cluster_tokens import AUDIENCE, claims, rsa_key, signed
from tests.support.fake_kube import TOKEN, FakeKube, refused
from tests.support.inprocess import inprocess
from tests.support.kubernetes_secrets import kubeconfig

KEY = rsa_key("cluster")
ITEMS = '{"greeting": "hello"}'
APPS = """
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: till, namespace: shop}
    spec:
      serviceAccount: till
      tokens: [{secretKeyRef: {name: tokens, key: till}}]
      secrets: {scopes: [{storeName: kubernetes}, {storeName: vault}]}
    ---
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: back, namespace: shop}
    spec: {}
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: vault, namespace: shop}
    spec: {type: secretstores.kubernetes, version: v1, metadata: []}
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: settings, namespace: shop}
    spec:
      type: configuration.in-memory
      version: v1
      metadata: [{name: items, secretKeyRef: {name: plain, key: items}}]
"""


@pytest.fixture
async def server(tmp_path, monkeypatch):
    """An API server with Secrets in two namespaces, that accepts what the cluster's key has signed."""
    async with AsyncExitStack() as stack:
        made = FakeKube()
        await made.start(stack)
        made.install(TOKEN_REVIEWS)
        made.put(SECRETS, "tokens", "shop", data={"till": "c2VjcmV0LW9mLXRpbGw="})
        made.put(SECRETS, "plain", "shop", data={"items": b64encode(ITEMS.encode()).decode()})
        made.put(SECRETS, "plain", "bank", data={"items": "e30="})
        made.put(PODS, "back-1", "shop", metadata={"uid": "u-1", "annotations": {"dapr.io/app-id": "back"}})
        made.review = _review
        (tmp_path / "kube").mkdir()
        file = kubeconfig(tmp_path / "kube" / "config", f"http://127.0.0.1:{made.port}", "shop", TOKEN)
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.delenv("NAMESPACE", raising=False)
        yield made


def _review(spec):
    """Believes the claims, as a server whose key has signed them."""
    token = in_claims(spec["token"])
    bound = token["kubernetes.io"]
    pod = bound.get("pod", {})
    extra = {f"authentication.kubernetes.io/pod-{field}": [value] for field, value in pod.items()}
    user = {"username": token["sub"], "extra": extra}
    return {"authenticated": True, "audiences": spec["audiences"], "user": user}


def in_claims(token: str):
    return json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


@asynccontextmanager
async def instance(folder, **settings):
    place = folder / "resources"
    place.mkdir()
    resources = settings.pop("resources", APPS)
    given = {"mode": "kubernetes", "service_account_audience": AUDIENCE, **settings}
    async with inprocess(place, resources, **given) as made:
        yield made


def token(**changed) -> str:
    return signed(claims(namespace="shop", **changed), KEY).decode()


async def app_of(made, given: str) -> str:
    response = await made.http("GET", "/v1.0/metadata", token=given)
    assert response.status == 200, response.body
    over_grpc = runtime_pb.GetMetadataResponse.FromString(await made.grpc("GetMetadata", b"", token=given))
    assert over_grpc.id == json.loads(response.body)["id"]
    return over_grpc.id


async def test_service_accounts_and_pods_prove_apps_over_both_protocols(server, tmp_path):
    """A token of the App's service account, of an annotated pod, and of a Secret, over HTTP and gRPC: one review each."""
    async with instance(tmp_path) as made:
        assert await app_of(made, token(account="till")) == "till"
        bound = token(account="default", pod="back-1")
        assert await app_of(made, bound) == "back"
        assert await app_of(made, "secret-of-till") == "till"
        assert await app_of(made, bound) == "back"
        assert server.counted("POST", "tokenreviews") == 2


async def test_a_token_that_proves_nothing_is_refused_over_both_protocols(server, tmp_path):
    """The refusal says what is wrong, and is an audit event with its reason."""
    async with instance(tmp_path) as made:
        given = token(account="nobody")
        response = await made.http("GET", "/v1.0/metadata", token=given)
        assert response.status == 401
        assert "no app has its service account" in json.loads(response.body)["message"]
        with pytest.raises(GrpcError, match="no app has its service account"):
            await made.grpc("GetMetadata", b"", token=given)
        elsewhere = signed(claims(namespace="bank", account="till"), KEY).decode()
        assert (await made.http("GET", "/v1.0/metadata", token=elsewhere)).status == 401
        assert server.counted("POST", "tokenreviews") == 1
    assert b"reason=service_account_of_no_app" in made.log.getvalue()
    assert b"reason=namespace_not_watched" in made.log.getvalue()


async def test_while_the_api_server_is_away(server, tmp_path):
    """New tokens are answered 503 and UNAVAILABLE, what is known goes on; operators are told why, callers are not."""
    async with instance(tmp_path) as made:
        known = token(account="till")
        assert await app_of(made, known) == "till"
        await server.down()
        assert await app_of(made, known) == "till"
        assert await app_of(made, "secret-of-till") == "till"
        fresh = token(account="till", jti="another")
        response = await made.http("GET", "/v1.0/metadata", token=fresh)
        assert response.status == 503
        assert str(server.port) not in response.body.decode()
        with pytest.raises(GrpcError) as refused:
            await made.grpc("GetMetadata", b"", token=fresh)
        assert refused.value.code.name == "UNAVAILABLE"
    assert f"{server.port}".encode() in made.log.getvalue()
    assert fresh.encode() not in made.log.getvalue()


@pytest.mark.parametrize("kind", sorted(CREDENTIALS))
async def test_credentials_of_the_cluster_are_no_secrets_of_resources(server, tmp_path, kind):
    """A Secret that opens the API server is refused to every resource, whose writer could have it sent elsewhere."""
    server.put(SECRETS, "tokens", "shop", type=kind, data={"till": "c2VjcmV0LW9mLXRpbGw="})
    with pytest.raises(AppsError, match="a credential of the cluster"):
        async with instance(tmp_path):
            pass


async def test_secrets_of_resources_are_of_their_own_namespace(server, tmp_path):
    """A resource that names no store means the Secrets of its namespace, and gets no other's."""
    async with instance(tmp_path) as made:
        response = await made.http("GET", "/v1.0/configuration/settings?key=greeting", token="secret-of-till")
        assert json.loads(response.body)["greeting"]["value"] == "hello"
    server.remove(SECRETS, "tokens", "shop")
    server.put(SECRETS, "tokens", "bank", data={"till": "c2VjcmV0LW9mLXRpbGw="})
    (tmp_path / "second").mkdir()
    with pytest.raises(AppsError, match="the secret tokens of the store kubernetes has no value"):
        async with instance(tmp_path / "second"):
            pass


async def test_apps_of_a_shared_instance_do_not_have_the_built_in_store(server, tmp_path):
    """The store that daprd adds is not there for them, whatever a scope says; one of their namespace they may be given.

    Through it they read what is not a token of some app, in their own namespace.
    """
    async with instance(tmp_path) as made:
        given = token(account="till")
        response = await made.http("GET", "/v1.0/secrets/kubernetes/plain", token=given)
        assert response.status >= 400
        response = await made.http("GET", "/v1.0/secrets/vault/plain", token=given)
        assert json.loads(response.body) == {"items": ITEMS}
        response = await made.http("GET", "/v1.0/secrets/vault/tokens", token=given)
        assert response.status == 403
        response = await made.http("GET", "/v1.0/secrets/vault/plain?metadata.namespace=bank", token=given)
        assert response.status == 500
        assert "namespace shop alone" in response.body.decode()
        response = await made.http("GET", "/v1.0/secrets/vault/bulk?metadata.namespace=bank", token=given)
        assert response.status == 500
        response = await made.http("GET", "/v1.0/secrets/vault/bulk", token=given)
        assert json.loads(response.body) == {"plain": {"items": ITEMS}}
        response = await made.http("GET", "/v1.0/secrets/vault/plain", token=token(pod="back-1", account="default"))
        assert response.status == 403


async def test_the_app_of_a_single_app_instance_has_the_built_in_store(server, tmp_path, monkeypatch):
    """As in daprd, under the name kubernetes; --disable-builtin-k8s-secret-store takes it away, not from resources."""
    monkeypatch.setenv("NAMESPACE", "shop")
    component = APPS.rpartition("---")[2]
    async with instance(tmp_path, app_id="till", service_account_audience="", resources=component) as made:
        response = await made.http("GET", "/v1.0/secrets/kubernetes/plain")
        assert json.loads(response.body) == {"items": ITEMS}
        response = await made.http("GET", "/v1.0/metadata")
        assert "secretstores.kubernetes" in response.body.decode()
    (tmp_path / "second").mkdir()
    settings = {"app_id": "till", "service_account_audience": "", "disable_builtin_k8s_secret_store": True}
    async with instance(tmp_path / "second", resources=component, **settings) as made:
        response = await made.http("GET", "/v1.0/secrets/kubernetes/plain")
        assert response.status >= 400
        response = await made.http("GET", "/v1.0/configuration/settings?key=greeting")
        assert json.loads(response.body)["greeting"]["value"] == "hello"


async def test_a_cluster_that_cannot_be_found(monkeypatch, tmp_path):
    """Cluster mode without a way to an API server is an error of the settings."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"--mode=kubernetes: .*absent"):
        cluster_access(Settings(mode="kubernetes"), None)


async def test_pods_of_the_node_that_may_not_be_followed(server, monkeypatch):
    """Addresses need the pods of the node: that they may not be followed is told once, and that they may again."""
    monkeypatch.setenv("NODE_NAME", "node1")
    said = 'pods is forbidden: User "system:serviceaccount:shop:dapr" cannot list resource "pods" in API group ""'
    monkeypatch.setattr("dapr_shared.kube.informer.PAUSES", (0.01, 0.02))
    server.refuse = lambda _request: refused(403, "Forbidden", said)
    told: list[tuple] = []
    events = Events(DaprMetrics(), lambda _: None)
    events.cluster_refused = lambda *given, **_: told.append(("refused", *given))
    events.cluster_followed = lambda *given: told.append(("followed", *given))
    access = cluster_access(check(Settings(mode="kubernetes", identify_by_address=True)), events)
    async with AsyncExitStack() as stack, asyncio.timeout(5):
        await access.start(stack)
        while len(server.requests) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        server.refuse = lambda _request: None
        while len(told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert [line[:3] for line in told] == [
        ("refused", "pods of this node", "shop"),
        ("followed", "pods of this node", "shop"),
    ]
    for words in ("shop/dapr needs the verb list on pods in namespace shop", "the chart gives it by its role"):
        assert words in told[0][3]
