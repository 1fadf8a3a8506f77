"""Messages of google.rpc: a status and its details.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from collections.abc import Iterable, Mapping
from typing import Literal
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, ScalarMap
from google.protobuf.message import Message
from dapr_shared._proto import wellknown_pb

class RetryInfo(Message):
    @property
    def retry_delay(self) -> wellknown_pb.Duration: ...
    def __init__(self, *, retry_delay: wellknown_pb.Duration | None = ...) -> None: ...
    def HasField(self, field_name: Literal["retry_delay"]) -> bool: ...

class ErrorInfo(Message):
    reason: str
    domain: str
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    def __init__(self, *, reason: str | None = ..., domain: str | None = ..., metadata: Mapping[str, str] | None = ...) -> None: ...

class BadRequest(Message):
    class FieldViolation(Message):
        field: str
        description: str
        reason: str
        @property
        def localized_message(self) -> LocalizedMessage: ...
        def __init__(self, *, field: str | None = ..., description: str | None = ..., reason: str | None = ..., localized_message: LocalizedMessage | None = ...) -> None: ...
        def HasField(self, field_name: Literal["localized_message"]) -> bool: ...

    @property
    def field_violations(self) -> RepeatedCompositeFieldContainer[BadRequest.FieldViolation]: ...
    def __init__(self, *, field_violations: Iterable[BadRequest.FieldViolation] | None = ...) -> None: ...

class ResourceInfo(Message):
    resource_type: str
    resource_name: str
    owner: str
    description: str
    def __init__(self, *, resource_type: str | None = ..., resource_name: str | None = ..., owner: str | None = ..., description: str | None = ...) -> None: ...

class Help(Message):
    class Link(Message):
        description: str
        url: str
        def __init__(self, *, description: str | None = ..., url: str | None = ...) -> None: ...

    @property
    def links(self) -> RepeatedCompositeFieldContainer[Help.Link]: ...
    def __init__(self, *, links: Iterable[Help.Link] | None = ...) -> None: ...

class LocalizedMessage(Message):
    locale: str
    message: str
    def __init__(self, *, locale: str | None = ..., message: str | None = ...) -> None: ...

class Status(Message):
    code: int
    message: str
    @property
    def details(self) -> RepeatedCompositeFieldContainer[wellknown_pb.Any]: ...
    def __init__(self, *, code: int | None = ..., message: str | None = ..., details: Iterable[wellknown_pb.Any] | None = ...) -> None: ...

