"""`configuration.redis`: what is read, and which changes are told."""

from __future__ import annotations

import asyncio
import time

import pytest

from dapr_shared.components.redis import configuration
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    GetConfigurationRequest,
    SubscribeConfigurationRequest,
)
from tests.support.redis_components import opened


class Told:
    """A handler that keeps what it is told."""

    def __init__(self) -> None:
        self.items: dict[str, ConfigurationItem] = {}
        self.changes: list[tuple[str, str]] = []

    def __call__(self, items) -> None:
        self.items.update(items)
        self.changes += [(key, item.value) for key, item in items.items()]

    async def until(self, **values: str) -> None:
        end = time.monotonic() + 20
        while any(key not in self.items or self.items[key].value != value for key, value in values.items()):
            assert time.monotonic() < end, (values, self.items)
            await asyncio.sleep(0.01)


@pytest.fixture
def redis(server, database):
    return lambda *words: server.command(*words, db=database).splitlines()


@pytest.fixture
async def store(server, database):
    async with opened("configuration.redis", server, redisDB=str(database)) as found:
        yield found


async def test_get(store, redis):
    """Texts are items with the version behind two bars; other types, empty and absent keys are left out."""
    redis("MSET", "a", "1", "b", "2||v7", "empty", "", "bars", "||v1", "odd", "x||y||z")
    redis("RPUSH", "list", "1")
    everything = {
        "a": ConfigurationItem("1"),
        "b": ConfigurationItem("2", "v7"),
        "odd": ConfigurationItem("x", "y"),
    }
    assert await store.get(GetConfigurationRequest()) == everything
    assert await store.get(GetConfigurationRequest(("b", "list", "none", "empty"))) == {"b": everything["b"]}


async def test_a_database_that_is_too_large(store, redis, monkeypatch):
    """A database with more keys than are read as a whole is an error that says what to do; named keys are read."""
    monkeypatch.setattr(configuration, "MAX_KEYS", 10)
    redis("MSET", *(word for number in range(11) for word in (f"k{number}", "1")))
    with pytest.raises(BackendError, match="name the keys"):
        await store.get(GetConfigurationRequest())
    with pytest.raises(BackendError, match="redisDB"):
        await store.subscribe(SubscribeConfigurationRequest(()), Told())
    assert await store.get(GetConfigurationRequest(("k1",))) == {"k1": ConfigurationItem("1")}
    redis("DEL", "k10")
    assert len(await store.get(GetConfigurationRequest())) == 10


async def test_changes_of_keys(store, redis):
    """Changes of the keys are told: set, deleted, expired; not what was there, not other keys, not after the end."""
    redis("MSET", "a", "1", "b", "1")
    told = Told()
    subscription = await store.subscribe(SubscribeConfigurationRequest(("a", "b")), told)
    redis("SET", "other", "1")
    redis("SET", "a", "2||v2")
    await told.until(a="2")
    assert told.items["a"].version == "v2"
    redis("DEL", "a")
    await told.until(a="")
    redis("SET", "b", "3", "PX", "50")
    await told.until(b="")
    assert set(told.items) == {"a", "b"}
    await subscription.stop()
    await subscription.stop()
    last = list(told.changes)
    everything = Told()
    await store.subscribe(SubscribeConfigurationRequest(), everything)
    redis("SET", "a", "9")
    await everything.until(a="9")
    assert told.changes == last


async def test_all_keys(store, redis):
    """Without keys every change of the database is told; the last told is what is stored."""
    told = Told()
    await store.subscribe(SubscribeConfigurationRequest(), told)
    for number in range(100):
        redis("SET", f"k{number % 3}", str(number))
    await told.until(k0="99", k1="97", k2="98")
    redis("FLUSHDB")
    redis("SET", "k0", "new")
    await told.until(k0="new")


async def test_many_subscriptions_use_one_connection(store, server):
    """A hundred subscriptions need no more connections than one."""
    await store.subscribe(SubscribeConfigurationRequest(("a",)), Told())
    before = server.command("CLIENT", "LIST", "TYPE", "pubsub").count("id=")
    for number in range(100):
        await store.subscribe(SubscribeConfigurationRequest((f"k{number}",)), Told())
    assert server.command("CLIENT", "LIST", "TYPE", "pubsub").count("id=") == before


async def test_a_lost_server_comes_back(own_server):
    """What changed while the server was not heard is told when it is back, and later changes too."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    server.command("MSET", "a", "1", "b", "1")
    told, everything = Told(), Told()
    async with opened("configuration.redis", server) as store:
        await store.subscribe(SubscribeConfigurationRequest(("a", "b")), told)
        await store.subscribe(SubscribeConfigurationRequest(), everything)
        server.kill()
        server.start()
        server.command("SET", "a", "2")
        server.command("DEL", "b")
        server.command("SET", "c", "3")
        await told.until(a="2", b="")
        await everything.until(a="2", b="", c="3")
        server.command("SET", "a", "4")
        await told.until(a="4")


async def test_notifications_that_are_on_stay_on(own_server):
    """Notifications that somebody else has switched on stay on beside ours."""
    server = own_server("--notify-keyspace-events", "El")
    async with opened("configuration.redis", server) as store:
        await store.subscribe(SubscribeConfigurationRequest(("a",)), Told())
    flags = server.command("CONFIG", "GET", "notify-keyspace-events").splitlines()[1]
    assert set("El") <= set(flags)
    assert set("Kg$x") <= set(flags)


async def test_notifications_that_are_refused(own_server):
    """A server that tells no changes and lets nobody change that is an error that says what to set."""
    server = own_server()
    if "OK" not in server.command("ACL", "SETUSER", "default", "-config|set"):
        pytest.skip("a Redis before 7 has no rights on subcommands")
    async with opened("configuration.redis", server) as store:
        with pytest.raises(BackendError, match="notify-keyspace-events"):
            await store.subscribe(SubscribeConfigurationRequest(("a",)), Told())
