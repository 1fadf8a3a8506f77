"""CloudEvents as they are published: made around a payload, or completed where the app sent one.

Request road, step 4 (block). Pure functions from bytes to bytes: JSON is checked but not decoded, and stands in the
event as it came, with all its digits. Facts: reference behaviours §1.1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping  # noqa: TC003 - read by msgspec
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
import orjson
from google.protobuf.message import DecodeError

from dapr_shared._proto import wellknown_pb
from dapr_shared.blocks.pubsub import content_types
from dapr_shared.core.ids import random_id

DEFAULT_SOURCE = "Dapr"
DEFAULT_TYPE = "com.dapr.event.sent"
SPEC_VERSION = "1.0"
RAW_PAYLOAD = "rawPayload"
"""Metadata: `true` publishes the payload as it is, or takes what comes from the broker as one."""

_OVERRIDES = "cloudevent."
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

_ANY_JSON = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NULL = b"null"
_CERTAIN_DEPTH = 200
_MARGIN = 150
"""Levels that are kept free when a payload is accepted: it is read again where calls are nested deeper."""
# An escaped backslash or a pair of surrogates stands; one surrogate alone is no character.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class EventError(ValueError):
    """Something is no CloudEvent, or none can be made of it; the message says what is wrong."""


class EventDraft(msgspec.Struct, frozen=True):
    """What is to be published, and where."""

    source: str
    """The app id of the publisher."""
    pubsub: str
    topic: str
    data: bytes
    content_type: str = ""
    """Of `data`; empty means `text/plain`."""
    metadata: Mapping[str, str] = {}
    """The publisher's: `cloudevent.…` overrides are read here."""
    traceparent: str = ""
    """W3C, of the publishing request; empty while tracing is off."""
    tracestate: str = ""


def make_event(
    draft: EventDraft, now: datetime, *, lifetime: float | None = None, attributes: Mapping[str, str] | None = None
) -> bytes:
    """The CloudEvent to publish, as JSON. Raises `EventError`.

    `lifetime`: seconds until the event expires, where the broker does not see to that (it lacks MESSAGE_TTL).
    `attributes`: stand in the event as they are, in place of what it would have (the outbox).
    """
    base = content_types.base_type(draft.content_type)
    event = _completed(draft) if base == content_types.CLOUD_EVENT else _made(draft, base)
    if "time" not in event:
        event["time"] = _local_time(int(now.timestamp()))
    if lifetime is not None:
        event["expiration"] = f"{(now + timedelta(seconds=lifetime)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if attributes:
        event.update(attributes)
    return orjson.dumps(event)


def _made(draft: EventDraft, base: str) -> dict[str, object]:
    name, value = _data(draft.data, base)
    if not draft.metadata:
        return {
            name: value,
            "datacontenttype": draft.content_type or content_types.TEXT,
            "id": random_id(),
            "pubsubname": draft.pubsub,
            "source": draft.source or DEFAULT_SOURCE,
            "specversion": SPEC_VERSION,
            "topic": draft.topic,
            "traceid": draft.traceparent,
            "traceparent": draft.traceparent,
            "tracestate": draft.tracestate,
            "type": DEFAULT_TYPE,
        }
    given = _overrides(draft.metadata)
    trace = given.get("traceparent") or given.get("traceid", draft.traceparent)
    event: dict[str, object] = {
        name: value,
        "datacontenttype": draft.content_type or content_types.TEXT,
        "id": given.get("id") or random_id(),
        "pubsubname": draft.pubsub,
        "source": given.get("source", draft.source) or DEFAULT_SOURCE,
        "specversion": SPEC_VERSION,
        "topic": draft.topic,
        "traceid": trace,
        "traceparent": trace,
        "tracestate": given.get("tracestate", draft.tracestate),
        "type": given.get("type") or DEFAULT_TYPE,
    }
    if given.get("subject"):
        event["subject"] = given["subject"]
    return event


def _completed(draft: EventDraft) -> dict[str, object]:
    if _too_deep(draft.data):
        raise EventError("it is not a JSON object that can be read again: it is nested too deep")
    event: dict[str, object] = {}
    for name, value in read_object(draft.data).items():
        text = bytes(value)
        event[name] = None if text == _NULL else orjson.Fragment(text)
    if "traceid" not in event:
        event["traceid"] = event["traceparent"] = draft.traceparent
    event.setdefault("tracestate", draft.tracestate)
    for name, default in (("source", DEFAULT_SOURCE), ("type", DEFAULT_TYPE), ("specversion", SPEC_VERSION)):
        if event.get(name) is None:
            event[name] = default
    event["topic"], event["pubsubname"] = draft.topic, draft.pubsub
    return event


def _data(data: bytes, base: str) -> tuple[str, object]:
    """The name and value of the attribute that carries the payload, whose type without parameters is `base`."""
    if base == content_types.JSON:
        text = json_text(data)
        if text is not None:
            return "data", orjson.Fragment(text)
    elif base in (content_types.OCTETS, content_types.CLOUD_EVENT_PROTOBUF) or (
        base == content_types.PROTOBUF and _is_protobuf(data)
    ):
        return "data_base64", base64.b64encode(data).decode()
    return "data", data.decode("utf-8", "replace")


def _is_protobuf(data: bytes) -> bool:
    # Dapr asks whether it is a CloudEvent; whatever is protobuf at all has passed that but for odd fields, and
    # base64 loses nothing where a text would.
    try:
        wellknown_pb.Empty.FromString(data)
    except DecodeError:
        return False
    return True


def json_text(data: bytes) -> bytes | None:
    """The payload as JSON that every parser takes, else `None`.

    What is no character (bytes that are not UTF-8, a surrogate alone) becomes U+FFFD, as in Go. What is nested deeper
    than this process can surely read again (about 800) is none.
    """
    if not data.isascii() and not is_utf8(data):
        data = data.decode("utf-8", "replace").encode()
    for text in (data, _SURROGATES.sub(_whole, data) if b"\\u" in data else b""):
        try:
            _ANY_JSON.decode(text)
        except (msgspec.DecodeError, RecursionError):
            continue
        return text if len(text) <= _CERTAIN_DEPTH or not _too_deep(text) else None
    return None


def read_object(data: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, their values as they came; of two of one name the last. Raises `EventError`."""
    try:
        return _OBJECT.decode(data) if is_utf8(data) else _OBJECT.decode(data.decode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError) as error:
        text = json_text(data)
        if text is None or text == data:
            raise EventError(f"it is not a JSON object: {error}") from error
    try:
        return _OBJECT.decode(text)
    except msgspec.MsgspecError as error:
        raise EventError(f"it is not a JSON object: {error}") from error


def payload_of_json(value: bytes, content_type: str) -> bytes:
    """The payload that a JSON value stands for in a bulk publish over HTTP. Raises `EventError`.

    A base64 text for octet-stream, a text for text types and XML, any value for JSON and CloudEvents.
    """
    if content_types.is_json(content_type) or content_types.is_cloud_event(content_type):
        return value
    binary = content_types.is_binary(content_type)
    if not binary and not content_types.is_text(content_type):
        raise EventError(
            "mismatch between contentType and event: contentType is not one of JSON, CloudEvents, text, XML, octet-stream"
        )
    try:
        text = _TEXT.decode(value)
        return base64.b64decode(text, validate=True) if binary else text.encode()
    except (msgspec.MsgspecError, ValueError) as error:
        wanted = "base64 text" if binary else "a text"
        raise EventError(f"mismatch between contentType and event: {content_type} needs {wanted}") from error


def is_raw_payload(metadata: Mapping[str, str]) -> bool:
    """Whether `rawPayload` says so. Raises `ValueError` for what Go does not read as a boolean."""
    text = metadata.get(RAW_PAYLOAD, "")
    if not text or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise ValueError(f"{RAW_PAYLOAD} value must be a valid boolean: actual is '{text}'")


def _overrides(metadata: Mapping[str, str]) -> dict[str, str]:
    """The attributes that `cloudevent.…` metadata gives, by name; a key in exactly these letters goes first."""
    found: dict[str, str] = {}
    for name, value in metadata.items():
        lower = name.lower()
        if lower.startswith(_OVERRIDES) and (name == lower or lower not in metadata):
            found[lower[len(_OVERRIDES) :]] = value
    return found


@lru_cache(maxsize=2)
def _local_time(seconds: int) -> str:
    return _rfc3339(datetime.fromtimestamp(seconds, UTC).astimezone())


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _too_deep(data: bytes) -> bool:
    """Whether it is nested so deep that a reader who begins with less of the stack free could fail."""
    if data.count(b"[") + data.count(b"{") <= _CERTAIN_DEPTH:
        return False
    try:
        _ANY_JSON.decode(b"[" * _MARGIN + data + b"]" * _MARGIN)
    except RecursionError:
        return True
    except msgspec.DecodeError:  # told better by who reads it
        return False
    return False


def is_utf8(data: bytes) -> bool:
    """Whether it is text in UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whole(match: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if match[1] else match[0]
