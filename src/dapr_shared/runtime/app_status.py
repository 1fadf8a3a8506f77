"""What this instance knows of its apps, told at their objects in the cluster: status of Apps, Events of what is refused.

Assembly of cluster mode, for many apps. Of the instances that serve the same namespaces one holds a lease and tells what all
of them know: each keeps what it alone may know in a Lease of its own, which the holder watches. Everything told is also a log
line of the instance that knows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING

from dapr_shared.blocks.pubsub.subscriptions import SubscriptionKind
from dapr_shared.kube.events import EventRecorder
from dapr_shared.kube.lease import LeaseHolder
from dapr_shared.kube.objects import LEASES
from dapr_shared.kubernetes.discovery import Object, origin_of
from dapr_shared.kubernetes.resources import APPS
from dapr_shared.kubernetes.status import AT_ONCE, AppReport, StatusWriter, SubscriptionReport, Turn
from dapr_shared.kubernetes.status_leases import PartReader, PartWriter, Place
from dapr_shared.kubernetes.status_parts import AppName, AppPart, encode, joined, part_of

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
        self._left_out = 0
        """Apps that the part of this instance has no room for."""
        pod = os.environ.get("POD_NAME") or socket.gethostname()
        place = Place(
            lease_name(settings.watch_namespaces),
            os.environ.get("NAMESPACE") or sources.client.namespace,
            pod,
            os.environ.get("POD_UID", ""),
            os.environ.get("RELEASE_NAME", ""),
        )
        self.lease = LeaseHolder(
            sources.client,
            place.lease,
            place.namespace,
            f"{pod[:_LONGEST_NAME]}_{secrets.token_hex(4)}",
            changed=self._holder_changed,
            told=partial(self._tell_of_writing, "lease"),
        )
        self._recorder = EventRecorder(sources.client, host=pod, told=partial(self._tell_of_writing, "event"))
        self._part = PartWriter(sources.client, place, self._own_part, failed=partial(self._tell_of_writing, "part"))
        self._writer = StatusWriter(
            sources.client,
            APPS,
            self._apps,
            self._joined_report,
            holder=lambda: self.lease.held and self._others.settled,
            turned=self._turned,
            failed=partial(self._tell_of_writing, "status"),
        )
        self._others = PartReader(sources.client, place, known=self._writer.kick, failed=self._tell_of_reading)
        refusals.on_change.append(self._refused)

    async def run(self) -> None:
        """Until cancelled; then the lease is given back, so that another instance goes on at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lease.run(), name="lease of the status of apps")
            tasks.create_task(self._recorder.run(), name="events of the cluster")
            tasks.create_task(self._part.run(), name="part of the status of apps")
            tasks.create_task(self._others.run(), name="other parts of the status of apps")
            tasks.create_task(self._writer.run(), name="status of apps")

    def _tell_of_writing(self, what: str, problem: str) -> None:
        if problem:
            self._events.cluster_write_failed(what, problem)
        else:
            self._events.cluster_written(what)

    def _tell_of_reading(self, problem: str) -> None:
        if problem:
            self._events.status_of_holder_alone(problem)
        else:
            self._events.cluster_followed(LEASES.resource, self.lease.namespace)

    def _holder_changed(self) -> None:
        self._events.status_holder(held=self.lease.held)
        self._others.hold(held=self.lease.held)
        self._refused()

    # Status ----------------------------------------------------------------------------------------------------------
    def _apps(self) -> Iterable[Object]:
        self._others.refresh()
        return self._looked_at()

    def _looked_at(self) -> list[Object]:
        self._by_origin = {record.app.origin: record for record in self._parts.apps.apps()}
        return self._sources.app_objects()

    async def _own_part(self) -> str:
        """What this instance alone may know of its apps."""
        found: dict[AppName, AppPart] = {}
        for number, app in enumerate(self._looked_at()):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            report = await self._report(app)
            if report is not None:
                found[_name(app)] = part_of(report)
        text, left_out = encode(found)
        if left_out != self._left_out:
            self._left_out = left_out
            self._events.status_part_cut(left_out, len(found))
        return text

    async def _joined_report(self, app: Object) -> AppReport | None:
        """What is known of an App by all instances; `None`: it was not looked at here yet."""
        report = await self._report(app)
        return None if report is None else joined(report, self._others.of(_name(app)))

    async def _report(self, app: Object) -> AppReport | None:
        """What this instance knows of an App; `None`: it was not looked at yet."""
        origin = origin_of(_APP, app)
        record, refusal = self._by_origin.get(origin), self._refusals.now.get(origin)
        problem = refusal.text if refusal is not None else ""
        if record is None:
            return AppReport(problem, reason="Refused", message="the App is not in force") if problem else None
        parts, ref = self._parts, record.ref
        found: dict[tuple[str, str], SubscriptionReport] = {}
        for one in await parts.subscriptions.status(ref, count=False):
            failed = one.reason if one.state == "failed" else ""
            declared = one.kind == SubscriptionKind.DECLARATIVE
            row = SubscriptionReport(one.pubsub, one.topic, one.state, failed, declared)
            found.setdefault((one.pubsub, one.topic), row)
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


def _name(app: Object) -> AppName:
    metadata = app["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])


def lease_name(namespaces: Iterable[str]) -> str:
    """One for all instances that serve the same namespaces; without any: those of the lease's own namespace."""
    given = "\n".join(sorted(namespaces))
    return f"{LEASE}-{hashlib.sha256(given.encode()).hexdigest()[:8]}" if given else LEASE
