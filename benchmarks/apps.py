"""The apps behind the instance under test: as cheap as Python allows, and not measured.

    python -m benchmarks.apps HTTP_PORT… [--grpc PORT]

Answers every HTTP request with 200 and five bytes, and on the gRPC port every call of `METHOD` and `STREAM` with what it was sent.
Ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import httptools
import uvloop

from benchmarks.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.wire.grpc.interface import Call, Server

METHOD = "/bench.Echo/Unary"
STREAM = "/bench.Echo/Stream"
BODY = b"hello"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n" + BODY


class App(asyncio.Protocol):
    """One connection to the HTTP app."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse; a request that is no HTTP closes the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_message_complete(self) -> None:
        """Answer."""
        if self._transport is not None:
            self._transport.write(_ANSWER)


async def _serve_grpc(port: int) -> Server:
    # grpc is imported only in the process that serves it.
    from dapr_shared.wire.grpc.engines import engine  # noqa: PLC0415
    from dapr_shared.wire.grpc.interface import Kind, Method  # noqa: PLC0415

    async def echo(_: Call, data: bytes) -> bytes:
        return data

    async def stream(_: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message

    async def unknown(call: Call, messages: object) -> object:
        del messages
        raise NotImplementedError(call.method)
        yield b""

    return await engine("http2", print).serve(
        f"{LOOPBACK}:{port}", [Method(METHOD, Kind.UNARY, echo), Method(STREAM, Kind.BIDI, stream)], unknown
    )  # type: ignore[arg-type]


async def serve(http_ports: list[int], grpc_port: int) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if grpc_port:
            stack.push_async_callback((await _serve_grpc(grpc_port)).stop, 0)
        for port in http_ports:
            server = await loop.create_server(App, LOOPBACK, port)
            stack.callback(server.close)
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("http_port", type=int, nargs="+")
    parser.add_argument("--grpc", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.http_port, arguments.grpc))


if __name__ == "__main__":
    main()
