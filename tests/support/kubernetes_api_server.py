"""A real control plane for tests: etcd, kube-apiserver and kube-controller-manager as processes on free loopback ports.

Without root, without nodes: objects, RBAC, tokens, watches and controllers are Kubernetes' own, pods stay Pending
(`KubernetesClient.run_pod` says of one that it runs). Up in about five seconds.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.certificates import Authority
from tests.support.kubernetes_client import ADMIN, KubernetesClient
from tests.support.kubernetes_programs import Child, program
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START = 120.0
"""Seconds that the control plane may take to come up on a busy machine."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
_USERS = (  # token, user, groups
    (ADMIN, "admin", "system:masters"),
    ("token-of-the-controllers", "system:kube-controller-manager", ""),
    ("token-of-the-scheduler", "system:kube-scheduler", ""),
)


class ApiServer(KubernetesClient):
    """The processes and what they need, in one folder. State is thrown away: they are killed, not stopped."""

    host = "127.0.0.1"
    """Address that the API server listens on and tells to others."""
    users: tuple[tuple[str, str, str], ...] = _USERS
    flags: tuple[str, ...] = ("--authorization-mode=RBAC", "--endpoint-reconciler-type=none")
    parts: Mapping[str, Sequence[str]] = MappingProxyType({"kube-controller-manager": ()})
    """What is started beside etcd and the API server, with flags of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._children: dict[str, Child] = {}
        self._etcd, self._etcd_peers, self._port = self._ports()

    def start(self) -> ApiServer:
        """Start everything and wait until it answers."""
        self._write_files()
        self._start_etcd()
        self.start_server()
        for part in self.parts:
            self._start_part(part)
        return self

    def start_server(self) -> None:
        """Start the API server, on the same port as before, and wait until it is ready."""
        folder = self.folder
        served = [f"--bind-address={self.host}", f"--secure-port={self._port}", f"--advertise-address={self.host}"]
        pair = [f"--tls-cert-file={folder}/kubernetes.default.svc.pem"]
        pair += [f"--tls-private-key-file={folder}/kubernetes.default.svc.key", f"--client-ca-file={self.ca}"]
        accounts = [f"--service-account-issuer={ISSUER}", f"--service-account-key-file={folder}/accounts.pub"]
        accounts += [f"--service-account-signing-key-file={folder}/accounts.key"]
        child = self._start(
            *("kube-apiserver", program("kubeall"), "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd}"),
            *(*served, *pair, *accounts, f"--token-auth-file={folder}/tokens.csv"),
            *("--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true", *self.flags),
        )
        child.wait_until(self.is_ready, START)

    def kill_server(self) -> None:
        """End the API server at once; etcd and the controllers stay."""
        self._children.pop("kube-apiserver").kill()

    def stop(self) -> None:
        """End everything."""
        while self._children:
            self._children.popitem()[1].kill()

    def is_ready(self) -> bool:
        """Whether the API server says so."""
        try:
            self.kubectl("get", "--raw", "/readyz")
        except AssertionError:
            return False
        return True

    def _ports(self) -> tuple[int, int, int]:
        etcd, peers, port = free_ports(3)
        return etcd, peers, port

    def _start(self, name: str, *command: str) -> Child:
        self._children[name] = child = Child(name, [*self.prefix, *command], self.folder)
        return child

    def _start_etcd(self) -> None:
        clients, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._etcd_peers}"
        listening = [*("--listen-client-urls", clients), *("--advertise-client-urls", clients)]
        among = [*("--listen-peer-urls", peers), *("--initial-advertise-peer-urls", peers)]
        words = [*("--data-dir", f"{self.folder}/etcd"), *listening, *among, "--unsafe-no-fsync"]
        self._start("etcd", program("etcd"), *words, *("--initial-cluster", f"default={peers}", "--log-level", "warn"))

    def _start_part(self, part: str) -> None:
        common = [f"--kubeconfig={self.folder}/{part}.conf", "--leader-elect=false", "--bind-address=127.0.0.1"]
        if part == "kube-controller-manager":
            folder = self.folder
            common += [f"--service-account-private-key-file={folder}/accounts.key", f"--root-ca-file={self.ca}"]
            common += ["--use-service-account-credentials", "--secure-port=0"]
        self._start(part, program("kubeall"), part, *common, *self.parts[part])

    def _write_files(self) -> None:
        folder = self.folder
        authority = Authority(folder)
        authority.sign("kubernetes.default.svc", "127.0.0.1", "10.96.0.1", self.host)
        authority.sign("kubelet-client", organization="system:masters")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "accounts.key").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "accounts.pub").write_bytes(public)
        rows = [f'{token},{user},{number},"{groups}"\n' for number, (token, user, groups) in enumerate(self.users)]
        (folder / "tokens.csv").write_text("".join(rows), encoding="utf-8")
        (folder / "address").write_text(f"https://{self.host}:{self._port}", encoding="utf-8")
        for token, user, _ in self.users:
            name = user.removeprefix("system:").replace(":", "-")
            self.kubeconfig_for(token, path=folder / f"{name}.conf")
