"""Where components say that their data is."""

from __future__ import annotations

import pytest

from dapr_shared.components.memory.state import MemoryStateSettings, MemoryStateStore
from dapr_shared.components.sqlite.state import SqliteStateSettings, SqliteStateStore
from dapr_shared.contracts.component import UNKNOWN_LOCATION, ComponentContext
from dapr_shared.contracts.settings import decode_settings
from tests.support.component_fakes import Fake, FakeSettings


def sqlite(**metadata: str) -> str | None:
    settings = decode_settings(SqliteStateSettings, metadata)
    return SqliteStateStore(settings, ComponentContext("s", "state.sqlite")).data_location()


def test_one_file_however_it_is_written(tmp_path, monkeypatch):
    """Settings that reach one table of one file have one place, whatever else differs; nothing is made there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    one = sqlite(connectionString="data/x.db")
    assert one is not None
    for other in (
        {"url": f"{tmp_path}/data/x.db"},
        {"connectionString": "./data/../data/x.db", "busyTimeout": "5s"},
        {"connectionString": f"file:{tmp_path}/data/x.db?mode=ro&_pragma=cache_size(1)"},
        {"connectionString": "data/%78.db", "tableName": "STATE", "metadataTableName": "other"},
        {"connectionString": "link/data/x.db", "disableWAL": "true"},
    ):
        assert sqlite(**other) == one, other
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("other", [{"connectionString": "y.db"}, {"connectionString": "x.db", "tableName": "t"}])
def test_other_places(tmp_path, monkeypatch, other):
    """Another file or another table is another place."""
    monkeypatch.chdir(tmp_path)
    assert sqlite(connectionString="x.db") != sqlite(**other)


def test_private_data():
    """What lives in the process belongs to its component alone."""
    assert sqlite(connectionString=":memory:") is None
    assert MemoryStateStore(MemoryStateSettings(), ComponentContext("m", "state.in-memory")).data_location() is None


def test_an_adapter_that_does_not_say():
    """An adapter that says nothing might be anywhere."""
    assert Fake(FakeSettings(), ComponentContext("f", "fake.one")).data_location() == UNKNOWN_LOCATION
