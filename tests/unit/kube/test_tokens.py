from __future__ import annotations

import pytest

from dapr_shared.kube.errors import Forbidden
from dapr_shared.kube.objects import TOKEN_REVIEWS
from dapr_shared.kube.tokens import NotAuthenticated, ReviewedToken, review_token
from tests.support.fake_kube import refused

PROOF = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"


def answer(**changed):
    """What an API server says of a good token."""
    extra = {
        "authentication.kubernetes.io/pod-name": ["web-1"],
        "authentication.kubernetes.io/pod-uid": ["u-1"],
        "authentication.kubernetes.io/node-name": ["node-1"],
    }
    user = {"username": "system:serviceaccount:shop:web", "uid": "sa-1", "groups": ["g"], "extra": extra}
    return {"authenticated": True, "audiences": ["dapr"], "user": user, **changed}


@pytest.fixture
def reviews(server):
    server.install(TOKEN_REVIEWS)
    server.review = lambda _spec: answer()
    return server


async def test_a_good_token(reviews, client):
    """A token gives its service account, audience and pod."""
    assert await review_token(client, PROOF, ["dapr", "other"]) == ReviewedToken(
        "system:serviceaccount:shop:web", "sa-1", ("g",), ("dapr",), "shop", "web", "web-1", "u-1", "node-1"
    )
    assert reviews.bodies[-1]["spec"] == {"token": PROOF, "audiences": ["dapr", "other"]}


async def test_a_user_that_is_no_service_account(reviews, client):
    """Another user is told as such."""
    reviews.review = lambda _spec: answer(user={"username": "admin"})
    found = await review_token(client, PROOF, ["dapr"])
    assert (found.username, found.namespace, found.service_account, found.pod_name) == ("admin", "", "", "")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"authenticated": False, "error": "[invalid bearer token, Token has been invalidated]"}, "been invalidated"),
        ({"authenticated": False, "error": f"bad {PROOF}"}, "does not accept the token$"),
        ({}, "does not accept the token$"),
        (answer(authenticated="true"), "does not accept"),
        (answer(audiences=[]), "for this audience"),
        (answer(audiences=["kubernetes"]), "for this audience"),
        (answer(user={}), "whose token it is"),
    ],
)
async def test_no_proof(reviews, client, said, why):
    """What the server does not confirm, for our audience, proves nobody, and the token is not in the text."""
    reviews.review = lambda _spec: said
    with pytest.raises(NotAuthenticated, match=why) as caught:
        await review_token(client, PROOF, ["dapr"])
    assert PROOF not in str(caught.value)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "ä", "x" * 20_000])
async def test_no_token(reviews, client, token):
    """What cannot be a token is not asked for."""
    with pytest.raises(NotAuthenticated):
        await review_token(client, token, ["dapr"])
    assert reviews.requests == []


async def test_no_audience(client):
    """A review without an audience is a defect of the caller."""
    with pytest.raises(ValueError, match="audience"):
        await review_token(client, PROOF, [])


async def test_forbidden(reviews, client):
    """An account that may not ask is an error with the missing verb, not a token that proves nobody."""
    said = (
        'tokenreviews.authentication.k8s.io is forbidden: User "system:serviceaccount:shop:dapr" cannot create'
        ' resource "tokenreviews" in API group "authentication.k8s.io" at the cluster scope'
    )
    reviews.refuse = lambda _request: refused(403, "Forbidden", said)
    with pytest.raises(Forbidden, match=r"needs the verb create on tokenreviews.authentication.k8s.io cluster-wide"):
        await review_token(client, PROOF, ["dapr"])
