"""The gRPC services of Dapr's protocol as a table, read from the descriptors.

Below both roads. The front door takes from here how each method is called and with which messages, the documentation
its list of methods; neither writes a method name twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from dapr_shared._proto.descriptors import file_descriptors, message_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

MethodKind: TypeAlias = Literal["unary", "server-stream", "client-stream", "bidi"]
"""The values of `dapr_shared.wire.grpc.interface.Kind`."""

_KINDS: Final[dict[tuple[bool, bool], MethodKind]] = {
    (False, False): "unary",
    (False, True): "server-stream",
    (True, False): "client-stream",
    (True, True): "bidi",
}


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method of a service."""

    path: str
    """Full name as it is called: `/package.Service/Method`."""
    name: str
    """Short name: `GetState`."""
    kind: MethodKind
    request: str
    """Full name of the request message: `dapr.proto.runtime.v1.GetStateRequest`."""
    response: str
    """Full name of the response message."""
    deprecated: bool
    """Dapr keeps the method for old clients."""

    @property
    def request_class(self) -> type[Message]:
        """The class of the request message, of the private pool."""
        return message_class(self.request)

    @property
    def response_class(self) -> type[Message]:
        """The class of the response message, of the private pool."""
        return message_class(self.response)


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """One service and its methods."""

    name: str
    """Full name: `dapr.proto.runtime.v1.Dapr`."""
    file: str
    """Path of the .proto file that defines it."""
    methods: Mapping[str, MethodRow]
    """By full method name, in the order of the .proto file."""

    def method(self, name: str) -> MethodRow:
        """The row of a method by its short name (`GetState`); raises `KeyError` when there is none."""
        return self.methods[f"/{self.name}/{name}"]


def _row(service: ServiceDescriptor, method: MethodDescriptor) -> MethodRow:
    return MethodRow(
        path=f"/{service.full_name}/{method.name}",
        name=method.name,
        kind=_KINDS[method.client_streaming, method.server_streaming],
        request=method.input_type.full_name,
        response=method.output_type.full_name,
        deprecated=method.GetOptions().deprecated,
    )


def _table(file: str, service: ServiceDescriptor) -> ServiceTable:
    rows = (_row(service, method) for method in service.methods)
    return ServiceTable(service.full_name, file, MappingProxyType({row.path: row for row in rows}))


SERVICES: Final[Mapping[str, ServiceTable]] = MappingProxyType(
    {
        service.full_name: _table(path, service)
        for path, file in file_descriptors().items()
        for service in file.services_by_name.values()
    }
)
"""Every service by its full name: Dapr's own, the app's callbacks, server reflection."""
