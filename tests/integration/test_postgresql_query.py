"""The query API on version v1 of `state.postgresql`."""

from __future__ import annotations

import json

import pytest

from dapr_shared.components.postgresql import query as query_module
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import SetRequest
from tests.support.component_postgresql import database, opened, server  # noqa: F401 - fixtures
from tests.support.component_setups import until, value_of
from tests.support.postgres_server import metadata

PEOPLE = {
    "1": {"person": {"org": "Dev Ops", "id": 1036}, "city": "Seattle", "state": "WA", "on": True},
    "2": {"person": {"org": "Hardware", "id": 9}, "city": "Portland", "state": "OR", "on": False},
    "3": {"person": {"org": "Finance", "id": 10.5}, "city": "Seattle", "state": "WA", "on": None},
    "4": {"person": {"org": "Dev Ops", "id": 200}, "city": "O'Hare", "state": "IL"},
    "5": {"person": {"org": "Hardware", "id": "10"}, "city": 7, "state": "CA", "tags": ["a", "b"]},
}


@pytest.fixture
async def store(server, database):  # noqa: F811
    async with opened("state.postgresql", metadata(server, database)) as opened_store:
        await opened_store.bulk_set(
            [SetRequest(f"app||{key}", json.dumps(value).encode()) for key, value in PEOPLE.items()]
        )
        await opened_store.bulk_set(
            [SetRequest(f"{app}||1", b'{"state":"WA"}') for app in ("other", "App", "app2", "a_p", "app||type||id")]
            + [SetRequest("app||bytes", b'{"state":"WA"}', is_json=False)]
        )
        yield opened_store


async def keys(store, **query) -> str:
    result = await store.query(query, {}, "app||")
    assert all(key.startswith("app||") for key, _ in result.items)
    return " ".join(sorted(key.removeprefix("app||") for key, _ in result.items))


FILTERS = [
    ({"EQ": {"state": "WA"}}, "1 3"),
    ({"EQ": {"person.org": "Dev Ops"}}, "1 4"),
    ({"EQ": {"city": "O'Hare"}}, "4"),
    ({"EQ": {"person.id": 9}}, "2"),
    ({"EQ": {"person.id": 9.0}}, "2"),
    ({"EQ": {"person.id": "9"}}, "2"),
    ({"EQ": {"on": True}}, "1"),
    ({"EQ": {"on": "true"}}, "1"),
    ({"EQ": {"on": None}}, "3"),
    ({"EQ": {"tags": ["a", "b"]}}, "5"),
    ({"EQ": {"absent": "x"}}, ""),
    ({"NEQ": {"state": "WA"}}, "2 4 5"),
    ({"NEQ": {"person.id": 9}}, "1 3 4 5"),
    ({"NEQ": {"on": True}}, "2 3"),
    ({"GT": {"person.id": 10}}, "1 3 4"),
    ({"GTE": {"person.id": 10.5}}, "1 3 4"),
    ({"LT": {"person.id": 200}}, "2 3"),
    ({"LTE": {"person.id": 200}}, "2 3 4"),
    ({"IN": {"state": ["CA", "OR", "x"]}}, "2 5"),
    ({"IN": {"person.id": [9, "10"]}}, "2 5"),
    ({"AND": [{"EQ": {"state": "WA"}}, {"EQ": {"person.org": "Finance"}}]}, "3"),
    ({"OR": [{"EQ": {"state": "IL"}}, {"AND": [{"EQ": {"city": 7}}, {"IN": {"state": ["CA"]}}]}]}, "4 5"),
    ({}, "1 2 3 4 5 bytes"),
    ({"EQ": {"state') OR ('1'='1": "x"}}, ""),
    ({"EQ": {"state": "' OR '1'='1"}}, ""),
]


@pytest.mark.parametrize(("given", "expected"), FILTERS, ids=lambda value: json.dumps(value)[:60])
async def test_filters(store, given, expected):
    """Each filter finds what it says among the keys of the prefix, and no text in it is ever SQL."""
    assert await keys(store, filter=given) == expected


async def test_sort(store):
    """Results come in the order of the sort, numbers as numbers, those without the field last."""

    async def order(*sort: dict[str, str]) -> list[str]:
        result = await store.query({"filter": {"NEQ": {"state": ""}}, "sort": list(sort)}, {}, "app||")
        return [key.removeprefix("app||") for key, _ in result.items]

    assert await order({"key": "state"}, {"key": "person.id", "order": "DESC"}) == ["5", "4", "2", "1", "3"]
    assert (await order({"key": "person.id", "order": "asc"}))[1:] == ["2", "3", "4", "1"]


async def test_pages(store):
    """Pages have at most their limit, and a token that leads on; together they are everything, once."""
    found: list[str] = []
    token = ""
    for size in (2, 2, 1):
        result = await store.query(
            {"filter": {"NEQ": {"state": ""}}, "page": {"limit": 2, "token": token}}, {}, "app||"
        )
        assert len(result.items) == size
        found += [key for key, _ in result.items]
        token = result.token
    assert sorted(found) == [f"app||{number}" for number in range(1, 6)]
    assert token == "5"
    last = await store.query({"filter": {"NEQ": {"state": ""}}, "page": {"limit": 2, "token": token}}, {}, "app||")
    assert (last.items, last.token) == ([], "")
    assert (await store.query({}, {}, "app||")).token == ""


async def test_values(store):
    """A result has value, form and the etag that a read gives."""
    items = dict((await store.query({"filter": {}}, {}, "app||")).items)
    assert json.loads(items["app||1"].data) == PEOPLE["1"]
    assert (items["app||bytes"].data, items["app||bytes"].is_json) == (b'{"state":"WA"}', False)
    await store.set(SetRequest("app||1", b"1", etag=items["app||1"].etag))


async def test_expired_values_are_not_found(store):
    """What has expired is no result."""
    await store.set(SetRequest("app||1", b'{"state":"WA"}', ttl=1))

    async def gone() -> bool:
        return await value_of(store, "app||1") is None

    await until(gone)
    assert await keys(store, filter={"EQ": {"state": "WA"}}) == "3"


@pytest.mark.parametrize(
    "query",
    [
        {"filter": []}, {"filter": "x"}, {"filter": {"EQ": {}}}, {"filter": {"EQ": {"a": 1, "b": 2}}}, {"filter": {"EQ": 1}},
        {"filter": {"XX": {"a": 1}}}, {"filter": {"EQ": {"a": 1}, "NEQ": {"a": 1}}}, {"filter": {"EQ": {"": 1}}},
        {"filter": {"AND": [{"EQ": {"a": 1}}]}}, {"filter": {"OR": {}}}, {"filter": {"IN": {"a": []}}},
        {"filter": {"IN": {"a": 1}}}, {"filter": {"GT": {"a": "x"}}}, {"filter": {"LT": {"a": True}}},
        {"filter": {"IN": {"a": ["x"] * 1001}}}, {"sort": {}}, {"sort": [1]}, {"sort": [{"key": "a", "order": "; DROP"}]},
        {"sort": [{}]}, {"page": 1}, {"page": {"limit": -1}}, {"page": {"limit": "2"}}, {"page": {"token": "x"}},
        {"page": {"token": "1; DROP TABLE state"}}, {"sort": [{"key": "a"}] * 40}, {"filter": {"EQ": {"a": "\0"}}},
    ],
    ids=lambda value: json.dumps(value)[:60],
)  # fmt: skip
async def test_wrong_queries(store, query):
    """What is no query is an error of the call."""
    with pytest.raises(BackendError):
        await store.query(query, {}, "app||")


async def test_deep_queries(store):
    """Filters inside each other have a bound."""
    query = {"EQ": {"a": 1}}
    for _ in range(100):
        query = {"AND": [query, {"EQ": {"a": 1}}]}
    with pytest.raises(BackendError, match="inside each other"):
        await store.query({"filter": query}, {}, "app||")


async def test_many_results(store, monkeypatch):
    """More results, or more bytes, than one answer may have are an error that says what to do."""
    monkeypatch.setattr(query_module, "MAX_RESULTS", 3)
    for page in ({}, {"limit": 5}):
        with pytest.raises(BackendError, match=r"page\.limit"):
            await store.query({"page": page}, {}, "app||")
    assert len((await store.query({"page": {"limit": 3}}, {}, "app||")).items) == 3
    monkeypatch.setattr(query_module, "MAX_BYTES", 100)
    with pytest.raises(BackendError, match=r"page\.limit"):
        await store.query({"page": {"limit": 3}}, {}, "app||")
