"""Output bindings over gRPC: what of an answer's metadata is in headers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.bindings import BindingsRpc
from dapr_shared.contracts.bindings import BindingResponse


async def test_large_metadata_is_in_the_message_alone():
    """Headers stay below what gRPC's clients take, whatever a system answers; the message has all of it."""
    metadata = {"sql": "x" * 100_000, "short": "1", **{f"part-{n}": "y" * 1000 for n in range(20)}}
    sent: list[Any] = []

    async def invoke(*_: Any) -> BindingResponse:
        return BindingResponse(b"data", metadata)

    async def send(headers: Any) -> None:
        sent.extend(headers)

    block: Any = SimpleNamespace(invoke=invoke)
    call: Any = SimpleNamespace(trace=[], caller=None, wire=SimpleNamespace(metadata=[], send_initial_metadata=send))
    answer = await BindingsRpc(block).invoke(call, runtime_pb.InvokeBindingRequest(name="pg", operation="query"))

    assert dict(answer.metadata) == metadata
    assert ("metadata.short", "1") in sent
    assert "metadata.sql" not in dict(sent)
    assert sum(len(name) + len(value) + 32 for name, value in sent) <= 8 * 1024
    assert len(sent) > 3
