"""Events of apps: that they come and go, and whether they can be called.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared.observability.events_base import EventsBase, given

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef


class AppEvents(EventsBase):
    """See `Events`."""

    def app_process_started(self, app_id: str, pid: int) -> None:
        """The run has started the command of an app."""
        self.metrics.app_processes.child("started").inc()
        self._apps.info("app process started", app_id=app_id, pid=pid)

    def app_process_failed(self, app_id: str, problem: str) -> None:
        """The command of an app cannot be started; the other apps go on."""
        self.metrics.app_processes.child("failed").inc()
        self._apps.info("app process cannot start", app_id=app_id, problem=problem)

    def app_process_ended(self, app_id: str, code: int) -> None:
        """The command of an app has ended, with this exit code or by the signal of this negative number."""
        self.metrics.app_processes.child("ended").inc()
        self._apps.info("app process ended", app_id=app_id, code=code)

    def app_added(self, app: AppRef, *, channel: str = "") -> None:
        """The instance serves one more app; `channel` is where it is reached."""
        self.metrics.apps.child().inc()
        self.metrics.app_changes.child("added").inc()
        self._apps.info("app added", app_id=app.app_id, namespace=app.namespace, **given(channel=channel))

    def app_without_token(self, app_id: str, variable: str) -> None:
        """The app of the flags is one of many, and the variable that would hold its token is not set."""
        self.metrics.resource_notices.child().inc()
        self._apps.warning("no token proves this app", app_id=app_id, problem=f"{variable} is not set")

    def app_changed(self, app: AppRef, *, changed: str = "") -> None:
        """An app's resource changed; `changed` names the fields."""
        self.metrics.app_changes.child("changed").inc()
        self._apps.info("app changed", app_id=app.app_id, namespace=app.namespace, **given(changed=changed))

    def app_removed(self, app: AppRef) -> None:
        """The instance no longer serves an app; what was counted for it is dropped."""
        self.metrics.forget_app(app.app_id)
        self.metrics.apps.child().dec()
        self.metrics.app_changes.child("removed").inc()
        self._apps.info("app removed", app_id=app.app_id, namespace=app.namespace)

    def app_health_changed(self, app: AppRef, *, healthy: bool, problem: str = "") -> None:
        """An app began to pass or to fail its health checks."""
        self.metrics.app_healthy.child(app.app_id).set(int(healthy))
        log = self._apps.info if healthy else self._apps.warning
        message = "app is healthy" if healthy else "app is not healthy"
        log(message, app_id=app.app_id, namespace=app.namespace, **given(problem=problem))

    def app_reachable_changed(self, app: AppRef, *, reachable: bool) -> None:
        """An app's port began or ceased to accept connections."""
        self.metrics.app_reachable.child(app.app_id).set(int(reachable))
        message = "app is reachable" if reachable else "app is not reachable"
        self._apps.info(message, app_id=app.app_id, namespace=app.namespace)

    def deliveries_stopped(self, app: AppRef) -> None:
        """An app of a shared instance asked for its shutdown: it gets no more deliveries, the instance goes on."""
        self.metrics.app_changes.child("deliveries_stopped").inc()
        self._apps.info("deliveries stopped by the shutdown API", app_id=app.app_id, namespace=app.namespace)
