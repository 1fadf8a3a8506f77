"""The settings of an instance: one annotated field a flag, for decoding, help and the reference page.

Before both roads. Names, defaults and meanings of Dapr's flags are daprd's (reference daprd-flags §2); flags of our own
stand at the end. A flag that has no effect in this version is accepted and says so once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

MIB = 1024 * 1024
KIB = 1024


PROTOCOLS = ("http", "https", "h2c", "grpc", "grpcs")
DISCOVERED = ("apps", "services", "pods")
"""Where an instance in a cluster looks for apps."""
ALL_NAMESPACES = "*"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


class FlagKind(Enum):
    """How the text of a flag is read (reference daprd-flags §1)."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    LIST = "list"
    """Comma separated, repeated, or both; an empty value is an empty list."""
    DURATION = "duration"
    """Go syntax, seconds as `float`."""
    QUANTITY = "quantity"
    """Kubernetes quantity, bytes as `int`."""
    PORT = "port"
    """A number as text; empty and 0 mean none."""


@dataclass(frozen=True, slots=True)
class Flag:
    """The annotation of one setting."""

    doc: str
    kind: FlagKind = FlagKind.TEXT
    effect: bool = True
    """False: accepted, without effect in this version."""
    own: bool = False
    """True: not one of daprd's."""
    choices: tuple[str, ...] = ()
    minimum: float | None = None


_T, _I, _B, _L, _D, _Q, _P = (
    FlagKind.TEXT, FlagKind.INTEGER, FlagKind.BOOLEAN, FlagKind.LIST, FlagKind.DURATION, FlagKind.QUANTITY,
    FlagKind.PORT,
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one instance."""

    # The app of single-app mode
    app_id: Annotated[
        str, Flag("App id. Given, and without --multi-app: single-app mode, every request is this app's.")
    ] = ""
    app_port: Annotated[int, Flag("Port of the app; 0: the app is not called.", _P)] = 0
    app_protocol: Annotated[str, Flag("Protocol of the app: http, https, h2c, grpc or grpcs.")] = "http"
    app_channel_address: Annotated[str, Flag("Host name or address of the app.")] = "127.0.0.1"
    app_max_concurrency: Annotated[int, Flag("Calls in flight to the app at most; 0 or less: no limit.", _I)] = -1
    app_ssl: Annotated[bool, Flag("Deprecated: use --app-protocol https or grpcs.", _B)] = False
    app_health_check_path: Annotated[str, Flag("Path of the app's HTTP health check.")] = "/healthz"
    app_health_probe_interval: Annotated[int, Flag("Seconds between two health probes.", _I)] = 5
    app_health_probe_timeout: Annotated[int, Flag("Milliseconds that one health probe may take.", _I)] = 500
    app_health_threshold: Annotated[int, Flag("Failed probes that make the app unhealthy.", _I)] = 3
    enable_app_health_check: Annotated[bool, Flag("Probe the app's health.", _B)] = False
    app_binding_options_timeout: Annotated[
        float, Flag("How long an app may take to say whether it wants an input binding.", _D, effect=False)
    ] = 3.0
    # Resources
    resources_path: Annotated[tuple[str, ...], Flag("Directory or file with resources; may repeat.", _L)] = ()
    components_path: Annotated[str, Flag("Deprecated: use --resources-path.")] = ""
    config: Annotated[
        tuple[str, ...],
        Flag("Configuration file; may repeat. With --mode=kubernetes the name of a Configuration of the cluster.", _L),
    ] = ()
    # Front doors
    dapr_http_port: Annotated[int, Flag("Port of the HTTP API.", _P)] = 3500
    dapr_grpc_port: Annotated[int, Flag("Port of the gRPC API.", _P)] = 50001
    dapr_internal_grpc_port: Annotated[
        int,
        Flag(
            "Port where other instances and daprd sidecars call the apps of this one. 0: with --app-id a port of its own, "
            "else none outside a cluster.",
            _P,
        ),
    ] = 0
    dapr_internal_grpc_listen_address: Annotated[str, Flag("Address of --dapr-internal-grpc-port; empty: all.")] = ""
    dapr_listen_addresses: Annotated[tuple[str, ...], Flag("Addresses of the HTTP and gRPC API; empty: all.", _L)] = ()
    dapr_public_port: Annotated[int, Flag("Port that serves health (and metadata in single-app mode).", _P)] = 0
    dapr_public_listen_address: Annotated[str, Flag("Address of the public port; empty: all.")] = ""
    unix_domain_socket: Annotated[
        str, Flag("Directory for Unix sockets, in place of the ports of the HTTP and gRPC API.")
    ] = ""
    allowed_origins: Annotated[str, Flag("Origins that browsers may call from; empty: no CORS.", effect=False)] = ""
    max_body_size: Annotated[int, Flag("Largest request body, for example 4Mi; 0: no limit.", _Q)] = 4 * MIB
    dapr_http_max_request_size: Annotated[int, Flag("Deprecated: use --max-body-size. In MiB.", _I)] = -1
    read_buffer_size: Annotated[int, Flag("Largest HTTP request header, for example 4Ki.", _Q)] = 4 * KIB
    dapr_http_read_buffer_size: Annotated[int, Flag("Deprecated: use --read-buffer-size. In KiB.", _I)] = -1
    # Life
    dapr_graceful_shutdown_seconds: Annotated[
        int, Flag("Seconds that calls in flight may take at shutdown; 0: no limit.", _I)
    ] = 5
    dapr_block_shutdown_duration: Annotated[
        float, Flag("How long the API stays up after a signal, or until the app is unhealthy.", _D)
    ] = 0.0
    mode: Annotated[str, Flag("standalone or kubernetes.", choices=("standalone", "kubernetes"))] = "standalone"
    disable_init_endpoints: Annotated[
        tuple[str, ...], Flag("App endpoints not to call at start: config, subscribe.", _L, effect=False)
    ] = ()
    # Observability
    enable_metrics: Annotated[bool, Flag("Serve Prometheus metrics.", _B)] = True
    metrics_port: Annotated[int, Flag("Port of the metrics.", _P)] = 9090
    metrics_listen_address: Annotated[str, Flag("Address of the metrics.")] = "0.0.0.0"  # noqa: S104 - daprd's default
    log_level: Annotated[str, Flag("debug, info, warn, error or fatal.")] = "info"
    log_as_json: Annotated[bool, Flag("Write the log as JSON.", _B)] = False
    log_file: Annotated[str, Flag("Write the log to this file.")] = ""
    enable_api_logging: Annotated[bool | None, Flag("Log every API call.", _B)] = None
    enable_profiling: Annotated[bool, Flag("Serve Go profiles.", _B, effect=False)] = False
    profile_port: Annotated[int, Flag("Port of the profiles.", _P, effect=False)] = 7777
    # What Dapr's control plane would be asked for
    control_plane_address: Annotated[str, Flag("Address of the Dapr operator.", effect=False)] = ""
    control_plane_namespace: Annotated[str, Flag("Namespace of Dapr's control plane.", effect=False)] = "default"
    control_plane_trust_domain: Annotated[str, Flag("Trust domain of the control plane.", effect=False)] = "localhost"
    sentry_address: Annotated[str, Flag("Address of Dapr's certificate authority.", effect=False)] = ""
    sentry_request_jwt_audiences: Annotated[tuple[str, ...], Flag("Audiences of the token.", _L, effect=False)] = ()
    enable_mtls: Annotated[bool, Flag("mTLS between instances.", _B, effect=False)] = False
    disable_builtin_k8s_secret_store: Annotated[
        bool, Flag("No built-in Kubernetes secret store.", _B, effect=False)
    ] = False
    placement_host_address: Annotated[str, Flag("Addresses of Dapr's placement service.", effect=False)] = ""
    scheduler_host_address: Annotated[tuple[str, ...], Flag("Addresses of the scheduler.", _L, effect=False)] = ()
    scheduler_job_streams: Annotated[int, Flag("Streams to each scheduler.", _I, effect=False)] = 3
    actors_disseminate_timeout: Annotated[float, Flag("Placement round.", _D, effect=False)] = 30.0
    actors_service: Annotated[str, Flag("Deprecated, no effect in daprd either.", effect=False)] = ""
    reminders_service: Annotated[str, Flag("Deprecated, no effect in daprd either.", effect=False)] = ""
    hot_reload_reconcile_interval: Annotated[float, Flag("Extra reload interval.", _D, effect=False)] = 0.0
    # Our own
    apps: Annotated[
        tuple[str, ...], Flag("File or directory with App resources; may repeat. Multi-app mode.", _L, own=True)
    ] = ()
    multi_app: Annotated[
        bool,
        Flag(
            "Serve many apps, also with --app-id: that app is then one of them, and DAPR_API_TOKEN is the token that "
            "proves it.",
            _B,
            own=True,
        ),
    ] = False
    watch_namespaces: Annotated[
        tuple[str, ...],
        Flag(
            "Namespaces whose apps and resources are served (--mode=kubernetes, many apps); * is all; "
            "empty: the instance's own.",
            _L,
            own=True,
        ),
    ] = ()
    discover: Annotated[
        tuple[str, ...],
        Flag(
            "Where apps are looked for in the cluster: App resources (apps), annotated Services (services) and "
            "annotated Pods (pods).",
            _L,
            own=True,
        ),
    ] = DISCOVERED
    cluster_domain: Annotated[
        str,
        Flag(
            "DNS domain of the cluster, in names of Services such as orders.shop.svc.cluster.local. Empty: what "
            "/etc/resolv.conf of the pod says, else cluster.local.",
            own=True,
        ),
    ] = ""
    service_account_audience: Annotated[
        str,
        Flag(
            "Audience of the service account tokens that prove apps; empty: a service account token proves nothing.",
            own=True,
        ),
    ] = ""
    service_account_verification: Annotated[
        str,
        Flag(
            "How service account tokens are verified: review asks the API server, keys uses the cluster's public keys.",
            own=True,
            choices=("review", "keys"),
        ),
    ] = "review"
    identify_by_address: Annotated[
        bool, Flag("The address of a pod on the same node proves the pod's app.", _B, own=True)
    ] = False
    grpc_engine: Annotated[
        str,
        Flag(
            "gRPC engine: http2 (our own) or aio (grpc.aio).",
            own=True,
            choices=("http2", "aio"),
        ),
    ] = "http2"
    tls_cert: Annotated[
        str, Flag("Certificate of the HTTP and gRPC API, PEM: they speak TLS. Read again when it changes.", own=True)
    ] = ""
    tls_key: Annotated[str, Flag("Private key of --tls-cert, PEM, not encrypted.", own=True)] = ""
    tls_client_ca: Annotated[
        str, Flag("Authorities of client certificates, PEM: a client's certificate proves its app.", own=True)
    ] = ""
    tls_client_auth: Annotated[
        str,
        Flag(
            "required: clients without a certificate are refused; optional: over HTTP they may use a token in its "
            "place, and gRPC asks for none.",
            own=True,
            choices=("required", "optional"),
        ),
    ] = "required"
    max_calls_per_app: Annotated[int, Flag("API calls of one app in flight; 0: no limit.", _I, own=True)] = 1000
    data_dir: Annotated[
        str, Flag("Directory of the embedded state store; default: the user's state directory.", own=True)
    ] = ""
    app_delivery_timeout: Annotated[
        float,
        Flag(
            "How long an app may work on one message before it counts as failed; 0: no limit. A component's own "
            "limit goes first.",
            _D,
            own=True,
            minimum=0,
        ),
    ] = 1800.0
    allow_external_urls: Annotated[
        tuple[str, ...],
        Flag("Hosts that apps of a multi-app instance may invoke by absolute URL; default: none.", _L, own=True),
    ] = ()

    @property
    def single_app(self) -> bool:
        """Whether every request is the one app's, chosen at start and never by counting."""
        return bool(self.app_id) and not self.multi_app

    @property
    def in_cluster(self) -> bool:
        """Whether resources come from a Kubernetes API server."""
        return self.mode == "kubernetes"


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """One flag, as parsing, help and documentation read it."""

    attribute: str
    name: str
    """Without the leading dashes."""
    flag: Flag
    default: Any


def flags() -> list[FlagSpec]:
    """All flags in order."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        FlagSpec(
            info.name,
            info.name.replace("_", "-"),
            next(a for a in get_args(hints[info.name]) if isinstance(a, Flag)),
            info.default,
        )
        for info in msgspec.structs.fields(Settings)
    ]


class SettingsError(Exception):
    """Settings that do not fit together or are out of range; the message names the flag and what to do."""


def check(settings: Settings) -> Settings:
    """Apply daprd's rules on values (reference daprd-flags §2). Raises `SettingsError`."""
    if settings.single_app and settings.apps:
        raise SettingsError(
            "--app-id and --apps exclude each other: --app-id starts an instance for one app, --apps one for many; "
            "with --multi-app the app of --app-id is one of many"
        )
    _check_cluster(settings)
    if settings.log_level.lower() not in LOG_LEVELS:
        raise SettingsError(f"--log-level {settings.log_level!r} is not one of {', '.join(LOG_LEVELS)}")
    _check_tls(settings)
    wrong = [name for name in settings.disable_init_endpoints if name not in ("config", "subscribe")]
    if wrong:
        raise SettingsError(f"--disable-init-endpoints {wrong[0]!r} is not one of config, subscribe")
    return _with_old_names(_with_health_defaults(_with_protocol(settings)))


_OF_CLUSTERS = (
    "watch_namespaces", "discover", "service_account_audience", "service_account_verification", "identify_by_address",
)  # fmt: skip
"""Settings of an instance that serves many apps in a cluster."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def _check_cluster(settings: Settings) -> None:
    if not settings.in_cluster or settings.single_app:
        default = Settings()
        for name in _OF_CLUSTERS:
            if getattr(settings, name) != getattr(default, name):
                need = "--multi-app beside --app-id" if settings.in_cluster else "--mode=kubernetes"
                raise SettingsError(f"--{name.replace('_', '-')} needs {need}: it is about many apps in a cluster")
    wrong = [name for name in settings.discover if name not in DISCOVERED]
    if wrong:
        raise SettingsError(f"--discover {wrong[0]!r} is not one of {', '.join(DISCOVERED)}")
    names = settings.watch_namespaces
    if ALL_NAMESPACES in names and len(names) > 1:
        raise SettingsError("--watch-namespaces: * is all namespaces; name no others beside it")
    wrong = [name for name in names if name != ALL_NAMESPACES and not _NAMESPACE.fullmatch(name)]
    if wrong:
        raise SettingsError(f"--watch-namespaces: {wrong[0]!r} is not the name of a namespace")
    if settings.cluster_domain and not _DOMAIN.fullmatch(settings.cluster_domain):
        raise SettingsError(
            f"--cluster-domain {settings.cluster_domain!r} is not a DNS domain: lower-case names with dots between them, "
            "such as cluster.local"
        )


def _check_tls(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("--tls-cert and --tls-key belong together: give both or none")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError("--tls-client-ca needs --tls-cert and --tls-key: without TLS no client has a certificate")
    if settings.tls_client_auth == "optional" and not settings.tls_client_ca:
        raise SettingsError("--tls-client-auth needs --tls-client-ca")
    if settings.tls_cert and settings.unix_domain_socket:
        raise SettingsError("--tls-cert and --unix-domain-socket exclude each other: Unix sockets speak no TLS")


def _with_protocol(settings: Settings) -> Settings:
    protocol = settings.app_protocol.lower()
    if protocol not in PROTOCOLS:
        raise SettingsError(f"--app-protocol {settings.app_protocol!r} is not one of {', '.join(PROTOCOLS)}")
    if settings.app_ssl and protocol in ("http", "grpc"):
        protocol += "s"
    if settings.app_port and settings.app_port in (settings.dapr_http_port, settings.dapr_grpc_port):
        raise SettingsError(
            f"--app-port {settings.app_port} is also the port of this instance's own API; choose another port for one"
        )
    return msgspec.structs.replace(settings, app_protocol=protocol)


def _with_health_defaults(settings: Settings) -> Settings:
    interval = settings.app_health_probe_interval if settings.app_health_probe_interval > 0 else 5
    timeout = settings.app_health_probe_timeout if settings.app_health_probe_timeout > 0 else 500
    if timeout > interval * 1000:
        raise SettingsError("--app-health-probe-timeout is longer than --app-health-probe-interval")
    grace = settings.dapr_graceful_shutdown_seconds
    return msgspec.structs.replace(
        settings,
        app_health_probe_interval=interval,
        app_health_probe_timeout=timeout,
        app_health_threshold=settings.app_health_threshold if settings.app_health_threshold >= 1 else 3,
        dapr_graceful_shutdown_seconds=grace if grace >= 0 else 5,
    )


def _with_old_names(settings: Settings) -> Settings:
    """Deprecated flags count where the new one was not given."""
    changes: dict[str, Any] = {}
    if settings.components_path and not settings.resources_path:
        changes["resources_path"] = (settings.components_path,)
    if settings.dapr_http_max_request_size >= 0 and settings.max_body_size == 4 * MIB:
        changes["max_body_size"] = settings.dapr_http_max_request_size * MIB
    if settings.dapr_http_read_buffer_size >= 0 and settings.read_buffer_size == 4 * KIB:
        changes["read_buffer_size"] = settings.dapr_http_read_buffer_size * KIB
    return msgspec.structs.replace(settings, **changes)
