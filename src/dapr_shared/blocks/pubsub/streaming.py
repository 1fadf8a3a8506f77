"""Streaming subscriptions: an app receives over its own call, without a port of its own.

Delivery road, step 4 (block). Each stream is a broker subscription of its own in the app's consumer group; it ends with
its call. Facts: reference grpc-api §1.4 (`SubscribeTopicEventsAlpha1`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping  # noqa: TC003 - part of public signatures
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from dapr_shared.blocks.pubsub.delivery import TopicDelivery, topic_event
from dapr_shared.blocks.pubsub.envelope import EventError
from dapr_shared.blocks.pubsub.subscriptions import SubscriptionKind, TopicSubscription
from dapr_shared.blocks.pubsub.topics import scopes_of, topic_at_broker
from dapr_shared.channel.callbacks import Reply
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Message, Outcome, PubSub, SubscribeRequest
from dapr_shared.core import errors

if TYPE_CHECKING:
    from dapr_shared._proto import appcallback_pb
    from dapr_shared.blocks.pubsub.delivery import TopicDeliveries
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller

IN_FLIGHT = 100
"""Messages of one stream with the app at a time."""
STOP_GRACE = 0.0
"""Seconds: who held the stream is gone, so what it has not answered goes back at once."""


class TopicStream:
    """One stream: give its events to the app, and take the app's replies."""

    def __init__(
        self, deliveries: TopicDeliveries, caller: Caller, wanted: TopicSubscription, component: Opened[PubSub[Any]]
    ) -> None:
        self.ref: AppRef = caller.ref
        self.channel: AppChannel | None = None
        self._delivery = TopicDelivery(deliveries, cast("Any", self), wanted, component)
        self._events: asyncio.Queue[appcallback_pb.TopicEventRequest] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}

    def absent(self) -> str | None:
        """A stream is there for as long as it lives."""
        return None

    def doubt(self) -> None:
        """See `absent`."""

    async def handle(self, message: Message) -> Outcome:
        """Offer one message, and wait for the app's reply."""
        started = perf_counter()
        found = await self._delivery.prepare(message)
        if isinstance(found, Outcome):
            return found
        event, path = found
        try:
            request = topic_event(event, self._delivery.component.name, self._delivery.subscription.topic, path)
        except EventError as error:  # it would end the stream, and the next one
            return await self._delivery.failed(message, str(error))
        if event.id in self._waiting:  # the same event twice at once: one reply answers one of them
            return Outcome.RETRY
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[event.id] = reply
        self._events.put_nowait(request)
        try:
            answer = await reply
        finally:
            self._waiting.pop(event.id, None)
        outcome = await self._outcome(message, answer)
        self._delivery.count(outcome, answer, started)
        return outcome

    async def _outcome(self, message: Message, reply: Reply) -> Outcome:
        if reply is Reply.RETRY:
            return await self._delivery.failed(message, "status RETRY")
        if reply is Reply.DROP:
            return await self._delivery.dropped(message, "status DROP")
        return Outcome.ACCEPTED

    def reply(self, event_id: str, reply: Reply) -> None:
        """The app's reply to an event; one to an event that is not waiting is ignored, as Dapr does."""
        waiting = self._waiting.get(event_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    async def next(self) -> appcallback_pb.TopicEventRequest:
        """Wait for the next event for the app."""
        return await self._events.get()


class StreamingBlock:
    """Opens streams."""

    def __init__(self, components: Components, deliveries: TopicDeliveries) -> None:
        self._components = components
        self._deliveries = deliveries

    async def open(
        self, caller: Caller, pubsub: str, topic: str, metadata: Mapping[str, str], dead_letter_topic: str
    ) -> tuple[TopicStream, Any]:
        """Subscribe; the stream, and the broker's subscription, which the caller of this stops.

        Raises `PUBSUB_NOT_FOUND`, `PUBSUB_FORBIDDEN`, `PUBSUB_SUBSCRIBE`, `BAD_REQUEST`.
        """
        component = self._components.find(cast("type[PubSub[Any]]", PubSub), caller.ref, pubsub)
        if component is None:
            raise errors.PUBSUB_NOT_FOUND(pubsub=pubsub)
        if not topic:
            raise errors.BAD_REQUEST(detail="initial_request names no topic")
        if not scopes_of(component).may_subscribe(caller.app_id, topic):
            raise errors.PUBSUB_FORBIDDEN(topic=topic, app=caller.app_id)
        wanted = TopicSubscription(pubsub, topic, (("", "/"),), SubscriptionKind.STREAMING, metadata, dead_letter_topic)
        try:
            stream = TopicStream(self._deliveries, caller, wanted, component)
        except ValueError as error:
            raise errors.BAD_REQUEST(detail=error) from error
        request = SubscribeRequest(
            topic_at_broker(component, caller.ref, topic),
            component.runtime_metadata.get("consumerid") or caller.app_id,
            metadata,
            IN_FLIGHT,
        )
        try:
            subscription = await component.component.subscribe(request, stream.handle)
        except BackendError as error:
            raise errors.PUBSUB_SUBSCRIBE(pubsub=pubsub, topic=topic, detail=error) from error
        return stream, subscription
