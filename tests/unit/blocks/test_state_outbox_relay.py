"""The outbox's second half: which events are published, how often, and what becomes of the others."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from dapr_shared.blocks.pubsub.publish import PublishBlock
from dapr_shared.blocks.state import outbox_relay
from dapr_shared.blocks.state.block import StateBlock
from dapr_shared.blocks.state.items import SaveItem, TransactionItem
from dapr_shared.blocks.state.outbox import Outbox
from dapr_shared.blocks.state.outbox_relay import OutboxRelays
from dapr_shared.components.memory.pubsub import MemoryPubSub, MemoryPubSubSettings
from dapr_shared.components.memory.state import MemoryStateSettings, MemoryStateStore
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.pubsub import Outcome, PublishRequest, SubscribeRequest
from dapr_shared.contracts.state import GetRequest, SetRequest
from dapr_shared.core import errors
from dapr_shared.core.clock import SystemClock
from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import random_id
from tests.support.pubsub_fakes import ORDERS, until

INTERNAL = "defaultordersnewOrderoutbox"
METADATA = {"outboxpublishpubsub": "bus", "outboxpublishtopic": "newOrder"}


class Noted:
    """Events, by name."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *words, **_: self.seen.append((name, str(words[-1])))

    def problems(self, name: str) -> list[str]:
        return [problem for seen, problem in self.seen if seen == name]


class World:
    """The whole of it over a store and a broker in memory, and a subscriber of the public topic."""

    def __init__(self, components, metrics, caller) -> None:
        self.store = components.add(
            MemoryStateStore(MemoryStateSettings(), ComponentContext("store", "state.in-memory")),
            metadata=dict(METADATA),
        )
        quick = MemoryPubSubSettings(redeliver_interval=0.02, max_redeliver_interval=0.05)
        self.bus = components.add(MemoryPubSub(quick, ComponentContext("bus", "pubsub.in-memory")), "bus")
        self.components = components
        self.events = Noted()
        publish = PublishBlock(components, metrics, SystemClock())
        self.relays = OutboxRelays(components, publish, self.events)
        self.block = StateBlock(components, metrics, Outbox(publish, self.relays, SystemClock()))
        self.caller = caller
        self.got: list[dict[str, Any]] = []

    async def start(self, stack: AsyncExitStack) -> None:
        await self.store.start(stack)
        await self.bus.start(stack)

        async def take(message) -> Outcome:
            self.got.append(json.loads(message.data))
            return Outcome.ACCEPTED

        await self.bus.subscribe(SubscribeRequest("newOrder", "stock"), take)
        stack.push_async_callback(self.relays.close, 0.0)
        self.relays.set_apps([ORDERS])

    def configure(self, **metadata: str) -> None:
        opened = self.components.opened["store"]
        self.components.opened["store"] = replace(opened, runtime_metadata={**METADATA, **metadata})
        self.relays.set_apps([ORDERS])

    async def transact(self, value: bytes = b'"v"', **fields: Any) -> None:
        item = TransactionItem("upsert", SaveItem("k", value, **fields))
        await self.block.transact(self.caller, "store", [item], {})

    async def announce(self, marker: str, **members: Any) -> None:
        """An event at the internal topic whose transaction is not there."""
        await until(lambda: self.relays._running)
        event = json.dumps({"id": marker, "data": "v", **members}).encode()
        await self.bus.publish(PublishRequest(INTERNAL, event))

    async def markers(self) -> list[str]:
        return [key for key in self.store._items if key.startswith("outbox-")]

    async def idle(self) -> bool:
        running = next(iter(self.relays._running.values()))
        return await running.subscription.pending() == 0


@pytest.fixture
async def world(components, metrics, caller, monkeypatch):
    monkeypatch.setattr(outbox_relay, "WAITS", (0.02, 0.02, 0.02))
    monkeypatch.setattr(outbox_relay, "TROUBLE_FIRST", 0.01)
    monkeypatch.setattr(outbox_relay, "TROUBLE_LONGEST", 0.02)
    made = World(components, metrics, caller)
    made.relays._upkeep.first = 0.01
    made.relays._upkeep.hurry()
    async with AsyncExitStack() as stack:
        await made.start(stack)
        yield made


def marker() -> str:
    return f"outbox-{random_id()}"


async def test_published_once_it_is_carried_out(world):
    """The event comes under its public topic with the marker as its id; then the marker is gone, and nothing waits."""
    await world.transact(b'"v"', metadata={"cloudevent.type": "made"})
    await until(lambda: world.got)
    event = world.got[0]
    assert (event["data"], event["topic"], event["pubsubname"]) == ("v", "newOrder", "bus")
    assert (event["source"], event["type"]) == ("orders", "made")
    await until(world.idle)
    assert await world.markers() == []
    assert len(world.got) == 1


async def test_a_transaction_that_is_late(world):
    """An event waits for its marker, and is published when it comes."""
    name = marker()
    await world.announce(name)
    await asyncio.sleep(0.03)
    assert world.got == []
    await world.store.set(SetRequest(name, b'"0"'))
    await until(lambda: world.got)


async def test_rolled_back(world):
    """A transaction that the store refuses publishes nothing; its event is done with at once, not tried for ever."""
    with pytest.raises(DaprError):
        await world.transact(etag="wrong")
    await until(world.idle)
    assert world.got == []
    assert world.events.problems("delivery_failed") == []


async def test_rolled_back_and_yet_there(world):
    """What a second try was refused may have been carried out by the first: the marker decides."""
    name = marker()
    await world.store.set(SetRequest(name, b'"0"'))
    world.relays.rolled_back([name])
    await world.announce(name)
    await until(lambda: world.got)


async def test_missing_markers(world):
    """An event without its marker is tried again, for as long as the broker does; nothing is published."""
    await world.announce(marker())
    await until(lambda: len(world.events.problems("delivery_failed")) >= 2)
    assert world.got == []
    assert not await world.idle()


async def test_missing_markers_discarded(world):
    """With `outboxDiscardWhenMissingState` it is given up, and that is told."""
    world.configure(outboxdiscardwhenmissingstate="true")
    await until(lambda: next(iter(world.relays._running.values())).stores.configs[0][1].discard_when_missing)
    await world.announce(marker())
    await until(lambda: world.events.problems("message_dropped"))
    await until(world.idle)
    assert world.got == []


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"id":1}', b'{"id":"orders||k"}', b'{"id":"outbox-k"}', b'{"id":"outbox-"}', b"\xff"],
)
async def test_no_event_of_an_outbox(world, data):
    """Whatever else is at the topic is dropped: an id that is no marker never reads or deletes a key of an app."""
    for key in ("orders||k", "outbox-k", "outbox-"):
        await world.store.set(SetRequest(key, b"1"))
    await until(lambda: world.relays._running)
    await world.bus.publish(PublishRequest(INTERNAL, data))
    await until(lambda: world.events.problems("message_dropped"))
    await until(world.idle)
    assert world.got == []
    assert all([await world.store.get(GetRequest(key)) for key in ("orders||k", "outbox-k", "outbox-")])


async def test_a_broker_that_fails_when_it_is_published(world, monkeypatch):
    """The event is held until it can be published; it is not given back, and the marker stays meanwhile."""
    down = True
    real = world.bus.publish

    async def publish(request) -> None:
        if down and request.topic == "newOrder":
            raise BackendError("down")
        await real(request)

    monkeypatch.setattr(world.bus, "publish", publish)
    await world.transact()
    await until(lambda: len(world.events.problems("delivery_failed")) >= 3)
    assert len(await world.markers()) == 1
    down = False
    await until(lambda: world.got)
    await until(world.idle)


@pytest.mark.parametrize("method", ["get", "delete"])
async def test_a_store_that_fails(world, monkeypatch, method):
    """While the store cannot be reached the event is held, however long; then it is published and done with."""
    real, failures = getattr(world.store, method), 12

    async def broken(request):
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise BackendError("away")
        return await real(request)

    monkeypatch.setattr(world.store, method, broken)
    await world.transact()
    await until(lambda: failures < 0)
    await until(lambda: world.got)
    await until(world.idle)
    assert await world.markers() == []
    assert len(world.got) == 1


async def test_stopped_while_it_waits(world):
    """A relay that ends gives its events back at once; the next one takes them."""
    await world.transact()
    await until(lambda: world.got)
    name = marker()
    await world.announce(name)
    await asyncio.sleep(0.01)
    world.relays.set_apps([])
    await until(lambda: not world.relays._running)
    await world.store.set(SetRequest(name, b'"0"'))
    world.relays.set_apps([ORDERS])
    await until(lambda: len(world.got) == 2)


async def test_a_reloaded_store_and_broker(world, components):
    """A store that is opened anew is used from then on; a broker that is opened anew is subscribed to."""
    await world.transact()
    await until(lambda: world.got)
    async with AsyncExitStack() as stack:
        other = MemoryStateStore(MemoryStateSettings(), ComponentContext("store", "state.in-memory"))
        await other.start(stack)
        components.opened["store"] = replace(components.opened["store"], component=other)
        bus = MemoryPubSub(MemoryPubSubSettings(), ComponentContext("bus", "pubsub.in-memory"))
        await bus.start(stack)
        components.opened["bus"] = replace(components.opened["bus"], component=bus)
        got: list[Any] = []

        async def take(message) -> Outcome:
            got.append(message)
            return Outcome.ACCEPTED

        await bus.subscribe(SubscribeRequest("newOrder", "stock"), take)
        world.relays.set_apps([ORDERS])
        await until(lambda: [one.component.component for one in world.relays._running.values()] == [bus])
        await world.transact()
        await until(lambda: got)
        await world.relays.close(1.0)


async def test_a_broker_that_cannot_be_subscribed(world, monkeypatch):
    """Transactions are refused with the reason while the internal topic has no subscription; it is tried again."""
    monkeypatch.setattr(outbox_relay, "READY_TIMEOUT", 0.05)
    await until(lambda: world.relays._running)
    world.relays.set_apps([])
    await until(lambda: not world.relays._running)
    real = world.bus.subscribe

    async def subscribe(request, handler):
        raise BackendError("no route to the broker")

    monkeypatch.setattr(world.bus, "subscribe", subscribe)
    world.relays.set_apps([ORDERS])
    with pytest.raises(DaprError, match="no route to the broker") as caught:
        await world.transact()
    assert caught.value.row is errors.PUBSUB_OUTBOX
    assert await world.store.get(GetRequest("orders||k")) is None
    monkeypatch.setattr(world.bus, "subscribe", real)
    await until(lambda: world.relays._running)
    await world.transact()
    await until(lambda: world.got)


async def test_a_pubsub_that_is_not_there(world, components, monkeypatch):
    """An outbox whose pubsub the app does not see refuses transactions, and says so."""
    monkeypatch.setattr(outbox_relay, "READY_TIMEOUT", 0.05)
    world.configure(outboxpubsub="other")
    with pytest.raises(DaprError, match="no pubsub component other in scope"):
        await world.transact()


async def test_two_stores_with_one_topic(world, components):
    """Two stores that share an internal topic share its relay: each event is looked for in both."""
    async with AsyncExitStack() as stack:
        second = MemoryStateStore(MemoryStateSettings(), ComponentContext("second", "state.in-memory"))
        await second.start(stack)
        components.add(second, "second", metadata={**METADATA})
        world.relays.set_apps([ORDERS])
        await until(lambda: [len(one.stores.configs) for one in world.relays._running.values()] == [2])
        item = TransactionItem("upsert", SaveItem("k", b'"from the second"'))
        await world.block.transact(world.caller, "second", [item], {})
        await world.transact(b'"from the first"')
        await until(lambda: len(world.got) == 2)
        assert {event["data"] for event in world.got} == {"from the first", "from the second"}
        await until(world.idle)
        await world.relays.close(1.0)
