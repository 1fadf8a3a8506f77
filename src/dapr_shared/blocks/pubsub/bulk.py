"""Bringing several messages to an app in one call.

Delivery road, from the block to the app channel. Messages of one path are gathered until there are enough or the oldest
has waited long enough; each gets the outcome that the app gives it. Facts: reference behaviours §1.3, http-api §13.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import orjson

from dapr_shared._proto import appcallback_pb
from dapr_shared.blocks.pubsub.envelope import EventError
from dapr_shared.channel.callbacks import Reply, deliver_bulk_grpc, deliver_bulk_http
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.invocation import ChannelError
from dapr_shared.contracts.pubsub import Message, Outcome
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from dapr_shared.blocks.pubsub.delivery import TopicDelivery
    from dapr_shared.blocks.pubsub.event import CloudEvent
    from dapr_shared.blocks.pubsub.subscriptions import Bulk
    from dapr_shared.channel.base import AppChannel

_TYPE = "com.dapr.event.sent.bulk"
_EVENT_TYPE = "application/cloudevents+json"
_RAW_TYPE = "application/octet-stream"


@dataclass(slots=True, eq=False)
class _Entry:
    """One gathered message."""

    message: Message
    event: CloudEvent
    entry_id: str
    outcome: asyncio.Future[tuple[Outcome, Reply]]


class BulkDelivery:
    """Gathers the messages of one subscription."""

    def __init__(self, delivery: TopicDelivery, bulk: Bulk) -> None:
        self._delivery = delivery
        self._bulk = bulk
        self._gathered: dict[str, list[_Entry]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def handle(self, message: Message) -> Outcome:
        """Gather one message, and wait for what becomes of it."""
        started = perf_counter()
        found = await self._delivery.prepare(message)
        if isinstance(found, Outcome):
            return found
        event, path = found
        loop = asyncio.get_running_loop()
        entry = _Entry(message, event, random_id(), loop.create_future())
        gathered = self._gathered.setdefault(path, [])
        gathered.append(entry)
        if len(gathered) >= self._bulk.max_messages:
            self._flush(path)
        elif path not in self._timers:
            self._timers[path] = loop.call_later(self._bulk.max_await, self._flush, path)
        outcome, reply = await entry.outcome
        self._delivery.count(outcome, reply, started)
        return outcome

    def _flush(self, path: str) -> None:
        timer = self._timers.pop(path, None)
        if timer is not None:
            timer.cancel()
        entries = [entry for entry in self._gathered.pop(path, []) if not entry.outcome.done()]
        if entries:
            task = asyncio.get_running_loop().create_task(self._send(path, entries))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, path: str, entries: list[_Entry]) -> None:
        outcomes = dict.fromkeys((entry.entry_id for entry in entries), (Outcome.RELEASED, Reply.RETRY))
        try:
            outcomes = await self._outcomes(path, entries)
        except Exception as error:  # noqa: BLE001 - a defect of ours loses no message: it comes again
            self._delivery.defect(error)
            outcomes = dict.fromkeys(outcomes, (Outcome.RETRY, Reply.RETRY))
        finally:
            for entry in entries:
                if not entry.outcome.done():
                    entry.outcome.set_result(outcomes[entry.entry_id])

    async def _outcomes(self, path: str, entries: list[_Entry]) -> dict[str, tuple[Outcome, Reply]]:
        delivery = self._delivery
        channel = delivery.subscriptions.channel
        if channel is None or delivery.subscriptions.absent() is not None:
            return dict.fromkeys((entry.entry_id for entry in entries), (Outcome.RELEASED, Reply.RETRY))
        try:
            replies = await self._traced(channel, path, entries)
        except ChannelError as error:
            if await delivery.unanswered(channel, error):
                return dict.fromkeys((entry.entry_id for entry in entries), (Outcome.RELEASED, Reply.RETRY))
            replies = {entry.entry_id: Reply.RETRY for entry in entries}
        found: dict[str, tuple[Outcome, Reply]] = {}
        for entry in entries:
            reply = replies[entry.entry_id]
            if reply is Reply.RETRY:
                outcome = await delivery.failed(entry.message, "the app did not accept it")
            elif reply is Reply.DROP:
                outcome = await delivery.dropped(entry.message, "status DROP")
            else:
                outcome = Outcome.ACCEPTED
            found[entry.entry_id] = (outcome, reply)
        return found

    async def _traced(self, channel: AppChannel, path: str, entries: list[_Entry]) -> dict[str, Reply]:
        """Each event whose trace is sampled has a span of its own, over the one call (behaviours §7)."""
        spans = [
            (entry.entry_id, span)
            for entry in entries
            if (span := self._delivery.begin_span(entry.message, entry.event))
        ]
        replies: dict[str, Reply] = {}
        try:
            replies = await self._ask(channel, path, entries)
        finally:
            for entry_id, span in spans:
                reply = replies.get(entry_id)
                span.end(None if reply is Reply.SUCCESS else reply.name if reply else "the app did not answer")
        return replies

    async def _ask(self, channel: AppChannel, path: str, entries: list[_Entry]) -> dict[str, Reply]:
        timeout = self._delivery.timeout
        if isinstance(channel, GrpcAppChannel):
            return await deliver_bulk_grpc(channel, self._grpc_request(path, entries), [], timeout=timeout)
        ids = [entry.entry_id for entry in entries]
        return await deliver_bulk_http(channel, path, self._envelope(entries), ids, [], timeout=timeout)

    def _envelope(self, entries: list[_Entry]) -> bytes:
        raw = self._delivery.raw
        return orjson.dumps(
            {
                "id": random_id(),
                "type": _TYPE,
                "topic": self._delivery.subscription.topic,
                "pubsubname": self._delivery.component.name,
                "metadata": {},
                "entries": [
                    {
                        "entryId": entry.entry_id,
                        "event": entry.event.text("data_base64") if raw else orjson.Fragment(entry.event.body),
                        "contentType": _RAW_TYPE if raw else _EVENT_TYPE,
                        "metadata": dict(entry.message.metadata),
                    }
                    for entry in entries
                ],
            }
        )

    def _grpc_request(self, path: str, entries: list[_Entry]) -> appcallback_pb.TopicEventBulkRequest:
        request = appcallback_pb.TopicEventBulkRequest(
            id=random_id(),
            topic=self._delivery.subscription.topic,
            pubsub_name=self._delivery.component.name,
            type=_TYPE,
            path=path,
        )
        for entry in entries:
            made = request.entries.add(
                entry_id=entry.entry_id,
                content_type=_RAW_TYPE if self._delivery.raw else _EVENT_TYPE,
                metadata=dict(entry.message.metadata),
            )
            if self._delivery.raw:
                made.bytes = entry.message.data
                continue
            event = made.cloud_event
            event.id, event.source, event.type = entry.event.id, entry.event.text("source"), entry.event.text("type")
            event.spec_version = entry.event.text("specversion")
            event.data_content_type = entry.event.content_type
            try:
                event.data = entry.event.payload()
                event.extensions.update(entry.event.extensions())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - protobuf's own for Struct
            except EventError:  # what cannot be read goes as it came
                made.bytes = entry.message.data
        return request
