"""The reference pages of component types: one a type, from the catalog and the settings of its adapter."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from reference_tables import table

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.settings import Kind, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.components.catalog import CatalogRow
    from dapr_shared.contracts.component import Component
    from dapr_shared.contracts.settings import FieldSpec

_KINDS = {
    Kind.TEXT: "text",
    Kind.BOOLEAN: "true or false",
    Kind.INTEGER: "whole number",
    Kind.DURATION: "duration",
    Kind.MILLISECONDS: "duration; a bare number is milliseconds",
    Kind.BYTES: "size",
    Kind.LIST: "texts between commas",
}
_SIZES = ((1024**3, "Gi"), (1024**2, "Mi"), (1024, "Ki"))


def component_pages() -> Mapping[str, str]:
    """The page of each row of the catalog, and their index, by file name."""
    catalog = Catalog(installed=None)
    rows = catalog.rows()
    pages = {page_name(row): _page(row, catalog.load(row)) for row in rows}
    listed = [
        (f"[`{row.type}`]({page_name(row)})", ", ".join(row.versions), row.doc, f"`{row.extra}`" if row.extra else "")
        for row in rows
    ]
    index = (
        "# Component types\n\n"
        "Every component type of this version. Those with an extra need its libraries: "
        "`pip install 'dapr-shared[EXTRA]'`.\n\n" + table(("type", "versions", "what it is", "extra"), listed)
    )
    return {"index.md": index, **pages}


def page_name(row: CatalogRow) -> str:
    """The file of a row's page: types that exist in several rows have their version in it."""
    return f"{row.type}.md" if "v1" in row.versions else f"{row.type}-{row.versions[0]}.md"


def example(row: CatalogRow, adapter: type[Component[Any]]) -> str:
    """A resource of the type, with what it requires and what has an example."""
    lines = [
        "apiVersion: dapr.io/v1alpha1",
        "kind: Component",
        "metadata:",
        f"  name: {row.type.rpartition('.')[2]}",
        "spec:",
        f"  type: {row.type}",
        f"  version: {row.versions[0]}",
    ]
    shown = [spec for spec in fields_of(adapter.settings_type) if spec.setting.example or spec.required]
    lines.append("  metadata:" if shown else "  metadata: []")
    for spec in shown:
        value = (spec.setting.example or "…").replace("'", "''")
        lines += [f"  - name: {spec.name}", f"    value: '{value}'"]
    return "\n".join(lines) + "\n"


def _page(row: CatalogRow, adapter: type[Component[Any]]) -> str:
    facts = [
        ("versions", ", ".join(f"`{version}`" for version in row.versions)),
        ("also known as", ", ".join(f"`{alias}`" for alias in row.aliases)),
        ("extra", f"`pip install 'dapr-shared[{row.extra}]'`" if row.extra else "none"),
        ("status", "stable" if row.stable else "alpha"),
        ("capabilities", ", ".join(f"`{one}`" for one in sorted(adapter.capabilities)) or "none"),
        ("operations", ", ".join(f"`{one}`" for one in getattr(adapter, "operations", ()))),
    ]
    specs = fields_of(adapter.settings_type)
    settings = (
        table(("name", "value", "default", "meaning"), [_setting(spec) for spec in specs])
        if specs
        else "It has none.\n"
    )
    module = inspect.getdoc(inspect.getmodule(adapter)) or ""
    return (
        f"# {row.type}\n\n{row.doc}.\n\n"
        f"{table(('', ''), [fact for fact in facts if fact[1]])}\n"
        f"## Example\n\n```yaml\n{example(row, adapter)}```\n\n"
        f"## Settings\n\nNames under `spec.metadata`; they ignore case.\n\n{settings}\n"
        f"## How it behaves\n\n{_behaviour(module)}\n"
    )


def _behaviour(module: str) -> str:
    """The module's own words, without its first line and what places it in the code."""
    paragraphs = module.split("\n\n")[1:]
    if paragraphs:
        _, _, rest = paragraphs[0].partition(". ")
        paragraphs[0] = rest if paragraphs[0].startswith(("Last step", "First step")) else paragraphs[0]
    return "\n\n".join(" ".join(p.split("\n")) if not p.startswith(("-", " ")) else p for p in paragraphs if p)


def _setting(spec: FieldSpec) -> Sequence[object]:
    setting = spec.setting
    names = ", ".join(f"`{name}`" for name in (spec.name, *setting.aliases))
    kind = _KINDS[setting.kind] + (f": {', '.join(setting.choices)}" if setting.choices else "")
    notes = [setting.doc]
    if setting.minimum is not None:
        notes.append(f"At least {setting.minimum:g}.")
    if setting.secret:
        notes.append("Secret: never shown.")
    return names, kind, "required" if spec.required else _default(spec), " ".join(notes)


def _default(spec: FieldSpec) -> str:
    value = spec.default
    if value in ((), "", None):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if spec.setting.kind in (Kind.DURATION, Kind.MILLISECONDS):
        return f"`{value:g}s`"
    if spec.setting.kind is Kind.BYTES:
        return next((f"`{value // size}{unit}`" for size, unit in _SIZES if value and value % size == 0), f"`{value}`")
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"
