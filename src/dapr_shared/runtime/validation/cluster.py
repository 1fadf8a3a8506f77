"""`dapr-shared validate --mode kubernetes`: every problem of manifests, as an instance for many apps would see them.

Before both roads. The manifests together are taken for the whole cluster: references are looked up among all, in the
namespace of each. Which description of an app counts is decided as in a cluster, without the age of objects, which files
do not say: of two of one rank the first counts here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import pluggable_row
from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.identity.account_apps import AccountApps
from dapr_shared.identity.caller import RegisteredApp
from dapr_shared.kubernetes.discovery import (
    AnnotationError,
    Candidate,
    Rank,
    annotated_app,
    choose,
    describes_app,
    origin_of,
    service_address,
)
from dapr_shared.kubernetes.resources import for_clusters, not_for_clusters
from dapr_shared.resources.documents import MappingNode, Node, ScalarNode
from dapr_shared.resources.loader import examine_documents
from dapr_shared.resources.origin import Origin
from dapr_shared.resources.places import step
from dapr_shared.runtime.validation.check import Report, kinds_of
from dapr_shared.runtime.validation.components import check_components
from dapr_shared.runtime.validation.manifests import WORKLOADS, ManifestPlaces, read_manifests
from dapr_shared.runtime.validation.problems import Problem, Problems
from dapr_shared.runtime.validation.references import ClusterView, References

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.model import App
    from dapr_shared.runtime.validation.manifests import Manifest

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SAID: Final = re.compile(r"(dapr\.io/[a-z-]+):? (.*)", re.DOTALL)
_POD = "a pod"
"""The address of a Pod, which nobody knows yet."""
_ANNOTATION_OF: Final = {
    "spec.configuration": "dapr.io/config",
    "spec.tokens[0]": "dapr.io/api-token-secret",
    "spec.channel.apiToken": "dapr.io/app-token-secret",
}
"""Which annotation says what in an App is this field."""


def validate_cluster(paths: Sequence[Path], namespace: str = DEFAULT_NAMESPACE) -> Report:
    """Check manifests. `namespace`: of objects that name none. Raises nothing of what is wrong with them."""
    return _Checking(paths, namespace).report()


def namespace_problem(namespace: str) -> str:
    """Why this is no name of a namespace; empty: it is one."""
    shown = f"{namespace[:60]!r} is no namespace: up to 63 lower-case letters, digits and '-'"
    return "" if _LABEL.fullmatch(namespace) else shown


class _Checking:
    """One run."""

    def __init__(self, paths: Sequence[Path], namespace: str) -> None:
        self._namespace = namespace
        self._found = read_manifests(paths, namespace)
        self._places = ManifestPlaces(self._found)
        self._problems = Problems()
        self._describing: list[Manifest] = []
        """What has annotations that describe an app."""
        self._annotated: dict[Origin, Manifest] = {}
        """Those that can be followed, by their names in the cluster."""
        self._kinds: list[str] = []

    def report(self) -> Report:
        """Everything."""
        for error in self._found.errors:
            self._problems.error(error.origin, error.field, error.problem)
        described = list(self._described())
        self._names()
        resources = self._resources()
        apps = self._choose([*self._apps(resources.apps), *self._of_values(), *described])
        resources = msgspec.structs.replace(resources, apps=tuple(apps))
        self._claims(apps)
        check_components(resources.components, Catalog(pluggable=pluggable_row), self._places, self._problems)
        cluster = ClusterView(frozenset(each.app.ref for each in described), self._place)
        References(resources, self._places, self._problems, cluster=cluster).check()
        for other in resources.others:
            self._problems.warning(other.origin, "kind", f"{other.kind} has no effect in this version")
        return Report(
            files=sorted(self._found.files),
            resources=_counted(self._kinds),
            ignored=_counted(each.kind for each in self._found.others),
            problems=[self._named(problem) for problem in self._problems.sorted()],
        )

    # Objects ---------------------------------------------------------------------------------------------------------
    def _names(self) -> None:
        """What the API server asks of every object, and objects that replace one another."""
        first: dict[Hashable, Manifest] = {}
        for each in (*self._found.resources, *self._describing):
            if not each.name:
                continue  # the loader says so
            if not _NAME.fullmatch(each.name):
                problem = f"{each.name[:60]!r} is no name in a cluster: lower-case letters, digits, '-' and '.'"
                self._error(each, "metadata.name", problem)
            problem = namespace_problem(each.namespace)
            if problem and each.kind != "App":  # of an App the loader says it
                self._error(each, "metadata.namespace", problem)
            other = first.setdefault((each.group, each.kind, each.namespace, each.name), each)
            if other is not each:
                where = f"{other.origin.file}:{other.origin.line}"
                problem = f"is here twice, also in {where}: whichever is applied last replaces the other; keep one"
                self._error(each, "metadata.name", problem)

    def _resources(self) -> Resources:
        """Those that are right, as in a cluster."""
        problems = self._problems
        found = ((each.origin.file, each.document) for each in self._found.resources)
        examined = examine_documents(found, default_namespace=self._namespace)
        for error in examined.errors:
            problems.error(error.origin, error.field, error.problem)
        for notice in examined.resources.notices:
            # Of what Dapr skips in files: an API server knows no other kinds and versions of its groups.
            tell = problems.error if notice.field in ("apiVersion", "kind") else problems.warning
            tell(notice.origin, notice.field, notice.problem)
        resources = examined.resources
        self._kinds += kinds_of(resources).values()
        apps: list[App] = []
        for app in resources.apps:
            field, _, problem = not_for_clusters(app).partition(": ")
            if problem:
                problems.error(self._places.of(app.origin, field), field, problem)
            else:
                apps.append(app)
        return msgspec.structs.replace(
            resources,
            apps=tuple(for_clusters(app) for app in apps),
            components=tuple(for_clusters(each) for each in resources.components),
            http_endpoints=tuple(for_clusters(each) for each in resources.http_endpoints),
        )

    # Apps ------------------------------------------------------------------------------------------------------------
    @staticmethod
    def _apps(apps: Iterable[App]) -> Iterator[Candidate]:
        return (Candidate(Rank.APP, "", app) for app in apps)

    def _of_values(self) -> Iterator[Candidate]:
        """The Apps of a release's values: a file for the instance, so that variables may be named."""
        found = ((each.origin.file, each.document) for each in self._found.apps_of_values)
        examined = examine_documents(found, default_namespace=self._namespace)
        for error in examined.errors:
            self._problems.error(error.origin, error.field, error.problem)
        for app in examined.resources.apps:
            self._kinds.append("App of values")
            yield Candidate(Rank.FILE, "", for_clusters(app))

    def _described(self) -> Iterator[Candidate]:
        """Apps that annotations describe, with their names in the cluster as their places."""
        for each in self._found.sources:
            field = WORKLOADS.get(each.kind, "")
            root: Node | None = each.document.root
            for name in filter(None, field.split(".")):
                root = step(root, name)
            around = f"{field}.metadata" if field else "metadata"
            metadata = step(root, "metadata")
            plain = {name: _texts_of(step(metadata, name)) for name in ("annotations", "labels")}
            data: dict[str, Any] = {"metadata": {**plain, "name": each.name, "namespace": each.namespace}}
            if not each.name or not describes_app(data):
                self._found.others.append(each)
                continue
            self._describing.append(each)
            if not self._are_texts(each, metadata, around):
                continue
            service = each.kind == "Service"
            try:
                app = annotated_app(each.kind, data, service_address(data, "cluster.local") if service else _POD)
            except AnnotationError as error:
                said = _SAID.fullmatch(str(error))
                name, problem = said.groups() if said else ("", str(error))
                self._error(each, f"{around}.annotations[{name}]" if name else around, problem)
                continue
            if self._annotated.setdefault(app.origin, each) is not each:
                continue  # of one name: told by `_names`
            self._kinds.append(f"annotated {each.kind}")
            yield Candidate(Rank.SERVICE if service else Rank.POD, "", app)

    def _are_texts(self, each: Manifest, metadata: Node | None, around: str) -> bool:
        """Whether annotations and labels are texts: a number or a truth value is refused by the API server."""
        good = True
        for name in ("annotations", "labels"):
            given = step(metadata, name)
            for key, entry in given.entries.items() if isinstance(given, MappingNode) else ():
                node = entry.node
                if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
                    shown = (
                        f"{node.text[:40]} is no text here: put it in quotes" if isinstance(node, ScalarNode) else ""
                    )
                    good = False
                    place = Origin(each.origin.file, each.origin.document, entry.line)
                    self._problems.error(place, f"{around}.{name}[{key}]", shown or "expected a text")

        return good

    def _choose(self, candidates: Sequence[Candidate]) -> list[App]:
        """One description for each app; what does not count is told."""
        named: dict[Origin, Candidate] = {}
        for each in candidates:
            origin = each.app.origin
            if origin not in self._annotated:
                origin = origin_of("App", {"metadata": {"namespace": each.app.namespace, "name": each.app.name}})
                if origin in named:  # an App of the values with the name of an App of the cluster
                    origin = Origin(f"{origin.file} of the release's values", 0, 0)
            named[origin] = each
        choice = choose([each._replace(app=msgspec.structs.replace(each.app, origin=at)) for at, each in named.items()])
        ranks = {app.ref: named[app.origin].rank for app in choice.apps}
        for origin, problem in choice.conflicts:
            loser = named[origin]
            if loser.rank == ranks[loser.app.ref]:
                text = f"{problem}: an instance serves the older one alone; describe the app once"
                self._problems.error(*self._field_of(origin, loser.app, "spec.appId"), text)
            else:
                text = f"{problem}: make both say the same, or leave it to one"
                self._problems.warning(*self._field_of(origin, loser.app, "spec"), text)
        return [
            app if app.origin in self._annotated else msgspec.structs.replace(app, origin=named[app.origin].app.origin)
            for app in choice.apps
        ]

    def _field_of(self, origin: Origin, app: App, field: str) -> tuple[Origin, str]:
        if origin in self._annotated:
            return self._place(origin, "dapr.io/app-id")
        return self._places.of(app.origin, field), field

    def _place(self, origin: Origin, field: str) -> tuple[Origin, str]:
        """Place and name of a field of an App that may be one of annotations."""
        each = self._annotated.get(origin)
        if each is None:
            return self._places.of(origin, field), field
        around = WORKLOADS.get(each.kind, "")
        path = f"{around}.metadata" if around else "metadata"
        name = _ANNOTATION_OF.get(field, field)
        path = f"{path}.annotations[{name}]" if name.startswith("dapr.io/") else path
        return self._places.of(each.origin, path), path

    def _claims(self, apps: Sequence[App]) -> None:
        """What would prove two apps."""
        owners: dict[Hashable, App] = {}
        for app in apps:
            for key, field, what in _claims_of(app):
                owner = owners.setdefault(key, app)
                if owner is not app:
                    problem = f"{what} belongs to the app {owner.ref} already: each app needs its own"
                    self._problems.error(*self._place(app.origin, field), problem)
        by_ref = {app.ref: app for app in apps}
        for conflict in AccountApps(RegisteredApp(app.ref, app) for app in apps).conflicts:
            for ref in conflict.apps:
                if ref != conflict.proves:
                    self._problems.warning(*self._place(by_ref[ref].origin, "spec.serviceAccount"), str(conflict))

    # Telling ---------------------------------------------------------------------------------------------------------
    def _error(self, each: Manifest, field: str, problem: str) -> None:
        self._problems.error(self._places.of(each.origin, field), field, problem)

    def _named(self, problem: Problem) -> Problem:
        """With the object that it is in."""
        near = [
            each
            for each in self._found.read()
            if (each.origin.file, each.origin.document) == (problem.file, problem.document)
            and each.origin.line <= problem.line
        ]
        last = max((each.origin.line for each in near), default=0)
        named = [each for each in near if each.origin.line == last]
        return msgspec.structs.replace(problem, object=str(named[0])) if len(named) == 1 else problem


def _texts_of(node: Node | None) -> dict[str, str]:
    """A mapping of texts, each as it is written."""
    if not isinstance(node, MappingNode):
        return {}
    return {name: entry.node.text for name, entry in node.entries.items() if isinstance(entry.node, ScalarNode)}


def _claims_of(app: App) -> Iterator[tuple[Hashable, str, str]]:
    """What only one app can have: a key to compare, the field, and words for it that hold no secret."""
    for index, token in enumerate(app.tokens):
        field = f"spec.tokens[{index}]"
        if token.secret_key_ref is not None:
            reference = token.secret_key_ref
            key = (app.namespace, app.secret_store, reference.name, reference.effective_key)
            yield key, field, f"the token in {reference.name}/{reference.effective_key}"
        else:
            yield ("token", token.sha256, token.env_ref), field, "the token"
    for index, certificate in enumerate(app.certificates):
        name = bool(certificate.spiffe_id), bool(certificate.dns_name), str(certificate)
        yield name, f"spec.certificates[{index}]", f"the certificate {certificate}"
    for name, port in (("httpPort", app.listeners.http_port), ("grpcPort", app.listeners.grpc_port)):
        if port is not None:
            yield ("port", port), f"spec.listeners.{name}", f"the port {port}"
    if app.listeners.unix_socket:
        yield ("socket", app.listeners.unix_socket), "spec.listeners.unixSocket", "the socket"


def _counted(kinds: Iterable[str]) -> dict[str, int]:
    found = list(kinds)
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}
