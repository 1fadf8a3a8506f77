"""The resources of an instance in a Kubernetes cluster: custom resources, annotated Services and Pods, and files.

Before both roads. Joins what `kubernetes/` follows. An instance for many apps leaves out what is wrong and serves the rest;
one for a single app does as daprd does there: the resources of its own namespace that are scoped to its app, and
`--config` is the name of a Configuration (reference daprd-flags §2).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dapr_shared.core.ids import DEFAULT_NAMESPACE, AppRef
from dapr_shared.core.rights import advice
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.errors import KubeConfigError
from dapr_shared.kube.objects import PODS, SERVICES
from dapr_shared.kubernetes.discovery import (
    APP_ID,
    AnnotationError,
    Candidate,
    Object,
    Rank,
    annotated_app,
    annotations_of,
    choose,
    choose_pod,
    metadata_of,
    origin_of,
    service_address,
)
from dapr_shared.kubernetes.resources import APPS, KINDS_OF_MANY_APPS, KINDS_OF_ONE_APP, ObjectReader, ReadObjects
from dapr_shared.kubernetes.watching import ClusterWatch, Followed
from dapr_shared.resources.conflicts import Named, name_conflicts
from dapr_shared.resources.errors import ResourceError, ResourceErrors
from dapr_shared.resources.loader import Resources
from dapr_shared.resources.model import App, Component, Configuration, HTTPEndpoint, Other, Resiliency, Subscription
from dapr_shared.resources.watch import changes as file_changes
from dapr_shared.runtime.app_status import AppStatus
from dapr_shared.runtime.cluster_domain import cluster_domain
from dapr_shared.runtime.file_reading import FileReader
from dapr_shared.runtime.refusals import Refusal
from dapr_shared.runtime.settings import ALL_NAMESPACES, SettingsError
from dapr_shared.runtime.sources import ClusterError, Sources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
    from contextlib import AsyncExitStack

    from dapr_shared.kube.objects import ObjectKind
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.origin import Origin
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.refusals import Refusals
    from dapr_shared.runtime.settings import Settings
    from dapr_shared.runtime.sources import Background

QUIET, LONGEST_WAIT = 0.3, 2.0
"""Seconds without another change after which changes are read, and after which they are read in any case."""
PATIENCE = 30.0
"""Seconds that an instance of one app waits for the API server at start; one of many apps waits until it is there."""
_LONG = 5.0
"""Seconds after which it is told that reading takes long."""
_LISTS: dict[type[Any], str] = {
    Component: "components",
    Configuration: "configurations",
    HTTPEndpoint: "http_endpoints",
    Subscription: "subscriptions",
    Resiliency: "resiliencies",
    Other: "others",
}


class KubernetesSources(Sources):
    """Follows a cluster. All methods belong to one event loop, but where they say so."""

    remote = True

    def __init__(self, settings: Settings, events: Events) -> None:
        """Raises `SettingsError` where there is no cluster to ask."""
        super().__init__(settings, embedded=False)
        self._events = events
        self.client = cluster_client()
        self._namespace = self._namespace or self.client.namespace or DEFAULT_NAMESPACE
        self._cluster_domain = cluster_domain(settings)
        self._changed = asyncio.Event()
        self._settling = asyncio.Event()
        self._watch = ClusterWatch(
            self.client, self._kinds(), self._namespaces(), changed=self._changed.set, told=self._hear
        )
        self._reader = ObjectReader()
        self.paths = self.paths if self.multi_app else list[Path]()
        self._files = FileReader(self.paths, default_namespace=self._namespace)
        self._addresses: dict[AppRef, str] = {}
        """Of the pods that stand for apps."""
        self._told: dict[tuple[str, str, bool], str] = {}
        self._known = False
        self._missing = ""
        self._told_away = False

    # What is followed ------------------------------------------------------------------------------------------------
    @property
    def tolerant(self) -> bool:  # type: ignore[override]
        """Whether what is wrong is left out."""
        return self.multi_app

    def _kinds(self) -> tuple[ObjectKind, ...]:
        if not self.multi_app:
            return KINDS_OF_ONE_APP
        discover = self._settings.discover
        found = [("apps", APPS), ("services", SERVICES), ("pods", PODS)]
        return (*KINDS_OF_MANY_APPS, *(kind for name, kind in found if name in discover))

    def _namespaces(self) -> tuple[str, ...]:
        given = self._settings.watch_namespaces
        if ALL_NAMESPACES in given:
            return ("",)
        return given or (self._namespace,)

    async def start(self, stack: AsyncExitStack, background: Background) -> None:
        """Begin to follow. Raises `KubeConfigError`.

        Files are for an instance of many apps; for one app they are not read, as daprd reads none in Kubernetes.
        """
        if self._settings.resources_path and not self.multi_app:
            self._events.setting_without_effect(
                "--resources-path", "with --mode=kubernetes one app has the resources of its namespace, and no files"
            )
        await self.client.start(stack)
        self._watch.start(background)

    async def wait_known(self, waiting: Callable[[str], None]) -> None:
        """Wait until each kind is known, or may not be read; that raises `ClusterError` for an instance of one app."""
        try:
            async with asyncio.timeout(None if self.multi_app else PATIENCE):
                await self._wait_settled(waiting)
        except TimeoutError:
            raise ClusterError(f"no answer within {PATIENCE:g} s: {self._missing}") from None
        if not self.multi_app:
            for each in self._watch.followed():
                # What was listed is known; that it may not be followed is told, and no reason not to serve.
                if each.state.refused and not each.state.synced:
                    raise ClusterError(each.state.problem)
        self._known = True
        self._events.metrics.cluster_reachable.child().set(1)

    async def _wait_settled(self, waiting: Callable[[str], None]) -> None:
        """That it takes its time is told late; a problem at once."""
        loop = asyncio.get_running_loop()
        begun, told = loop.time(), ""
        while missing := [each for each in self._watch.followed() if not each.settled]:
            problem = next((each.state.problem for each in missing if each.state.problem), "")
            if not problem and loop.time() - begun >= _LONG:
                problem = f"{', '.join(dict.fromkeys(each.kind.resource for each in missing))}: not listed yet"
            if problem and problem != told:
                told = problem
                waiting(problem)
            self._missing = problem
            self._settling.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONG):
                    await self._settling.wait()

    @property
    def away(self) -> bool:  # type: ignore[override]
        """Whether the API server does not answer now."""
        return any(each.state.problem and not each.state.refused for each in self._watch.followed())

    def changes(self, *, hot_reload: bool) -> AsyncIterator[None] | None:
        """Changes of files and of the cluster, those that follow each other closely as one.

        The feature `HotReload` is about an instance of one app; apps of many come and go live in any case.
        """
        return self._changes() if hot_reload or self.multi_app else None

    async def _changes(self) -> AsyncIterator[None]:
        files = asyncio.create_task(self._follow_files(), name="following files") if self.paths else None
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                deadline = loop.time() + LONGEST_WAIT
                while self._changed.is_set() and loop.time() < deadline:
                    self._changed.clear()
                    await asyncio.sleep(QUIET)
                self._changed.clear()
                yield
        finally:
            if files is not None:
                files.cancel()

    async def _follow_files(self) -> None:
        async for _ in file_changes(self.paths):
            self._changed.set()

    # What it says ----------------------------------------------------------------------------------------------------
    def read(self) -> Resources:
        """Not for a cluster: what is followed belongs to the event loop."""
        raise NotImplementedError

    def given_namespace(self, namespace: str) -> str:
        """Every app of a cluster is in a namespace that was given, also in `default`."""
        return namespace

    async def read_now(self) -> Resources:
        """All resources now. For one app: raises `ResourceErrors`; for many, what is wrong is in `refused`."""
        return await self._read_of_many() if self.multi_app else self._read_of_one()

    def _read_of_one(self) -> Resources:
        app = self.app_of_flags()
        mine = [
            (kind, data)
            for kind, data in self._watch.objects(*KINDS_OF_ONE_APP)
            if app.app_id in (data.get("scopes") or [app.app_id])
        ]
        read = self._reader.read(mine)
        if read.problems:
            raise ResourceErrors([ResourceError(each.origin, "", each.problem) for each in read.problems])
        return msgspec.structs.replace(_resources(read), apps=(app,))

    async def _read_of_many(self) -> Resources:
        files, refused = await asyncio.to_thread(self._files.read)
        pods = await self._watch.pods()
        read = self._reader.read(self._watch.objects(APPS, *KINDS_OF_MANY_APPS))
        await asyncio.sleep(0)  # of a thousand apps each step is some ten milliseconds, in which requests would wait
        refused += [Refusal(each.kind, each.origin, each.problem, kept=each.kept) for each in read.problems]
        found = _resources(read)
        candidates = [
            Candidate(Rank.APP, one.created, one.resource) for one in read.found if isinstance(one.resource, App)
        ]
        of_flags = [self.app_of_flags()] if self._settings.app_id else []
        candidates += [Candidate(Rank.FILE, "", app) for app in (*of_flags, *files.apps)]
        candidates += self._of_services(refused)
        candidates += self._of_pods(pods, refused)
        choice = choose(candidates)
        refused += [Refusal(_kind(origin.file), origin, problem) for origin, problem in choice.conflicts]
        joined = {name: (*getattr(found, name), *getattr(files, name)) for name in (*_LISTS.values(), "notices")}
        _without_twins(joined, refused)
        self.refused = refused
        await asyncio.sleep(0)
        return Resources(apps=choice.apps, **joined)

    def _of_services(self, refused: list[Refusal]) -> list[Candidate]:
        found: list[Candidate] = []
        for _, data in self._watch.objects(SERVICES):
            try:
                app = annotated_app("Service", data, service_address(data, self._cluster_domain))
            except AnnotationError as error:
                refused.append(Refusal("Service", origin_of("Service", data), str(error)))
            else:
                found.append(Candidate(Rank.SERVICE, _created(data), app))
        return found

    def _of_pods(self, pods: Iterable[Object], refused: list[Refusal]) -> list[Candidate]:
        """One pod stands for all of an app; the others need not be looked at."""
        by_app: dict[AppRef, list[Object]] = {}
        for pod in pods:
            namespace = str(metadata_of(pod).get("namespace") or DEFAULT_NAMESPACE)
            by_app.setdefault(AppRef(annotations_of(pod).get(APP_ID, ""), namespace), []).append(pod)
        found: list[Candidate] = []
        addresses: dict[AppRef, str] = {}
        for ref, those in by_app.items():
            chosen = choose_pod(those, self._addresses.get(ref, ""))
            if chosen is None:
                continue
            address = addresses[ref] = str(chosen["status"]["podIP"])
            try:
                app = annotated_app("Pod", chosen, address)
            except AnnotationError as error:
                refused.append(Refusal("Pod", origin_of("Pod", chosen), str(error)))
            else:
                found.append(Candidate(Rank.POD, _created(chosen), app))
        self._addresses = addresses
        return found

    def status(self, parts: Parts, refusals: Refusals) -> Coroutine[None, None, None] | None:
        """Status of Apps, and Events, of an instance for many apps."""
        if not self.multi_app:
            return None
        return AppStatus(parts, self, refusals, self._settings, self._events).run()

    def app_objects(self) -> list[Object]:
        """The App resources as they are at the API server, also those that are refused; for their `status`.

        Which is in force: that whose origin (`discovery.origin_of`) is the one of the registered app; what is wrong with
        the others stands under their origin in `Reloader.refusals`.
        """
        return [data for _, data in self._watch.objects(APPS)]

    def pod(self, namespace: str, name: str) -> Object | None:
        """The metadata of a followed pod that describes an app."""
        return self._watch.object(PODS, namespace, name)

    def object_at(self, kind: str, origin: Origin) -> Object | None:
        """The object of this kind that is followed and has this origin; `None`: there is none, or it is of a file."""
        named, _, place = origin.file.partition(" ")
        namespace, _, name = place.partition("/")
        if named != kind:
            return None
        found = (self._watch.object(each, namespace, name) for each in self._kinds() if each.kind == kind)
        return next((data for data in found if data is not None and origin_of(kind, data) == origin), None)

    # Telling ---------------------------------------------------------------------------------------------------------
    def _hear(self, followed: Followed) -> None:
        """Tell what may not be read, and which kinds are not installed, once until it changes."""
        self._settling.set()
        state = followed.state
        key = followed.kind.resource, followed.namespace, followed.whole
        now = state.problem if state.refused else "" if state.installed else "not installed"
        before = self._told.get(key, "")
        if now != before:
            self._told[key] = now
            if state.refused:
                self._events.cluster_refused(
                    followed.kind.resource, followed.namespace, state.problem, known=state.synced
                )
            elif not state.installed:
                self._events.cluster_kind_absent(followed.kind.resource)
            else:
                self._events.cluster_followed(followed.kind.resource, followed.namespace)
        problem = next((e.state.problem for e in self._watch.followed() if e.state.problem and not e.state.refused), "")
        if self._known and bool(problem) != self._told_away:
            self._told_away = bool(problem)
            (self._events.cluster_away if problem else self._events.cluster_back)(problem or self.client.server)


def cluster_client() -> KubeClient:
    """A client of the API server that the environment names. Raises `SettingsError` where it names none."""
    try:
        return KubeClient.from_environment(os.environ, advise=advice)
    except KubeConfigError as error:
        raise SettingsError(f"--mode=kubernetes: {error}") from error


def _resources(read: ReadObjects) -> Resources:
    """All but the apps."""
    lists: dict[str, Any] = dict.fromkeys(_LISTS.values(), ())
    for one in read.found:
        if not isinstance(one.resource, App):
            lists[_LISTS[type(one.resource)]] += (one.resource,)
    return Resources(**lists, notices=tuple(read.notices))


def _without_twins(joined: dict[str, tuple[Any, ...]], refused: list[Refusal]) -> None:
    """Leave out what has the kind and name of another that comes first: those of the cluster before those of files."""
    named: list[Named] = [
        one for name in ("configurations", "http_endpoints", "subscriptions", "resiliencies") for one in joined[name]
    ]
    twins = {error.origin: error for error in name_conflicts(named)}
    for name, found in joined.items():
        if name not in ("components", "others", "notices"):
            joined[name] = tuple(one for one in found if one.origin not in twins)
    kinds = {one.origin: type(one).__name__ for one in named}
    refused += [Refusal(kinds[origin], origin, error.problem) for origin, error in twins.items()]


def _created(data: Object) -> str:
    return str(metadata_of(data).get("creationTimestamp") or "")


def _kind(place: str) -> str:
    """The kind of an object of the cluster; what stands in a file is an App here."""
    first = place.partition(" ")[0]
    return first if first in ("Service", "Pod") else "App"
