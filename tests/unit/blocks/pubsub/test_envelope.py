"""CloudEvents as they are published: exactly Dapr's envelope, with the payload as it came."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from dapr_shared.blocks.pubsub import envelope
from dapr_shared.blocks.pubsub.envelope import (
    EventDraft,
    EventError,
    is_raw_payload,
    json_text,
    make_event,
    payload_of_json,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JSON = "application/json"
EVENT = "application/cloudevents+json"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def draft(data: bytes = b"1", content_type: str = JSON, **fields: Any) -> EventDraft:
    return EventDraft("shop", "ps", "orders", data, content_type, **fields)


def made(*args: Any, lifetime: float | None = None, **fields: Any) -> dict[str, Any]:
    return json.loads(make_event(draft(*args, **fields), NOW, lifetime=lifetime))


def test_a_new_envelope_has_dapr_s_attributes_and_no_others() -> None:
    """Around a JSON payload: id, source, type and the rest as Dapr writes them."""
    event = made(b'{"n": 1}', traceparent=PARENT, tracestate="a=b")
    assert UUID.fullmatch(event.pop("id"))
    moment = datetime.fromisoformat(event.pop("time"))
    assert moment == NOW.replace(microsecond=0)
    assert moment.tzinfo is not None
    assert event == {
        "data": {"n": 1},
        "datacontenttype": "application/json",
        "pubsubname": "ps",
        "source": "shop",
        "specversion": "1.0",
        "topic": "orders",
        "traceid": PARENT,
        "traceparent": PARENT,
        "tracestate": "a=b",
        "type": "com.dapr.event.sent",
    }


def test_without_a_trace_the_attributes_are_empty() -> None:
    """The trace attributes are there in any case: empty texts while tracing is off."""
    event = made()
    assert (event["traceid"], event["traceparent"], event["tracestate"]) == ("", "", "")


@pytest.mark.parametrize(
    ("data", "content_type", "attribute", "value"),
    [
        (b"[1, 2]", "Application/JSON; charset=utf-8", "data", [1, 2]),
        (b"null", JSON, "data", None),
        (b'{"a":1}', "application/vnd.x+json", "data", '{"a":1}'),
        (b'{"n":', JSON, "data", '{"n":'),
        (b"", JSON, "data", ""),
        (b'{"a":1} {"b":2}', JSON, "data", '{"a":1} {"b":2}'),
        (b"NaN", JSON, "data", "NaN"),
        (b'{"a":"\\ud800x"}', JSON, "data", {"a": "\ufffdx"}),
        (b'{"a":"\\ud83d\\ude00 \\\\ud800"}', JSON, "data", {"a": "😀 \\ud800"}),
        (b'{"a":"\xff"}', JSON, "data", {"a": "\ufffd"}),
        (b"hi", "", "data", "hi"),
        ("é".encode(), "text/plain; charset=utf-8", "data", "é"),
        (b"hi \xff", "text/plain", "data", "hi \ufffd"),
        (b"<a/>", "application/xml", "data", "<a/>"),
        (b"\x00\xff", "application/octet-stream", "data_base64", "AP8="),
        (b"", "application/octet-stream", "data_base64", ""),
        (b"\x00\xff", "application/cloudevents+protobuf", "data_base64", "AP8="),
        (b"\x0a\x01a\x12\x01b\x1a\x031.0\x22\x01t", "application/x-protobuf", "data_base64", "CgFhEgFiGgMxLjAiAXQ="),
        (b"\x08\x05", "application/x-protobuf", "data_base64", "CAU="),
        (b"\xff\xff\xff", "application/x-protobuf", "data", "\ufffd\ufffd\ufffd"),
    ],
)
def test_the_payload_stands_by_its_content_type(data: bytes, content_type: str, attribute: str, value: Any) -> None:
    """JSON as JSON, bytes as base64, all else as text; what is not the JSON it claims to be is text too."""
    event = made(data, content_type)
    assert event[attribute] == value
    assert ({"data", "data_base64"} - {attribute}).isdisjoint(event)
    assert event["datacontenttype"] == (content_type or "text/plain")


@pytest.mark.parametrize("number", ["12345678901234567890123", "0.10000000000000000000001", "1e999", "-0.0", "1E+2"])
@pytest.mark.parametrize("content_type", [JSON, EVENT])
def test_numbers_keep_all_their_digits(number: str, content_type: str) -> None:
    """A number that no float holds leaves as it came, in a payload and in an event of the app."""
    data = f'{{"data": {{"n": {number}}}}}'.encode()
    assert f'"n": {number}}}'.encode() in make_event(draft(data, content_type), NOW)


OVERRIDDEN = {
    "cloudevent.ID": "i",
    "CloudEvent.source": "s",
    "cloudevent.type": "t",
    "cloudevent.subject": "u",
    "cloudevent.traceid": "tid",
    "cloudevent.tracestate": "ts",
    "cloudevent.data": "no",
    "cloudevent.topic": "no",
    "cloudevent.pubsubname": "no",
    "cloudevent.datacontenttype": "no",
    "cloudevent.specversion": "no",
    "cloudevent.extra": "no",
    "key": "value",
}


def test_metadata_overrides_what_it_may() -> None:
    """`cloudevent.…` in any case sets seven attributes; payload, topic and content type stay, others are not added."""
    event = made(metadata=OVERRIDDEN, traceparent=PARENT, tracestate="a=b")
    del event["time"]
    assert event == {
        "data": 1,
        "datacontenttype": "application/json",
        "id": "i",
        "pubsubname": "ps",
        "source": "s",
        "specversion": "1.0",
        "subject": "u",
        "topic": "orders",
        "traceid": "tid",
        "traceparent": "tid",
        "tracestate": "ts",
        "type": "t",
    }


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"cloudevent.traceparent": "tp", "cloudevent.traceid": "tid"}, {"traceid": "tp", "traceparent": "tp"}),
        ({"cloudevent.traceparent": ""}, {"traceid": PARENT, "traceparent": PARENT}),
        ({"cloudevent.traceid": ""}, {"traceid": "", "traceparent": ""}),
        ({"cloudevent.source": "", "cloudevent.type": ""}, {"source": "Dapr", "type": "com.dapr.event.sent"}),
        ({"CLOUDEVENT.TYPE": "other", "cloudevent.type": "exact"}, {"type": "exact"}),
    ],
)
def test_odd_overrides(metadata: dict[str, str], expected: dict[str, str]) -> None:
    """A traceparent goes before traceid; an empty text means the default; the exact key goes before another case."""
    event = made(metadata=metadata, traceparent=PARENT)
    assert event.items() >= expected.items()


def test_an_empty_id_or_subject_is_none() -> None:
    """Then the id is a random one, and there is no subject."""
    event = made(metadata={"cloudevent.id": "", "cloudevent.subject": ""})
    assert UUID.fullmatch(event["id"])
    assert "subject" not in event


def test_a_lifetime_becomes_an_expiration_in_utc() -> None:
    """Whole seconds, RFC 3339, in UTC; an event of the app gets one too, over its own."""
    assert made(lifetime=90)["expiration"] == "2026-01-02T03:05:35Z"
    assert "expiration" not in made()
    assert made(b'{"expiration":"x"}', EVENT, lifetime=1)["expiration"] == "2026-01-02T03:04:06Z"


def test_the_time_is_local() -> None:
    """The time of the event is the machine's, with its offset; UTC is written Z, as in Go."""
    assert envelope._rfc3339(NOW) == "2026-01-02T03:04:05Z"
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert envelope._rfc3339(there) == "2026-01-02T08:34:05+05:30"


def test_an_event_of_the_app_is_completed() -> None:
    """Topic and pubsub are set, the trace where none is, the defaults where nothing or null is; the id is not made."""
    event = made(
        b'{"source":null,"x":[1],"topic":"other","pubsubname":3}', EVENT + "; charset=utf-8", traceparent=PARENT
    )
    assert event.pop("time")
    assert event == {
        "source": "Dapr",
        "x": [1],
        "topic": "orders",
        "pubsubname": "ps",
        "traceid": PARENT,
        "traceparent": PARENT,
        "tracestate": "",
        "type": "com.dapr.event.sent",
        "specversion": "1.0",
    }


def test_an_event_of_the_app_keeps_what_it_has() -> None:
    """Its own attributes win over defaults, trace and overrides; even a time of null stays."""
    given = {"id": 7, "source": "s", "type": "t", "specversion": "0.3", "time": None, "traceid": "q", "tracestate": "z"}
    event = made(json.dumps(given).encode(), EVENT, traceparent=PARENT, metadata=OVERRIDDEN)
    assert event == {**given, "topic": "orders", "pubsubname": "ps"}


@pytest.mark.parametrize("data", [b"[]", b"null", b"", b"{", b'{"a":1}x', b'"a"', b"\xff", b"[" * 100_000])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    """A body that calls itself a CloudEvent is one JSON object."""
    with pytest.raises(EventError, match="not a JSON object"):
        make_event(draft(data, EVENT), NOW)


def test_characters_that_are_none_are_replaced_in_an_event() -> None:
    """Bytes that are not UTF-8 and surrogates alone become U+FFFD, as in Go."""
    assert made(b'{"a":"\xff"}', EVENT)["a"] == "\ufffd"
    assert made(b'{"a":"\\udfff"}', EVENT)["a"] == "\ufffd"


def test_json_nested_too_deep_is_text() -> None:
    """What this process could not read again is not called JSON, and costs no crash."""
    assert json_text(b"[" * 100_000 + b"]" * 100_000) is None
    assert json_text(b"[" * 400 + b"]" * 400) is not None
    wide = b"[" + b",".join([b"[]"] * 1000) + b"]"
    assert json_text(wide) is wide


@pytest.mark.parametrize("depth", range(100, 2000, 60))
def test_what_is_accepted_can_be_read_with_less_of_the_stack(depth: int) -> None:
    """A payload that was taken for JSON is still readable where calls are nested deeper than at its publishing."""
    events = [make_event(draft(b"[" * depth + b"]" * depth), NOW)]
    with contextlib.suppress(EventError):
        events.append(make_event(draft(b'{"a":' + b"[" * depth + b"]" * depth + b"}", EVENT), NOW))

    def read(levels: int) -> None:
        if levels:
            read(levels - 1)
        for event in events if not levels else ():
            assert envelope.read_object(event)["topic"]

    read(100)


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("1", "t", "T", "true", "TRUE", "True")]
    + [(text, False) for text in ("0", "f", "F", "false", "FALSE", "False", "")],
)
def test_raw_payload_is_read_as_go_does(text: str, *, value: bool) -> None:
    """Go's twelve words for a boolean, and nothing for false."""
    assert is_raw_payload({"rawPayload": text}) is value


@pytest.mark.parametrize("text", ["yes", "tRUE", "2", " true"])
def test_other_words_are_no_boolean(text: str) -> None:
    """Anything else is an error that names it."""
    with pytest.raises(ValueError, match=f"rawPayload value must be a valid boolean: actual is '{text}'"):
        is_raw_payload({"rawPayload": text})


def test_the_key_of_raw_payload_is_exact() -> None:
    """Dapr reads `rawPayload` in these letters only."""
    assert is_raw_payload({}) is False
    assert is_raw_payload({"rawpayload": "true"}) is False


@pytest.mark.parametrize(
    ("value", "content_type", "payload"),
    [
        (b'"AP8="', "application/octet-stream", b"\x00\xff"),
        (b'"h\\u00e9"', "text/plain; charset=utf-8", "hé".encode()),
        (b'"<a/>"', "application/xml", b"<a/>"),
        (b'{"n": 12345678901234567890123}', JSON, b'{"n": 12345678901234567890123}'),
        (b'"a"', JSON, b'"a"'),
        (b"null", JSON, b"null"),
        (b'{"id":1}', EVENT, b'{"id":1}'),
    ],
)
def test_the_event_of_a_bulk_entry_is_read_by_its_content_type(value: bytes, content_type: str, payload: bytes) -> None:
    """Over HTTP an event is a JSON value: base64 for bytes, a text for text, itself for JSON."""
    assert payload_of_json(value, content_type) == payload


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (b'"%%"', "application/octet-stream"),
        (b'"AP8"', "application/octet-stream"),
        (b'"A\xc3\xa9=="', "application/octet-stream"),
        (b"1", "application/octet-stream"),
        (b'{"a":1}', "text/plain"),
        (b"null", "text/plain"),
        (b'"a"', ""),
        (b'"a"', "image/png"),
    ],
)
def test_an_event_and_a_content_type_that_do_not_match(value: bytes, content_type: str) -> None:
    """They are refused, and never guessed at."""
    with pytest.raises(EventError, match="mismatch between contentType and event"):
        payload_of_json(value, content_type)
