"""Real processes on one PostgreSQL: two instances side by side, and daprd beside one where there is one."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import until
from tests.support.calls import KeptConnection
from tests.support.component_postgresql import database, server  # noqa: F401 - fixtures
from tests.support.daprd import daprd
from tests.support.instance import Instance, StartError, app, component, run_to_end, running, start, token_of
from tests.support.postgres_server import CONFIGURATION, PASSWORD, PostgresServer, new_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = [("dapr-api-token", token_of("orders"))]
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


def store(server: PostgresServer, database: str, version: str = "v1", **metadata: object) -> dict:  # noqa: F811
    given = {"connectionString": server.url(database), **metadata}
    return component("store", "state.postgresql", **given) | {
        "spec": {
            "type": "state.postgresql",
            "version": version,
            "metadata": [{"name": name, "value": str(value)} for name, value in given.items()],
        }
    }


@pytest.fixture
def durable() -> Iterator[PostgresServer]:
    """A server that waits for its disk."""
    made = PostgresServer(new_directory(), durable=True)
    try:
        made.start()
        yield made
    finally:
        made.remove()


def increment(instance: Instance, times: int) -> int:
    """Add one under a key, again and again, each time until the etag was still right; how often it was not."""
    kept = KeptConnection(instance.http)
    misses = 0
    try:
        for _ in range(times):
            while True:
                found = kept.ask("GET", "/v1.0/state/store/count", headers=HEADER)
                etag = next(value for name, value in found.headers if name.lower() == "etag")
                item = {"key": "count", "value": int(found.body) + 1, "etag": etag}
                answer = kept.ask("POST", "/v1.0/state/store", json.dumps([item]).encode(), headers=HEADER)
                if answer.status == 204:
                    break
                assert answer.status == 409, answer
                misses += 1
    finally:
        kept.close()
    return misses


@VERSIONS
def test_increments_of_two_instances(server, database, tmp_path, version):  # noqa: F811
    """Increments by etag through two instances at once are neither lost nor doubled."""
    resources = [app("orders"), store(server, database, version)]
    with (
        running(tmp_path / "a", resources=resources) as one,
        running(tmp_path / "b", resources=resources) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        assert one.ask("POST", "/v1.0/state/store", b'[{"key":"count","value":0}]', app="orders").status == 204
        misses = sum(pool.map(lambda number: increment((one, two)[number % 2], 20), range(8)))
        assert two.ask("GET", "/v1.0/state/store/count", app="orders").body == b"160"
        assert misses, "the instances never met"


class Writers:
    """Clients of two instances that write new keys until their instance is gone."""

    def __init__(self, instances: list[Instance], count: int) -> None:
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(instances[number % len(instances)], number))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self, instance: Instance, number: int) -> None:
        kept = KeptConnection(instance.http)
        try:
            for turn in range(1_000_000):
                if self.ended.is_set():
                    return
                key = f"{number}-{turn}"
                try:
                    answer = kept.ask(
                        "POST", "/v1.0/state/store", b'[{"key":"%s","value":1}]' % key.encode(), headers=HEADER
                    )
                except OSError:
                    return
                assert answer.status == 204, answer
                self.acknowledged.append(key)
        finally:
            kept.close()


@VERSIONS
def test_a_killed_instance_loses_no_acknowledged_write(durable, tmp_path, version):
    """When one of two instances is killed under load, the other goes on, and every acknowledged write is there."""
    name = durable.new_database()
    resources = [app("orders"), store(durable, name, version)]
    with running(tmp_path / "b", resources=resources) as other:
        killed = start(tmp_path / "a", resources=resources)
        writers = Writers([killed, other], 8)
        try:
            until(lambda: len(writers.acknowledged) > 300)
            killed.process.kill()
            killed.wait()
            count = len(writers.acknowledged)
            until(lambda: len(writers.acknowledged) > count + 200)
        finally:
            writers.ended.set()
            killed.process.kill()
            killed.wait()
            writers.join()
        rows = set(durable.sql("SELECT key FROM state", name).splitlines())
        lost = [key for key in writers.acknowledged if f"orders||{key}" not in rows]
        assert not lost, f"{len(lost)} of {len(writers.acknowledged)} acknowledged writes are lost"


def test_connections_do_not_grow_with_apps(server, tmp_path):  # noqa: F811
    """50 apps that all call at once share the connections that one app may have: no more than `maxConns`."""
    used: dict[int, int] = {}
    for count in (1, 50):
        name = server.new_database()
        apps = [app(f"app-{number}") for number in range(count)]
        resources = [*apps, store(server, name, "v2", maxConns=5)]
        with running(tmp_path / str(count), resources=resources) as instance, ThreadPoolExecutor(25) as pool:

            def call(number: int, instance: Instance = instance, count: int = count) -> int:
                body = json.dumps([{"key": "k", "value": number}]).encode()
                return instance.ask("POST", "/v1.0/state/store", body, app=f"app-{number % count}").status

            assert set(pool.map(call, range(200))) == {204}
            used[count] = int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"))
        assert server.sql("SELECT count(*) FROM state", name) == str(count)
    assert 1 <= used[1] <= 5
    assert 1 <= used[50] <= 5


def test_the_query_api(server, database, tmp_path):  # noqa: F811
    """A query over HTTP finds the caller's values alone, in pages with tokens; no more is 204."""
    resources = [app("orders"), app("stock"), store(server, database)]
    with running(tmp_path, resources=resources) as instance:
        for whose in ("orders", "stock"):
            body = json.dumps([{"key": f"{whose}-{n}", "value": {"n": n, "of": whose}} for n in range(5)]).encode()
            assert instance.ask("POST", "/v1.0/state/store", body, app=whose).status == 204
        query = {"filter": {"GTE": {"n": 2}}, "sort": [{"key": "n", "order": "DESC"}], "page": {"limit": 2}}
        found: list[str] = []
        for _ in range(3):
            answer = instance.ask("POST", "/v1.0-alpha1/state/store/query", json.dumps(query).encode(), app="orders")
            if answer.status == 204:
                break
            page = answer.json()
            assert all(item["data"]["of"] == "orders" and item["etag"] for item in page["results"])
            found += [item["key"] for item in page["results"]]
            query["page"]["token"] = page["token"]
        assert found == ["orders-4", "orders-3", "orders-2"]
        assert answer.status == 204


def test_a_server_that_is_not_there(tmp_path):
    """Without the server the process ends when `initTimeout` is over, and says what is wrong, without the password."""
    resources = [
        app("orders"),
        component(
            "store", "state.postgresql", spec={"initTimeout": "500ms", "metadata": [
                {"name": "connectionString", "value": f"postgres://dapr:{PASSWORD}@127.0.0.1:1/db"}]},
        ),
    ]  # fmt: skip
    with pytest.raises(StartError) as caught:
        start(tmp_path, resources=resources)
    assert "PostgreSQL at 127.0.0.1:1/db cannot be reached" in caught.value.log
    assert PASSWORD not in caught.value.log


def test_no_secret_is_shown(server, database, tmp_path):  # noqa: F811
    """Neither the log nor the metadata API shows the password, also when the server is lost."""
    with running(tmp_path, "--log-level=debug", resources=[app("orders"), store(server, database)]) as instance:
        assert instance.ask("POST", "/v1.0/state/store", b'[{"key":"k","value":1}]', app="orders").status == 204
        server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        assert instance.ask("GET", "/v1.0/state/store/k", app="orders").body == b"1"
        shown = instance.ask("GET", "/v1.0/metadata", app="orders").body.decode() + instance.output()
        assert "QUERY_API" in shown
        assert PASSWORD not in shown


# Beside daprd --------------------------------------------------------------------------------------------------------


@VERSIONS
def test_beside_daprd(server, database, tmp_path, version):  # noqa: F811
    """Daprd and an instance read, replace, delete and transact each other's values by their etags, in both directions."""
    resources = [store(server, database, version)]
    folder = tmp_path / "resources"
    folder.mkdir()
    (folder / "store.yaml").write_text(json.dumps(resources[0]))
    with ExitStack() as stack:
        real = stack.enter_context(daprd(tmp_path / "daprd", folder, "orders", ready="/v1.0/healthz/outbound"))
        ours = stack.enter_context(running(tmp_path / "ours", resources=[app("orders"), *resources]))

        def theirs(method: str, path: str, body: object = None):
            return real.ask(method, f"/v1.0{path}", None if body is None else json.dumps(body).encode())

        def mine(method: str, path: str, body: object = None):
            data = None if body is None else json.dumps(body).encode()
            return ours.ask(method, f"/v1.0{path}", data, app="orders")

        for number, (write, read) in enumerate(((theirs, mine), (mine, theirs))):
            key, value = f"k{number}", {"a": [1, "ü"], "b": None}
            assert write("POST", "/state/store", [{"key": key, "value": value}]).status == 204
            found = read("GET", f"/state/store/{key}")
            assert json.loads(found.body) == value
            etag = next(value for name, value in found.headers if name.lower() == "etag")
            changed = {"key": key, "value": 2, "etag": etag}
            assert read("POST", "/state/store", [changed]).status == 204
            assert write("POST", "/state/store", [changed]).status == 409
            assert write("GET", f"/state/store/{key}").body == b"2"
            lives = [{"key": f"t{number}", "value": 1, "metadata": {"ttlInSeconds": "600"}}]
            assert write("POST", "/state/store", lives).status == 204
            told = [dict(side("GET", f"/state/store/t{number}").headers) for side in (write, read)]
            expiry = [{name.lower(): value for name, value in headers.items()} for headers in told]
            assert expiry[0]["metadata.ttlexpiretime"] == expiry[1]["metadata.ttlexpiretime"]
            operations = [
                {"operation": "upsert", "request": {"key": key, "value": 3}},
                {"operation": "delete", "request": {"key": f"t{number}"}},
            ]
            assert write("POST", "/state/store/transaction", {"operations": operations}).status == 204
            assert read("GET", f"/state/store/{key}").body == b"3"
            assert read("GET", f"/state/store/t{number}").status == 204
            bulk = read("POST", "/state/store/bulk", {"keys": [key, "absent"]}).json()
            assert sorted((item["key"], item.get("data")) for item in bulk) == [("absent", None), (key, 3)]


def test_validate(server, tmp_path):  # noqa: F811
    """`dapr-shared validate` finds a wrong setting without a server, and shows no connection string."""
    wrong = store(server, "d", "v2", tablePrefix="a b")
    (tmp_path / "store.yaml").write_text(json.dumps(wrong))
    code, output = run_to_end(tmp_path, "validate", str(tmp_path / "store.yaml"))
    assert code != 0
    assert "tablePrefix" in output
    assert PASSWORD not in output


# The other blocks ----------------------------------------------------------------------------------------------------


def test_binding_and_configuration_over_http(server, database, tmp_path):  # noqa: F811
    """An app in scope runs SQL, whatever characters it has, and reads configuration; another app finds neither."""
    server.sql(CONFIGURATION, database)
    url = server.url(database)
    resources = [
        app("orders"),
        app("stock"),
        component("db", "bindings.postgresql", connectionString=url, scopes=["orders"]),
        component("settings", "configuration.postgresql", connectionString=url, table="configtable", scopes=["orders"]),
    ]
    with running(tmp_path, resources=resources) as instance:

        def bind(operation: str, sql: str, *values: object, whose: str = "orders"):
            metadata = {"sql": sql, "params": json.dumps(values)}
            body = json.dumps({"operation": operation, "metadata": metadata}).encode()
            return instance.ask("POST", "/v1.0/bindings/db", body, app=whose)

        insert = "INSERT INTO configtable\nVALUES ($1, $2, '1', '{}') -- ü"
        answer = bind("exec", insert, "colour", "blü")
        assert answer.status == 200, answer
        headers = {name.lower(): value for name, value in answer.headers}
        assert headers["metadata.rows-affected"] == "1"
        assert headers["metadata.operation"] == "exec"
        answer = bind("query", "SELECT key, value FROM configtable")
        assert json.loads(answer.body) == [["colour", "blü"]]
        failed = bind("query", "SELECT * FROM absent")
        assert failed.status == 500
        assert failed.json()["errorCode"] == "ERR_INVOKE_OUTPUT_BINDING"
        assert instance.ask("POST", "/v1.0/bindings/db", b'{"operation":"close"}', app="orders").status == 204
        assert bind("query", "SELECT 1").status == 200
        assert bind("query", "SELECT 1", whose="stock").status == 500
        found = instance.ask("GET", "/v1.0/configuration/settings?key=colour", app="orders")
        assert found.json()["colour"]["value"] == "blü"
        assert instance.ask("GET", "/v1.0/configuration/settings?key=colour", app="stock").status != 200
        assert PASSWORD not in instance.output()


def test_slow_queries_of_one_app(server, database, tmp_path):  # noqa: F811
    """An app whose slow queries would take every connection leaves some to the others, whose calls are answered meanwhile."""
    resources = [
        app("slow"),
        app("quick"),
        component("db", "bindings.postgresql", connectionString=server.url(database), maxConns="4"),
    ]
    with running(tmp_path, resources=resources) as instance, ThreadPoolExecutor(12) as pool:

        def ask(whose: str, sql: str) -> int:
            body = json.dumps({"operation": "query", "metadata": {"sql": sql}}).encode()
            return instance.ask("POST", "/v1.0/bindings/db", body, app=whose).status

        slow = [pool.submit(ask, "slow", "SELECT pg_sleep(1)::text") for _ in range(12)]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dapr' AND query LIKE '%pg_sleep%' AND state = 'active'"
        until(lambda: server.sql(busy) == "3")
        began = time.monotonic()
        for _ in range(10):
            assert ask("quick", "SELECT 1") == 200
        assert time.monotonic() - began < 1, "it waited for the slow ones"
        assert server.sql(busy) == "3"
        assert [one.result() for one in slow] == [200] * 12
