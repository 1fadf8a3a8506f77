"""All apps of an instance, the merged list of one, and what the metadata API is told."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.pubsub.manager import SubscriptionManager
from dapr_shared.blocks.pubsub.streaming import StreamingBlock
from dapr_shared.blocks.pubsub.subscriptions import Bulk, SubscriptionKind, merge
from dapr_shared.channel.callbacks import AskedSubscription
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import BulkSubscribe, Subscription, SubscriptionRule
from tests.support.pubsub_fakes import ORDERS, FakeHttpChannel, FakeMemory, until

STOCK = AppRef("stock", "default")


def declared(topic: str = "t", path: str = "/declared", **fields) -> Subscription:
    """A declared subscription."""
    rules = (SubscriptionRule(path=path),) if path else ()
    return Subscription(**{"name": "s", "pubsub_name": "ps", "topic": topic, "rules": rules, **fields})


@pytest.fixture
async def manager(components, deliveries, events, clock, broker):
    made = SubscriptionManager(
        components, deliveries, StreamingBlock(components, deliveries), FakeMemory(), events, clock
    )
    yield made
    await made.close(0)


async def states(manager, ref=ORDERS) -> list[str]:
    return [status.state for status in await manager.status(ref)]


async def test_apps_come_and_go(manager, channel, publish, count):
    """An app that is added has its subscriptions, one that is removed has none; two on a topic each get all."""
    other = FakeHttpChannel(STOCK)
    await manager.set_apps({ORDERS: channel, STOCK: other}, [declared()], frozenset(), 0)
    for ref in (ORDERS, STOCK):
        manager.reachable_changed(ref, reachable=True)
    await until(lambda: _active(manager, STOCK))
    await publish("1", "2")
    await until(lambda: len(channel.delivered) == len(other.delivered) == 2)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    assert await manager.status(STOCK) == []
    await publish("3")
    await until(lambda: len(channel.delivered) == 3)
    assert len(other.delivered) == 2


async def _active(manager, ref):
    return await states(manager, ref) == ["active"]


async def test_an_app_known_to_be_reachable_starts_active(manager, channel):
    """The watch may tell of an app before it is set."""
    manager.reachable_changed(ORDERS, reachable=True)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    await until(lambda: _active(manager, ORDERS))


async def test_the_status_tells_state_reason_since_and_pending(manager, channel, publish, clock):
    """Paused with a reason and a time, then active without; failed for a component that is missing; in order."""
    await manager.set_apps({ORDERS: channel}, [declared(), declared(pubsub_name="gone")], frozenset(), 0)

    async def two():
        return len(await states(manager)) == 2

    await until(two)
    await publish("1")
    gone, paused = await manager.status(ORDERS)
    assert (gone.pubsub, gone.state, gone.pending) == ("gone", "failed", None)
    assert "no pubsub component gone" in gone.reason
    assert (paused.state, paused.pending, paused.since) == ("paused", 1, clock.now())
    assert paused.reason == "the app does not accept connections"
    assert (paused.kind, paused.rules) == ("DECLARATIVE", (("", "/declared"),))
    manager.reachable_changed(ORDERS, reachable=True)
    await until(lambda: channel.delivered)
    active = (await manager.status(ORDERS))[1]
    assert (active.state, active.reason, active.since) == ("active", "", None)


async def test_the_metric_counts_by_state(manager, channel, metrics, count, clock):
    """Each scrape counts an app's subscriptions as active, paused or failed; of an app that is gone nothing is left."""
    metrics.read_subscriptions(manager.count)

    def counted(**labels):
        return count("dapr_shared_subscriptions", **labels)

    await manager.set_apps({ORDERS: channel}, [declared(), declared(pubsub_name="gone")], frozenset(), 0)
    await until(lambda: counted(state="paused") == counted(state="failed") == 1)
    assert counted(app_id="orders", state="active") == 0
    manager.reachable_changed(ORDERS, reachable=True)
    await until(lambda: counted(app_id="orders", state="active") == 1)
    assert (counted(state="paused"), counted(state="failed")) == (0, 1)
    await manager.set_apps({}, [], frozenset(), 0)
    assert b"dapr_shared_subscriptions{" not in b"".join(metrics.registry.chunks())


async def test_components_changed_reaches_every_app(manager, channel, new_broker):
    """A component that is opened starts what waits for it."""
    manager.reachable_changed(ORDERS, reachable=True)
    await manager.set_apps({ORDERS: channel}, [declared(pubsub_name="later")], frozenset(), 0)

    async def state(wanted):
        return await states(manager) == [wanted]

    await until(lambda: state("failed"))
    await new_broker("later")
    manager.components_changed()
    await until(lambda: state("active"))


async def test_refresh_and_shutdown_know_their_app(manager, channel):
    """Refresh asks the app again and says whether there is such an app; the shutdown API stops deliveries to one."""
    manager.reachable_changed(ORDERS, reachable=True)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    await until(lambda: _active(manager, ORDERS))
    asked = channel.asked
    manager.stop_deliveries(ORDERS)
    manager.stop_deliveries(STOCK)

    async def paused():
        return await states(manager) == ["paused"]

    await until(paused)
    assert manager.refresh(ORDERS)
    assert not manager.refresh(STOCK)
    await until(lambda: _active(manager, ORDERS))
    assert channel.asked == asked + 1
    channel.healthy = False
    manager.health_changed(ORDERS)
    manager.health_changed(STOCK)
    await until(paused)


async def test_a_changed_app_is_asked_again(manager, channel):
    """An app whose App resource changed is asked again, another is not."""
    manager.reachable_changed(ORDERS, reachable=True)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    await until(lambda: channel.asked == 1)
    await until(lambda: _active(manager, ORDERS))
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset({ORDERS}), 0)
    await until(lambda: channel.asked == 2)


async def test_nothing_begins_after_the_end(manager, channel):
    """A reload that comes while the instance ends subscribes nothing."""
    await manager.close(0)
    await manager.set_apps({ORDERS: channel}, [declared()], frozenset(), 0)
    manager.reachable_changed(ORDERS, reachable=True)
    assert await manager.status(ORDERS) == []


# The merged list -----------------------------------------------------------------------------------------------------
def merged(*resources, asked=(), app=ORDERS, grpc=False):
    return merge(app, resources, asked, grpc=grpc)


def test_the_apps_own_entry_wins():
    """For one pubsub and topic the app's entry beats the declared one; other topics of both are there."""
    found = merged(declared(), declared("other"), asked=[AskedSubscription("ps", "t", (("", "/own"),))]).wanted
    assert [(s.topic, s.routes, s.kind) for s in found] == [
        ("t", (("", "/own"),), SubscriptionKind.PROGRAMMATIC),
        ("other", (("", "/declared"),), SubscriptionKind.DECLARATIVE),
    ]


def test_of_two_declared_the_first_wins():
    """Two resources for one pubsub and topic: the first in the order of loading; another pubsub is another."""
    found = merged(declared(path="/first"), declared(path="/second"), declared(pubsub_name="b")).wanted
    assert [(s.pubsub, s.routes[0][1]) for s in found] == [("ps", "/first"), ("b", "/declared")]


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, True), ({"scopes": ("orders",)}, True), ({"scopes": ("stock", "orders")}, True),
        ({"scopes": ("stock",)}, False), ({"namespace": "other"}, False),
        ({"namespace": "other", "scopes": ("orders",)}, False),
    ],
)  # fmt: skip
def test_scopes_and_namespaces(fields, there):
    """A declared subscription is for the apps of its namespace, and of its scopes if it has some."""
    assert bool(merged(declared(**fields)).wanted) is there


def test_what_is_no_subscription_is_left_out_with_its_reason():
    """Entries without pubsub, topic or route are ignored and told; a gRPC app needs no route."""
    asked = [AskedSubscription("", "t", (("", "/x"),)), AskedSubscription("ps", "", (("", "/x"),)),
             AskedSubscription("ps", "t")]  # fmt: skip
    found = merged(declared("d", ""), asked=asked)
    assert found.wanted == ()
    assert [line.rpartition(": ")[2] for line in found.ignored] == [
        "names no pubsub", "names no topic", "has no route", "has no route",
    ]  # fmt: skip
    assert [s.topic for s in merged(declared("d", ""), asked=asked, grpc=True).wanted] == ["t", "d"]


def test_bulk_in_both_forms():
    """Bulk has its defaults where numbers are missing; milliseconds become seconds."""
    plain = AskedSubscription("ps", "a", (("", "/x"),), bulk_enabled=True)
    numbers = AskedSubscription("ps", "b", (("", "/x"),), {}, "dead", bulk_enabled=True, bulk_max_messages=5,
                                bulk_max_await_ms=40)  # fmt: skip
    resource = declared("c", bulk_subscribe=BulkSubscribe(enabled=True, max_messages_count=7, max_await_duration_ms=10))
    found = merged(resource, declared("d"), asked=[plain, numbers]).wanted
    assert [s.bulk for s in found] == [Bulk(100, 1.0), Bulk(5, 0.04), Bulk(7, 0.01), None]
    assert found[1].dead_letter_topic == "dead"
