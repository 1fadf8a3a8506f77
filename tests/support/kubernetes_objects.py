"""Objects of the tests on two nodes, as users write them: deployments, Services, components, and pods of the test apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_FOLDER = "/var/run/secrets/dapr-shared"
"""Where `with_tokens` mounts a pod's tokens."""


def deployment(
    name: str,
    container: Mapping[str, Any],
    *,
    node: str = "node1",
    replicas: int = 1,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Pods on one node; the annotations are those of the pods."""
    labels = {"app": name}
    spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 5}
    metadata = {"labels": labels, "annotations": dict(annotations or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": metadata, "spec": {**spec, "containers": [container]}},
        },
    }


def service(name: str, port: int, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A Service of the pods with the label `app: name`."""
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    metadata = {"name": name, "annotations": dict(annotations or {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def component(name: str, kind: str, *metadata: dict[str, str]) -> dict[str, Any]:
    """A Component that every app of the namespace sees."""
    spec = {"type": kind, "version": "v1", "metadata": list(metadata)}
    return {"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": name}, "spec": spec}


def app_container(*command: str, env: Mapping[str, Any] | None = None, ready: str = "") -> dict[str, Any]:
    """A container of the app image; a variable is a text, or what `valueFrom` says. `ready` is a path at port 8000."""
    node = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    variables = {"NODE_NAME": node, **(env or {})}
    named = [
        {"name": key, ("value" if isinstance(value, str) else "valueFrom"): value} for key, value in variables.items()
    ]
    probe = {"readinessProbe": {"httpGet": {"path": ready, "port": 8000}, "periodSeconds": 1}} if ready else {}
    return {"name": "app", "image": images.APP, "command": ["python3", "-u", *command], "env": named, **probe}


def subscriber(topic: str = "orders") -> dict[str, Any]:
    """The container of `apps/subscriber.py`."""
    return app_container("/apps/subscriber.py", env={"TOPIC": topic}, ready="/where")


def idle(**env: Any) -> dict[str, Any]:
    """A container in which tests run commands."""
    return app_container("-c", "import time; time.sleep(1e6)", env=env)


def pod(
    name: str,
    container: Mapping[str, Any],
    node: str,
    *,
    account: str = "default",
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A pod on a node."""
    spec = {
        "nodeName": node,
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": 1,
        "containers": [dict(container)],
    }
    metadata = {"name": name, "annotations": dict(annotations or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def with_tokens(pod: dict[str, Any], **audiences: str) -> dict[str, Any]:
    """The pod with tokens that the kubelet projects into `TOKEN_FOLDER`: a file's name and its audience."""
    sources = [
        {"serviceAccountToken": {"audience": audience, "expirationSeconds": 3600, "path": file}}
        for file, audience in audiences.items()
    ]
    pod["spec"]["volumes"] = [{"name": "tokens", "projected": {"sources": sources}}]
    mount = {"name": "tokens", "mountPath": TOKEN_FOLDER, "readOnly": True}
    pod["spec"]["containers"][0]["volumeMounts"] = [mount]
    return pod


def app(name: str, namespace: str, port: int = 8000, **spec: Any) -> dict[str, Any]:
    """An App that is called at the Service of its name; port 0: it only calls."""
    channel = {"address": f"{name}.{namespace}.svc.cluster.local", "port": port, "protocol": "http"}
    return {
        "apiVersion": "shared.dapr.io/v1alpha1",
        "kind": "App",
        "metadata": {"name": name},
        "spec": {**({"channel": channel} if port else {}), **spec},
    }


def account(name: str) -> dict[str, Any]:
    """A service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
