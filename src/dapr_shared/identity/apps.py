"""The registry of apps: which apps this instance serves, and which of them a request proves.

Step 2 of the request road. The registry is replaced as a whole, never edited, so that a request in flight keeps the
app that it proved. Tokens are found by their SHA-256 in a dict, never by a scan.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from dapr_shared.core import errors
from dapr_shared.identity.caller import Caller, Evidence, ListenerIdentity, OperatorIdentity, RegisteredApp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dapr_shared.core.errors import DaprError
    from dapr_shared.core.ids import AppRef


class IdentityConfigurationError(Exception):
    """Apps that cannot be told apart; the message names both."""


class RefusedError(Exception):
    """A request that proves no app. `reason` is the label of the counter and the audit event."""

    def __init__(self, reason: str, error: DaprError) -> None:
        super().__init__(error.message)
        self.reason = reason
        self.error = error


class AppRegistry:
    """The apps of one instance.

    In single-app mode, which is chosen at start and never by counting, every request is that app's, provided that it
    carries the instance's API token where one is set. Otherwise a request must prove its app.
    """

    def __init__(self, *, single: RegisteredApp | None = None, api_token: str | None = None) -> None:
        self._single = Caller(single, (Evidence.SINGLE_APP,)) if single else None
        self._api_token_digest = _digest(api_token.encode()) if api_token else None
        self._apps: Mapping[AppRef, RegisteredApp] = {single.ref: single} if single else {}
        self._by_token: Mapping[bytes, Caller] = {}
        self._by_listener: Mapping[AppRef, Caller] = {}
        self._by_both: Mapping[AppRef, Caller] = {}

    @property
    def single(self) -> RegisteredApp | None:
        """The one app of an instance in single-app mode."""
        return self._single.record if self._single else None

    def apps(self) -> Iterable[RegisteredApp]:
        """All apps, in the order of their resources."""
        return self._apps.values()

    def get(self, ref: AppRef) -> RegisteredApp | None:
        """The app, if this instance serves it."""
        return self._apps.get(ref)

    def replace(self, apps: Iterable[RegisteredApp]) -> None:
        """Serve exactly these apps from now on.

        Raises `IdentityConfigurationError` if two share a token or are the same app; then nothing has changed. Not for
        single-app mode, which serves its app for as long as it runs.
        """
        if self._single:
            raise IdentityConfigurationError(
                "an instance in single-app mode serves the one app that it was started for"
            )
        records: dict[AppRef, RegisteredApp] = {}
        by_token: dict[bytes, Caller] = {}
        for record in apps:
            if record.ref in records:
                raise IdentityConfigurationError(f"app {record.ref} is defined twice")
            records[record.ref] = record
            caller = Caller(record, (Evidence.TOKEN,))
            for digest in record.token_digests:
                other = by_token.get(digest)
                if other is not None:
                    raise IdentityConfigurationError(
                        f"apps {other.ref} and {record.ref} have the same token; each app needs its own"
                    )
                by_token[digest] = caller
        self._apps = records
        self._by_token = by_token
        self._by_listener = {ref: Caller(record, (Evidence.LISTENER,)) for ref, record in records.items()}
        self._by_both = {ref: Caller(record, (Evidence.LISTENER, Evidence.TOKEN)) for ref, record in records.items()}

    def identify(self, tokens: Sequence[bytes], listener: object) -> Caller:
        """Who sent a request with these values of `dapr-api-token` through this listener.

        Raises `RefusedError`. An empty token is no token; several values are refused, as it is not clear which counts.
        """
        if isinstance(listener, OperatorIdentity):
            return self._of_operator(listener.app)
        if len(tokens) > 1:
            raise RefusedError("several_tokens", errors.TOO_MANY_TOKENS())
        token = tokens[0] if tokens else None
        if self._single is not None:
            return self._of_single(token, self._single)
        owner = listener.app if isinstance(listener, ListenerIdentity) else None
        if not token:
            if owner is None:
                raise RefusedError("no_evidence", errors.NO_EVIDENCE())
            caller = self._by_listener.get(owner)
            if caller is None:  # removed while its listener closes
                raise RefusedError("app_removed", errors.NO_EVIDENCE())
            return caller
        caller = self._by_token.get(_digest(token))
        if caller is None:
            raise RefusedError("unknown_token", errors.UNKNOWN_TOKEN())
        if owner is None:
            return caller
        if caller.ref != owner:
            raise RefusedError("evidence_disagrees", errors.EVIDENCE_DISAGREES())
        return self._by_both[owner]

    def _of_single(self, token: bytes | None, single: Caller) -> Caller:
        if self._api_token_digest is not None and (not token or _digest(token) != self._api_token_digest):
            raise RefusedError("wrong_api_token" if token else "no_api_token", errors.INVALID_API_TOKEN(info=_HTTP_401))
        return single

    def _of_operator(self, ref: AppRef) -> Caller:
        """The app that the operator acts as: nothing but the socket proves it, in single-app mode too."""
        record = self._apps.get(ref)
        if record is None:
            raise RefusedError("app_removed", errors.NO_EVIDENCE())
        return Caller(record, (Evidence.OPERATOR,))


_HTTP_401 = {"http.code": "401", "http.error_message": "invalid api token"}
"""What daprd's gRPC refusal carries (reference grpc-api §1.3)."""


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
