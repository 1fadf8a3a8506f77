"""Messages of dapr.proto.common.v1.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from collections.abc import Mapping
from typing import ClassVar, Final, Literal
from google.protobuf.internal.containers import ScalarMap
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from dapr_shared._proto import wellknown_pb

class HTTPExtension(Message):
    class _Verb(EnumTypeWrapper):
        NONE: Final = 0
        GET: Final = 1
        HEAD: Final = 2
        POST: Final = 3
        PUT: Final = 4
        DELETE: Final = 5
        CONNECT: Final = 6
        OPTIONS: Final = 7
        TRACE: Final = 8
        PATCH: Final = 9

    Verb: ClassVar[_Verb]
    NONE: Final = 0
    GET: Final = 1
    HEAD: Final = 2
    POST: Final = 3
    PUT: Final = 4
    DELETE: Final = 5
    CONNECT: Final = 6
    OPTIONS: Final = 7
    TRACE: Final = 8
    PATCH: Final = 9

    verb: int
    querystring: str
    def __init__(self, *, verb: int | None = ..., querystring: str | None = ...) -> None: ...

class InvokeRequest(Message):
    method: str
    @property
    def data(self) -> wellknown_pb.Any: ...
    content_type: str
    @property
    def http_extension(self) -> HTTPExtension: ...
    def __init__(self, *, method: str | None = ..., data: wellknown_pb.Any | None = ..., content_type: str | None = ..., http_extension: HTTPExtension | None = ...) -> None: ...
    def HasField(self, field_name: Literal["data", "http_extension"]) -> bool: ...

class InvokeResponse(Message):
    @property
    def data(self) -> wellknown_pb.Any: ...
    content_type: str
    def __init__(self, *, data: wellknown_pb.Any | None = ..., content_type: str | None = ...) -> None: ...
    def HasField(self, field_name: Literal["data"]) -> bool: ...

class StreamPayload(Message):
    data: bytes
    seq: int
    def __init__(self, *, data: bytes | None = ..., seq: int | None = ...) -> None: ...

class StateItem(Message):
    key: str
    value: bytes
    @property
    def etag(self) -> Etag: ...
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    @property
    def options(self) -> StateOptions: ...
    def __init__(self, *, key: str | None = ..., value: bytes | None = ..., etag: Etag | None = ..., metadata: Mapping[str, str] | None = ..., options: StateOptions | None = ...) -> None: ...
    def HasField(self, field_name: Literal["etag", "options"]) -> bool: ...

class Etag(Message):
    value: str
    def __init__(self, *, value: str | None = ...) -> None: ...

class StateOptions(Message):
    class _StateConcurrency(EnumTypeWrapper):
        CONCURRENCY_UNSPECIFIED: Final = 0
        CONCURRENCY_FIRST_WRITE: Final = 1
        CONCURRENCY_LAST_WRITE: Final = 2

    StateConcurrency: ClassVar[_StateConcurrency]
    CONCURRENCY_UNSPECIFIED: Final = 0
    CONCURRENCY_FIRST_WRITE: Final = 1
    CONCURRENCY_LAST_WRITE: Final = 2

    class _StateConsistency(EnumTypeWrapper):
        CONSISTENCY_UNSPECIFIED: Final = 0
        CONSISTENCY_EVENTUAL: Final = 1
        CONSISTENCY_STRONG: Final = 2

    StateConsistency: ClassVar[_StateConsistency]
    CONSISTENCY_UNSPECIFIED: Final = 0
    CONSISTENCY_EVENTUAL: Final = 1
    CONSISTENCY_STRONG: Final = 2

    concurrency: int
    consistency: int
    def __init__(self, *, concurrency: int | None = ..., consistency: int | None = ...) -> None: ...

class ConfigurationItem(Message):
    value: str
    version: str
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    def __init__(self, *, value: str | None = ..., version: str | None = ..., metadata: Mapping[str, str] | None = ...) -> None: ...

class JobFailurePolicy(Message):
    @property
    def drop(self) -> JobFailurePolicyDrop: ...
    @property
    def constant(self) -> JobFailurePolicyConstant: ...
    def __init__(self, *, drop: JobFailurePolicyDrop | None = ..., constant: JobFailurePolicyConstant | None = ...) -> None: ...
    def HasField(self, field_name: Literal["drop", "constant", "policy"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["policy"]) -> Literal["drop", "constant"] | None: ...

class JobFailurePolicyDrop(Message):
    def __init__(self) -> None: ...

class JobFailurePolicyConstant(Message):
    @property
    def interval(self) -> wellknown_pb.Duration: ...
    max_retries: int
    def __init__(self, *, interval: wellknown_pb.Duration | None = ..., max_retries: int | None = ...) -> None: ...
    def HasField(self, field_name: Literal["interval", "max_retries"]) -> bool: ...

