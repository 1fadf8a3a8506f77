"""`lock.redis` and `bindings.redis` at a real server."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.bindings import BindingRequest
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.lock import TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.contracts.settings import SettingError
from tests.support.redis_components import make, opened


@pytest.fixture
def redis(server, database):
    return lambda *words: server.command(*words, db=database).splitlines()


@pytest.fixture
async def locks(server, database):
    async with opened("lock.redis", server, redisDB=str(database)) as found:
        yield found


@pytest.fixture
async def binding(server, database):
    async with opened("bindings.redis", server, redisDB=str(database)) as found:
        yield found


async def test_a_lock_has_one_owner(locks, redis):
    """A lock is taken once, is kept as daprd keeps it, and is freed by its owner alone."""
    assert await locks.try_lock(TryLockRequest("lock||app||r", "one", 60))
    assert not await locks.try_lock(TryLockRequest("lock||app||r", "two", 60))
    assert not await locks.try_lock(TryLockRequest("lock||app||r", "one", 60))
    assert redis("GET", "lock||app||r") == ["one"]
    assert 55 <= int(redis("TTL", "lock||app||r")[0]) <= 60
    assert await locks.unlock(UnlockRequest("lock||app||r", "two")) is UnlockStatus.LOCK_BELONGS_TO_OTHERS
    assert await locks.unlock(UnlockRequest("lock||app||r", "one")) is UnlockStatus.SUCCESS
    assert await locks.unlock(UnlockRequest("lock||app||r", "one")) is UnlockStatus.LOCK_DOES_NOT_EXIST


async def test_a_lock_expires(locks):
    """A lock is free again when its time is over."""
    assert await locks.try_lock(TryLockRequest("r", "one", 1))
    async with asyncio.timeout(10):
        while not await locks.try_lock(TryLockRequest("r", "two", 60)):  # noqa: ASYNC110 - a server sends no event
            await asyncio.sleep(0.05)
    assert await locks.unlock(UnlockRequest("r", "one")) is UnlockStatus.LOCK_BELONGS_TO_OTHERS


async def test_one_of_many_gets_the_lock(server, database):
    """Of many owners in two instances exactly one gets the lock."""
    async with (
        opened("lock.redis", server, redisDB=str(database)) as one,
        opened("lock.redis", server, redisDB=str(database)) as two,
    ):
        tries = [(one, two)[n % 2].try_lock(TryLockRequest("r", str(n), 60)) for n in range(50)]
        assert sum(await asyncio.gather(*tries)) == 1


async def test_locks_need_one_server(own_server):
    """A cluster is refused, and so is a server with replicas without failover."""
    with pytest.raises(SettingError, match="redisType"):
        make("lock.redis", "h", redisType="cluster")
    primary = own_server()
    replica = own_server("--replicaof", "127.0.0.1", str(primary.port))
    async with asyncio.timeout(20):
        while "connected_slaves:1" not in primary.command("INFO", "replication"):  # noqa: ASYNC110 - a server sends no event
            await asyncio.sleep(0.05)
    with pytest.raises(BackendError, match="replicas"):
        async with opened("lock.redis", primary):
            pass
    replica.kill()


async def test_binding_operations(binding, redis):
    """Texts are set, read, deleted and counted under the key of the request's metadata."""

    async def call(operation: str, data: bytes = b"", **metadata: str):
        return await binding.invoke(BindingRequest(operation, data, {"key": "k", **metadata}))

    assert await call("create", b'"v"') is None
    assert redis("GET", "k") == ['"v"']
    assert (await call("get")).data == b'"v"'
    assert (await call("get", delete="true")).data == b'"v"'
    assert (await call("get")).data == b""
    assert await call("increment") is None
    assert await call("increment", ttlInSeconds="100") is None
    assert redis("GET", "k") == ["2"]
    assert 95 <= int(redis("TTL", "k")[0]) <= 100
    await call("create", b"x", ttlInSeconds="50s")
    assert 45 <= int(redis("TTL", "k")[0]) <= 50
    await call("delete")
    assert redis("EXISTS", "k") == ["0"]


@pytest.mark.parametrize(
    ("operation", "metadata"),
    [("create", {}), ("get", {"key": ""}), ("create", {"key": "k", "ttlInSeconds": "soon"}), ("list", {"key": "k"})],
)
async def test_wrong_requests(binding, redis, operation, metadata):
    """A request without a key, with a wrong time or an unknown operation is an error, and nothing is written."""
    with pytest.raises(BackendError):
        await binding.invoke(BindingRequest(operation, b"1", metadata))
    assert redis("DBSIZE") == ["0"]


async def test_counting_a_text_is_an_error(binding):
    """What is no number cannot be counted; the error does not show it."""
    await binding.invoke(BindingRequest("create", b"secret text", {"key": "k"}))
    with pytest.raises(BackendError) as caught:
        await binding.invoke(BindingRequest("increment", b"", {"key": "k"}))
    assert "secret" not in str(caught.value)
