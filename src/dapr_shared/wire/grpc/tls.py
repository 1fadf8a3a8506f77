"""TLS of the gRPC listeners on grpc.aio: the credentials, and a call's client certificate.

First step of the request road. grpc asks for the certificate at each handshake, from a thread of its own; what it is
given was checked before (`wire/tls.py`). It can require client certificates or ask for none, nothing between.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc

from dapr_shared.wire.tls import peer_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.wire.tls import PeerCertificate, ServerTls, TlsMaterial


class _Secured(Protocol):
    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Credentials that follow `tls` when it is reloaded."""
    given = tls.material

    def current() -> object:
        nonlocal given
        wanted = tls.material
        if wanted is given:
            return None  # no change
        given = wanted
        return _configuration(wanted)

    required = tls.files.client_ca is not None and tls.files.client_required
    make = cast("Any", grpc).dynamic_ssl_server_credentials
    return make(_configuration(given), current, require_client_authentication=required)


def certificate_of(context: object) -> PeerCertificate | None:
    """The verified certificate of the client that made a call."""
    pem = cast("_Secured", context).auth_context().get("x509_pem_cert")
    return peer_certificate(ssl.PEM_cert_to_DER_cert(pem[0].decode("ascii"))) if pem else None


def _configuration(material: TlsMaterial) -> object:
    return cast("Any", grpc).ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )
