"""Several instances, or an instance and a daprd, that call each other's apps on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path


def finds_peers_at(folder: Path, port: int, **spec: object) -> str:
    """The flag for a Configuration by which every app that is not here is called at a port of loopback.

    It is the resolver of Kubernetes with a template, which daprd takes outside a cluster as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"peers-{port}.yaml"
    resolution = {"component": "kubernetes", "version": "v1", "configuration": {"template": f"127.0.0.1:{port}"}}
    configuration = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "peers"},
        "spec": {"nameResolution": resolution, **spec},
    }
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    return f"--config={path}"


def internal(port: int) -> tuple[str, ...]:
    """The flags of an instance that others call at this port."""
    return (f"--dapr-internal-grpc-port={port}", "--dapr-internal-grpc-listen-address=127.0.0.1")
