"""The publishing side of the block: who may publish what, what the broker gets, and what comes back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from dapr_shared.blocks.pubsub import publish as publishing
from dapr_shared.blocks.pubsub.publish import PublishEntry, Trace, publish_failed
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.pubsub import BrokerFullError
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = Trace(PARENT, "a=b")
JSON = "application/json"


async def test_a_message_is_published_as_an_event_of_the_caller(block, broker, caller) -> None:
    """The broker gets the topic, the envelope and the publisher's metadata."""
    await block.publish(caller, "ps", "t", b"[1]", JSON, {"k": "v"}, TRACE)
    (request,) = broker.published
    event = json.loads(request.data)
    assert (request.topic, request.metadata) == ("t", {"k": "v"})
    assert request.content_type == "application/cloudevents+json"
    assert (event["source"], event["topic"], event["pubsubname"], event["data"]) == ("orders", "t", "ps", [1])
    assert (event["traceid"], event["tracestate"]) == (PARENT, "a=b")


async def test_a_raw_payload_goes_untouched(block, broker, caller) -> None:
    """No envelope; the trace goes into the metadata only where the front door says so."""
    metadata = {"rawPayload": "true"}
    await block.publish(caller, "ps", "t", b"\xff", JSON, metadata, TRACE)
    await block.publish(caller, "ps", "t", b"\xff", JSON, metadata, TRACE, trace_raw=True)
    assert [(request.data, request.content_type) for request in broker.published] == [(b"\xff", "")] * 2
    assert broker.published[0].metadata == {"rawPayload": "true"}
    assert broker.published[1].metadata == {"rawPayload": "true", "traceid": PARENT, "tracestate": "a=b"}
    assert metadata == {"rawPayload": "true"}


@pytest.mark.parametrize(
    ("pubsub", "topic", "metadata", "row", "info"),
    [
        ("", "t", {"k": "v"}, errors.PUBSUB_NAME_EMPTY, {"k": "v"}),
        ("nope", "t", {"k": "v"}, errors.PUBSUB_NOT_FOUND, {"k": "v"}),
        ("nope", "", {"rawPayload": "x"}, errors.PUBSUB_NOT_FOUND, {"rawPayload": "x"}),
        ("ps", "", {"rawPayload": "x"}, errors.PUBSUB_TOPIC_EMPTY, {"rawPayload": "x"}),
        ("ps", "t", {"rawPayload": "x"}, errors.PUBSUB_METADATA, {"rawPayload": "x"}),
    ],
)
async def test_refusals(block, broker, caller, pubsub, topic, metadata, row, info) -> None:
    """The checks come in Dapr's order, for one message and for many, and the broker is not asked."""
    calls = (
        lambda: block.publish(caller, pubsub, topic, b"1", JSON, metadata),
        lambda: block.bulk_publish(caller, pubsub, topic, [PublishEntry("", b"")], metadata),
    )
    for call in calls:
        with pytest.raises(DaprError) as refused:
            await call()
        assert refused.value.row is row
        assert refused.value.info == info
    with pytest.raises(DaprError) as refused:
        block.check(caller, pubsub, topic, metadata)
    assert refused.value.row is row
    assert broker.published == []


async def test_an_app_that_does_not_see_the_component(block, caller_of) -> None:
    """It is not found, whatever other apps see."""
    with pytest.raises(DaprError) as refused:
        await block.publish(caller_of("blind"), "ps", "t", b"")
    assert refused.value.row is errors.PUBSUB_NOT_FOUND


async def test_topic_scopes_hold_for_each_caller(block, broker, components, caller_of) -> None:
    """One component, many apps: each may publish to its own topics only, one by one and in bulk."""
    metadata = {"publishingscopes": "orders=t", "protectedtopics": "secret"}
    components.add(broker, "ps", metadata=metadata)
    await block.publish(caller_of("orders"), "ps", "t", b"")
    await block.publish(caller_of("stock"), "ps", "u", b"")
    for app, topic in (("orders", "u"), ("stock", "secret")):
        with pytest.raises(DaprError) as refused:
            await block.publish(caller_of(app), "ps", topic, b"")
        assert refused.value.row is errors.PUBSUB_FORBIDDEN
        text = f"topic {topic} is not allowed for app id {app}"
        assert refused.value.message == text
        assert refused.value.info == {"topic": topic, "error": text}
        assert refused.value.resource == errors.Resource("pubsub", "ps", description=text)
        with pytest.raises(DaprError):
            await block.bulk_publish(caller_of(app), "ps", topic, [PublishEntry("1", b"")])
    assert [request.topic for request in broker.published] == ["t", "u"]


async def test_topics_of_a_namespaced_component(block, broker, components, caller_of) -> None:
    """The broker gets the prefix, the event does not, and scopes are checked without it."""
    components.add(broker, "ps", metadata={"allowedtopics": "t"})
    components.opened["ps"] = replace(components.opened["ps"], namespace_scoped=True)
    prod = caller_of("orders", "prod")
    await block.publish(prod, "ps", "t", b"")
    await block.bulk_publish(prod, "ps", "t", [PublishEntry("1", b"")])
    assert [request.topic for request in broker.published] == ["prodt", "prodt"]
    assert [json.loads(request.data)["topic"] for request in broker.published] == ["t", "t"]


async def test_an_expiration_is_written_where_the_broker_does_not_expire(
    block, broker, expiring_broker, caller
) -> None:
    """A broker with MESSAGE_TTL gets the metadata alone."""
    for name in ("ps", "expiring"):
        await block.publish(caller, name, "t", b"", metadata={"ttlInSeconds": "60"})
    assert json.loads(broker.published[0].data)["expiration"] == "2026-01-01T00:01:00Z"
    assert "expiration" not in json.loads(expiring_broker.published[0].data)
    assert expiring_broker.published[0].metadata == {"ttlInSeconds": "60"}


@pytest.mark.parametrize("text", ["", "x", "-5", "1.5"])
async def test_a_wrong_time_to_live_is_ignored(block, broker, caller, text) -> None:
    """As in Dapr, it does not fail the publish."""
    await block.publish(caller, "ps", "t", b"", metadata={"ttlInSeconds": text})
    assert "expiration" not in json.loads(broker.published[0].data)


@pytest.mark.parametrize("error", [BackendError("no"), BackendUnavailableError("no"), BrokerFullError("no")])
async def test_a_failure_of_the_broker(block, broker, caller, error) -> None:
    """It is answered with what the broker said, and only after it said so."""
    broker.errors["t"] = error
    with pytest.raises(DaprError) as failed:
        await block.publish(caller, "ps", "t", b"")
    made = failed.value
    assert (made.row.code, made.row.http, made.row.grpc) == ("ERR_PUBSUB_PUBLISH_MESSAGE", 500, GrpcCode.INTERNAL)
    assert made.message == "error when publishing to topic t in pubsub ps: no"
    assert made.info == {"topic": "t", "error": "no"}
    assert made.__cause__ is error


async def test_nothing_is_answered_before_the_broker_has_it(block, broker, caller) -> None:
    """The call is as long as the broker's."""
    gate = asyncio.Event()
    real = broker.publish

    async def slow(request):
        await gate.wait()
        await real(request)

    broker.publish = slow
    call = asyncio.create_task(block.publish(caller, "ps", "t", b""))
    await asyncio.sleep(0)
    assert not call.done()
    gate.set()
    await call
    assert len(broker.published) == 1


async def test_what_is_no_event_is_refused_before_the_broker(block, broker, caller) -> None:
    """The details say what is wrong; nothing is published."""
    with pytest.raises(DaprError) as refused:
        await block.publish(caller, "ps", "t", b"[]", "application/cloudevents+json")
    assert refused.value.row is errors.PUBSUB_CLOUD_EVENT
    assert refused.value.info["appID"] == "orders"
    assert "not a JSON object" in refused.value.info["error"]
    assert broker.published == []


# Bulk ----------------------------------------------------------------------------------------------------------------
def events_of(broker: Any) -> dict[str, dict[str, Any]]:
    events = [json.loads(request.data) for request in broker.published]
    return {event["id"]: event for event in events}


async def test_each_entry_is_an_event_of_its_own(block, broker, caller) -> None:
    """Content types and trace spans are per entry; an entry with metadata has the request's below its own."""
    entries = [
        PublishEntry("1", b"hi", "text/plain"),
        PublishEntry("2", b"[1]", JSON, {"cloudevent.type": "own"}),
        PublishEntry("3", b"\xff", "application/octet-stream", {}),
    ]
    metadata = {"cloudevent.type": "request", "cloudevent.source": "s"}
    assert await block.bulk_publish(caller, "ps", "t", entries, metadata, TRACE.child) == []
    events = {event["datacontenttype"]: event for event in events_of(broker).values()}
    assert {name: (e["type"], e["source"]) for name, e in events.items()} == {
        "text/plain": ("com.dapr.event.sent", "orders"),
        JSON: ("own", "s"),
        "application/octet-stream": ("request", "s"),
    }
    assert events["application/octet-stream"]["data_base64"] == "/w=="
    parents = {event["traceparent"] for event in events.values()}
    assert len(parents) == 3
    assert all(parent[:36] == PARENT[:36] and parent[52:] == "-01" and len(parent) == 55 for parent in parents)
    assert {event["tracestate"] for event in events.values()} == {"a=b"}


async def test_a_time_to_live_of_the_request_holds_for_every_entry(block, broker, caller) -> None:
    """Also for entries without metadata, where Dapr drops it; an entry's own goes before it."""
    entries = [PublishEntry("1", b""), PublishEntry("2", b"", "", {"ttlInSeconds": "5"})]
    await block.bulk_publish(caller, "ps", "t", entries, {"ttlInSeconds": "60"})
    expirations = sorted(event["expiration"] for event in events_of(broker).values())
    assert expirations == ["2026-01-01T00:00:05Z", "2026-01-01T00:01:00Z"]


async def test_raw_entries(block, broker, caller) -> None:
    """They keep their bytes and content type."""
    entries = [
        PublishEntry("1", b"\xff", "image/png"),
        PublishEntry("2", b'"AP8="', "application/octet-stream", is_json=True),
    ]
    assert await block.bulk_publish(caller, "ps", "t", entries, {"rawPayload": "true"}, TRACE) == []
    assert {(request.data, request.content_type) for request in broker.published} == {
        (b"\xff", "image/png"),
        (b"\x00\xff", "application/octet-stream"),
    }


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        (PublishEntry("", b""), errors.PUBSUB_ENTRIES),
        (PublishEntry("1", b""), errors.PUBSUB_ENTRIES),
        (PublishEntry("2", b"[]", "application/cloudevents+json"), errors.PUBSUB_CLOUD_EVENT),
        (PublishEntry("2", b"1", "text/plain", is_json=True), errors.PUBSUB_EVENT_TYPE),
        (PublishEntry("2", b"1", "", is_json=True), errors.PUBSUB_EVENT_TYPE),
    ],
)
async def test_one_wrong_entry_refuses_all(block, broker, caller, entry, row) -> None:
    """Everything is checked before the first message is published."""
    with pytest.raises(DaprError) as refused:
        await block.bulk_publish(caller, "ps", "t", [PublishEntry("1", b""), entry])
    assert refused.value.row is row
    assert refused.value.info["appID"] == "orders"
    assert broker.published == []


async def test_the_entries_that_failed_come_back(block, broker, caller, count) -> None:
    """The others are published; what to answer is the front door's business."""
    broker.errors = {b"b": BackendError("no"), b"c": BrokerFullError("full")}
    entries = [PublishEntry(text, text.encode(), "text/plain") for text in "abc"]
    failures = await block.bulk_publish(caller, "ps", "t", entries, {"rawPayload": "1"})
    assert {failure.entry_id: str(failure.error) for failure in failures} == {"b": "no", "c": "full"}
    assert [request.data for request in broker.published] == [b"a"]
    assert publish_failed("ps", "t", failures[0].error).message == "error when publishing to topic t in pubsub ps: no"
    name = "dapr_component_pubsub_egress_bulk_"
    labels = {"app_id": "orders", "component": "ps", "namespace": "default", "topic": "t", "success": "false"}
    assert count(name + "count", **labels) == 1
    assert count(name + "event_count", **labels) == 1
    assert count(name + "latencies_count", **labels) == 1


async def test_a_broker_that_fails_as_a_whole_fails_every_entry(block, broker, caller) -> None:
    """Its error stands at each of them."""

    async def fail(topic, entries, metadata):
        raise BackendError("gone")

    broker.bulk_publish = fail
    failures = await block.bulk_publish(caller, "ps", "t", [PublishEntry("1", b""), PublishEntry("2", b"")])
    assert [(failure.entry_id, str(failure.error)) for failure in failures] == [("1", "gone"), ("2", "gone")]


async def test_a_large_bulk_comes_in_parts(block, broker, caller, monkeypatch) -> None:
    """The broker is never given more than the bound at a time, in order, and nothing is left out."""
    monkeypatch.setattr(publishing, "PUBLISHED_AT_ONCE", 10)
    sizes: list[int] = []
    real = broker.bulk_publish

    async def measured(topic, entries, metadata):
        sizes.append(len(entries))
        return await real(topic, entries, metadata)

    broker.bulk_publish = measured
    assert await block.bulk_publish(caller, "ps", "t", [PublishEntry(str(n), b"") for n in range(25)]) == []
    assert sizes == [10, 10, 5]
    assert len(broker.published) == 25


async def test_other_requests_have_a_turn_while_a_large_bulk_is_made(block, broker, caller, monkeypatch) -> None:
    """The loop is not held for the whole request."""
    monkeypatch.setattr(publishing, "MADE_AT_ONCE", 5)
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    async def bulk() -> None:
        await block.bulk_publish(caller, "ps", "t", [PublishEntry(str(n), b"") for n in range(20)])
        order.append("bulk")

    await asyncio.gather(bulk(), other())
    assert order == ["other", "bulk"]


async def test_no_entries_are_no_work(block, broker, caller) -> None:
    """An empty bulk publish succeeds."""
    assert await block.bulk_publish(caller, "ps", "t", []) == []
    assert broker.published == []


async def test_publishes_are_counted(block, broker, caller, count) -> None:
    """Each under app, component, namespace, topic and success; what was refused did not reach a broker."""
    await block.publish(caller, "ps", "t", b"")
    broker.errors["u"] = BackendError("no")
    with pytest.raises(DaprError):
        await block.publish(caller, "ps", "u", b"")
    with pytest.raises(DaprError):
        await block.publish(caller, "nope", "t", b"")
    name = "dapr_component_pubsub_egress_count"
    labels = {"app_id": "orders", "component": "ps", "namespace": "default"}
    assert count(name, topic="t", success="true", **labels) == 1
    assert count(name, topic="u", success="false", **labels) == 1
    assert count(name) == 2


def test_a_trace_from_headers() -> None:
    """What carries the trace on is read as texts; without it there is none."""
    headers = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=b"), (b"other", b"x")]
    assert Trace.carried(headers) == TRACE
    assert Trace.carried([]) == Trace("", "")
    assert Trace("odd").child() == Trace("odd")
