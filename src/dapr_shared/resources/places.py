"""Where in a file a field stands, for what is found wrong after its document was read.

Before both roads, for `validate` alone: reading tells its own errors with their lines; what a resource refers to, and what
its component takes, is only known later.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.resources.documents import Document, MappingNode, Node, SequenceNode, YamlError, documents
from dapr_shared.resources.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class FieldPlaces:
    """Finds the lines of fields. A file is read once."""

    def __init__(self) -> None:
        self._files: dict[str, Sequence[Document]] = {}

    def of(self, origin: Origin, path: str) -> Origin:
        """The place of a field such as `spec.metadata[1].value`; of what is nearest around it where it is not there."""
        root = self.root(origin)
        if root is None:
            return origin
        return Origin(origin.file, origin.document, _line(root, path) or origin.line)

    def item(self, origin: Origin, name: str) -> tuple[str, Origin]:
        """Path and place of the metadata item of a component that has this name, in any case of letters."""
        root = self.root(origin)
        items = step(step(root, "spec"), "metadata")
        if isinstance(items, SequenceNode):
            for index, item in enumerate(items.items):
                found = step(item, "name")
                if found is not None and getattr(found, "text", "").casefold() == name.casefold():
                    path = f"spec.metadata[{index}].value"
                    return path, Origin(origin.file, origin.document, _line(root, path) or item.line)
        return "spec.metadata", self.of(origin, "spec.metadata")

    def root(self, origin: Origin) -> Node | None:
        """The document of a resource; `None`: it cannot be read."""
        return next((one.root for one in self._read(origin.file) if one.number == origin.document), None)

    def _read(self, file: str) -> Sequence[Document]:
        found = self._files.get(file)
        if found is None:
            read: list[Document] = []
            with suppress(OSError, YamlError):  # told already, by who read it to use it
                read.extend(documents(Path(file).read_bytes()))
            found = self._files[file] = read
        return found


def _line(root: Node | None, path: str) -> int:
    node, line = root, root.line if root is not None else 0
    for index, name in _STEP.findall(path):
        if isinstance(node, SequenceNode) and index and int(index) < len(node.items):
            node = node.items[int(index)]
            line = node.line
            continue
        entry = _entry(node, name)
        if entry is None:
            break
        line, node = entry
    return line


def _entry(node: Node | None, name: str) -> tuple[int, Node] | None:
    if not isinstance(node, MappingNode):
        return None
    found = node.entries.get(name) or next(
        (entry for key, entry in node.entries.items() if key.casefold() == name.casefold()), None
    )
    return (found.line, found.node) if found is not None else None


def step(node: Node | None, name: str) -> Node | None:
    """What a mapping has under a name; `None`: it has none, or is none."""
    entry = _entry(node, name)
    return entry[1] if entry is not None else None
