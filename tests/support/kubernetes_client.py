"""What a test asks of a Kubernetes API server: kubectl, helm, namespaces of its own, tokens of service accounts."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.kubernetes_programs import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

PATIENCE = 30.0
"""Seconds that a command of kubectl may take, unless the test says otherwise."""
ADMIN = "token-of-the-administrator"
"""The bearer token of the group system:masters."""


class CommandError(AssertionError):
    """kubectl or helm has refused; the text is what it said."""


class KubernetesClient:
    """Commands as administrator. Everything that it needs is in `folder`, so that processes can share a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    prefix: tuple[str, ...] = ()
    """Words before each command, for a server that is reached from elsewhere."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.conf"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that has signed the server's."""
        return self.folder / "ca.pem"

    @property
    def address(self) -> str:
        """https://host:port."""
        return (self.folder / "address").read_text(encoding="utf-8")

    def kubectl(self, *words: str, given: str = "", patience: float = PATIENCE) -> str:
        """What kubectl prints; `given` is its input. Raises CommandError with its words."""
        return self._run([program("kubectl"), *words], given, patience)

    def helm(self, *words: str, given: str = "", patience: float = 120.0) -> str:
        """What helm prints. Raises CommandError with its words."""
        return self._run([program("helm"), *words], given, patience)

    def apply(self, *objects: Mapping[str, Any], namespace: str = "") -> None:
        """Create or change objects, by server-side apply."""
        text = yaml.safe_dump_all([dict(one) for one in objects])
        inside = ["-n", namespace] if namespace else []
        self.kubectl("apply", "--server-side", "--force-conflicts", *inside, "-f", "-", given=text)

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """An object; CommandError with "NotFound" where there is none."""
        inside = ["-n", namespace] if namespace else []
        return json.loads(self.kubectl("get", kind, name, *inside, "-o", "json"))

    def items(self, kind: str, namespace: str, *, selector: str = "") -> list[dict[str, Any]]:
        """The objects of a kind in a namespace."""
        chosen = ["-l", selector] if selector else []
        return json.loads(self.kubectl("get", kind, "-n", namespace, *chosen, "-o", "json"))["items"]

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Delete an object without waiting for what hangs on it."""
        inside = ["-n", namespace] if namespace else []
        self.kubectl("delete", kind, name, *inside, "--wait=false", "--ignore-not-found")

    def patch_status(self, kind: str, name: str, namespace: str, status: Mapping[str, Any]) -> None:
        """Say what a controller or a kubelet would say of an object."""
        change = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", change)

    def create_namespace(self, prefix: str = "test") -> str:
        """A new namespace, with its default service account; its name."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.wait_until(lambda: self._exists("serviceaccount", "default", name), "the default service account")
        return name

    def service_account_token(
        self, namespace: str, name: str, audience: str = "", *, pod: str = "", seconds: int = 3600
    ) -> str:
        """A token of a service account, bound to a pod if one is named; no audience: the API server's own."""
        words = ["create", "token", name, "-n", namespace, f"--duration={seconds}s"]
        words += ["--audience", audience] if audience else []
        words += ["--bound-object-kind", "Pod", "--bound-object-name", pod] if pod else []
        return self.kubectl(*words).strip()

    def kubeconfig_for(self, token: str, namespace: str = "default", path: Path | None = None) -> Path:
        """A kubeconfig whose user has this bearer token."""
        file = path or self.folder / f"{uuid.uuid4().hex[:8]}.conf"
        file.write_text(kubeconfig(self.address, self.ca, token, namespace), encoding="utf-8")
        file.chmod(0o600)
        return file

    def run_pod(self, namespace: str, name: str, *, address: str = "10.244.1.9", node: str = "node1") -> None:
        """Say of a pod that it runs and is ready at an address, where there is no kubelet that would."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"status": "True", "lastTransitionTime": now}
        conditions = [{"type": kind, **ready} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
        if not self.get("pod", name, namespace)["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            self.kubectl(
                *("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", "-f", "-"),
                given=json.dumps(binding),
            )
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        self.patch_status("pod", name, namespace, {**status, "startTime": now})

    def wait_until(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition of the cluster."""
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, f"waited {patience:.0f} s for {what}"
            time.sleep(0.2)

    def _exists(self, kind: str, name: str, namespace: str) -> bool:
        return bool(self.kubectl("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "name").strip())

    def open(self, *words: str) -> subprocess.Popen[str]:
        """A kubectl that runs on, with its input and output; whoever opens it ends it."""
        command = [*self.prefix, program("kubectl"), *words]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment()
        )

    def _run(self, command: Iterable[str], given: str, patience: float) -> str:
        done = subprocess.run(
            [*self.prefix, *command],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience,
            env=self._environment(),
        )
        if done.returncode != 0:
            raise CommandError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def _environment(self) -> dict[str, str]:
        home = self.folder / "helm"
        places = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        own = {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "cache")}
        return {**os.environ, **places, **own}


def kubeconfig(address: str, ca: Path, token: str, namespace: str = "default") -> str:
    """The text of a kubeconfig with one user."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "kit", "cluster": {"server": address, "certificate-authority": str(ca)}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "kit", "context": {"cluster": "kit", "user": "user", "namespace": namespace}}],
            "current-context": "kit",
        }
    )
