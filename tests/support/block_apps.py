"""Apps and streams for tests of bindings and configuration over the real process."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import apsw
import grpc

from dapr_shared._proto import appcallback_pb, runtime_pb
from tests.support.calls import DAPR, PATIENCE
from tests.support.component_setups import write_sqlite_item
from tests.support.instance import token_of
from tests.support.topic_apps import _Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dapr_shared.contracts.configuration import ConfigurationItem

__all__ = ["BindingApp", "ConfigurationStream", "GrpcBindingApp", "binding_app", "grpc_binding_app", "write_item"]


def write_item(file: Path, key: str, item: ConfigurationItem | None) -> None:
    """Set or remove an item of a `configuration.sqlite` file, as an operator does."""
    try:
        write_sqlite_item(file, key, item)
    except apsw.Error as error:
        raise AssertionError(f"{file}: {error}") from error


@dataclass
class BindingApp:
    """An HTTP app: answers OPTIONS by `wants`, keeps what is POSTed."""

    wants: dict[str, int] = field(default_factory=dict)
    """Status of OPTIONS by path; others answer 404."""
    status: Callable[[str], int] = lambda _path: 200
    """Status of a POST."""
    answer: bytes = b""
    """Body of the answer to a POST."""
    port: int = 0
    asked: list[str] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self, path: str) -> list[Any]:
        """The JSON bodies that came to a path."""
        return [json.loads(body) for where, _, body in list(self.got) if where == path]


def _handler(app: BindingApp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(404)

        def do_OPTIONS(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            app.asked.append(self.path)
            self._send(app.wants.get(self.path, 404))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            app.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self._send(app.status(self.path), app.answer)

        def _send(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Say nothing of single requests."""

    return Handler


@contextmanager
def binding_app(app: BindingApp, port: int = 0) -> Iterator[BindingApp]:
    """Serve the app on loopback; at the end its port is closed and its connections are cut."""
    server = _Server(("127.0.0.1", port), _handler(app))
    app.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="binding app")
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        server.server_close()
        server.cut()
        thread.join(PATIENCE)


@dataclass
class GrpcBindingApp:
    """A gRPC app that wants these bindings and answers each event with `reply`."""

    wants: Sequence[str] = ()
    reply: Callable[[Any], Any] = lambda _event: appcallback_pb.BindingEventResponse()
    port: int = 0
    got: list[Any] = field(default_factory=list)

    def _list(self, _data: bytes, _context: Any) -> bytes:
        return appcallback_pb.ListInputBindingsResponse(bindings=list(self.wants)).SerializeToString()

    def _event(self, data: bytes, _context: Any) -> bytes:
        event = appcallback_pb.BindingEventRequest.FromString(data)
        self.got.append(event)
        return self.reply(event).SerializeToString()


@contextmanager
def grpc_binding_app(app: GrpcBindingApp, port: int = 0) -> Iterator[GrpcBindingApp]:
    """Serve the app on loopback."""
    methods = {
        "ListInputBindings": grpc.unary_unary_rpc_method_handler(app._list),
        "OnBindingEvent": grpc.unary_unary_rpc_method_handler(app._event),
    }
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("dapr.proto.runtime.v1.AppCallback", methods),)
        )
        app.port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield app
        finally:
            server.stop(0).wait(PATIENCE)


class ConfigurationStream:
    """One SubscribeConfiguration call; keeps what comes."""

    def __init__(self, channel: grpc.Channel, app_id: str, store: str, *keys: str) -> None:
        self.id = ""
        self.got: list[Any] = []
        self.error: grpc.RpcError | None = None
        self.started = threading.Event()
        self.ended = threading.Event()
        request = runtime_pb.SubscribeConfigurationRequest(store_name=store, keys=keys)
        method = channel.unary_stream(DAPR + "SubscribeConfiguration")
        self._call = method(request.SerializeToString(), metadata=(("dapr-api-token", token_of(app_id)),))
        self._thread = threading.Thread(target=self._read, name="configuration stream")
        self._thread.start()

    def _read(self) -> None:
        try:
            for data in self._call:
                response = runtime_pb.SubscribeConfigurationResponse.FromString(data)
                if not self.id:
                    self.id = response.id
                    assert not response.items
                    self.started.set()
                    continue
                assert response.id == self.id
                self.got.append({key: item.value for key, item in response.items.items()})
        except grpc.RpcError as error:
            self.error = error
        finally:
            self.started.set()
            self.ended.set()

    def values(self, key: str) -> list[str]:
        """What the key was told to be, in order."""
        return [items[key] for items in list(self.got) if key in items]

    def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._thread.join(PATIENCE)
