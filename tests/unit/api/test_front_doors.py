"""Both front doors over one instance: the same calls, the same answers, the same isolation."""

from __future__ import annotations

import json

import pytest

from dapr_shared._proto import common_pb, rpc_pb, runtime_pb
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.inprocess import ORDERS, STOCK, inprocess


@pytest.fixture
async def instance(tmp_path):
    async with inprocess(tmp_path) as made:
        yield made


def rich(error: GrpcError) -> rpc_pb.ErrorInfo:
    """The ErrorInfo of a status."""
    status = rpc_pb.Status.FromString(dict(error.trailers)["grpc-status-details-bin"])
    info = rpc_pb.ErrorInfo()
    info.ParseFromString(status.details[-1].value)
    return info


async def test_state_saved_over_http_is_read_over_grpc(instance):
    """Both doors reach the same block: what one saves the other reads, byte for byte."""
    saved = await instance.http("POST", "/v1.0/state/memory", b'[{"key":"k","value":{"n": 1}}]', token=ORDERS)
    assert (saved.status, saved.body) == (204, b"")
    request = runtime_pb.GetStateRequest(store_name="memory", key="k")
    answer = await instance.grpc("GetState", request.SerializeToString(), token=ORDERS)
    assert runtime_pb.GetStateResponse.FromString(answer).data == b'{"n": 1}'


async def test_bytes_saved_over_grpc_come_back_over_http(instance):
    """Binary values go through HTTP untouched; in a bulk answer they are base64 text, so that it stays JSON."""
    item = common_pb.StateItem(key="b", value=b"\x00\xff")
    await instance.grpc(
        "SaveState", runtime_pb.SaveStateRequest(store_name="memory", states=[item]).SerializeToString(), token=ORDERS
    )
    assert (await instance.http("GET", "/v1.0/state/memory/b", token=ORDERS)).body == b"\x00\xff"
    bulk = await instance.http("POST", "/v1.0/state/memory/bulk", b'{"keys":["b","c"]}', token=ORDERS)
    items = json.loads(bulk.body)
    assert items[0]["data"] == "AP8="
    assert items[1] == {"key": "c"}


async def test_each_app_has_its_own_keys(instance):
    """The same key of two apps are two values, over both doors."""
    await instance.http("POST", "/v1.0/state/memory", b'[{"key":"k","value":1}]', token=ORDERS)
    assert (await instance.http("GET", "/v1.0/state/memory/k", token=STOCK)).status == 204
    request = runtime_pb.GetStateRequest(store_name="memory", key="k").SerializeToString()
    assert await instance.grpc("GetState", request, token=STOCK) == b""


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", "/v1.0/state/nope/k", b"", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("GET", "/v1.0/state/mine/k", b"", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("GET", "/v1.0/state/memory/a%7C%7Cb", b"", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", "/v1.0/state/memory", b"garbage", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", "/v1.0/state/memory", b'{"key":"a"}', 400, "ERR_MALFORMED_REQUEST"),
        ("POST", "/v1.0/state/memory", b'[{"value":1}]', 400, "ERR_MALFORMED_REQUEST"),
        ("POST", "/v1.0/state/memory", b'[{"key":"a","value":"\xff"}]', 400, "ERR_MALFORMED_REQUEST"),
        ("POST", "/v1.0/state/memory", b'[{"key":"a","value":1,"etag":"z"}]', 409, "ERR_STATE_SAVE"),
        ("POST", "/v1.0/state/memory", b'[{"key":"a","value":1,"options":{"concurrency":"z"}}]', 500, "ERR_STATE_SAVE"),
        ("POST", "/v1.0/state/memory", b'[{"key":"a","value":1,"metadata":{"ttlInSeconds":"z"}}]', 500, "ERR_STATE_SAVE"),
        ("POST", "/v1.0/state/memory/transaction", b'{"operations":[{"operation":"x","request":{"key":"a"}}]}', 400,
         "ERR_NOT_SUPPORTED_STATE_OPERATION"),
        ("POST", "/v1.0-alpha1/state/memory/query", b"{}", 500, "ERR_STATE_STORE_NOT_SUPPORTED"),
        ("DELETE", "/v1.0/state/memory", b"", 404, "ERR_DIRECT_INVOKE"),
        ("GET", "/nothing", b"", 404, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/invoke/nobody/method/x", b"", 500, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/invoke/stock/method/x", b"", 500, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/invoke/a.b.c/method/x", b"", 500, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/invoke/http%3A%2F%2F127.0.0.1/method/x", b"", 403, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/secrets/any/x", b"", 500, "ERR_SECRET_STORES_NOT_CONFIGURED"),
    ],
)  # fmt: skip
async def test_http_errors(instance, method, target, body, status, code):
    """Each wrong call gets the status and code of Dapr's table, as JSON."""
    answer = await instance.http(method, target, body, token=ORDERS)
    assert answer.status == status
    error = json.loads(answer.body)
    assert error["errorCode"] == code
    assert error["message"]


async def test_an_illegal_key_has_daprs_details(instance):
    """The rich form: BadRequest, ResourceInfo, ErrorInfo in this order."""
    answer = await instance.http("GET", "/v1.0/state/memory/a%7C%7Cb", token=ORDERS)
    details = json.loads(answer.body)["details"]
    assert [detail["@type"].rpartition(".")[2] for detail in details] == ["BadRequest", "ResourceInfo", "ErrorInfo"]
    assert details[2] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "domain": "dapr.io",
        "reason": "DAPR_STATE_ILLEGAL_KEY",
        "metadata": None,
    }


async def test_grpc_errors_carry_code_and_reason(instance):
    """The same errors over gRPC: the code of the row, and an ErrorInfo with its reason."""
    with pytest.raises(GrpcError) as error:
        await instance.grpc("GetState", runtime_pb.GetStateRequest(store_name="nope").SerializeToString(), token=ORDERS)
    assert error.value.code is GrpcCode.INVALID_ARGUMENT
    assert rich(error.value).reason == "DAPR_STATE_NOT_FOUND"
    assert dict(rich(error.value).metadata) == {"appID": "orders"}


async def test_a_message_that_is_none_is_refused(instance):
    """Bytes that are no message of the method's type are an invalid argument, not a defect."""
    with pytest.raises(GrpcError) as error:
        await instance.grpc("SaveState", b"\xff\xff\xff", token=ORDERS)
    assert error.value.code is GrpcCode.INVALID_ARGUMENT


@pytest.mark.parametrize("token", [None, "wrong", ""])
async def test_without_proof_nothing_is_done(instance, token):
    """No API answers an app that is not proved, over either door; only health does."""
    for method, target in [
        ("GET", "/v1.0/state/memory/k"),
        ("GET", "/v1.0/metadata"),
        ("POST", "/v1.0/shutdown"),
        ("GET", "/x"),
    ]:
        answer = await instance.http(method, target, token=token)
        assert answer.status == 401, target
    with pytest.raises(GrpcError) as error:
        await instance.grpc("GetMetadata", b"", token=token)
    assert error.value.code is GrpcCode.UNAUTHENTICATED
    assert (await instance.http("GET", "/v1.0/healthz/outbound", token=token)).status == 204


async def test_metadata_shows_an_app_itself_and_what_it_may_use(instance):
    """Each app sees its own components, entries and connection; never another's."""
    assert (await instance.http("PUT", "/v1.0/metadata/note", b"mine", token=ORDERS)).status == 204
    orders = json.loads((await instance.http("GET", "/v1.0/metadata", token=ORDERS)).body)
    stock = json.loads((await instance.http("GET", "/v1.0/metadata", token=STOCK)).body)
    assert [component["name"] for component in orders["components"]] == ["memory"]
    assert [component["name"] for component in stock["components"]] == ["memory", "mine"]
    assert orders["extended"]["note"] == "mine"
    assert "note" not in stock["extended"]
    assert (orders["id"], stock["id"]) == ("orders", "stock")
    assert orders["appConnectionProperties"]["port"] == 1


async def test_metadata_entries_are_bounded(instance):
    """An app cannot fill the memory of the instance with metadata."""
    answer = await instance.http("PUT", "/v1.0/metadata/big", b"x" * 70_000, token=ORDERS)
    assert answer.status == 400


async def test_methods_that_this_version_lacks_say_so(instance):
    """A method of Dapr's interface without an implementation is UNIMPLEMENTED for a proved app."""
    from tests.support.inprocess import FakeCall

    row = next(r for r in instance.parts.grpc.table() if r.name.endswith("/ConverseAlpha1"))

    async def nothing():
        for _ in ():
            yield b""

    with pytest.raises(GrpcError) as error:
        async for _ in row.handler(FakeCall(row.name, [("dapr-api-token", ORDERS)]), nothing()):
            pass
    assert error.value.code is GrpcCode.UNIMPLEMENTED


async def test_the_trace_of_the_caller_comes_back(instance):
    """The answer carries the caller's traceparent; a wrong baggage header is refused with 400."""
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    answer = await instance.http("GET", "/v1.0/metadata", token=ORDERS, headers=[(b"traceparent", parent)])
    assert (b"traceparent", parent) in answer.headers
    bad = await instance.http("GET", "/v1.0/metadata", token=ORDERS, headers=[(b"baggage", b"=\x01")])
    assert bad.status == 400


async def test_shutdown_of_a_shared_instance_leaves_it_running(instance):
    """An app of a shared instance may only stop its own deliveries."""
    assert (await instance.http("POST", "/v1.0/shutdown", token=ORDERS)).status == 204
    assert (await instance.http("GET", "/v1.0/metadata", token=STOCK)).status == 200


async def test_single_app_mode_needs_no_token(tmp_path):
    """Started for one app, the instance takes every request as that app's, and its public port has metadata."""
    component = """
        apiVersion: dapr.io/v1alpha1
        kind: Component
        metadata: {name: memory}
        spec: {type: state.in-memory, version: v1, metadata: []}
    """
    async with inprocess(tmp_path, component, app_id="one") as single:
        assert (await single.http("POST", "/v1.0/state/memory", b'[{"key":"k","value":1}]')).status == 204
        assert (await single.http("GET", "/v1.0/state/memory/k")).body == b"1"
        from dapr_shared.wire.http.messages import Request

        public = await single.parts.public(Request("GET", b"/v1.0/metadata", [], b""))
        assert json.loads(public.body)["id"] == "one"


async def test_the_public_port_of_a_shared_instance_has_health_only(instance):
    """Nothing about any app is told without proof."""
    from dapr_shared.wire.http.messages import Request

    assert (await instance.parts.public(Request("GET", b"/v1.0/metadata", [], b""))).status == 404
    assert (await instance.parts.public(Request("GET", b"/v1.0/state/memory/k", [], b""))).status == 404


async def test_a_streamed_answer_holds_its_place_until_its_end(tmp_path):
    """A call whose answer is still streaming counts as in flight: the limit of calls of an app holds for streams."""
    from dapr_shared.api.http.counted_body import CountedBody

    ended = []

    async def pieces():
        yield b"ab"
        yield b"c"

    body = CountedBody(pieces(), ended.append)
    assert await anext(body) == b"ab"
    assert ended == []
    await body.aclose()
    await body.aclose()
    assert ended == [2]


async def test_absent_apis_say_so_and_are_no_invocations(instance):
    """A path of an API that this version lacks is 501, also when the request names an app."""
    answer = await instance.http(
        "POST", "/v1.0-alpha1/crypto/x/encrypt", b"{}", token=ORDERS, headers=[(b"dapr-app-id", b"stock")]
    )
    assert (answer.status, json.loads(answer.body)["errorCode"]) == (501, "ERR_API_UNIMPLEMENTED")


async def test_an_absolute_target_is_read_by_its_path(instance):
    """A client that sends the whole URL, as to a proxy, gets the same answer."""
    assert (await instance.http("GET", "http://any.host/v1.0/healthz")).status == 204


async def test_refusals_are_audit_events(instance):
    """What a proved app may not do is counted with its reason."""
    await instance.http("GET", "/v1.0/invoke/http%3A%2F%2F127.0.0.1/method/x", token=ORDERS)
    await instance.http("GET", "/v1.0/metadata", token="wrong")
    metrics = instance.parts.http._metrics
    assert metrics.access_refused.child("orders", "external_url").value == 1
    assert metrics.identity_refused.child("unknown_token").value == 1
