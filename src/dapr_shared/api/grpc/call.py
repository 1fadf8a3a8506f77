"""One gRPC API call on its way to a block, and the registration of methods.

First step of the request road.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message

    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.spans import Span
    from dapr_shared.wire.grpc.interface import Call
    from dapr_shared.wire.http.messages import Headers

M = TypeVar("M", bound="Message")


class GrpcCall:
    """A call with its proved caller."""

    __slots__ = ("caller", "span", "trace", "wire")

    def __init__(self, wire: Call, caller: Caller, trace: Headers, span: Span | None = None) -> None:
        self.wire = wire
        self.caller = caller
        self.trace = trace
        self.span = span
        """The span of a sampled call that is exported."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """One unary RPC of the Dapr service: bytes in, message out."""

    name: str
    """Simple name: `GetState`."""
    request: type[Any]
    handler: Callable[[GrpcCall, Any], Awaitable[Message]]
    api: str
    """Name in the Configuration's `api` lists."""
    version: str = "v1"


def unary(
    name: str, request: type[M], handler: Callable[[GrpcCall, M], Awaitable[Message]], api: str, version: str = "v1"
) -> UnaryMethod:
    """A row of the method table, checked: the handler takes the request's type."""
    return UnaryMethod(name, request, handler, api, version)


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """One streaming RPC of the Dapr service: bytes in, bytes out."""

    name: str
    """Simple name: `SubscribeConfiguration`."""
    handler: Callable[[GrpcCall, AsyncIterator[bytes]], AsyncGenerator[bytes]]
    api: str
    """Name in the Configuration's `api` lists."""
    version: str = "v1"
