"""Apps with a sidecar on the test cluster: what Dapr's injector and operator make, made by hand of a real daprd.

mTLS is off and there is no control plane: a daprd reads its resources from a ConfigMap, and finds others by the Services
`<app id>-dapr`, as the operator makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tests.support import images
from tests.support.kubernetes_objects import deployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RESOURCES = "sidecar-resources"


def resources(components: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ConfigMap that sidecars read."""
    resolution = {"nameResolution": {"component": "kubernetes"}}
    head = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "sidecar"}}
    files = {f"{one['metadata']['name']}.yaml": one for one in components}
    data = {name: yaml.safe_dump(one) for name, one in {**files, "config.yaml": {**head, "spec": resolution}}.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _RESOURCES}, "data": data}


def with_sidecar(app_id: str, container: Mapping[str, Any], *, node: str = "node1", port: int = 0) -> dict[str, Any]:
    """A Deployment as the injector leaves it: annotated, a daprd beside the app."""
    marks = {"dapr.io/enabled": "true", "dapr.io/app-id": app_id, **({"dapr.io/app-port": str(port)} if port else {})}
    made = deployment(app_id, container, node=node, annotations=marks)
    words = [f"--app-id={app_id}", "--resources-path=/resources", "--config=/resources/config.yaml"]
    words += ["--dapr-internal-grpc-port=50002", *([f"--app-port={port}"] if port else [])]
    daprd = {
        "name": "daprd",
        "image": images.DAPRD,
        "command": ["/daprd", *words],
        "env": [{"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "volumeMounts": [{"name": "resources", "mountPath": "/resources", "readOnly": True}],
    }
    pod = made["spec"]["template"]["spec"]
    pod["containers"] = [container, daprd]
    pod["volumes"] = [{"name": "resources", "configMap": {"name": _RESOURCES}}]
    return made


def operators_service(app_id: str) -> dict[str, Any]:
    """The Service that Dapr's operator makes for the pods of an app with sidecars."""
    ports = {"dapr-http": (80, 3500), "dapr-grpc": (50001, 50001), "dapr-internal": (50002, 50002)}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{app_id}-dapr",
            "labels": {"dapr.io/enabled": "true"},
            "annotations": {"dapr.io/app-id": app_id},
        },
        "spec": {
            "clusterIP": "None",
            "selector": {"app": app_id},
            "ports": [{"name": name, "port": one, "targetPort": other} for name, (one, other) in ports.items()],
        },
    }
