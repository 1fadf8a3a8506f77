"""Events of cluster mode: what the API server gives, and what is told to it.

Beside both roads. A part of `Events`; what every event keeps to stands there.
"""

from __future__ import annotations

from dapr_shared.observability.events_base import EventsBase, given, repeats


class ClusterEvents(EventsBase):
    """See `Events`."""

    def configuration_awaited(self, problem: str) -> None:
        """The start waits for the API server to give the Configuration of `--config`; told when the problem changes."""
        self.metrics.cluster_reachable.child().set(0)
        self._runtime.warning("waiting for the Configuration", problem=problem)

    def cluster_awaited(self, problem: str) -> None:
        """The start waits for the API server; told when the problem changes."""
        self.metrics.cluster_reachable.child().set(0)
        self._runtime.warning("waiting for the resources of the cluster", problem=problem)

    def cluster_away(self, problem: str) -> None:
        """The API server does not answer: what is known is served."""
        self.metrics.cluster_reachable.child().set(0)
        self._resources.warning("the API server does not answer, what is known is served", problem=problem)

    def cluster_back(self, server: str) -> None:
        """The API server answers again."""
        self.metrics.cluster_reachable.child().set(1)
        self._resources.info("the API server answers", server=server)

    def cluster_refused(self, resource: str, namespace: str, problem: str, *, known: bool) -> None:
        """A kind may not be read, or not any further (`known`); the problem says what a role lacks. Told once."""
        self.metrics.cluster_kinds.child(resource, "refused").inc()
        what = "read any further, what is known of it is served" if known else "read, the others are served"
        self._resources.error(
            f"a kind of the cluster cannot be {what}", resource=resource, **given(namespace=namespace), problem=problem
        )

    def cluster_kind_absent(self, resource: str) -> None:
        """A kind is not installed in the cluster."""
        self.metrics.cluster_kinds.child(resource, "absent").inc()
        self._resources.warning("a kind is not installed in the cluster: there are none of these", resource=resource)

    def cluster_followed(self, resource: str, namespace: str) -> None:
        """A kind that could not be read is read now."""
        self.metrics.cluster_kinds.child(resource, "followed").inc()
        self._resources.info("a kind of the cluster can be read again", resource=resource, **given(namespace=namespace))

    def status_holder(self, *, held: bool) -> None:
        """Of the instances that serve the same namespaces this one begins or ends to write the status of Apps."""
        self.metrics.status_holder.child().set(int(held))
        what = "this instance writes the status of apps" if held else "another instance writes the status of apps"
        self._resources.info(what)

    def status_of_holder_alone(self, problem: str) -> None:
        """The status of Apps says what this instance knows: it may not see what the others know."""
        self.metrics.cluster_kinds.child("leases.coordination.k8s.io", "refused").inc()
        self._resources.warning("the status of apps says what this instance knows alone", problem=problem)

    def status_part_cut(self, more: int, apps: int) -> None:
        """So many of its apps have no room in what this instance tells to the one that writes the status."""
        self.metrics.status_left_out.child().set(more)
        if more and self._first("status_part_cut", ""):
            note = f"{apps - more} apps and {more} more"
            self._resources.warning("the status has no room for what this instance knows of all apps", told=note)

    def cluster_write_failed(self, what: str, problem: str) -> None:
        """A `status`, `part` of it, `event` or `lease` could not be written; apps are served all the same."""
        self.metrics.cluster_write_failures.child(what).inc()
        self.metrics.cluster_write_failing.child(what).set(1)
        held = self._limiter.held_back("cluster_write_failed", what, problem)
        if held is not None:
            self._resources.warning("not written to the cluster", object=what, problem=problem, **repeats(held))

    def cluster_written(self, what: str) -> None:
        """What could not be written for a while can be."""
        self.metrics.cluster_write_failing.child(what).set(0)
        self._resources.info("written to the cluster again", object=what)
