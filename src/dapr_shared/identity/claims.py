"""What a service account token says of itself, read before anybody has verified it.

Step 2 of the request road. The claims here prove nothing. They are read to refuse at no cost what cannot be a token for
this instance (so that a flood of invented tokens costs the API server nothing), and to know when a token ends. Whether
they are true a verifier says (`identity/service_accounts.py`).
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from typing import Any

import msgspec

LONGEST_TOKEN = 8192
"""Bytes. Those that Kubernetes makes have one to two thousand."""
NOT_BEFORE_LEEWAY = 60.0
"""Seconds by which clocks may differ where a token says `nbf`; the API server allows as much. The end has no leeway."""
SUBJECT_PREFIX = "system:serviceaccount:"
_PARTS = 3
_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
)
"""Signatures that need a private key: what API servers sign with. Not `none`, and no HMAC, whose key might be public."""


class TokenRefusedError(Exception):
    """A token that proves nothing. `reason` is the label of counters; the message is for the caller, without claims."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class Header(msgspec.Struct, frozen=True):
    """The protected header. Keys that come with a token (`jwk`, `jku`, `x5c`, …) have no field: they are never used."""

    alg: str
    kid: str = ""
    crit: list[Any] | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str
    uid: str = ""


class _Bound(msgspec.Struct, frozen=True):
    namespace: str
    serviceaccount: _Named
    pod: _Named | None = None


class Claims(msgspec.Struct, frozen=True):
    """The claims of a service account token, as the API server makes them."""

    iss: str
    sub: str
    aud: list[str] | str
    exp: float
    bound: _Bound = msgspec.field(name="kubernetes.io")
    nbf: float | None = None

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom the token is for."""
        return (self.aud,) if isinstance(self.aud, str) else tuple(self.aud)

    @property
    def namespace(self) -> str:
        """Of service account and pod."""
        return self.bound.namespace

    @property
    def service_account(self) -> str:
        """Its name."""
        return self.bound.serviceaccount.name

    @property
    def pod_name(self) -> str:
        """The pod that the token is bound to; empty: none."""
        return self.bound.pod.name if self.bound.pod else ""

    @property
    def pod_uid(self) -> str:
        """The uid of that pod."""
        return self.bound.pod.uid if self.bound.pod else ""


class UnverifiedToken(msgspec.Struct, frozen=True):
    """A token with what it claims."""

    text: str
    header: Header
    claims: Claims

    def __repr__(self) -> str:
        return f"UnverifiedToken(sub={self.claims.sub!r})"  # never the text


def looks_like_token(token: bytes) -> bool:
    """Whether this is in the form of a signed token: three parts, the first a JSON object in base64."""
    return token.startswith(b"ey") and token.count(b".") == _PARTS - 1


def read_token(token: bytes, *, audience: str, now: float) -> UnverifiedToken:
    """Read a token, and refuse one that cannot count here whatever its signature is.

    `now`: seconds since 1970. Raises `TokenRefusedError`.
    """
    if len(token) > LONGEST_TOKEN:
        raise TokenRefusedError("token_too_large", f"it has more than {LONGEST_TOKEN} bytes")
    try:
        text = token.decode("ascii")
        head, payload, signature = text.split(".")
        if not signature:
            raise TokenRefusedError("token_algorithm", "it is not signed")
        header = msgspec.json.decode(_part(head), type=Header)
        if header.alg not in _ALGORITHMS or header.crit is not None:
            raise TokenRefusedError("token_algorithm", "it is not signed in a way that service account tokens are")
        claims = msgspec.json.decode(_part(payload), type=Claims)
    except (ValueError, msgspec.DecodeError) as error:  # both messages may quote claims
        raise TokenRefusedError("token_malformed", "it is no token of a Kubernetes service account") from error
    check_claims(claims, audience=audience, now=now)
    return UnverifiedToken(text, header, claims)


def check_claims(claims: Claims, *, audience: str, now: float) -> None:
    """Refuse claims that do not fit each other, this instance or the time of day. Raises `TokenRefusedError`."""
    if claims.sub != f"{SUBJECT_PREFIX}{claims.namespace}:{claims.service_account}" or not claims.service_account:
        raise TokenRefusedError("token_malformed", "it is no token of a Kubernetes service account")
    if claims.bound.pod is not None and not (claims.pod_name and claims.pod_uid):
        raise TokenRefusedError("token_malformed", "it is bound to a pod without a name or a uid")
    if audience not in claims.audiences:
        raise TokenRefusedError(
            "token_other_audience", f"it is for another audience than {audience}, which this instance asks for"
        )
    if claims.exp <= now:
        raise TokenRefusedError("token_expired", "it has expired")
    if claims.nbf is not None and claims.nbf > now + NOT_BEFORE_LEEWAY:
        raise TokenRefusedError("token_not_yet", "it is not valid yet")


def _part(text: str) -> bytes:
    """Base64url without padding, strictly. Raises `ValueError`."""
    if not set(text) <= _BASE64URL:
        raise ValueError("no base64url")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("no base64url") from error


_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
