"""Every resource kind as frozen data: what YAML and CRDs say, decoded, checked for form, and nothing more.

Before both roads: identity, the registry, channels and blocks are built from these. Kinds and fields are Dapr's
(reference resources); `App` is ours. A struct that may hold a secret does not show it in its text form.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from dapr_shared.core.ids import DEFAULT_NAMESPACE, AppRef
from dapr_shared.resources.origin import NOWHERE, Origin

DAPR_GROUP = "dapr.io"
"""API group of Dapr's kinds."""
SHARED_GROUP = "shared.dapr.io"
"""API group of our own kind, App."""

Raw = Mapping[str, Any]
"""A part of a resource as plain JSON-able data (`dict`, `list`, `str`, `int`, `float`, `bool`, `None`). Not to be changed."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all structs here. The text form shows `…` for what `hidden` names, unless it is absent or empty."""

    hidden: ClassVar[frozenset[str]] = frozenset()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, "…" if name in self.hidden and value not in (None, "", {}) else value) for name, value in pairs]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class SecretKeyRef(Frozen, frozen=True, kw_only=True):
    """One key of one secret; the resource's `secret_store` says in which store."""

    name: str
    key: str = ""
    """Empty means: the same as `name`."""

    @property
    def effective_key(self) -> str:
        """The key to read."""
        return self.key or self.name


class MetadataItem(Frozen, frozen=True, kw_only=True):
    """A named value: written out, kept in a secret store, or in an environment variable of the instance.

    Which one counts when several are given is Dapr's rule, applied by `values.resolve`.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"value"})

    name: str
    value: str | None = None
    """Always text: a YAML value that is none is its JSON text (`true` → `"true"`)."""
    secret_key_ref: SecretKeyRef | None = None
    env_ref: str = ""


class ChannelProtocol(StrEnum):
    """How the instance speaks to an app."""

    HTTP = "http"
    HTTPS = "https"
    H2C = "h2c"
    GRPC = "grpc"
    GRPCS = "grpcs"


class ChannelTls(Frozen, frozen=True, kw_only=True):
    """TLS towards an app (protocols https and grpcs). Paths in a file were relative to its folder."""

    ca_file: str = ""
    """Certificates to trust, PEM; empty: those of the system."""
    cert_file: str = ""
    """Our own certificate, PEM; given together with `key_file` or not at all."""
    key_file: str = ""
    server_name: str = ""
    """Name to expect in the app's certificate; empty: the address."""


class HealthCheck(Frozen, frozen=True, kw_only=True):
    """Probing an app's health; the defaults are daprd's."""

    enabled: bool = False
    path: str = "/healthz"
    interval: float = 5.0
    """Seconds between two probes."""
    timeout: float = 0.5
    """Seconds that one probe may take."""
    threshold: int = 3
    """So many failed probes make the app unhealthy; they add up until it is healthy again."""


class AppChannel(Frozen, frozen=True, kw_only=True):
    """How the instance reaches an app."""

    port: int
    protocol: ChannelProtocol = ChannelProtocol.HTTP
    address: str = "127.0.0.1"
    max_concurrency: int = 0
    """Calls in flight to the app at most; 0: no limit."""
    tls: ChannelTls | None = None
    health_check: HealthCheck = HealthCheck()
    api_token: MetadataItem | None = None
    """What the instance sends to the app as `dapr-api-token`; its name is `apiToken`."""


class TokenSource(Frozen, frozen=True, kw_only=True):
    """A token that proves the app: exactly one of the fields is given."""

    hidden: ClassVar[frozenset[str]] = frozenset({"sha256"})

    sha256: str = ""
    """SHA-256 of the token's bytes, 64 hexadecimal digits in lower case."""
    secret_key_ref: SecretKeyRef | None = None
    env_ref: str = ""


class CertificateName(Frozen, frozen=True, kw_only=True):
    """What a client certificate says that proves the app: exactly one of the fields is given."""

    spiffe_id: str = ""
    """A subject alternative name of kind URI, `spiffe://…`."""
    dns_name: str = ""
    """A subject alternative name of kind DNS, in lower case."""
    sha256: str = ""
    """SHA-256 of the certificate itself (DER), 64 hexadecimal digits in lower case."""

    def __str__(self) -> str:
        return self.spiffe_id or self.dns_name or self.sha256


class Listeners(Frozen, frozen=True, kw_only=True):
    """Listeners that belong to one app alone, so that whoever can reach them is this app.

    Ports are bound on loopback only; the socket has mode 0600.
    """

    http_port: int | None = None
    grpc_port: int | None = None
    unix_socket: str = ""
    """Path of the HTTP API's; empty: none."""
    grpc_unix_socket: str = ""
    """Path of the gRPC API's; of a run file's `unixDomainSocket` alone."""
    body_bytes: int | None = None
    """Largest request body at these listeners, 0: no limit; `None`: as at the shared ones. Of a run file alone."""
    header_bytes: int | None = None
    """Largest HTTP request header, likewise."""


class SecretScope(Frozen, frozen=True, kw_only=True):
    """What may be read of one secret store. A non-empty allow list wins; then the deny list; then the default."""

    store_name: str
    default_allow: bool = True
    allowed_secrets: tuple[str, ...] = ()
    denied_secrets: tuple[str, ...] = ()


class AppSecrets(Frozen, frozen=True, kw_only=True):
    """Which secret stores an app may read on a multi-app instance: those named here and no other (design §5.5)."""

    scopes: tuple[SecretScope, ...] = ()


class App(Frozen, frozen=True, kw_only=True):
    """One application: who it is, how it proves it, how it is reached."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    app_id: str
    channel: AppChannel | None = None
    """`None`: the app only calls."""
    tokens: tuple[TokenSource, ...] = ()
    certificates: tuple[CertificateName, ...] = ()
    listeners: Listeners = Listeners()
    secrets: AppSecrets = AppSecrets()
    service_account: str = ""
    """`namespace:name` of the Kubernetes service account that proves the app; empty: none."""
    configuration: str = ""
    """Name of a Configuration of the same namespace; empty: none."""
    log_level: str = ""
    """Of log lines about this app: debug, info, warn, error or fatal; empty: the instance's."""
    api_logging: bool | None = None
    """Whether its API calls are logged; `None`: as the instance, or its Configuration, says."""
    secret_store: str = ""
    """`auth.secretStore`: where every `secretKeyRef` of this resource is read."""
    origin: Origin = NOWHERE

    @property
    def ref(self) -> AppRef:
        """The app's identity."""
        return AppRef(self.app_id, self.namespace)


class Component(Frozen, frozen=True, kw_only=True):
    """A named, configured backend."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    type: str
    """For example `state.redis`, as written."""
    version: str = ""
    """Empty, `v0` and `v1` are the same."""
    ignore_errors: bool = False
    init_timeout: float = 5.0
    """Seconds."""
    metadata: tuple[MetadataItem, ...] = ()
    secret_store: str = ""
    """`auth.secretStore`; empty: the platform's default."""
    scopes: tuple[str, ...] = ()
    """App ids that may use it; empty: all."""
    audience: tuple[str, ...] | None = None
    """App ids that may use it, beside its scopes: those to which a run file gives the file it stands in; `None`: all."""
    origin: Origin = NOWHERE


class HTTPEndpoint(Frozen, frozen=True, kw_only=True):
    """A named HTTP service outside, invoked like an app."""

    hidden: ClassVar[frozenset[str]] = frozenset({"client_tls"})

    name: str
    namespace: str = DEFAULT_NAMESPACE
    base_url: str
    headers: tuple[MetadataItem, ...] = ()
    """Set on each request, over what the caller sent."""
    client_tls: Raw = msgspec.field(default_factory=dict[str, Any])
    """`spec.clientTLS` as written; may hold a private key."""
    secret_store: str = ""
    scopes: tuple[str, ...] = ()
    origin: Origin = NOWHERE


class SubscriptionRule(Frozen, frozen=True, kw_only=True):
    """Where a message goes when `match` holds."""

    path: str
    match: str = ""
    """A CEL expression; empty: always."""


class BulkSubscribe(Frozen, frozen=True, kw_only=True):
    """Delivery of several messages in one call."""

    enabled: bool = False
    max_messages_count: int = 100
    max_await_duration_ms: int = 1000
    """Milliseconds, counted from the first message."""


class Subscription(Frozen, frozen=True, kw_only=True):
    """A declarative subscription; both API versions in the form of v2alpha1."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    pubsub_name: str
    topic: str
    rules: tuple[SubscriptionRule, ...] = ()
    """Tried in this order; the default route is the last, without a match. May be empty for gRPC apps."""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    dead_letter_topic: str = ""
    bulk_subscribe: BulkSubscribe = BulkSubscribe()
    scopes: tuple[str, ...] = ()
    origin: Origin = NOWHERE


class Resiliency(Frozen, frozen=True, kw_only=True):
    """Timeouts, retries and circuit breakers, as written; the resiliency layer gives them meaning."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    policies: Raw = msgspec.field(default_factory=dict[str, Any])
    targets: Raw = msgspec.field(default_factory=dict[str, Any])
    scopes: tuple[str, ...] = ()
    origin: Origin = NOWHERE


class Tracing(Frozen, frozen=True, kw_only=True):
    """Configuration `tracing`."""

    hidden: ClassVar[frozenset[str]] = frozenset({"otel"})

    sampling_rate: float = 0.0001
    """Share of the traces to keep, 0 to 1. Absent or unreadable means the default, as in Dapr."""
    stdout: bool = False
    zipkin_endpoint: str = ""
    otel: Raw = msgspec.field(default_factory=dict[str, Any])
    """`otel` as written; its headers may hold a key."""


class Metrics(Frozen, frozen=True, kw_only=True):
    """Configuration `metrics` laid over `metric`, field by field."""

    enabled: bool = True
    record_error_codes: bool = False
    increased_cardinality: bool = True
    path_matching: tuple[str, ...] = ()
    exclude_verbs: bool = False
    latency_distribution_buckets: tuple[int, ...] = ()
    """Milliseconds; empty: the default buckets."""


class ApiLogging(Frozen, frozen=True, kw_only=True):
    """Configuration `logging.apiLogging`."""

    enabled: bool = False
    obfuscate_urls: bool = False
    omit_health_checks: bool = False


class ApiRule(Frozen, frozen=True, kw_only=True):
    """One entry of Configuration `api.allowed` or `api.denied`."""

    name: str
    version: str = ""
    protocol: str = ""
    """`http` or `grpc`."""


class Configuration(Frozen, frozen=True, kw_only=True):
    """Settings of the runtime: the parts in use as typed fields, all of it in `spec`."""

    hidden: ClassVar[frozenset[str]] = frozenset({"spec"})

    name: str
    namespace: str = DEFAULT_NAMESPACE
    secret_scopes: tuple[SecretScope, ...] = ()
    features: Mapping[str, bool] = msgspec.field(default_factory=dict[str, bool])
    tracing: Tracing = Tracing()
    metrics: Metrics = Metrics()
    api_logging: ApiLogging = ApiLogging()
    api_allowed: tuple[ApiRule, ...] = ()
    api_denied: tuple[ApiRule, ...] = ()
    components_denied: tuple[str, ...] = ()
    """`components.deny`: types, or `type/version`."""
    access_control: Raw | None = None
    """`accessControl` as written; `None`: absent, everything is allowed."""
    spec: Raw = msgspec.field(default_factory=dict[str, Any])
    """The whole `spec` as written."""
    origin: Origin = NOWHERE


class Other(Frozen, frozen=True, kw_only=True):
    """A resource of a Dapr kind that has no effect yet, so that the runtime can say so once a kind."""

    hidden: ClassVar[frozenset[str]] = frozenset({"spec"})

    kind: str
    api_version: str
    name: str
    namespace: str = DEFAULT_NAMESPACE
    spec: Raw = msgspec.field(default_factory=dict[str, Any])
    scopes: tuple[str, ...] = ()
    origin: Origin = NOWHERE


Resource = App | Component | Configuration | HTTPEndpoint | Subscription | Resiliency | Other
"""Any resource."""
