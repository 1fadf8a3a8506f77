"""Bringing one message to one app: read, route, deliver, dead-letter.

Delivery road, from the block to the app channel. What decides is design §5.14: a message is accepted only when the app
has it or it is safe in the dead-letter topic; an app that cannot be reached answers nothing, so nothing is counted.
Facts: reference behaviours §1.2.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from dapr_shared._proto import appcallback_pb
from dapr_shared.blocks.pubsub.envelope import EventError, is_raw_payload
from dapr_shared.blocks.pubsub.event import CloudEvent, read_event
from dapr_shared.blocks.pubsub.routing import RouteError, compile_routes
from dapr_shared.blocks.pubsub.topics import InternalTopics, scopes_of, topic_at_broker
from dapr_shared.channel.callbacks import Reply, deliver_grpc, deliver_http
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    NoSlotError,
)
from dapr_shared.contracts.pubsub import Message, Outcome, PublishRequest
from dapr_shared.observability.spans import SpanTable

if TYPE_CHECKING:
    from dapr_shared.blocks.pubsub.app import AppSubscriptions
    from dapr_shared.blocks.pubsub.subscriptions import TopicSubscription
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.pubsub import Handler, PubSub
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import Span
    from dapr_shared.wire.http.messages import Headers

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}").fullmatch
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}").fullmatch
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "connection", "transfer-encoding", "dapr-api-token", "traceparent"}
)
ABSENT_ERRORS = (AppUnreachableError, AppNotHealthyError, ChannelBusyError, NoSlotError)
"""The app did not answer because it was not reached: nothing is counted."""


DELIVERY_TIMEOUT = 30 * 60.0
"""Seconds that an app may take to answer a message, where neither the instance nor the component says otherwise."""


class _Unfit(msgspec.Struct, frozen=True):
    """Why a message is not brought to the app."""

    problem: str
    unwanted: bool
    """Nobody wants it; else it failed, and may be better another time."""


class TopicDeliveries:
    """Makes handlers; one for the instance. Answers for `blocks.pubsub.app.Deliveries`."""

    def __init__(
        self,
        metrics: DaprMetrics,
        events: Events,
        clock: Clock,
        *,
        timeout: float | None = DELIVERY_TIMEOUT,
        spans: SpanTable | None = None,
        internal: InternalTopics | None = None,
    ) -> None:
        """`timeout`: seconds that an app may work on one message; `None` or 0: without limit.

        `internal`: topics that are closed to apps.
        """
        self.internal = internal or InternalTopics()
        self.metrics = metrics
        self.events = events
        self.clock = clock
        self.spans = spans or SpanTable()
        self._timeout = timeout

    def timeout(self, component: Opened[PubSub[Any]]) -> float | None:
        """Seconds for one delivery through this component, whose own word goes first; `None`: no limit."""
        own = component.component.processing_timeout
        return (self._timeout if own is None else own) or None

    def may_subscribe(self, component: Opened[PubSub[Any]], app: AppRef, topic: str) -> bool:
        """Whether the component's scopes and the outbox leave the topic to the app."""
        return scopes_of(component).may_subscribe(app.app_id, topic) and not self.internal.hold(component, app, topic)

    def may_dead_letter(self, component: Opened[PubSub[Any]], app: AppRef, topic: str) -> bool:
        """Whether the app may have its messages put there: what it may publish to, as in Dapr."""
        return scopes_of(component).may_publish(app.app_id, topic) and not self.internal.hold(component, app, topic)

    def handler(
        self, subscriptions: AppSubscriptions, subscription: TopicSubscription, component: Opened[PubSub[Any]]
    ) -> Handler:
        """The handler of one subscription. Raises `ValueError`: a rule does not compile, or a scope forbids the topic."""
        app = subscriptions.ref
        if not self.may_subscribe(component, app, subscription.topic):
            raise ValueError(
                f"app {app.app_id} may not subscribe to topic {subscription.topic}: see the scopes of {component.name}"
            )
        delivery = TopicDelivery(self, subscriptions, subscription, component)
        if subscription.bulk is None:
            return delivery.handle
        # Imported here: few apps take messages in bulk.
        from dapr_shared.blocks.pubsub.bulk import BulkDelivery  # noqa: PLC0415

        return BulkDelivery(delivery, subscription.bulk).handle


class TopicDelivery:
    """One subscription's messages on their way to its app."""

    def __init__(
        self,
        deliveries: TopicDeliveries,
        subscriptions: AppSubscriptions,
        subscription: TopicSubscription,
        component: Opened[PubSub[Any]],
    ) -> None:
        self.subscriptions = subscriptions
        self.subscription = subscription
        self.component = component
        self.raw = is_raw_payload(subscription.metadata)
        self.timeout = deliveries.timeout(component)
        """Seconds that the app has for its answer; no answer in time counts as a failed one."""
        self._routes = compile_routes(subscription.routes or (("", ""),))
        self._only_path = self._routes.only_path
        self._metrics = deliveries.metrics
        self._events = deliveries.events
        self._clock = deliveries.clock
        self._spans = deliveries.spans
        self._may_dead_letter = deliveries.may_dead_letter

    async def handle(self, message: Message) -> Outcome:
        """Deliver one message. Never raises but when cancelled."""
        started = perf_counter()
        try:
            outcome, reply = await self._bring(message)
        except Exception as error:  # noqa: BLE001 - a defect of ours loses no message: it comes again
            self.defect(error)
            outcome, reply = Outcome.RETRY, Reply.RETRY
        self.count(outcome, reply, started)
        return outcome

    async def prepare(self, message: Message) -> tuple[CloudEvent, str] | Outcome:
        """The event and the path that it takes, or what becomes of a message that takes none."""
        event = self._event(message)
        if isinstance(event, _Unfit):
            return await self._unfit(message, event)
        return event

    def _event(self, message: Message) -> tuple[CloudEvent, str] | _Unfit:
        """The event and its path, or why it takes none."""
        try:
            event = read_event(message, pubsub=self.component.name, topic=self.subscription.topic, raw=self.raw)
            if event.expires and event.expired(self._clock.now()):
                return _Unfit("the event has expired", unwanted=True)
            path = self._only_path
            if path is None:
                path = self._routes.path(event)
        except (EventError, RouteError) as error:
            return _Unfit(str(error), unwanted=False)
        if path is None:
            return _Unfit("no rule matches", unwanted=True)
        return event, path

    async def _unfit(self, message: Message, event: _Unfit) -> Outcome:
        return await (self.dropped if event.unwanted else self.failed)(message, event.problem)

    async def _bring(self, message: Message) -> tuple[Outcome, Reply]:  # noqa: PLR0911 - one for each answer
        """What became of a message, and what that counts as.

        Two coroutines from here to the app's channel, not six: with the channel's own short way 6 of 73 µs of a message.
        """
        found = self._event(message)
        if isinstance(found, _Unfit):
            outcome = await self._unfit(message, found)
            return outcome, Reply.DROP if outcome is Outcome.ACCEPTED else Reply.RETRY
        event, path = found
        channel = self.subscriptions.channel
        if channel is None or self.subscriptions.absent() is not None:
            return Outcome.RELEASED, Reply.RETRY
        try:
            if self._spans.active or isinstance(channel, GrpcAppChannel):
                reply, words = await self._ask(channel, message, event, path)
            else:
                reply, words = await deliver_http(
                    channel, path, event.body, self.headers(message, event), timeout=self.timeout
                )
        except EventError as error:
            return await self.failed(message, str(error)), Reply.RETRY
        except ChannelError as error:
            if await self.unanswered(channel, error):
                return Outcome.RELEASED, Reply.RETRY
            return await self.failed(message, str(error)), Reply.RETRY
        if reply is Reply.SUCCESS:
            return Outcome.ACCEPTED, reply
        return await self._refused(message, reply, words)

    async def _refused(self, message: Message, reply: Reply, words: str) -> tuple[Outcome, Reply]:
        if reply is Reply.RETRY:
            return await self.failed(message, words), reply
        if reply is Reply.DROP:
            return await self.dropped(message, words), reply
        return Outcome.ACCEPTED, Reply.DROP

    async def _ask(self, channel: AppChannel, message: Message, event: CloudEvent, path: str) -> tuple[Reply, str]:
        headers = self.headers(message, event)
        span = self.begin_span(message, event)
        if span is None:
            return await self._send(channel, event, path, headers)
        headers = [header for header in headers if header[0] not in (b"traceparent", b"tracestate")]
        problem: str | None = "the app did not answer"
        try:
            reply, words = await self._send(channel, event, path, headers + span.headers())
            problem = words or reply.name if reply is not Reply.SUCCESS else None
        finally:
            span.end(problem)
        return reply, words

    def begin_span(self, message: Message, event: CloudEvent) -> Span | None:
        """The span of one event's delivery, if its trace is sampled and exported."""
        if not self._spans.active:
            return None
        topic = self.subscription.topic
        span = self._spans.begin_call(self.subscriptions.ref, f"pubsub/{topic}", "client", self.headers(message, event))
        if span is not None:
            span.attributes |= {"messaging.system": "pubsub", "messaging.destination.name": topic}
        return span

    async def _send(self, channel: AppChannel, event: CloudEvent, path: str, headers: Headers) -> tuple[Reply, str]:
        if isinstance(channel, GrpcAppChannel):
            return await deliver_grpc(
                channel,
                topic_event(event, self.component.name, self.subscription.topic, path),
                headers,
                timeout=self.timeout,
            )
        return await deliver_http(channel, path, event.body, headers, timeout=self.timeout)

    async def unanswered(self, channel: AppChannel, error: ChannelError) -> bool:
        """Whether the app is away, so that the message goes back uncounted; a time-out or garbage is an answer."""
        if isinstance(error, ABSENT_ERRORS):
            self.subscriptions.doubt()
            return True
        if isinstance(error, AppTimeoutError) or await channel.reachable():
            return False
        self.subscriptions.doubt()  # it broke off and is gone: it crashed or was stopped
        return True

    def defect(self, error: Exception) -> None:
        """Tell of an exception that nothing expected."""
        self._events.defect(f"delivery to {self.subscriptions.ref}", error)

    async def failed(self, message: Message, problem: str) -> Outcome:
        """The app did not accept it, or it is no event: to the dead-letter topic if there is one, else again."""
        self._events.delivery_failed(self.subscriptions.ref, self.component.name, self.subscription.topic, problem)
        if not self.subscription.dead_letter_topic:
            return Outcome.RETRY
        return await self._dead_letter(message)

    async def dropped(self, message: Message, problem: str) -> Outcome:
        """Nobody wants it: to the dead-letter topic if there is one, else it is done."""
        if not self.subscription.dead_letter_topic:
            self._events.message_dropped(self.subscriptions.ref, self.component.name, self.subscription.topic, problem)
            return Outcome.ACCEPTED
        return await self._dead_letter(message)

    async def _dead_letter(self, message: Message) -> Outcome:
        wanted, app = self.subscription.dead_letter_topic, self.subscriptions.ref
        if not self._may_dead_letter(self.component, app, wanted):
            problem = f"dead-letter topic {wanted}: the app may not publish there"
            self._events.delivery_failed(app, self.component.name, self.subscription.topic, problem)
            return Outcome.RETRY
        topic = topic_at_broker(self.component, app, wanted)
        try:
            await self.component.component.publish(
                PublishRequest(topic, message.data, message.content_type, message.metadata)
            )
        except BackendError as error:
            problem = f"dead-letter topic {topic}: {error}"
            self._events.delivery_failed(app, self.component.name, self.subscription.topic, problem)
            return Outcome.RETRY
        return Outcome.ACCEPTED

    def headers(self, message: Message, event: CloudEvent) -> Headers:
        """What goes beside the event: the broker's metadata as far as it makes headers, and the event's trace."""
        headers: Headers = []
        if message.metadata:
            for name, value in message.metadata.items():
                lower = name.lower()
                if lower not in _OWN_HEADERS and _HEADER_NAME(lower) and _HEADER_VALUE(value):
                    headers.append((lower.encode(), value.encode()))
        parent = event.traceparent
        if parent and _HEADER_VALUE(parent):
            headers.append((b"traceparent", parent.encode()))
            state = event.tracestate
            if state and _HEADER_VALUE(state):
                headers.append((b"tracestate", state.encode()))
        return headers

    def count(self, outcome: Outcome, reply: Reply, started: float) -> None:
        """Count one delivery that was answered; what was released has not been."""
        if outcome is not Outcome.RELEASED:
            self._metrics.pubsub_ingress(
                self.subscriptions.ref.app_id,
                self.component.name,
                self.subscriptions.ref.namespace,
                self.subscription.topic,
                _PROCESS_STATUS[reply],
            ).record((perf_counter() - started) * 1000)


_PROCESS_STATUS = {
    Reply.SUCCESS: "success",
    Reply.RETRY: "retry",
    Reply.DROP: "drop",
    Reply.DROP_SILENTLY: "drop",
}


def topic_event(event: CloudEvent, pubsub: str, topic: str, path: str) -> appcallback_pb.TopicEventRequest:
    """The event as a gRPC app is sent it. Raises `EventError`."""
    request = appcallback_pb.TopicEventRequest(
        id=event.id,
        source=event.text("source"),
        type=event.text("type"),
        spec_version=event.text("specversion"),
        data_content_type=event.content_type,
        data=event.payload(),
        topic=topic,
        pubsub_name=pubsub,
        path=path,
    )
    try:
        request.extensions.update(event.extensions())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - protobuf's own for Struct
    except (ValueError, OverflowError) as error:  # a number that no double holds
        raise EventError(f"an attribute cannot be sent: {error}") from error
    return request
