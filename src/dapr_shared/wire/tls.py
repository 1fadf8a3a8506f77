"""TLS of the shared listeners: files become contexts, and a client's certificate becomes data.

First step of the request road, beside both wires. What is served is replaced as a whole when the files change: new
connections get the new certificate, those that are there go on. Files that do not fit together change nothing.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_READS: Final = 3
"""How often files are read that change while they are read."""
_HTTP: Final = ["http/1.1"]
_GRPC: Final = ["h2"]


class TlsError(Exception):
    """Files that make no TLS server; the message names the flag and the file."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates come from, as PEM."""

    certificate: Path
    """The certificate with the intermediate ones behind it."""
    key: Path
    """Its private key, not encrypted."""
    client_ca: Path | None = None
    """Authorities of client certificates; `None`: clients are not asked for one."""
    client_required: bool = True
    """Whether a client without a certificate is refused at the handshake."""

    def paths(self) -> list[Path]:
        """The files, for watching."""
        return [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files held together."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        return "TlsMaterial(…)"  # there is a private key in it


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a client's certificate says, after its chain was verified against the authorities."""

    fingerprint: str
    """SHA-256 of the certificate, 64 lower-case hexadecimal digits."""
    uris: tuple[str, ...] = ()
    """Subject alternative names of kind URI; a SPIFFE id is one."""
    dns_names: tuple[str, ...] = ()
    """Those of kind DNS, in lower case."""
    not_after: float = float("inf")
    """Seconds since 1970. Afterwards it proves nothing, also on a connection that was made before."""


class ServerTls:
    """What TLS listeners serve now."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files. Raises `TlsError`. Blocks."""
        self.files = files
        material, context, grpc_context = _load(files)
        self.material: TlsMaterial = material
        self.context: ssl.SSLContext = context
        """For HTTP; a new object after each reload, so that no session outlives its authorities."""
        self.grpc_context: ssl.SSLContext = grpc_context
        """For gRPC, likewise."""

    @property
    def not_after(self) -> float:
        """When the certificate being served expires, in seconds since 1970."""
        return _not_after(self.material.certificate)

    def reload(self) -> bool:
        """Read the files again; whether they hold something else. Raises `TlsError`, and nothing has changed. Blocks."""
        material, context, grpc_context = _load(self.files)
        if material == self.material:
            return False
        self.material, self.context, self.grpc_context = material, context, grpc_context
        return True


def _load(files: TlsFiles) -> tuple[TlsMaterial, ssl.SSLContext, ssl.SSLContext]:
    for _ in range(_READS):
        material = _read(files)
        contexts = _context(files, material, _HTTP), _context(files, material, _GRPC)
        if _read(files) == material:  # what the contexts hold is what was read
            return material, *contexts
    raise TlsError("the TLS files change all the time; they are read again when they rest")


def _read(files: TlsFiles) -> TlsMaterial:
    return TlsMaterial(
        _bytes(files.certificate, "--tls-cert"),
        _bytes(files.key, "--tls-key"),
        _bytes(files.client_ca, "--tls-client-ca") if files.client_ca else None,
    )


def _bytes(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{flag} {path}: {error.strerror or error}") from error


def _context(files: TlsFiles, material: TlsMaterial, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No resumption: each connection shows its certificate again. (RFC 5246 renegotiation is of no use here either.)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_alpn_protocols(protocols)
    try:
        context.load_cert_chain(files.certificate, files.key, _no_password)
    except ssl.SSLError as error:
        raise TlsError(f"{_pair(files)}: {_reason_of_pair(error)}") from error
    except (OSError, ValueError) as error:
        raise TlsError(f"{_pair(files)}: {error}") from error
    _not_after(material.certificate)
    if material.client_ca is not None:
        try:
            context.load_verify_locations(cadata=material.client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"--tls-client-ca {files.client_ca}: holds no certificates in PEM form") from error
        context.verify_mode = ssl.CERT_REQUIRED if files.client_required else ssl.CERT_OPTIONAL
    return context


def _pair(files: TlsFiles) -> str:
    return f"--tls-cert {files.certificate} with --tls-key {files.key}"


def _reason_of_pair(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return f"not a certificate and a key in PEM form ({error.reason or error})"


def _no_password() -> str:
    raise ValueError("the key is encrypted; store it without a password, readable by this user alone")


def _not_after(certificate: bytes) -> float:
    from cryptography import x509  # noqa: PLC0415 - loaded only where there is TLS

    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise TlsError(f"the certificate is not readable: {error}") from error


@lru_cache(maxsize=1024)
def peer_certificate(der: bytes) -> PeerCertificate:
    """What a verified certificate says. One whose names cannot be read has its fingerprint alone."""
    from cryptography import x509  # noqa: PLC0415 - loaded only where clients have certificates

    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        parsed = x509.load_der_x509_certificate(der)
        not_after = parsed.not_valid_after_utc.timestamp()
    except ValueError:
        return PeerCertificate(fingerprint, not_after=0.0)  # OpenSSL took it, this reader does not: it proves nothing
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
        dns_names = tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        uris, dns_names = (), ()
    return PeerCertificate(fingerprint, uris, dns_names, not_after)
