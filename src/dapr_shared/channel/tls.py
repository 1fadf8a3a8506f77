"""TLS towards apps: settings to contexts.

Beside step 6a of the request road, at start only. Files are read once, when a channel starts.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dapr_shared.channel.base import ChannelConfigurationError

if TYPE_CHECKING:
    from dapr_shared.resources.model import ChannelTls


def unverified_context() -> ssl.SSLContext:
    """TLS that takes any certificate: daprd's way with its app (reference http-api §13)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verified_context() -> ssl.SSLContext:
    """TLS verified against the system's certificates. Blocks: it reads them."""
    return ssl.create_default_context()


def endpoint_context(root_ca: str, certificate: str, private_key: str) -> ssl.SSLContext:
    """The context of an HTTPEndpoint's `clientTLS`, from PEM texts; an empty one is absent.

    Without `root_ca` the system's certificates are trusted. Raises `ChannelConfigurationError`. Blocks.
    """
    try:
        context = ssl.create_default_context(cadata=root_ca or None)
    except (OSError, ssl.SSLError) as exc:
        raise ChannelConfigurationError(f"clientTLS.rootCA is not usable: {exc}") from exc
    if certificate or private_key:
        # The standard library takes a key from a file only; this one is ours alone and gone at once.
        with TemporaryDirectory(prefix="dapr-shared-") as folder:
            path = Path(folder, "client.pem")
            path.touch(mode=0o600)
            path.write_text(f"{certificate}\n{private_key}\n", encoding="utf-8")
            try:
                context.load_cert_chain(path)
            except (OSError, ssl.SSLError) as exc:
                raise ChannelConfigurationError(f"clientTLS.certificate, privateKey are not usable: {exc}") from exc
    return context


def app_context(tls: ChannelTls | None) -> ssl.SSLContext:
    """The context for an app.

    Without any TLS settings the app's certificate is not verified, as daprd does with the app beside it; traffic that
    leaves the machine needs settings. With settings it is: against `ca_file`, or the system's certificates.

    Raises `ChannelConfigurationError` naming the file that cannot be used. Blocks: it reads files.
    """
    if tls is None:
        return unverified_context()
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except (OSError, ssl.SSLError) as exc:
        raise ChannelConfigurationError(f"channel.tls.caFile: cannot use {tls.ca_file}: {exc}") from exc
    if tls.cert_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file or None)
        except (OSError, ssl.SSLError) as exc:
            files = " and ".join(file for file in (tls.cert_file, tls.key_file) if file)
            raise ChannelConfigurationError(f"channel.tls.certFile, keyFile: cannot use {files}: {exc}") from exc
    return context


def read_pem(field: str, path: str) -> bytes | None:
    """A PEM file's bytes; `None` without a path. Raises `ChannelConfigurationError`. Blocks."""
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise ChannelConfigurationError(f"channel.tls.{field}: cannot read {path}: {exc.strerror or exc}") from exc
