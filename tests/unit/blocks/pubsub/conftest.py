from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.blocks.pubsub.publish import PublishBlock
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.pubsub import PublishRequest, PubSub, PubSubCapability
from dapr_shared.contracts.settings import Settings
from tests.support.fake_clock import FakeClock


class RecordingBroker(PubSub[Settings]):
    """Keeps what is published, and raises `errors[data or topic]` where one is set."""

    settings_type = Settings
    capabilities = frozenset({PubSubCapability.BULK_PUBSUB})

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("ps", "fake"))
        self.published: list[PublishRequest] = []
        self.errors: dict[Any, Exception] = {}

    async def start(self, stack) -> None:
        """Nothing to open."""

    async def publish(self, request):
        for key in (request.topic, request.data):
            if key in self.errors:
                raise self.errors[key]
        self.published.append(request)

    async def subscribe(self, request, handler):
        raise NotImplementedError


class ExpiringBroker(RecordingBroker):
    capabilities = frozenset({PubSubCapability.MESSAGE_TTL})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def broker(components) -> RecordingBroker:
    return components.add(RecordingBroker(), "ps")


@pytest.fixture
def expiring_broker(components) -> ExpiringBroker:
    return components.add(ExpiringBroker(), "expiring")


@pytest.fixture
def block(components, metrics, clock, broker) -> PublishBlock:
    return PublishBlock(components, metrics, clock)
