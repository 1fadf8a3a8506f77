"""What this instance knows of its apps, told at their objects in the cluster: status of Apps, Events of what is refused.

Assembly of cluster mode, for many apps. Of the instances that serve the same namespaces one holds a lease and tells; it tells
what it knows itself, so that a streaming subscription at another instance, or an app that only another node reaches, is not
in it. Everything told is also a log line of the instance that knows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING

from dapr_shared.kube.events import EventRecorder
from dapr_shared.kube.lease import LeaseHolder
from dapr_shared.kubernetes.discovery import Object, origin_of
from dapr_shared.kubernetes.resources import APPS
from dapr_shared.kubernetes.status import AppReport, StatusWriter, SubscriptionReport, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.origin import Origin
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.kubernetes_sources import KubernetesSources
    from dapr_shared.runtime.refusals import Refusal, Refusals
    from dapr_shared.runtime.settings import Settings

LEASE = "dapr-shared-status"
"""The name of the lease, before what tells those apart that serve other namespaces."""
_LONGEST_NAME = 200
_APP = "App"


class AppStatus:
    """Tells for as long as it runs. Nothing that the API server refuses ends it."""

    def __init__(
        self, parts: Parts, sources: KubernetesSources, refusals: Refusals, settings: Settings, events: Events
    ) -> None:
        self._parts = parts
        self._sources = sources
        self._refusals = refusals
        self._events = events
        self._by_origin: dict[Origin, RegisteredApp] = {}
        self._told: dict[Origin, Refusal] = {}
        """Refusals that Events have told of."""
        pod = os.environ.get("POD_NAME") or socket.gethostname()
        self.lease = LeaseHolder(
            sources.client,
            lease_name(settings.watch_namespaces),
            os.environ.get("NAMESPACE") or sources.client.namespace,
            f"{pod[:_LONGEST_NAME]}_{secrets.token_hex(4)}",
            changed=self._holder_changed,
            told=partial(self._tell_of_writing, "lease"),
        )
        self._recorder = EventRecorder(sources.client, host=pod, told=partial(self._tell_of_writing, "event"))
        self._writer = StatusWriter(
            sources.client,
            APPS,
            self._apps,
            self._report,
            holder=lambda: self.lease.held,
            turned=self._turned,
            failed=partial(self._tell_of_writing, "status"),
        )
        refusals.on_change.append(self._refused)

    async def run(self) -> None:
        """Until cancelled; then the lease is given back, so that another instance goes on at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lease.run(), name="lease of the status of apps")
            tasks.create_task(self._recorder.run(), name="events of the cluster")
            tasks.create_task(self._writer.run(), name="status of apps")

    def _tell_of_writing(self, what: str, problem: str) -> None:
        if problem:
            self._events.cluster_write_failed(what, problem)
        else:
            self._events.cluster_written(what)

    def _holder_changed(self) -> None:
        self._events.status_holder(held=self.lease.held)
        self._refused()

    # Status ----------------------------------------------------------------------------------------------------------
    def _apps(self) -> Iterable[Object]:
        self._by_origin = {record.app.origin: record for record in self._parts.apps.apps()}
        return self._sources.app_objects()

    async def _report(self, app: Object) -> AppReport | None:
        """What is known of an App; `None`: it was not looked at yet."""
        origin = origin_of(_APP, app)
        record, refusal = self._by_origin.get(origin), self._refusals.now.get(origin)
        problem = refusal.text if refusal is not None else ""
        if record is None:
            return AppReport(problem, reason="Refused", message="the App is not in force") if problem else None
        parts, ref = self._parts, record.ref
        found: dict[tuple[str, str], SubscriptionReport] = {}
        for one in await parts.subscriptions.status(ref, count=False):
            failed = one.reason if one.state == "failed" else ""
            found.setdefault((one.pubsub, one.topic), SubscriptionReport(one.pubsub, one.topic, one.state, failed))
        report = AppReport(problem, subscriptions=tuple(found.values()))
        channel = parts.channels.get(ref)
        if channel is None:
            return report._replace(ready=True, reason="NoChannel", message="the app calls, and is not called")
        where = channel.properties
        report = report._replace(address=f"{where.protocol}://{where.where}")
        reachable = parts.watch.reachable(ref)
        if reachable is None:
            return report._replace(message="nobody has looked yet whether the app accepts connections")
        if not reachable:
            return report._replace(reason="NotReachable", message="the app does not accept connections")
        if not channel.healthy:
            return report._replace(reason="Unhealthy", message="the app's health check fails")
        return report._replace(ready=True, reason="Reachable", message="the app accepts connections")

    def _turned(self, app: Object, turn: Turn) -> None:
        self._recorder.tell(app, *turn)

    # Events of what is refused ---------------------------------------------------------------------------------------
    def _refused(self) -> None:
        """Tell of what is refused or mended; an App's is told with its status."""
        self._writer.kick()
        if not self.lease.held:
            self._told.clear()
            return
        now: Mapping[Origin, Refusal] = {
            origin: refusal for origin, refusal in self._refusals.now.items() if refusal.kind != _APP
        }
        for origin, refusal in now.items():
            if self._told.get(origin) != refusal:
                self._tell(refusal, "Warning")
        for origin in self._told.keys() - now.keys():
            self._tell(self._told[origin], "Normal")
        self._told = dict(now)

    def _tell(self, refusal: Refusal, kind: str) -> None:
        about = self._sources.object_at(refusal.kind, refusal.origin)
        if about is None:
            return  # of a file, or gone
        if kind == "Warning":
            self._recorder.tell(about, "Warning", "Refused", refusal.text)
        else:
            self._recorder.tell(about, "Normal", "Accepted", "no longer refused")


def lease_name(namespaces: Iterable[str]) -> str:
    """One for all instances that serve the same namespaces; without any: those of the lease's own namespace."""
    given = "\n".join(sorted(namespaces))
    return f"{LEASE}-{hashlib.sha256(given.encode()).hexdigest()[:8]}" if given else LEASE
