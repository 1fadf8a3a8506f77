"""Apps for tests of the real process: an HTTP app (aiohttp in a thread) and a gRPC app (grpcio with bytes).

Both answer with what they were asked, so that a test sees what crossed the instance.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from aiohttp import web

from dapr_shared._proto import common_pb, rpc_pb
from tests.support.calls import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something is so, and give what made it so."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.005)


@dataclass
class Seen:
    """One request as the app saw it."""

    method: str
    path: str
    """Raw, with its query."""
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class EchoApp:
    """What the HTTP app has seen, and the gates that tests open.

    Paths: `/status/<n>` answers that status; `/sse` sends one event each time `events` is released; `/big/<bytes>`
    streams so many; `/sink` answers with count and SHA-256 of the body; `/pipe` sends back what comes; `/hang` waits
    for `gate`; everything else echoes the request as JSON. Answers carry the headers in `answer_headers`.
    """

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    """What callers asked."""
    asked: list[Seen] = field(default_factory=list)
    """What the instance asked for itself: health, subscriptions, configuration."""
    answer_headers: list[tuple[str, str]] = field(default_factory=list)
    events: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)
    hanging: int = 0
    cancelled: int = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.raw_path, list(request.headers.items()))
        if request.path == "/healthz" or request.path.startswith("/dapr/"):
            self.asked.append(seen)
            return web.Response(status=200 if request.path == "/healthz" else 404)
        self.seen.append(seen)
        first, _, rest = request.path.lstrip("/").partition("/")
        special = getattr(self, f"_{first}", None)
        if special is not None:
            return await special(request, rest)
        seen.body = await request.read()
        return self._echo(seen, 200)

    def _echo(self, seen: Seen, status: int) -> web.Response:
        told = {
            "method": seen.method,
            "path": seen.path,
            "headers": seen.headers,
            "body": base64.b64encode(seen.body).decode(),
        }
        body = b"" if status in (204, 205, 304) else json.dumps(told).encode()
        answer = web.Response(status=status, body=body, content_type="application/json")
        for name, value in self.answer_headers:
            answer.headers.add(name, value)
        return answer

    async def _status(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        self.seen[-1].body = await request.read()
        return self._echo(self.seen[-1], int(rest))

    async def _sse(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(int(rest or 3)):
            while not self.events.acquire(blocking=False):  # noqa: ASYNC110 - opened by another thread
                await asyncio.sleep(0.005)
            await answer.write(f"data: {number}\n\n".encode())
        return answer

    async def _big(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        answer = web.StreamResponse()
        if request.headers.get("x-length"):
            answer.content_length = int(rest)
        await answer.prepare(request)
        left, piece = int(rest), bytes(65536)
        while left > 0:
            await answer.write(piece[: min(left, len(piece))])
            left -= len(piece)
        return answer

    async def _sink(self, request: web.BaseRequest, _rest: str) -> web.StreamResponse:
        size, digest = 0, hashlib.sha256()
        async for piece in request.content.iter_any():
            size += len(piece)
            digest.update(piece)
        return web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def _pipe(self, request: web.BaseRequest, _rest: str) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        async for piece in request.content.iter_any():
            await answer.write(piece)
        return answer

    async def _hang(self, request: web.BaseRequest, _rest: str) -> web.StreamResponse:
        self.hanging += 1
        try:
            while not self.gate.is_set():  # noqa: ASYNC110 - opened by another thread
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.hanging -= 1
        return web.Response(text="late")


@contextmanager
def echo_app(port: int = 0) -> Iterator[EchoApp]:
    """Run an HTTP app on loopback in a thread of its own."""
    app = EchoApp()
    started, loop = threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def main() -> None:
        server = web.Server(app, handler_cancellation=True, auto_decompress=False)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        app.port = runner.addresses[0][1]
        started.set()
        await ended.wait()
        await runner.cleanup()

    def run() -> None:
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
            started.set()

    thread = threading.Thread(target=run, name="echo app")
    thread.start()
    assert started.wait(PATIENCE)
    assert app.port, "the app did not start"
    try:
        yield app
    finally:
        app.gate.set()
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE)


SERVICE = "tests.support.Echo"
"""A service that only this app knows: `Say` (unary), `Count`, `Join`, `Chat`, `Fail`, `Who`."""


@dataclass
class GrpcEchoApp:
    """A gRPC app: `AppCallback.OnInvoke` and a service of its own, all with bytes."""

    port: int = 0
    invoked: list[tuple[common_pb.InvokeRequest, dict[str, str | bytes]]] = field(default_factory=list)
    called: list[tuple[str, dict[str, str | bytes]]] = field(default_factory=list)
    cancelled: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def on_invoke(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Methods: `fail/<code>` aborts with details; everything else echoes what it was asked, as JSON."""
        request = common_pb.InvokeRequest.FromString(data)
        metadata = dict(context.invocation_metadata())
        self.invoked.append((request, metadata))
        if request.method.startswith("fail/"):
            _abort(context, int(request.method.partition("/")[2]))
        context.set_trailing_metadata((("app-trailer", "trailer"),))
        context.send_initial_metadata((("app-header", "header"),))
        told = {
            "method": request.method,
            "verb": common_pb.HTTPExtension.Verb.Name(request.http_extension.verb),
            "query": request.http_extension.querystring,
            "body": base64.b64encode(request.data.value).decode(),
            "type": request.content_type,
            "metadata": {k: v for k, v in metadata.items() if isinstance(v, str)},
        }
        answer = common_pb.InvokeResponse(content_type="application/json")
        answer.data.value = json.dumps(told).encode()
        return answer.SerializeToString()

    def say(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        self._note("Say", context)
        context.send_initial_metadata((("app-header", "header"), ("app-bytes-bin", b"\x00\xff")))
        context.set_trailing_metadata((("app-trailer", "trailer"),))
        return data

    def count(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note("Count", context)
        for number in range(int(data)):
            yield b"%d" % number

    def join(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._note("Join", context)
        return b",".join(messages)

    def chat(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note("Chat", context)
        for message in messages:
            yield b"<" + message + b">"

    def fail(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        self._note("Fail", context)
        _abort(context, int(data))
        raise AssertionError("not reached")

    def hang(self, _data: bytes, context: grpc.ServicerContext) -> bytes:
        self._note("Hang", context)
        context.add_callback(self._ended)
        self.gate.wait(PATIENCE)
        return b""

    def who(self, _data: bytes, context: grpc.ServicerContext) -> bytes:
        self._note("Who", context)
        return json.dumps({k: v for k, v in context.invocation_metadata() if isinstance(v, str)}).encode()

    def _ended(self) -> None:
        if not self.gate.is_set():
            self.cancelled += 1

    def _note(self, name: str, context: grpc.ServicerContext) -> None:
        self.called.append((name, dict(context.invocation_metadata())))


def _abort(context: grpc.ServicerContext, code: int) -> None:
    status = rpc_pb.Status(code=code, message="as told")
    detail = status.details.add()
    detail.type_url = "type.googleapis.com/google.rpc.ErrorInfo"
    detail.value = rpc_pb.ErrorInfo(reason="AS_TOLD", domain="tests").SerializeToString()
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(next(c for c in grpc.StatusCode if c.value[0] == code), "as told")


@contextmanager
def grpc_echo_app(port: int = 0) -> Iterator[GrpcEchoApp]:
    """Run a gRPC app on loopback."""
    app = GrpcEchoApp()
    methods = {
        "Say": grpc.unary_unary_rpc_method_handler(app.say),
        "Count": grpc.unary_stream_rpc_method_handler(app.count),
        "Join": grpc.stream_unary_rpc_method_handler(app.join),
        "Chat": grpc.stream_stream_rpc_method_handler(app.chat),
        "Fail": grpc.unary_unary_rpc_method_handler(app.fail),
        "Who": grpc.unary_unary_rpc_method_handler(app.who),
        "Hang": grpc.unary_unary_rpc_method_handler(app.hang),
    }
    callback = {"OnInvoke": grpc.unary_unary_rpc_method_handler(app.on_invoke)}
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallback", callback),
                grpc.method_handlers_generic_handler(SERVICE, methods),
            )
        )
        app.port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield app
        finally:
            app.gate.set()
            server.stop(0).wait(PATIENCE)


@contextmanager
def canned_app(answer: bytes, *, port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """An app that gives these bytes to every request and closes; yields its port and the heads that it read."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.settimeout(PATIENCE)
                    head = b""
                    while b"\r\n\r\n" not in head:
                        piece = peer.recv(65536)
                        if not piece:
                            break
                        head += piece
                    else:
                        heads.append(head)
                        peer.sendall(answer)

        thread = threading.Thread(target=serve, name="canned app")
        thread.start()
        try:
            yield server.getsockname()[1], heads
        finally:
            ended.set()
            thread.join(PATIENCE)
