"""The clients of the official Go and Java SDKs, on both gRPC engines; the Go SDK's services over HTTP and gRPC."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.apps import until
from tests.support.instance import token_of

pytestmark = pytest.mark.slow  # the first build on a machine fetches packages and compiles gRPC


# State ---------------------------------------------------------------------------------------------------------------
def test_state_is_the_apps_own(orders, stock, mark):
    """What one app saves is read back with its etag by that app, and not by another one."""
    orders.call("state.save", store="statestore", key=mark, value='{"tea": 2}')
    value, etag = orders.call("state.get", store="statestore", key=mark)
    assert json.loads(value) == {"tea": 2}
    assert etag
    assert stock.call("state.get", store="statestore", key=mark) == ["", ""]


def test_etags(orders, mark):
    """A write and a delete with a stale etag are refused, with the present one they are done."""
    orders.call("state.save", store="statestore", key=mark, value="1")
    _, old = orders.call("state.get", store="statestore", key=mark)
    orders.call("state.save", store="statestore", key=mark, value="2", etag=old)
    assert "aborted" in orders.refused("state.save", store="statestore", key=mark, value="3", etag=old).lower()
    assert "aborted" in orders.refused("state.delete", store="statestore", key=mark, etag=old).lower()
    value, now = orders.call("state.get", store="statestore", key=mark)
    assert value == "2"
    orders.call("state.delete", store="statestore", key=mark, etag=now)
    assert orders.call("state.get", store="statestore", key=mark) == ["", ""]


def test_bulk_and_transactions(orders, mark):
    """Many keys are read at once, and a transaction writes and deletes together."""
    keys = [f"{mark}-{n}" for n in range(3)]
    for key in keys:
        orders.call("state.save", store="statestore", key=key, value=f'"{key}"')
    assert orders.call("state.bulk", store="statestore", keys=keys) == {key: f'"{key}"' for key in keys}
    orders.call("state.transact", store="statestore", keys=keys, value="1")
    assert orders.call("state.bulk", store="statestore", keys=keys) == {keys[0]: "1", keys[1]: "", keys[2]: ""}


def test_an_unknown_store_is_an_error_that_names_it(orders):
    """The SDK's error carries the name of a store that does not exist."""
    assert "absent" in orders.refused("state.get", store="absent", key="k")


# Identity ------------------------------------------------------------------------------------------------------------
def test_a_wrong_token_gets_nowhere(world):
    """A client with a token of nobody is refused at each call."""
    environment = {**world.environment("orders"), "DAPR_API_TOKEN": token_of("nobody")}
    client = world.start_client(environment)
    assert "unauthenticated" in client.refused("state.get", store="statestore", key="k").lower()


def test_metadata(orders, stock):
    """An app sees its own id and components."""
    mine, other = orders.call("metadata.get"), stock.call("metadata.get")
    assert (mine["ID"], other["ID"]) == ("orders", "stock")
    assert "vault" in {one["Name"] for one in mine["RegisteredComponents"]}
    assert "vault" not in {one["Name"] for one in other["RegisteredComponents"]}


# Secrets -------------------------------------------------------------------------------------------------------------
def test_secrets(orders, stock):
    """An app reads what its scopes allow, and another app does not see the store."""
    assert orders.call("secret.get", store="vault", key="key") == {"key": "of-orders"}
    assert orders.call("secret.bulk", store="vault") == {"key": {"key": "of-orders"}}
    assert "permissiondenied" in orders.refused("secret.get", store="vault", key="hidden").lower().replace("_", "")
    assert stock.refused("secret.get", store="vault", key="key")


# Invocation ----------------------------------------------------------------------------------------------------------
def test_invocation(orders, receiver):
    """A handler of the SDK's service is invoked with its body, over HTTP and over gRPC, and an error comes back as one."""
    app_id, _ = receiver
    assert json.loads(orders.call("invoke", app=app_id, key="echo", verb="post", value='{"a": "ü"}')) == {"a": "ü"}
    assert orders.refused("invoke", app=app_id, key="echo", verb="post", value='"fail"')
    assert orders.refused("invoke", app=app_id, key="absent", verb="post", value="{}")


# Publish and subscribe -----------------------------------------------------------------------------------------------
def test_published_messages_arrive(orders, receiver, mark):
    """Objects arrive once, a message that a handler wants again comes again."""
    _, received = receiver
    orders.call("pubsub.publish", store="pubsub", topic="orders", messages=[{"id": mark}])
    orders.call("pubsub.publish", store="pubsub", topic="orders", messages=[{"id": f"{mark}-again"}])
    until(lambda: len(received.given("orders", mark)) == 3)
    assert sorted(one["id"] for one in received.given("orders", mark)) == [mark, f"{mark}-again", f"{mark}-again"]


def test_routes(orders, receiver, mark):
    """A message goes to the handler whose rule matches its type, any other to the default one."""
    _, received = receiver
    for kind in ("widget", "gadget"):
        metadata = {"cloudevent.type": kind}
        orders.call("pubsub.publish", store="pubsub", topic="routed", messages=[{"id": mark}], metadata=metadata)
    until(lambda: received.given("widgets", mark) and received.given("others", mark))
    assert (len(received.given("widgets", mark)), len(received.given("others", mark))) == (1, 1)


def test_bulk_publish(orders, receiver, mark):
    """Each message of a bulk publish arrives once; for a broker that does not exist each is reported as failed."""
    _, received = receiver
    messages = [{"id": mark, "n": n} for n in range(5)]
    assert orders.call("pubsub.bulk", store="pubsub", topic="orders", messages=messages) == 0
    until(lambda: len(received.given("orders", mark)) >= 5)
    assert sorted(one["n"] for one in received.given("orders", mark)) == [0, 1, 2, 3, 4]
    assert orders.refused("pubsub.bulk", store="absent", topic="orders", messages=messages)


def test_streaming_subscription(world, orders, mark):
    """An app without a port receives over its own call; what it wants again comes again, and an end is an end."""
    client = world.client("stock")
    client.call("pubsub.stream", store="pubsub", topic=mark, key="again")
    for text in ("once", "again"):
        orders.call("pubsub.publish", store="pubsub", topic=mark, messages=[text])
    until(lambda: sorted(client.call("told")) == ["again", "again", "once"])
    client.call("stop", key=mark)


# Configuration, lock, bindings ---------------------------------------------------------------------------------------
def write_configuration(world, **items: str) -> None:
    """Write items as an operator does, in a process of its own: two SQLite libraries must not meet in one."""
    rows = list(items.items())
    code = (
        "import json, sqlite3, sys\n"
        "with sqlite3.connect(sys.argv[1], timeout=10) as database:\n"
        "    database.executemany('INSERT OR REPLACE INTO items (key, value) VALUES (?, ?)', json.loads(sys.argv[2]))\n"
    )
    file = str(world.instance.folder / "configuration.db")
    subprocess.run([sys.executable, "-c", code, file, json.dumps(rows)], check=True, timeout=30)


def test_configuration(world, orders):
    """Items are read, and a change is told to the subscriber until it unsubscribes."""
    write_configuration(world, colour="red", size="1")
    assert orders.call("configuration.get", store="configstore", keys=["colour", "size"]) == {
        "colour": "red",
        "size": "1",
    }
    subscription = orders.call("configuration.subscribe", store="configstore", keys=["colour"])
    write_configuration(world, colour="blue")
    until(lambda: "colour=blue" in orders.call("told"))
    orders.call("configuration.unsubscribe", store="configstore", key=subscription)


def test_lock(orders, stock, mark):
    """A lock has one owner, is another one for another app, and is given back by its owner alone."""
    lock = {"store": "lockstore", "key": mark}
    assert orders.call("lock.try", **lock, owner="one", seconds=60) is True
    assert orders.call("lock.try", **lock, owner="two", seconds=60) is False
    assert stock.call("lock.try", **lock, owner="two", seconds=60) is True
    assert orders.call("lock.unlock", **lock, owner="two") == 2
    assert orders.call("lock.unlock", **lock, owner="one") == 0
    assert orders.call("lock.unlock", **lock, owner="one") == 1


def test_output_binding(orders, mark):
    """A file that was written through a binding is read back through it."""
    file = {"store": "files", "metadata": {"fileName": f"{mark}.txt"}}
    orders.call("binding", **file, verb="create", value=mark)
    assert orders.call("binding", **file, verb="get") == mark


def test_input_binding(receiver):
    """The SDK's service is called by a clock that it has declared a handler for."""
    _, received = receiver
    until(lambda: len(received.given("ticks", "")) >= 2)
