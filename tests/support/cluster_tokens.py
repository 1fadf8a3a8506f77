"""Service account tokens as a cluster makes them: signed by keys of this process, for a pod or for none."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from dapr_shared.identity.cluster_keys import KeyDocument

if TYPE_CHECKING:
    from dapr_shared.identity.service_accounts import PodFact

AUDIENCE = "dapr-shared"
ISSUER = "https://kubernetes.default.svc.cluster.local"
_RSA: dict[str, RSAKey] = {}


def rsa_key(name: str) -> RSAKey:
    """One key a name in this process: making one takes a while."""
    if name not in _RSA:
        _RSA[name] = RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"})
    return _RSA[name]


def ec_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig", "alg": "ES256"})


def claims(
    *, namespace: str = "default", account: str = "orders", pod: str = "", uid: str = "u-1", **changed: Any
) -> dict[str, Any]:
    """The claims of a token of this account, bound to the pod if one is named."""
    now = time.time()
    bound: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": account, "uid": f"sa-{account}"}}
    if pod:
        bound["pod"] = {"name": pod, "uid": uid}
    made: dict[str, Any] = {
        "iss": ISSUER,
        "sub": f"system:serviceaccount:{namespace}:{account}",
        "aud": [AUDIENCE],
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + 3600,
        "kubernetes.io": bound,
    }
    made.update(changed)
    return made


def signed(payload: dict[str, Any], key: RSAKey | ECKey, algorithm: str = "RS256", **header: Any) -> bytes:
    """The token as it is sent."""
    head = {"alg": algorithm, "kid": key.kid, **header}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jws.serialize_compact(head, json.dumps(payload), key, registry=registry).encode()


def unsigned(payload: dict[str, Any], header: dict[str, Any], signature: bytes = b"") -> bytes:
    """A token with any header and any signature."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def hmac_signed(payload: dict[str, Any], secret: bytes, key_id: str) -> bytes:
    """HS256 with any secret: a library would refuse to use a public key as one."""
    text = unsigned(payload, {"alg": "HS256", "kid": key_id}).rpartition(b".")[0]
    return text + b"." + urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")


def published(*keys: RSAKey | ECKey, issuer: str = ISSUER) -> KeyDocument:
    """What the API server publishes about itself."""
    return KeyDocument(issuer, [key.as_dict(private=False) for key in keys])


class FakePods:
    """The pods of a cluster: those that are watched, and those that only a request finds."""

    def __init__(self) -> None:
        self.watched: dict[tuple[str, str], PodFact] = {}
        self.asked: dict[tuple[str, str], PodFact] = {}
        self.requests = 0
        self.problem: Exception | None = None

    def peek(self, namespace: str, name: str) -> PodFact | None:
        return self.watched.get((namespace, name))

    async def find(self, namespace: str, name: str) -> PodFact | None:
        self.requests += 1
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        return self.asked.get((namespace, name)) or self.watched.get((namespace, name))
