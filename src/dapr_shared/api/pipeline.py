"""What every call passes before a block sees it, over HTTP and gRPC alike.

First step of the request road after the wire. The steps, outermost first, and why each stands where it does:

1. access log and counting: they see every call, also one that is refused;
2. trace: everything below, the refusal too, belongs to the caller's trace;
3. identify: nothing is done for anybody who has not proved an app. The one step that may have to wait for another
   program: a service account token that was not seen before is verified by the cluster;
4. authorize: the app's Configuration says which APIs it may use;
5. limit: last, so that a refused call never takes a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.identity.addresses import address_of
from dapr_shared.identity.refusal import RefusedError
from dapr_shared.identity.service_accounts import ReviewNeededError

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.apps import AppRegistry
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.events import Events
    from dapr_shared.wire.tls import PeerCertificate


class Limits(Protocol):
    """Bounds the calls in flight of one app."""

    def enter(self, ref: AppRef) -> None:
        """Count a call in. Raises `TOO_MANY_CALLS` at the bound."""
        ...

    def leave(self, ref: AppRef) -> None:
        """Count it out."""
        ...


class ApiAccessRules(Protocol):
    """Which APIs an app may use (Configuration `api`)."""

    def allowed(self, caller: Caller, protocol: str, api: str, version: str, route: str = "") -> bool:
        """Whether the caller may use an API; `route` is the HTTP route's pattern, such as `v1.0/state/{store}`."""
        ...


class Pipeline:
    """Steps 3 to 5; the front doors do 1 and 2, which need their own bytes."""

    def __init__(self, apps: AppRegistry, access: ApiAccessRules, limits: Limits, events: Events) -> None:
        self._apps = apps
        self._access = access
        self._limits = limits
        self._events = events

    def identify(
        self,
        tokens: list[bytes],
        listener: object,
        certificate: PeerCertificate | None,
        *,
        protocol: str,
        operation: str,
        peer: str,
    ) -> Caller:
        """The proved caller. Raises the error to answer; every refusal is an audit event with its reason.

        Raises `ReviewNeededError` for a service account token that was not seen before: then ask `identify_reviewed`.
        Asked first and without awaiting, so that all other evidence costs what it cost without clusters.
        """
        try:
            return self._apps.identify(tokens, listener, certificate)
        except RefusedError as error:
            try:
                return self._apps.identify_by_address(error, peer)
            except RefusedError as refused:
                self._events.identity_refused(refused.reason, protocol, operation, peer)
                raise refused.error from None

    async def identify_reviewed(
        self,
        needed: ReviewNeededError,
        tokens: list[bytes],
        listener: object,
        certificate: PeerCertificate | None,
        *,
        protocol: str,
        operation: str,
        peer: str,
    ) -> Caller:
        """Like `identify`, once the token is verified: that may ask the API server."""
        try:
            await self._apps.review(needed, address_of(peer) or peer)
            return self._apps.identify(tokens, listener, certificate)
        except RefusedError as refused:
            self._events.identity_refused(refused.reason, protocol, operation, peer)
            raise refused.error from None
        except ReviewNeededError:  # pushed out at once by others
            self._events.identity_refused("review_limit", protocol, operation, peer)
            raise errors.IDENTITY_UNAVAILABLE(problem="too many unknown tokens are sent at once") from None

    def allowed(self, caller: Caller, protocol: str, api: str, version: str, route: str = "") -> bool:
        """Whether the app's Configuration lets it use an API."""
        if self._access.allowed(caller, protocol, api, version, route):
            return True
        self._events.access_refused(caller.ref, "api_not_allowed", f"{protocol} {api}", "")
        return False

    def enter(self, caller: Caller, operation: str) -> None:
        """Take a place among the app's calls in flight. Raises `TOO_MANY_CALLS`."""
        try:
            self._limits.enter(caller.ref)
        except DaprError:
            self._events.access_refused(caller.ref, "too_many_calls", operation, "")
            raise

    def leave(self, caller: Caller) -> None:
        """Give the place back."""
        self._limits.leave(caller.ref)
