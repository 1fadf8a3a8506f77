"""The table of component types."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from dapr_shared.components.catalog import (
    Catalog,
    CatalogError,
    CatalogRow,
    DuplicateTypeError,
    MissingDependencyError,
    UnknownTypeError,
    UnknownVersionError,
    installed_rows,
)
from dapr_shared.components.memory.state import MemoryStateStore

MEMORY = "dapr_shared.components.memory.state:MemoryStateStore"


@pytest.mark.parametrize("name", ["state.in-memory", "STATE.In-Memory", " state.in-memory "])
@pytest.mark.parametrize("version", ["", "v0", "v1", "V1"])
def test_found(name, version):
    """A type is found whatever its case; no version, v0 and v1 are the same."""
    catalog = Catalog(installed=None)
    row = catalog.find(name, version)
    assert row.type == "state.in-memory"
    assert row.block == "state"
    assert catalog.version_of(row, version) == "v1"
    assert catalog.load(row) is MemoryStateStore


def test_alias():
    """An alias is the same row."""
    catalog = Catalog(installed=None)
    assert catalog.find("state.sqlite3") is catalog.find("state.sqlite")


def test_versions():
    """Versions are told apart; a type without v1 has its first as the default; another version is an error."""
    one = CatalogRow("state.x", MEMORY, "x", versions=("v1",))
    two = CatalogRow("state.x", MEMORY, "x", versions=("v2",))
    only_two = CatalogRow("state.y", MEMORY, "y", versions=("v2", "v3"))
    catalog = Catalog((one, two, only_two), installed=None)
    assert [catalog.find("state.x", version) for version in ("", "v0", "v2")] == [one, one, two]
    assert catalog.version_of(catalog.find("state.y"), "") == "v2"
    with pytest.raises(UnknownVersionError, match=r"state\.y has no version 'v1'; it has v2, v3"):
        catalog.find("state.y", "v1")
    with pytest.raises(UnknownVersionError, match="'v9'"):
        catalog.find("state.x", "v9")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("state.sqlit", "unknown component type 'state.sqlit': did you mean state.sqlite or state.sqlite3?"),
        ("state.zzzzzz", "unknown component type 'state.zzzzzz'; known: state.in-memory, state.sqlite, state.sqlite3"),
    ],
)
def test_unknown_type(name, message):
    """An unknown type is an error that shows what may have been meant."""
    rows = (CatalogRow("state.in-memory", MEMORY, "x"), CatalogRow("state.sqlite", MEMORY, "x", ("state.sqlite3",)))
    with pytest.raises(UnknownTypeError) as caught:
        Catalog(rows, installed=None).find(name)
    assert str(caught.value) == message


def test_missing_dependency():
    """An adapter whose library is not installed names the extra to install."""
    row = CatalogRow("state.x", "tests.support.component_needs_more:Store", "x", extra="redis")
    with pytest.raises(MissingDependencyError) as caught:
        Catalog(installed=None).load(row)
    assert str(caught.value) == (
        "state.x needs the library 'library_that_nobody_has': install it with pip install 'dapr-shared[redis]'"
    )


@pytest.mark.parametrize("target", ["tests.no_such_module:X", "no_such_package.at_all:X", f"{MEMORY}X", "json:loads"])
def test_wrong_target(target):
    """A row that names no adapter is an error of the row, not of the user's installation."""
    with pytest.raises(CatalogError) as caught:
        Catalog(installed=None).load(CatalogRow("state.x", target, "x"))
    assert not isinstance(caught.value, MissingDependencyError)


@pytest.mark.parametrize(
    "row", [CatalogRow("state.sqlite3", MEMORY, "x"), CatalogRow("state.x", MEMORY, "x", ("State.SQLite",))]
)
def test_duplicate(row):
    """A type or alias that another row has is an error."""
    with pytest.raises(DuplicateTypeError, match="in the catalog twice"):
        Catalog(installed=lambda: [row]).rows()


def test_installed_rows_are_read_late():
    """Entry points are read when a type is not built in, once."""
    reads: list[int] = []

    def installed():
        reads.append(1)
        return [CatalogRow("state.third", MEMORY, "x")]

    catalog = Catalog(installed=installed)
    catalog.find("state.sqlite")
    assert reads == []
    assert catalog.find("state.third").type == "state.third"
    assert "state.third" in {row.type for row in catalog.rows()}
    assert reads == [1]


def test_entry_points(monkeypatch):
    """An entry point is a row or a sequence of rows; anything else is an error that names it."""
    points = [
        EntryPoint("one", "tests.support.component_needs_more:ROW", "dapr_shared.components"),
        EntryPoint("more", "tests.support.component_needs_more:ROWS", "dapr_shared.components"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert [row.type for row in installed_rows()] == ["state.plugin1", "state.plugin2", "state.plugin3"]
    for value in ("json:loads", "json:nothing", "no_such_module:x"):
        points[:] = [EntryPoint("bad", value, "dapr_shared.components")]
        with pytest.raises(CatalogError, match="'bad'"):
            installed_rows()


def test_built_in_rows_are_importable():
    """Every built-in row names an adapter that can be loaded with the base installation."""
    catalog = Catalog(installed=None)
    for row in catalog.rows():
        assert catalog.load(row).settings_type
