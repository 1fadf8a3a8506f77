"""The App resource, from fields to data. Ours, so strict: an unknown field or a wrong type is an error.

Before both roads: a step of loading.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from dapr_shared.core.ids import DEFAULT_NAMESPACE, app_id_problem
from dapr_shared.resources.model import (
    App,
    AppChannel,
    AppSecrets,
    CertificateName,
    ChannelProtocol,
    ChannelTls,
    HealthCheck,
    Listeners,
    MetadataItem,
    SecretKeyRef,
    SecretScope,
    TokenSource,
)

if TYPE_CHECKING:
    from dapr_shared.resources.fields import Fields

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHA256_OF_NOTHING = hashlib.sha256().hexdigest()
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
LONGEST_SOCKET_PATH = 107  # bytes: the kernel's sun_path is 108 with the end mark
_SERVICE_ACCOUNT = re.compile(rf"(?:({_NAMESPACE.pattern}):)?([a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?)")
_KUBERNETES_METADATA = (
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "selfLink",
    "generateName",
)
_PLAIN_DEFAULT_PORT, _TLS_DEFAULT_PORT = 80, 443
_TLS_PROTOCOLS = frozenset({ChannelProtocol.HTTPS, ChannelProtocol.GRPCS})


def app(fields: Fields, *, namespace: str, folder: str) -> App:
    """Decode an App; what is wrong is in the fields' report.

    `namespace` is the one of a resource that names none; relative file paths begin at `folder`.
    """
    metadata, spec = fields.section("metadata"), fields.section("spec")
    metadata.known(*_KUBERNETES_METADATA)
    fields.known("apiVersion", "kind", "status")
    name = metadata.text("name", required=True)
    given_namespace = metadata.text("namespace") or namespace or DEFAULT_NAMESPACE
    if not _NAMESPACE.fullmatch(given_namespace):
        metadata.wrong("namespace", "is not a namespace: 1 to 63 lower-case letters, digits and '-', not '-' at an end")
    app_id = spec.text("appId", name)
    if (name or spec.has("appId")) and (problem := app_id_problem(app_id)):
        place, field = (spec, "appId") if spec.has("appId") else (metadata, "name")
        place.wrong(field, problem)
    auth = fields.section("auth")
    result = App(
        name=name,
        namespace=given_namespace,
        app_id=app_id,
        channel=_channel(spec.section("channel"), folder) if spec.has("channel") else None,
        tokens=tuple(_token(token) for token in spec.sections("tokens")),
        certificates=tuple(_certificate(each) for each in spec.sections("certificates")),
        listeners=_listeners(spec.section("listeners"), folder),
        secrets=AppSecrets(scopes=secret_scopes(spec.section("secrets"))),
        service_account=_service_account(spec, given_namespace),
        configuration=spec.text("configuration"),
        log_level=spec.choice("logLevel", LOG_LEVELS, "") if spec.has("logLevel") else "",
        api_logging=spec.boolean("apiLogging") if spec.has("apiLogging") else None,
        secret_store=auth.text("secretStore"),
        origin=fields.report.origin(fields.line),
    )
    for section in (metadata, spec, auth, fields):
        section.finish()
    return result


def secret_scopes(secrets: Fields) -> tuple[SecretScope, ...]:
    """The `scopes` of a `secrets` section, of an App as of a Configuration."""
    scopes: list[SecretScope] = []
    for scope in secrets.sections("scopes"):
        store = scope.text("storeName", required=True)
        if any(known.store_name == store for known in scopes):
            scope.wrong("storeName", f"the store {store} has a scope already")
        scopes.append(
            SecretScope(
                store_name=store,
                default_allow=scope.choice("defaultAccess", ("allow", "deny"), "allow") == "allow",
                allowed_secrets=scope.texts("allowedSecrets"),
                denied_secrets=scope.texts("deniedSecrets"),
            )
        )
        scope.finish()
    secrets.finish()
    return tuple(scopes)


def secret_key_ref(fields: Fields) -> SecretKeyRef:
    """A `secretKeyRef`."""
    reference = SecretKeyRef(name=fields.text("name", required=True), key=fields.text("key"))
    fields.finish()
    return reference


# Channel -----------------------------------------------------------------------------------------------------------
class _Target(NamedTuple):
    protocol: ChannelProtocol
    address: str
    port: int


def _channel(channel: Fields, folder: str) -> AppChannel:
    target = _target_of_url(channel) if channel.has("url") else _target(channel)
    for name in ("protocol", "address", "port"):
        if channel.has("url") and channel.has(name):
            channel.wrong(name, "stands beside url, which says it already; leave one of them out")
    if channel.has("tls") and target.protocol not in _TLS_PROTOCOLS:
        channel.wrong("tls", f"is for the protocols https and grpcs; this channel's is {target.protocol}")
    result = AppChannel(
        protocol=target.protocol,
        address=target.address,
        port=target.port,
        max_concurrency=channel.integer("maxConcurrency", minimum=0),
        tls=_tls(channel.section("tls"), folder) if channel.has("tls") else None,
        health_check=_health_check(channel.section("healthCheck")),
        api_token=_api_token(channel.section("apiToken")) if channel.has("apiToken") else None,
    )
    channel.known("protocol", "address", "port", "url")
    channel.finish()
    return result


def _target(channel: Fields) -> _Target:
    protocol = ChannelProtocol(channel.choice("protocol", list(ChannelProtocol), ChannelProtocol.HTTP))
    address = channel.text("address", "127.0.0.1")
    if (problem := _address_problem(address)) is not None:
        channel.wrong("address", problem)
    if not channel.has("port"):
        channel.wrong("port", "is required: a whole number from 1 to 65535 (or give url)")
    return _Target(protocol, address.strip("[]"), channel.integer("port", 1, minimum=1, maximum=65535))


def _target_of_url(channel: Fields) -> _Target:
    """A wrong URL is not shown: a password may be in it."""
    fallback = _Target(ChannelProtocol.HTTP, "127.0.0.1", 1)
    expected = "expected a URL such as http://127.0.0.1:8000 (http, https, h2c, grpc or grpcs)"
    text = channel.text("url", secret=True)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        channel.wrong("url", f"{expected}, found a text that is no URL")
        return fallback
    if parts.scheme not in list(ChannelProtocol):
        channel.wrong("url", f"{expected}, found another scheme or none")
        return fallback
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        channel.wrong("url", f"{expected}, found more than scheme, host and port")
        return fallback
    if (problem := _address_problem(host)) is not None or port == 0:
        channel.wrong("url", problem or f"{expected}, found the port 0")
        return fallback
    protocol = ChannelProtocol(parts.scheme)
    return _Target(protocol, host, port or (_TLS_DEFAULT_PORT if protocol in _TLS_PROTOCOLS else _PLAIN_DEFAULT_PORT))


def _address_problem(address: str) -> str | None:
    if _HOST.fullmatch(address):
        return None
    try:
        ipaddress.ip_address(address[1:-1] if address.startswith("[") and address.endswith("]") else address)
    except ValueError:
        return "is not a host name or an IP address (a port or a scheme does not belong here)"
    return None


def _tls(tls: Fields, folder: str) -> ChannelTls:
    result = ChannelTls(
        ca_file=_file(tls.text("caFile"), folder),
        cert_file=_file(tls.text("certFile"), folder),
        key_file=_file(tls.text("keyFile"), folder),
        server_name=tls.text("serverName"),
    )
    if bool(result.cert_file) != bool(result.key_file):
        tls.wrong("", "certFile and keyFile belong together: give both or none")
    tls.finish()
    return result


def _health_check(check: Fields) -> HealthCheck:
    defaults = HealthCheck()
    result = HealthCheck(
        enabled=check.boolean("enabled", default=defaults.enabled),
        path=check.text("path", defaults.path),
        interval=check.number("intervalSeconds", defaults.interval, above=0, maximum=86400),
        timeout=check.number("timeoutMs", defaults.timeout * 1000, above=0, maximum=3_600_000) / 1000,
        threshold=check.integer("threshold", defaults.threshold, minimum=1),
    )
    if not result.path.startswith("/"):
        check.wrong("path", "does not begin with '/'")
    if result.timeout > result.interval:
        check.wrong("timeoutMs", "is longer than intervalSeconds")
    check.finish()
    return result


# Evidence ----------------------------------------------------------------------------------------------------------
def _api_token(source: Fields) -> MetadataItem:
    _exactly_one(source, ("value", "secretKeyRef", "envRef"))
    result = MetadataItem(
        name="apiToken",
        value=_given_text(source, "value", secret=True) if source.has("value") else None,
        secret_key_ref=_reference(source),
        env_ref=_given_text(source, "envRef"),
    )
    source.finish()
    return result


def _token(source: Fields) -> TokenSource:
    _exactly_one(source, ("sha256", "secretKeyRef", "envRef"))
    sha256 = _given_text(source, "sha256", secret=True)
    if sha256 and not _SHA256.fullmatch(sha256):
        source.wrong("sha256", f"expected 64 hexadecimal digits, found a text of {len(sha256)} characters (not shown)")
    if sha256.lower() == _SHA256_OF_NOTHING:
        source.wrong("sha256", "is the hash of an empty text, which is no token")
    result = TokenSource(
        sha256=sha256.lower(), secret_key_ref=_reference(source), env_ref=_given_text(source, "envRef")
    )
    source.finish()
    return result


def _certificate(source: Fields) -> CertificateName:
    _exactly_one(source, ("spiffeId", "dnsName", "sha256"))
    result = CertificateName(
        spiffe_id=_given_text(source, "spiffeId"),
        dns_name=_given_text(source, "dnsName").lower(),
        sha256=_given_text(source, "sha256").replace(":", "").lower(),
    )
    if result.spiffe_id and not _SPIFFE_ID.fullmatch(result.spiffe_id):
        source.wrong("spiffeId", "is not a SPIFFE id such as spiffe://example.org/ns/shop/sa/orders")
    if result.dns_name and (_HOST.fullmatch(result.dns_name) is None or result.dns_name.endswith(".")):
        source.wrong("dnsName", "is not a host name (a pattern with '*' proves no single app)")
    if result.sha256 and not _SHA256.fullmatch(result.sha256):
        source.wrong("sha256", "expected the SHA-256 fingerprint of the certificate, 64 hexadecimal digits")
    source.finish()
    return result


def _service_account(spec: Fields, namespace: str) -> str:
    """`namespace:name`; a name alone is of the app's own namespace."""
    text = _given_text(spec, "serviceAccount")
    found = _SERVICE_ACCOUNT.fullmatch(text)
    if text and found is None:
        spec.wrong("serviceAccount", "is not the name of a service account, alone or as namespace:name")
    return f"{found[1] or namespace}:{found[2]}" if found else ""


def _given_text(source: Fields, name: str, *, secret: bool = False) -> str:
    """A text that may be absent, but not empty."""
    return source.text(name, required=source.has(name), secret=secret)


def _reference(source: Fields) -> SecretKeyRef | None:
    if not source.has("secretKeyRef"):
        return None
    return secret_key_ref(source.section("secretKeyRef"))


def _exactly_one(source: Fields, names: tuple[str, ...]) -> None:
    given = [name for name in names if source.has(name)]
    if source and len(given) != 1:
        source.wrong("", f"expected exactly one of {', '.join(names)}, found {' and '.join(given) or 'none'}")


def _listeners(listeners: Fields, folder: str) -> Listeners:
    def port(name: str) -> int | None:
        return listeners.integer(name, 1, minimum=1, maximum=65535) if listeners.has(name) else None

    result = Listeners(
        http_port=port("httpPort"),
        grpc_port=port("grpcPort"),
        unix_socket=_file(listeners.text("unixSocket"), folder),
    )
    if "\0" in result.unix_socket:
        listeners.wrong("unixSocket", "holds a NUL character")
    if len(os.fsencode(result.unix_socket)) > LONGEST_SOCKET_PATH:
        listeners.wrong("unixSocket", f"is a path of more than {LONGEST_SOCKET_PATH} bytes; sockets cannot have it")
    listeners.finish()
    return result


def _file(path: str, folder: str) -> str:
    return os.path.join(folder, path) if path and folder else path  # noqa: PTH118 - text in, text out
