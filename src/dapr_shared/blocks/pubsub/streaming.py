"""Streaming subscriptions: an app receives over its own call, without a port of its own.

Delivery road, step 4 (block). Each stream is a broker subscription of its own in the app's consumer group; it ends with
its call, or before it when the instance stops, its app asks for its shutdown, or its component goes. Facts: reference
grpc-api §1.4 (`SubscribeTopicEventsAlpha1`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping  # noqa: TC003 - part of public signatures
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from dapr_shared.blocks.pubsub.delivery import TopicDelivery, topic_event
from dapr_shared.blocks.pubsub.envelope import EventError
from dapr_shared.blocks.pubsub.subscriptions import SubscriptionKind, SubscriptionStatus, TopicSubscription
from dapr_shared.blocks.pubsub.topics import consumer_group, topic_at_broker
from dapr_shared.channel.callbacks import Reply
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Message, Outcome, PubSub, SubscribeRequest
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dapr_shared._proto import appcallback_pb
    from dapr_shared.blocks.pubsub.delivery import TopicDeliveries
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.pubsub import Subscription as BrokerSubscription
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller

IN_FLIGHT = 100
"""Messages of one stream with the app at a time."""
STOP_GRACE = 0.0
"""Seconds: who held the stream is gone, so what it has not answered goes back at once."""
REPLACED_GRACE = 2.0
"""Seconds for replies where the instance ends a stream whose client is there; less than a replaced component has."""


class TopicStream:
    """One stream: give its events to the app, and take the app's replies."""

    def __init__(
        self, deliveries: TopicDeliveries, caller: Caller, wanted: TopicSubscription, component: Opened[PubSub[Any]]
    ) -> None:
        """Raises `ValueError` for a wrong subscription."""
        self.ref: AppRef = caller.ref
        self.channel: AppChannel | None = None
        self.wanted = wanted
        self.component = component
        self.group = consumer_group(component, caller.ref)
        self.broker: BrokerSubscription | None = None
        self._delivery = TopicDelivery(deliveries, cast("Any", self), wanted, component)
        self._queue: deque[appcallback_pb.TopicEventRequest] = deque()
        self._waiting: dict[str, tuple[asyncio.Future[Reply | None], float]] = {}
        """What a reply goes to, and until when there is time for it; the earliest is first."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._ended = False
        self._error: BaseException | None = None

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
            request = topic_event(event, self.component.name, self.wanted.topic, path)
        except EventError as error:  # it would end the stream, and the next one
            return await self._delivery.failed(message, str(error))
        reply = await self._ask(event.id, request)
        if reply is Reply.RETRY or reply is None:
            why = "no reply in time" if reply is None else "status RETRY"
            outcome = await self._delivery.failed(message, why)
        elif reply is Reply.DROP:
            outcome = await self._delivery.dropped(message, "status DROP")
        else:
            outcome = Outcome.ACCEPTED
        self._delivery.count(outcome, reply or Reply.RETRY, started)
        return outcome

    async def _ask(self, event_id: str, request: appcallback_pb.TopicEventRequest) -> Reply | None:
        """The app's reply; `None` when there is none in time.

        A reply names its event by the id alone. So of two events with one id (the publisher chooses it, and it may
        repeat with another source) the second goes out when the first is answered. A reply that is late is nobody's,
        unless the message is out again: then it is what the app says to it.
        """
        while (other := self._waiting.get(event_id)) is not None:
            await asyncio.wait((other[0],))
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply | None] = loop.create_future()
        limit = self._delivery.timeout
        self._waiting[event_id] = reply, math.inf if limit is None else loop.time() + limit
        if self._timer is None and limit is not None:
            self._timer = loop.call_later(limit, self._end_late)
        self._queue.append(request)
        self._wake()
        try:
            return await reply
        finally:
            del self._waiting[event_id]
            reply.cancel()  # where it was given up, who waits for its end goes on

    def reply(self, event_id: str, reply: Reply) -> None:
        """The app's reply to an event; one to an event that is not waiting is ignored, as Dapr does."""
        waiting = self._waiting.get(event_id)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(reply)

    async def next(self) -> appcallback_pb.TopicEventRequest | None:
        """Wait for the next event for the app; `None` when the stream has ended. Raises what it was ended with."""
        while not self._ended and not self._queue:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if not self._ended:
            return self._queue.popleft()
        if self._error is not None:
            raise self._error
        return None

    def end(self, error: BaseException | None = None) -> None:
        """Send no more events; `next` then raises the error, if there is one."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    async def stop(self, grace: float) -> None:
        """Take no more messages; replies may take `grace` seconds, then what is unanswered goes back."""
        if self.broker is not None:
            await self.broker.stop(grace)
        if self._timer is not None:
            self._timer.cancel()

    def _end_late(self) -> None:
        """One timer for all replies: to set one for each and cancel it would cost more than the wait."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for reply, due in self._waiting.values():
            if due > now:
                self._timer = loop.call_at(due, self._end_late)
                return
            if not reply.done():
                reply.set_result(None)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


class StreamingBlock:
    """Opens streams, and knows those that are open."""

    def __init__(self, components: Components, deliveries: TopicDeliveries) -> None:
        self._components = components
        self._deliveries = deliveries
        self._events = deliveries.events
        self._open: dict[AppRef, set[TopicStream]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    # What a client does ----------------------------------------------------------------------------------------------

    async def open(
        self, caller: Caller, pubsub: str, topic: str, metadata: Mapping[str, str], dead_letter_topic: str
    ) -> TopicStream:
        """Subscribe; whoever holds the stream says `left` at its end.

        Raises `PUBSUB_NOT_FOUND`, `PUBSUB_FORBIDDEN`, `PUBSUB_SUBSCRIBE`, `PUBSUB_STREAM_ENDED`, `BAD_REQUEST`.
        """
        component = self._find(caller.ref, pubsub)
        if component is None:
            raise errors.PUBSUB_NOT_FOUND(pubsub=pubsub)
        if not topic:
            raise errors.BAD_REQUEST(detail="initial_request names no topic")
        if not self._deliveries.may_subscribe(component, caller.ref, topic):
            raise errors.PUBSUB_FORBIDDEN(topic=topic, app=caller.app_id)
        wanted = TopicSubscription(pubsub, topic, (("", "/"),), SubscriptionKind.STREAMING, metadata, dead_letter_topic)
        try:
            stream = TopicStream(self._deliveries, caller, wanted, component)
        except ValueError as error:
            raise errors.BAD_REQUEST(detail=error) from error
        request = SubscribeRequest(topic_at_broker(component, caller.ref, topic), stream.group, metadata, IN_FLIGHT)
        try:
            stream.broker = await component.component.subscribe(request, stream.handle)
        except BackendError as error:
            raise errors.PUBSUB_SUBSCRIBE(pubsub=pubsub, topic=topic, detail=error) from error
        if self._closed or self._outdated(stream):  # meanwhile
            await stream.stop(STOP_GRACE)
            raise _ended(stream, "its component is no longer open")
        self._open.setdefault(caller.ref, set()).add(stream)
        self._events.subscription_started(caller.ref, pubsub, topic)
        return stream

    async def left(self, stream: TopicStream) -> None:
        """The stream's call has ended: what it has not answered goes back. Twice does no harm."""
        self._forget(stream)
        await stream.stop(STOP_GRACE)

    # What the instance does ------------------------------------------------------------------------------------------

    def components_changed(self) -> None:
        """End the streams whose component is another now or out of sight; the client opens them anew."""
        for stream in [stream for stream in self._all() if self._outdated(stream)]:
            self._end(stream, REPLACED_GRACE, "its component has changed")

    def keep(self, apps: Collection[AppRef]) -> None:
        """End the streams of all other apps."""
        for ref in [ref for ref in self._open if ref not in apps]:
            self.end_app(ref, "the app was removed")

    def end_app(self, ref: AppRef, why: str) -> None:
        """End one app's streams."""
        for stream in tuple(self._open.get(ref, ())):
            self._end(stream, REPLACED_GRACE, why)

    async def close(self, grace: float) -> None:
        """End every stream; replies may take `grace` seconds, then what is unanswered goes back to the broker."""
        self._closed = True
        for stream in tuple(self._all()):
            self._end(stream, grace, "the instance stops")
        if self._ending:
            await asyncio.wait(self._ending)

    async def status(self, ref: AppRef, *, count: bool = True) -> list[SubscriptionStatus]:
        """The app's open streams, one row each; without `count` no broker is asked."""
        pending: dict[tuple[str, str], int | None] = {}
        rows: list[SubscriptionStatus] = []
        for stream in sorted(self._open.get(ref, ()), key=lambda stream: stream.wanted.key):
            wanted = stream.wanted
            if wanted.key not in pending:  # of the group, not of the stream
                pending[wanted.key] = await stream.broker.pending() if count and stream.broker is not None else None
            rows.append(SubscriptionStatus.of(wanted, "active", pending=pending[wanted.key]))
        return rows

    def count(self) -> Mapping[AppRef, int]:
        """How many streams of each app are open."""
        return {ref: len(streams) for ref, streams in self._open.items()}

    # -----------------------------------------------------------------------------------------------------------------

    def _find(self, ref: AppRef, pubsub: str) -> Opened[PubSub[Any]] | None:
        return self._components.find(cast("type[PubSub[Any]]", PubSub), ref, pubsub)

    def _all(self) -> Iterable[TopicStream]:
        return [stream for streams in self._open.values() for stream in streams]

    def _outdated(self, stream: TopicStream) -> bool:
        now = self._find(stream.ref, stream.wanted.pubsub)
        return (
            now is None
            or now.component is not stream.component.component
            or consumer_group(now, stream.ref) != stream.group
        )

    def _forget(self, stream: TopicStream) -> None:
        streams = self._open.get(stream.ref, set())
        if stream in streams:
            streams.remove(stream)
            if not streams:
                del self._open[stream.ref]
            self._events.subscription_stopped(stream.ref, stream.wanted.pubsub, stream.wanted.topic)

    def _end(self, stream: TopicStream, grace: float, why: str) -> None:
        async def end() -> None:
            await stream.stop(grace)
            stream.end(_ended(stream, why))

        self._forget(stream)
        task = asyncio.get_running_loop().create_task(end(), name=f"end a stream of {stream.ref}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _ended(stream: TopicStream, why: str) -> errors.DaprError:
    return errors.PUBSUB_STREAM_ENDED(pubsub=stream.wanted.pubsub, topic=stream.wanted.topic, detail=why)
