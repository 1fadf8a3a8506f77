from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from dapr_shared.blocks.pubsub.app import AppSubscriptions
from dapr_shared.blocks.pubsub.delivery import TopicDeliveries
from dapr_shared.blocks.pubsub.subscriptions import SubscriptionKind, TopicSubscription
from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.pubsub import Outcome, PublishRequest, SubscribeRequest
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.observability.events import Events
from tests.support.fake_clock import FakeClock
from tests.support.pubsub_fakes import ORDERS, FakeHttpChannel, FakeMemory, Lines


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def events(metrics, lines, clock) -> Events:
    return Events(metrics, lines.logger, clock)


@pytest.fixture
def deliveries(metrics, events, clock) -> TopicDeliveries:
    return TopicDeliveries(metrics, events, clock)


@pytest.fixture
async def new_broker(components):
    """Opens real in-memory brokers."""
    catalog = Catalog(installed=None)
    adapter = catalog.load(catalog.find("pubsub.in-memory"))
    async with AsyncExitStack() as stack:

        async def make(name: str = "ps", metadata: dict[str, str] | None = None) -> Any:
            settings = decode_settings(adapter.settings_type, {"redeliverInterval": "20ms"})
            broker: Any = adapter(settings, ComponentContext(name, "pubsub.in-memory"))
            await broker.start(stack)
            return components.add(broker, name, metadata=metadata)

        yield make


@pytest.fixture
async def broker(new_broker):
    return await new_broker()


@pytest.fixture
def channel() -> FakeHttpChannel:
    return FakeHttpChannel()


@pytest.fixture
async def read(broker):
    """What is published to a topic from now on, as a list that fills."""

    async def start(topic: str) -> list[Any]:
        found: list[Any] = []

        async def keep(message: Any) -> Outcome:
            found.append(message)
            return Outcome.ACCEPTED

        await broker.subscribe(SubscribeRequest(topic, "reader"), keep)
        return found

    return start


@pytest.fixture
def deliver(deliveries, components, channel, broker):
    """Delivers one message through a subscription with these settings; the outcome."""
    state = SimpleNamespace(ref=ORDERS, channel=channel, why=None, doubts=0)
    state.absent = lambda: state.why
    state.doubt = lambda: setattr(state, "doubts", state.doubts + 1)

    def handler(**settings: Any) -> Any:
        wanted = TopicSubscription(
            "ps", "t", settings.pop("routes", (("", "/events"),)), SubscriptionKind.DECLARATIVE, **settings
        )
        return deliveries.handler(state, wanted, components.opened["ps"])

    async def one(message: Any, **settings: Any) -> Outcome:
        return await handler(**settings)(message)

    one.state, one.handler = state, handler  # type: ignore[attr-defined]
    return one


@pytest.fixture
async def app(components, deliveries, events, clock, channel, broker):
    """Subscriptions of the app `orders`, on the fake channel and the in-memory broker."""
    memory = FakeMemory()
    made = AppSubscriptions(ORDERS, components, deliveries, memory, events, clock)
    made.memory = memory  # type: ignore[attr-defined]
    yield made
    await made.close(0)


@pytest.fixture
def publish(broker):
    """Publishes events with these ids to a topic."""

    async def some(*ids: str, topic: str = "t", at: Any = None) -> None:
        for name in ids:
            body = b'{"id":"%s","data":"x","datacontenttype":"text/plain"}' % name.encode()
            await (at or broker).publish(PublishRequest(topic, body, "application/cloudevents+json"))

    return some
