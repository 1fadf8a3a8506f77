"""The tables of `state.postgresql` are daprd's: what daprd writes is read here, and the other way round.

What daprd makes and writes stands here as SQL, from its interface (reference components §3).
"""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import DeleteRequest, EtagMismatchError, GetRequest, SetRequest
from tests.support.component_postgresql import database, opened, server  # noqa: F401 - fixtures
from tests.support.component_setups import must_get, until, value_of
from tests.support.postgres_server import metadata

V1_TABLES = """
SET ROLE dapr;
CREATE TABLE dapr_metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
CREATE TABLE state (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL,
 insertdate timestamp with time zone NOT NULL DEFAULT now(), updatedate timestamp with time zone NULL);
INSERT INTO dapr_metadata VALUES ('lock', 'lock'), ('migrations', '1');
INSERT INTO state (key, value, isbinary, insertdate) VALUES
 ('app||new', '{"a": 1}', false, '2024-01-02Z'), ('app||old', '"AP8="', true, '2023-01-01Z');
"""
V2_TABLES = """
SET ROLE dapr;
CREATE TABLE dapr_metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
CREATE TABLE p_state (key text NOT NULL PRIMARY KEY, value bytea NOT NULL, etag uuid NOT NULL DEFAULT gen_random_uuid(),
 created_at timestamp with time zone NOT NULL DEFAULT now(), updated_at timestamp with time zone,
 expires_at timestamp with time zone);
CREATE INDEX ON p_state (expires_at);
INSERT INTO dapr_metadata VALUES ('lock', 'lock'), ('migrations-state-v2-p_', '1');
INSERT INTO p_state (key, value, etag, created_at, expires_at) VALUES
 ('app||new', '\\x00ff', '00112233-4455-6677-8899-aabbccddeeff', '2024-01-02Z', NULL),
 ('app||old', '{"a":1}', gen_random_uuid(), '2023-01-01Z', '2999-01-02 03:04:05.6Z');
"""
COLUMNS = """SELECT column_name, data_type, is_nullable, coalesce(column_default, ''), is_identity, identity_generation
 FROM information_schema.columns WHERE table_name = '{table}' ORDER BY column_name"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{table}' ORDER BY 1"


async def test_v1_from_an_older_daprd(server, database):  # noqa: F811
    """Version v1 takes up at daprd's migration level, numbers the rows by age and reads both forms of values."""
    server.sql(V1_TABLES, database)
    async with opened("state.postgresql", metadata(server, database)) as store:
        new, old = await must_get(store, "app||new"), await must_get(store, "app||old")
        assert (new.data, new.is_json, old.data, old.is_json) == (b'{"a": 1}', True, b"\x00\xff", False)
        assert new.etag == server.sql("SELECT xmin FROM state WHERE key = 'app||new'", database)
        await store.set(SetRequest("app||new", b"2", etag=new.etag))
        assert (await store.keys_like("app||%")).keys == ("app||old", "app||new")
    assert server.sql("SELECT value FROM dapr_metadata WHERE key = 'migrations'", database) == "3"
    assert server.sql("SELECT max(row_id) FROM state", database) == "2"


async def test_v2_from_an_older_daprd(server, database):  # noqa: F811
    """Version v2 takes up at daprd's migration level, reads its bytes, etags and times of expiry."""
    server.sql(V2_TABLES, database)
    async with opened("state.postgresql", metadata(server, database, tablePrefix="p_"), "v2") as store:
        new, old = await must_get(store, "app||new"), await must_get(store, "app||old")
        assert (new.data, new.etag, new.metadata) == (b"\x00\xff", "00112233-4455-6677-8899-aabbccddeeff", {})
        assert (old.data, old.metadata) == (b'{"a":1}', {"ttlExpireTime": "2999-01-02T03:04:05Z"})
        await store.set(SetRequest("app||new", b"2", etag="00112233445566778899AABBCCDDEEFF"))
        assert (await store.keys_like("app||%")).keys == ("app||old", "app||new")
    assert server.sql("SELECT value FROM dapr_metadata WHERE key = 'migrations-state-v2-p_'", database) == "2"


V1_COLUMNS = """\
expiredate|timestamp with time zone|YES||NO|
insertdate|timestamp with time zone|NO|now()|NO|
isbinary|boolean|NO||NO|
key|text|NO||NO|
row_id|bigint|NO||YES|BY DEFAULT
updatedate|timestamp with time zone|YES||NO|
value|jsonb|NO||NO|"""
V2_COLUMNS = """\
created_at|timestamp with time zone|NO|now()|NO|
etag|uuid|NO|gen_random_uuid()|NO|
expires_at|timestamp with time zone|YES||NO|
key|text|NO||NO|
row_id|bigint|NO||YES|BY DEFAULT
updated_at|timestamp with time zone|YES||NO|
value|bytea|NO||NO|"""


async def test_v1_tables(server, database):  # noqa: F811
    """What version v1 makes and writes has daprd's columns, index and forms."""
    async with opened("state.postgresql", metadata(server, database)) as store:
        await store.bulk_set([SetRequest("app||j", b'{"b":1,"a":2}'), SetRequest("app||b", b"\x00\xff", is_json=False)])
        await store.set(SetRequest("app||t", b"1", ttl=100))
    assert server.sql(COLUMNS.format(table="state"), database) == V1_COLUMNS
    assert server.sql(INDEXES.format(table="state"), database) == (
        "state_pkey|CREATE UNIQUE INDEX state_pkey ON public.state USING btree (key)\n"
        "state_row_id_uidx|CREATE UNIQUE INDEX state_row_id_uidx ON public.state USING btree (row_id)"
    )
    rows = "SELECT key, value, isbinary, updatedate IS NULL, expiredate IS NULL FROM state ORDER BY key"
    assert server.sql(rows, database) == 'app||b|"AP8="|t|t|t\napp||j|{"a": 2, "b": 1}|f|t|t\napp||t|1|f|t|f'
    assert server.sql("SELECT * FROM dapr_metadata ORDER BY key", database) == "lock|lock\nmigrations|3"


async def test_v2_tables(server, database):  # noqa: F811
    """What version v2 makes and writes has daprd's columns, indexes and forms, also in another schema."""
    server.sql("CREATE SCHEMA s AUTHORIZATION dapr", database)
    given = metadata(server, database, tablePrefix="s.x_", metadataTableName="s.m")
    async with opened("state.postgresql", given, "v2") as store:
        await store.set(SetRequest("app||j", b'{"b":1}', ttl=100))
        await store.set(SetRequest("app||j", b'{"b": 1}'))
    assert server.sql(COLUMNS.format(table="x_state"), database) == V2_COLUMNS
    assert [line.partition("|")[0] for line in server.sql(INDEXES.format(table="x_state"), database).splitlines()] == [
        "x_state_expires_at_idx",
        "x_state_pkey",
        "x_state_row_id_uidx",
    ]
    rows = "SELECT key, convert_from(value, 'UTF8'), updated_at IS NULL, expires_at IS NULL FROM s.x_state"
    assert server.sql(rows, database) == 'app||j|{"b": 1}|f|t'
    assert server.sql("SELECT * FROM s.m ORDER BY key", database) == "lock|lock\nmigrations-state-v2-s.x_|2"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_newer_level_is_left_alone(server, database, version):  # noqa: F811
    """Tables of a daprd that knows more steps are used as they are."""
    async with opened("state.postgresql", metadata(server, database), version):
        pass
    server.sql("UPDATE dapr_metadata SET value = '9' WHERE key <> 'lock'", database)
    async with opened("state.postgresql", metadata(server, database), version) as store:
        await store.set(SetRequest("app||k", b"1"))
    assert server.sql("SELECT value FROM dapr_metadata WHERE key <> 'lock'", database) == "9"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_many_start_at_once(server, database, version):  # noqa: F811
    """Of many instances that find no tables one makes them, the others wait, and all can write."""

    async def one(number: int) -> None:
        async with opened("state.postgresql", metadata(server, database, maxConns=2), version) as store:
            await store.set(SetRequest(f"app||{number}", b"1"))

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(number) for number in range(8)))
    assert server.sql("SELECT count(*) FROM state", database) == "8"


async def test_no_right_to_create(server, database):  # noqa: F811
    """A user who may use the tables and create none can open them; where there are none the error says what to do."""
    server.sql("REVOKE CREATE ON SCHEMA public FROM pg_database_owner", database)
    given = metadata(server, database)
    with pytest.raises(BackendError, match=r"does not allow this to user dapr.*grant it"):
        async with opened("state.postgresql", given):
            pass
    server.sql("GRANT CREATE ON SCHEMA public TO pg_database_owner", database)
    async with opened("state.postgresql", given):
        pass
    server.sql("REVOKE CREATE ON SCHEMA public FROM pg_database_owner", database)
    async with opened("state.postgresql", given) as store:
        await store.set(SetRequest("app||k", b"1"))


async def test_other_tables(server, database):  # noqa: F811
    """A table of another kind, and a metadata table that belongs to another table name, are refused and left alone."""
    server.sql("CREATE TABLE other (key text PRIMARY KEY); ALTER TABLE other OWNER TO dapr", database)
    async with opened("state.postgresql", metadata(server, database)):
        pass
    for name, problem in (("other", "has no column value"), ("absent", "give each table its own metadataTableName")):
        with pytest.raises(BackendError, match=problem):
            async with opened("state.postgresql", metadata(server, database, tableName=name)):
                pass
    assert server.sql(COLUMNS.format(table="other"), database) == "key|text|NO||NO|"


@pytest.mark.parametrize(("version", "column", "key"), [("v1", "expiredate", ""), ("v2", "expires_at", "-state-v2-")])
async def test_cleanup(server, database, version, column, key):  # noqa: F811
    """Expired values are removed, by one of the instances in an interval alone; others and their etags stay."""
    given = metadata(server, database, cleanupInterval="1h")
    async with opened("state.postgresql", given, version) as store, opened("state.postgresql", given, version) as other:
        await store.bulk_set([SetRequest(f"app||{number}", b"1", ttl=1000) for number in range(5)])
        await store.set(SetRequest("app||kept", b"1"))
        server.sql(
            f"UPDATE state SET {column} = now() - interval '1 s' WHERE key <> 'app||4' AND key <> 'app||kept'", database
        )
        assert sorted(await asyncio.gather(store.clean(), other.clean())) == [0, 4]
        assert server.sql("SELECT key FROM state ORDER BY key", database) == "app||4\napp||kept"
        server.sql(f"UPDATE state SET {column} = now() - interval '1 s' WHERE key = 'app||4'", database)
        assert await store.clean() == 0
        changed = f"UPDATE dapr_metadata SET value = (now() - interval '2 h')::text WHERE key = 'last-cleanup{key}'"
        server.sql(changed, database)
        assert await other.clean() == 1


async def test_cleanup_by_itself(server, database):  # noqa: F811
    """With a short interval expired values go without being asked for."""
    given = metadata(server, database, cleanupInterval="200ms")
    async with opened("state.postgresql", given, "v2") as store:
        await store.set(SetRequest("app||k", b"1", ttl=1))

        async def gone() -> bool:
            return server.sql("SELECT count(*) FROM state", database) == "0"

        await until(gone, seconds=15)


async def test_both_versions_in_one_database(server, database):  # noqa: F811
    """v1 and v2 share a metadata table and keep to their own tables."""
    async with (
        opened("state.postgresql", metadata(server, database)) as one,
        opened("state.postgresql", metadata(server, database, tablePrefix="v2_"), "v2") as two,
    ):
        await one.set(SetRequest("app||k", b"1"))
        assert await two.get(GetRequest("app||k")) is None


@pytest.mark.parametrize("value", [b'"\\u0000"', b'"a\\u0000b"'])
async def test_what_jsonb_cannot_hold(server, database, value):  # noqa: F811
    """JSON with an escaped NUL is refused by v1, in words that say so, and kept by v2."""
    async with opened("state.postgresql", metadata(server, database)) as store:
        with pytest.raises(BackendError, match="use version v2"):
            await store.set(SetRequest("app||k", value))
    async with opened("state.postgresql", metadata(server, database, tablePrefix="v2_"), "v2") as store:
        await store.set(SetRequest("app||k", value))
        assert await value_of(store, "app||k") == value


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_keys_that_cannot_be(server, database, version):  # noqa: F811
    """A key with NUL, one that is too long for an index and one that is no Unicode are errors of that call alone."""
    async with opened("state.postgresql", metadata(server, database), version) as store:
        # The index compresses keys: only what cannot be compressed is too long.
        long = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(3000))
        for key, problem in (("app||\0", "NUL"), (f"app||{long}", "too large"), ("app||\ud800", "refused a value")):
            with pytest.raises(BackendError, match=problem):
                await store.set(SetRequest(key, b"1"))
        await store.set(SetRequest("app||k", b"1"))


async def test_the_etag_of_v1_sees_other_writers(server, database):  # noqa: F811
    """An etag of v1 is the row's version in the server: a write by anyone else makes it stale."""
    async with opened("state.postgresql", metadata(server, database)) as store:
        await store.set(SetRequest("app||k", b"1"))
        etag = (await must_get(store, "app||k")).etag
        server.sql("UPDATE state SET value = '2'", database)
        for call in (
            store.set(SetRequest("app||k", b"3", etag=etag)),
            store.delete(DeleteRequest("app||k", etag=etag)),
        ):
            with pytest.raises(EtagMismatchError):
                await call
        assert await value_of(store, "app||k") == b"2"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_bulk_writes(server, database, version):  # noqa: F811
    """Plain writes of one call are one transaction; one that cannot be is an error of its own, the others are done."""
    async with opened("state.postgresql", metadata(server, database), version) as store:
        await store.bulk_set([SetRequest(f"app||{number}", b"1", ttl=100) for number in range(100)])
        assert server.sql("SELECT count(*), count(DISTINCT xmin::text) FROM state", database) == "100|1"
        with pytest.raises(BackendError, match="NUL"):
            await store.bulk_set([SetRequest("app||a", b"1"), SetRequest("app||\0", b"1"), SetRequest("app||b", b"1")])
        assert [await value_of(store, f"app||{key}") for key in "ab"] == [b"1", b"1"]
        await store.bulk_set([SetRequest("app||c", b"1"), SetRequest("app||d", b"1"), SetRequest("app||c", b"2")])
        assert await value_of(store, "app||c") in {b"1", b"2"}
        etag = (await must_get(store, "app||a")).etag
        with pytest.raises(EtagMismatchError):
            await store.bulk_set(
                [
                    SetRequest("app||a", b"3", etag=etag),
                    SetRequest("app||b", b"3"),
                    SetRequest("app||d", b"3"),
                    SetRequest("app||e", b"3", etag=etag if version == "v2" else "1"),
                ]
            )
        assert [await value_of(store, f"app||{key}") for key in "abde"] == [b"3", b"3", b"3", None]
