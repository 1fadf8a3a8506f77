"""Messages of google.protobuf that Dapr's protocol uses.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal
from google.protobuf.internal import well_known_types
from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

class Any(well_known_types.Any, Message):
    type_url: str
    value: bytes
    def __init__(self, *, type_url: str | None = ..., value: bytes | None = ...) -> None: ...

class Duration(well_known_types.Duration, Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int | None = ..., nanos: int | None = ...) -> None: ...

class Empty(Message):
    def __init__(self) -> None: ...

class _NullValue(EnumTypeWrapper):
    NULL_VALUE: Final = 0

NullValue: _NullValue
NULL_VALUE: Final = 0

class Struct(well_known_types.Struct, Message):
    @property
    def fields(self) -> MessageMap[str, Value]: ...
    def __init__(self, *, fields: Mapping[str, Value] | None = ...) -> None: ...

class Value(Message):
    null_value: int
    number_value: float
    string_value: str
    bool_value: bool
    @property
    def struct_value(self) -> Struct: ...
    @property
    def list_value(self) -> ListValue: ...
    def __init__(self, *, null_value: int | None = ..., number_value: float | None = ..., string_value: str | None = ..., bool_value: bool | None = ..., struct_value: Struct | None = ..., list_value: ListValue | None = ...) -> None: ...
    def HasField(self, field_name: Literal["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value", "kind"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["kind"]) -> Literal["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"] | None: ...

class ListValue(well_known_types.ListValue, Message):
    @property
    def values(self) -> RepeatedCompositeFieldContainer[Value]: ...
    def __init__(self, *, values: Iterable[Value] | None = ...) -> None: ...

class Timestamp(well_known_types.Timestamp, Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int | None = ..., nanos: int | None = ...) -> None: ...

class DoubleValue(Message):
    value: float
    def __init__(self, *, value: float | None = ...) -> None: ...

class FloatValue(Message):
    value: float
    def __init__(self, *, value: float | None = ...) -> None: ...

class Int64Value(Message):
    value: int
    def __init__(self, *, value: int | None = ...) -> None: ...

class UInt64Value(Message):
    value: int
    def __init__(self, *, value: int | None = ...) -> None: ...

class Int32Value(Message):
    value: int
    def __init__(self, *, value: int | None = ...) -> None: ...

class UInt32Value(Message):
    value: int
    def __init__(self, *, value: int | None = ...) -> None: ...

class BoolValue(Message):
    value: bool
    def __init__(self, *, value: bool | None = ...) -> None: ...

class StringValue(Message):
    value: str
    def __init__(self, *, value: str | None = ...) -> None: ...

class BytesValue(Message):
    value: bytes
    def __init__(self, *, value: bytes | None = ...) -> None: ...

