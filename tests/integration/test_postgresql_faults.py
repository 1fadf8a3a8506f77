"""`state.postgresql` and a server in trouble: lost, frozen, empty, full, closed to us."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

import pytest
import uvloop

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.definition import ComponentStartError, Definition
from dapr_shared.components.opening import open_component
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.state import GetRequest, SetRequest
from dapr_shared.core.clock import SystemClock
from dapr_shared.resources.model import Component
from tests.support import accounts
from tests.support.certificates import Authority
from tests.support.component_postgresql import database, opened, server  # noqa: F401 - fixtures
from tests.support.component_setups import must_get, until, value_of
from tests.support.component_sqlite import enlarge, small_disk
from tests.support.ports import free_port
from tests.support.postgres_server import PASSWORD, PostgresServer, metadata, new_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


@pytest.fixture(scope="module")
def disturbed() -> Iterator[PostgresServer]:
    """A server of these tests alone, which waits for its disk."""
    made = PostgresServer(new_directory(), durable=True)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def own(disturbed: PostgresServer) -> PostgresServer:
    """That server, running with its usual settings, whatever the test before did to it."""
    disturbed.stop()
    disturbed.settings = {}
    disturbed.start()
    return disturbed


async def why_not(given: dict[str, str], version: str = "v1") -> str:
    """The error of opening a store."""
    with pytest.raises(BackendError) as caught:
        async with asyncio.timeout(20), opened("state.postgresql", given, version):
            pass
    assert not isinstance(caught.value, BackendUnavailableError)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


async def why_not_at_once(given: dict[str, str]) -> str:
    """The error of opening a store; empty where it opens, as the server has not read its new rules yet."""
    try:
        async with asyncio.timeout(20), opened("state.postgresql", given):
            return ""
    except BackendError as error:
        return str(error)


async def start_error(given: dict[str, str], init_timeout: float) -> str:
    """The error of opening a component as the process opens it."""
    resource = Component(name="store", type="state.postgresql", init_timeout=init_timeout)
    with pytest.raises(ComponentStartError) as caught:
        await open_component(Catalog(installed=None), Definition(resource, given), None, SystemClock())
    return caught.value.problem


# At the start --------------------------------------------------------------------------------------------------------


async def test_nobody_listens():
    """A server that is not there is waited for until the time for starting is over; then the error says what is wrong."""
    port = free_port()
    began = monotonic()
    problem = await start_error({"connectionString": f"postgres://u:{PASSWORD}@127.0.0.1:{port}/d"}, 0.7)
    assert 0.6 < monotonic() - began < 5
    where = f"PostgreSQL at 127.0.0.1:{port}/d"
    assert problem.startswith(f"not started within spec.initTimeout (0.7 s): {where} cannot be reached: ")


async def test_nobody_answers():
    """A server that takes connections and says nothing ends the start when the time for it is over, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        problem = await start_error({"connectionString": f"postgres://u@127.0.0.1:{port}/d?sslmode=disable"}, 0.7)
    assert problem.endswith(f"(0.7 s): PostgreSQL at 127.0.0.1:{port}/d gives no answer")


async def test_the_server_comes_while_it_is_waited_for(own):
    """A store opens as soon as the server is there."""
    own.stop()
    given = metadata(own, "postgres")

    async def use() -> None:
        async with opened("state.postgresql", given) as store:
            await store.ping()

    given["connectionString"] = own.url("postgres", "postgres")
    waiting = asyncio.create_task(use())
    await asyncio.sleep(0)
    await asyncio.to_thread(own.start)
    async with asyncio.timeout(20):
        await waiting


async def test_refused(server, database):  # noqa: F811
    """Password, user and database that are wrong are errors that name them and what to do, at once."""
    url = server.url(database)
    wrong = await why_not({"connectionString": url.replace(PASSWORD, "no-such")})
    assert wrong.endswith("refused the password of user dapr: correct user and password")
    assert "no-such" not in wrong
    assert "refused the password of user nobody" in await why_not({"connectionString": url, "user": "nobody"})
    assert "has no database absent: create it" in await why_not({"connectionString": url, "database": "absent"})


async def test_read_only(server, database):  # noqa: F811
    """A server that takes no writes is refused at the start, and a write that it refuses later says what to do."""
    given = metadata(server, database)
    async with opened("state.postgresql", given) as store:
        server.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        read_only = {**given, "tableName": "other", "metadataTableName": "m"}
        assert "is read-only (a standby" in await why_not(read_only)
        await store.set(SetRequest("app||k", b"1"))  # its connections are older than the setting
    async with opened("state.postgresql", given) as store:
        assert await value_of(store, "app||k") == b"1"
        with pytest.raises(BackendError, match="connect to the primary"):
            await store.set(SetRequest("app||k", b"2"))
    port = server.port
    given["connectionString"] = f"postgres://dapr:{PASSWORD}@127.0.0.1:{port}/{database}?target_session_attrs=standby"
    assert "no host is standby (target_session_attrs)" in await start_error(given, 0.5)


async def test_too_many_connections(own):
    """A server without a free connection is waited for; in use, calls that find none are errors that say what to do."""
    own.stop()
    own.settings = {"max_connections": "5", "superuser_reserved_connections": "1"}
    own.start()
    database = own.new_database()  # noqa: F811
    given = metadata(own, database, maxConns=4)
    async with opened("state.postgresql", given) as store:
        await asyncio.gather(*(store.ping() for _ in range(50)))
        assert own.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'dapr'") == "4"
        problem = await start_error(given, 0.5)
        assert "raise its max_connections, or lower maxConns" in problem
        own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dapr'")
    async with opened("state.postgresql", given) as store:
        await store.ping()


# TLS -----------------------------------------------------------------------------------------------------------------


@dataclass
class Secured:
    """A server with a certificate for `localhost`, and files to reach it with."""

    server: PostgresServer
    authority: Authority
    stranger: Authority
    client: tuple[str, str] = ("", "")


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    directory = new_directory()
    authority = Authority(directory, "ca")
    made = PostgresServer(directory / "server", certificate=authority.sign("localhost"))
    made.settings = {"ssl_ca_file": str(authority.certificate)}
    try:
        made.start()
        client = authority.sign("dapr")
        yield Secured(made, authority, Authority(directory, "stranger"), (str(client[0]), str(client[1])))
    finally:
        made.remove()
        shutil.rmtree(directory)


def over_tls(secured: Secured, database: str, **parameters: object) -> dict[str, str]:  # noqa: F811
    words = {"host": "localhost", "port": secured.server.port, "user": "dapr", "password": PASSWORD, "dbname": database}
    return {"connectionString": " ".join(f"{name}={value}" for name, value in (words | parameters).items())}


async def test_tls(secured):
    """Each mode that can work encrypts, and one that verifies works with the right authority and name."""
    database = secured.server.new_database()  # noqa: F811
    ca = secured.authority.certificate
    for parameters in (
        {}, {"sslmode": "require"}, {"sslmode": "verify-ca", "sslrootcert": ca, "host": "127.0.0.1"},
        {"sslmode": "verify-full", "sslrootcert": ca},
    ):  # fmt: skip
        async with opened("state.postgresql", over_tls(secured, database, **parameters)) as store:
            await store.ping()
            used = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'dapr'"
            assert secured.server.sql(used) == "t"
    async with opened("state.postgresql", over_tls(secured, database, sslmode="disable")) as store:
        await store.ping()


async def test_certificates_that_are_not_accepted(secured):
    """A wrong name and an unknown authority are errors that say so; so is a file that is not there."""
    database = secured.server.new_database()  # noqa: F811
    ca, other = secured.authority.certificate, secured.stranger.certificate
    full = {"sslmode": "verify-full", "sslrootcert": ca}
    wrong_name = await why_not(over_tls(secured, database, **full, host="127.0.0.1"))
    assert "certificate that is not accepted (IP address mismatch" in wrong_name
    assert "correct the host name, sslRootCert or sslmode" in wrong_name
    for mode in ("require", "verify-ca", "verify-full"):
        problem = await why_not(over_tls(secured, database, sslmode=mode, sslrootcert=other))
        assert "certificate that is not accepted" in problem
    problem = await why_not(over_tls(secured, database, sslmode="verify-ca", sslrootcert="/absent.pem"))
    assert problem == "sslrootcert cannot be read from /absent.pem: No such file or directory"


async def test_client_certificates(secured):
    """A server that asks for a client certificate takes the configured one."""
    server = secured.server  # noqa: F811
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    database = server.new_database()  # noqa: F811
    hba.write_text(f"hostssl {database} dapr 127.0.0.1/32 cert\n{before}")
    server.sql("SELECT pg_reload_conf()")
    try:
        refused = over_tls(secured, database, sslmode="require", host="127.0.0.1")
        reloaded_by = monotonic() + 20
        while "refused user dapr" not in (told := await why_not_at_once(refused)):
            assert monotonic() < reloaded_by, told
        given = over_tls(
            secured, database, sslmode="require", sslcert=secured.client[0], sslkey=secured.client[1], host="127.0.0.1"
        )
        async with opened("state.postgresql", given) as store:
            await store.ping()
    finally:
        hba.write_text(before)
        server.sql("SELECT pg_reload_conf()")


async def test_a_server_without_tls(server, database):  # noqa: F811
    """A mode that asks for TLS is refused by a server that has none."""
    given = {"connectionString": server.url(database).replace("sslmode=disable", "sslmode=require")}
    assert "rejected SSL upgrade" in await start_error(given, 0.5)


# Lost and back -------------------------------------------------------------------------------------------------------


@dataclass
class Account:
    """What writers were told: the number acknowledged last, and tried last, for each key."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    ended: bool = False

    async def write(self, store, key: str) -> None:
        """Count up under one key until told to end."""
        while not self.ended:
            number = self.tried[key] = self.tried.get(key, 0) + 1
            try:
                if number % 5:
                    await store.set(SetRequest(key, str(number).encode()))
                else:
                    operations = [SetRequest(key, str(number).encode()), SetRequest(f"{key}||t", str(number).encode())]
                    await store.transact(operations, {})
            except BackendError:
                self.failed += 1
                await asyncio.sleep(0.01)
            else:
                self.acknowledged[key] = number
                if number % 5 == 0:
                    self.acknowledged[f"{key}||t"] = number

    async def check(self, store) -> accounts.Account:
        """Each acknowledged write is there, or a later one that was tried; each transaction is there wholly."""
        told = accounts.Account(refused=self.failed)
        for key, number in self.acknowledged.items():
            found = int((await must_get(store, key)).data)
            told.acknowledged += number
            told.delivered += found
            told.lost += max(number - found, 0)
            assert number <= found <= self.tried[key.removesuffix("||t")], key
            if found % 5 == 0:
                assert int((await must_get(store, f"{key.removesuffix('||t')}||t")).data) == found
        return told


@VERSIONS
async def test_killed_under_load(request, own, version):
    """A server that is killed again and again under load loses nothing acknowledged, and the store goes on by itself."""
    database = own.new_database()  # noqa: F811
    async with opened("state.postgresql", metadata(own, database, timeout="5s"), version) as store:
        account = Account()
        writers = [asyncio.create_task(account.write(store, f"app||{number}")) for number in range(20)]
        for _ in range(3):
            before = sum(account.acknowledged.values())

            async def written(before: int = before) -> bool:
                return sum(account.acknowledged.values()) > before + 100

            await until(written, seconds=30)
            await asyncio.to_thread(own.stop, signal.SIGKILL)
            await asyncio.to_thread(own.start)
        await until(written, seconds=30)
        account.ended = True
        async with asyncio.timeout(30):
            await asyncio.gather(*writers)
        assert account.failed
        (await account.check(store)).settle(request, duplicates=False)


@VERSIONS
async def test_restarted(own, version):
    """After a restart of the server the first call works: connections that it closed are not used again."""
    database = own.new_database()  # noqa: F811
    async with opened("state.postgresql", metadata(own, database), version) as store:
        await asyncio.gather(*(store.set(SetRequest(f"app||{number}", b"1")) for number in range(20)))
        await asyncio.to_thread(own.stop)
        with pytest.raises(BackendUnavailableError, match="cannot be reached"):
            await store.get(GetRequest("app||1"))
        await asyncio.to_thread(own.start)
        values = await asyncio.gather(*(value_of(store, f"app||{number}") for number in range(20)))
        assert values == [b"1"] * 20


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_connections_that_the_server_ended(own, loop_factory):
    """Reads do not fail on connections that the server has ended before the store could see it."""
    database = own.new_database()  # noqa: F811

    async def use() -> None:
        async with opened("state.postgresql", metadata(own, database), "v2") as store:
            await asyncio.gather(*(store.set(SetRequest("app||k", b"1")) for _ in range(20)))
            for _ in range(5):
                own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dapr'")
                assert await asyncio.gather(*(value_of(store, "app||k") for _ in range(20))) == [b"1"] * 20

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(use())


async def test_frozen(own):
    """A frozen server ends each call in its time, takes nobody's connection for good, and is used again when it thaws."""
    database = own.new_database()  # noqa: F811
    async with opened("state.postgresql", metadata(own, database, timeout="1s", maxConns=3), "v2") as store:
        await store.set(SetRequest("app||k", b"1"))
        own.freeze()
        try:
            for _ in range(2):
                began = monotonic()
                answers = await asyncio.gather(
                    *(store.set(SetRequest("app||k", b"2")) for _ in range(8)), return_exceptions=True
                )
                assert all(isinstance(answer, BackendUnavailableError) for answer in answers)
                assert "gave no answer within 1 s; a write may still happen" in str(answers[0])
                assert monotonic() - began < 3
            given_up = asyncio.create_task(store.get(GetRequest("app||k")))
            await asyncio.sleep(0.1)
            given_up.cancel()
            with suppress(asyncio.CancelledError):
                await given_up
        finally:
            own.thaw()

        async def works() -> bool:
            with suppress(BackendUnavailableError):
                await store.set(SetRequest("app||k", b"3"))
                return True
            return False

        await until(works, seconds=15)
        assert await value_of(store, "app||k") == b"3"
        await asyncio.gather(*(store.ping() for _ in range(20)))

        async def few() -> bool:
            return int(own.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'dapr'")) <= 3

        await until(few, seconds=15)


@VERSIONS
async def test_back_and_empty(own, version):
    """A server that comes back without the tables gets them again by the next call, also of many at once."""
    database = own.new_database()  # noqa: F811
    async with opened("state.postgresql", metadata(own, database), version) as store:
        await store.set(SetRequest("app||k", b"1"))
        for statement in (f"DROP DATABASE {database} WITH (FORCE)", f"CREATE DATABASE {database} OWNER dapr"):
            own.sql(statement)
        values = await asyncio.gather(*(value_of(store, "app||k") for _ in range(20)))
        assert values == [None] * 20
        await store.transact([SetRequest("app||a", b"1"), SetRequest("app||b", b"1")], {})
        assert await value_of(store, "app||b") == b"1"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a small file system may be mounted, which the server can enter."""
    directory = new_directory()
    yield directory / "small"
    shutil.rmtree(directory)


async def test_full_disk(own, place):
    """A full disk is an error that says so; what was acknowledged stays, small values can be read, and room mends it."""
    with small_disk(place, 12 * 1024) as mounted:
        if not mounted:
            pytest.skip("file systems can be mounted by root alone")
        shutil.chown(place, "postgres", "postgres")
        own.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        own.sql("CREATE DATABASE full_one OWNER dapr TABLESPACE small")
        async with opened("state.postgresql", metadata(own, "full_one"), "v2") as store:
            kept: list[str] = []
            values = [os.urandom(256 * 1024) for _ in range(2)]

            async def fill() -> None:
                while len(kept) < 200:
                    key = f"app||{len(kept)}"
                    await store.set(SetRequest(key, values[len(kept) % 2], is_json=False))
                    kept.append(key)

            with pytest.raises(BackendError, match="cannot write: the disk is full") as caught:
                await fill()
            assert not isinstance(caught.value, BackendUnavailableError)
            assert kept
            for number, key in enumerate(kept):
                assert await value_of(store, key) == values[number % 2]
            enlarge(place, 40 * 1024)
            await store.set(SetRequest("app||k", b"1"))
            assert await value_of(store, "app||k") == b"1"
        for statement in ("DROP DATABASE full_one WITH (FORCE)", "DROP TABLESPACE small"):
            own.sql(statement)


@pytest.mark.parametrize(
    ("state", "told", "again"),
    [("53200", "is out of memory", False), ("57P03", "is starting up", True), ("40001", "send it again", True)],
)
async def test_what_the_server_cannot_do_now(server, database, state, told, again):  # noqa: F811
    """A server without memory, or that cannot do a write now, is an error that says so; nothing of a transaction is there."""
    async with opened("state.postgresql", metadata(server, database), "v2") as store:
        await store.set(SetRequest("app||kept", b"1"))
        server.sql(
            "CREATE FUNCTION fail() RETURNS TRIGGER AS $$ BEGIN "
            f"IF NEW.key = 'app||bad' THEN RAISE EXCEPTION 'by the test' USING ERRCODE = '{state}'; END IF; RETURN NEW; "
            "END; $$ LANGUAGE plpgsql; CREATE TRIGGER fail BEFORE INSERT ON state FOR EACH ROW EXECUTE FUNCTION fail()",
            database,
        )
        for write in (
            store.set(SetRequest("app||bad", b"2")),
            store.transact([SetRequest("app||kept", b"2"), SetRequest("app||bad", b"2")], {}),
        ):
            with pytest.raises(BackendError, match=told) as caught:
                await write
            assert isinstance(caught.value, BackendUnavailableError) is again
        assert await value_of(store, "app||kept") == b"1"
        await store.set(SetRequest("app||good", b"1"))


# Callers and connections ---------------------------------------------------------------------------------------------


async def test_more_callers_than_connections(server, database):  # noqa: F811
    """Any number of callers share `maxConns` connections, and callers that give up take none with them."""
    async with opened("state.postgresql", metadata(server, database, maxConns=2), "v2") as store:
        for turn in range(5):
            calls = [asyncio.create_task(store.set(SetRequest(f"app||{n}", b"1"))) for n in range(50)]
            await asyncio.sleep(0.002 * turn)
            for call in calls[::2]:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(result is None for result in results[1::2])
        assert int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")) <= 2


async def test_idle_connections_end(server, database):  # noqa: F811
    """Connections that nobody uses are closed after a while, and made again."""
    given = metadata(server, database, connectionMaxIdleTime="300ms")
    async with opened("state.postgresql", given, "v2") as store:
        await asyncio.gather(*(store.set(SetRequest(f"app||{n}", b"1")) for n in range(20)))

        async def none() -> bool:
            return server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'") == "0"

        await until(none, seconds=10)
        await store.set(SetRequest("app||k", b"1"))


async def test_without_prepared_statements(server, database):  # noqa: F811
    """With `queryExecMode: exec` nothing stays prepared on a connection; otherwise it does."""
    for mode, count in (("exec", "0"), ("cache_statement", "1")):
        given = metadata(server, database, queryExecMode=mode, maxConns=1)
        async with opened("state.postgresql", given, "v2") as store:
            await store.get(GetRequest("app||k"))
            prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT key, value, etag%'"
            assert str(await store._client.value(prepared)) == count


async def test_transactions_on_the_same_keys(server, database):  # noqa: F811
    """Transactions that name the same keys in opposite orders do not wait for each other in a circle."""
    async with opened("state.postgresql", metadata(server, database), "v2") as store:
        there = [SetRequest(f"app||{key}", b"1") for key in "abcdef"]
        async with asyncio.timeout(60):
            await asyncio.gather(*(store.transact(there[::1] if n % 2 else there[::-1], {}) for n in range(40)))
