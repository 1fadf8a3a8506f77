"""Small helpers for tests of the gRPC wire: servers that are stopped, streams made of lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient
from dapr_shared.wire.grpc.interface import (
    BidiHandler,
    Call,
    Engine,
    GrpcError,
    Kind,
    Metadata,
    Method,
    Server,
    ServerOptions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence


async def stream_of(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The messages as a request stream."""
    for message in messages:
        yield message


async def open_ended(first: bytes) -> AsyncIterator[bytes]:
    """One message and then nothing, without an end."""
    yield first
    await asyncio.Event().wait()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until the condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is the caller's
            await asyncio.sleep(0.005)


async def fail(awaitable) -> GrpcError:
    """The `GrpcError` that the awaitable raises."""
    try:
        answer = await awaitable
    except GrpcError as error:
        return error
    raise AssertionError(f"no error, but {answer!r}")


async def collect(messages: AsyncIterator[bytes]) -> list[bytes]:
    """All messages."""
    return [message async for message in messages]


async def refuse_unknown(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A handler of unknown methods that says which one it was not."""
    raise GrpcError(GrpcCode.UNIMPLEMENTED, f"no {call.method}")
    yield b""


class Desk:
    """Makes servers and clients, and ends them all."""

    def __init__(self, engine: Engine, defects: list[tuple[str, BaseException]]) -> None:
        self.engine = engine
        self.defects = defects
        self._servers: list[Server] = []
        self._clients: list[GrpcClient] = []

    async def serve(
        self,
        methods: Sequence[Method] = (),
        unknown: BidiHandler = refuse_unknown,
        *,
        address: str = "127.0.0.1:0",
        listener: object = None,
        options: ServerOptions | None = None,
    ) -> Server:
        server = await self.engine.serve(address, methods, unknown, listener=listener, options=options)
        self._servers.append(server)
        return server

    def client(self, target: Server | str, options: ClientOptions | None = None) -> GrpcClient:
        client = GrpcClient(target if isinstance(target, str) else target.address, options)
        self._clients.append(client)
        return client

    async def pair(
        self,
        *methods: Method,
        unknown: BidiHandler = refuse_unknown,
        listener: object = None,
        options: ServerOptions | None = None,
    ) -> GrpcClient:
        """A client of a new server."""
        return self.client(await self.serve(methods, unknown, listener=listener, options=options))

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        for server in self._servers:
            await server.stop(0)


ECHO = "/test.Echo/Unary"
COUNT = "/test.Echo/ServerStream"
JOIN = "/test.Echo/ClientStream"
CHAT = "/test.Echo/Bidi"


async def _echo(call: Call, data: bytes) -> bytes:
    return data


async def _count(call: Call, data: bytes) -> AsyncIterator[bytes]:
    for number in range(int(data)):
        yield b"%d" % number


async def _join(call: Call, messages: AsyncIterator[bytes]) -> bytes:
    return b"".join([message async for message in messages])


async def _chat(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


ALL_KINDS = (
    Method(ECHO, Kind.UNARY, _echo),
    Method(COUNT, Kind.SERVER_STREAM, _count),
    Method(JOIN, Kind.CLIENT_STREAM, _join),
    Method(CHAT, Kind.BIDI, _chat),
)
"""A service with one method of each kind."""


def values(metadata: Metadata, key: str) -> list[str | bytes]:
    """All values of a key."""
    return [value for name, value in metadata if name == key]
