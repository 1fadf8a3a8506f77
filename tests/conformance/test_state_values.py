"""State stores: reading and writing."""

from __future__ import annotations

import asyncio
import json

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import (
    BULK_PARALLELISM,
    Concurrency,
    Consistency,
    DeleteRequest,
    EtagMismatchError,
    GetRequest,
    NotSupportedError,
    SetRequest,
    StateCapability,
)
from tests.support.component_setups import must_get, value_of

JSON_VALUES = [b"1", b"1.0", b'"text"', b'""', b"null", b"[]", '{"ü": "\U0001f600", "a":  [1, 2.50]}'.encode(), b"true"]
OTHER_VALUES = [b"", b"\x00", bytes(range(256)), b"\xff\xfe", b'{"not": "marked"}', "ü".encode("latin-1")]


@pytest.mark.parametrize("value", JSON_VALUES, ids=repr)
async def test_json_comes_back_as_it_was(state, state_harness, value):
    """JSON text comes back byte for byte, also its white space and number forms, or at least with its value."""
    await state.set(SetRequest("app||k", value))
    found = await value_of(state, "app||k")
    if state_harness.setup.json_by_value:
        assert json.loads(found) == json.loads(value)
    else:
        assert found == value


@pytest.mark.parametrize("value", OTHER_VALUES, ids=repr)
async def test_bytes_come_back_as_they_were(state, value):
    """Values that are no JSON come back byte for byte."""
    await state.set(SetRequest("app||k", value, is_json=False))
    assert await value_of(state, "app||k") == value


@pytest.mark.parametrize("is_json", [True, False])
async def test_four_mebibytes(state, is_json):
    """A value of 4 MiB comes back."""
    value = b'"' + b"x" * (4 * 1024 * 1024 - 2) + b'"' if is_json else bytes(4 * 1024 * 1024)
    await state.set(SetRequest("app||big", value, is_json=is_json))
    assert await value_of(state, "app||big") == value


@pytest.mark.parametrize("is_json", [True, False])
async def test_the_form_of_a_value(state, is_json):
    """A store that tells whether a value is JSON tells what was set, in single and bulk reads."""
    await state.set(SetRequest("app||k", b"1", is_json=is_json))
    (bulk,) = await state.bulk_get([GetRequest("app||k")])
    assert {(await must_get(state, "app||k")).is_json, bulk.is_json} <= {None, is_json}


async def test_absent_key(state):
    """An absent key is `None`, and deleting it without an etag succeeds."""
    assert await state.get(GetRequest("app||absent")) is None
    await state.delete(DeleteRequest("app||absent"))


async def test_replace_and_delete(state):
    """A second write replaces the first, in both forms of value; a delete removes it."""
    await state.set(SetRequest("app||k", b"1"))
    await state.set(SetRequest("app||k", b"\x00", is_json=False))
    assert await value_of(state, "app||k") == b"\x00"
    await state.set(SetRequest("app||k", b"2"))
    assert await value_of(state, "app||k") == b"2"
    await state.delete(DeleteRequest("app||k"))
    assert await value_of(state, "app||k") is None


@pytest.mark.parametrize(
    "key", ["app||ü\U0001f600", "app||a'b\"c;--", "app||%_[*?]\\", "app|| ", "app||" + "k" * 4000, "app||a\nb"]
)
async def test_any_key(state, key):
    """Keys are only text: no character in them has a meaning."""
    await state.set(SetRequest(key, b"1"))
    assert await value_of(state, key) == b"1"
    await state.delete(DeleteRequest(key))
    assert await value_of(state, key) is None


async def test_keys_differ_by_case_and_prefix(state):
    """Two apps with the same key have two values, also when their ids differ in case alone."""
    keys = ["a||k", "A||k", "a||K", "b||k", "a||k||x"]
    for key in keys:
        await state.set(SetRequest(key, f'"{key}"'.encode()))
    assert [await value_of(state, key) for key in keys] == [f'"{key}"'.encode() for key in keys]
    await state.delete(DeleteRequest("a||k"))
    assert [await value_of(state, key) is None for key in keys] == [True, False, False, False, False]


@pytest.mark.parametrize("consistency", list(Consistency))
async def test_consistency_is_a_hint(state, consistency):
    """Every consistency is accepted, and a write is seen by the next read."""
    await state.set(SetRequest("app||k", b"1", consistency=consistency))
    assert (await must_get(state, "app||k")).data == b"1"
    await state.delete(DeleteRequest("app||k", consistency=consistency))
    assert await state.get(GetRequest("app||k", consistency=consistency)) is None


@pytest.mark.parametrize("parallelism", [0, 1, 3, 1000])
async def test_bulk_get(state, parallelism):
    """Answers come in the order of the requests, absent and repeated keys too."""
    await state.set(SetRequest("app||a", b"1"))
    await state.set(SetRequest("app||b", b"\x02", is_json=False))
    answers = await state.bulk_get(
        [GetRequest(f"app||{key}") for key in ("b", "absent", "a", "b")], parallelism=parallelism
    )
    assert [answer and answer.data for answer in answers] == [b"\x02", None, b"1", b"\x02"]
    assert await state.bulk_get([]) == []


@pytest.mark.parametrize("count", [0, 1, BULK_PARALLELISM + 1, 600])
async def test_bulk_set_and_delete(state, count):
    """Bulk writes write all, whatever their number."""
    await state.bulk_set([SetRequest(f"app||{index}", str(index).encode()) for index in range(count)])
    answers = await state.bulk_get([GetRequest(f"app||{index}") for index in range(count)])
    assert [answer and answer.data for answer in answers] == [str(index).encode() for index in range(count)]
    await state.bulk_delete([DeleteRequest(f"app||{index}") for index in range(count)])
    assert await state.bulk_get([GetRequest(f"app||{index}") for index in range(count)]) == [None] * count


async def test_bulk_goes_on_after_an_error(state):
    """In a bulk write the others are done when one fails, and its error is raised."""
    if StateCapability.ETAG not in state.effective_capabilities():
        pytest.skip("has no etags")
    await state.set(SetRequest("app||b", b"0"))
    with pytest.raises(EtagMismatchError):
        await state.bulk_set(
            [
                SetRequest("app||a", b"1"),
                SetRequest("app||b", b"1", concurrency=Concurrency.FIRST_WRITE),
                SetRequest("app||c", b"1"),
            ]
        )
    assert [await value_of(state, f"app||{key}") for key in "abc"] == [b"1", b"0", b"1"]


async def test_queries(state):
    """A store without the query API says so."""
    if StateCapability.QUERY_API in state.effective_capabilities():
        pytest.skip("answers queries")
    with pytest.raises(NotSupportedError):
        await state.query({}, {})


async def test_delete_with_prefix(state):
    """All keys below the prefix go and no others; a store without the capability says so."""
    if StateCapability.DELETE_WITH_PREFIX not in state.effective_capabilities():
        with pytest.raises(NotSupportedError):
            await state.delete_with_prefix("app||t||1||")
        return
    below = ["a_p||t||1||x", "a_p||t||1||y%"]
    others = ["a_p||t||1||x||deep", "a_p||t||1", "a_p||t||12||x", "aXp||t||1||x", "A_P||t||1||x"]
    await state.bulk_set([SetRequest(key, b"1") for key in (*below, *others)])
    assert await state.delete_with_prefix("a_p||t||1||") == len(below)
    assert [await value_of(state, key) for key in below] == [None, None]
    assert [await value_of(state, key) for key in others] == [b"1"] * len(others)
    assert await state.delete_with_prefix("a_p||t||1||") == 0


async def all_pages(state, pattern: str, page_size: int | None) -> list[str]:
    keys: list[str] = []
    token: str | None = None
    for _ in range(100):
        page = await state.keys_like(pattern, page_size, token)
        keys += page.keys
        token = page.token
        if token is None:
            return keys
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("page_size", [None, 1, 2, 5, 100])
async def test_keys_like(state, state_harness, page_size):
    """Keys are listed by pattern, in pages, oldest first or in the order of keys; a store without the capability says so."""
    if StateCapability.KEYS_LIKE not in state.effective_capabilities():
        with pytest.raises(NotSupportedError):
            await state.keys_like("a%")
        return
    for key in ("a||1", "a||2", "b||1", "A||1", "a||%", "a||[x]", "a||*"):
        await state.set(SetRequest(key, b"1"))
    order = sorted if state_harness.setup.keys_by_name else list
    assert await all_pages(state, "a||%", page_size) == order(["a||1", "a||2", "a||%", "a||[x]", "a||*"])
    assert await all_pages(state, "a||_", page_size) == order(["a||1", "a||2", "a||%", "a||*"])
    assert await all_pages(state, "a||\\%", page_size) == ["a||%"]
    assert await all_pages(state, "a||[x]", page_size) == ["a||[x]"]
    assert await all_pages(state, "a||*", page_size) == ["a||*"]
    assert await all_pages(state, "none%", page_size) == []
    with pytest.raises(BackendError):
        await state.keys_like("")
    with pytest.raises(BackendError):
        await state.keys_like("a%", 1, "no token")


async def test_many_at_once(state):
    """A thousand writes and reads at once are all right."""
    await asyncio.gather(*(state.set(SetRequest(f"app||{index}", str(index).encode())) for index in range(1000)))
    values = await asyncio.gather(*(value_of(state, f"app||{index}") for index in range(1000)))
    assert values == [str(index).encode() for index in range(1000)]


async def test_where_the_data_is(state_harness, state):
    """Two stores with the same settings name the same place and share their data, or say that theirs is their own."""
    location = state_harness.make().data_location()
    assert location == state.data_location()
    await state.set(SetRequest("app||k", b"1"))
    async with state_harness.opened() as other:
        if location is None:
            assert await value_of(other, "app||k") is None
        else:
            assert await value_of(other, "app||k") == b"1"
