"""What the API server says of tokens and pods, as identity takes it."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from dapr_shared.identity.claims import TokenRefusedError, read_token
from dapr_shared.identity.service_accounts import NotVerifiableError, PodFact
from dapr_shared.kube.objects import PODS, TOKEN_REVIEWS
from dapr_shared.kubernetes.identity import ClusterPods, TokenReviewer, published_keys
from tests.support.cluster_tokens import AUDIENCE, ISSUER, claims, published, rsa_key, signed
from tests.support.fake_kube import FakeKube, refused

KEY = rsa_key("cluster")


@pytest.fixture
async def server():
    async with AsyncExitStack() as stack:
        made = FakeKube()
        made.install(TOKEN_REVIEWS, PODS)
        await made.start(stack)
        yield made


@pytest.fixture
async def client(server):
    async with AsyncExitStack() as stack:
        yield await server.client(stack)


def answer(username: str = "system:serviceaccount:shop:till", pod: str = "p", uid: str = "u-1", **changed):
    extra = {f"authentication.kubernetes.io/pod-{field}": [value] for field, value in (("name", pod), ("uid", uid))}
    return {
        "authenticated": True,
        "audiences": [AUDIENCE],
        "user": {"username": username, "uid": "x", "groups": [], "extra": extra if pod else {}},
        **changed,
    }


def token(**changed):
    given = signed(claims(namespace="shop", account="till", **{"pod": "p", **changed}), KEY)
    return read_token(given, audience=AUDIENCE, now=time.time())


async def test_a_reviewed_token_is_what_it_says(server, client):
    """The server is asked for this audience, and what it proves are the claims of the token."""
    asked = []
    server.review = lambda spec: asked.append(spec) or answer()
    given = token()
    assert await TokenReviewer(client, AUDIENCE).verify(given) == given.claims
    assert asked == [{"token": given.text, "audiences": [AUDIENCE]}]


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": False, "error": "invalid bearer token"},
        {},
        answer(audiences=[]),
        answer(audiences=["https://kubernetes.default.svc"]),
        answer("system:serviceaccount:shop:other"),
        answer("system:serviceaccount:bank:till"),
        answer("system:node:till"),
        answer("till"),
        answer(pod="q"),
        answer(uid="u-2"),
        answer(pod=""),
    ],
)
async def test_what_the_server_does_not_confirm_proves_nothing(server, client, status):
    """Refused, for another audience, of another account, namespace or pod: a review that says else than the token."""
    server.review = lambda _spec: status
    with pytest.raises(TokenRefusedError) as error:
        await TokenReviewer(client, AUDIENCE).verify(token())
    assert error.value.reason == "token_not_verified"


async def test_a_token_that_claims_no_pod_and_is_of_one(server, client):
    """A pod in the server's answer alone disagrees too."""
    server.review = lambda _spec: answer()
    with pytest.raises(TokenRefusedError):
        await TokenReviewer(client, AUDIENCE).verify(token(pod=""))


async def test_a_review_that_cannot_be_made(server, client):
    """Where our account may not, or the server is away, nobody can say: not a refusal, and the verb is named."""
    server.refuse = lambda _request: refused(
        403, "Forbidden", 'tokenreviews.authentication.k8s.io is forbidden: User "system:serviceaccount:shop:dapr" '
        'cannot create resource "tokenreviews" in API group "authentication.k8s.io" at the cluster scope',
    )  # fmt: skip
    with pytest.raises(NotVerifiableError, match=r"create.*tokenreviews"):
        await TokenReviewer(client, AUDIENCE).verify(token())
    await server.down()
    with pytest.raises(NotVerifiableError):
        await TokenReviewer(client, AUDIENCE).verify(token())


async def test_pods_that_are_asked_for(server, client):
    """A pod is found with uid and annotation; one of a release of ours names no app; one that is not there is none."""
    annotated = {"uid": "u-1", "annotations": {"dapr.io/app-id": "till"}}
    server.put(PODS, "p", "shop", metadata=annotated)
    server.put(PODS, "own", "shop", metadata={**annotated, "labels": {"shared.dapr.io/instance": "shared"}})
    server.put(PODS, "bare", "shop", metadata={"uid": "u-1"})
    pods = ClusterPods(client, lambda _namespace, _name: None)
    assert pods.peek("shop", "p") is None
    assert await pods.find("shop", "p") == PodFact("u-1", "till")
    assert await pods.find("shop", "own") == PodFact("u-1", "")
    assert await pods.find("shop", "bare") == PodFact("u-1", "")
    assert await pods.find("bank", "p") is None
    await server.down()
    with pytest.raises(NotVerifiableError):
        await pods.find("shop", "p")


async def test_pods_that_are_watched(server, client):
    """What is watched is taken from memory."""
    known = {("shop", "p"): {"metadata": {"uid": "u-1", "annotations": {"dapr.io/app-id": "till"}}}}
    pods = ClusterPods(client, lambda namespace, name: known.get((namespace, name)))
    assert pods.peek("shop", "p") == PodFact("u-1", "till")
    assert server.requests == []


async def test_the_published_keys(server, client):
    """Issuer and keys come from the API server itself, wherever its own description of them leads."""
    document = published(KEY)
    pages = {
        "/.well-known/openid-configuration": {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1:1/elsewhere"},
        "/openid/v1/jwks": {"keys": [*document.keys, "none"]},
    }
    server.refuse = lambda request: web.json_response(pages[request.path])
    assert await published_keys(client) == document
    pages["/.well-known/openid-configuration"] = {}
    with pytest.raises(NotVerifiableError, match="does not publish"):
        await published_keys(client)
    server.refuse = lambda _request: refused(403, "Forbidden", "forbidden")
    with pytest.raises(NotVerifiableError, match="openid"):
        await published_keys(client)
