"""Where pluggable components are: a folder of Unix sockets, each named as the component is.

Before both roads. `my-store.sock` is the type `state.my-store`, `pubsub.my-store` and so on, for each service that the
program behind it serves; which these are it says itself, by server reflection, when a component is opened
(`connection.py`). Facts: reference internal §7.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.components.catalog import CatalogRow, block_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER_VARIABLE = "DAPR_COMPONENTS_SOCKETS_FOLDER"
DEFAULT_FOLDER = "/tmp/dapr-components-sockets"  # noqa: S108 - Dapr's

_TRUSTED = (0,)
"""Users beside this one who may make the default folder."""

_ADAPTERS: Mapping[str, tuple[str, str]] = {
    "bindings": ("bindings:PluggableBinding", "A binding"),
    "pubsub": ("pubsub:PluggablePubSub", "A message broker"),
    "secretstores": ("secretstores:PluggableSecretStore", "A secret store"),
    "state": ("state:PluggableStateStore", "A state store"),
}


def sockets_folder() -> Path:
    """The folder, from the environment."""
    return Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)


def _entries() -> list[Path]:
    """What is in the folder. Raises `OSError`.

    Anybody may make a folder in `/tmp`, and whoever answers at its sockets is given the secrets of components. So one
    that nobody has named, but which is there by default, must be this user's or root's (as a volume of Kubernetes is).
    """
    folder = sockets_folder()
    if not os.environ.get(FOLDER_VARIABLE):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (*_TRUSTED, os.geteuid()):
            return []
    return list(folder.iterdir())


def socket_names() -> frozenset[str]:
    """The names of the components that have a socket now; empty where the folder is absent or cannot be read."""
    try:
        return frozenset(path.stem for path in _entries() if _is_socket(path))
    except OSError:
        return frozenset()


def socket_of(component_type: str) -> Path | None:
    """The socket of a type, whatever the case of its name; `None`: there is none."""
    _, _, name = component_type.strip().casefold().partition(".")
    try:
        found = sorted(path for path in _entries() if path.stem.casefold() == name)
    except OSError:
        return None
    return next((path for path in found if _is_socket(path)), None)


def pluggable_row(component_type: str) -> CatalogRow | None:
    """The catalog row of a type that has a socket; `None` where it has none, or no block of Dapr's can be pluggable."""
    adapter = _ADAPTERS.get(block_of(component_type))
    if adapter is None or socket_of(component_type) is None:
        return None
    target, what = adapter
    return CatalogRow(
        component_type.strip().casefold(), f"dapr_shared.components.pluggable.{target}", f"{what} of another program"
    )


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
