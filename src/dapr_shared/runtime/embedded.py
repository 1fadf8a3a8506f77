"""What an instance has when nobody gave it resources: durable components, each in one SQLite file.

Assembly. Only for `dapr-shared run` in standalone mode (design §5.19): the file is under the user's state directory and
locked, so that one instance has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from dapr_shared.resources.loader import Resources
from dapr_shared.resources.model import Component, MetadataItem
from dapr_shared.resources.origin import Origin

STORE_NAME = "statestore"
PUBSUB_NAME = "pubsub"
LOCK_NAME = "lockstore"
CONFIGURATION_NAME = "configstore"
COMPONENTS = (
    (STORE_NAME, "state.sqlite", "state"),
    (PUBSUB_NAME, "pubsub.sqlite", "pubsub"),
    (LOCK_NAME, "lock.sqlite", "lock"),
    (CONFIGURATION_NAME, "configuration.sqlite", "configuration"),
)
"""Name, type and file (without its ending) of each; its block is the first word of the type."""
BLOCKS = frozenset(kind.partition(".")[0] for _, kind, _ in COMPONENTS)
SOCKET_NAME = "operators.sock"
"""The operators' socket in the data directory."""


def state_directory(given: str) -> Path:
    """The data directory: the one given, else `$XDG_STATE_HOME/dapr-shared`, else `~/.local/state/dapr-shared`."""
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "dapr-shared"
    try:
        return Path.home() / ".local" / "state" / "dapr-shared"
    except RuntimeError:  # an environment without HOME and a user without an entry
        return Path(f"/tmp/dapr-shared-{os.getuid()}")  # noqa: S108 - last resort; the directory is made with mode 0700


def embedded_resources(directory: Path, namespaces: frozenset[str], blocks: frozenset[str]) -> Resources:
    """The default components of these blocks, one set a namespace."""
    made: list[Component] = []
    for namespace in sorted(namespaces):
        for name, kind, file in COMPONENTS:
            if kind.partition(".")[0] not in blocks:
                continue
            metadata = (
                MetadataItem(name="connectionString", value=str(_file(directory, file, namespace))),
                MetadataItem(name="exclusive", value="true"),
            )
            made.append(
                Component(
                    name=name,
                    namespace=namespace,
                    type=kind,
                    version="v1",
                    metadata=metadata,
                    origin=Origin("(built in)", 1, 0),
                )
            )
    return Resources(components=tuple(made))


def _file(directory: Path, name: str, namespace: str) -> Path:
    return directory / (f"{name}.db" if namespace == "default" else f"{name}-{namespace}.db")
