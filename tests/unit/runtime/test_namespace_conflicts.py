"""One app id in two namespaces: whether its data is kept apart."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest

from dapr_shared.components.catalog import BUILT_IN, Catalog, CatalogRow
from dapr_shared.components.registry import ComponentRegistry
from dapr_shared.contracts.settings import Setting, Settings
from dapr_shared.contracts.state import StateStore
from dapr_shared.resources.model import App
from dapr_shared.runtime.apps import namespace_conflicts
from tests.support.component_fakes import FAKE_ROWS, define

APPS = [App(name="a", app_id="a"), App(name="a", app_id="a", namespace="other"), App(name="b", app_id="b")]


class RemoteSettings(Settings, frozen=True, kw_only=True):
    """Settings of a store that does not say where it is."""

    host: Annotated[str, Setting("Its address.")] = ""


class RemoteStore(StateStore[RemoteSettings]):
    """A store that does not say where its data is."""

    settings_type = RemoteSettings
    capabilities: ClassVar[frozenset[str]] = frozenset()

    async def start(self, stack) -> None:
        raise AssertionError("nothing is opened to find out")

    async def get(self, request):
        return None

    async def set(self, request):
        """Not used."""

    async def delete(self, request):
        """Not used."""


@pytest.fixture
def conflicts(tmp_path, monkeypatch):
    """The problems of two components of one kind, in the namespaces `default` and `other`."""
    monkeypatch.chdir(tmp_path)
    row = CatalogRow("state.remote", f"{__name__}:RemoteStore", "A fake")
    registry = ComponentRegistry(Catalog((*BUILT_IN, *FAKE_ROWS, row), installed=None))
    monkeypatch.setattr(registry._catalog, "load", _loading(registry._catalog.load))

    def find(here: dict, there: dict, type_="state.sqlite", there_type="", **fields):
        definitions = [
            define("s", here, type=type_, file="1.yaml", **fields),
            define("t", there, type=there_type or type_, file="2.yaml", namespace="other"),
        ]
        return [str(conflict) for conflict in namespace_conflicts(APPS, definitions, registry.preview)]

    return find


def _loading(load):
    return lambda row: RemoteStore if row.type == "state.remote" else load(row)


@pytest.mark.parametrize(
    "there",
    [
        {"connectionString": "x.db"},
        {"connectionString": "x.db", "busyTimeout": "3s"},
        {"url": "x.db"},
        {"connectionString": "./x.db"},
        {"connectionString": "x.db", "actorStateStore": "true", "keyPrefix": "namespace"},
        {"connectionString": "x.db", "keyPrefix": "none"},
        {"connectionString": "x.db", "unknown": "1"},
    ],
)
def test_one_place_is_a_conflict(conflicts, there):
    """The same file is found behind every harmless difference, and the problem names both files and namespaces."""
    (problem,) = conflicts({"connectionString": "x.db"}, there)
    assert problem.startswith("2.yaml")
    assert "default and other" in problem
    assert "1.yaml" in problem


def test_an_absolute_path(conflicts, tmp_path):
    """A relative and an absolute path to one file are one place."""
    assert conflicts({"connectionString": "x.db"}, {"connectionString": str(tmp_path / "x.db")})


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"connectionString": "x.db"}, {"connectionString": "y.db"}),
        ({"connectionString": "x.db"}, {"connectionString": "x.db", "tableName": "other"}),
        ({"connectionString": ":memory:"}, {"connectionString": ":memory:"}),
        ({"connectionString": "x.db", "keyPrefix": "namespace"}, {"connectionString": "x.db", "keyPrefix": "Namespace"}),
        ({"connectionString": "x.db", "keyPrefix": "{namespace}"}, {"connectionString": "x.db", "keyPrefix": "{namespace}"}),
        ({"connectionString": "{namespace}.db"}, {"connectionString": "{namespace}.db"}),
    ],
)  # fmt: skip
def test_data_that_is_apart(conflicts, here, there):
    """Other files, other tables, private data and prefixes with the namespace keep the two apart."""
    assert conflicts(here, there) == []


def test_a_store_that_does_not_say(conflicts):
    """What an adapter cannot tell is a conflict with every component of its kind, unless the prefixes differ."""
    here, there = {"host": "one"}, {"host": "two"}
    assert "may keep" in conflicts(here, there, "state.remote")[0]
    assert conflicts(here, {"connectionString": "x.db"}, "state.remote", "state.sqlite")
    apart = {"keyPrefix": "namespace"}
    assert conflicts({**here, **apart}, {**there, **apart}, "state.remote") == []
    assert conflicts(here, {}, "state.remote", "state.in-memory") == []
    assert conflicts(here, {}, "state.remote", "secretstores.fake") == []


def test_components_that_cannot_be_made(conflicts):
    """A component whose settings are wrong may be anywhere: its former self could still be there."""
    assert conflicts({"connectionString": "x.db"}, {})


def test_scopes_keep_apart(conflicts):
    """A component that the app does not see shares nothing with it."""
    assert conflicts({"connectionString": "x.db"}, {"connectionString": "x.db"}, scopes=("b",)) == []


async def test_secrets_hide_nothing(desk, monkeypatch):
    """Values are compared as they are read from a secret store, and a refused reload shows nothing of the new to apps."""
    file = str(desk.folder.parent / "state.db")
    monkeypatch.setenv("HIDDEN_PLACE", file)
    reference = {"name": "connectionString", "secretKeyRef": {"name": "HIDDEN_PLACE", "key": "HIDDEN_PLACE"}}
    spec = {"type": "state.sqlite", "version": "v1", "metadata": [reference]}
    hidden = desk.of_dapr("Component", "store", spec, namespace="other", auth={"secretStore": "env"})
    secrets = desk.component("env", "secretstores.local.env", namespace="other")
    plain = desk.component("store", "state.sqlite", {"connectionString": file})
    here, there = desk.app("a"), desk.app("a", token="there", namespace="other")
    async with desk.start(here, plain):
        assert not await desk.reload(here, there, plain, hidden, secrets)
        assert "keeps their data in one place" in desk.told
        assert await desk.id_of("there") == ""
        assert len([opened for opened in desk.instance.parts.registry.all_open() if opened.name == "store"]) == 1
