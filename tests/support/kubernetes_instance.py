"""The real process in cluster mode, at the API server of a test."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.calls import Answer, ask
from tests.support.instance import digest_of, running
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.instance import Instance
    from tests.support.kubernetes_client import KubernetesClient

CRDS = Path(__file__).parents[2] / "chart" / "dapr-shared" / "crds"


def install_kinds(server: KubernetesClient) -> None:
    """Dapr's kinds and ours, as the chart brings them."""
    server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS), patience=60)
    server.kubectl("wait", "--for=condition=Established", "-f", str(CRDS), patience=60)


def app(name: str, **spec: Any) -> dict[str, Any]:
    """An App that the token of `tests.support.instance.token_of` proves."""
    return {
        "apiVersion": "shared.dapr.io/v1alpha1",
        "kind": "App",
        "metadata": {"name": name},
        "spec": {"tokens": [{"sha256": digest_of(spec.get("appId", name))}], **spec},
    }


def of_dapr(kind: str, name: str, spec: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A resource of one of Dapr's kinds."""
    version = "v2alpha1" if kind == "Subscription" else "v1alpha1"
    return {"apiVersion": f"dapr.io/{version}", "kind": kind, "metadata": {"name": name}, "spec": spec, **top}


def memory(name: str, **top: Any) -> dict[str, Any]:
    """A state store in memory."""
    return of_dapr("Component", name, {"type": "state.in-memory", "version": "v1", "metadata": []}, **top)


def annotated(kind: str, name: str, spec: dict[str, Any], labels: dict[str, str] | None = None, **annotations: str):
    """A Service or a Pod with annotations of `dapr.io/`: `app_port="80"` is `dapr.io/app-port`."""
    given = {f"dapr.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    metadata = {"name": name, "annotations": given, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def service(name: str, labels: dict[str, str] | None = None, **annotations: str) -> dict[str, Any]:
    """An annotated Service with nothing behind it."""
    return annotated("Service", name, {"ports": [{"port": 80}]}, labels, **annotations)


def pod(name: str, labels: dict[str, str] | None = None, **annotations: str) -> dict[str, Any]:
    """An annotated Pod."""
    return annotated("Pod", name, {"containers": [{"name": "app", "image": "none"}]}, labels, **annotations)


@contextmanager
def cluster_instance(
    folder: Path, kubeconfig: Path, namespace: str, *flags: str, env: dict[str, str] | None = None, **options: Any
) -> Iterator[Instance]:
    """The process that the image runs, with a kubeconfig in place of a pod's service account."""
    given = {"KUBECONFIG": str(kubeconfig), "NAMESPACE": namespace, "POD_NAME": "instance-0", **(env or {})}
    (internal,) = free_ports(1)  # instances of other tests run at the same time
    words = ["--mode=kubernetes", f"--data-dir={folder / 'data'}", f"--dapr-internal-grpc-port={internal}", *flags]
    with running(folder, *words, env=given, entry="daprd", **options) as made:
        yield made


def metadata(instance: Instance, app_id: str) -> dict[str, Any]:
    """What the metadata API tells an app; empty: its token proves nothing."""
    answer: Answer = instance.ask("GET", "/v1.0/metadata", app=app_id)
    return answer.json() if answer.status == 200 else {}


def readiness(instance: Instance) -> tuple[int, str]:
    """What `/readyz` says."""
    answer = ask(instance.public, "GET", "/readyz")
    return answer.status, answer.body.decode()


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait for a condition of the instance."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


def id_of(instance: Instance, app_id: str) -> str:
    """The app id that the token of this app proves; empty: none."""
    return metadata(instance, app_id).get("id", "")


def address(instance: Instance, app_id: str) -> tuple[str, int] | None:
    """Where the instance calls an app; `None`: its token proves nothing, or it has no channel."""
    found = metadata(instance, app_id).get("appConnectionProperties")
    return (found["channelAddress"], found["port"]) if found else None


def served(instance: Instance) -> dict[str, str]:
    """The apps that the log says are served, and where they were when they came."""
    found: dict[str, str] = {}
    for line in instance.log():
        if line["msg"] == "app added":
            found[line["app_id"]] = line.get("channel", "")
        elif line["msg"] == "app removed":
            found.pop(line["app_id"], None)
    return found
