"""What is measured: one row a scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from benchmarks.apps import BODY, METHOD, STREAM
from benchmarks.deployments import CALLER, GRPC_APP, HTTP_APP, KEY, KEYS, SECRET, SERVED, STORES, VALUE, save_body

_SERVICE = "/dapr.proto.runtime.v1.Dapr"


@dataclass(frozen=True)
class Scenario:
    """One request that is sent again and again."""

    name: str
    path: str
    apps: tuple[str, ...] = (CALLER,)
    """The apps that take part: their sidecars' processor time counts."""
    goal: float = 0.0
    """The ratio to daprd's processor time that is aimed at; 0: none."""
    grpc: bool = False
    method: str = "GET"
    body: bytes | None = None
    """HTTP: the body; gRPC: the message."""
    headers: tuple[str, ...] = ()
    peer_headers: tuple[str, ...] = ()
    """Sent to the peer only."""
    answer_bytes: int = 0
    """gRPC: the least length of an answer that is no error."""
    messages: int = 1
    """gRPC: how often the message is sent in one call, and at least answered."""
    connections: int = 0
    """With one request (gRPC: call) in flight on each; 0: as many as usual."""
    compared: bool = True
    """Whether a daprd has what it needs."""
    server: str = ""
    """The server that it needs, `redis` or `postgresql`; empty: none."""


FOOTPRINT = "footprint"
"""The scenario without requests: memory, start and idle processor time."""

LARGE, LARGEST = 64 * 1024, 3 * 1024 * 1024
"""Bytes of a body that is kept for a retry, and of one that is streamed."""
STREAMED = 10
"""Messages of one streaming call."""

BROKERS = ("memory", "sqlite", "redis")
EVENT = b'{"order":"eighteen letters..","amount":2}'
"""What is published, to a topic that nobody subscribes to."""

_GOALS = {
    "http-state-get": 0.7,
    "http-state-get-postgresql": 0.0,
    "http-state-save-memory": 0.8,
    "http-state-save-sqlite": 0.4,
    "http-state-save-redis": 0.7,
    "http-publish-memory": 0.7,
    "http-publish-redis": 0.7,
    "grpc-state-get-memory": 1.3,
    "grpc-state-get-sqlite": 1.1,
    "grpc-state-get-redis": 1.1,
}


def _goal(name: str, store: str) -> float:
    return _GOALS.get(f"{name}-{store}", _GOALS.get(name, 0.0))


@cache
def scenarios() -> dict[str, Scenario]:
    """All scenarios with requests by name, in the order in which they run."""
    rows = [
        Scenario(
            "http-invoke", f"/v1.0/invoke/{HTTP_APP}/method/hello", (CALLER, HTTP_APP), 0.15, method="POST", body=BODY
        )
    ]
    rows += [
        Scenario(
            f"http-state-get-{store}",
            f"/v1.0/state/{store}/{KEY}",
            goal=_goal("http-state-get", store),
            server=SERVED.get(store, ""),
        )
        for store in STORES
    ]
    rows += [
        Scenario(
            f"http-state-save-{store}",
            f"/v1.0/state/{store}",
            goal=_goal("http-state-save", store),
            method="POST",
            body=save_body(),
            server=SERVED.get(store, ""),
        )
        for store in STORES
    ]
    rows += [
        Scenario(
            f"http-publish-{broker}",
            f"/v1.0/publish/bus-{broker}/quiet",
            goal=_goal("http-publish", broker),
            method="POST",
            body=EVENT,
            compared=broker != "sqlite",
            server=SERVED.get(broker, ""),
        )
        for broker in BROKERS
    ]
    rows += _more_http_rows()
    rows += _grpc_rows()
    by_name = {row.name: row for row in rows}
    alone = ("http-invoke", "http-state-get-memory", "grpc-state-get-memory", "grpc-invoke-service")
    for name in alone:
        by_name[f"{name}-1"] = replace(by_name[name], name=f"{name}-1", goal=0.0, connections=1)
    return by_name


def _more_http_rows() -> list[Scenario]:
    """Larger bodies, requests of several items, secrets."""
    invoke = f"/v1.0/invoke/{HTTP_APP}/method/hello"
    save = b'{"operation":"upsert","request":{"key":"other","value":' + VALUE + b"}}"
    delete = b'{"operation":"delete","request":{"key":"gone"}}'
    transaction = b'{"operations":[' + b",".join([save, save, delete]) + b"]}"
    keys = ",".join(f'"{key}"' for key in KEYS).encode()
    rows = [
        Scenario("http-invoke-64k", invoke, (CALLER, HTTP_APP), method="POST", body=b"x" * LARGE),
        Scenario("http-invoke-3m", invoke, (CALLER, HTTP_APP), method="POST", body=b"x" * LARGEST, connections=4),
        Scenario("http-secret", f"/v1.0/secrets/vault/{SECRET}"),
    ]
    requests = (("transaction", transaction), ("bulk", b'{"keys":[' + keys + b"]}"))
    rows += [
        Scenario(
            f"http-state-{what}-{store}",
            f"/v1.0/state/{store}/{what}",
            method="POST",
            body=body,
            server=SERVED.get(store, ""),
        )
        for store in STORES
        for what, body in requests
    ]
    return rows


def _grpc_rows() -> list[Scenario]:
    # Imported here: naming the scenarios (`--help`) needs no protobuf.
    from dapr_shared._proto import common_pb, runtime_pb  # noqa: PLC0415

    rows = [
        Scenario(
            f"grpc-state-get-{store}",
            f"{_SERVICE}/GetState",
            goal=_goal("grpc-state-get", store),
            grpc=True,
            body=runtime_pb.GetStateRequest(store_name=store, key=KEY).SerializeToString(),
            answer_bytes=len(VALUE),
            server=SERVED.get(store, ""),
        )
        for store in STORES
    ]
    item = common_pb.StateItem(key=KEY, value=VALUE)
    rows += [
        Scenario(
            f"grpc-state-save-{store}",
            f"{_SERVICE}/SaveState",
            grpc=True,
            body=runtime_pb.SaveStateRequest(store_name=store, states=[item]).SerializeToString(),
            server=SERVED.get(store, ""),
        )
        for store in STORES
    ]
    rows += [
        Scenario(
            f"grpc-publish-{broker}",
            f"{_SERVICE}/PublishEvent",
            grpc=True,
            body=runtime_pb.PublishEventRequest(
                pubsub_name=f"bus-{broker}", topic="quiet", data=EVENT, data_content_type="application/json"
            ).SerializeToString(),
            compared=broker != "sqlite",
            server=SERVED.get(broker, ""),
        )
        for broker in BROKERS
    ]
    invoke = runtime_pb.InvokeServiceRequest(id=HTTP_APP)
    invoke.message.method = "hello"
    invoke.message.data.value = BODY
    invoke.message.content_type = "text/plain"
    invoke.message.http_extension.verb = common_pb.HTTPExtension.POST
    rows.append(
        Scenario(
            "grpc-invoke-service",
            f"{_SERVICE}/InvokeService",
            (CALLER, HTTP_APP),
            0.5,
            grpc=True,
            body=invoke.SerializeToString(),
            # No gRPC client sends a length, but h2load does, its own, and daprd hands it on to the HTTP app with the
            # shorter body, which fails: this header takes its place.
            peer_headers=(f"content-length: {len(BODY)}",),
            answer_bytes=len(BODY),
        )
    )
    rows.append(
        Scenario(
            "grpc-proxy-unary",
            METHOD,
            (CALLER, GRPC_APP),
            0.6,
            grpc=True,
            body=BODY,
            headers=(f"dapr-app-id: {GRPC_APP}",),
            answer_bytes=len(BODY),
        )
    )
    rows.append(
        Scenario(
            "grpc-proxy-stream",
            STREAM,
            (CALLER, GRPC_APP),
            grpc=True,
            body=BODY,
            headers=(f"dapr-app-id: {GRPC_APP}",),
            answer_bytes=len(BODY),
            messages=STREAMED,
        )
    )
    return rows
