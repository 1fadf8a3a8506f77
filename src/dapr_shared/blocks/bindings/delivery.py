"""Bringing one event of an input binding to one app, and doing what its answer asks for.

Delivery road, from the block to the app channel. An event is accepted when the app has accepted it and what its answer
asks for is done; an app that cannot be reached has answered nothing, so nothing is counted (design §5.14). Facts:
reference http-api §13, grpc-api §3, behaviours §7. Unlike daprd, which only logs it, an output binding or a state store that fails
makes the event come again: the app's answer would be lost. One that does not exist is told and left.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dapr_shared.blocks.bindings.output import CREATE
from dapr_shared.blocks.state.items import SaveItem, is_json_text
from dapr_shared.channel.binding_callbacks import deliver_event_grpc, deliver_event_http
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.bindings import BindingEvent, Outcome
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    NoSlotError,
)
from dapr_shared.core.errors import DaprError
from dapr_shared.observability.spans import SpanTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dapr_shared._proto import common_pb
    from dapr_shared.blocks.bindings.output import BindingsBlock
    from dapr_shared.blocks.presence import Presence
    from dapr_shared.blocks.state.block import StateBlock
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.channel.binding_callbacks import BindingReply
    from dapr_shared.contracts.bindings import EventHandler
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import Span

_ON_EVENT = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent"
_TRACE = ("traceparent", "tracestate")


class BindingDeliveries:
    """Makes the handlers; one for the instance."""

    def __init__(
        self,
        output: BindingsBlock,
        state: StateBlock,
        answered: Callable[[AppRef], Caller | None],
        metrics: DaprMetrics,
        events: Events,
        *,
        timeout: float | None = None,
        spans: SpanTable | None = None,
    ) -> None:
        """`answered`: the caller that an app's answer stands for (`AppRegistry.answered`).

        `timeout`: seconds that an app may work on one event; `None` or 0: without limit.
        """
        self.output = output
        self.state = state
        self.answered = answered
        self.metrics = metrics
        self.events = events
        self.timeout = timeout or None
        self.spans = spans or SpanTable()

    def handler(self, presence: Presence, component: Opened[Any]) -> EventHandler:
        """The handler of one app's reading of one binding."""
        return BindingDelivery(self, presence, component).handle


def route_of(component: Opened[Any]) -> str:
    """Where an HTTP app takes the events: the component's `route`, else its name."""
    return (component.runtime_metadata.get("route", "").strip() or component.name).lstrip("/")


class BindingDelivery:
    """One app's events of one binding."""

    def __init__(self, deliveries: BindingDeliveries, presence: Presence, component: Opened[Any]) -> None:
        self._output = deliveries.output
        self._state = deliveries.state
        self._answered = deliveries.answered
        self._metrics = deliveries.metrics
        self._events = deliveries.events
        self._timeout = deliveries.timeout
        self._spans = deliveries.spans
        self._presence = presence
        self._name = component.name
        self._route = route_of(component)

    async def handle(self, event: BindingEvent) -> Outcome:
        """Deliver one event. Never raises but when cancelled."""
        started = perf_counter()
        try:
            outcome = await self._deliver(event)
        except Exception as error:  # noqa: BLE001 - a defect of ours loses no event: it comes again
            self._events.defect(f"binding event for {self._presence.ref}", error)
            outcome = Outcome.RETRY
        if outcome is not Outcome.RELEASED:
            ref = self._presence.ref
            counted = self._metrics.input_binding(
                ref.app_id, self._name, ref.namespace, success=outcome is Outcome.ACCEPTED
            )
            counted.record((perf_counter() - started) * 1000)
        return outcome

    async def _deliver(self, event: BindingEvent) -> Outcome:
        channel = self._presence.channel
        if channel is None or self._presence.absent() is not None:
            return Outcome.RELEASED
        try:
            reply = await self._ask(channel, event)
        except ChannelError as error:
            return Outcome.RELEASED if await self._unanswered(channel, error) else self._failed(str(error))
        if not reply.accepted:
            return self._failed(reply.words)
        if event.answered is not None:
            event.answered(reply.data)
        return await self._carry_out(reply) if reply.to or reply.states else Outcome.ACCEPTED

    async def _unanswered(self, channel: AppChannel, error: ChannelError) -> bool:
        """Whether the app is away, so that the event goes back uncounted; a time-out or garbage is an answer."""
        if isinstance(error, NoSlotError):
            return True
        if isinstance(error, AppTimeoutError):
            return False
        if isinstance(error, AppUnreachableError | AppNotHealthyError | ChannelBusyError):
            self._presence.doubt()
            return True
        if await channel.reachable():
            return False
        self._presence.doubt()  # it broke off and is gone: it crashed or was stopped
        return True

    async def _ask(self, channel: AppChannel, event: BindingEvent) -> BindingReply:
        span = self._begin_span(channel, event.metadata)
        if span is None:
            return await self._send(channel, event.data, event.metadata)
        metadata = {name: value for name, value in event.metadata.items() if name.lower() not in _TRACE}
        metadata |= {name.decode(): value.decode("latin-1") for name, value in span.headers()}
        problem: str | None = "the app did not answer"
        try:
            reply = await self._send(channel, event.data, metadata)
            problem = None if reply.accepted else reply.words
        finally:
            span.end(problem)
        return reply

    async def _send(self, channel: AppChannel, data: bytes, metadata: Mapping[str, str]) -> BindingReply:
        if isinstance(channel, GrpcAppChannel):
            return await deliver_event_grpc(channel, self._name, data, metadata, timeout=self._timeout)
        return await deliver_event_http(channel, self._route, data, metadata, timeout=self._timeout)

    def _begin_span(self, channel: AppChannel, metadata: Mapping[str, str]) -> Span | None:
        """The span of an event, in the trace that its metadata names or a new one, if that is sampled and exported."""
        if not self._spans.active:
            return None
        parent, state = (metadata.get(name, "").encode("latin-1", "replace") or None for name in _TRACE)
        span = self._spans.begin_event(self._presence.ref, f"bindings/{self._name}", parent, state)
        if span is not None:
            span.attributes |= {
                "db.name": self._name,
                "db.system": "bindings",
                "db.connection_string": _ON_EVENT if isinstance(channel, GrpcAppChannel) else f"POST /{self._name}",
                "rpc.service": "Dapr",
            }
        return span

    def _failed(self, problem: str) -> Outcome:
        self._events.binding_event_failed(self._presence.ref, self._name, problem)
        return Outcome.RETRY

    # What the answer asks for ----------------------------------------------------------------------------------------

    async def _carry_out(self, reply: BindingReply) -> Outcome:
        """Save the states and call the bindings, as the app that answered."""
        caller = self._answered(self._presence.ref)
        if caller is None:  # it was removed meanwhile: there is nobody in whose name it could be done
            return Outcome.RETRY
        if reply.states and not await self._save(caller, reply.store, reply.states):
            return Outcome.RETRY
        if reply.parallel:
            done = await asyncio.gather(*(self._call(caller, name, reply.data) for name in reply.to))
            return Outcome.ACCEPTED if all(done) else Outcome.RETRY
        for name in reply.to:
            if not await self._call(caller, name, reply.data):
                return Outcome.RETRY
        return Outcome.ACCEPTED

    async def _call(self, caller: Caller, name: str, data: bytes) -> bool:
        try:
            await self._output.invoke(caller, name, CREATE, data, {})
        except DaprError as error:
            self._events.binding_output_failed(self._presence.ref, self._name, name, error.message)
            return not isinstance(error.__cause__, BackendError)
        return True

    async def _save(self, caller: Caller, store: str, states: Iterable[common_pb.StateItem]) -> bool:
        items = [
            SaveItem(
                state.key,
                state.value,
                is_json=is_json_text(state.value),
                etag=state.etag.value if state.HasField("etag") else None,
                metadata=dict(state.metadata),
            )
            for state in states
        ]
        try:
            await self._state.save(caller, store, items)
        except DaprError as error:
            self._events.binding_output_failed(self._presence.ref, self._name, store, error.message)
            return not isinstance(error.__cause__, BackendError)
        return True
