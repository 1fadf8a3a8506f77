"""The configuration block: whose a subscription is, what is kept of it, and when it ends."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.configuration import block as block_module
from dapr_shared.blocks.configuration.block import ConfigurationBlock, KeptSubscription
from dapr_shared.blocks.configuration.delivery import ConfigurationDelivery
from dapr_shared.blocks.presence import Presences
from dapr_shared.components.memory.configuration import MemoryConfigurationSettings, MemoryConfigurationStore
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.configuration import ConfigurationItem
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.observability.events import Events
from tests.support.pubsub_fakes import ORDERS, FakeHttpChannel, Lines, until


class Kept:
    """A memory that is read as it was written."""

    def __init__(self) -> None:
        self.apps: dict = {}

    def load(self, app):
        return self.apps.get(app, ())

    def save(self, app, subscriptions):
        self.apps[app] = list(subscriptions)


class World:
    """The app `orders`, present, and one store."""

    def __init__(self, components, metrics) -> None:
        self.components = components
        self.events = Events(metrics, Lines().logger)
        self.metrics = metrics
        self.memory = Kept()
        self.app = FakeHttpChannel()
        self.store = MemoryConfigurationStore(MemoryConfigurationSettings(), ComponentContext("store", "fake"))
        self.blocks: list[ConfigurationBlock] = []

    async def block(self, *, present: bool = True) -> ConfigurationBlock:
        """A block, as of an instance that starts."""
        self.presences = Presences()
        made = ConfigurationBlock(
            self.components, self.presences, ConfigurationDelivery(self.events), self.memory, self.metrics, self.events
        )
        self.blocks.append(made)
        await self.presences.set_apps({ORDERS: self.app}, frozenset())
        if present:
            self.presences.reachable_changed(ORDERS, reachable=True)
        return made


@pytest.fixture
async def world(components, metrics):
    from contextlib import AsyncExitStack

    made = World(components, metrics)
    async with AsyncExitStack() as stack:
        await made.store.start(stack)
        components.add(made.store)
        yield made
        for block in made.blocks:
            await block.aclose()


async def refused(call, row) -> None:
    with pytest.raises(DaprError) as raised:
        await call
    assert raised.value.row is row


async def test_a_change_is_brought_to_the_app(world, caller):
    """It is POSTed under store and key, with the id that the app was given; another key's is not."""
    block = await world.block()
    number = await block.subscribe_app(caller, "store", ["b", "a", "a"], {})
    world.store.put("c", ConfigurationItem("no"))
    world.store.put("a", ConfigurationItem("1", "v"))
    await until(lambda: world.app.events)
    assert world.app.paths == ["configuration/store/a"]
    assert world.app.events == [{"id": number, "items": {"a": {"value": "1", "version": "v"}}}]


async def test_the_same_subscription_has_one_id(world, caller):
    """The keys' order and repetition do not matter; other keys, metadata or another store do."""
    block = await world.block()
    world.components.add(world.store, "other")
    first = await block.subscribe_app(caller, "store", ["b", "a"], {})
    assert await block.subscribe_app(caller, "store", ["a", "b", "b"], {}) == first
    others = [
        await block.subscribe_app(caller, *words)
        for words in (("store", ["a"], {}), ("store", ["a", "b"], {"m": "1"}), ("other", ["a", "b"], {}))
    ]
    assert len({first, *others}) == 4


async def test_a_subscription_is_kept_until_it_is_ended(world, caller):
    """Before the app has its id it is kept, with all that it is; a stream is not; what is ended is forgotten."""
    block = await world.block()
    number = await block.subscribe_app(caller, "store", ["b", "a"], {"m": "1"})
    assert world.memory.apps == {ORDERS: [KeptSubscription(number, "store", ("a", "b"), {"m": "1"})]}
    stream = await block.open_stream(caller, "store", ["x"], {})
    again = await block.subscribe_app(caller, "store", ["c"], {})
    assert [kept.id for kept in world.memory.apps[ORDERS]] == [number, again]
    await block.close(stream)
    await block.unsubscribe(caller, "store", number)
    assert [kept.id for kept in world.memory.apps[ORDERS]] == [again]


async def test_a_kept_subscription_is_told_what_is_there(world, caller):
    """The next instance goes on with the same id, and begins with what the store holds: it may have changed meanwhile."""
    first = await world.block()
    number = await first.subscribe_app(caller, "store", ["a"], {})
    await first.aclose()
    assert world.memory.apps[ORDERS], "the end of the instance is not the end of the subscription"
    world.store.put("a", ConfigurationItem("new"))
    second = await world.block()
    await until(lambda: world.app.events)
    assert world.app.events == [{"id": number, "items": {"a": {"value": "new"}}}]
    assert await second.subscribe_app(caller, "store", ["a"], {}) == number
    await second.unsubscribe(caller, "store", number)


async def test_kept_subscriptions_are_bounded(world, monkeypatch):
    """No more come back than an app may have."""
    monkeypatch.setattr(block_module, "MAX_SUBSCRIPTIONS", 2)
    world.memory.apps[ORDERS] = [KeptSubscription(str(number), "store", (str(number),)) for number in range(3)]
    block = await world.block()
    assert list(block._listeners) == ["0", "1"]


async def test_subscriptions_of_an_app_are_bounded(world, caller, monkeypatch):
    """One too many is refused by name, of either protocol."""
    monkeypatch.setattr(block_module, "MAX_SUBSCRIPTIONS", 2)
    block = await world.block()
    await block.subscribe_app(caller, "store", ["a"], {})
    await block.open_stream(caller, "store", ["a"], {})
    for call in (block.subscribe_app(caller, "store", ["b"], {}), block.open_stream(caller, "store", ["b"], {})):
        await refused(call, errors.CONFIGURATION_TOO_MANY_SUBSCRIPTIONS)


async def test_a_component_that_is_no_more_ends_the_subscription(world, caller):
    """While its resource is there it waits for the component; without one it ends and is forgotten."""
    block = await world.block()
    number = await block.subscribe_app(caller, "store", ["a"], {})
    opened = world.components.opened.pop("store")
    block.components_changed()
    await until(lambda: block._listeners[number].component is None)
    assert world.memory.apps[ORDERS]
    world.components.opened["store"] = opened
    block.components_changed()
    await until(lambda: block._listeners[number].component is world.store)
    del world.components.opened["store"]
    asked = []
    block.set_configured(lambda app, store: bool(asked.append((app, store))))
    block.components_changed()
    await until(lambda: not block._listeners)
    assert world.memory.apps[ORDERS] == []
    assert asked == [(ORDERS, "store")]


async def test_an_app_that_is_no_more_ends_its_subscriptions(world, caller):
    """They end and are forgotten."""
    block = await world.block()
    await block.subscribe_app(caller, "store", ["a"], {})
    await world.presences.set_apps({}, frozenset())
    await until(lambda: not block._listeners)
    assert world.memory.apps[ORDERS] == []


async def test_only_its_app_ends_a_subscription(world, caller, caller_of):
    """Not another app, not by the name of another store; it is still there afterwards."""
    block = await world.block()
    world.components.add(world.store, "other")
    number = await block.subscribe_app(caller, "store", ["a"], {})
    for call in (
        block.unsubscribe(caller_of("stock"), "store", number),
        block.unsubscribe_stream(caller_of("stock"), number),
        block.unsubscribe(caller_of("orders", "other"), "store", number),
        block.unsubscribe(caller, "other", number),
        block.unsubscribe(caller, "store", "absent"),
    ):
        await refused(call, errors.CONFIGURATION_UNSUBSCRIBE)
    assert list(block._listeners) == [number]


async def test_changes_wait_for_an_app_that_is_away(world, caller):
    """Nothing is called; when it is there it gets the newest of each key, once."""
    block = await world.block(present=False)
    await block.subscribe_app(caller, "store", [], {})
    for value in ("1", "2"):
        world.store.put("a", ConfigurationItem(value))
    world.presences.reachable_changed(ORDERS, reachable=True)
    await until(lambda: world.app.events)
    assert [event["items"]["a"]["value"] for event in world.app.events] == ["2"]


async def test_what_cannot_be_subscribed_to(world, caller, caller_of):
    """No store in sight, an unknown one, an app without a channel."""
    block = await world.block()
    await refused(block.get(caller_of("blind"), "store", [], {}), errors.CONFIGURATION_NOT_CONFIGURED)
    await refused(block.open_stream(caller, "absent", [], {}), errors.CONFIGURATION_NOT_FOUND)
    await refused(block.subscribe_app(caller_of("stock"), "store", [], {}), errors.APP_CHANNEL_NIL)
