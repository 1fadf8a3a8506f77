"""A shared instance for the attack tests: `orders` attacks, `stock` is attacked, `audit` shows that it can be done.

What belongs to `stock` carries `PRIVATE` in its value, so that one look at an answer shows whether anything leaked.
"""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared._proto import common_pb, runtime_pb
from tests.support.apps import EchoApp, GrpcEchoApp, echo_app, grpc_echo_app
from tests.support.calls import call, grpc_channel
from tests.support.instance import Instance, app, component, free_ports, running, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PRIVATE = "property-of-stock"
KEY = "ledger"
"""The key under which `stock` keeps its value; `orders` has none of that name."""
OWN = "basket"
"""A key of `orders`."""
ENV_TOKEN = "stock-env-token-77"
FILE_TOKEN = "stock-file-token-78"
CHANNEL_TOKEN = "stock-channel-token-79"

SECRETS = {
    "open": "everybody",
    "stock-token": FILE_TOKEN,
    "stock": {"token": FILE_TOKEN, "channel": CHANNEL_TOKEN},
    "backup-of-a-token": FILE_TOKEN,
    "token-with-a-line-end": f"{FILE_TOKEN}\n",
    "hashed-token": token_of("stock"),
    "channel-copy": CHANNEL_TOKEN,
}
ENVIRONMENT = {
    "STOCK_ENV_TOKEN": ENV_TOKEN,
    "STOCK_TOKEN_COPY": ENV_TOKEN,
    "OPEN": "everybody",
    "APP_API_TOKEN": PRIVATE,
}
STORES = ("vault", "dotted", "several", "env", "prefixed")
"""The secret stores that are open to `orders`."""


@dataclass
class Attacked:
    """The instance, its apps and where they listen."""

    instance: Instance
    orders: EchoApp
    stock: EchoApp
    remote: GrpcEchoApp
    orders_http: str
    orders_grpc: str
    orders_socket: str
    stock_http: str
    stock_grpc: str
    stock_socket: str

    def save(self, app_id: str, key: str, value: str, store: str = "statestore") -> None:
        """Save one value as an app."""
        body = json.dumps([{"key": key, "value": value}]).encode()
        assert self.instance.ask("POST", f"/v1.0/state/{store}", body, app=app_id).status == 204

    def stock_is_untouched(self) -> None:
        """Hold that `stock` still has its value and no other."""
        answer = self.instance.ask("GET", f"/v1.0/state/statestore/{KEY}", app="stock")
        assert (answer.status, answer.json()) == (200, PRIVATE)

    def etag_of_stock(self) -> str:
        """The etag of the value of `stock`."""
        return self.instance.ask("GET", f"/v1.0/state/statestore/{KEY}", app="stock").header("etag") or ""


def _resources(folder: Path, orders: int, stock: int, remote: int, ports: list[int]) -> list[dict]:
    (folder / "secrets.json").write_text(json.dumps(SECRETS))
    (folder / "private.json").write_text(json.dumps({"private": PRIVATE}))
    scopes = [{"storeName": store, "defaultAccess": "allow"} for store in STORES]
    file = str(folder / "secrets.json")
    policy = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "guarded"},
        "spec": {
            "accessControl": {
                "defaultAction": "deny",
                "trustDomain": "public",
                "policies": [
                    {
                        "appId": "orders",
                        "defaultAction": "deny",
                        "trustDomain": "public",
                        "namespace": "default",
                        "operations": [{"name": "/open", "httpVerb": ["GET", "POST"], "action": "allow"}],
                    },
                    {"appId": "audit", "defaultAction": "allow", "trustDomain": "public", "namespace": "default"},
                ],
            }
        },
    }
    return [
        app(
            "orders",
            orders,
            secrets={"scopes": scopes},
            listeners={"httpPort": ports[0], "grpcPort": ports[1], "unixSocket": str(folder / "orders.sock")},
        ),
        {
            **app(
                "stock",
                stock,
                tokens=[
                    {"sha256": app("stock")["spec"]["tokens"][0]["sha256"]},
                    {"envRef": "STOCK_ENV_TOKEN"},
                    {"secretKeyRef": {"name": "stock:token", "key": "stock:token"}},
                ],
                channel={"apiToken": {"secretKeyRef": {"name": "stock:channel", "key": "stock:channel"}}},
                listeners={"httpPort": ports[2], "grpcPort": ports[3], "unixSocket": str(folder / "stock.sock")},
                secrets={"scopes": [{"storeName": "private", "defaultAccess": "allow"}]},
            ),
            "auth": {"secretStore": "vault"},
        },
        app("guarded", stock, configuration="guarded"),
        app("audit", orders),
        app("remote", remote, protocol="grpc"),
        app("abroad", stock, namespace="other"),
        policy,
        component("statestore", "state.in-memory"),
        component("stockonly", "state.in-memory", scopes=["stock"]),
        component("vault", "secretstores.local.file", secretsFile=file),
        component("dotted", "secretstores.local.file", secretsFile=file, nestedSeparator="."),
        component("several", "secretstores.local.file", secretsFile=file, multiValued="true"),
        component("env", "secretstores.local.env"),
        component("prefixed", "secretstores.local.env", prefix="STOCK_"),
        component("closed", "secretstores.local.file", secretsFile=file),
        component("private", "secretstores.local.file", secretsFile=str(folder / "private.json"), scopes=["stock"]),
    ]


@contextmanager
def attacked(folder: Path, engine: str = "http2", *flags: str, extra: Sequence[dict] = ()) -> Iterator[Attacked]:
    """Run the instance with its apps, and with `extra` resources."""
    with ExitStack() as stack:
        orders, stock = stack.enter_context(echo_app()), stack.enter_context(echo_app())
        remote = stack.enter_context(grpc_echo_app())
        ports = free_ports(4)
        resources = _resources(folder, orders.port, stock.port, remote.port, ports)
        instance = stack.enter_context(
            running(folder, f"--grpc-engine={engine}", *flags, resources=[*resources, *extra], env=ENVIRONMENT)
        )
        made = Attacked(
            instance, orders, stock, remote,
            orders_http=f"127.0.0.1:{ports[0]}",
            orders_grpc=f"127.0.0.1:{ports[1]}",
            orders_socket=f"unix:{folder / 'orders.sock'}",
            stock_http=f"127.0.0.1:{ports[2]}",
            stock_grpc=f"127.0.0.1:{ports[3]}",
            stock_socket=f"unix:{folder / 'stock.sock'}",
        )  # fmt: skip
        made.save("stock", KEY, PRIVATE)
        made.save("stock", KEY, PRIVATE, "stockonly")
        made.save("orders", OWN, "own")
        assert instance.ask("PUT", "/v1.0/metadata/note", PRIVATE.encode(), app="stock").status == 204
        yield made


def secrets_in(data: bytes | str) -> list[str]:
    """Which of the things of `stock` are in an answer, also as base64."""
    text = data if isinstance(data, str) else data.decode("latin-1")
    things = (PRIVATE, ENV_TOKEN, FILE_TOKEN, CHANNEL_TOKEN, token_of("stock"))
    return [thing for thing in things if thing in text or base64.b64encode(thing.encode()).decode() in text]


def state_request(key: str = KEY, store: str = "statestore") -> runtime_pb.GetStateRequest:
    """A GetState."""
    return runtime_pb.GetStateRequest(store_name=store, key=key)


def item(key: str, value: bytes = b'"taken"', etag: str = "") -> common_pb.StateItem:
    """One state item."""
    made = common_pb.StateItem(key=key, value=value)
    if etag:
        made.etag.value = etag
    return made


def read_as(address: str, app_id: str) -> bytes:
    """The value of `stock`'s key name as an app reads it over gRPC."""
    with grpc_channel(address) as channel:
        answer = call(channel, "GetState", state_request(), [("dapr-api-token", token_of(app_id))])
        return runtime_pb.GetStateResponse.FromString(answer.data).data
