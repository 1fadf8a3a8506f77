"""Redis components and a real daprd at one server: each reads what the other has written. Needs DAPRD."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dapr_shared._proto import runtime_pb
from dapr_shared.contracts.lock import TryLockRequest, UnlockRequest, UnlockStatus
from dapr_shared.contracts.pubsub import PublishRequest
from dapr_shared.contracts.state import Concurrency, DeleteRequest, EtagMismatchError, SetRequest
from tests.support import recording_app
from tests.support.calls import ask as call_http
from tests.support.calls import call, grpc_channel
from tests.support.component_pubsub import Inbox, ask, drained
from tests.support.component_setups import must_get, value_of
from tests.support.daprd import daprd, daprd_path
from tests.support.instance import component, free_ports, write_resources
from tests.support.redis_components import opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def resources(tmp_path, server, database) -> Path:
    """The folder with daprd's components, all at the test's database."""
    daprd_path()
    folder = tmp_path / "resources"
    folder.mkdir()
    where = {"redisHost": server.address, "redisDB": str(database)}
    made = [
        component("store", "state.redis", **where),
        component(recording_app.PUBSUB, "pubsub.redis", **where),
        component("locks", "lock.redis", **where),
        component("conf", "configuration.redis", **where),
        component("binding", "bindings.redis", **where),
    ]
    write_resources(folder / "all.yaml", made)
    return folder


@contextmanager
def subscriber(folder: Path):
    """An app that writes down what it accepts; its port."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, recording_app.__file__, str(port), str(folder)], stdin=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def test_state(tmp_path, server, database, resources):
    """Values, etags, first writes and expiry go both ways; the hashes are the same, field by field."""
    with daprd(tmp_path / "daprd", resources, "orders") as real, grpc_channel(real.grpc) as channel:
        async with opened("state.redis", server, redisDB=str(database)) as store:
            items = [
                {"key": "json", "value": {"a": [1, 2.5]}},
                {"key": "first", "value": "x", "options": {"concurrency": "first-write"}},
                {"key": "ttl", "value": 1, "metadata": {"ttlInSeconds": "100"}},
            ]
            assert real.ask("POST", "/v1.0/state/store", json.dumps(items).encode()).status == 204
            request = runtime_pb.SaveStateRequest(store_name="store")
            request.states.add(key="bytes", value=b"\x00\xff")
            assert call(channel, "SaveState", request).code.value[0] == 0
            await store.set(SetRequest("orders||json2", b'{"a":[1,2.5]}'))
            await store.set(SetRequest("orders||first2", b'"x"', concurrency=Concurrency.FIRST_WRITE))
            await store.set(SetRequest("orders||ttl2", b"1", ttl=100))
            await store.set(SetRequest("orders||bytes2", b"\x00\xff", is_json=False))
            for key in ("json", "first", "ttl", "bytes"):
                theirs, ours = (server.command("HGETALL", f"orders||{name}", db=database) for name in (key, f"{key}2"))
                assert sorted(theirs.splitlines()) == sorted(ours.splitlines()), key
            assert (await must_get(store, "orders||json")).data == b'{"a":[1,2.5]}'
            assert (await must_get(store, "orders||bytes")).data == b"\x00\xff"
            assert "ttlExpireTime" in (await must_get(store, "orders||ttl")).metadata
            assert real.ask("GET", "/v1.0/state/store/json2").json() == {"a": [1, 2.5]}
            got = call(channel, "GetState", runtime_pb.GetStateRequest(store_name="store", key="bytes2"))
            assert runtime_pb.GetStateResponse.FromString(got.data).data == b"\x00\xff"
            # Etags that one has given are good for the other.
            etag = (await must_get(store, "orders||json")).etag
            change = [{"key": "json", "value": 2, "etag": etag, "options": {"concurrency": "first-write"}}]
            assert real.ask("POST", "/v1.0/state/store", json.dumps(change).encode()).status == 204
            with pytest.raises(EtagMismatchError):
                await store.set(SetRequest("orders||json", b"3", etag=etag))
            await store.set(SetRequest("orders||json", b"3", etag=str(int(etag) + 1)))
            assert real.ask("GET", "/v1.0/state/store/json").json() == 3
            assert real.ask("POST", "/v1.0/state/store", json.dumps(change).encode()).status == 409
            # Transactions and deletes.
            both = {
                "operations": [
                    {"operation": "upsert", "request": {"key": "bytes", "value": 4}},
                    {"operation": "delete", "request": {"key": "json2"}},
                ]
            }
            assert real.ask("POST", "/v1.0/state/store/transaction", json.dumps(both).encode()).status == 204
            assert await value_of(store, "orders||bytes") == b"4"
            assert await value_of(store, "orders||json2") is None
            await store.transact([SetRequest("orders||bytes", b"5"), DeleteRequest("orders||first")], {})
            assert real.ask("GET", "/v1.0/state/store/bytes").json() == 5
            assert real.ask("GET", "/v1.0/state/store/first").status == 204


async def test_messages(tmp_path, server, database, resources):
    """What daprd publishes is delivered here, and what is published here is delivered by daprd, in one group too."""
    topic = recording_app.TOPICS[0]
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "datacontenttype": "application/json"}
    accepted = tmp_path / "accepted"
    with subscriber(tmp_path) as port, daprd(tmp_path / "daprd", resources, "orders", f"--app-port={port}") as real:
        async with opened("pubsub.redis", server, redisDB=str(database)) as broker:
            body = json.dumps({**event, "data": {"id": "ours-1"}}).encode()
            await broker.publish(PublishRequest(topic, body, "application/cloudevents+json"))
            target = f"/v1.0/publish/{recording_app.PUBSUB}/{topic}"
            kind = [("content-type", "application/json")]
            assert (
                call_http(real.http, "POST", f"{target}?metadata.k=v", b'{"id":"theirs-1"}', headers=kind).status == 204
            )
            end = time.monotonic() + 20
            while not accepted.exists() or len(accepted.read_text().split()) < 2:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            assert sorted(accepted.read_text().split()) == ["ours-1", "theirs-1"]
            inbox = Inbox()
            await drained(await broker.subscribe(ask("other", topic), inbox))
            assert [json.loads(message.data)["data"]["id"] for message in inbox.messages] == ["ours-1", "theirs-1"]
            assert inbox.messages[1].metadata["k"] == "v"
            # The same group: daprd has done these.
            again = Inbox()
            assert await (await broker.subscribe(ask("orders", topic), again)).pending() == 0


async def test_locks_configuration_and_bindings(tmp_path, server, database, resources):
    """A lock of one holds for the other, and both read the same configuration and texts."""
    server.command("SET", "a", "1||v1", db=database)
    with daprd(tmp_path / "daprd", resources, "orders") as real:
        body = json.dumps({"resourceId": "r", "lockOwner": "o", "expiryInSeconds": 60}).encode()
        assert real.ask("POST", "/v1.0-alpha1/lock/locks", body).json() == {"success": True}
        async with opened("lock.redis", server, redisDB=str(database)) as locks:
            assert not await locks.try_lock(TryLockRequest("lock||orders||r", "other", 60))
            assert await locks.unlock(UnlockRequest("lock||orders||r", "other")) is UnlockStatus.LOCK_BELONGS_TO_OTHERS
            assert await locks.unlock(UnlockRequest("lock||orders||r", "o")) is UnlockStatus.SUCCESS
            assert await locks.try_lock(TryLockRequest("lock||orders||r", "other", 60))
        assert real.ask("POST", "/v1.0-alpha1/lock/locks", body).json().get("success") is not True
        assert real.ask("GET", "/v1.0/configuration/conf?key=a").json()["a"]["version"] == "v1"
