"""Attempts of app `orders` to reach the locks, configuration, bindings and internal topics of app `stock`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from dapr_shared.contracts.configuration import ConfigurationItem
from tests.support.attacked import PRIVATE, Attacked, attacked, secrets_in
from tests.support.block_apps import write_item
from tests.support.calls import call, grpc_channel
from tests.support.instance import component, token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK, UNLOCK = "/v1.0-alpha1/lock/lockstore", "/v1.0-alpha1/unlock/lockstore"
HELD = {"resourceId": "gate", "lockOwner": "keeper"}
"""The lock that `stock` holds, and its owner's name, which is no secret."""
INTERNAL = "defaultstocksoldoutbox"
"""The topic on which the transactions of `stock` are announced, by Dapr's rule."""


@dataclass
class Attempt:
    """One attempt over HTTP: what is sent, and what must come back."""

    name: str
    sentence: str
    status: int
    target: str
    body: Any = None
    code: str = ""
    answer: Any = None
    """The whole answer, where it is a success."""

    def send(self, world: Attacked) -> Any:
        data = None if self.body is None else json.dumps(self.body).encode()
        return world.instance.ask("GET" if data is None else "POST", self.target, data, app="orders")


def _bind(name: str, operation: str, file: str) -> tuple[str, dict[str, Any]]:
    return f"/v1.0/bindings/{name}", {"operation": operation, "data": "taken", "metadata": {"fileName": file}}


BINDING = "ERR_INVOKE_OUTPUT_BINDING"
TABLE = [
    # Locks
    Attempt("lock-own", "A lock of the same name is the own.", 200, LOCK, {**HELD, "expiryInSeconds": 1},
            answer={"success": True}),
    *(Attempt(f"lock-{number}", "No name leads to another's prefix.", 500, LOCK,
              {**HELD, "resourceId": name, "expiryInSeconds": 60}, "ERR_TRY_LOCK")
      for number, name in enumerate(("stock||gate", "lock||stock||gate", "||gate", "x||../stock||gate"))),
    Attempt("unlock-their-owner", "The owner's name opens no other app's lock.", 200, UNLOCK,
            {**HELD, "resourceId": "door"}, answer={"status": 1}),
    *(Attempt(f"unlock-{number}", "Nor does a name with a prefix.", 500, UNLOCK, {**HELD, "resourceId": name},
              "ERR_UNLOCK") for number, name in enumerate(("stock||gate", "lock||stock||gate"))),
    Attempt("unlock-lookalike", "Lookalikes of the separator are other names.", 200, UNLOCK,
            {**HELD, "resourceId": "stock\uff5c\uff5cgate"}, answer={"status": 1}),
    Attempt("lock-scoped", "A lock store of another app is not there.", 400, "/v1.0-alpha1/lock/stocklocks",
            {**HELD, "expiryInSeconds": 60}, "ERR_LOCK_STORE_NOT_FOUND"),
    Attempt("unlock-scoped", "Nor to unlock.", 400, "/v1.0-alpha1/unlock/stocklocks", HELD, "ERR_LOCK_STORE_NOT_FOUND"),
    # Configuration
    Attempt("configuration", "A configuration store of another app is not there.", 400,
            "/v1.0/configuration/stockconfig?key=ledger", code="ERR_CONFIGURATION_STORE_NOT_FOUND"),
    Attempt("configuration-all", "Nor all of it.", 400, "/v1.0/configuration/stockconfig",
            code="ERR_CONFIGURATION_STORE_NOT_FOUND"),
    Attempt("configuration-subscribe", "Nor to subscribe to.", 400,
            "/v1.0/configuration/stockconfig/subscribe?key=ledger", code="ERR_CONFIGURATION_STORE_NOT_FOUND"),
    # Bindings
    Attempt("binding", "A binding of another app is not there.", 500, *_bind("stockfiles", "get", "ledger"), BINDING),
    Attempt("binding-write", "Nor to write to.", 500, *_bind("stockfiles", "create", "ledger"), BINDING),
    *(Attempt(f"file-{number}", "No file name leads out of the own folder.", 500, *_bind("files", operation, name), BINDING)
      for number, (operation, name) in enumerate((
          ("get", "../of-stock/ledger"), ("get", "x/../../of-stock/ledger"), ("delete", "../of-stock/ledger"),
          ("create", "../of-stock/ledger"), ("list", "../of-stock"), ("get", "\0../of-stock/ledger"),
      ))),
    # Internal topics
    Attempt("announce", "Nobody announces transactions of another app.", 403, f"/v1.0/publish/inner/{INTERNAL}",
            {"key": "k"}, "ERR_PUBSUB_FORBIDDEN"),
    Attempt("announce-many", "Nor many at once.", 403, f"/v1.0-alpha1/publish/bulk/inner/{INTERNAL}", [],
            "ERR_PUBSUB_FORBIDDEN"),
    Attempt("announce-elsewhere", "Nor by another component.", 403, f"/v1.0/publish/pubsub/{INTERNAL}", {"key": "k"},
            "ERR_PUBSUB_FORBIDDEN"),
    Attempt("transact", "A transaction of the own app writes the own keys.", 400,
            "/v1.0/state/outboxed/transaction",
            {"operations": [{"operation": "upsert", "request": {"key": "stock||ledger", "value": "taken"}}]},
            "ERR_MALFORMED_REQUEST"),
]  # fmt: skip
NAMED = {attempt.name: attempt for attempt in TABLE}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked-blocks")
    (folder / "of-stock").mkdir()
    (folder / "of-stock" / "ledger").write_text(PRIVATE)
    extra = [
        component("lockstore", "lock.in-memory"),
        component("configstore", "configuration.in-memory"),
        component("pubsub", "pubsub.in-memory"),
        component("stocklocks", "lock.in-memory", scopes=["stock"]),
        component("stockconfig", "configuration.sqlite", scopes=["stock"], connectionString=str(folder / "config.db")),
        component("files", "bindings.localstorage", scopes=["orders"], rootPath=str(folder / "of-orders")),
        component("stockfiles", "bindings.localstorage", scopes=["stock"], rootPath=str(folder / "of-stock")),
        component("inner", "pubsub.in-memory"),
        component("outboxed", "state.in-memory", outboxPublishPubsub="inner", outboxPublishTopic="sold"),
    ]
    with attacked(folder, extra=extra) as made:
        write_item(folder / "config.db", "ledger", ConfigurationItem(PRIVATE))
        for name in ("gate", "door"):
            body = json.dumps({**HELD, "resourceId": name, "expiryInSeconds": 600}).encode()
            assert made.instance.ask("POST", LOCK, body, app="stock").json() == {"success": True}
        yield made


def test_names():
    """Each attempt has a name of its own."""
    assert len(NAMED) == len(TABLE)


@pytest.mark.parametrize("name", NAMED)
def test_attempt(world, name):
    """No attempt reaches what belongs to another app; each is answered as documented, and `stock` has what it had."""
    attempt = NAMED[name]
    answer = attempt.send(world)
    assert answer.status == attempt.status, (answer, attempt.sentence)
    assert not secrets_in(answer.body), attempt.sentence
    if attempt.code:
        assert answer.code == attempt.code, answer
    if attempt.answer is not None:
        assert answer.json() == attempt.answer
    theirs_is_untouched(world)


def theirs_is_untouched(world: Attacked) -> None:
    """Hold that `stock` has its lock, its item and its file."""
    ask = world.instance.ask
    again = json.dumps({**HELD, "lockOwner": "somebody", "expiryInSeconds": 1}).encode()
    assert ask("POST", LOCK, again, app="stock").json() == {"success": False}
    item = ask("GET", "/v1.0/configuration/stockconfig?key=ledger", app="stock").json()["ledger"]
    assert item["value"] == PRIVATE
    target, body = _bind("stockfiles", "get", "ledger")
    assert ask("POST", target, json.dumps(body).encode(), app="stock").body.decode() == PRIVATE


CODE = grpc.StatusCode
OVER_GRPC: dict[str, tuple[str, Callable[[], Any], grpc.StatusCode]] = {
    "lock": ("TryLockAlpha1", lambda: runtime_pb.TryLockRequest(
        store_name="lockstore", resource_id="stock||gate", lock_owner="keeper", expiry_in_seconds=9), CODE.INTERNAL),
    "lock-scoped": ("TryLockAlpha1", lambda: runtime_pb.TryLockRequest(
        store_name="stocklocks", resource_id="gate", lock_owner="keeper", expiry_in_seconds=9), CODE.INVALID_ARGUMENT),
    "unlock": ("UnlockAlpha1", lambda: runtime_pb.UnlockRequest(
        store_name="lockstore", resource_id="stock||gate", lock_owner="keeper"), CODE.INTERNAL),
    "configuration": ("GetConfiguration", lambda: runtime_pb.GetConfigurationRequest(
        store_name="stockconfig", keys=["ledger"]), CODE.INVALID_ARGUMENT),
    "binding": ("InvokeBinding", lambda: runtime_pb.InvokeBindingRequest(
        name="stockfiles", operation="get", metadata={"fileName": "ledger"}), CODE.INTERNAL),
    "file": ("InvokeBinding", lambda: runtime_pb.InvokeBindingRequest(
        name="files", operation="get", metadata={"fileName": "../of-stock/ledger"}), CODE.INTERNAL),
    "announce": ("PublishEvent", lambda: runtime_pb.PublishEventRequest(
        pubsub_name="inner", topic=INTERNAL, data=b"{}"), CODE.PERMISSION_DENIED),
}  # fmt: skip


@pytest.mark.parametrize("name", OVER_GRPC)
def test_attempt_over_grpc(world, name):
    """The same over gRPC."""
    method, request, code = OVER_GRPC[name]
    with grpc_channel(world.instance.grpc) as channel:
        answer = call(channel, method, request(), [("dapr-api-token", token_of("orders"))])
    assert answer.code is code, answer
    assert not secrets_in(answer.data)
    assert not secrets_in(str((answer.details, answer.trailers)))
    theirs_is_untouched(world)


def test_a_subscription_of_another_app_is_not_ended(world):
    """An app that knows the id of another's configuration subscription does not end it."""
    ask = world.instance.ask
    subscribed = ask("GET", "/v1.0/configuration/stockconfig/subscribe?key=ledger", app="stock")
    assert subscribed.status == 200, subscribed
    number = subscribed.json()["id"]
    for store in ("stockconfig", "configstore"):
        refused = ask("GET", f"/v1.0/configuration/{store}/{number}/unsubscribe", app="orders")
        assert refused.status in (400, 500), refused
    assert ask("GET", f"/v1.0/configuration/stockconfig/{number}/unsubscribe", app="stock").json() == {"ok": True}
