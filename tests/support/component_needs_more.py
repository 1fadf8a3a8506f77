"""An adapter whose library is not installed, and rows as a third party's entry points give them."""

from __future__ import annotations

from typing import Any

from dapr_shared.components.catalog import CatalogRow

ROW = CatalogRow("state.plugin1", "plugin:Store", "A plugin")
ROWS = [
    CatalogRow("state.plugin2", "plugin:Store", "A plugin"),
    CatalogRow("state.plugin3", "plugin:Store", "A plugin"),
]


def __getattr__(name: str) -> Any:
    if name == "Store":
        import library_that_nobody_has  # pyright: ignore[reportMissingImports]

        return library_that_nobody_has
    raise AttributeError(name)
