"""How each component type is set up for the conformance suites: one small function a type (or a way to run it).

A new adapter needs a row in the catalog and a function here; a row without one is a failing test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from dapr_shared.components.catalog import DEFAULT_VERSION, Catalog, CatalogRow
from dapr_shared.contracts.component import Component, ComponentContext
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.contracts.state import GetRequest, StateStore, StateValue
from dapr_shared.core.clock import SystemClock
from tests.support import kubernetes_secrets, postgres_server, redis_server

if TYPE_CHECKING:
    from dapr_shared.contracts.configuration import ConfigurationItem

CATALOG = Catalog(installed=None)


class HandClock(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Setup:
    """What a suite must know about one way to run a component type."""

    metadata: Mapping[str, str]
    durable: bool = False
    """An answered write is there when the component is opened again."""
    own_clock: bool = False
    """Time in the component is the context's clock; else the backend's."""
    etags_recur: bool = False
    """State stores: a key that is written again after a delete may have an etag that it had before, as in Dapr."""
    keys_by_name: bool = False
    """State stores: keys are listed in their own order, else oldest first."""
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Secret stores: what the source holds and `bulk` lists, at least."""
    missing_is_empty: bool = False
    """Secret stores: an unknown name is an empty value and no error, as in Dapr."""
    keeps_unread: bool = False
    """Brokers: a new group begins at the oldest message that is kept; else at the next that is published."""
    ordered: bool = False
    """Brokers: `ordered: true` in a subscription's metadata keeps the order within each `partitionKey`."""
    json_by_value: bool = False
    """State stores: JSON comes back with the same value, not in the same form."""
    write_item: Callable[[Any, str, ConfigurationItem | None], Awaitable[None]] | None = None
    """Configuration stores: how an operator sets an item, or (`None`) removes it; the first argument is a component that
    is open."""
    item_version: bool = True
    """Configuration stores: an item keeps the version that it was given."""
    item_metadata: bool = True
    """Configuration stores: an item keeps its metadata."""
    subscribe_metadata: Mapping[str, str] = field(default_factory=dict)
    """Configuration stores: what a subscription's request needs."""
    emit: Callable[[Any], Awaitable[None]] | None = None
    """Input bindings: makes one event; `None`: they come by themselves, many a second."""
    keeps_events: bool = False
    """Input bindings: what the app has not accepted waits, and comes again."""
    example: tuple[str, bytes, Mapping[str, str]] | None = None
    """Output bindings: operation, data and metadata of a call that succeeds; `None`: none without another program."""


SetupFunction = Callable[[Path, pytest.MonkeyPatch], Setup]


def bindings_cron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"schedule": "@every 20ms"})


def bindings_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"url": "http://127.0.0.1:1"})


def bindings_localstorage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"rootPath": str(tmp_path / "files")}, example=("create", b'"x"', {"fileName": "a/b.txt"}))


def configuration_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    async def write(component: Any, key: str, item: ConfigurationItem | None) -> None:
        component.put(key, item)

    return Setup({}, write_item=write)


def configuration_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    async def write(component: Any, key: str, item: ConfigurationItem | None) -> None:
        await asyncio.to_thread(write_sqlite_item, component.settings.file, key, item)

    metadata = {"connectionString": str(tmp_path / "data" / "configuration.db")}
    return Setup(metadata, durable=True, write_item=write)


def lock_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({}, own_clock=True)


def lock_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"connectionString": str(tmp_path / "data" / "locks.db")}, durable=True, own_clock=True)


def write_sqlite_item(file: Path, key: str, item: ConfigurationItem | None) -> None:
    """What an operator does with a tool of SQLite: a connection of its own, plain SQL."""
    connection = apsw.Connection(str(file))
    try:
        connection.set_busy_timeout(5000)
        if item is None:
            connection.execute("DELETE FROM items WHERE key = ?", (key,))
        else:
            connection.execute(
                "INSERT OR REPLACE INTO items (key, value, version, metadata) VALUES (?, ?, ?, ?)",
                (key, item.value, item.version, json.dumps(dict(item.metadata))),
            )
    finally:
        connection.close()


def state_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({}, own_clock=True)


def bindings_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    server = postgres_server.shared_server()
    metadata = postgres_server.metadata(server, server.new_database())
    return Setup(metadata, durable=True, example=("query", b"", {"sql": "SELECT 1"}))


def configuration_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    server = postgres_server.shared_server()
    database = server.new_database()
    server.sql(postgres_server.CONFIGURATION, database)
    metadata = postgres_server.metadata(server, database, table="configtable", notifyChannel="config")

    async def write(component: Any, key: str, item: ConfigurationItem | None) -> None:
        def quoted(text: str) -> str:
            return "'" + text.replace("'", "''") + "'"

        change = f"DELETE FROM configtable WHERE key = {quoted(key)};"
        if item is not None:
            values = (key, item.value, item.version or "1", json.dumps(dict(item.metadata)))
            value, version, metadata = map(quoted, values[1:])
            change = (
                f"UPDATE configtable SET value = {value}, version = {version}, metadata = {metadata} "
                f"WHERE key = {quoted(key)}; INSERT INTO configtable SELECT {', '.join(map(quoted, values[:3]))}, "
                f"{metadata}::json WHERE NOT EXISTS (SELECT FROM configtable WHERE key = {quoted(key)});"
            )
        await asyncio.to_thread(server.sql, f"SET ROLE dapr; {change}", database)

    return Setup(metadata, durable=True, write_item=write)


def state_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    server = postgres_server.shared_server()
    return Setup(postgres_server.metadata(server, server.new_database()), durable=True, json_by_value=True)


def state_postgresql_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    server = postgres_server.shared_server()
    return Setup(postgres_server.metadata(server, server.new_database(), tablePrefix="public.dapr_"), durable=True)


def state_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    metadata = {"redisHost": redis_server.shared().address, "redisDB": str(redis_server.fresh_database())}
    return Setup(metadata, durable=True, etags_recur=True, keys_by_name=True)


def state_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"connectionString": str(tmp_path / "data" / "state.db")}, durable=True)


def state_sqlite_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"connectionString": str(tmp_path / "state.db"), "disableWAL": "true"}, durable=True)


def state_sqlite_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup({"connectionString": ":memory:"})


_QUICK = {"redeliverInterval": "40ms", "maxRedeliverInterval": "200ms"}


def pubsub_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(_QUICK, own_clock=True)


def state_redis_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(redis_server.shared_cluster().metadata, durable=True, etags_recur=True, keys_by_name=True)


def at_valkey(setup: SetupFunction) -> SetupFunction:
    """The set-up of a Redis component at a Valkey."""

    def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
        given = setup(tmp_path, monkeypatch)
        return replace(given, metadata={**given.metadata, "redisHost": redis_server.shared_valkey().address})

    valkey.__name__ = f"{setup.__name__}_valkey"
    return valkey


def bindings_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(state_redis(tmp_path, monkeypatch).metadata, durable=True, example=("create", b"x", {"key": "k"}))


def configuration_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    async def write(component: Any, key: str, item: ConfigurationItem | None) -> None:
        if item is None:
            await component._client.call("DEL", key)
        else:
            version = f"||{item.version}" if item.version else ""
            await component._client.call("SET", key, item.value + version)

    metadata = state_redis(tmp_path, monkeypatch).metadata
    return Setup(metadata, durable=True, write_item=write, item_metadata=False)


def lock_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(state_redis(tmp_path, monkeypatch).metadata, durable=True)


def pubsub_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    metadata = {
        **state_redis(tmp_path, monkeypatch).metadata,
        **_QUICK,
        "processingTimeout": "1s",
        "concurrency": "100",
    }
    return Setup(metadata, durable=True, keeps_unread=True)


def pubsub_redis_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    metadata = {**redis_server.shared_cluster().metadata, **_QUICK, "processingTimeout": "1s", "concurrency": "100"}
    return Setup(metadata, durable=True, keeps_unread=True)


def pubsub_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    metadata = {"connectionString": str(tmp_path / "data" / "pubsub.db"), **_QUICK}
    return Setup(metadata, durable=True, own_clock=True, keeps_unread=True, ordered=True)


def pubsub_sqlite_normal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    setup = pubsub_sqlite(tmp_path, monkeypatch)
    metadata = {**setup.metadata, "synchronous": "normal", "exclusive": "true"}
    return Setup(metadata, durable=True, own_clock=True, keeps_unread=True, ordered=True)


def secrets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"token": "t-1", "db": {"user": "u", "ports": ["1", "2"]}}))
    secrets = {name: {name: value} for name, value in _FLAT.items()}
    return Setup({"secretsFile": str(path)}, secrets=secrets)


_FLAT = {"token": "t-1", "db:user": "u", "db:ports:0": "1", "db:ports:1": "2"}


def secrets_file_multi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    setup = secrets_file(tmp_path, monkeypatch)
    return Setup(
        {**setup.metadata, "multiValued": "true"},
        secrets={"token": {"token": "t-1"}, "db": {"user": "u", "ports:0": "1", "ports:1": "2"}},
    )


def secrets_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("CONFORMANCE_TOKEN", "t-1")
    monkeypatch.setenv("CONFORMANCE_NAME", "ü")
    return Setup(
        {"prefix": "CONFORMANCE_"},
        secrets={"TOKEN": {"TOKEN": "t-1"}, "NAME": {"NAME": "ü"}},
        missing_is_empty=True,
    )


def secrets_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """A stand-in for the API server; tests/kubernetes runs the same suite against a real one."""
    secrets = {"token": {"value": "t-1"}, "db": {"user": "u", "password": "ü"}}
    monkeypatch.setenv("KUBECONFIG", str(kubernetes_secrets.serve(tmp_path, "default", secrets)))
    return Setup({}, secrets=secrets)


def setup_key(row: CatalogRow) -> str:
    """The type of a row, with its version where that is not the default one."""
    return row.type if DEFAULT_VERSION in row.versions else f"{row.type}/{row.versions[0]}"


SETUPS: dict[str, tuple[SetupFunction, ...]] = {
    "bindings.cron": (bindings_cron,),
    "bindings.http": (bindings_http,),
    "bindings.localstorage": (bindings_localstorage,),
    "bindings.postgresql": (bindings_postgresql,),
    "bindings.redis": (bindings_redis, at_valkey(bindings_redis)),
    "configuration.in-memory": (configuration_memory,),
    "configuration.postgresql": (configuration_postgresql,),
    "configuration.redis": (configuration_redis, at_valkey(configuration_redis)),
    "configuration.sqlite": (configuration_sqlite,),
    "lock.in-memory": (lock_memory,),
    "lock.redis": (lock_redis, at_valkey(lock_redis)),
    "lock.sqlite": (lock_sqlite,),
    "pubsub.in-memory": (pubsub_memory,),
    "pubsub.redis": (pubsub_redis, pubsub_redis_cluster, at_valkey(pubsub_redis)),
    "pubsub.sqlite": (pubsub_sqlite, pubsub_sqlite_normal),
    "secretstores.kubernetes": (secrets_kubernetes,),
    "secretstores.local.env": (secrets_env,),
    "secretstores.local.file": (secrets_file, secrets_file_multi),
    "state.in-memory": (state_memory,),
    "state.postgresql": (state_postgresql,),
    "state.postgresql/v2": (state_postgresql_v2,),
    "state.redis": (state_redis, state_redis_cluster, at_valkey(state_redis)),
    "state.sqlite": (state_sqlite, state_sqlite_journal, state_sqlite_memory),
}


def cases(block: str) -> list[Any]:
    """The parameters of a suite: every set-up of every catalog row of the block."""
    return [
        pytest.param((setup_key(row), function), id=f"{setup_key(row)}-{function.__name__}")
        for row in CATALOG.rows()
        if row.block == block
        for function in SETUPS.get(setup_key(row), ())
    ]


class Harness:
    """One component type in one set-up: opens it, opens it again, lets time pass."""

    def __init__(self, component_type: str, setup: Setup, catalog: Catalog | None = None) -> None:
        """`catalog`: by default the built-in one, or, for a type that is not built in, what is installed."""
        self.type, _, self.version = component_type.partition("/")
        self.setup = setup
        built_in = any(self.type in row.names for row in CATALOG.rows())
        self.catalog = catalog or (CATALOG if built_in else Catalog())
        self.clock = HandClock()

    def make(self) -> Component[Any]:
        """A component that is not started."""
        row = self.catalog.find(self.type, self.version)
        adapter = self.catalog.load(row)
        settings = decode_settings(adapter.settings_type, self.setup.metadata)
        version = self.catalog.version_of(row, self.version)
        return adapter(settings, ComponentContext("conformance", self.type, version, clock=self.clock))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        """A started component, closed at the end."""
        async with AsyncExitStack() as stack:
            component = self.make()
            await component.start(stack)
            yield component

    async def expire(self, store: StateStore[Any], key: str, seconds: int) -> None:
        """Return when a key with this time to live has expired."""
        if self.setup.own_clock:
            self.clock.ahead += seconds + 1

        async def gone() -> bool:
            return await store.get(GetRequest(key)) is None

        await until(gone, seconds=seconds + 5)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Wait until the condition holds, or fail."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a backend's clock sends no event
            await asyncio.sleep(0.01)


async def value_of(store: StateStore[Any], key: str) -> bytes | None:
    """The stored bytes."""
    found = await store.get(GetRequest(key))
    return None if found is None else found.data


async def must_get(store: StateStore[Any], key: str) -> StateValue:
    """The stored value, which must be there."""
    found = await store.get(GetRequest(key))
    assert found is not None, f"{key} is not there"
    return found
