"""Manifests as they would be applied to a cluster: files of objects, with the place of each.

Before both roads, for `validate`. Lists are taken apart; the Apps that a release's values give are in a ConfigMap of it,
which the instance reads as a file. No API server is asked.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dapr_shared.kubernetes.discovery import INSTANCE_LABEL
from dapr_shared.resources.documents import Document, MappingNode, ScalarNode, SequenceNode, YamlError, documents
from dapr_shared.resources.errors import ResourceError
from dapr_shared.resources.loader import MAX_FILE_BYTES, read_text
from dapr_shared.resources.model import DAPR_GROUP, SHARED_GROUP
from dapr_shared.resources.named_paths import path_problem
from dapr_shared.resources.origin import Origin
from dapr_shared.resources.places import FieldPlaces, step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dapr_shared.resources.documents import Node

STANDARD_INPUT: Final = "-"
WORKLOADS: Final = {
    "CronJob": "spec.jobTemplate.spec.template",
    "DaemonSet": "spec.template",
    "Deployment": "spec.template",
    "Job": "spec.template",
    "Pod": "",
    "ReplicaSet": "spec.template",
    "StatefulSet": "spec.template",
}
"""What becomes Pods, with the field that holds what a Pod has."""
_ANNOTATION = re.compile(r"(?P<around>.*)\.annotations\[(?P<name>[^\]]+)\]")
_SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of the files."""

    kind: str
    group: str
    namespace: str
    """That of `metadata`, or the one given."""
    name: str
    document: Document
    """With the object as its root, and the number of the document in the file that holds it."""
    origin: Origin

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name or '(no name)'}"


@dataclass(slots=True)
class Manifests:
    """All objects of the files, in their order."""

    resources: list[Manifest] = field(default_factory=list[Manifest])
    """Of Dapr's groups and ours."""
    apps_of_values: list[Manifest] = field(default_factory=list[Manifest])
    """Apps in the ConfigMap of a release."""
    sources: list[Manifest] = field(default_factory=list[Manifest])
    """Services, Pods, and what makes Pods."""
    others: list[Manifest] = field(default_factory=list[Manifest])
    """Of kinds that are not read."""
    errors: list[ResourceError] = field(default_factory=list[ResourceError])
    files: list[str] = field(default_factory=list[str])

    def read(self) -> Iterator[Manifest]:
        """Those whose kinds are read."""
        yield from self.resources
        yield from self.apps_of_values
        yield from self.sources


def manifest_files(path: Path) -> list[Path]:
    """The files of a directory that `kubectl apply -f` takes, sorted; a file is itself. Raises `OSError`."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())


def manifests_problem(path: Path) -> str:
    """Why there is nothing to read at a path that was named, and what to do; empty: there is."""
    problem = "" if str(path) == STANDARD_INPUT else path_problem(path)
    if problem or str(path) == STANDARD_INPUT:
        return problem
    try:
        if path.is_dir() and not manifest_files(path):
            return f"{path} holds no file that ends in {', '.join(_SUFFIXES)}: name the directory of your manifests"
        if not path.is_dir() and next(documents(read_text(path)), None) is None:
            problem = f"{path} is empty: name a file with objects of a cluster"
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}; run this as the user who may"
    except ResourceError as error:
        problem = f"{path} {error.problem}: name a file that can be read"
    except YamlError:
        pass  # told with its line
    return problem


def read_manifests(paths: Sequence[Path], namespace: str) -> Manifests:
    """Read files, and the files of directories as `kubectl apply -f` does; `-` is standard input.

    `namespace`: of objects that name none. What cannot be read is in `errors`.
    """
    found = Manifests()
    seen: set[Path] = set()
    for path in paths:
        try:
            files = [path] if str(path) == STANDARD_INPUT else manifest_files(path)
        except OSError as error:
            found.errors.append(ResourceError(Origin(str(path), 0, 0), "", f"cannot be read: {error.strerror}"))
            continue
        for file in files:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                found.files.append(str(file))
                _read_file(file, namespace, found)
    return found


def _read_file(file: Path, namespace: str, found: Manifests) -> None:
    try:
        content = _standard_input() if str(file) == STANDARD_INPUT else read_text(file)
        for document in documents(content):
            _take(str(file), document, namespace, found)
    except ResourceError as error:
        found.errors.append(error)
    except YamlError as error:
        found.errors.append(ResourceError(Origin(str(file), error.document, error.line), "", error.problem))


def _standard_input() -> bytes:
    origin = Origin(STANDARD_INPUT, 0, 0)
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ResourceError(
            origin, "", f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB: give it in several files"
        )
    return content


def _take(file: str, document: Document, namespace: str, found: Manifests) -> None:
    root = document.root
    origin = Origin(file, document.number, root.line)
    if isinstance(root, ScalarNode) and root.value is None:
        return
    kind = text_at(root, "kind")
    version = text_at(root, "apiVersion")
    if not isinstance(root, MappingNode) or not (kind and version):
        problem = "is no object of a cluster: expected a mapping with apiVersion, kind and metadata"
        found.errors.append(ResourceError(origin, "", problem))
        return
    items = step(root, "items")
    if kind.endswith("List") and isinstance(items, SequenceNode):
        for item in items.items:
            _take(file, Document(document.number, item.line, item), namespace, found)
        return
    group = version.rpartition("/")[0]
    metadata = step(root, "metadata")
    made = Manifest(
        kind, group, text_at(metadata, "namespace") or namespace, text_at(metadata, "name"), document, origin
    )
    if group in (DAPR_GROUP, SHARED_GROUP):
        found.resources.append(made)
    elif kind in WORKLOADS or (kind == "Service" and not group):
        found.sources.append(made)
    elif kind == "ConfigMap" and text_at(step(metadata, "labels"), INSTANCE_LABEL):
        _take_values(made, found)
    else:
        found.others.append(made)


def _take_values(config_map: Manifest, found: Manifests) -> None:
    """The Apps that the instance reads as a file: what the chart makes of the `apps` of its values."""
    apps = step(step(config_map.document.root, "data"), "apps.yaml")
    if not isinstance(apps, ScalarNode):
        found.others.append(config_map)
        return
    inner = Manifests()
    try:
        # A block begins in the line below its key: with so many lines before it, it has the lines of the file.
        for document in documents(b"\n" * apps.line + apps.text.encode()):
            held = Document(config_map.document.number, document.line, document.root)
            _take(config_map.origin.file, held, config_map.namespace, inner)
    except YamlError as error:
        origin = Origin(config_map.origin.file, config_map.document.number, error.line)
        inner.errors.append(ResourceError(origin, "data[apps.yaml]", error.problem))
    found.apps_of_values += [each for each in inner.resources if each.kind == "App"]
    found.errors += inner.errors


def text_at(node: Node | None, name: str) -> str:
    """A text of a mapping; empty where there is none."""
    found = step(node, name)
    return found.value if isinstance(found, ScalarNode) and isinstance(found.value, str) else ""


class ManifestPlaces(FieldPlaces):
    """Finds the lines of fields of objects, also of those in lists and in the ConfigMap of a release."""

    def __init__(self, found: Manifests) -> None:
        super().__init__()
        self._roots = {each.origin: each.document.root for each in found.read()}

    def root(self, origin: Origin) -> Any:
        """See `FieldPlaces`."""
        return self._roots.get(origin)

    def of(self, origin: Origin, path: str) -> Origin:
        """See `FieldPlaces`; also of annotations: `metadata.annotations[dapr.io/app-port]`."""
        annotation = _ANNOTATION.fullmatch(path)
        if annotation is None:
            return super().of(origin, path)
        node = self.root(origin)
        for name in (*annotation["around"].split("."), "annotations"):
            node = step(node, name)
        if isinstance(node, MappingNode) and annotation["name"] in node.entries:
            return Origin(origin.file, origin.document, node.entries[annotation["name"]].line)
        return super().of(origin, annotation["around"])
