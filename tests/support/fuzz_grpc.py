"""Messages of Dapr's gRPC API that are of the right type and of no sense, made from their descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import strategies as st

from dapr_shared._proto import SERVICES, message_class
from dapr_shared.api.grpc.frontdoor import SERVICE
from tests.support.inprocess import ORDERS, FakeCall

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

METHODS = {row.name: row for row in SERVICES[SERVICE].methods.values()}
"""The methods of the service, by short name."""
IMPLEMENTED = (
    "GetState", "GetBulkState", "SaveState", "DeleteState", "DeleteBulkState", "ExecuteStateTransaction",
    "QueryStateAlpha1", "GetSecret", "GetBulkSecret", "GetMetadata", "SetMetadata", "Shutdown", "InvokeService",
    "PublishEvent", "BulkPublishEvent", "BulkPublishEventAlpha1", "SubscribeTopicEventsAlpha1",
    "InvokeBinding", "GetConfiguration", "GetConfigurationAlpha1", "SubscribeConfiguration",
    "SubscribeConfigurationAlpha1", "UnsubscribeConfiguration", "UnsubscribeConfigurationAlpha1", "TryLockAlpha1",
    "UnlockAlpha1",
)  # fmt: skip
"""Those that do more than to say that they are not there."""

_DEPTH = 4
_WORDS = (
    "", "memory", "mine", "vault", "mine-vault", "stock", "orders", "k", "a", "stock||k", "||", "stock.default", "a.b.c",
    "hidden", "stock-app-token", "bulk", "upsert", "delete", "ttlInSeconds", "contentType", "application/json", "keyPrefix",
    "1", "-1", "x\r\ny: z", "\x00", "\U0001f40d", "\u202e", "/../..", "%2e%2e", "http://[", "http://127.0.0.1:1", "x?y#z",
    "{}", "[" * 1200, "a" * 3000, "first-write",
)  # fmt: skip
_text = st.one_of(st.sampled_from(_WORDS), st.text(max_size=8))
_data = st.one_of(
    st.sampled_from([b"", b"{}", b"null", b"\xff\xfe", b"[" * 1200, b"x" * 70_000, b'"\\ud800"']),
    st.binary(max_size=20),
)

_SCALARS = {
    Field.TYPE_STRING: _text,
    Field.TYPE_BYTES: _data,
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_ENUM: st.one_of(st.integers(0, 5), st.integers(-(2**31), 2**31 - 1)),
    Field.TYPE_FLOAT: st.floats(width=32),
    Field.TYPE_DOUBLE: st.floats(),
    **dict.fromkeys((Field.TYPE_INT32, Field.TYPE_SINT32, Field.TYPE_SFIXED32), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys((Field.TYPE_INT64, Field.TYPE_SINT64, Field.TYPE_SFIXED64), st.integers(-(2**63), 2**63 - 1)),
    **dict.fromkeys((Field.TYPE_UINT32, Field.TYPE_FIXED32), st.integers(0, 2**32 - 1)),
    **dict.fromkeys((Field.TYPE_UINT64, Field.TYPE_FIXED64), st.integers(0, 2**64 - 1)),
}


@st.composite
def messages(draw: Any, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message of this type with some fields set to anything that their types allow."""
    made = message_class(descriptor.full_name)()
    for field in descriptor.fields:
        if draw(st.integers(0, 3)) == 0 or (depth >= _DEPTH and field.message_type):
            continue
        _set(draw, made, field, depth)
    return made


def _set(draw: Any, made: Message, field: Any, depth: int) -> None:
    kind = field.message_type
    value = getattr(made, field.name)
    if kind and kind.GetOptions().map_entry:
        for _ in range(draw(st.integers(0, 2))):
            key = draw(_SCALARS[kind.fields_by_name["key"].type])
            of_value = kind.fields_by_name["value"]
            if of_value.message_type:
                value[key].CopyFrom(draw(messages(of_value.message_type, depth + 1)))
            else:
                value[key] = draw(_SCALARS[of_value.type])
    elif field.is_repeated and kind:
        for _ in range(draw(st.integers(0, 2))):
            value.add().CopyFrom(draw(messages(kind, depth + 1)))
    elif field.is_repeated:
        value.extend(draw(st.lists(_SCALARS[field.type], max_size=3)))
    elif kind:
        value.CopyFrom(draw(messages(kind, depth + 1)))
        value.SetInParent()
    else:
        setattr(made, field.name, draw(_SCALARS[field.type]))


_METADATA = (
    ("dapr-app-id", "stock"), ("dapr-callee-app-id", "stock"), ("dapr-caller-app-id", "stock"), ("dapr-app-id", ""),
    ("dapr-app-id", "http://["), ("dapr-app-id", "a.b.c"), ("dapr-api-token", ORDERS), ("dapr-api-token", "stock"),
    ("dapr-api-token", ""), ("baggage", "\x7f"), ("baggage", "a=b"), ("traceparent", "x"), ("tracestate", "a=b"),
    ("grpc-trace-bin", b"\x00\xff"), ("grpc-trace-bin", bytes(29)), ("x-bin", b"\xff"), ("dapr-stream", "true"),
    ("dapr-force-shutdown", "true"), ("user-agent", "x"), ("te", "trailers"), ("connection", "dapr-caller-app-id"),
    ("content-length", "5"), ("transfer-encoding", "chunked"), ("host", "b"), ("x", "a" * 3000),
)  # fmt: skip
metadata = st.lists(
    st.one_of(
        st.sampled_from(_METADATA),
        st.tuples(st.sampled_from([key for key, value in _METADATA if isinstance(value, str)]), st.text("\x20\x7e!az", max_size=6)),
    ),
    max_size=3,
)  # fmt: skip
"""What an attacker adds to a call."""

tokens = st.sampled_from([ORDERS, ORDERS, ORDERS, None])


@st.composite
def requests(draw: Any) -> tuple[str, bytes, list[tuple[str, str | bytes]]]:
    """A method, its request as bytes (a valid message in most cases) and metadata."""
    name = draw(st.one_of(st.sampled_from(IMPLEMENTED), st.sampled_from(sorted(METHODS))))
    valid = draw(st.integers(0, 3)) > 0
    descriptor = METHODS[name].request_class.DESCRIPTOR
    data = draw(messages(descriptor)).SerializeToString() if valid else draw(st.binary(max_size=60))
    return name, data, with_token(draw(tokens), draw(metadata))


def with_token(token: str | None, more: list[tuple[str, str | bytes]]) -> list[tuple[str, str | bytes]]:
    """The metadata of a call with this token."""
    return [*([("dapr-api-token", token)] if token is not None else []), *more]


def call_of(method: str, given: list[tuple[str, str | bytes]]) -> FakeCall:
    """The call as a handler gets it from an engine."""
    return FakeCall(method, tuple(given))
