"""Subscribers for tests of the real process: an HTTP app, a gRPC app, and streams."""

from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc

from dapr_shared._proto import appcallback_pb, runtime_pb
from tests.support.calls import DAPR, PATIENCE, grpc_channel
from tests.support.instance import token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def route(topic: str, path: str = "", *, pubsub: str = "pubsub", **more: Any) -> dict[str, Any]:
    """An entry of `/dapr/subscribe`."""
    return {"pubsubname": pubsub, "topic": topic, "route": path or f"/{topic}", **more}


@dataclass
class TopicApp:
    """An HTTP app that subscribes and keeps what it gets; `reply` answers an event, or `gate` holds it up.

    A reply of bytes goes over the wire as it is, then the connection is closed.
    """

    wants: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    asked: int = 0
    got: list[tuple[str, Any]] = field(default_factory=list)
    """(path, body as JSON), when the request came."""
    reply: Callable[[str, Any], tuple[int, Any] | bytes] = lambda _path, _event: (200, {"status": "SUCCESS"})
    gate: threading.Event = field(default_factory=threading.Event)
    healthy: bool = True
    """What `/healthz` says."""

    def __post_init__(self) -> None:
        self.gate.set()

    def data(self, path: str = "") -> list[Any]:
        """The payloads that came, in order; of one path."""
        return [event["data"] for where, event in list(self.got) if not path or where == path]


def _handler(app: TopicApp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path == "/dapr/subscribe":
                app.asked += 1
                self._send(200, app.wants)
            elif self.path == "/healthz":
                self._send(200 if app.healthy else 500, {})
            else:
                self._send(404, {})

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["content-length"])))
            app.got.append((self.path, event))
            app.gate.wait(PATIENCE)
            reply = app.reply(self.path, event)
            if isinstance(reply, bytes):
                self.wfile.write(reply)
                self.close_connection = True
            else:
                self._send(*reply)

        def _send(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Say nothing of single requests."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *words: Any) -> None:
        self.peers: set[Any] = set()
        super().__init__(*words)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.peers.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.peers.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went is no news."""

    def cut(self) -> None:
        """End every connection, as a killed process does."""
        for peer in list(self.peers):
            try:
                peer.shutdown(2)
            except OSError:
                continue


@contextmanager
def topic_app(app: TopicApp, port: int = 0) -> Iterator[TopicApp]:
    """Serve the app on loopback; at the end its port is closed and its connections are cut."""
    server = _Server(("127.0.0.1", port), _handler(app))
    app.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="topic app")
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        server.server_close()
        server.cut()
        app.gate.set()
        thread.join(PATIENCE)


@dataclass
class GrpcTopicApp:
    """A gRPC app that subscribes and keeps what it gets."""

    wants: Sequence[tuple[str, str]] = ()
    """(topic, path)"""
    port: int = 0
    got: list[Any] = field(default_factory=list)
    status: int = 0
    healthy: bool = True
    """What HealthCheck says."""
    reply: Callable[[Any], bytes | None] = lambda _event: None
    """Answers an event with these bytes; `None`: with `status`."""

    def _list(self, _data: bytes, _context: Any) -> bytes:
        made = appcallback_pb.ListTopicSubscriptionsResponse()
        for topic, path in self.wants:
            made.subscriptions.add(pubsub_name="pubsub", topic=topic).routes.default = path
        return made.SerializeToString()

    def _health(self, _data: bytes, context: Any) -> bytes:
        if not self.healthy:
            context.abort(grpc.StatusCode.INTERNAL, "not well")
        return b""

    def _event(self, data: bytes, _context: Any) -> bytes:
        event = appcallback_pb.TopicEventRequest.FromString(data)
        self.got.append(event)
        answer = self.reply(event)
        return (
            answer if answer is not None else appcallback_pb.TopicEventResponse(status=self.status).SerializeToString()
        )


@contextmanager
def grpc_topic_app(app: GrpcTopicApp, port: int = 0) -> Iterator[GrpcTopicApp]:
    """Serve the app on loopback."""
    methods = {
        "ListTopicSubscriptions": grpc.unary_unary_rpc_method_handler(app._list),
        "OnTopicEvent": grpc.unary_unary_rpc_method_handler(app._event),
    }
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        health = {"HealthCheck": grpc.unary_unary_rpc_method_handler(app._health)}
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallback", methods),
                grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallbackHealthCheck", health),
            )
        )
        app.port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield app
        finally:
            server.stop(0).wait(PATIENCE)


class Stream:
    """One streaming subscription; it answers every event with `status`, or not at all with `None`."""

    def __init__(self, channel: grpc.Channel, app_id: str, topic: str, status: int | None, pubsub: str) -> None:
        self.got: list[Any] = []
        self.error: grpc.RpcError | None = None
        self.started = threading.Event()
        self.status = status
        self._out: queue.Queue[bytes | None] = queue.Queue()
        first = runtime_pb.SubscribeTopicEventsRequestAlpha1()
        first.initial_request.pubsub_name, first.initial_request.topic = pubsub, topic
        self._out.put(first.SerializeToString())
        method = channel.stream_stream(DAPR + "SubscribeTopicEventsAlpha1")
        self._call = method(iter(self._out.get, None), metadata=(("dapr-api-token", token_of(app_id)),))
        self._thread = threading.Thread(target=self._read, name="stream")
        self._thread.start()

    def _read(self) -> None:
        try:
            for data in self._call:
                response = runtime_pb.SubscribeTopicEventsResponseAlpha1.FromString(data)
                if response.HasField("initial_response"):
                    self.started.set()
                    continue
                self.got.append(response.event_message)
                if self.status is not None:
                    self.reply(response.event_message.id, self.status)
        except grpc.RpcError as error:
            self.error = error

    def reply(self, event_id: str, status: int = 0) -> None:
        """Answer an event."""
        reply = runtime_pb.SubscribeTopicEventsRequestAlpha1()
        reply.event_processed.id = event_id
        reply.event_processed.status.status = status
        self._out.put(reply.SerializeToString())

    def data(self) -> list[Any]:
        """The payloads that came, as JSON."""
        return [json.loads(event.data) for event in list(self.got)]

    def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._out.put(None)
        self._thread.join(PATIENCE)


@contextmanager
def stream(
    address: str, app_id: str, topic: str, *, status: int | None = 0, pubsub: str = "pubsub", wait: bool = True
) -> Iterator[Stream]:
    """Subscribe over a stream of its own."""
    with grpc_channel(address) as channel:
        made = Stream(channel, app_id, topic, status, pubsub)
        try:
            if wait:
                assert made.started.wait(PATIENCE), made.error
            yield made
        finally:
            made.close()
