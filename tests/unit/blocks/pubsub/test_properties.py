"""What is published can always be delivered: any bytes, of any content type, with any metadata."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.blocks.pubsub.envelope import EventDraft, EventError, make_event
from dapr_shared.blocks.pubsub.event import read_event
from dapr_shared.contracts.pubsub import Message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
CONTENT_TYPES = st.sampled_from(
    [
        "",
        "application/json",
        "application/cloudevents+json",
        "application/octet-stream",
        "application/x-protobuf",
        "text/plain; charset=utf-8",
        "image/png",
    ]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(["cloudevent.id", "cloudevent.Type", "cloudevent.traceparent", "cloudevent.subject"]) | TEXTS
BODIES = st.binary(max_size=100) | JSON_VALUES.map(lambda value: json.dumps(value).encode())


def publish(data: bytes, content_type: str, metadata: dict[str, str]) -> bytes:
    return make_event(EventDraft("shop", "ps", "t", data, content_type, metadata), NOW, lifetime=60)


def read(body: bytes):
    return read_event(Message("t", body), pubsub="ps", topic="t", raw=False)


@given(data=BODIES, content_type=CONTENT_TYPES, metadata=st.dictionaries(KEYS, TEXTS, max_size=4))
def test_every_event_that_is_made_can_be_read(data: bytes, content_type: str, metadata: dict[str, str]) -> None:
    """It is a JSON object with topic and pubsub, by our reader and by any other; or the publish was refused."""
    try:
        body = publish(data, content_type, metadata)
    except EventError:
        assert content_type == "application/cloudevents+json"
        return
    event = json.loads(body)
    assert (event["topic"], event["pubsubname"], event["expiration"]) == ("t", "ps", "2026-01-01T00:01:00Z")
    made = read(body)
    assert not made.expired(NOW)
    assert made.mapping().keys() == event.keys()
    assert made.extensions().keys() <= event.keys()


@given(data=st.binary(max_size=100))
def test_bytes_arrive_as_they_were(data: bytes) -> None:
    """An octet-stream payload and a raw one are the same bytes at the other end."""
    assert read(publish(data, "application/octet-stream", {})).payload() == data
    assert read_event(Message("t", data), pubsub="ps", topic="t", raw=True).payload() == data


@given(text=TEXTS)
def test_texts_arrive_as_they_were(text: str) -> None:
    """So is a text."""
    assert read(publish(text.encode(), "text/plain", {})).payload().decode() == text


@given(value=JSON_VALUES, indent=st.sampled_from([None, 2]))
def test_json_arrives_as_it_was(value: object, indent: int | None) -> None:
    """JSON keeps its very bytes; null is no payload, as in Dapr."""
    data = json.dumps(value, indent=indent).encode()
    assert read(publish(data, "application/json", {})).payload() == (b"" if value is None else data)


ATTRIBUTES = st.sampled_from(["traceparent", "traceid", "tracestate", "expiration", "trace\\u0069d", "data"])
MEMBERS = st.lists(
    st.tuples(ATTRIBUTES, JSON_VALUES.map(json.dumps) | st.sampled_from(['"00-a-b-01"', r'"\ud800"', "", "[[]"])),
    max_size=5,
)


def meaning(body: bytes, metadata: dict[str, str]) -> object:
    message = Message("t", body, "application/cloudevents+json", metadata)
    try:
        event = read_event(message, pubsub="ps", topic="t", raw=False)
        return event.traceparent, event.tracestate, event.expires, event.expired(NOW), event.id, event.mapping()
    except EventError as error:
        return str(error)


OBJECTS = MEMBERS.map(lambda members: "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}")


@given(body=OBJECTS | TEXTS)
def test_a_glance_sees_what_reading_sees(body: str) -> None:
    """An event without metadata, which is glanced at, means what it means when all its attributes are read."""
    assert meaning(body.encode(), {}) == meaning(body.encode(), {"other": "metadata"})
