"""What daprd answers to state calls that are unusual or wrong, over both front doors. Compared with daprd 1.18.2."""

from __future__ import annotations

import json

import orjson
import pytest

from dapr_shared._proto import common_pb, rpc_pb, runtime_pb
from dapr_shared.api.http import state as state_api
from dapr_shared.blocks.state.block import MAX_ITEMS
from dapr_shared.blocks.state.items import BulkItem
from dapr_shared.contracts.state import StateValue
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.inprocess import ORDERS, inprocess

STORE = "/v1.0/state/memory"


@pytest.fixture
async def instance(tmp_path):
    async with inprocess(tmp_path) as made:
        yield made


@pytest.fixture
def post(instance):
    """Post a body; the status, and the JSON of the answer where it has one."""

    async def send(target: str, body: bytes):
        answer = await instance.http("POST", target, body, token=ORDERS)
        return answer.status, json.loads(answer.body) if answer.body else None

    return send


@pytest.fixture
def read(instance):
    """The value under a key, read over HTTP."""

    async def get(key: str) -> bytes | None:
        answer = await instance.http("GET", f"{STORE}/{key}", token=ORDERS)
        return answer.body if answer.status == 200 else None

    return get


@pytest.fixture
def rpc(instance):
    """Call a gRPC method; its code, its message and the reason of its details (`OK`, "" and "")."""

    async def call(method: str, message) -> tuple[GrpcCode, str, str]:
        try:
            await instance.grpc(method, message.SerializeToString(), token=ORDERS)
        except GrpcError as error:
            status = rpc_pb.Status.FromString(dict(error.trailers).get("grpc-status-details-bin", b""))
            info = rpc_pb.ErrorInfo()
            if status.details:
                info.ParseFromString(status.details[-1].value)
            return error.code, error.message, info.reason
        return GrpcCode.OK, "", ""

    return call


def save_of(*items: common_pb.StateItem) -> runtime_pb.SaveStateRequest:
    return runtime_pb.SaveStateRequest(store_name="memory", states=items)


def json_item(value: bytes, key: str = "k") -> common_pb.StateItem:
    return common_pb.StateItem(key=key, value=value, metadata={"contentType": "application/json"})


# gRPC ----------------------------------------------------------------------------------------------------------------


async def test_bulk_delete_has_its_own_errors(rpc):
    """An etag that does not match is ABORTED with the reason of bulk deletes, also for a single key."""
    item = common_pb.StateItem(key="k", etag=common_pb.Etag(value="x"))
    request = runtime_pb.DeleteBulkStateRequest(store_name="memory", states=[item])
    code, message, reason = await rpc("DeleteBulkState", request)
    assert (code, reason) == (GrpcCode.ABORTED, "ERR_STATE_BULK_DELETE")
    assert message.startswith("failed deleting state in state store memory: possible etag mismatch")
    single = runtime_pb.DeleteStateRequest(store_name="memory", key="k", etag=common_pb.Etag(value="x"))
    code, _, reason = await rpc("DeleteState", single)
    assert (code, reason) == (GrpcCode.ABORTED, "ERR_STATE_DELETE")


async def test_save_without_a_key(rpc, read):
    """A save without a key is INVALID_ARGUMENT with daprd's words and reason; nothing of it is stored."""
    request = save_of(common_pb.StateItem(key="ok", value=b"1"), common_pb.StateItem(value=b"1"))
    expected = (GrpcCode.INVALID_ARGUMENT, "state key cannot be empty", "ERR_STATE_SAVE")
    assert await rpc("SaveState", request) == expected
    assert await read("ok") is None


async def test_deletes_and_transactions_without_a_key(rpc):
    """Deletes and transactions take an empty key, as in daprd."""
    empty = common_pb.StateItem(value=b"1")
    operations = [
        runtime_pb.TransactionalStateOperation(operationType=kind, request=empty) for kind in ("upsert", "delete")
    ]
    for method, request in (
        ("DeleteState", runtime_pb.DeleteStateRequest(store_name="memory")),
        ("DeleteBulkState", runtime_pb.DeleteBulkStateRequest(store_name="memory", states=[empty])),
        (
            "ExecuteStateTransaction",
            runtime_pb.ExecuteStateTransactionRequest(storeName="memory", operations=operations),
        ),
    ):
        assert (await rpc(method, request))[0] is GrpcCode.OK, method


@pytest.mark.parametrize("value", [b"nope", b"", b"{} x", b'"\xff"', b"[" * 100_000])
async def test_json_that_is_none(rpc, read, value):
    """A value that is declared as JSON and is none is refused and not stored."""
    code, message, reason = await rpc("SaveState", save_of(json_item(value)))
    assert (code, reason) == (GrpcCode.INVALID_ARGUMENT, "ERR_STATE_SAVE")
    assert "JSON" in message
    assert await read("k") is None


async def test_json_that_is_none_in_a_transaction(rpc, read, post):
    """In a transaction such a value is stored as the bytes it is, as in daprd; a bulk answer stays JSON."""
    operation = runtime_pb.TransactionalStateOperation(operationType="upsert", request=json_item(b"nope"))
    request = runtime_pb.ExecuteStateTransactionRequest(storeName="memory", operations=[operation])
    assert (await rpc("ExecuteStateTransaction", request))[0] is GrpcCode.OK
    assert await read("k") == b"nope"
    assert (await post(f"{STORE}/bulk", b'{"keys":["k"]}'))[1][0]["data"] == "bm9wZQ=="


async def test_json_over_grpc(rpc, read):
    """JSON that is declared as such is stored."""
    assert (await rpc("SaveState", save_of(json_item(b'{"a": 1}'))))[0] is GrpcCode.OK
    assert await read("k") == b'{"a": 1}'


async def test_too_many_items_over_grpc(rpc):
    """More items than one call may have are refused in every method that takes several."""
    items = [common_pb.StateItem(key="k")] * (MAX_ITEMS + 1)
    operations = [runtime_pb.TransactionalStateOperation(operationType="delete")] * (MAX_ITEMS + 1)
    for method, request in (
        ("SaveState", save_of(*items)),
        ("DeleteBulkState", runtime_pb.DeleteBulkStateRequest(store_name="memory", states=items)),
        ("GetBulkState", runtime_pb.GetBulkStateRequest(store_name="memory", keys=["k"] * (MAX_ITEMS + 1))),
        (
            "ExecuteStateTransaction",
            runtime_pb.ExecuteStateTransactionRequest(storeName="memory", operations=operations),
        ),
    ):
        code, _, reason = await rpc(method, request)
        assert (code, reason) == (GrpcCode.INVALID_ARGUMENT, "ERR_STATE_TOO_MANY_ITEMS"), method


# HTTP ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/bulk", "/transaction"])
async def test_the_store_is_looked_up_first(post, path):
    """A wrong store is told before what is wrong with the body."""
    status, error = await post(f"/v1.0/state/nope{path}", b"garbage")
    assert (status, error["errorCode"]) == (400, "ERR_STATE_STORE_NOT_FOUND")


async def test_save_without_a_key_over_http(post, read):
    """An item without a key makes the whole body wrong, in daprd's words."""
    status, error = await post(STORE, b'[{"key":"ok","value":1},{"value":1}]')
    assert (status, error) == (400, {"errorCode": "ERR_MALFORMED_REQUEST", "message": '"key" is a required field'})
    assert await read("ok") is None


async def test_a_transaction_without_keys(post):
    """Operations of a transaction need no key, as in daprd."""
    body = b'{"operations":[{"operation":"upsert","request":{"value":1}},{"operation":"delete","request":{}}]}'
    assert await post(f"{STORE}/transaction", body) == (204, None)


async def test_queries_are_not_supported(post):
    """A store without queries says so in daprd's words."""
    status, error = await post("/v1.0-alpha1/state/memory/query", b"garbage")
    assert status == 500
    assert error["message"] == "state store does not support querying"


async def test_names_in_other_letters(post, read):
    """Names of fields ignore case in every body, as in Go; the last of two spellings wins; unknown ones are ignored."""
    body = (
        b'[{"KEY":"a","Value":{"Key": 1},"Metadata":{"TtlX":"1"},"ETag":"","more":[1]},{"key":"b","VALUE":2,"value":3}]'
    )
    assert await post(STORE, body) == (204, None)
    assert (await read("a"), await read("b")) == (b'{"Key": 1}', b"3")
    body = b'[{"key":"a","value":2,"Options":{"Concurrency":"first-write"}}]'
    assert (await post(STORE, body))[0] == 409
    assert (await post(STORE, b'[{"key":"a","value":2,"Etag":"other"}]'))[0] == 409
    body = b'{"Operations":[{"Operation":"upsert","Request":{"Key":"c","value":4}}],"Metadata":{}}'
    assert await post(f"{STORE}/transaction", body) == (204, None)
    _, items = await post(f"{STORE}/bulk", b'{"Keys":["a","c","c"],"other":1}')
    assert [(item["key"], item["data"]) for item in items] == [("a", {"Key": 1}), ("c", 4), ("c", 4)]


async def test_the_usual_spelling_is_decoded_once(post, monkeypatch):
    """A body with the documented names, `contentType` too, never comes to the tolerant way of reading."""
    folded = []
    monkeypatch.setattr(state_api, "fold_names", lambda data, **_: folded.append(data) or data)
    item = b'{"key":"a","value":1,"etag":"","metadata":{"x":"y"},"options":{"consistency":"strong"},"contentType":"text/plain"}'
    assert await post(STORE, b"[" + item + b"]") == (204, None)
    assert (await post(f"{STORE}/bulk", b'{"keys":["a"],"parallelism":1,"metadata":{}}'))[0] == 200
    assert folded == []


@pytest.mark.parametrize(
    "body", [b'[{"Key":1}]', b'{"Key":"a"}', b'[{"Key":"a"', b'["Key"]', b'[{"Key":"a","Options":[]}]', b'[{"X":"\xff"}]']
)  # fmt: skip
async def test_wrong_bodies_in_other_letters(post, body):
    """What is of the wrong form is refused also in other letters."""
    status, error = await post(STORE, body)
    assert (status, error["errorCode"]) == (400, "ERR_MALFORMED_REQUEST")


async def test_a_null_body(post):
    """A body `null` saves nothing."""
    assert await post(STORE, b"null") == (204, None)


@pytest.mark.parametrize("name", ["key", "Key"])
async def test_too_many_items_over_http(post, name):
    """More items than one call may have are refused, however their names are written."""
    count = MAX_ITEMS + 1
    item = json.dumps({name: "a"}).encode()
    operation = b'{"operation":"upsert","request":' + item + b"}"
    for target, body in (
        (STORE, b"[" + b",".join([item] * count) + b"]"),
        (f"{STORE}/transaction", b'{"operations":[' + b",".join([operation] * count) + b"]}"),
        (f"{STORE}/bulk", json.dumps({f"{name}s": ["a"] * count}).encode()),
    ):
        status, error = await post(target, body)
        assert (status, error["errorCode"]) == (400, "ERR_STATE_TOO_MANY_ITEMS"), target


async def test_an_answer_that_is_too_large(post):
    """A body of one large key many times is refused by what it would be answered."""
    value = b'"' + b"x" * 1_000_000 + b'"'
    assert await post(STORE, b'[{"key":"a","value":' + value + b"}]") == (204, None)
    assert (await post(f"{STORE}/bulk", json.dumps({"keys": ["a"] * 60}).encode()))[0] == 200
    status, error = await post(f"{STORE}/bulk", json.dumps({"keys": ["a"] * 700}).encode())
    assert (status, error["errorCode"]) == (400, "ERR_STATE_BULK_GET_TOO_LARGE")


@pytest.mark.parametrize("ttl", ["-1", "-2", "-999999"])
async def test_negative_times_to_live(post, instance, ttl):
    """A negative time to live is none, as in daprd's memory store."""
    body = json.dumps([{"key": "a", "value": 1, "metadata": {"ttlInSeconds": ttl}}]).encode()
    assert await post(STORE, body) == (204, None)
    answer = await instance.http("GET", f"{STORE}/a", token=ORDERS)
    assert answer.status == 200
    assert not any(name.startswith(b"metadata.") for name, _ in answer.headers)


@pytest.mark.parametrize("ttl", ["abc", "1.5", "99999999999", "٣"])
async def test_wrong_times_to_live(post, ttl):
    """The error of a wrong time to live names it, in words that no programming language has made."""
    body = json.dumps([{"key": "a", "value": 1, "metadata": {"ttlInSeconds": ttl}}]).encode()
    status, error = await post(STORE, body)
    assert (status, error["errorCode"]) == (500, "ERR_STATE_SAVE")
    assert "ttlInSeconds" in error["message"]
    assert not any(word in error["message"] for word in ("literal", "int()", "base 10", "Error"))


# What a value is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_json", "asked"), [(True, 0), (False, 1), (None, 1)])
def test_json_that_is_known_is_not_parsed_again(monkeypatch, is_json, asked):
    """A value that the store knows to be JSON goes out as it is; any other is looked at."""
    calls = []
    monkeypatch.setattr(state_api, "is_json_text", lambda data: not calls.append(data))
    item = BulkItem("k", StateValue(b'{"a": 1}', is_json=is_json))
    assert orjson.dumps(state_api._bulk_item(item)) == b'{"key":"k","data":{"a": 1}}'
    assert len(calls) == asked


async def test_bytes_that_happen_to_be_json(rpc, post):
    """Bytes saved over gRPC without a type are JSON in a bulk answer where they are JSON, as in daprd, else base64 text."""
    items = [common_pb.StateItem(key="a", value=b"1"), common_pb.StateItem(key="b", value=b"\x00")]
    assert (await rpc("SaveState", save_of(*items)))[0] is GrpcCode.OK
    _, answer = await post(f"{STORE}/bulk", b'{"keys":["a","b"]}')
    assert [item["data"] for item in answer] == [1, "AA=="]
