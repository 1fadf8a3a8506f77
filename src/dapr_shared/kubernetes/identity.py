"""What the API server says of tokens and pods, for identity.

Beside the request road, step 2: `identity/service_accounts.py` decides when to ask and what an answer is worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dapr_shared.identity.claims import TokenRefusedError
from dapr_shared.identity.cluster_keys import KeyDocument
from dapr_shared.identity.service_accounts import NotVerifiableError, PodFact
from dapr_shared.kube.errors import KubeError, NotFound
from dapr_shared.kube.objects import ISSUER, ISSUER_KEYS, PODS
from dapr_shared.kube.tokens import NotAuthenticated, review_token
from dapr_shared.kubernetes.discovery import APP_ID, INSTANCE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.identity.claims import Claims, UnverifiedToken
    from dapr_shared.kube.client import KubeClient

    JsonObject = Mapping[str, Any]
    FindPod = Callable[[str, str], JsonObject | None]


class TokenReviewer:
    """Has each token reviewed by the API server, which knows of deleted pods and service accounts."""

    asks_api_server = True

    def __init__(self, client: KubeClient, audience: str) -> None:
        self._client = client
        self._audience = audience

    async def verify(self, token: UnverifiedToken) -> Claims:
        """See `TokenVerifier`. What the server answers must be what the token says of itself, pod included."""
        try:
            reviewed = await review_token(self._client, token.text, (self._audience,))
        except NotAuthenticated as error:
            raise TokenRefusedError("token_not_verified", "the API server does not accept it") from error
        except KubeError as error:
            raise NotVerifiableError(error.message) from error
        claims = token.claims
        said = (reviewed.namespace, reviewed.service_account, reviewed.pod_name, reviewed.pod_uid)
        if said != (claims.namespace, claims.service_account, claims.pod_name, claims.pod_uid):
            raise TokenRefusedError("token_not_verified", "the API server says that it is another's")
        return claims


async def published_keys(client: KubeClient) -> KeyDocument:
    """Who signs the cluster's tokens, and with which keys. Raises `NotVerifiableError`.

    The keys are read from the API server itself, not from where its `jwks_uri` leads.
    """
    try:
        issuer = (await client.published(ISSUER)).get("issuer")
        keys = (await client.published(ISSUER_KEYS)).get("keys")
    except KubeError as error:
        raise NotVerifiableError(error.message) from error
    if not isinstance(issuer, str) or not issuer or not isinstance(keys, list):
        raise NotVerifiableError("the API server does not publish who signs its tokens")
    found = cast("list[object]", keys)
    return KeyDocument(issuer, [cast("dict[str, Any]", key) for key in found if isinstance(key, dict)])


class ClusterPods:
    """The pods that tokens are bound to: watched ones from memory, others by a request."""

    def __init__(self, client: KubeClient, watched: FindPod) -> None:
        """`watched` finds the metadata of a pod that is watched, by namespace and name."""
        self._client = client
        self._watched = watched

    def peek(self, namespace: str, name: str) -> PodFact | None:
        """See `Pods`."""
        found = self._watched(namespace, name)
        return pod_fact(found) if found is not None else None

    async def find(self, namespace: str, name: str) -> PodFact | None:
        """See `Pods`. Needs the verb get on pods of the namespace."""
        try:
            return pod_fact(await self._client.get(PODS, name, namespace))
        except NotFound:
            return None
        except KubeError as error:
            raise NotVerifiableError(error.message) from error


def pod_fact(pod: JsonObject) -> PodFact:
    """What a pod says. Those of a release of dapr-shared itself are annotated too, and are no apps."""
    metadata: JsonObject = pod.get("metadata") or {}
    labels: JsonObject = metadata.get("labels") or {}
    annotations: JsonObject = metadata.get("annotations") or {}
    own = INSTANCE_LABEL in labels
    return PodFact(str(metadata.get("uid") or ""), "" if own else str(annotations.get(APP_ID) or ""))
