"""What an instance asks of a Kubernetes API server, and which role of the chart allows it.

Beside both roads. The one place that says so: what is told when a verb is missing, and the table of
docs/kubernetes/security.md, which a test compares with the chart that is rendered.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class ChartRole(StrEnum):
    """A role of the chart, as the documentation and messages call it."""

    WATCHED = "of each watched namespace"
    SECRETS = "of Secrets"
    OWN = "of the release's namespace"
    TOKENS = "of the cluster, for tokens"


class Right(NamedTuple):
    """One verb on some resources."""

    role: ChartRole
    group: str
    """Empty: the core group, or paths of the API server."""
    resources: tuple[str, ...]
    verb: str
    use: str
    """What needs it."""
    without: str
    """What does not work where it is missing; everything else does."""
    values: tuple[str, ...]
    """Of the chart: what decides whether and where it is given."""


_DAPR: Final = ("components", "configurations", "httpendpoints", "resiliencies", "subscriptions")
_PATHS: Final = ("/.well-known/openid-configuration", "/openid/v1/jwks")
_WATCHED: Final = "shared.watchNamespaces"
_DISCOVER: Final = (_WATCHED, "shared.discover")
_MANY: Final = "shared.multiApp.enabled"
_PODS: Final = (*_DISCOVER, "shared.identity.byAddress")
_AUDIENCE: Final = "shared.identity.serviceAccountAudience"
_OLD: Final = "what was listed stays in force, and no change of it is seen"

RIGHTS: Final = (
    Right(
        ChartRole.WATCHED, "dapr.io", _DAPR, "list", "Dapr's resources, as they are at the start",
        "there is none of the kind; an instance for one app does not start", (_WATCHED,),
    ),
    Right(ChartRole.WATCHED, "dapr.io", _DAPR, "watch", "their changes", _OLD, (_WATCHED,)),
    Right(
        ChartRole.WATCHED, "shared.dapr.io", ("apps",), "list", "App resources, as they are at the start",
        "no App is served", _DISCOVER,
    ),
    Right(ChartRole.WATCHED, "shared.dapr.io", ("apps",), "watch", "their changes", _OLD, _DISCOVER),
    Right(
        ChartRole.WATCHED, "shared.dapr.io", ("apps/status",), "patch", "the status of Apps",
        "Apps have neither status nor Events", _DISCOVER,
    ),
    Right(
        ChartRole.WATCHED, "", ("services",), "list", "annotated Services, as they are at the start",
        "no annotated Service is an app", _DISCOVER,
    ),
    Right(ChartRole.WATCHED, "", ("services",), "watch", "their changes", _OLD, _DISCOVER),
    Right(
        ChartRole.WATCHED, "", ("pods",), "list", "annotated Pods, and those of the node, as they are at the start",
        "no annotated Pod is an app; addresses prove nothing (503)", _PODS,
    ),
    Right(
        ChartRole.WATCHED, "", ("pods",), "watch", "their changes", f"{_OLD}; addresses prove nothing (503)", _PODS
    ),
    Right(
        ChartRole.WATCHED, "", ("pods",), "get", "annotated Pods, whole; the Pod of a token, if it is not followed",
        "new annotated Pods are no apps; tokens of Pods that are not followed answer 503", (*_DISCOVER, _AUDIENCE),
    ),
    Right(
        ChartRole.WATCHED, "", ("events",), "create", "Events: what is wrong with an object, and how an App goes",
        "the log alone says it", (_WATCHED, _MANY),
    ),
    Right(
        ChartRole.WATCHED, "", ("events",), "patch", "the count of an Event that comes again",
        "the count stays as it is", (_WATCHED, _MANY),
    ),
    Right(
        ChartRole.SECRETS, "", ("secrets",), "get", "tokens of apps, `secretKeyRef` of Components, the API of secrets",
        "a new App or Component is refused, one in force goes on with what was read; the API answers an error",
        ("shared.secrets.namespaces", "shared.secrets.names"),
    ),
    Right(
        ChartRole.OWN, "dapr.io", ("configurations",), "get", "the instance's own Configuration", "it does not start",
        ("shared.daprd.config",),
    ),
    Right(
        ChartRole.OWN, "coordination.k8s.io", ("leases",), "get", "which instance writes status and Events",
        "neither is written by this instance", (_MANY,),
    ),
    Right(
        ChartRole.OWN, "coordination.k8s.io", ("leases",), "list", "what other instances know of apps, for their status",
        "the status says what the instance knows that writes it", (_MANY,),
    ),
    Right(
        ChartRole.OWN, "coordination.k8s.io", ("leases",), "watch", "changes of that",
        "the status says for five minutes what others knew, then as without list", (_MANY,),
    ),
    Right(
        ChartRole.OWN, "coordination.k8s.io", ("leases",), "create", "the first instance of all",
        "neither status nor Events, unless the Lease exists", (_MANY,),
    ),
    Right(
        ChartRole.OWN, "coordination.k8s.io", ("leases",), "update", "keeping the Lease, taking it over, giving it back; changes of what an instance knows",
        "neither status nor Events, but for the ten seconds after the Lease was made", (_MANY,),
    ),
    Right(
        ChartRole.TOKENS, "authentication.k8s.io", ("tokenreviews",), "create",
        "service account tokens, with verification `review`", "such tokens answer 503",
        (_AUDIENCE, "shared.identity.serviceAccountVerification"),
    ),
    Right(
        ChartRole.TOKENS, "", _PATHS, "get", "service account tokens, with verification `keys`",
        "such tokens answer 503; Kubernetes itself gives it to all service accounts",
        (_AUDIENCE, "shared.identity.serviceAccountVerification"),
    ),
)  # fmt: skip
"""All that the chart gives, in all its forms."""


def advice(verb: str, group: str, resource: str) -> str:
    """Where the chart gives this right, in words. `resource` with its subresource, or a path."""
    rows = [row for row in RIGHTS if (verb, group) == (row.verb, row.group) and resource in row.resources]
    if not rows:
        return "the chart gives no such right: it needs a role of your own"
    return "; or ".join(f"the chart gives it by its role {row.role}, see {' and '.join(row.values)}" for row in rows)
