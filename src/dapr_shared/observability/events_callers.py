"""Events of callers: who is refused what, and which invocations come to nothing.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.events_base import EventsBase, given, repeats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.core.ids import AppRef


class CallerEvents(EventsBase):
    """See `Events`."""

    def identity_refused(self, reason: str, protocol: str, operation: str, peer: str) -> None:
        """A request proved no app, or its evidence disagreed: the audit event. Every one is counted.

        `operation` is the endpoint's or method's name, `peer` the sender's address. The token has no parameter here.
        """
        self.metrics.identity_refused.child(reason).inc()
        held = self._limiter.held_back("identity_refused", reason, protocol)
        if held is not None:
            self._identity.warning(
                "identity refused", reason=reason, protocol=protocol, operation=operation, peer=peer, **repeats(held)
            )

    def service_account_disputed(self, account: str, apps: Iterable[AppRef]) -> None:
        """Several apps have begun to claim one service account of the cluster, or others than before do."""
        self.metrics.identity_conflicts.child("service_account").inc()
        names = " ".join(str(app) for app in apps)
        self._identity.warning("service account of several apps", service_account=account, apps=names)

    def token_review_failed(self, problem: str) -> None:
        """Nobody could say whether a service account token is good: the API server is away, or refuses us."""
        self.metrics.token_reviews.child("unavailable").inc()
        held = self._limiter.held_back("token_review_failed", problem)
        if held is not None:
            self._identity.warning("service account token not verified", **given(problem=problem), **repeats(held))

    def access_refused(self, app: AppRef, reason: str, operation: str, target: str) -> None:
        """A proved caller may not do this: the audit event. Every one is counted."""
        self.metrics.access_refused.child(app.app_id, reason).inc()
        held = self._limiter.held_back("access_refused", app.app_id, app.namespace, reason)
        if held is not None:
            self._identity.warning(
                "access refused", app_id=app.app_id, namespace=app.namespace, reason=reason, operation=operation,
                target=target, **repeats(held),
            )  # fmt: skip

    def operator_acted(self, app: AppRef, action: str, target: str) -> None:
        """The operator called the API as an app, through the operators' socket: the audit event. Never held back."""
        self.metrics.operator_actions.child(app.app_id, action).inc()
        self._identity.warning(
            "operator acts as app", app_id=app.app_id, namespace=app.namespace, action=action, target=target
        )

    def invocation_failed(self, app: AppRef, target: str, reason: str, problem: str = "") -> None:
        """An invocation by `app` did not reach `target`, or got no answer."""
        self.metrics.invocations_failed.child(app.app_id, reason).inc()
        held = self._limiter.held_back("invocation_failed", app.app_id, app.namespace, target, reason)
        if held is not None:
            self._invoke.warning(
                "invocation failed", app_id=app.app_id, namespace=app.namespace, target=target, reason=reason,
                **given(problem=problem), **repeats(held),
            )  # fmt: skip

    def peer_call_refused(self, app: str, reason: str, caller: str, problem: str) -> None:
        """A call of another instance was refused. `caller` is who it says it is from: nothing proves it."""
        self.metrics.peer_calls_refused.child(reason).inc()
        held = self._limiter.held_back("peer_call_refused", app, reason)
        if held is not None:
            self._invoke.warning(
                "call from another instance refused", app_id=app, reason=reason, claimed_caller=caller, problem=problem,
                **repeats(held),
            )  # fmt: skip
