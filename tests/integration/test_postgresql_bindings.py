"""`bindings.postgresql`: SQL of apps."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest

from dapr_shared.components.postgresql import bindings
from dapr_shared.contracts.bindings import BindingRequest
from dapr_shared.contracts.component import BackendError
from tests.support.component_postgresql import database, opened, server  # noqa: F401 - fixtures
from tests.support.postgres_server import metadata


@pytest.fixture
async def binding(server, database):  # noqa: F811
    async with opened("bindings.postgresql", metadata(server, database, maxConns=2)) as found:
        yield found


def run(binding, operation: str, sql: str, *values: object):
    given = {"sql": sql} | ({"params": json.dumps(values)} if values else {})
    return binding.invoke(BindingRequest(operation, b"", given))


async def rows(binding, sql: str, *values: object) -> object:
    return json.loads((await run(binding, "query", sql, *values)).data)


async def test_exec_and_query(binding):
    """`exec` says how many rows it changed, `query` gives rows as arrays, both with the metadata that Dapr gives."""
    made = await run(binding, "exec", "CREATE TABLE t (id int, name text); INSERT INTO t VALUES (0, 'zero')")
    assert made.data == b""
    answer = await run(binding, "exec", "INSERT INTO t SELECT n, $1 FROM generate_series(1, $2) n", "x'; --", 3)
    assert answer.metadata["rows-affected"] == "3"
    assert answer.metadata["operation"] == "exec"
    assert answer.metadata["sql"].startswith("INSERT INTO t SELECT")
    moments = [datetime.fromisoformat(answer.metadata[name]) for name in ("start-time", "end-time")]
    assert moments[0] <= moments[1]
    assert answer.metadata["duration"].endswith("ms")
    found = await run(binding, "query", "SELECT * FROM t WHERE id < $1 ORDER BY id", "2")
    assert json.loads(found.data) == [[0, "zero"], [1, "x'; --"]]
    assert "rows-affected" not in found.metadata
    assert await rows(binding, "SELECT 1 WHERE false") == []


TYPES = [
    ("$1::int", 7, 7), ("$1::int", 7.0, 7), ("$1::bigint", "9007199254740993", 9007199254740993), ("$1::text", "ü", "ü"),
    ("$1::text", 5, "5"), ("$1::boolean", True, True), ("$1::boolean", "on", True), ("$1::float8", 1, 1.0),
    ("$1::numeric", "1.50", 1.5), ("$1::jsonb", {"a": [1]}, {"a": [1]}), ("$1::json", '{"b":2}', {"b": 2}),
    ("$1::bytea", "\\x00ff", "AP8="), ("$1::bytea", "a", "YQ=="), ("$1::date", "2024-02-03", "2024-02-03T00:00:00Z"),
    ("$1::timestamptz", "2024-02-03T04:05:06.5+01:00", "2024-02-03T03:05:06.5Z"),
    ("$1::timestamp", "2024-02-03T04:05:06", "2024-02-03T04:05:06Z"), ("$1::time", "04:05:06", "04:05:06"),
    ("$1::uuid", "00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
    ("$1::int[]", [1, "2", None], [1, 2, None]), ("$1::text[]", [], []), ("$1::int", None, None),
    ("$1::text::interval", "1 day", "1 day, 0:00:00"), ("'NaN'::numeric", ..., "NaN"), ("'10.0.0.1'::inet", ..., "10.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "given", "expected"), TYPES, ids=[f"{row[0]}-{row[1]}" for row in TYPES])
async def test_types(binding, expression, given, expected):
    """JSON values become what the parameter is, and rows become JSON."""
    values = () if given is ... else (given,)
    assert await rows(binding, f"SELECT {expression}", *values) == [[expected]]


@pytest.mark.parametrize(
    ("metadata_of_call", "problem"),
    [
        ({}, "required metadata not set: sql"),
        ({"sql": "SELECT $1::int", "params": "{"}, "it is no JSON"),
        ({"sql": "SELECT $1::int", "params": "{}"}, "it is no array"),
        ({"sql": "SELECT $1::int"}, "has 1 parameters and params has 0"),
        ({"sql": "SELECT 1", "params": "[1]"}, "has 0 parameters and params has 1"),
        ({"sql": "SELECT $1::int", "params": '["SECRET"]'}, r"params\[0\] cannot be a int4"),
        ({"sql": "SELECT $1::int", "params": "[1.5]"}, r"params\[0\] cannot be a int4"),
        ({"sql": "SELECT $1::int", "params": "[5000000000]"}, "value"),
        ({"sql": "SELECT 'SECRET'::int"}, "refused the value"),
        ({"sql": "SELEC"}, "syntax error"),
        ({"sql": "SELECT * FROM absent"}, "no such table"),
    ],
)
async def test_wrong_calls(binding, metadata_of_call, problem):
    """What is wrong is said, without values; the next call works."""
    for operation in ("query", "exec"):
        if operation == "exec" and metadata_of_call.get("params") is None and "$1" in metadata_of_call.get("sql", ""):
            continue
        with pytest.raises(BackendError, match=problem) as caught:
            await binding.invoke(BindingRequest(operation, b"", metadata_of_call))
        assert "SECRET" not in str(caught.value)
    assert await rows(binding, "SELECT 1") == [[1]]


async def test_a_session_is_nobodys(binding):
    """Nothing of a call's session is there for the next: settings, role, transaction, temporary tables, locks."""
    await run(binding, "exec", "CREATE TABLE t (id int)")
    for statement in (
        "SET search_path = nowhere",
        "BEGIN; INSERT INTO t VALUES (1)",
        "CREATE TEMPORARY TABLE secret AS SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "PREPARE p AS SELECT 1",
        "LISTEN x",
    ):
        await run(binding, "exec", statement)
    assert await rows(binding, "SHOW search_path") == [['"$user", public']]
    assert await rows(binding, "SELECT count(*) FROM t") == [[0]]
    kept = "SELECT to_regclass('secret')::text, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
    assert await rows(binding, kept) == [[None, 0]]


async def test_a_failed_query_is_undone(binding, monkeypatch):
    """A query that fails midway, also for the size of its answer, changes nothing."""
    await run(binding, "exec", "CREATE TABLE t (id int)")
    monkeypatch.setattr(bindings, "MAX_BYTES", 100)
    with pytest.raises(BackendError, match="ask for less at a time"):
        await rows(binding, "INSERT INTO t SELECT generate_series(1, 1000) RETURNING id")
    with pytest.raises(BackendError):
        await rows(binding, "INSERT INTO t VALUES (1) RETURNING id / 0")
    assert await rows(binding, "SELECT count(*) FROM t") == [[0]]
    assert await rows(binding, "INSERT INTO t VALUES (1) RETURNING id") == [[1]]
    assert await rows(binding, "SELECT count(*) FROM t") == [[1]]


async def test_close(binding):
    """`close` answers nothing and takes the component from nobody."""
    assert await binding.invoke(BindingRequest("close")) is None
    assert await rows(binding, "SELECT 1") == [[1]]


async def test_many_calls(binding):
    """More calls than connections, some of which fail or are given up, leave the others alone."""
    calls = [asyncio.create_task(rows(binding, f"SELECT {number} / ({number} % 5)")) for number in range(60)]
    await asyncio.sleep(0.01)
    calls[7].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    for number, result in enumerate(results):
        if number == 7:
            continue
        assert isinstance(result, BackendError) if number % 5 == 0 else result == [[number // (number % 5)]]
