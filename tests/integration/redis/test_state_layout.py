"""`state.redis`: what is in the server, byte for byte, as daprd writes and reads it (reference components §2)."""

from __future__ import annotations

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import Concurrency, DeleteRequest, EtagMismatchError, GetRequest, SetRequest
from tests.support.component_setups import must_get, value_of
from tests.support.redis_components import opened

KEY = "orders||tea"


@pytest.fixture
async def store(server, database):
    async with opened("state.redis", server, redisDB=str(database)) as found:
        yield found


@pytest.fixture
def redis(server, database):
    """Runs a command in the test's database; the lines that redis-cli prints."""
    return lambda *words: server.command(*words, db=database).splitlines()


async def test_a_value_is_a_hash(store, redis):
    """A value is a hash of data and version; each write makes the version one more, and it is the etag."""
    await store.set(SetRequest(KEY, b'{"a": 1}'))
    assert redis("HGETALL", KEY) == ["data", '{"a": 1}', "version", "1"]
    await store.set(SetRequest(KEY, b"2"))
    assert redis("HGETALL", KEY) == ["data", "2", "version", "2"]
    assert (await must_get(store, KEY)).etag == "2"
    assert redis("TTL", KEY) == ["-1"]


async def test_a_first_write_is_marked(store, redis):
    """A first write has the mark that daprd gives it."""
    await store.set(SetRequest(KEY, b"1", concurrency=Concurrency.FIRST_WRITE))
    assert redis("HGET", KEY, "first-write") == ["0"]
    assert redis("HGET", KEY, "version") == ["1"]


async def test_expiry_is_the_servers(store, redis):
    """A time to live is the key's expiry at the server, and the next write without one clears it."""
    await store.set(SetRequest(KEY, b"1", ttl=100))
    assert 95 <= int(redis("TTL", KEY)[0]) <= 100
    await store.set(SetRequest(KEY, b"1"))
    assert redis("TTL", KEY) == ["-1"]


async def test_default_expiry(server, database, redis):
    """`ttlInSeconds` of the component holds for values that say nothing, and a value may say otherwise."""
    async with opened("state.redis", server, redisDB=str(database), ttlInSeconds="100") as store:
        await store.set(SetRequest("a||1", b"1"))
        await store.set(SetRequest("a||2", b"1", ttl=-1))
        await store.transact([SetRequest("a||3", b"1")], {})
    assert [int(redis("TTL", f"a||{n}")[0]) > 0 for n in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize("first_write", [False, True])
async def test_what_daprd_wrote_is_read_and_written(store, redis, first_write):
    """A hash of daprd's is read with its etag, changed under its etag alone, and deleted."""
    redis("HSET", KEY, "data", '"from daprd"', "version", "41", *(("first-write", "0") if first_write else ()))
    found = await must_get(store, KEY)
    assert (found.data, found.etag) == (b'"from daprd"', "41")
    with pytest.raises(EtagMismatchError):
        await store.set(SetRequest(KEY, b"2", etag="40"))
    await store.set(SetRequest(KEY, b"2", etag="41"))
    assert redis("HGET", KEY, "version") == ["42"]
    with pytest.raises(EtagMismatchError):
        await store.delete(DeleteRequest(KEY, etag="41"))
    await store.delete(DeleteRequest(KEY, etag="42"))
    assert redis("EXISTS", KEY) == ["0"]


async def test_a_plain_text_is_read_and_replaced(store, redis):
    """A text from before daprd had etags is read without an etag, and the next write makes it a hash."""
    redis("SET", KEY, "old")
    found = await must_get(store, KEY)
    assert (found.data, found.etag) == (b"old", None)
    await store.set(SetRequest(KEY, b"new"))
    assert redis("HGETALL", KEY) == ["data", "new", "version", "1"]


async def test_other_types_are_no_values(store, redis):
    """A list, or a hash without data or version, is an error that says so; in a bulk read of its key alone."""
    redis("RPUSH", "a||list", "1")
    redis("HSET", "a||hash", "field", "1")
    redis("HSET", "a||half", "data", "1")
    for key in ("a||list", "a||hash", "a||half"):
        with pytest.raises(BackendError):
            await store.get(GetRequest(key))
    await store.set(SetRequest("a||good", b"1"))
    found = await store.bulk_get([GetRequest("a||list"), GetRequest("a||good")])
    assert isinstance(found[0], BackendError)
    assert found[1].data == b"1"
    await store.set(SetRequest("a||list", b"2"))
    assert await value_of(store, "a||list") == b"2"


async def test_large_versions(store, redis):
    """Versions are 64-bit numbers, in transactions too."""
    redis("HSET", KEY, "data", "1", "version", "9007199254740993")
    await store.set(SetRequest(KEY, b"2", etag="9007199254740993"))
    await store.transact([SetRequest(KEY, b"3", etag="9007199254740994")], {})
    assert redis("HGET", KEY, "version") == ["9007199254740995"]


async def test_scripts_that_the_server_forgot(store, server):
    """After SCRIPT FLUSH, as after a failover, scripts are sent again: single, bulk and transaction."""
    await store.set(SetRequest(KEY, b"1"))
    server.command("SCRIPT", "FLUSH")
    await store.bulk_set([SetRequest("a||1", b"1"), SetRequest("a||2", b"1")])
    server.command("SCRIPT", "FLUSH")
    await store.transact([SetRequest(KEY, b"2", etag="1"), DeleteRequest("a||1")], {})
    server.command("SCRIPT", "FLUSH")
    assert await value_of(store, KEY) == b"2"
    assert await value_of(store, "a||1") is None
