"""All building blocks that there are, by the official JavaScript SDK, over HTTP and gRPC."""

from __future__ import annotations

import itertools
import json
import uuid

import pytest

from dapr_shared.contracts.configuration import ConfigurationItem
from tests.support.apps import until
from tests.support.block_apps import write_item
from tests.support.instance import token_of

FIRST_WRITE = {"concurrency": 1}
"""The SDK's `StateConcurrencyEnum.CONCURRENCY_FIRST_WRITE`."""
SUCCESS, DOES_NOT_EXIST, BELONGS_TO_OTHERS = range(3)
"""The SDK's `LockStatus`."""


@pytest.fixture(params=["http", "grpc"])
def protocol(request):
    """The protocol of the `DaprClient`."""
    return request.param


@pytest.fixture
def orders(world, protocol):
    """The client of the app `orders`."""
    return world.client("orders", protocol)


@pytest.fixture
def mark() -> str:
    """Text of this test alone: a key, or an id in a message."""
    return uuid.uuid4().hex


# State ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", ["text", 42, {"a": [1, None, "ü"]}], ids=["text", "number", "object"])
def test_a_value_is_saved_read_and_deleted(orders, mark, value):
    """A value comes back as it was saved, and is empty after its delete."""
    assert orders.call("state.save", "statestore", [{"key": mark, "value": value}]) == {}
    assert orders.call("state.get", "statestore", mark) == value
    assert orders.call("state.delete", "statestore", mark) == {}
    assert orders.call("state.get", "statestore", mark) == ""


def test_many_values_are_read_at_once(orders, mark):
    """Bulk get gives each key's value and etag, and an absent key without a value."""
    orders.call("state.save", "statestore", [{"key": f"{mark}-{n}", "value": {"n": n}} for n in range(3)])
    found = {one["key"]: one for one in orders.call("state.getBulk", "statestore", [f"{mark}-{n}" for n in range(4)])}
    assert {key: one.get("data") or None for key, one in found.items()} == {
        **{f"{mark}-{n}": {"n": n} for n in range(3)},
        f"{mark}-3": None,
    }
    assert all(found[f"{mark}-{n}"]["etag"] for n in range(3))


def test_a_stale_etag_changes_nothing(orders, mark):
    """With first-write concurrency a save or delete with a stale etag is an error; with the current one it goes through."""
    orders.call("state.save", "statestore", [{"key": mark, "value": "one"}])
    (old,) = orders.call("state.getBulk", "statestore", [mark])
    update = {"key": mark, "value": "two", "etag": old["etag"], "options": FIRST_WRITE}
    orders.call("state.save", "statestore", [update])
    assert "etag" in orders.refused("state.save", "statestore", [{**update, "value": "three"}])
    assert "etag" in orders.refused("state.delete", "statestore", mark, {"etag": old["etag"], **FIRST_WRITE})
    assert orders.call("state.get", "statestore", mark) == "two"
    (new,) = orders.call("state.getBulk", "statestore", [mark])
    orders.call("state.delete", "statestore", mark, {"etag": new["etag"], **FIRST_WRITE})
    assert orders.call("state.get", "statestore", mark) == ""


def test_a_transaction_is_done_whole_or_not_at_all(orders, mark):
    """Upserts and deletes of one transaction take effect together; one stale etag undoes all of it."""
    keep, drop = f"{mark}-keep", f"{mark}-drop"
    orders.call("state.save", "statestore", [{"key": drop, "value": "old"}])
    operations = [
        {"operation": "upsert", "request": {"key": keep, "value": "new"}},
        {"operation": "delete", "request": {"key": drop}},
    ]
    orders.call("state.transaction", "statestore", operations)
    assert orders.call("state.get", "statestore", keep) == "new"
    assert orders.call("state.get", "statestore", drop) == ""
    stale = [
        {"operation": "upsert", "request": {"key": drop, "value": "back"}},
        {"operation": "upsert", "request": {"key": keep, "value": "x", "etag": "999999", "options": FIRST_WRITE}},
    ]
    assert orders.refused("state.transaction", "statestore", stale)
    assert orders.call("state.get", "statestore", keep) == "new"
    assert orders.call("state.get", "statestore", drop) == ""


def test_apps_do_not_see_each_others_state(world, protocol, mark):
    """Two apps have different values under one key of one store, and a delete by one leaves the other's."""
    orders, stock = world.client("orders", protocol), world.client("stock", protocol)
    orders.call("state.save", "statestore", [{"key": mark, "value": "of orders"}])
    assert stock.call("state.get", "statestore", mark) == ""
    stock.call("state.save", "statestore", [{"key": mark, "value": "of stock"}])
    assert orders.call("state.get", "statestore", mark) == "of orders"
    orders.call("state.delete", "statestore", mark)
    assert stock.call("state.get", "statestore", mark) == "of stock"


def test_an_unknown_store_is_an_error(orders):
    """A store that does not exist is an error that names it."""
    assert "absent" in orders.refused("state.get", "absent", "key")


# Secrets, metadata, identity -----------------------------------------------------------------------------------------
def test_secrets(orders):
    """A secret is read by its name and all at once, without those that the app is denied."""
    assert orders.call("secret.get", "vault", "key") == {"key": "of-orders"}
    assert orders.call("secret.getBulk", "vault") == {"key": {"key": "of-orders"}, "db:user": {"db:user": "u"}}
    assert orders.refused("secret.get", "vault", "db:password")


def test_another_apps_secret_store_is_not_there(world, protocol):
    """A secret store that is scoped to one app does not exist for another, which here has none at all."""
    assert "secret store is not configured" in world.client("stock", protocol).refused("secret.get", "vault", "key")


def test_metadata(world, protocol, mark):
    """Metadata are of the app whose token was sent: its id, its components, and what it has set itself."""
    orders, stock = world.client("orders", protocol), world.client("stock", protocol)
    assert orders.call("metadata.set", f"js-{protocol}", mark) is True
    found = orders.call("metadata.get")
    other = stock.call("metadata.get")
    assert (found["id"], other["id"]) == ("orders", "stock")
    assert mark in str(found["extended"])
    assert mark not in str(other["extended"])
    shared = {"statestore", "pubsub", "configstore", "lockstore", "files"}
    assert {one["name"] for one in found["components"]} == {*shared, "vault"}
    assert {one["name"] for one in other["components"]} == shared


def test_health(orders):
    """The SDK, which asks for the metadata to know, finds the instance healthy."""
    assert orders.call("health.isHealthy") is True


def test_a_wrong_token_gets_nowhere(world, protocol):
    """A client with a token of nobody is refused at its first look for the instance, and no call of it is answered."""
    before = world.instance.metric("dapr_shared_identity_refused_total")
    client = world.start_client(protocol, token_of("nobody"))
    try:
        client.send("state.get", "statestore", "key")
        until(lambda: world.instance.metric("dapr_shared_identity_refused_total") >= before + 2)
        assert not client.answered()
    finally:
        client.close()


# Invocation ----------------------------------------------------------------------------------------------------------
def test_invocation(orders):
    """A method of the SDK's server is invoked by its verb, with its body, and is told who calls."""
    assert orders.call("invoker.invoke", "mail", "sum", "post", [1, 2, 39]) == {"sum": 42}
    assert orders.call("invoker.invoke", "mail", "greet", "get") == {"path": "/greet", "caller": "orders"}


def test_a_method_that_is_not_there_is_an_error(orders):
    """A method that the server does not have, and an app that nobody has declared, are errors of the SDK."""
    assert orders.refused("invoker.invoke", "mail", "absent", "post", {})
    assert orders.refused("invoker.invoke", "nobody", "sum", "post", [])


def test_the_client_inside_the_server_is_the_server(world, orders, protocol, mark):
    """What the server saves with its own client while it is invoked is state of the server's app, not of its caller."""
    wanted = {"key": mark, "value": "of mail"}
    assert orders.call("invoker.invoke", "mail", "keep", "post", wanted) == {"kept": "of mail"}
    assert orders.call("state.get", "statestore", mark) == ""
    assert world.client("mail", protocol).call("state.get", "statestore", mark) == "of mail"


# Configuration, locks, bindings --------------------------------------------------------------------------------------
def test_configuration(world, mark):
    """Items are read, a subscription is told changes until it is stopped, and its call has ended then; over gRPC alone."""
    orders = world.client("orders", "grpc")
    file = world.instance.folder / "configuration.db"
    write_item(file, mark, ConfigurationItem("blue", "7", {"owner": "shop"}))
    found = orders.call("configuration.get", "configstore", [mark])["items"]
    assert found == {mark: {"key": mark, "value": "blue", "version": "7", "metadata": {"owner": "shop"}}}
    orders.call("watch.start", "configstore", [mark])
    values = itertools.count()

    def told() -> bool:
        # The SDK does not say when it has subscribed: change the item until a change is told.
        write_item(file, mark, ConfigurationItem(f"red {next(values)}"))
        return bool(orders.call("watch.seen"))

    until(told)
    assert orders.call("watch.seen")[0][mark]["value"].startswith("red ")
    assert world.instance.metric("dapr_shared_calls_in_flight", app_id="orders") == 1
    orders.call("watch.stop")
    until(lambda: world.instance.metric("dapr_shared_calls_in_flight", app_id="orders") == 0)


def test_locks(world, orders, protocol, mark):
    """A lock is taken once and freed by its owner alone; another app's lock of the same name is another one."""
    assert orders.call("lock.lock", "lockstore", mark, "me", 60) == {"success": True}
    assert orders.call("lock.lock", "lockstore", mark, "you", 60) == {"success": False}
    assert world.client("stock", protocol).call("lock.lock", "lockstore", mark, "you", 60) == {"success": True}
    assert orders.call("lock.unlock", "lockstore", mark, "you") == {"status": BELONGS_TO_OTHERS}
    assert orders.call("lock.unlock", "lockstore", mark, "me") == {"status": SUCCESS}
    assert orders.call("lock.unlock", "lockstore", mark, "me") == {"status": DOES_NOT_EXIST}


def test_an_output_binding(world, orders, mark):
    """What is sent to a binding is there; an operation that it has not is an error of the SDK."""
    orders.call("binding.send", "files", "create", {"id": mark}, {"fileName": mark})
    assert json.loads((world.instance.folder / "files" / mark).read_text()) == {"id": mark}
    assert "does not support operation" in orders.refused("binding.send", "files", "paint", {"id": mark})


# Publish and subscribe -----------------------------------------------------------------------------------------------
@pytest.fixture(params=["http", "grpc"])
def server(request, world):
    """The SDK's server that receives, over HTTP and over gRPC."""
    return world.mail if request.param == "http" else world.callback


def test_an_input_binding(server):
    """The server is called for a binding that it receives, and again after it has thrown at the first event."""
    until(lambda: len([line for line in server.lines() if line["at"] == "tick"]) >= 2)


def test_published_messages_arrive(server, orders, mark):
    """Objects and texts arrive as they were published, on the default route and on a named one."""
    for topic in ("plain", "named"):
        assert orders.call("pubsub.publish", "pubsub", topic, {"id": mark, "list": [1, "ü"]}) == {}
        assert orders.call("pubsub.publish", "pubsub", topic, f"text {mark}") == {}
        until(lambda topic=topic: len(server.given(topic, mark)) == 2)
        assert {"id": mark, "list": [1, "ü"]} in server.given(topic, mark)
        assert f"text {mark}" in server.given(topic, mark)


def test_messages_are_routed_by_their_type(server, orders, mark):
    """A CloudEvent goes to the route whose rule it matches, any other to the default route."""
    for kind in ("widget", "gadget"):
        event = {"specversion": "1.0", "id": f"{mark}-{kind}", "source": "test", "type": kind}
        data = {"datacontenttype": "application/json", "data": {"id": mark, "kind": kind}}
        orders.call("pubsub.publish", "pubsub", "routed", {**event, **data})
    until(lambda: server.given("routed widgets", mark) and server.given("routed others", mark))
    assert server.given("routed widgets", mark) == [{"id": mark, "kind": "widget"}]
    assert server.given("routed others", mark) == [{"id": mark, "kind": "gadget"}]


def test_raw_messages(server, orders, mark):
    """A message published raw reaches a raw subscription with its own bytes."""
    orders.call("pubsub.publish", "pubsub", "raw", {"id": mark}, {"metadata": {"rawPayload": "true"}})
    until(lambda: server.given("raw", mark))
    assert server.given("raw", mark) == [{"id": mark}]


@pytest.mark.parametrize("topic", ["plain", "many"])
def test_bulk(server, orders, mark, topic):
    """Each message of a bulk publish arrives once, at a plain and at a bulk subscription."""
    messages = [{"id": mark, "n": n} for n in range(5)]
    entries = [messages[0], *({"entryID": f"e{one['n']}", "event": one} for one in messages[1:])]
    assert orders.call("pubsub.publishBulk", "pubsub", topic, entries) == {"failedMessages": []}
    until(lambda: len(server.given(topic, mark)) >= 5)
    assert sorted(one["n"] for one in server.given(topic, mark)) == [0, 1, 2, 3, 4]


def test_a_bulk_publish_that_fails_names_every_message(orders, mark):
    """For a broker that does not exist the SDK reports each entry as failed."""
    answer = orders.call("pubsub.publishBulk", "absent", "plain", [{"entryID": "a", "event": mark}, mark])
    assert len(answer["failedMessages"]) == 2
    assert answer["failedMessages"][0]["message"]["entryID"] == "a"


def test_publishing_to_an_unknown_broker_is_an_error(orders):
    """A broker that does not exist is an error that names it."""
    assert "absent" in orders.refused("pubsub.publish", "absent", "plain", {"a": 1})


def test_retry_and_dead_letter(server, orders, mark):
    """A message answered with RETRY comes again; one answered with DROP goes to the dead-letter topic once."""
    again, dropped = {"id": f"{mark}-again", "answer": "RETRY"}, {"id": f"{mark}-dropped", "answer": "DROP"}
    orders.call("pubsub.publish", "pubsub", "plain", again)
    orders.call("pubsub.publish", "pubsub", "failing", dropped)
    until(lambda: len(server.given("plain", mark)) == 2 and server.given("failed", mark))
    assert server.given("plain", mark) == [again, again]
    assert server.given("failing", mark) == [dropped]
    assert server.given("failed", mark) == [dropped]


def test_messages_wait_for_a_server_that_is_not_running(world, mark):
    """Messages published before an app's first start, and while it is stopped, arrive once when it starts, in each case."""
    orders = world.client("orders", "http")
    for run in (1, 2):
        messages = [{"id": mark, "run": run, "n": n} for n in range(5)]
        orders.call("pubsub.publishBulk", "pubsub", "plain", messages[:3])
        for one in messages[3:]:
            orders.call("pubsub.publish", "pubsub", "plain", one)
        with world.server("late", run=run) as late:
            until(lambda late=late: len(late.given("plain", mark)) >= 5)
            last = {"id": mark, "run": run, "n": 5}
            orders.call("pubsub.publish", "pubsub", "plain", last)
            until(lambda late=late, last=last: last in late.given("plain", mark))
            assert sorted(late.given("plain", mark), key=lambda one: one["n"]) == [*messages, last]
