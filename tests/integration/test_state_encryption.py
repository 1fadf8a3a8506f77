"""Encrypted state through the real process: HTTP and gRPC, rotation while it runs, and a real daprd on the same file."""

from __future__ import annotations

import json

import pytest

from dapr_shared._proto import runtime_pb
from tests.support.apps import until
from tests.support.calls import call, grpc_channel
from tests.support.daprd import daprd, daprd_path
from tests.support.instance import StartError, app, component, running, start, token_of, write_resources

KEYS = {"old": "00112233445566778899aabbccddeeff", "new": "ffeeddccbbaa99887766554433221100" * 2}


def encrypted(folder, primary: str, secondary: str = "", name: str = "vaulted") -> dict:
    """A store on `folder/state.db` with these secrets as keys."""
    made = component(name, "state.sqlite", connectionString=str(folder / "state.db"))
    made["auth"] = {"secretStore": "keys"}
    for item, secret in (("primaryEncryptionKey", primary), ("secondaryEncryptionKey", secondary)):
        if secret:
            made["spec"]["metadata"].append({"name": item, "secretKeyRef": {"name": secret}})
    return made


def resources_of(folder, *stores: dict) -> list[dict]:
    (folder / "keys.json").write_text(json.dumps({**KEYS, "short": "abc"}))
    return [
        app("orders"),
        component("keys", "secretstores.local.file", secretsFile=str(folder / "keys.json")),
        component("plain", "state.sqlite", connectionString=str(folder / "state.db")),
        *stores,
    ]


@pytest.fixture
def instance(tmp_path):
    with running(tmp_path, resources=resources_of(tmp_path, encrypted(tmp_path, "old"))) as made:
        yield made


def save(instance, key: str, value, store: str = "vaulted") -> None:
    body = json.dumps([{"key": key, "value": value}]).encode()
    assert instance.ask("POST", f"/v1.0/state/{store}", body, app="orders").status == 204


def get(instance, key: str, store: str = "vaulted"):
    return instance.ask("GET", f"/v1.0/state/{store}/{key}", app="orders")


def test_encrypted_over_both_protocols(instance):
    """JSON of HTTP and bytes of gRPC come back over both; the file holds neither; the key is in no log and no answer."""
    save(instance, "a", {"card": "4111-1111"})
    save(instance, "text", "4111-1111")
    metadata = [("dapr-api-token", token_of("orders"))]
    with grpc_channel(instance.grpc) as channel:
        request = runtime_pb.SaveStateRequest(store_name="vaulted")
        request.states.add(key="b", value=b"\x00 4111-1111")
        assert call(channel, "SaveState", request, metadata).code.value[0] == 0
        transaction = runtime_pb.ExecuteStateTransactionRequest(storeName="vaulted")
        transaction.operations.add(operationType="upsert").request.MergeFrom(
            runtime_pb.TransactionalStateOperation(request={"key": "c", "value": b"4111-1111"}).request
        )
        assert call(channel, "ExecuteStateTransaction", transaction, metadata).code.value[0] == 0
        got = call(channel, "GetState", runtime_pb.GetStateRequest(store_name="vaulted", key="b"), metadata)
        assert runtime_pb.GetStateResponse.FromString(got.data).data == b"\x00 4111-1111"
        bulk = call(
            channel, "GetBulkState", runtime_pb.GetBulkStateRequest(store_name="vaulted", keys=["a", "c"]), metadata
        )
        items = runtime_pb.GetBulkStateResponse.FromString(bulk.data).items
        assert [item.data for item in items] == [b'{"card": "4111-1111"}', b"4111-1111"]
    assert get(instance, "a").json() == {"card": "4111-1111"}
    assert get(instance, "text").body == b'"4111-1111"'
    bulk = instance.ask("POST", "/v1.0/state/vaulted/bulk", b'{"keys":["a","b"]}', app="orders").json()
    assert bulk[0]["data"] == {"card": "4111-1111"}
    raw = get(instance, "a", "plain").body
    assert b"4111" not in raw
    assert raw.endswith(b"||old")
    shown = instance.ask("GET", "/v1.0/metadata", app="orders").body.decode() + instance.output()
    assert KEYS["old"] not in shown


def test_rotation_while_it_runs(instance, tmp_path):
    """A changed resource brings the new key into force: old values are read, new ones have the new key's name."""
    save(instance, "before", 1)
    stores = resources_of(tmp_path, encrypted(tmp_path, "new", "old"))
    write_resources(tmp_path / "resources" / "all.yaml", stores)
    instance.wait_for_line("resources reloaded")
    save(instance, "after", 2)
    assert (get(instance, "before").json(), get(instance, "after").json()) == (1, 2)
    assert get(instance, "after", "plain").body.endswith(b"||new")
    write_resources(tmp_path / "resources" / "all.yaml", resources_of(tmp_path, encrypted(tmp_path, "new")))
    until(lambda: get(instance, "before").status == 500)
    answer = get(instance, "before")
    assert answer.code == "ERR_STATE_GET"
    assert "neither the primary nor the secondary" in answer.json()["message"]


@pytest.mark.parametrize("secret", ["short", "absent"])
def test_a_wrong_key_is_a_start_error(tmp_path, secret):
    """A key that is none, or is not there, ends the start: nothing is written in the clear. The key is not shown."""
    with pytest.raises(StartError) as caught:
        start(tmp_path, resources=resources_of(tmp_path, encrypted(tmp_path, secret)))
    assert "primaryEncryptionKey" in caught.value.log
    assert "abc" not in caught.value.log


def test_daprd_reads_and_is_read(tmp_path):
    """Daprd reads what this process has encrypted, and the other way round, also with the secondary key."""
    daprd_path()
    for_daprd = tmp_path / "daprd-resources"
    for_daprd.mkdir()
    ours = resources_of(tmp_path, encrypted(tmp_path, "new", "old"))
    with running(tmp_path, resources=ours) as instance:
        save(instance, "json", {"a": [1, 2]})
        save(instance, "again", "x")
    write_resources(for_daprd / "all.yaml", resources_of(tmp_path, encrypted(tmp_path, "old", "new"))[1:])
    with daprd(tmp_path / "daprd", for_daprd, "orders") as real, grpc_channel(real.grpc) as channel:
        assert real.ask("GET", "/v1.0/state/vaulted/json").json() == {"a": [1, 2]}
        request = runtime_pb.SaveStateRequest(store_name="vaulted")
        request.states.add(key="bytes", value=b"\x00\xff of daprd")
        assert call(channel, "SaveState", request).code.value[0] == 0
        assert real.ask("POST", "/v1.0/state/vaulted", b'[{"key":"text","value":"of daprd"}]').status == 204
    with running(tmp_path, resources=ours) as instance, grpc_channel(instance.grpc) as channel:
        metadata = [("dapr-api-token", token_of("orders"))]
        got = call(channel, "GetState", runtime_pb.GetStateRequest(store_name="vaulted", key="bytes"), metadata)
        assert runtime_pb.GetStateResponse.FromString(got.data).data == b"\x00\xff of daprd"
        assert get(instance, "text").body == b"of daprd"  # daprd encrypts a text over HTTP without its quotes
        assert get(instance, "json").json() == {"a": [1, 2]}
