"""Who a token of the cluster belongs to, as the API server says (TokenReview).

Beside the request road, step 2: `identity/` decides what the answer proves. Nothing is kept here; the caller bounds how
often is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dapr_shared.kube.objects import TOKEN_REVIEWS, JsonObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.kube.client import KubeClient

TOKEN_LIMIT: Final = 16 * 1024
"""Characters of a token at most; one of a service account has about 1,000."""
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_NODE_NAME: Final = "authentication.kubernetes.io/node-name"
_LONGEST: Final = 200


class NotAuthenticated(Exception):  # noqa: N818 - what the server says
    """The token proves nobody. The message says why and never holds the token."""


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """Whose token it is."""

    username: str
    uid: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...]
    """Those of the asked ones that the token is for."""
    namespace: str = ""
    """Of the service account; empty: the user is none."""
    service_account: str = ""
    pod_name: str = ""
    """The pod that the token is bound to; empty: none, or an API server that does not say."""
    pod_uid: str = ""
    node_name: str = ""


async def review_token(client: KubeClient, token: str, audiences: Sequence[str]) -> ReviewedToken:
    """Ask the API server whose token this is, and whether it is for one of these audiences (one at least).

    Raises `NotAuthenticated`, and `KubeError` where nothing can be said: the API server is away, or our account lacks
    the verb create on tokenreviews.
    """
    if not audiences:
        raise ValueError("a token without an audience to check would prove its owner to anybody who was shown it")
    if not 0 < len(token) <= TOKEN_LIMIT or any(not 0x21 <= ord(character) <= 0x7E for character in token):
        raise NotAuthenticated("this is no token of a service account")
    spec = {"token": token, "audiences": list(audiences)}
    body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": spec}
    answer = await client.create(TOKEN_REVIEWS, body)
    status: JsonObject = answer.get("status") or {}
    if status.get("authenticated") is not True:
        raise NotAuthenticated(_reason(str(status.get("error") or ""), token))
    # A server that knows nothing of audiences gives none back: its answer would hold for a token of any audience.
    proved = tuple(str(audience) for audience in status.get("audiences") or () if audience in audiences)
    if not proved:
        raise NotAuthenticated("the API server does not say that the token is for this audience")
    return _reviewed(status.get("user") or {}, proved)


def _reviewed(user: JsonObject, audiences: tuple[str, ...]) -> ReviewedToken:
    username = str(user.get("username") or "")
    if not username:
        raise NotAuthenticated("the API server does not say whose token it is")
    namespace = name = ""
    if username.startswith(_SERVICE_ACCOUNT):
        namespace, _, name = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    extra: JsonObject = user.get("extra") or {}
    return ReviewedToken(
        username=username,
        uid=str(user.get("uid") or ""),
        groups=tuple(map(str, user.get("groups") or ())),
        audiences=audiences,
        namespace=namespace,
        service_account=name,
        pod_name=_one(extra.get(_POD_NAME)),
        pod_uid=_one(extra.get(_POD_UID)),
        node_name=_one(extra.get(_NODE_NAME)),
    )


def _one(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""  # pyright: ignore[reportUnknownArgumentType]


def _reason(said: str, token: str) -> str:
    if not said or token in said:
        return "the API server does not accept the token"
    return f"the API server does not accept the token: {said[:_LONGEST]}"
