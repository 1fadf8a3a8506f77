"""Where the API server is, and what proves us there: from a pod's service account, or from a kubeconfig.

Beside both roads, at the start of cluster mode. A kubeconfig is data here: what would have to be run (`exec` and
`auth-provider` plugins) is refused in words, never run.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import yaml

from dapr_shared.kube.errors import KubeConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_ACCOUNT_FILES: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts `token`, `ca.crt` and `namespace`."""
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a file that is read."""


@dataclass(frozen=True, slots=True)
class Material:
    """A token, certificate or key: in a file that is read again, or given once."""

    path: Path | None = None
    given: bytes = b""

    def __repr__(self) -> str:
        return f"Material({self.path or '…'})"  # it may be a secret

    def read(self, what: str) -> bytes:
        """What it holds now. Raises `KubeConfigError`. Blocks."""
        if self.path is None:
            return self.given
        try:
            with self.path.open("rb") as file:
                return file.read(_MOST_BYTES)
        except OSError as error:
            raise KubeConfigError(f"{what} {self.path}: {error.strerror or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files held together, and the TLS made of it."""

    token: str
    """Empty: none is sent."""
    context: ssl.SSLContext | None
    """`None`: the server speaks plain HTTP."""
    sources: tuple[bytes, ...]
    """What `context` was made of."""

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """One API server and one identity there."""

    server: str
    """`https://host:port`, without a slash at the end."""
    namespace: str
    """The pod's own, or that of the kubeconfig's context."""
    origin: str
    """Where this comes from, for texts."""
    token: Material | None = None
    authority: Material | None = None
    """CA certificates, PEM; `None`: those of the system."""
    certificate: Material | None = None
    """Of the client, PEM, with `key`."""
    key: Material | None = None
    server_name: str = ""
    """The name that the server's certificate must have; empty: that of `server`."""
    verify: bool = True
    """False only where a kubeconfig says `insecure-skip-tls-verify`."""

    def read(self, before: Credentials | None = None) -> Credentials:
        """Read all files again; the TLS context of `before` stays where nothing of it changed.

        Raises `KubeConfigError`. Blocks.
        """
        token = self.token.read("the token").decode("ascii", "replace").strip() if self.token else ""
        if any(not 0x21 <= ord(character) <= 0x7E for character in token):
            raise KubeConfigError(f"{self.origin}: the token holds characters that no token has")
        parts = (
            ("the CA file", self.authority),
            ("the client certificate", self.certificate),
            ("the client key", self.key),
        )
        sources = tuple(part.read(what) if part else b"" for what, part in parts)
        if before is not None and before.sources == sources:
            return Credentials(token, before.context, sources)
        return Credentials(token, self._context(*sources), sources)

    def _context(self, authority: bytes, certificate: bytes, key: bytes) -> ssl.SSLContext | None:
        if not self.server.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cadata=authority.decode("ascii", "replace") or None)
        except ssl.SSLError as error:
            raise KubeConfigError(f"{self.origin}: the CA file holds no certificates in PEM form") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            try:
                _load_chain(context, certificate, key)
            except (OSError, ValueError) as error:  # `ssl.SSLError` is one
                problem = error if isinstance(error, ValueError) else "not a certificate with its key in PEM form"
                raise KubeConfigError(f"{self.origin}: the client certificate: {problem}") from error
        return context


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python reads them from a file alone: one that only we can open, for a moment."""
    with tempfile.NamedTemporaryFile("wb", prefix="dapr-shared-", suffix=".pem") as file:
        file.write(certificate + b"\n" + key + b"\n")
        file.flush()
        context.load_cert_chain(file.name, None, _no_password)


def _no_password() -> str:
    raise ValueError("its key is encrypted; store it without a password")


def config_from(environ: Mapping[str, str], files: Path = SERVICE_ACCOUNT_FILES) -> KubeConfig:
    """The API server of this environment. Raises `KubeConfigError`. Blocks.

    KUBECONFIG, where it is set, is an explicit wish and goes first, as with kubectl; else the service account of the pod.
    """
    if environ.get("KUBECONFIG"):
        return _from_kubeconfig([Path(part) for part in environ["KUBECONFIG"].split(os.pathsep) if part])
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(environ, files)
    raise KubeConfigError(
        "no Kubernetes API server is known: this is no pod (KUBERNETES_SERVICE_HOST is not set), and KUBECONFIG names no file"
    )


def _in_cluster(environ: Mapping[str, str], files: Path) -> KubeConfig:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT") or "443"
    if not (files / "token").exists():
        raise KubeConfigError(
            f"{files / 'token'} is not there: the pod needs a service account whose token is mounted"
            " (automountServiceAccountToken)"
        )
    namespace = Material(files / "namespace").read("the namespace").decode("utf-8", "replace").strip()
    return KubeConfig(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=namespace or "default",
        origin="the pod's service account",
        token=Material(files / "token"),
        authority=Material(files / "ca.crt"),
    )


class _Fields:
    """One mapping of a kubeconfig, with the words to complain about it."""

    def __init__(self, data: Any, path: Path, where: str) -> None:
        if not isinstance(data, dict):
            raise KubeConfigError(f"KUBECONFIG {path}: {where} is no mapping")
        self._data: dict[Any, Any] = data
        self.path = path
        self.where = where

    def text(self, name: str) -> str:
        value = self._data.get(name)
        if value is not None and not isinstance(value, str):
            raise KubeConfigError(f"KUBECONFIG {self.path}: {name} of {self.where} must be text")
        return value or ""

    def flag(self, name: str) -> bool:
        return self._data.get(name) is True

    def material(self, file: str, data: str) -> Material | None:
        """From base64 in the field `data`, or from the file that the field `file` names, from the kubeconfig's folder."""
        if self.text(data):
            try:
                return Material(given=base64.b64decode(self.text(data), validate=True))
            except binascii.Error:
                raise KubeConfigError(f"KUBECONFIG {self.path}: {data} of {self.where} is no base64") from None
        return Material(self.path.parent / self.text(file)) if self.text(file) else None

    def refuse(self, fields: dict[str, str]) -> None:
        for field, why in fields.items():
            if self._data.get(field):
                raise KubeConfigError(f"KUBECONFIG {self.path}: {field} of {self.where} {why}")

    def named(self, many: str, one: str, name: str) -> _Fields | None:
        """The entry of this name in the list `many`, or `None`."""
        entries: Any = self._data.get(many)
        for item in cast("list[object]", entries) if isinstance(entries, list) else ():
            entry = _Fields(item, self.path, f"an entry of {many}")
            if entry.text("name") == name:
                return _Fields(entry._data.get(one) or {}, self.path, f"the {one} {name!r}")
        return None


def _from_kubeconfig(paths: list[Path]) -> KubeConfig:
    files = [_read(path) for path in paths if len(paths) == 1 or path.exists()]
    shown = os.pathsep.join(map(str, paths))
    current = next((name for file in files if (name := file.text("current-context"))), "")
    if not current:
        raise KubeConfigError(f"KUBECONFIG {shown} names no current-context")
    context = _find(files, shown, "contexts", "context", current)
    cluster = _find(files, shown, "clusters", "cluster", context.text("cluster"))
    user = _find(files, shown, "users", "user", context.text("user"))
    cluster.refuse({"proxy-url": "is not supported"})
    plugin = "is a plugin that would have to be run, which is not done: use a token or a client certificate"
    user.refuse(
        {
            "exec": plugin,
            "auth-provider": plugin,
            "username": "is not supported: use a token or a client certificate",
            "as": "(acting as another user) is not supported",
            "as-uid": "(acting as another user) is not supported",
            "as-groups": "(acting as another user) is not supported",
        }
    )
    certificate = user.material("client-certificate", "client-certificate-data")
    key = user.material("client-key", "client-key-data")
    if (certificate is None) != (key is None):
        raise KubeConfigError(
            f"KUBECONFIG {user.path}: {user.where} needs a client certificate and its key, or neither"
        )
    token = Material(user.path.parent / user.text("tokenFile")) if user.text("tokenFile") else None
    return KubeConfig(
        server=_address(cluster),
        namespace=context.text("namespace") or "default",
        origin=f"KUBECONFIG {user.path}",
        token=token or (Material(given=user.text("token").encode()) if user.text("token") else None),
        authority=cluster.material("certificate-authority", "certificate-authority-data"),
        certificate=certificate,
        key=key,
        server_name=cluster.text("tls-server-name"),
        verify=not cluster.flag("insecure-skip-tls-verify"),
    )


def _find(files: list[_Fields], shown: str, many: str, one: str, name: str) -> _Fields:
    for file in files:
        found = file.named(many, one, name)
        if found is not None:
            return found
    raise KubeConfigError(f"KUBECONFIG {shown} has no {one} {name!r}")


def _address(cluster: _Fields) -> str:
    server = cluster.text("server").rstrip("/")
    try:
        parts = urlsplit(server)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        valid = valid and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        valid = False
    if not valid:
        raise KubeConfigError(
            f"KUBECONFIG {cluster.path}: server of {cluster.where} must be an http:// or https:// URL"
        )
    return server


def _read(path: Path) -> _Fields:
    raw = Material(path).read("KUBECONFIG")
    try:
        data = yaml.safe_load(raw)
    except yaml.YAMLError:  # its text would show what the file holds
        raise KubeConfigError(f"KUBECONFIG {path} is no YAML") from None
    return _Fields(data, path, "the file")
