"""Service account tokens verified offline, by the public keys of the cluster.

Step 2 of the request road. No call to the API server a token: only the keys are read, at first use, again as they age,
and when a token names a key that is not known, at a bounded pace. What the API server alone knows is not seen: that a
service account was deleted, or made again with the same name. (That a pod was deleted is seen, `Pods` is asked.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from dapr_shared.identity.claims import Claims, TokenRefusedError, check_claims
from dapr_shared.identity.service_accounts import NotVerifiableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from joserfc.jwk import ECKey, RSAKey

    from dapr_shared.core.clock import Clock
    from dapr_shared.identity.claims import UnverifiedToken

    _Key: TypeAlias = ECKey | RSAKey

REFRESH_SECONDS = 600.0
"""Age at which the keys are read again; where that fails, those known go on."""
UNKNOWN_KEY_SECONDS = 30.0
"""Between two readings of the keys that unknown ones cause, whatever is sent."""
FAILED_SECONDS = 1.0
"""Between two tries to read the keys where none are known."""
MOST_KEYS = 64
_KINDS = {"RS256": "RSA", "ES256": "EC"}
"""The algorithms, each with the kind of its keys. A key is used with the algorithm of its kind and no other."""
_CURVE = "P-256"
_LEAST_BITS = 2048


class KeyDocument(NamedTuple):
    """What the API server publishes: who it says it is, and its keys (JWKs)."""

    issuer: str
    keys: Sequence[Mapping[str, Any]]


class ClusterKeys:
    """Verifies with the keys of one cluster; those of another sign in vain."""

    asks_api_server = False

    def __init__(self, fetch: Callable[[], Awaitable[KeyDocument]], audience: str, clock: Clock) -> None:
        """`fetch` reads what the API server publishes. Raises `NotVerifiableError`."""
        self._fetch = fetch
        self._audience = audience
        self._clock = clock
        self._issuer = ""
        self._keys: dict[tuple[str, str], _Key] = {}
        self._read_at: float | None = None
        self._failed: tuple[float, NotVerifiableError] | None = None
        self._reading = asyncio.Lock()

    async def verify(self, token: UnverifiedToken) -> Claims:
        """See `TokenVerifier`."""
        if token.header.alg not in _KINDS:
            raise TokenRefusedError(
                "token_algorithm", f"it is signed by {token.header.alg}; {' and '.join(_KINDS)} are verified by keys"
            )
        key = await self._key(token.header.alg, token.header.kid)
        claims = _verified(token, key)
        check_claims(claims, audience=self._audience, now=self._clock.now().timestamp())
        if claims.iss != self._issuer:
            raise TokenRefusedError("token_issuer", "it was issued by another cluster")
        return claims

    async def _key(self, algorithm: str, key_id: str) -> _Key:
        """The key of this name. A name is only ever looked up, never followed. Raises `TokenRefusedError`."""
        await self._refresh(REFRESH_SECONDS)
        key = self._keys.get((algorithm, key_id))
        if key is None:
            await self._refresh(UNKNOWN_KEY_SECONDS)
            key = self._keys.get((algorithm, key_id))
        if key is None:
            raise TokenRefusedError("token_not_verified", "it is signed by a key that this cluster does not publish")
        return key

    async def _refresh(self, age: float) -> None:
        """Read the keys if those known are older, in seconds; a failure counts where there are none."""
        async with self._reading:
            now = self._clock.monotonic()
            if self._read_at is not None and now - self._read_at < age:
                return
            if self._failed is not None and not self._keys and now - self._failed[0] < FAILED_SECONDS:
                raise NotVerifiableError(str(self._failed[1]))
            try:
                document = await self._fetch()
            except NotVerifiableError as error:
                self._failed = now, error
                if not self._keys:
                    raise
            else:
                self._issuer, self._keys = document.issuer, _usable(document.keys)
            self._read_at = now  # after a failure with keys at hand too: the next try waits


def _usable(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], _Key]:
    """The keys that a token may be signed by, by algorithm and name. Weak ones, and secret ones, are left out."""
    from joserfc.errors import JoseError  # noqa: PLC0415 - 9 MiB, for who verifies by keys
    from joserfc.jwk import ECKey, RSAKey  # noqa: PLC0415

    found: dict[tuple[str, str], _Key] = {}
    for document in list(documents)[:MOST_KEYS]:
        kind, key_id = document.get("kty"), document.get("kid")
        algorithm = next((name for name, kty in _KINDS.items() if kty == kind), None)
        if algorithm is None or not isinstance(key_id, str) or document.get("use", "sig") != "sig":
            continue
        if document.get("alg", algorithm) != algorithm or "d" in document:
            continue
        try:
            key = RSAKey.import_key(dict(document)) if kind == "RSA" else ECKey.import_key(dict(document))
            strong = key.public_key.key_size >= _LEAST_BITS if isinstance(key, RSAKey) else key.curve_name == _CURVE
        except (JoseError, ValueError):
            continue
        if strong:
            found[algorithm, key_id] = key
    return found


def _verified(token: UnverifiedToken, key: _Key) -> Claims:
    """The claims of the very bytes that the signature is over. Raises `TokenRefusedError`."""
    from joserfc import jws  # noqa: PLC0415
    from joserfc.errors import JoseError  # noqa: PLC0415

    try:
        signed = jws.deserialize_compact(token.text, key, algorithms=[token.header.alg])
        return msgspec.json.decode(signed.payload, type=Claims)
    except (JoseError, ValueError, msgspec.DecodeError) as error:
        raise TokenRefusedError("token_not_verified", "its signature is not of this cluster") from error
