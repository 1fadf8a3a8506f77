"""Kinds of objects at the Kubernetes API server, and the few things that are the same for all of them.

Beside both roads: what cluster mode reads and writes. An object is the server's JSON as a dictionary.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

JsonObject: TypeAlias = dict[str, Any]
"""An object as the API server gives it."""


class ObjectKind(NamedTuple):
    """A kind of objects, as the API server names it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As in `apiVersion` of an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As in texts and RBAC: `pods`, `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path at the API server; without a namespace that of all namespaces, or of a cluster-scoped kind."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, name, subresource]
        return "/" + "/".join(quote(part, safe="") for part in parts if part)


class PublishedPath(ObjectKind):
    """What the API server publishes at a path of its own and is no object; `plural` is the path."""

    __slots__ = ()

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path as it is."""
        del namespace, name, subresource
        return self.plural


class ObjectKey(NamedTuple):
    """What names one object of a kind."""

    namespace: str
    """Empty for a cluster-scoped one."""
    name: str


class ObjectList(NamedTuple):
    """The answer to a list."""

    items: list[JsonObject]
    resource_version: str
    """Where a watch goes on from."""


PODS: Final = ObjectKind("", "v1", "pods", "Pod")
SERVICES: Final = ObjectKind("", "v1", "services", "Service")
SECRETS: Final = ObjectKind("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = ObjectKind("", "v1", "configmaps", "ConfigMap")
NAMESPACES: Final = ObjectKind("", "v1", "namespaces", "Namespace")
NODES: Final = ObjectKind("", "v1", "nodes", "Node")
SERVICE_ACCOUNTS: Final = ObjectKind("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS: Final = ObjectKind("", "v1", "events", "Event")
ENDPOINT_SLICES: Final = ObjectKind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES: Final = ObjectKind("coordination.k8s.io", "v1", "leases", "Lease")
TOKEN_REVIEWS: Final = ObjectKind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")
ACCESS_REVIEWS: Final = ObjectKind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")
DEFINITIONS: Final = ObjectKind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")

ISSUER: Final = PublishedPath("", "", "/.well-known/openid-configuration", "")
"""Who signs the tokens of service accounts, as OpenID Connect describes it."""
ISSUER_KEYS: Final = PublishedPath("", "", "/openid/v1/jwks", "")
"""The keys that verify them (JWKS)."""

_KEPT_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def custom(group: str, version: str, plural: str, kind: str) -> ObjectKind:
    """The kind that a CustomResourceDefinition makes."""
    return ObjectKind(group, version, plural, kind)


def key_of(item: JsonObject) -> ObjectKey:
    """What names this object. Raises `KeyError` for something that is no object."""
    metadata = item["metadata"]
    return ObjectKey(metadata.get("namespace", ""), metadata["name"])


def version_of(item: JsonObject) -> str:
    """Its `resourceVersion`; empty: it has none."""
    metadata: JsonObject = item.get("metadata") or {}
    return str(metadata.get("resourceVersion") or "")


def trimmed(kind: ObjectKind, item: JsonObject, *, metadata_only: bool) -> JsonObject:
    """The object without what nobody here reads: who manages which field, and kubectl's copy of the whole object.

    `apiVersion` and `kind` are always those of the kind: items of a list have none. With `metadata_only` it is a new
    object of the few fields of `metadata` that tell what an object is; without, the given one, changed in place.
    """
    metadata: JsonObject = item.get("metadata") or {}
    if metadata_only:
        kept = {field: metadata[field] for field in _KEPT_METADATA if metadata.get(field)}
        item = {"metadata": kept}
        metadata = kept
    else:
        metadata.pop("managedFields", None)
    annotations: JsonObject | None = metadata.get("annotations")
    if annotations:
        annotations.pop(_LAST_APPLIED, None)
    item["apiVersion"], item["kind"] = kind.api_version, kind.kind
    return item
