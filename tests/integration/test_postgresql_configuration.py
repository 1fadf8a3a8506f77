"""`configuration.postgresql`: what holds beyond the promises of every configuration store."""

from __future__ import annotations

import asyncio
import json

import pytest

from dapr_shared.components.postgresql import configuration as configuration_module
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    GetConfigurationRequest,
    SubscribeConfigurationRequest,
)
from dapr_shared.contracts.settings import SettingError
from tests.support.component_postgresql import database, make, opened, server  # noqa: F401 - fixtures
from tests.support.component_setups import until
from tests.support.demo import CHECKOUT
from tests.support.pages import Page
from tests.support.postgres_server import CONFIGURATION, PostgresServer, metadata, new_directory

TYPE = "configuration.postgresql"


class Told:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[dict[str, ConfigurationItem]] = []

    def __call__(self, items) -> None:
        self.calls.append(dict(items))

    def values(self, key: str) -> list[str]:
        return [call[key].value for call in self.calls if key in call]

    async def last(self, key: str, value: str) -> None:
        async def there() -> bool:
            return self.values(key)[-1:] == [value]

        await until(there, seconds=15)


def put(server: PostgresServer, database: str, key: str, value: str, version: str = "1", more: object = None) -> None:  # noqa: F811
    replace = f"DELETE FROM configtable WHERE key = '{key}' AND version = '{version}'"
    insert = f"INSERT INTO configtable VALUES ('{key}', '{value}', '{version}', '{json.dumps(more)}')"
    server.sql(f"BEGIN; {replace}; {insert}; COMMIT", database)


@pytest.fixture
def given(server, database) -> dict[str, str]:  # noqa: F811
    server.sql(CONFIGURATION, database)
    return metadata(server, database, table="configtable", notifyChannel="config")


async def test_get(server, database, given):  # noqa: F811
    """Items come with version and metadata, by key or all; of several rows the highest number counts, as in Dapr."""
    put(server, database, "a", "old", "2", {"m": "1", "n": 2})
    put(server, database, "a", "new", "10", {"m": "x"})
    put(server, database, "a", "none", "latest")
    put(server, database, 'ü " ||', "b", "v")
    async with opened(TYPE, given) as store:
        a = ConfigurationItem("new", "10", {"m": "x"})
        assert await store.get(GetConfigurationRequest(("a", "absent"))) == {"a": a}
        everything = await store.get(GetConfigurationRequest())
        assert everything == {"a": a, 'ü " ||': ConfigurationItem("b", "v")}


async def test_changes(server, database, given):  # noqa: F811
    """Changes are told, those of the keys alone; a new version, a removal, and a row whose removal shows an older one."""
    put(server, database, "a", "1")
    async with opened(TYPE, given) as store:
        one, every = Told(), Told()
        await store.subscribe(SubscribeConfigurationRequest(("a",)), one)
        subscription = await store.subscribe(SubscribeConfigurationRequest(), every)
        put(server, database, "a", "2", "2")
        put(server, database, "b", "x")
        await every.last("b", "x")
        await one.last("a", "2")
        server.sql("DELETE FROM configtable WHERE version = '2'", database)
        await one.last("a", "1")
        server.sql("DELETE FROM configtable WHERE key = 'a'", database)
        await one.last("a", "")
        assert one.calls[-1] == {"a": ConfigurationItem("")}
        assert set().union(*one.calls) == {"a"}
        await subscription.stop()
        count = len(every.calls)
        put(server, database, "a", "3")
        await one.last("a", "3")
        assert len(every.calls) == count


async def test_the_trigger_of_the_page(server, database):  # noqa: F811
    """The table and trigger that the documentation shows tell of a new, a changed and a removed item."""
    page = Page(CHECKOUT / "docs" / "components" / "postgresql.md")
    (shown,) = [block.text for block in page.blocks if block.language == "sql"]
    server.sql(f"SET ROLE dapr; {shown}", database)
    async with opened(TYPE, metadata(server, database, table="configtable", notifyChannel="config")) as store:
        told = Told()
        await store.subscribe(SubscribeConfigurationRequest(("a",)), told)
        put(server, database, "a", "1")
        await told.last("a", "1")
        server.sql("UPDATE configtable SET value = '2'", database)
        await told.last("a", "2")
        server.sql("DELETE FROM configtable", database)
        await told.last("a", "")


async def test_what_is_there_is_not_told(server, database, given):  # noqa: F811
    """A new subscription is told nothing that was there, also beside others and while rows change."""
    for number in range(20):
        put(server, database, f"k{number}", "1")
    async with opened(TYPE, given) as store:
        told = [Told() for _ in range(10)]
        for each in told:
            await store.subscribe(SubscribeConfigurationRequest(), each)
        put(server, database, "k3", "2")
        for each in told:
            await each.last("k3", "2")
            assert each.calls == [{"k3": ConfigurationItem("2", "1", {})}]


async def test_any_notification(server, database, given):  # noqa: F811
    """A notification that names no key has everything looked at; one about nothing new tells nothing."""
    async with opened(TYPE, given) as store:
        told = Told()
        await store.subscribe(SubscribeConfigurationRequest(), told)
        server.sql("ALTER TABLE configtable DISABLE TRIGGER USER", database)
        for number, payload in enumerate(("", "x", "[1]", '{"data": 1}', '{"data": {"key": 1}}')):
            put(server, database, "a", str(number))
            server.sql(f"SELECT pg_notify('config', '{payload}')", database)
            await told.last("a", str(number))
        server.sql('SELECT pg_notify(\'config\', \'{"data": {"KEY": "a"}}\')', database)
        put(server, database, "b", "1")
        server.sql('SELECT pg_notify(\'config\', \'{"data": {"key": "b"}}\')', database)
        await told.last("b", "1")
        assert told.values("a") == ["0", "1", "2", "3", "4"]


async def test_the_channel_of_a_request(server, database, given):  # noqa: F811
    """Without the setting a subscription names its channel, whatever the name's case; a wrong one is an error."""
    del given["notifyChannel"]
    async with opened(TYPE, given) as store:
        told = Told()
        for wrong in ({}, {"pgNotifyChannel": "A"}, {"pgNotifyChannel": 'x"; DROP TABLE configtable'}):
            with pytest.raises(BackendError, match="notifyChannel"):
                await store.subscribe(SubscribeConfigurationRequest((), wrong), told)
        await store.subscribe(SubscribeConfigurationRequest((), {"PGNOTIFYCHANNEL": "config"}), told)
        put(server, database, "a", "1")
        await told.last("a", "1")


async def test_one_connection_listens(server, database, given):  # noqa: F811
    """Any number of subscriptions costs one connection beside those of the calls."""
    async with opened(TYPE, {**given, "maxConns": "1"}) as store:
        for number in range(50):
            await store.subscribe(SubscribeConfigurationRequest((f"k{number}",)), Told())
        assert (
            server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'dapr'")
            == "2"
        )


async def test_lost_and_back():
    """What changes while the connection is lost is told when it is back."""
    own = PostgresServer(new_directory())
    try:
        own.start()
        database = own.new_database()
        own.sql(CONFIGURATION, database)
        put(own, database, "gone", "1")
        given = metadata(own, database, table="configtable", notifyChannel="config")
        async with opened(TYPE, given) as store:
            told = Told()
            await store.subscribe(SubscribeConfigurationRequest(), told)
            put(own, database, "a", "1")
            await told.last("a", "1")
            await asyncio.to_thread(own.stop)
            port, own.port = own.port, 0
            own.start()  # where the store does not look
            put(own, database, "a", "2")
            own.sql("DELETE FROM configtable WHERE key = 'gone'", database)
            own.stop()
            own.port = port
            own.start()
            await told.last("a", "2")
            await told.last("gone", "")
            put(own, database, "a", "3")
            await told.last("a", "3")
    finally:
        own.remove()


async def test_wrong_tables(server, database):  # noqa: F811
    """A table that is not there, or has other columns, is an error of the start; so is a wrong name."""
    for name, problem in (("absent", "does not exist"), ("pg_catalog.pg_class", "column")):
        with pytest.raises(BackendError, match=problem):
            async with opened(TYPE, metadata(server, database, table=name)):
                pass
    for wrong in ({"table": "a b"}, {"table": "t", "notifyChannel": "Ä"}, {}):
        with pytest.raises(SettingError):
            make(TYPE, metadata(server, database, **wrong))


async def test_stopped_while_it_listens(server, database, given):  # noqa: F811
    """A store that is closed leaves no task, and no connection at the server."""
    async with opened(TYPE, given) as store:
        await store.subscribe(SubscribeConfigurationRequest(), Told())
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    async def none() -> bool:
        return (
            server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'dapr'")
            == "0"
        )

    await until(none, seconds=10)


async def test_channels_that_nobody_uses_are_let_go(server, database, given):  # noqa: F811
    """Apps may name channels: one is listened to while it has a subscription, and again when it gets one anew."""
    put(server, database, "a", "1")
    del given["notifyChannel"]
    async with opened(TYPE, given) as store:
        for _ in range(2):
            for number in range(20):
                request = SubscribeConfigurationRequest(("a",), {"pgNotifyChannel": f"c{number}"})
                await (await store.subscribe(request, Told())).stop()
        assert not store._channels
        told = Told()
        await store.subscribe(SubscribeConfigurationRequest(("a",), {"pgNotifyChannel": "config"}), told)
        put(server, database, "a", "2")
        await told.last("a", "2")


async def test_a_subscription_that_asks_for_too_much_holds_up_no_other(server, database, given, monkeypatch):  # noqa: F811
    """Where all of the table is more than is read at once, those that name their keys are told all the same, however many."""
    monkeypatch.setattr(configuration_module, "MAX_ITEMS", 3)
    monkeypatch.setattr(configuration_module, "CHUNK", 2)
    for key in "abc":
        put(server, database, key, "1")
    async with opened(TYPE, given) as store:
        every, some, others = Told(), Told(), Told()
        await store.subscribe(SubscribeConfigurationRequest(()), every)
        await store.subscribe(SubscribeConfigurationRequest(("a", "b")), some)
        for key in "de":
            put(server, database, key, "1")
        await store.subscribe(SubscribeConfigurationRequest(("c", "d", "e")), others)
        put(server, database, "a", "2")
        put(server, database, "e", "2")
        server.sql("NOTIFY config, 'everything'", database)
        await some.last("a", "2")
        await others.last("e", "2")
        server.sql("""NOTIFY config, '{"data":{"key":"\\u0000"}}'""", database)
        put(server, database, "b", "3")
        await some.last("b", "3")
