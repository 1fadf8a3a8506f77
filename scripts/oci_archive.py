"""Container images as files, with the standard library alone: layers, and an archive that every engine loads.

An archive has the layout of the OCI image specification and, for older engines, the manifest of `docker save`; `ctr
images import`, `docker load`, `podman load` and `skopeo` read it. The same content gives the same bytes: files carry
one time, root owns them unless said otherwise, and their order is that of their names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Layer:
    """One layer in its compressed form."""

    blob: bytes
    diff_id: str
    """Digest of the tar in it."""
    size: int
    """Bytes of the tar in it."""

    @classmethod
    def of(cls, blob: bytes) -> Layer:
        """A layer from a gzipped tar."""
        plain = gzip.decompress(blob)
        return cls(blob, _digest(plain), len(plain))


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts."""

    command: Sequence[str] = ()
    environment: Sequence[str] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""
    directory: str = "/"
    ports: Sequence[int] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def pack(root: Path, owners: Mapping[str, tuple[int, int]] | None = None, seconds: int = 0) -> bytes:
    """A folder as a gzipped tar. `owners` gives (user, group) of paths like `data`; `seconds` is every file's time."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(_below(root)):
            name = path.relative_to(root).as_posix()
            entry = archive.gettarinfo(path, name)
            entry.uid, entry.gid = (owners or {}).get(name, (0, 0))
            entry.uname = entry.gname = ""
            entry.mtime = seconds
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    return gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)


def write_archive(
    file: Path, name: str, layers: Sequence[Layer], config: ImageConfig, architecture: str, seconds: int = 0
) -> None:
    """Write an image; `name` is registry/name:tag."""
    blobs: dict[str, bytes] = {layer_digest(layer): layer.blob for layer in layers}
    about = _add(blobs, _config(layers, config, architecture, seconds))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(blobs, about, _CONFIG),
        "layers": [_descriptor(blobs, layer_digest(layer), _LAYER) for layer in layers],
    }
    top = _descriptor(blobs, _add(blobs, manifest), _MANIFEST)
    tag = name.rpartition(":")[2]
    top["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
    top["platform"] = {"architecture": architecture, "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]}
    old = [{"Config": _path(about), "RepoTags": [name], "Layers": [_path(layer_digest(layer)) for layer in layers]}]
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {"manifest.json": _json(old), **{_path(digest): blob for digest, blob in sorted(blobs.items())}}
    draft = file.with_name(file.name + ".draft")
    with tarfile.open(draft, "w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime = len(content), seconds
            archive.addfile(entry, io.BytesIO(content))
    draft.replace(file)


def layer_digest(layer: Layer) -> str:
    """The digest that a registry knows a layer by."""
    return _digest(layer.blob)


def _config(layers: Sequence[Layer], config: ImageConfig, architecture: str, seconds: int) -> dict[str, Any]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    return {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "Cmd": list(config.command) or None,
            "Env": list(config.environment),
            "ExposedPorts": {f"{port}/tcp": {} for port in config.ports} or None,
            "Labels": dict(config.labels) or None,
            "User": config.user,
            "WorkingDir": config.directory,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "scripts/build_image.py"} for _ in layers],
    }


def _below(root: Path) -> Iterable[Path]:
    for folder, folders, files in os.walk(root):
        yield from (Path(folder) / name for name in (*folders, *files))


def _add(blobs: dict[str, bytes], content: Any) -> str:
    data = _json(content)
    digest = _digest(data)
    blobs[digest] = data
    return digest


def _descriptor(blobs: Mapping[str, bytes], digest: str, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": len(blobs[digest])}


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
