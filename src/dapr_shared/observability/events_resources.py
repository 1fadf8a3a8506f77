"""Events of what an instance is given: components and other resources.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from typing import Literal

from dapr_shared.observability.events_base import EventsBase, given, of_component, repeats


class ResourceEvents(EventsBase):
    """See `Events`."""

    # Components -------------------------------------------------------------------------------------------------------
    def component_opened(self, name: str, kind: str, namespace: str, seconds: float, *, app_id: str = "") -> None:
        """A component is ready. `kind` is its type with the version, such as `state.sqlite/v1`.

        `app_id` names the app it is opened for; empty where all share it.
        """
        self.metrics.components_loaded.child(app_id).inc()
        self.metrics.components_opened.child(app_id, kind).inc()
        self.metrics.components_open.child().inc()
        fields = of_component(name, kind, namespace, app_id)
        self._components.info("component opened", **fields, seconds=round(seconds, 3))

    def component_failed(
        self,
        name: str,
        kind: str,
        namespace: str,
        reason: Literal["creation", "init"],
        problem: str,
        *,
        app_id: str = "",
        ignored: bool = False,
    ) -> None:
        """A component could not be made or opened; `ignored`: its resource says to go on without it."""
        self.metrics.components_failed.child(app_id, kind, reason, name).inc()
        fields = of_component(name, kind, namespace, app_id)
        log = self._components.warning if ignored else self._components.error
        log("component failed", **fields, reason=reason, problem=problem, ignored=ignored)

    def component_warning(self, name: str, kind: str, namespace: str, problem: str) -> None:
        """A component is opened although something about its resource is probably not meant."""
        self.metrics.component_warnings.child(name).inc()
        self._components.warning("component warning", **of_component(name, kind, namespace, ""), problem=problem)

    def component_closed(self, name: str, kind: str, namespace: str, *, app_id: str = "") -> None:
        """A component that was open is closed."""
        self.metrics.components_open.child().dec()
        self._components.info("component closed", **of_component(name, kind, namespace, app_id))

    def component_write_failed(self, component: str, operation: str, problem: str) -> None:
        """A component could not write what it had accepted, or was asked to write in the background."""
        self.metrics.component_write_failures.child(component).inc()
        held = self._limiter.held_back("component_write_failed", component, operation)
        if held is not None:
            self._components.error(
                "component write failed", component=component, operation=operation, problem=problem, **repeats(held)
            )

    # Resources --------------------------------------------------------------------------------------------------------
    def reload_done(self, seconds: float, *, added: int, changed: int, removed: int) -> None:
        """The resources were read again and are in force."""
        self.metrics.reloads.child("done").inc()
        self._resources.info(
            "resources reloaded", added=added, changed=changed, removed=removed, seconds=round(seconds, 3)
        )

    def reload_failed(self, problem: str) -> None:
        """The resources were read again and are wrong: the former ones stay in force."""
        self.metrics.reloads.child("failed").inc()
        self._resources.error("reload failed, what failed stays as it was", problem=problem)

    def resource_refused(self, kind: str, origin: str, problem: str) -> None:
        """One resource is wrong and left out; `origin` is its file and document."""
        self.metrics.resource_problems.child(kind).inc()
        self._resources.error("resource refused", kind=kind, origin=origin, problem=problem)

    def resource_mended(self, kind: str, origin: str) -> None:
        """A resource that was refused is in force, or gone."""
        self.metrics.resources_mended.child(kind).inc()
        self._resources.info("resource no longer refused", kind=kind, origin=origin)

    def resource_notice(self, notice: str) -> None:
        """Something in the resources was ignored, as Dapr ignores it too. Told once for each place."""
        self.metrics.resource_notices.child().inc()
        if self._first("notice", notice):
            self._resources.warning("resource notice", notice=notice)

    def kind_without_effect(self, kind: str, origin: str = "") -> None:
        """A resource of a kind that this version takes but does not act on. Told once for each kind."""
        self.metrics.without_effect.child(kind).inc()
        if self._first("kind", kind):
            self._resources.warning("resource kind without effect", kind=kind, **given(origin=origin))
