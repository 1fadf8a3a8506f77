"""CloudEvents as they come from a broker: read, wrapped, put together, and what apps are given of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dapr_shared.blocks.pubsub.envelope import EventError
from dapr_shared.blocks.pubsub.event import CloudEvent, read_event
from dapr_shared.contracts.pubsub import Message

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(data: bytes | dict[str, Any], content_type: str = "", *, raw: bool = False, **metadata: str) -> CloudEvent:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    given = {name.replace("__", "-"): value for name, value in metadata.items()}
    return read_event(Message("nsorders", body, content_type, given), pubsub="ps", topic="orders", raw=raw)


def test_an_event_is_passed_on_byte_for_byte() -> None:
    """What an HTTP app is sent is what the broker had: no digit and no blank is lost."""
    body = b' {"id":"1", "data": {"n": 12345678901234567890123} } '
    event = read(body, source="x")
    assert event.body is body
    assert event.id == "1"


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"text", b'{"a":', b"\xff\xfe", b"{" * 100_000])
def test_what_is_no_json_object_is_no_event(data: bytes) -> None:
    """It is refused with a message that holds nothing of it."""
    with pytest.raises(EventError, match="not a JSON object"):
        read(data)


def test_a_raw_payload_is_wrapped() -> None:
    """Any bytes become an event from Dapr, with a random id and the payload in base64."""
    event = read(b"\x00\xff", raw=True)
    body = json.loads(event.body)
    assert len(body.pop("id")) == 36
    assert body == {
        "data_base64": "AP8=",
        "datacontenttype": "application/octet-stream",
        "pubsubname": "ps",
        "source": "Dapr",
        "specversion": "1.0",
        "topic": "orders",
        "type": "com.dapr.event.sent",
    }
    assert event.payload() == b"\x00\xff"
    assert event.mapping()["data_base64"] == "AP8="


@pytest.mark.parametrize(
    ("metadata", "trace"),
    [
        ({"traceid": "a"}, {"traceid": "a"}),
        ({"traceparent": "b", "traceid": "a"}, {"traceid": "b", "traceparent": "b"}),
        ({"tracestate": ""}, {"tracestate": ""}),
    ],
)
def test_a_wrapped_payload_has_the_trace_of_its_metadata(metadata: dict[str, str], trace: dict[str, str]) -> None:
    """The broker's metadata carries the trace of a raw payload; traceparent goes before traceid."""
    body = json.loads(read(b"x", raw=True, **metadata).body)
    assert {name: value for name, value in body.items() if name.startswith("trace")} == trace


@pytest.mark.parametrize(
    "given", [{"content_type": "Application/Octet-Stream; x"}, {"content__type": "application/octet-stream"}]
)
def test_binary_mode(given: dict[str, str]) -> None:
    """Bytes with `ce_…` metadata are an event whose attributes stand there, over HTTP as structured JSON."""
    event = read(b"\x00", ce_ID="1", CE_type="t", ce_data="no", other="x", **given)
    content_type = given.get("content_type") or given["content__type"]
    assert json.loads(event.body) == {"id": "1", "type": "t", "datacontenttype": content_type, "data_base64": "AA=="}
    assert event.payload() == b"\x00"
    assert event.mapping() == {"id": "1", "type": "t", "datacontenttype": content_type, "data": b"\x00"}
    assert event.extensions() == {}


def test_the_trace_falls_back_to_the_broker_s_metadata() -> None:
    """Only where the event has none; the body stays as it came."""
    event = read({"id": "1"}, traceparent="tp", traceid="tid", tracestate="ts")
    assert (event.text("traceid"), event.traceparent, event.tracestate) == ("tp", "tp", "ts")
    assert json.loads(event.body) == {"id": "1"}
    own = read({"traceid": "a", "traceparent": "b", "tracestate": ""}, traceparent="x", traceid="x", tracestate="x")
    assert (own.text("traceid"), own.traceparent, own.tracestate) == ("a", "b", "")
    assert read({"traceid": "a"}).traceparent == "a"
    assert read({}).traceparent == ""


@pytest.mark.parametrize(
    ("expiration", "expired"),
    [
        ("2025-12-31T23:59:59Z", True),
        ("2026-01-01T01:59:59+02:00", True),
        ("2026-01-01T00:00:00Z", False),
        ("2026-01-01T00:00:01Z", False),
        ("2025-12-31", False),
        ("2025-12-31T23:59:59", False),
        ("", False),
        ("soon", False),
        (5, False),
        (None, False),
    ],
)
def test_expiry(expiration: Any, *, expired: bool) -> None:
    """An event is expired when its RFC 3339 expiration is past; anything else never expires."""
    assert read({"expiration": expiration}).expired(NOW) is expired
    assert not read({}).expired(NOW)


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ({"datacontenttype": "text/plain; charset=utf-8", "data": "hé"}, "hé".encode()),
        ({"datacontenttype": "application/xml", "data": "<a/>"}, b"<a/>"),
        ({"datacontenttype": "application/json", "data": {"n": 1}}, b'{"n": 1}'),
        ({"datacontenttype": "application/json", "data": "a"}, b'"a"'),
        ({"datacontenttype": "application/cloudevents+json", "data": {"id": 1}}, b'{"id": 1}'),
        ({"datacontenttype": "image/png", "data": "x"}, b""),
        ({"data": "x"}, b""),
        ({"datacontenttype": "image/png", "data_base64": "AP8="}, b"\x00\xff"),
        ({"datacontenttype": "text/plain", "data": "x", "data_base64": "AP8="}, b"\x00\xff"),
        ({"datacontenttype": "text/plain", "data": "x", "data_base64": None}, b"x"),
        ({"datacontenttype": "text/plain", "data": None}, b""),
        ({"datacontenttype": "application/json"}, b""),
        ({"datacontenttype": 5, "data": "x"}, b""),
    ],
)
def test_the_payload_of_a_grpc_app(event: dict[str, Any], payload: bytes) -> None:
    """Text as text, JSON as JSON, base64 as bytes; a payload of another type is empty, as in Dapr."""
    assert read(event).payload() == payload


@pytest.mark.parametrize(
    "event",
    [
        {"datacontenttype": "text/plain", "data": {"a": 1}},
        {"data_base64": "%%"},
        {"data_base64": 5},
    ],
)
def test_a_payload_that_contradicts_its_type(event: dict[str, Any]) -> None:
    """It is an error of the event, which does not stop its reading."""
    made = read(event)
    with pytest.raises(EventError):
        made.payload()


def test_extensions_are_all_that_has_no_field_of_its_own() -> None:
    """The gRPC request gets them as a struct: topic, time, trace and the app's own among them."""
    event = {"id": "1", "source": "s", "type": "t", "specversion": "1.0", "datacontenttype": "text/plain", "data": "x"}
    rest = {"topic": "orders", "time": "now", "mine": {"a": [1, None]}, "traceid": ""}
    assert read(event | rest).extensions() == rest


def test_an_attribute_that_no_float_holds() -> None:
    """The event can still be passed on; what needs the value says so."""
    event = read(b'{"id":"1","big":1e999}')
    assert event.id == "1"
    with pytest.raises(EventError):
        event.extensions()


def test_rules_see_numbers_as_doubles() -> None:
    """As in Dapr: `n + 1.5` works for a whole number, however many digits it has."""
    mapping = read(b'{"data":{"n":1,"big":12345678901234567890123,"f":0.5,"t":true},"z":null}').mapping()
    assert mapping == {"data": {"n": 1.0, "big": 12345678901234567890123.0, "f": 0.5, "t": True}, "z": None}
    assert isinstance(mapping["data"]["n"], float)
    assert mapping["data"]["t"] is True
