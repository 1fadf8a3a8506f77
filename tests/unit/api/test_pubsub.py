"""Publishing through both front doors of one instance: what the broker gets, and Dapr's answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared._proto import rpc_pb, runtime_pb
from dapr_shared.components.memory.pubsub import MemoryPubSub
from dapr_shared.contracts.component import BackendError
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.http.messages import BodyTooLargeError, Request
from tests.support.inprocess import ORDERS, STOCK, TWO_APPS, inprocess

if TYPE_CHECKING:
    from dapr_shared.contracts.pubsub import PublishRequest

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PUBSUBS = """
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: ps}
    spec:
      type: pubsub.in-memory
      version: v1
      metadata:
      - {name: protectedTopics, value: secret}
      - {name: publishingScopes, value: "stock=secret,t"}
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: scoped}
    spec:
      type: pubsub.in-memory
      version: v1
      metadata: [{name: consumerID, value: "{namespace}"}]
"""
JSON = "application/json"


@pytest.fixture
def published(monkeypatch) -> list[PublishRequest]:
    """What the broker was given; a topic `broken` fails."""
    found: list[PublishRequest] = []

    async def publish(_broker: MemoryPubSub, request: PublishRequest) -> None:
        if request.topic == "broken":
            raise BackendError("no\nway")
        found.append(request)

    monkeypatch.setattr(MemoryPubSub, "publish", publish)
    return found


@pytest.fixture
async def instance(tmp_path, published):
    async with inprocess(tmp_path, TWO_APPS + PUBSUBS) as made:
        yield made


async def post(instance: Any, target: str, body: bytes = b"1", content_type: str = JSON, **more: Any) -> Any:
    headers = [(b"content-type", content_type.encode()), (b"traceparent", PARENT.encode())]
    return await instance.http(
        more.get("method", "POST"), target, body, token=more.get("token", ORDERS), headers=headers
    )


async def test_an_event_over_http(instance, published) -> None:
    """POST and PUT publish the body as an event of the proved app, and answer 204 without a body."""
    for method in ("POST", "PUT"):
        answer = await post(instance, "/v1.0/publish/ps/t", b'{"n": 1}', method=method)
        assert (answer.status, answer.body) == (204, b"")
    first, _ = (json.loads(request.data) for request in published)
    assert (first["source"], first["data"], first["traceparent"]) == ("orders", {"n": 1}, PARENT)


async def test_a_topic_may_have_slashes_and_escapes(instance, published) -> None:
    """Everything behind the pubsub is the topic, unescaped."""
    for path in ("a/b", "a%2Fb", "a+b%20c", "a/"):
        assert (await post(instance, f"/v1.0/publish/ps/{path}")).status == 204
    assert [request.topic for request in published] == ["a/b", "a/b", "a b c", "a/"]


async def test_metadata_of_the_query(instance, published) -> None:
    """`metadata.…` parameters reach the envelope and the broker."""
    target = "/v1.0/publish/ps/t?metadata.cloudevent.type=x&metadata.key=a%20b&metadata.ttlInSeconds=5&other=1"
    assert (await post(instance, target)).status == 204
    (request,) = published
    assert request.metadata == {"cloudevent.type": "x", "key": "a b", "ttlInSeconds": "5"}
    assert json.loads(request.data)["type"] == "x"


async def test_a_raw_payload_over_http_has_no_trace(instance, published) -> None:
    """The body is the message; over gRPC the trace stands in the metadata beside it."""
    assert (await post(instance, "/v1.0/publish/ps/t?metadata.rawPayload=true", b"\xff")).status == 204
    assert (published[0].data, published[0].metadata) == (b"\xff", {"rawPayload": "true"})


async def test_a_namespaced_component_prefixes_its_topics(instance, published) -> None:
    """A component with {namespace} in its metadata keeps namespaces apart at the broker."""
    assert (await post(instance, "/v1.0/publish/scoped/t")).status == 204
    assert published[0].topic == "defaultt"


@pytest.mark.parametrize(
    ("target", "body", "content_type", "status", "code", "reason"),
    [
        ("/v1.0/publish/nope/t", b"1", JSON, 404, "ERR_PUBSUB_NOT_FOUND", "NOT_FOUND"),
        ("/v1.0/publish/memory/t", b"1", JSON, 404, "ERR_PUBSUB_NOT_FOUND", "NOT_FOUND"),
        ("/v1.0/publish/ps/", b"1", JSON, 404, "ERR_TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
        ("/v1.0/publish/ps", b"1", JSON, 404, "ERR_TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
        ("/v1.0/publish/ps/t?metadata.rawPayload=x", b"1", JSON, 400, "ERR_PUBSUB_REQUEST_METADATA",
         "METADATA_DESERIALIZATION"),
        ("/v1.0/publish/ps/secret", b"1", JSON, 403, "ERR_PUBSUB_FORBIDDEN", "FORBIDDEN"),
        ("/v1.0/publish/ps/t", b"[]", "application/cloudevents+json", 500, "ERR_PUBSUB_CLOUD_EVENTS_SER",
         "CLOUD_EVENT_CREATION"),
        ("/v1.0/publish/ps/broken", b"1", JSON, 500, "ERR_PUBSUB_PUBLISH_MESSAGE", "PUBLISH_MESSAGE"),
        ("/v1.0/publish/bulk/nope/t", b"x", JSON, 404, "ERR_PUBSUB_NOT_FOUND", "NOT_FOUND"),
        ("/v1.0/publish/bulk/ps/t?metadata.rawPayload=x", b"x", JSON, 400, "ERR_PUBSUB_REQUEST_METADATA",
         "METADATA_DESERIALIZATION"),
        ("/v1.0/publish/bulk/ps/secret", b"[]", JSON, 403, "ERR_PUBSUB_FORBIDDEN", "FORBIDDEN"),
        ("/v1.0/publish/bulk/ps/t", b"x", JSON, 400, "ERR_PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b"", JSON, 400, "ERR_PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'{"entryId":"1"}', JSON, 400, "ERR_PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'[{"entryId":1}]', JSON, 400, "ERR_PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'[{"entryId":"1","event":"\xff"}]', JSON, 400, "ERR_PUBSUB_EVENTS_SER",
         "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'[{"entryId":"1","event":' + b"[" * 50000 + b"]" * 50000 + b"}]", JSON, 400,
         "ERR_PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'[{"event":"a","contentType":"text/plain"}]', JSON, 400, "ERR_PUBSUB_EVENTS_SER",
         "MARSHAL_EVENTS"),
        ("/v1.0/publish/bulk/ps/t", b'[{"entryId":"1","event":"a"}]', JSON, 400, "ERR_PUBSUB_EVENTS_SER",
         "MARSHAL_ENVELOPE"),
        ("/v1.0/publish/bulk/ps/t", b'[{"entryId":"1","event":"a","contentType":"application/cloudevents+json"}]', JSON,
         500, "ERR_PUBSUB_CLOUD_EVENTS_SER", "CLOUD_EVENT_CREATION"),
    ],
)  # fmt: skip
async def test_http_errors(instance, published, target, body, content_type, status, code, reason) -> None:
    """Each wrong call gets the status, the code and the reason of Dapr's table."""
    answer = await post(instance, target, body, content_type)
    error = json.loads(answer.body)
    assert (answer.status, error["errorCode"]) == (status, code)
    assert error["details"][-1]["reason"] == f"DAPR_PUBSUB_{reason}"
    assert published == []


async def test_an_error_has_dapr_s_details(instance) -> None:
    """ResourceInfo, then ErrorInfo, exactly as Dapr writes them."""
    answer = await post(instance, "/v1.0/publish/ps/secret")
    text = "topic secret is not allowed for app id orders"
    assert json.loads(answer.body) == {
        "errorCode": "ERR_PUBSUB_FORBIDDEN",
        "message": text,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                "resource_type": "pubsub",
                "resource_name": "ps",
                "owner": "",
                "description": text,
            },
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "domain": "dapr.io",
                "reason": "DAPR_PUBSUB_FORBIDDEN",
                "metadata": {"topic": "secret", "error": text},
            },
        ],
    }
    assert (await post(instance, "/v1.0/publish/ps/secret", token=STOCK)).status == 204


class Unreadable:
    """A body that is larger than the limit."""

    async def read(self, limit: int) -> bytes:
        raise BodyTooLargeError("too large")


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1.0/publish/ps/t", 500, "ERR_PUBSUB_PUBLISH_MESSAGE"),
        ("/v1.0/publish/nope/t", 404, "ERR_PUBSUB_NOT_FOUND"),
        ("/v1.0/publish/ps/secret", 403, "ERR_PUBSUB_FORBIDDEN"),
        ("/v1.0/publish/bulk/ps/t", 400, "ERR_PUBSUB_EVENTS_SER"),
        ("/v1.0/publish/bulk/nope/t", 404, "ERR_PUBSUB_NOT_FOUND"),
    ],
)
async def test_a_body_that_cannot_be_read(instance, target, status, code) -> None:
    """What is wrong with the request's target is told first, as in Dapr."""
    headers = [(b"host", b"test"), (b"dapr-api-token", ORDERS.encode())]
    answer = await instance.parts.http(Request("POST", target.encode(), headers, Unreadable()))
    assert (answer.status, json.loads(answer.body)["errorCode"]) == (status, code)


# Bulk over HTTP ------------------------------------------------------------------------------------------------------
BULK = [
    {"entryId": "1", "event": "hi", "contentType": "text/plain"},
    {"entryId": "2", "event": {"n": 1}, "contentType": JSON, "metadata": {"cloudevent.source": "s"}},
    {"entryId": "3", "event": "AP8=", "contentType": "application/octet-stream"},
    {"entryId": "4", "event": {"id": "own"}, "contentType": "application/cloudevents+json"},
]


@pytest.mark.parametrize("version", ["v1.0", "v1.0-alpha1"])
async def test_bulk_over_http(instance, published, version) -> None:
    """Under both versions, each entry by its own content type."""
    answer = await post(instance, f"/{version}/publish/bulk/ps/a/b", json.dumps(BULK).encode())
    assert (answer.status, answer.body) == (204, b"")
    events = [json.loads(request.data) for request in published]
    assert [request.topic for request in published] == ["a/b"] * 4
    assert [event.get("data", event.get("data_base64")) for event in events] == ["hi", {"n": 1}, "AP8=", None]
    assert [event["source"] for event in events] == ["orders", "s", "orders", "Dapr"]
    assert events[3]["id"] == "own"


async def test_names_of_an_entry_are_taken_as_go_takes_them(instance, published) -> None:
    """The JavaScript SDK writes entryID: names count in any case."""
    body = b'[{"entryID":"1","Event":{"n": 10000000000000000000001},"CONTENTTYPE":"application/json","x":1}]'
    assert (await post(instance, "/v1.0/publish/bulk/ps/t", body)).status == 204
    assert b'"data":{"n": 10000000000000000000001}' in published[0].data


@pytest.mark.parametrize("body", [b"[]", b"null"])
async def test_an_empty_bulk(instance, published, body) -> None:
    """Nothing to publish is published."""
    assert (await post(instance, "/v1.0/publish/bulk/ps/t", body)).status == 204
    assert published == []


async def test_entries_that_failed_are_listed(instance) -> None:
    """500 with the failed entries in body and header; no line end of an error gets into a header."""
    answer = await post(instance, "/v1.0/publish/bulk/ps/broken", json.dumps(BULK[:1]).encode())
    assert answer.status == 500
    expected = {
        "failedEntries": [{"entryId": "1", "error": "no\nway"}],
        "errorCode": "ERR_PUBSUB_PUBLISH_MESSAGE",
    }
    assert json.loads(answer.body) == expected
    headers = dict(answer.headers)
    assert json.loads(headers[b"metadata.responsedata"]) == expected
    message = b"api error: code = Internal desc = error when publishing to topic broken in pubsub ps: no way"
    assert headers[b"metadata.error"] == message


async def test_a_long_list_of_failures_stands_in_the_body_only(instance) -> None:
    """Clients bound the headers that they read."""
    entries = [{"entryId": str(number), "event": 1, "contentType": JSON} for number in range(200)]
    answer = await post(instance, "/v1.0/publish/bulk/ps/broken", json.dumps(entries).encode())
    assert len(json.loads(answer.body)["failedEntries"]) == 200
    assert b"metadata.responsedata" not in dict(answer.headers)


async def test_a_pubsub_named_bulk(instance) -> None:
    """With one segment behind it, `bulk` is a pubsub's name."""
    error = json.loads((await post(instance, "/v1.0/publish/bulk/t")).body)
    assert error["message"] == "pubsub bulk is not found"


# gRPC ----------------------------------------------------------------------------------------------------------------
async def test_an_event_over_grpc(instance, published) -> None:
    """The same envelope as over HTTP; a raw payload has the trace in its metadata."""
    made = runtime_pb.PublishEventRequest(pubsub_name="ps", topic="t", data=b"[1]", data_content_type=JSON)
    assert await instance.grpc("PublishEvent", made.SerializeToString(), token=ORDERS) == b""
    made.metadata["rawPayload"] = "true"
    await instance.grpc("PublishEvent", made.SerializeToString(), token=ORDERS)
    event = json.loads(published[0].data)
    assert (event["source"], event["data"]) == ("orders", [1])
    assert published[1].data == b"[1]"
    assert published[1].metadata.keys() == {"rawPayload", "traceid", "tracestate"}
    assert len(published[1].metadata["traceid"]) == 55


@pytest.mark.parametrize("name", ["BulkPublishEvent", "BulkPublishEventAlpha1"])
async def test_bulk_over_grpc(instance, published, name) -> None:
    """Both methods publish all entries and answer an empty message."""
    entry = runtime_pb.BulkPublishRequestEntry
    entries = [
        entry(entry_id="1", event=b"hi"),
        entry(
            entry_id="2", event=b"\xff", content_type="application/octet-stream", metadata={"cloudevent.source": "s"}
        ),
    ]
    made = runtime_pb.BulkPublishRequest(pubsub_name="ps", topic="t", entries=entries)
    assert await instance.grpc(name, made.SerializeToString(), token=ORDERS) == b""
    events = [json.loads(request.data) for request in published]
    assert [(e["source"], e["datacontenttype"]) for e in events] == [
        ("orders", "text/plain"),
        ("s", "application/octet-stream"),
    ]


def event_request(**fields: Any) -> tuple[str, Any]:
    given = {"pubsub_name": "ps", "topic": "t", "data": b"1", **fields}
    return "PublishEvent", runtime_pb.PublishEventRequest(**given)


def bulk_request(*ids: str, **fields: Any) -> tuple[str, Any]:
    entries = [runtime_pb.BulkPublishRequestEntry(entry_id=one, event=b"1") for one in ids]
    return "BulkPublishEvent", runtime_pb.BulkPublishRequest(
        **{"pubsub_name": "ps", "topic": "t", "entries": entries, **fields}
    )


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (event_request(pubsub_name=""), GrpcCode.INVALID_ARGUMENT, "NAME_EMPTY"),
        (event_request(pubsub_name="nope"), GrpcCode.INVALID_ARGUMENT, "NOT_FOUND"),
        (event_request(topic=""), GrpcCode.INVALID_ARGUMENT, "TOPIC_NAME_EMPTY"),
        (event_request(metadata={"rawPayload": "x"}), GrpcCode.INVALID_ARGUMENT, "METADATA_DESERIALIZATION"),
        (event_request(topic="secret"), GrpcCode.PERMISSION_DENIED, "FORBIDDEN"),
        (event_request(data_content_type="application/cloudevents+json"), GrpcCode.INVALID_ARGUMENT,
         "CLOUD_EVENT_CREATION"),
        (event_request(topic="broken"), GrpcCode.INTERNAL, "PUBLISH_MESSAGE"),
        (bulk_request("1", pubsub_name="nope"), GrpcCode.INVALID_ARGUMENT, "NOT_FOUND"),
        (bulk_request("1", "1"), GrpcCode.INVALID_ARGUMENT, "MARSHAL_EVENTS"),
        (bulk_request("1", ""), GrpcCode.INVALID_ARGUMENT, "MARSHAL_EVENTS"),
        (bulk_request("1", topic="secret"), GrpcCode.PERMISSION_DENIED, "FORBIDDEN"),
        (bulk_request("1", topic="broken"), GrpcCode.INTERNAL, "PUBLISH_MESSAGE"),
    ],
)  # fmt: skip
async def test_grpc_errors(instance, published, request_, code, reason) -> None:
    """The same errors over gRPC, with Dapr's codes and reasons; one entry that failed fails a bulk publish."""
    name, message = request_
    with pytest.raises(GrpcError) as error:
        await instance.grpc(name, message.SerializeToString(), token=ORDERS)
    assert error.value.code is code
    status = rpc_pb.Status.FromString(dict(error.value.trailers)["grpc-status-details-bin"])
    info = rpc_pb.ErrorInfo.FromString(status.details[-1].value)
    assert (info.reason, info.domain) == (f"DAPR_PUBSUB_{reason}", "dapr.io")
    assert published == []


async def test_nobody_publishes_without_proof(instance, published) -> None:
    """Over either door, an app that is not proved is refused before anything is looked at."""
    assert (await post(instance, "/v1.0/publish/ps/t", token=None)).status == 401
    name, message = event_request()
    with pytest.raises(GrpcError) as error:
        await instance.grpc(name, message.SerializeToString())
    assert error.value.code is GrpcCode.UNAUTHENTICATED
    assert published == []
