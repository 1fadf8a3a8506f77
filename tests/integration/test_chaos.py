"""Backends in trouble under load: killed, frozen, restarted empty, failed over. The report counts what became of what.

Each test ends with an account (`tests/support/accounts.py`): acknowledged, delivered, duplicated, lost.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row
from tests.support import redis_server
from tests.support.accounts import Disturb, Disturbance, Load, messages_under, writes_under
from tests.support.component_setups import Harness, Setup
from tests.support.pluggable import PluggableServer, pluggable_server
from tests.support.postgres_server import PASSWORD, USER, PostgresServer, metadata, new_directory
from tests.support.redis_components import own_server  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

QUICK = {"redeliverInterval": "50ms", "processingTimeout": "1s"}
IMPATIENT = {"redisMaxRetryInterval": "50", "readTimeout": "500", "dialTimeout": "500"}
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


async def account_of(kind: str, component_type: str, given: Mapping[str, str], disturb: Any, **options: Any) -> Any:
    """Open the component, load it and disturb it."""
    catalog = Catalog(installed=None, pluggable=pluggable_row)
    async with Harness(component_type, Setup(given), catalog).opened() as component:
        load = messages_under if kind == "messages" else writes_under
        return await load(component, disturb, **options)


def again_and_again(fault: Callable[[], Awaitable[None]], times: int = 3) -> Disturb:
    """The fault some times, each when the load goes on."""

    async def disturb(load: Load) -> None:
        for _ in range(times):
            await load.goes_on()
            await fault()

    return disturb


def frozen(server: Any, seconds: float = 0.8) -> Callable[[], Awaitable[None]]:
    """Stop a process for some time."""

    async def fault() -> None:
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        server.signal(signal.SIGCONT)

    return fault


def emptied(restart: Callable[[], None]) -> Disturb:
    """A restart without what was kept: all that was acknowledged before it is gone, and nothing that came after."""

    async def disturb(load: Load) -> Disturbance:
        await load.goes_on()
        await asyncio.to_thread(restart)
        back = monotonic()
        await load.goes_on()
        return Disturbance(0.0, back)

    return disturb


# Redis ---------------------------------------------------------------------------------------------------------------


def at(server: redis_server.RedisServer, kind: str) -> tuple[str, dict[str, str]]:
    """Type and settings of a component on a Redis."""
    given = {"redisHost": server.address, **IMPATIENT}
    return ("pubsub.redis", given | QUICK) if kind == "messages" else ("state.redis", given)


@pytest.mark.parametrize("kind", ["messages", "writes"])
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_redis(request, own_server, kind, fault):  # noqa: F811
    """A Redis that keeps what it acknowledges is killed or frozen again and again: nothing is lost, no write is doubled."""
    server = own_server(*DURABLE)

    async def killed() -> None:
        await asyncio.to_thread(server.restart)

    disturb = again_and_again(killed if fault == "killed" else frozen(server))
    account = await account_of(kind, *at(server, kind), disturb)
    account.settle(request, duplicates=kind == "messages")


@pytest.mark.parametrize("kind", ["messages", "writes"])
async def test_redis_emptied(request, own_server, kind):  # noqa: F811
    """A Redis that keeps nothing is restarted: only what was acknowledged before that is gone, and the load goes on."""
    server = own_server()
    account = await account_of(kind, *at(server, kind), emptied(server.restart))
    account.settle(request)
    assert account.delivered


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["messages", "writes"])
async def test_redis_failed_over(request, tmp_path, kind):
    """The primary dies and sentinels promote its replica: strong writes are all there, messages but for the last moment's."""
    sentinels = await asyncio.to_thread(redis_server.Sentinels, tmp_path)

    async def disturb(load: Load) -> Disturbance:
        await load.goes_on()
        killed = monotonic()
        await asyncio.to_thread(sentinels.kill_primary)
        async with asyncio.timeout(30):
            while "role:master" not in await asyncio.to_thread(sentinels.replica.command, "INFO", "replication"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await load.goes_on()
        # Replication is not waited for when a message is published: the last moment's may not have reached the replica.
        return Disturbance(killed - 0.5, killed + 0.5) if kind == "messages" else Disturbance()

    try:
        component_type, given = at(sentinels.primary, kind)
        options = {"strong": True} if kind == "writes" else {}
        account = await account_of(kind, component_type, given | sentinels.metadata, disturb, **options)
        account.settle(request)
    finally:
        await asyncio.to_thread(sentinels.close)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["messages", "writes"])
async def test_redis_cluster_node_killed(request, tmp_path, kind):
    """A node of a cluster is killed and comes back with what it kept: nothing is lost."""
    (tmp_path / "cluster").mkdir()
    cluster = await asyncio.to_thread(redis_server.Cluster, tmp_path / "cluster", *DURABLE)

    servers = list(cluster.servers)

    async def fault() -> None:
        await asyncio.to_thread(servers.pop().restart)
        await asyncio.to_thread(cluster.wait)  # it takes the node back after some seconds

    try:
        component_type, given = at(cluster.servers[0], kind)
        given |= {**cluster.metadata, "readTimeout": "3s"}
        account = await account_of(kind, component_type, given, again_and_again(fault, 2))
        account.settle(request, least=50, duplicates=kind == "messages")
    finally:
        await asyncio.to_thread(cluster.close)


# PostgreSQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server of these tests alone, which waits for its disk."""
    made = PostgresServer(new_directory(), durable=True)
    try:
        made.start()
        yield made
    finally:
        made.remove()


# A killed PostgreSQL is in test_postgresql_faults.py (`test_killed_under_load`).


async def test_postgresql_frozen(request, postgres):
    """PostgreSQL is frozen again and again: nothing acknowledged is lost, no write is doubled."""
    given = metadata(postgres, postgres.new_database(), timeout="1s")

    async def freeze() -> None:
        await asyncio.to_thread(postgres.freeze)
        await asyncio.sleep(1.3)
        await asyncio.to_thread(postgres.thaw)

    account = await account_of("writes", "state.postgresql/v2", given, again_and_again(freeze, 2))
    account.settle(request, duplicates=False)


async def test_postgresql_emptied(request, postgres):
    """The database is dropped and made again under load: only what was in it is gone, and the tables come again."""
    database = postgres.new_database()

    def again() -> None:
        for statement in (f"DROP DATABASE {database} WITH (FORCE)", f"CREATE DATABASE {database} OWNER {USER}"):
            postgres.sql(statement)

    account = await account_of("writes", "state.postgresql/v2", metadata(postgres, database), emptied(again))
    account.settle(request)
    assert account.delivered


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_postgresql_failed_over(request, version):
    """The primary dies and its synchronous standby is promoted: all acknowledged writes are there, and new ones go on."""
    directory = new_directory()
    primary = PostgresServer(directory / "one", durable=True)
    standby: PostgresServer | None = None
    try:
        await asyncio.to_thread(primary.start)
        database = primary.new_database()
        standby = await asyncio.to_thread(primary.standby, directory / "two")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        words = "sslmode=disable&target_session_attrs=read-write"
        given = {"connectionString": f"postgresql://{USER}:{PASSWORD}@{hosts}/{database}?{words}", "timeout": "2s"}

        async def disturb(load: Load) -> None:
            await load.goes_on()
            await asyncio.to_thread(primary.stop, signal.SIGKILL)
            await load.is_refused()  # a standby alone takes no writes
            await asyncio.to_thread(standby.promote)

        account = await account_of("writes", f"state.postgresql/{version}", given, disturb)
        account.settle(request, duplicates=False)
        assert standby.sql("SELECT pg_is_in_recovery()") == "f"
    finally:
        for server in (primary, standby):
            if server is not None:
                await asyncio.to_thread(server.remove)
        shutil.rmtree(directory, ignore_errors=True)


# A pluggable program -------------------------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluggableServer]:
    """A program in JavaScript at a socket, whose path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    try:
        with pluggable_server(folder / "mine.sock") as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["messages", "writes"])
@pytest.mark.parametrize("fault", ["killed", "frozen", "emptied"])
async def test_pluggable(request, program, tmp_path, kind, fault):
    """A pluggable program is killed, frozen or restarted empty under load: what it kept is delivered and there."""
    component_type = "pubsub.mine" if kind == "messages" else "state.mine"

    def restart() -> None:
        program.kill()
        program.start()

    async def killed() -> None:
        await asyncio.to_thread(restart)

    given = {} if fault == "emptied" else {"file": str(tmp_path / "kept")}
    disturb = (
        emptied(restart) if fault == "emptied" else again_and_again(killed if fault == "killed" else frozen(program), 2)
    )
    account = await account_of(kind, component_type, given, disturb)
    account.settle(request, least=50, duplicates=kind == "messages")


# SQLite: no server; its processes are killed in test_pubsub_crash.py -----------------------------------------------------


@pytest.mark.parametrize("kind", ["messages", "writes"])
async def test_sqlite_held_up(request, tmp_path, kind):
    """Another program holds a SQLite file's lock for longer than is waited for: calls fail, nothing is lost."""
    file = tmp_path / "held.db"

    def hold() -> None:
        other = apsw.Connection(str(file))
        other.set_busy_timeout(5000)
        other.execute("BEGIN IMMEDIATE")

        async def fault() -> None:
            await asyncio.sleep(0.6)

        asyncio.run(fault())
        other.execute("ROLLBACK")
        other.close()

    async def held() -> None:
        await asyncio.to_thread(hold)

    given = {"connectionString": str(file), "busyTimeout": "200ms"}
    component_type = "pubsub.sqlite" if kind == "messages" else "state.sqlite"
    account = await account_of(kind, component_type, given, again_and_again(held))
    account.settle(request, duplicates=False)
    assert account.refused
