"""The settings of `bindings.http`, and the TLS context that they make.

Beside both roads: decoded once, when the component is opened.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings


class HttpBindingSettings(Settings, frozen=True, kw_only=True):
    """The settings of `bindings.http`; all are daprd's."""

    url: Annotated[
        str,
        Setting("Where to send requests; the request's metadata `path` is added.", example="https://api.example.com"),
    ]
    response_timeout: Annotated[
        float,
        Setting(
            "How long to wait for the whole answer; 0: without limit.",
            Kind.DURATION,
            unit="seconds",
            minimum=0,
            example="10s",
        ),
    ] = 0.0
    max_response_body_size: Annotated[
        int,
        Setting(
            "Bytes of an answer that are read, the rest is cut off; 0: all.", Kind.BYTES, unit="bytes", example="100Mi"
        ),
    ] = 100 * 1024 * 1024
    error_if_not_2xx: Annotated[
        bool, Setting("Whether an answer that is not 2xx is an error.", Kind.BOOLEAN, name="errorIfNot2XX")
    ] = True
    security_token: Annotated[
        str,
        Setting(
            "A token sent with each request, in securityTokenHeader; then redirects are not followed.", secret=True
        ),
    ] = ""
    security_token_header: Annotated[str, Setting("The header of securityToken.")] = ""
    mtls_root_ca: Annotated[
        str, Setting("Certificates that the endpoint's must be signed by: PEM, or a path.", name="MTLSRootCA")
    ] = ""
    mtls_client_cert: Annotated[
        str, Setting("Certificate to show to the endpoint: PEM, or a path.", name="MTLSClientCert")
    ] = ""
    mtls_client_key: Annotated[str, Setting("Its key: PEM, or a path.", name="MTLSClientKey", secret=True)] = ""
    mtls_renegotiation: Annotated[
        str,
        Setting(
            "Accepted for compatibility; TLS is never renegotiated.",
            name="MTLSRenegotiation",
            choices=("", "RenegotiateNever", "RenegotiateOnceAsClient", "RenegotiateFreelyAsClient"),
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what no single annotation says. Raises `SettingError`."""
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            valid = False
        if not valid or any(c.isspace() for c in self.url):
            raise SettingError("url", "must be an http:// or https:// URL")
        if bool(self.security_token) != bool(self.security_token_header):
            raise SettingError("securityTokenHeader", "securityToken and securityTokenHeader go together")
        if bool(self.mtls_client_cert) != bool(self.mtls_client_key):
            raise SettingError("MTLSClientKey", "MTLSClientCert and MTLSClientKey go together")


def tls_context(settings: HttpBindingSettings) -> ssl.SSLContext:
    """The context of HTTPS connections; reads files. Raises `BackendError`."""
    try:
        authority = _pem(settings.mtls_root_ca) if settings.mtls_root_ca else None
        context = ssl.create_default_context(cadata=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.mtls_client_cert:
            _load_chain(context, _pem(settings.mtls_client_cert), _pem(settings.mtls_client_key))
    except OSError as error:  # `ssl.SSLError` is one: of what cannot be parsed
        raise BackendError(f"the certificates cannot be used: {error.strerror or type(error).__name__}") from error
    return context


def _pem(text: str) -> str:
    return text if "-----BEGIN " in text else Path(text).read_text(encoding="ascii", errors="replace")


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Python reads them from a file alone: one that only we can open, for a moment."""
    with tempfile.NamedTemporaryFile("w", encoding="ascii", prefix="dapr-shared-", suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        context.load_cert_chain(file.name)
