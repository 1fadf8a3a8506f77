"""Objects of the API server as resources: each by itself, so that one that is wrong does not stop the others.

Before both roads. Kinds and fields are Dapr's (reference resources §1) and our App. Where an object becomes wrong, its last
good version stays in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from dapr_shared.kube.objects import ObjectKind, custom
from dapr_shared.kubernetes.discovery import KUBERNETES_STORE, Object, metadata_of, origin_of
from dapr_shared.resources.loader import Notice, examine_object
from dapr_shared.resources.model import (
    DAPR_GROUP,
    SHARED_GROUP,
    App,
    Component,
    HTTPEndpoint,
    Resource,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.resources.origin import Origin

APPS = custom(SHARED_GROUP, "v1alpha1", "apps", "App")
COMPONENTS = custom(DAPR_GROUP, "v1alpha1", "components", "Component")
CONFIGURATIONS = custom(DAPR_GROUP, "v1alpha1", "configurations", "Configuration")
SUBSCRIPTIONS = custom(DAPR_GROUP, "v2alpha1", "subscriptions", "Subscription")
RESILIENCIES = custom(DAPR_GROUP, "v1alpha1", "resiliencies", "Resiliency")
HTTP_ENDPOINTS = custom(DAPR_GROUP, "v1alpha1", "httpendpoints", "HTTPEndpoint")
KINDS_OF_ONE_APP: tuple[ObjectKind, ...] = (COMPONENTS, SUBSCRIPTIONS, RESILIENCIES, HTTP_ENDPOINTS)
"""Followed for an instance of one app; its Configuration is the one that `--config` names, read at start."""
KINDS_OF_MANY_APPS: tuple[ObjectKind, ...] = (CONFIGURATIONS, *KINDS_OF_ONE_APP)

LONGEST_OPENING = 30.0
"""Seconds that opening a component may take at most, whatever its `initTimeout` says: changes of others wait for it."""


R = TypeVar("R", bound=Resource)


class ObjectProblem(NamedTuple):
    """An object that is not in force as it is written."""

    kind: str
    origin: Origin
    problem: str
    kept: bool
    """Whether its last good version is in force."""


class ReadObject(NamedTuple):
    """An object that is in force."""

    created: str
    resource: Resource


class ReadObjects(NamedTuple):
    """What became of all objects."""

    found: list[ReadObject]
    problems: list[ObjectProblem]
    notices: list[Notice]


class _Known(NamedTuple):
    version: tuple[str, ...]
    good: Resource | None
    problem: str
    notices: tuple[Notice, ...]


class ObjectReader:
    """Decodes each version of an object once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Origin], _Known] = {}

    def read(self, objects: Iterable[tuple[ObjectKind, Object]]) -> ReadObjects:
        """All objects as resources. What is not among them any more is forgotten, its good version too."""
        result = ReadObjects([], [], [])
        known: dict[tuple[str, Origin], _Known] = {}
        for kind, data in objects:
            origin = origin_of(kind.kind, data)
            key = kind.kind, origin
            one = known[key] = self._read(kind, data, origin, self._known.get(key))
            if one.good is not None:
                result.found.append(ReadObject(str(metadata_of(data).get("creationTimestamp") or ""), one.good))
            if one.problem:
                result.problems.append(ObjectProblem(kind.kind, origin, one.problem, one.good is not None))
            result.notices.extend(one.notices)
        self._known = known
        return result

    @staticmethod
    def _read(kind: ObjectKind, data: Object, origin: Origin, before: _Known | None) -> _Known:
        version = _version(data)
        if before is not None and before.version == version:
            return before
        examined = examine_object(_as_written(kind, data), source=origin.file)
        found = [item for name in _LISTS for item in getattr(examined.resources, name)]
        problem = "; ".join(str(error).removeprefix(f"{origin}: ") for error in examined.errors)
        good: Resource | None = found[0] if found and not problem else None
        if good is not None:
            problem = not_for_clusters(good)
            good = None if problem else for_clusters(good)
        uid = version[0]
        if good is None and before is not None and before.version[0] == uid:
            good = before.good
        return _Known(version, good, problem, tuple(examined.resources.notices))


_LISTS = ("apps", "components", "configurations", "http_endpoints", "subscriptions", "resiliencies", "others")


def _version(data: Object) -> tuple[str, ...]:
    """Differs when the object says something else: a change of `status` or of labels alone is none."""
    metadata = metadata_of(data)
    version: Any = metadata.get("generation") or metadata.get("resourceVersion")
    return str(metadata.get("uid")), str(version)


def _as_written(kind: ObjectKind, data: Object) -> Object:
    """The object with its kind, and without what is not the user's.

    Where nobody converts between the versions of Subscription, one of v1alpha1 comes under the name of v2alpha1.
    """
    plain = {name: value for name, value in data.items() if name != "status"}
    plain |= {"apiVersion": kind.api_version, "kind": kind.kind}
    spec: Any = data.get("spec")
    if kind is SUBSCRIPTIONS and isinstance(spec, dict) and "route" in spec and "routes" not in spec:
        plain["apiVersion"] = f"{DAPR_GROUP}/v1alpha1"
    return plain


def not_for_clusters(resource: Resource) -> str:
    """What an object of the cluster may not say, its field first: the environment of the instance is not the author's to read."""
    if not isinstance(resource, App):
        return ""
    for index, token in enumerate(resource.tokens):
        if token.env_ref:
            return f"spec.tokens[{index}].envRef: is for files only; use secretKeyRef"
    if resource.channel and resource.channel.api_token and resource.channel.api_token.env_ref:
        return "spec.channel.apiToken.envRef: is for files only; use secretKeyRef"
    return ""


def for_clusters(resource: R) -> R:
    """With the defaults of a cluster: secrets of a resource that names no store are Secrets."""
    changes: dict[str, Any] = {}
    if isinstance(resource, App | Component | HTTPEndpoint) and not resource.secret_store:
        changes["secret_store"] = KUBERNETES_STORE
    if isinstance(resource, Component) and resource.init_timeout > LONGEST_OPENING:
        changes["init_timeout"] = LONGEST_OPENING
    return msgspec.structs.replace(resource, **changes) if changes else resource
