"""Output bindings over gRPC. Facts: reference grpc-api §1.3, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary
from dapr_shared.core.errors import DaprError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.blocks.bindings.output import BindingsBlock

_TRACE = frozenset({"traceparent", "tracestate"})
_TOKEN = "dapr-api-token"  # noqa: S105 - the name of a metadata key


_LONGEST_HEADER = 4096
"""Characters of one value of response metadata in a header."""
_ALL_HEADERS = 6 * 1024
"""Bytes of all of them: gRPC's clients end a call whose headers are larger than 8 KiB."""


class BindingsRpc:
    """Turns gRPC messages into calls of the bindings block."""

    def __init__(self, block: BindingsBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        return [unary("InvokeBinding", runtime_pb.InvokeBindingRequest, self.invoke, "bindings")]

    async def invoke(
        self, call: GrpcCall, request: runtime_pb.InvokeBindingRequest
    ) -> runtime_pb.InvokeBindingResponse:
        metadata = _metadata(call, dict(request.metadata))
        try:
            answer = await self._block.invoke(call.caller, request.name, request.operation, request.data, metadata)
        except DaprError as error:
            await _send_headers(call, error.metadata)
            raise
        if answer is None:
            return runtime_pb.InvokeBindingResponse()
        await _send_headers(call, answer.metadata)
        return runtime_pb.InvokeBindingResponse(data=answer.data, metadata=dict(answer.metadata))


def _metadata(call: GrpcCall, given: dict[str, str]) -> dict[str, str]:
    """The request's metadata, and the call's where the request has none of that name; never the caller's token."""
    for name, value in call.trace:
        given.setdefault(name.decode(), value.decode("latin-1"))
    seen: set[str] = set()
    for key, value in call.wire.metadata:
        if key == _TOKEN or isinstance(value, bytes):
            continue
        name = "dapr-authority" if key == ":authority" else f"dapr-{key}" if key.startswith("grpc-") else key
        if name not in given or (name in _TRACE and name not in seen):
            given[name] = value
        seen.add(name)
    return given


async def _send_headers(call: GrpcCall, metadata: Mapping[str, str]) -> None:
    """Response metadata as headers too, as far as it can stand in them (reference grpc-api §1.3).

    What is too large for a header is in the message alone.
    """
    headers: list[tuple[str, str | bytes]] = []
    left = _ALL_HEADERS
    for name, value in metadata.items():
        size = len(name) + len(value) + 41  # HTTP/2 counts 32 for each, and there is the prefix
        if size > left or len(value) > _LONGEST_HEADER:
            continue
        if not name.lower().endswith("-bin") and _plain(name) and value.isascii() and value.isprintable():
            headers.append((f"metadata.{name}".lower(), value))
            left -= size
    if headers:
        await call.wire.send_initial_metadata(headers)


def _plain(name: str) -> bool:
    return bool(name) and name.isascii() and all(c.isalnum() or c in "-_." for c in name)
