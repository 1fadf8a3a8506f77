"""Spans beside a real daprd: the same requests to both, their spans at a collector each, side by side. Needs DAPRD."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import common_pb, runtime_pb
from tests.support.calls import DAPR, PATIENCE, ask, grpc_channel
from tests.support.collector import collector
from tests.support.daprd import daprd, daprd_path
from tests.support.instance import app, component, free_ports, running, token_of, write_resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.collector import Collector


class _App(BaseHTTPRequestHandler):
    """An app that subscribes to `teas`, and answers what it is asked; `/refuse` with 409."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = [{"pubsubname": "broker", "topic": "teas", "route": "/teas"}]
        self._send(200 if self.path != "/dapr/config" else 404, wanted if self.path == "/dapr/subscribe" else {})

    def do_OPTIONS(self) -> None:
        self._send(404, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._send(409 if self.path == "/refuse" else 200, {})

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing of single requests."""


@contextmanager
def served_app() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _App)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


HTTP_CALLS: dict[str, tuple[str, str, Any]] = {
    "save": ("POST", "/v1.0/state/store", [{"key": "a", "value": 1}]),
    "get": ("GET", "/v1.0/state/store/a?metadata.x=y", None),
    "get nothing": ("GET", "/v1.0/state/store/none", None),
    "get no store": ("GET", "/v1.0/state/nostore/a", None),
    "bulk get": ("POST", "/v1.0/state/store/bulk", {"keys": ["a"]}),
    "delete": ("DELETE", "/v1.0/state/store/b", None),
    "transaction": ("POST", "/v1.0/state/store/transaction", {"operations": [{"operation": "upsert", "request": {"key": "c", "value": 2}}]}),
    "publish": ("POST", "/v1.0/publish/broker/teas", {"tea": "green"}),
    "publish no broker": ("POST", "/v1.0/publish/nobroker/teas", {}),
    "bulk publish": ("POST", "/v1.0-alpha1/publish/bulk/broker/teas", [{"entryId": "1", "event": "x", "contentType": "text/plain"}, {"entryId": "2", "event": "y", "contentType": "text/plain"}]),
    "invoke another": ("POST", "/v1.0/invoke/stock/method/a/b", {}),
    "invoke another, refused": ("POST", "/v1.0/invoke/stock/method/refuse", {}),
    "invoke": ("POST", "/v1.0/invoke/orders/method/a/b?c=d", {}),
    "invoke refused": ("POST", "/v1.0/invoke/orders/method/refuse", {}),
    "secret": ("GET", "/v1.0/secrets/vault/tea", None),
    "secrets": ("GET", "/v1.0/secrets/vault/bulk", None),
    "no secret": ("GET", "/v1.0/secrets/vault/none", None),
    "binding": ("POST", "/v1.0/bindings/files", {"operation": "create", "data": "x", "metadata": {"fileName": "a.txt"}}),
    "no binding": ("POST", "/v1.0/bindings/none", {"operation": "create"}),
    "metadata": ("GET", "/v1.0/metadata", None),
    "health": ("GET", "/v1.0/healthz", None),
    "configuration": ("GET", "/v1.0/configuration/none?key=a", None),
    "lock": ("POST", "/v1.0-alpha1/lock/none", {"resourceId": "a", "lockOwner": "b", "expiryInSeconds": 5}),
    "no route": ("GET", "/v1.0/nothing", None),
}  # fmt: skip


def _invoke(method: str, app: str = "orders") -> Any:
    request = runtime_pb.InvokeServiceRequest(id=app)
    request.message.method = method
    request.message.http_extension.verb = common_pb.HTTPExtension.POST
    request.message.content_type = "application/json"
    request.message.data.value = b"{}"
    return request


def _saved(key: str) -> Any:
    request = runtime_pb.SaveStateRequest(store_name="store")
    request.states.add(key=key, value=b"1")
    return request


def _transaction() -> Any:
    request = runtime_pb.ExecuteStateTransactionRequest(storeName="store")
    operation = request.operations.add(operationType="upsert")
    operation.request.key, operation.request.value = "x", b"1"
    return request


GRPC_CALLS: dict[str, tuple[str, Any]] = {
    "save": ("SaveState", _saved("g")),
    "get": ("GetState", runtime_pb.GetStateRequest(store_name="store", key="g")),
    "get no store": ("GetState", runtime_pb.GetStateRequest(store_name="nostore", key="g")),
    "bulk get": ("GetBulkState", runtime_pb.GetBulkStateRequest(store_name="store", keys=["g"])),
    "delete": ("DeleteState", runtime_pb.DeleteStateRequest(store_name="store", key="h")),
    "transaction": ("ExecuteStateTransaction", _transaction()),
    "publish": ("PublishEvent", runtime_pb.PublishEventRequest(pubsub_name="broker", topic="teas", data=b"{}", data_content_type="application/json")),
    "publish no broker": ("PublishEvent", runtime_pb.PublishEventRequest(pubsub_name="nobroker", topic="teas", data=b"{}")),
    "invoke": ("InvokeService", _invoke("a/b")),
    "invoke refused": ("InvokeService", _invoke("refuse")),
    "invoke another": ("InvokeService", _invoke("a/b", "stock")),
    "bulk publish": ("BulkPublishEventAlpha1", runtime_pb.BulkPublishRequest(pubsub_name="broker", topic="teas", entries=[{"entry_id": "1", "event": b"x", "content_type": "text/plain"}])),
    "secret": ("GetSecret", runtime_pb.GetSecretRequest(store_name="vault", key="tea")),
    "secrets": ("GetBulkSecret", runtime_pb.GetBulkSecretRequest(store_name="vault")),
    "no secret": ("GetSecret", runtime_pb.GetSecretRequest(store_name="novault", key="tea")),
    "binding": ("InvokeBinding", runtime_pb.InvokeBindingRequest(name="files", operation="create", data=b"x", metadata={"fileName": "b.txt"})),
    "no binding": ("InvokeBinding", runtime_pb.InvokeBindingRequest(name="none", operation="create")),
    "metadata": ("GetMetadata", runtime_pb.GetMetadataRequest()),
}  # fmt: skip


def trace_of(number: int) -> str:
    return f"{number + 1:032x}"


PARENT = "00f067aa0ba902b7"


def headers(number: int, token: str = "") -> list[tuple[str, str]]:
    made = [("traceparent", f"00-{trace_of(number)}-{PARENT}-01"), ("dapr-color", "green")]
    return [*made, ("dapr-api-token", token)] if token else made


def all_called(http: str, grpc_address: str, token: str = "") -> None:
    """Each call in a trace of its own."""
    for number, (method, target, body) in enumerate(HTTP_CALLS.values()):
        data = None if body is None else json.dumps(body).encode()
        given = [*headers(number, token), *([("content-type", "application/json")] if data else [])]
        ask(http, method, target, data, headers=given)
    with grpc_channel(grpc_address) as channel:
        for number, (method, request) in enumerate(GRPC_CALLS.values(), len(HTTP_CALLS)):
            call = channel.unary_unary(DAPR + method)
            with suppress(grpc.RpcError):
                call(request.SerializeToString(), metadata=headers(number, token), timeout=PATIENCE)


NAMES = [f"http {name}" for name in HTTP_CALLS] + [f"grpc {name}" for name in GRPC_CALLS]
QUEUED = 5.0
"""Seconds after which daprd's exporter sends what it has; nothing tells that it is done."""


@dataclass
class Both:
    """What both have sent, by trace."""

    ours: dict[str, list[dict[str, Any]]]
    daprd: dict[str, list[dict[str, Any]]]
    addresses: tuple[str, ...]
    """Of daprd's own listeners."""


def _by_trace(spans: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {NAMES[n]: [span for span in spans if span["trace_id"] == trace_of(n)] for n in range(len(NAMES))}


def _configuration(name: str, port: int, **more: Any) -> dict[str, Any]:
    otel = {"endpointAddress": f"127.0.0.1:{port}", "protocol": "http", "isSecure": False}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": name},
        "spec": {
            "tracing": {"samplingRate": "1", "otel": otel},
            **more,
        },
    }


def _last_came(got: Collector) -> None:
    """Wait for the last call's span, and for the delivery of each message that was published."""
    got.wait_for(trace_id=trace_of(len(NAMES) - 1))
    got.wait_for(5, name="pubsub/teas")


def _ours(folder: Path, components: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grpc_port, http_port = free_ports(2)
    with (
        collector(folder / "collector", ports=(grpc_port, http_port)) as got,
        served_app() as port,
        served_app() as stock,
    ):
        apps = [
            app(
                "orders",
                port,
                configuration="c",
                secrets={"scopes": [{"storeName": "vault", "defaultAccess": "allow"}]},
            ),
            app("stock", stock, configuration="c"),
        ]
        with running(
            folder / "i", resources=[*apps, _configuration("c", http_port), *components], entry="daprd"
        ) as instance:
            instance.wait_for_line("subscription started", app_id="orders")
            all_called(instance.http, instance.grpc, token_of("orders"))
            _last_came(got)
            assert instance.stop() == 0  # and with it, what is queued is sent
        return _by_trace(got.spans())


def _daprd(folder: Path, components: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], tuple[str, ...]]:
    grpc_port, http_port = free_ports(2)
    resources = folder / "resources"
    resources.mkdir(parents=True)
    write_resources(resources / "all.yaml", components)
    names = {"component": "sqlite", "version": "v1", "configuration": {"connectionString": str(folder / "names.db")}}
    config = folder / "config.yaml"
    config.write_text(json.dumps(_configuration("c", http_port, nameResolution=names)))
    env = {"DAPR_HOST_IP": "127.0.0.1"}
    with ExitStack() as stack:
        got = stack.enter_context(collector(folder / "collector", ports=(grpc_port, http_port)))
        for name in ("stock", "orders"):
            flags = [f"--config={config}", f"--app-port={stack.enter_context(served_app())}"]
            real = stack.enter_context(daprd(folder / name, resources, name, *flags, env=env))
        all_called(real.http, real.grpc)
        _last_came(got)
        time.sleep(QUEUED + 0.5)
        return _by_trace(got.spans()), (real.http, real.grpc)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The spans of all calls, of an instance with two apps and of two daprds."""
    daprd_path()
    folder = tmp_path_factory.mktemp("spans")
    (folder / "secrets.json").write_text('{"tea": "green"}')
    (folder / "files").mkdir()
    components = [
        component("store", "state.in-memory"),
        component("broker", "pubsub.in-memory", scopes=["orders"]),
        component("vault", "secretstores.local.file", secretsFile=str(folder / "secrets.json")),
        component("files", "bindings.localstorage", rootPath=str(folder / "files")),
    ]
    ours = _ours(folder / "ours", components)
    return Both(ours, *_daprd(folder / "daprd", components))


def shape(spans: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What can be compared: no ids, but whose child each span is; no `server.port`, whose value is another each time."""
    names = {span["span_id"]: span["name"] + " " + span["kind"] for span in spans} | {PARENT: "(the request)"}
    made = []
    for span in spans:
        attributes = {name: value for name, value in span["attributes"].items() if name != "server.port"}
        parent = names.get(span["parent_id"], "(not there)")
        made.append((span["name"], span["kind"], span["service"], parent, span["status"], sorted(attributes.items())))
    return sorted(made)


def expected(name: str, spans: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What daprd has, with the one attribute that it forgets over HTTP: where a message was published to."""
    if name.startswith("http") and "publish" in name:
        for span in spans:
            if span["attributes"].get("messaging.system"):
                span["attributes"]["messaging.destination.name"] = "teas"
    return shape(spans)


@pytest.mark.parametrize("name", NAMES)
def test_spans_are_daprs(both, name):
    """Each call has the spans that daprd makes: names, kinds, services, attributes, status, and whose child each is."""
    assert shape(both.ours[name]) == expected(name, both.daprd[name])


def test_what_is_compared(both):
    """Health has no span, everything else has one; a delivery, an event of a bulk publish and a callee have theirs."""
    assert [name for name in NAMES if not both.daprd[name]] == ["http health"]
    kinds = {name: sorted(span["kind"] for span in spans) for name, spans in both.daprd.items()}
    assert kinds["http publish"] == ["client", "client"]
    assert kinds["http bulk publish"] == ["client", "client", "client", "producer", "producer"]
    assert kinds["grpc invoke another"] == ["client", "server"]


def test_why_there_is_no_server_port(both):
    """What daprd calls `server.port` is the port of its client's connection, another at each call, and never its own."""
    told = [
        span["attributes"]["server.port"]
        for spans in both.daprd.values()
        for span in spans
        if "server.port" in span["attributes"]
    ]
    own = {address.rpartition(":")[2] for address in both.addresses}
    assert len(told) == len(HTTP_CALLS) - 1
    assert len(set(told)) > 1
    assert not own & set(told)
    assert not [span for spans in both.ours.values() for span in spans if "server.port" in span["attributes"]]


def test_words_of_errors(both):
    """Over HTTP the status' words are daprd's; over gRPC the code stands in place of a message that may quote a caller."""
    for name in NAMES:
        ours, theirs = (
            [span["message"] for span in of[name] if span["status"] == "error"] for of in (both.ours, both.daprd)
        )
        assert ours == theirs or all(word.replace("_", "").isupper() for word in ours), (name, ours, theirs)
