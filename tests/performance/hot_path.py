"""The requests whose cost is guarded, and how they are sent: the front doors in this process, over real sockets.

python -m tests.performance.hot_path      # counts anew and writes hot_path.json, for a change that is meant
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import platform
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from dapr_shared._proto import runtime_pb
from dapr_shared.wire.grpc.http2_messages import prefixed
from dapr_shared.wire.grpc.http2_server import Http2Engine
from dapr_shared.wire.http import fields, head
from dapr_shared.wire.http.server import serve
from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.hpack import encode
from tests.support.app_servers import until
from tests.support.call_counts import counted_bytecodes, counted_calls
from tests.support.inprocess import TWO_APPS, inprocess

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncGenerator, Awaitable, Callable

RECORD = Path(__file__).parent / "hot_path.json"
PYTHON = ".".join(platform.python_version_tuple()[:2])
WARM_UP = 30
REQUESTS = 50
HELD_ROUNDS = 6
"""Caches that fill up must not look like memory that each request leaves behind."""
_TOKEN = "orders-token"
"""Of the app `orders` of `TWO_APPS`."""
_VALUE = b'"eighteen letters.."'
_ORDER = b'{"order":"eighteen letters..","amount":2}'

_RESOURCES = (
    TWO_APPS.replace(
        "metadata: {name: stock}\n    spec:", "metadata: {name: stock}\n    spec:\n      channel: {port: PORT}"
    )
    + """
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: bus}
    spec: {type: pubsub.in-memory, version: v1, metadata: []}
    ---
    apiVersion: dapr.io/v2alpha1
    kind: Subscription
    metadata: {name: loud}
    spec: {pubsubname: bus, topic: loud, routes: {default: /events}}
    scopes: [stock]
"""
)


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1:3500", f"dapr-api-token: {_TOKEN}", "accept: */*"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


HTTP = {
    "http-state-get": _request("GET", "/v1.0/state/memory/bench"),
    "http-state-save": _request("POST", "/v1.0/state/memory", b'[{"key":"bench","value":' + _VALUE + b"}]"),
    "http-invoke": _request("POST", "/v1.0/invoke/stock/method/hello", b"hello"),
    "http-publish": _request("POST", "/v1.0/publish/bus/quiet", _ORDER),
}
GRPC = "grpc-state-get"
DELIVER = "http-deliver"
"""A message from its publication until the app that subscribes to it has answered, the app's answer understood."""
_EVENT = b"POST /events "


class _App(asyncio.Protocol):
    """The app behind an invocation and a subscription: answers whatever comes with five bytes, an event with none."""

    def __init__(self, came: asyncio.Event) -> None:
        self._came = came

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /dapr/"):
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        if data.startswith(_EVENT):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            self._came.set()
            return
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello")


async def _grpc_sender(address: str, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
    """A connection by hand: what a client does is not to be counted."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    writer.write(frames.PREFACE + frames.settings({}) + frames.window_update(0, 1 << 24))
    block = b"".join(
        encode(name, value)
        for name, value in (
            (":method", "POST"),
            (":path", "/dapr.proto.runtime.v1.Dapr/GetState"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("dapr-api-token", _TOKEN),
            ("user-agent", "grpc-go/1.80"),
        )
    )
    message = prefixed(runtime_pb.GetStateRequest(store_name="memory", key="bench").SerializeToString())
    streams = itertools.count(1, 2)

    async def send() -> None:
        stream = next(streams)
        writer.write(frames.headers(stream, block, frames.FRAME_BYTES, end_stream=False))
        writer.write(frames.frame(frames.DATA, frames.END_STREAM, stream, message))
        answer = b""
        while True:
            head = await reader.readexactly(frames.HEAD_BYTES)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if int.from_bytes(head[5:], "big") == stream:
                answer += payload
                if head[4] & frames.END_STREAM:
                    break
        if _VALUE not in answer:
            raise AssertionError(answer)

    return send


@asynccontextmanager
async def senders(folder: Path) -> AsyncGenerator[dict[str, Callable[[], Awaitable[None]]]]:
    """A way to send each request once and wait for its answer, by name."""
    loop = asyncio.get_running_loop()
    head._names.clear()  # tests that ran before in this process may have filled it
    head._good_hosts.clear()
    while len(fields._kinds) > 512:  # its first entries are no cache: the last are
        fields._kinds.popitem()
    async with AsyncExitStack() as stack:
        came = asyncio.Event()
        app = await loop.create_server(lambda: _App(came), "127.0.0.1", 0)
        stack.callback(app.close)
        resources = _RESOURCES.replace("PORT", str(app.sockets[0].getsockname()[1]))
        instance = await stack.enter_async_context(inprocess(folder, resources))
        stack.push_async_callback(instance.parts.close_deliveries, 0.0)
        server = await serve("127.0.0.1:0", instance.parts.http)
        stack.callback(server.close)
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)

        def sender(request: bytes) -> Callable[[], Awaitable[None]]:
            async def send() -> None:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 20"):
                    raise AssertionError(head)
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))

            return send

        grpc = await Http2Engine(print).serve("127.0.0.1:0", instance.parts.grpc.table(), instance.parts.grpc.unknown())
        stack.push_async_callback(grpc.stop, 0)
        get_state = await _grpc_sender(grpc.address, stack)
        made = {name: sender(request) for name, request in HTTP.items()}
        await made["http-state-save"]()
        publish = sender(_request("POST", "/v1.0/publish/bus/loud", _ORDER))
        await until(lambda: instance.parts.subscriptions.count().get("stock", {}).get("active"))

        async def deliver() -> None:
            # What follows the app's answer is counted with the next message, and that of the last one not at all.
            came.clear()
            await publish()
            await came.wait()

        yield {**made, GRPC: get_state, DELIVER: deliver}


@dataclass(frozen=True)
class Cost:
    """What one request costs."""

    calls: float
    bytecodes: float
    functions: dict[str, float]
    """Calls by name; what has fewer than one in ten requests is left out (timers)."""
    blocks: float
    """Blocks of memory that are still held afterwards."""


async def cost(send: Callable[[], Awaitable[None]]) -> Cost:
    """Count one request, as the mean of many behind a warm-up."""
    for _ in range(WARM_UP):
        await send()
    with counted_calls() as counts:
        await _repeat(send)
    with counted_bytecodes() as codes:
        await _repeat(send)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(HELD_ROUNDS):
        await _repeat(send)
    gc.collect()
    held = (sys.getallocatedblocks() - before) / (HELD_ROUNDS * REQUESTS)
    functions = _each(counts.calls)
    return Cost(round(sum(functions.values()), 1), round(sum(_each(codes.bytecodes).values()), 1), functions, held)


def _each(counted: Counter[str]) -> dict[str, float]:
    return {name: round(count / REQUESTS, 2) for name, count in sorted(counted.items()) if count >= REQUESTS / 10}


async def _repeat(send: Callable[[], Awaitable[None]]) -> None:
    for _ in range(REQUESTS):
        await send()


def grown(recorded: dict[str, float], now: dict[str, float]) -> list[str]:
    """What is called more often than it was, most first."""
    more = {name: count - recorded.get(name, 0) for name, count in now.items()}
    return [
        f"{name}: {recorded.get(name, 0):g} -> {now[name]:g}"
        for name in sorted(more, key=lambda n: -more[n])
        if more[name] > 0.5
    ]


async def measured() -> dict[str, Cost]:
    """The cost of every request."""
    with tempfile.TemporaryDirectory() as folder:
        async with senders(Path(folder)) as ways:
            return {name: await cost(send) for name, send in ways.items()}


def main() -> None:
    """Write the record and print it."""
    costs = uvloop.run(measured())
    record = {
        "python": PYTHON,
        "requests": {
            name: {"calls": one.calls, "bytecodes": one.bytecodes, "functions": one.functions}
            for name, one in costs.items()
        },
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, one in costs.items():
        print(f"{name:20} {one.calls:7.1f} calls {one.bytecodes:8.1f} bytecodes {one.blocks:6.2f} blocks held")  # noqa: T201


if __name__ == "__main__":
    main()
