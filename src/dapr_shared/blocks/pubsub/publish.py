"""Publishing: messages of the caller's app, to the broker that it names.

Request road, step 4 (block). Here stand the checks that hold for every broker, in Dapr's order, and what is made of a
payload before it is published. Nothing is answered before the broker has it. Facts: reference http-api §5,
grpc-api §1.4, behaviours §1.1 and §1.3.
"""

from __future__ import annotations

import asyncio
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from dapr_shared.blocks.pubsub import content_types
from dapr_shared.blocks.pubsub.envelope import EventDraft, EventError, is_raw_payload, make_event, payload_of_json
from dapr_shared.blocks.pubsub.topics import InternalTopics, scopes_of, topic_at_broker
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import BulkEntry, BulkFailure, PublishRequest, PubSub, PubSubCapability, time_to_live
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, ErrorRow, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.wire.http.messages import Headers

PUBLISHED_AT_ONCE = 1000
"""Entries of one bulk publish that a broker is given in one call; what comes after waits for them."""
MADE_AT_ONCE = 256
"""Entries of one bulk publish that are made into events before other requests have a turn."""

_SPAN = slice(36, 52)
"""Where the span id stands in a traceparent."""
_TRACEPARENT_LENGTH = 55


class Trace(NamedTuple):
    """The W3C trace context of a request; empty texts while tracing is off."""

    parent: str = ""
    state: str = ""

    @classmethod
    def carried(cls, headers: Headers) -> Trace:
        """The context in the headers that carry it on."""
        parent = state = ""
        for name, value in headers:
            if name == b"traceparent":
                parent = value.decode("latin-1")
            elif name == b"tracestate":
                state = value.decode("latin-1")
        return cls(parent, state)

    def child(self) -> Trace:
        """The same trace with a span of its own: each message of a bulk publish has one."""
        if len(self.parent) != _TRACEPARENT_LENGTH:
            return self
        return Trace(self.parent[: _SPAN.start] + secrets.token_hex(8) + self.parent[_SPAN.stop :], self.state)


NO_TRACE = Trace()


class PublishEntry(msgspec.Struct, frozen=True):
    """One message of a bulk publish, as a client sent it."""

    entry_id: str
    data: bytes
    content_type: str = ""
    metadata: Mapping[str, str] | None = None
    """`None`: the entry has none, and the request's overrides do not hold for it (behaviours §1.3)."""
    is_json: bool = False
    """`data` is the JSON value that stands for the message over HTTP, to be read by its content type."""


class _Target(msgspec.Struct, frozen=True):
    """Where a caller publishes to, all checks of the request passed."""

    caller: Caller
    component: Opened[PubSub[Any]]
    topic: str
    raw: bool


class PublishBlock:
    """Publishes for many apps, each to the topics that it may."""

    def __init__(
        self, components: Components, metrics: DaprMetrics, clock: Clock, internal: InternalTopics | None = None
    ) -> None:
        """`internal`: topics that are closed to callers; `forward` alone reaches them."""
        self._internal = internal or InternalTopics()
        self._components = components
        self._metrics = metrics
        self._clock = clock

    def check(self, caller: Caller, pubsub: str, topic: str, metadata: Mapping[str, str]) -> None:
        """Whether a publish may be tried: for a front door whose body cannot be read, since these errors come first.

        Raises `PUBSUB_NAME_EMPTY`, `PUBSUB_NOT_FOUND`, `PUBSUB_TOPIC_EMPTY`, `PUBSUB_METADATA`, `PUBSUB_FORBIDDEN`.
        """
        self._target(caller, pubsub, topic, metadata)

    async def publish(
        self,
        caller: Caller,
        pubsub: str,
        topic: str,
        data: bytes,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        trace: Trace = NO_TRACE,
        *,
        trace_raw: bool = False,
    ) -> None:
        """Publish one message. When it returns, the broker has it.

        `trace_raw`: the trace of a raw payload goes into the message's metadata, as Dapr does over gRPC.
        Raises the errors of `check`, `PUBSUB_CLOUD_EVENT`, `PUBSUB_EVENT_TYPE`, `PUBSUB_PUBLISH`.
        """
        given = metadata or {}
        target = self._target(caller, pubsub, topic, given)
        component = target.component
        if target.raw:
            content_type = ""  # Dapr tells a broker nothing about a single raw payload
            if trace_raw:
                given = {**given, "traceid": trace.parent, "tracestate": trace.state}
        else:
            draft = EventDraft(caller.app_id, pubsub, topic, data, content_type, given, trace.parent, trace.state)
            data = self._event(target, draft, given)
            content_type = content_types.CLOUD_EVENT
        request = PublishRequest(topic_at_broker(component, caller.ref, topic), data, content_type, given)
        await self._send(caller.ref, component, topic, request)

    async def forward(self, app: AppRef, pubsub: str, topic: str, event: bytes) -> None:
        """Publish a CloudEvent as it is, in the name of an app: for the outbox. When it returns, the broker has it.

        Raises `PUBSUB_NOT_FOUND`, `PUBSUB_FORBIDDEN`, `PUBSUB_PUBLISH`.
        """
        component = self._component(app, pubsub, topic, {})
        request = PublishRequest(topic_at_broker(component, app, topic), event, content_types.CLOUD_EVENT)
        await self._send(app, component, topic, request)

    async def bulk_publish(
        self,
        caller: Caller,
        pubsub: str,
        topic: str,
        entries: Sequence[PublishEntry],
        metadata: Mapping[str, str] | None = None,
        trace_of_one: Callable[[], Trace] = lambda: NO_TRACE,
    ) -> list[BulkFailure]:
        """Publish many messages; the ones that failed. When it returns, the broker has all others.

        `trace_of_one` is asked for the trace of each event: none has another's.

        All are checked before the first is published. Raises the errors of `check`, `PUBSUB_ENTRIES`,
        `PUBSUB_CLOUD_EVENT`, `PUBSUB_EVENT_TYPE`.
        """
        given = metadata or {}
        target = self._target(caller, pubsub, topic, given)
        made: list[BulkEntry] = []
        known: set[str] = set()
        for entry in entries:
            made.append(self._bulk_entry(target, entry, given, trace_of_one))
            if not entry.entry_id or entry.entry_id in known:
                raise _failed(target, errors.PUBSUB_ENTRIES, "entryId is duplicated or not present for entry")
            known.add(entry.entry_id)
            if len(made) % MADE_AT_ONCE == 0:
                await asyncio.sleep(0)
        return await self._publish_all(target, made, given)

    async def _send(self, app: AppRef, component: Opened[PubSub[Any]], topic: str, request: PublishRequest) -> None:
        started = perf_counter()
        success = False
        try:
            await component.component.publish(request)
            success = True
        except BackendError as error:
            raise publish_failed(component.name, topic, error) from error
        finally:
            self._metrics.publish(app.app_id, component.name, app.namespace, topic, success=success).record(
                (perf_counter() - started) * 1000
            )

    def _bulk_entry(
        self, target: _Target, entry: PublishEntry, metadata: Mapping[str, str], trace_of_one: Callable[[], Trace]
    ) -> BulkEntry:
        data = entry.data
        if entry.is_json:
            try:
                data = payload_of_json(data, entry.content_type)
            except EventError as error:
                raise _failed(target, errors.PUBSUB_EVENT_TYPE, error) from error
        merged = metadata if entry.metadata is None else {**metadata, **entry.metadata}
        if target.raw:
            return BulkEntry(entry.entry_id, data, entry.content_type, merged)
        overrides: Mapping[str, str] = {} if entry.metadata is None else merged
        app_id, pubsub = target.caller.app_id, target.component.name
        trace = trace_of_one()
        draft = EventDraft(app_id, pubsub, target.topic, data, entry.content_type, overrides, trace.parent, trace.state)
        return BulkEntry(entry.entry_id, self._event(target, draft, merged), content_types.CLOUD_EVENT, merged)

    async def _publish_all(
        self, target: _Target, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[BulkFailure]:
        component = target.component
        broker_topic = topic_at_broker(component, target.caller.ref, target.topic)
        failures: list[BulkFailure] = []
        started = perf_counter()
        for first in range(0, len(entries), PUBLISHED_AT_ONCE):
            part = entries[first : first + PUBLISHED_AT_ONCE]
            try:
                failures += await component.component.bulk_publish(broker_topic, part, metadata)
            except BackendError as error:
                failures += [BulkFailure(entry.entry_id, error) for entry in part]
        caller = target.caller
        self._metrics.bulk_publish(
            caller.app_id, component.name, caller.namespace, target.topic, success=not failures
        ).record((perf_counter() - started) * 1000, len(entries) - len(failures))
        return failures

    def _target(self, caller: Caller, pubsub: str, topic: str, metadata: Mapping[str, str]) -> _Target:
        if not pubsub:
            raise _refused(errors.PUBSUB_NAME_EMPTY, pubsub, metadata)
        component = self._component(caller.ref, pubsub, topic, metadata)
        if self._internal.hold(component, caller.ref, topic):
            raise _forbidden(caller.ref, pubsub, topic)
        return _Target(caller, component, topic, bool(metadata) and _is_raw(pubsub, metadata))

    def _component(self, app: AppRef, pubsub: str, topic: str, metadata: Mapping[str, str]) -> Opened[PubSub[Any]]:
        """The broker for an app that may publish to the topic; the order of checks is Dapr's."""
        # The contract stands for all its adapters, whatever their settings are.
        component = self._components.find(cast("type[PubSub[Any]]", PubSub), app, pubsub)
        if component is None:
            raise errors.PUBSUB_NOT_FOUND(pubsub=pubsub, info=metadata)
        if not topic:
            raise _refused(errors.PUBSUB_TOPIC_EMPTY, pubsub, metadata)
        if metadata:
            _is_raw(pubsub, metadata)
        if not scopes_of(component).may_publish(app.app_id, topic):
            raise _forbidden(app, pubsub, topic)
        return component

    def _event(self, target: _Target, draft: EventDraft, metadata: Mapping[str, str]) -> bytes:
        """The CloudEvent; the time to live is read from `metadata`."""
        lifetime = None
        if metadata and PubSubCapability.MESSAGE_TTL not in target.component.capabilities:
            lifetime = time_to_live(metadata)
        try:
            return make_event(draft, self._clock.now(), lifetime=lifetime)
        except EventError as error:
            raise _failed(target, errors.PUBSUB_CLOUD_EVENT, error) from error


def _forbidden(app: AppRef, pubsub: str, topic: str) -> DaprError:
    info = {"topic": topic, "error": f"topic {topic} is not allowed for app id {app.app_id}"}
    return _refused(errors.PUBSUB_FORBIDDEN, pubsub, info, topic=topic, app=app.app_id)


def _is_raw(pubsub: str, metadata: Mapping[str, str]) -> bool:
    try:
        return is_raw_payload(metadata)
    except ValueError as error:
        raise _refused(errors.PUBSUB_METADATA, pubsub, metadata, detail=error) from error


def entries_unreadable(caller: Caller, pubsub: str, topic: str, cause: Exception) -> DaprError:
    """The answer to a bulk publish whose body is none."""
    return _refused(errors.PUBSUB_BODY, pubsub, {"appID": caller.app_id}, topic=topic, detail=cause)


def publish_failed(pubsub: str, topic: str, cause: Exception) -> DaprError:
    """The answer when a message was not taken: by the broker, or because its body could not be read."""
    info = {"topic": topic, "error": str(cause)}
    return _refused(errors.PUBSUB_PUBLISH, pubsub, info, topic=topic, detail=cause)


def _failed(target: _Target, row: ErrorRow, cause: object) -> DaprError:
    info = {"appID": target.caller.app_id, "error": str(cause)}
    return _refused(row, target.component.name, info, topic=target.topic, detail=cause)


def _refused(row: ErrorRow, pubsub: str, info: Mapping[str, str], **fields: Any) -> DaprError:
    message = row.message.format(pubsub=pubsub, **fields)
    return row(pubsub=pubsub, info=info, resource=Resource("pubsub", pubsub, description=message), **fields)
