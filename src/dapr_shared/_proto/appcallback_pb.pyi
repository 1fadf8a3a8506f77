"""Messages of the app callbacks of dapr.proto.runtime.v1.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

import builtins
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Literal
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from dapr_shared._proto import common_pb, wellknown_pb

class JobEventRequest(Message):
    name: str
    @property
    def data(self) -> wellknown_pb.Any: ...
    method: str
    content_type: str
    @property
    def http_extension(self) -> common_pb.HTTPExtension: ...
    def __init__(self, *, name: str | None = ..., data: wellknown_pb.Any | None = ..., method: str | None = ..., content_type: str | None = ..., http_extension: common_pb.HTTPExtension | None = ...) -> None: ...
    def HasField(self, field_name: Literal["data", "http_extension"]) -> bool: ...

class JobEventResponse(Message):
    def __init__(self) -> None: ...

class TopicEventRequest(Message):
    id: str
    source: str
    type: str
    spec_version: str
    data_content_type: str
    data: bytes
    topic: str
    pubsub_name: str
    path: str
    @property
    def extensions(self) -> wellknown_pb.Struct: ...
    def __init__(self, *, id: str | None = ..., source: str | None = ..., type: str | None = ..., spec_version: str | None = ..., data_content_type: str | None = ..., data: bytes | None = ..., topic: str | None = ..., pubsub_name: str | None = ..., path: str | None = ..., extensions: wellknown_pb.Struct | None = ...) -> None: ...
    def HasField(self, field_name: Literal["extensions"]) -> bool: ...

class TopicEventResponse(Message):
    class _TopicEventResponseStatus(EnumTypeWrapper):
        SUCCESS: Final = 0
        RETRY: Final = 1
        DROP: Final = 2

    TopicEventResponseStatus: ClassVar[_TopicEventResponseStatus]
    SUCCESS: Final = 0
    RETRY: Final = 1
    DROP: Final = 2

    status: int
    def __init__(self, *, status: int | None = ...) -> None: ...

class TopicEventCERequest(Message):
    id: str
    source: str
    type: str
    spec_version: str
    data_content_type: str
    data: bytes
    @property
    def extensions(self) -> wellknown_pb.Struct: ...
    def __init__(self, *, id: str | None = ..., source: str | None = ..., type: str | None = ..., spec_version: str | None = ..., data_content_type: str | None = ..., data: bytes | None = ..., extensions: wellknown_pb.Struct | None = ...) -> None: ...
    def HasField(self, field_name: Literal["extensions"]) -> bool: ...

class TopicEventBulkRequestEntry(Message):
    entry_id: str
    bytes: builtins.bytes
    @property
    def cloud_event(self) -> TopicEventCERequest: ...
    content_type: str
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    def __init__(self, *, entry_id: str | None = ..., bytes: builtins.bytes | None = ..., cloud_event: TopicEventCERequest | None = ..., content_type: str | None = ..., metadata: Mapping[str, str] | None = ...) -> None: ...
    def HasField(self, field_name: Literal["bytes", "cloud_event", "event"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["event"]) -> Literal["bytes", "cloud_event"] | None: ...

class TopicEventBulkRequest(Message):
    id: str
    @property
    def entries(self) -> RepeatedCompositeFieldContainer[TopicEventBulkRequestEntry]: ...
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    topic: str
    pubsub_name: str
    type: str
    path: str
    def __init__(self, *, id: str | None = ..., entries: Iterable[TopicEventBulkRequestEntry] | None = ..., metadata: Mapping[str, str] | None = ..., topic: str | None = ..., pubsub_name: str | None = ..., type: str | None = ..., path: str | None = ...) -> None: ...

class TopicEventBulkResponseEntry(Message):
    entry_id: str
    status: int
    def __init__(self, *, entry_id: str | None = ..., status: int | None = ...) -> None: ...

class TopicEventBulkResponse(Message):
    @property
    def statuses(self) -> RepeatedCompositeFieldContainer[TopicEventBulkResponseEntry]: ...
    def __init__(self, *, statuses: Iterable[TopicEventBulkResponseEntry] | None = ...) -> None: ...

class BindingEventRequest(Message):
    name: str
    data: bytes
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    def __init__(self, *, name: str | None = ..., data: bytes | None = ..., metadata: Mapping[str, str] | None = ...) -> None: ...

class BindingEventResponse(Message):
    class _BindingEventConcurrency(EnumTypeWrapper):
        SEQUENTIAL: Final = 0
        PARALLEL: Final = 1

    BindingEventConcurrency: ClassVar[_BindingEventConcurrency]
    SEQUENTIAL: Final = 0
    PARALLEL: Final = 1

    store_name: str
    @property
    def states(self) -> RepeatedCompositeFieldContainer[common_pb.StateItem]: ...
    @property
    def to(self) -> RepeatedScalarFieldContainer[str]: ...
    data: bytes
    concurrency: int
    def __init__(self, *, store_name: str | None = ..., states: Iterable[common_pb.StateItem] | None = ..., to: Iterable[str] | None = ..., data: bytes | None = ..., concurrency: int | None = ...) -> None: ...

class ListTopicSubscriptionsResponse(Message):
    @property
    def subscriptions(self) -> RepeatedCompositeFieldContainer[TopicSubscription]: ...
    def __init__(self, *, subscriptions: Iterable[TopicSubscription] | None = ...) -> None: ...

class TopicSubscription(Message):
    pubsub_name: str
    topic: str
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    @property
    def routes(self) -> TopicRoutes: ...
    dead_letter_topic: str
    @property
    def bulk_subscribe(self) -> BulkSubscribeConfig: ...
    def __init__(self, *, pubsub_name: str | None = ..., topic: str | None = ..., metadata: Mapping[str, str] | None = ..., routes: TopicRoutes | None = ..., dead_letter_topic: str | None = ..., bulk_subscribe: BulkSubscribeConfig | None = ...) -> None: ...
    def HasField(self, field_name: Literal["routes", "bulk_subscribe"]) -> bool: ...

class TopicRoutes(Message):
    @property
    def rules(self) -> RepeatedCompositeFieldContainer[TopicRule]: ...
    default: str
    def __init__(self, *, rules: Iterable[TopicRule] | None = ..., default: str | None = ...) -> None: ...

class TopicRule(Message):
    match: str
    path: str
    def __init__(self, *, match: str | None = ..., path: str | None = ...) -> None: ...

class BulkSubscribeConfig(Message):
    enabled: bool
    max_messages_count: int
    max_await_duration_ms: int
    def __init__(self, *, enabled: bool | None = ..., max_messages_count: int | None = ..., max_await_duration_ms: int | None = ...) -> None: ...

class ListInputBindingsResponse(Message):
    @property
    def bindings(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(self, *, bindings: Iterable[str] | None = ...) -> None: ...

class HealthCheckResponse(Message):
    def __init__(self) -> None: ...

