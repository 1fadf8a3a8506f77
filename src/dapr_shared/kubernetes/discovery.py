"""Apps from Dapr's annotations on Services and Pods, and which of several descriptions of one app counts.

Before both roads: pure functions on objects of the Kubernetes API. Annotations and their defaults: reference
daprd-flags §8. An App resource counts before a file, a file before an annotated Service, a Service before a Pod.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dapr_shared.contracts.settings import TRUE_WORDS
from dapr_shared.core.ids import AppRef, app_id_problem
from dapr_shared.resources.app_kind import LOG_LEVELS
from dapr_shared.resources.model import (
    App,
    AppChannel,
    ChannelProtocol,
    HealthCheck,
    MetadataItem,
    SecretKeyRef,
    TokenSource,
)
from dapr_shared.resources.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Object = dict[str, Any]
"""An object of the Kubernetes API as JSON data."""

APP_ID = "dapr.io/app-id"
SIDECAR = "dapr.io/enabled"
"""A pod with this annotation has a sidecar of Dapr's; it is not ours to serve. As a label it is on the Service that Dapr's
operator makes for such an app, which carries `dapr.io/app-id` too."""
INSTANCE_LABEL = "shared.dapr.io/instance"
"""On every object of a release of dapr-shared; these carry `dapr.io/app-id` too, and are no apps."""
KUBERNETES_STORE = "kubernetes"
"""The secret store of a resource that names none, in a cluster (reference resources §1)."""
TOKEN_KEY = "token"  # noqa: S105 - a name
"""The key of a Secret that annotations mean."""
_MAX_PORT = 65535


class Rank(IntEnum):
    """Where an app is described; the lower counts first."""

    APP = 0
    FILE = 1
    SERVICE = 2
    POD = 3


class AnnotationError(ValueError):
    """A Service or Pod whose annotations cannot be followed; the text names annotation, value and what is expected."""


class Candidate(NamedTuple):
    """One description of an app."""

    rank: Rank
    created: str
    """`creationTimestamp`; empty for files."""
    app: App


class Conflict(NamedTuple):
    """A description that does not count, and says something else than the one that does."""

    origin: Origin
    problem: str


class Choice(NamedTuple):
    """One description for each app."""

    apps: tuple[App, ...]
    conflicts: tuple[Conflict, ...]


# Which objects ------------------------------------------------------------------------------------------------------
def origin_of(kind: str, data: Object) -> Origin:
    """How messages name an object: `Service shop/orders`."""
    metadata = metadata_of(data)
    return Origin(f"{kind} {metadata.get('namespace') or 'default'}/{metadata.get('name', '')}", 0, 0)


def metadata_of(data: Object) -> Object:
    """The `metadata`; empty where there is none."""
    return _part(data, "metadata")


def annotations_of(data: Object) -> Mapping[str, str]:
    """The annotations; empty where there are none."""
    return _part(metadata_of(data), "annotations")


def _part(data: Object, name: str) -> Object:
    found: Object | None = data.get(name)
    return found or {}


def describes_app(data: Object) -> bool:
    """Whether an object is annotated as an app of ours: not one with a sidecar of Dapr's, nor one of our own releases."""
    annotations = annotations_of(data)
    labels = _part(metadata_of(data), "labels")
    sidecar = _truthy(annotations.get(SIDECAR, "")) or _truthy(labels.get(SIDECAR, ""))
    return APP_ID in annotations and not sidecar and INSTANCE_LABEL not in labels


def pod_ready(pod: Object) -> bool:
    """Whether a pod is ready to be called: it has an address, is ready, and is not being deleted."""
    conditions: list[Object] = _part(pod, "status").get("conditions") or []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and _may_be_called(pod)


def choose_pod(pods: Iterable[Object], current: str = "") -> Object | None:
    """The pod that stands for an app: the oldest that is ready, else the oldest that has an address.

    `current`: the address in use; its pod stays chosen for as long as it is ready, so that other pods that come and go
    change nothing. `None`: no pod has an address.
    """
    ready: list[Object] = []
    others: list[Object] = []
    for pod in pods:
        if pod_ready(pod):
            ready.append(pod)
        elif _may_be_called(pod):
            others.append(pod)
    for pods_of_a_kind in (ready, others):
        if pods_of_a_kind:
            same = (pod for pod in pods_of_a_kind if pod["status"]["podIP"] == current)
            return next(same, None) or min(pods_of_a_kind, key=_age)
    return None


def _may_be_called(pod: Object) -> bool:
    status = _part(pod, "status")
    ended = status.get("phase") in ("Succeeded", "Failed")
    return bool(status.get("podIP")) and not ended and not metadata_of(pod).get("deletionTimestamp")


def _age(data: Object) -> tuple[str, str]:
    metadata = metadata_of(data)
    return str(metadata.get("creationTimestamp") or ""), str(metadata.get("name") or "")


# From annotations to an App -----------------------------------------------------------------------------------------
def service_address(data: Object, cluster_domain: str) -> str:
    """The name under which a Service is found in the cluster's DNS, whether or not a pod stands behind it."""
    metadata = data["metadata"]
    return f"{metadata['name']}.{metadata['namespace']}.svc.{cluster_domain}"


def annotated_app(kind: str, data: Object, address: str) -> App:
    """The App that annotations describe. `address`: where its channel leads. Raises `AnnotationError`."""
    annotations = annotations_of(data)
    app_id = annotations.get(APP_ID, "")
    if problem := app_id_problem(app_id):
        raise AnnotationError(f"{APP_ID}: {problem}")
    level = annotations.get("dapr.io/log-level", "").lower()
    if level and level not in LOG_LEVELS:
        raise AnnotationError(f"dapr.io/log-level: {level!r} is not one of {', '.join(LOG_LEVELS)}")
    logging = annotations.get("dapr.io/enable-api-logging")
    proof = annotations.get("dapr.io/api-token-secret", "")
    return App(
        name=app_id,
        app_id=app_id,
        namespace=str(data["metadata"].get("namespace") or "default"),
        channel=_channel(annotations, address),
        tokens=(TokenSource(secret_key_ref=SecretKeyRef(name=proof, key=TOKEN_KEY)),) if proof else (),
        configuration=annotations.get("dapr.io/config", ""),
        log_level=level,
        api_logging=None if logging is None else _truthy(logging),
        secret_store=KUBERNETES_STORE,
        origin=origin_of(kind, data),
    )


def _channel(annotations: Mapping[str, str], address: str) -> AppChannel | None:
    port = _number(annotations, "dapr.io/app-port", 0, least=1, most=_MAX_PORT)
    protocol = annotations.get("dapr.io/app-protocol", "http").lower()
    if protocol not in tuple(ChannelProtocol):
        raise AnnotationError(f"dapr.io/app-protocol: {protocol!r} is not one of {', '.join(ChannelProtocol)}")
    health = _health_check(annotations)
    concurrency = _number(annotations, "dapr.io/app-max-concurrency", 0)
    token = annotations.get("dapr.io/app-token-secret", "")
    if not port:
        return None
    return AppChannel(
        port=port,
        protocol=ChannelProtocol(protocol),
        address=address,
        max_concurrency=max(concurrency, 0),
        health_check=health,
        api_token=MetadataItem(name="apiToken", secret_key_ref=SecretKeyRef(name=token, key=TOKEN_KEY))
        if token
        else None,
    )


def _health_check(annotations: Mapping[str, str]) -> HealthCheck:
    """With daprd's defaults; a value out of range is the default there too."""
    default = HealthCheck()
    interval = _number(annotations, "dapr.io/app-health-probe-interval", 0)
    timeout = _number(annotations, "dapr.io/app-health-probe-timeout", 0)
    threshold = _number(annotations, "dapr.io/app-health-threshold", 0)
    path = annotations.get("dapr.io/app-health-check-path", "") or default.path
    if not path.startswith("/"):
        raise AnnotationError("dapr.io/app-health-check-path does not begin with '/'")
    made = HealthCheck(
        enabled=_truthy(annotations.get("dapr.io/enable-app-health-check", "")),
        path=path,
        interval=float(interval) if interval > 0 else default.interval,
        timeout=timeout / 1000 if timeout > 0 else default.timeout,
        threshold=threshold if threshold > 0 else default.threshold,
    )
    if made.timeout > made.interval:
        raise AnnotationError("dapr.io/app-health-probe-timeout is longer than dapr.io/app-health-probe-interval")
    return made


def _number(
    annotations: Mapping[str, str], name: str, default: int, *, least: int | None = None, most: int | None = None
) -> int:
    text = annotations.get(name, "").strip()
    if not text:
        return default
    try:
        number = int(text, 10)
    except ValueError:
        raise AnnotationError(f"{name}: {text[:40]!r} is not a whole number") from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise AnnotationError(f"{name}: {number} is not between {least} and {most}")
    return number


def _truthy(text: str) -> bool:
    return text.strip().lower() in TRUE_WORDS


# Which description counts -------------------------------------------------------------------------------------------
def choose(candidates: Sequence[Candidate]) -> Choice:
    """One description for each app: by rank, then the older object, then the name.

    Another App, file, or Service for the same app is a conflict. A description of lower rank is one only where it says
    something else: a Service and the pods behind it usually carry the same annotations.
    """
    chosen: dict[AppRef, Candidate] = {}
    conflicts: list[Conflict] = []
    for candidate in sorted(candidates, key=_order):
        app = candidate.app
        first = chosen.setdefault(app.ref, candidate)
        if first is candidate:
            continue
        if first.rank == candidate.rank and candidate.rank is not Rank.POD:
            conflicts.append(Conflict(app.origin, f"the app {app.ref} is described already by {first.app.origin}"))
        elif differing := _difference(first.app, app):
            problem = f"the app {app.ref} is described by {first.app.origin}, which counts, with another {differing}"
            conflicts.append(Conflict(app.origin, problem))
    return Choice(tuple(candidate.app for candidate in chosen.values()), tuple(conflicts))


def _order(candidate: Candidate) -> tuple[int, str, str]:
    return candidate.rank, candidate.created, str(candidate.app.origin) if candidate.created else ""


def _difference(counts: App, other: App) -> str:
    """What a description of lower rank says otherwise; what it leaves out it does not say."""
    if other.channel is not None and counts.channel is not None:
        if other.channel.port != counts.channel.port and not _is_service(counts):
            return "port"
        if other.channel.protocol != counts.channel.protocol:
            return "protocol"
    if other.configuration and other.configuration != counts.configuration:
        return "configuration"
    if other.tokens and other.tokens != counts.tokens:
        return "token"
    return ""


def _is_service(app: App) -> bool:
    """The port of a Service need not be that of the pods behind it."""
    return app.origin.file.startswith("Service ")
