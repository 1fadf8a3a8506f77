"""A small gRPC app: AppCallback's OnInvoke and the health check, by grpc.aio with raw bytes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from dapr_shared._proto import common_pb, wellknown_pb

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator


@dataclass
class GrpcApp:
    """Answers OnInvoke with what it is told and keeps what it saw."""

    answer: common_pb.InvokeResponse = field(
        default_factory=lambda: common_pb.InvokeResponse(data=wellknown_pb.Any(value=b"ok"), content_type="text/plain")
    )
    raw_answer: bytes | None = None
    status: tuple[grpc.StatusCode, str] | None = None
    initial: tuple[tuple[str, str | bytes], ...] = ()
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    healthy: bool | None = True
    """`None`: the health check is not implemented."""
    hold: asyncio.Event | None = None
    seen: list[tuple[common_pb.InvokeRequest, dict[str, str | bytes]]] = field(default_factory=list)
    probed: list[dict[str, str | bytes]] = field(default_factory=list)
    busy: int = 0

    async def on_invoke(self, data: bytes, context) -> bytes:
        self.seen.append((common_pb.InvokeRequest.FromString(data), dict(context.invocation_metadata())))
        self.busy += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.busy -= 1
        if self.initial:
            await context.send_initial_metadata(self.initial)
        context.set_trailing_metadata(self.trailers)
        if self.status is not None:
            await context.abort(*self.status, trailing_metadata=self.trailers)
        return self.answer.SerializeToString() if self.raw_answer is None else self.raw_answer

    async def health_check(self, data: bytes, context) -> bytes:
        self.probed.append(dict(context.invocation_metadata()))
        if self.hold is not None:
            await self.hold.wait()
        if not self.healthy:
            await context.abort(grpc.StatusCode.INTERNAL, "not well")
        return data

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        callback = {"OnInvoke": grpc.unary_unary_rpc_method_handler(self.on_invoke)}
        handlers = [grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallback", callback)]
        if self.healthy is not None:
            health = {"HealthCheck": grpc.unary_unary_rpc_method_handler(self.health_check)}
            handlers.append(
                grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallbackHealthCheck", health)
            )
        return tuple(handlers)


@asynccontextmanager
async def grpc_server(app: GrpcApp, *, port: int = 0, credentials=None) -> AsyncIterator[int]:
    """Serve the app on loopback; yields the port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(app.handlers())
    address = f"127.0.0.1:{port}"
    bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)
