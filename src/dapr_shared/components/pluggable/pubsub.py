"""A message broker of another program.

Last step of the request road (publish) and first of the delivery road (a stream of messages in one direction and of
acknowledgements in the other). The protocol has no consumer groups: a component is told one `consumerID` when it is
initialised. So each group that is not the component's own has an instance of its own at the program, named
`<component>.<group>`; a program that serves one instance only can serve one group. Facts: reference internal §7.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from dapr_shared._proto import components_pb
from dapr_shared.components.pluggable.connection import (
    Connection,
    NotImplementedByComponentError,
    PluggableSettings,
    init_metadata,
)
from dapr_shared.components.pluggable.pull import Feed, Pulls
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import (
    BulkEntry,
    BulkFailure,
    Handler,
    Message,
    Outcome,
    PublishRequest,
    PubSub,
    PubSubCapability,
    SubscribeRequest,
    Subscription,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AsyncExitStack

_CONSUMER = "consumerID"
_REFUSED = components_pb.AckMessageError(message="the app did not accept the message")


class _Topic(Feed[components_pb.PullMessagesResponse]):
    """The messages of one topic for one handler."""

    method = "PullMessages"

    def __init__(self, request: SubscribeRequest, handler: Handler) -> None:
        self.name = request.topic
        topic = components_pb.Topic(name=request.topic, metadata=dict(request.metadata))
        self.first = components_pb.PullMessagesRequest(topic=topic).SerializeToString()
        self._handler = handler

    def read(self, data: bytes) -> components_pb.PullMessagesResponse:
        return components_pb.PullMessagesResponse.FromString(data)

    def id_of(self, pulled: components_pb.PullMessagesResponse) -> str:
        return pulled.id

    async def handle(self, pulled: components_pb.PullMessagesResponse, deliveries: int) -> tuple[Outcome, bytes]:
        topic, metadata = pulled.topic_name or self.name, dict(pulled.metadata)
        message = Message(topic, pulled.data, pulled.content_type, metadata, pulled.id, deliveries=deliveries)
        return await self._handler(message), b""

    def ack(self, message_id: str, answer: bytes, *, refused: bool) -> bytes:
        del answer  # the protocol has no place for it
        error = _REFUSED if refused else None
        return components_pb.PullMessagesRequest(ack_message_id=message_id, ack_error=error).SerializeToString()


class PluggablePubSub(PubSub[PluggableSettings]):
    """A message broker behind a socket."""

    settings_type = PluggableSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(PubSubCapability)

    _features: frozenset[str] = frozenset()
    _stack: AsyncExitStack | None = None

    def effective_capabilities(self) -> frozenset[str]:
        return type(self).capabilities & self._features

    async def start(self, stack: AsyncExitStack) -> None:
        given = {name: value for name, value in self.settings.properties.items() if name.lower() == _CONSUMER.lower()}
        self._own_group = next(iter(given.values()), "") or self.context.app_id or ""
        """The group of the component itself; empty where it is not one app's."""
        self._groups: dict[str, Connection] = {}
        self._opening = asyncio.Lock()
        self._stack = stack
        self._connection = self._connect(self.context.name, self._own_group)
        await self._connection.open(stack)
        self._pulls = Pulls(stack)

    def _connect(self, instance: str, group: str) -> Connection:
        return Connection(self.context.type, "PubSub", instance, self._initialise_for(group))

    def _initialise_for(self, group: str) -> Callable[[Connection], Awaitable[None]]:
        properties = {
            name: value for name, value in self.settings.properties.items() if name.lower() != _CONSUMER.lower()
        }
        if group:
            properties[_CONSUMER] = group

        async def initialise(connection: Connection) -> None:
            request = components_pb.PubSubInitRequest(metadata=init_metadata(properties))
            await connection.request("Init", request, components_pb.PubSubInitResponse)
            answer = await connection.request(
                "Features", components_pb.FeaturesRequest(), components_pb.FeaturesResponse
            )
            self._features = frozenset(answer.features)

        return initialise

    async def ping(self) -> None:
        await self._open().call("Ping", components_pb.PingRequest(), components_pb.PingResponse)

    async def publish(self, request: PublishRequest) -> None:
        message = components_pb.PublishRequest(
            data=request.data,
            pubsub_name=self.context.name,
            topic=request.topic,
            metadata=dict(request.metadata),
            content_type=request.content_type,
        )
        await self._open().call("Publish", message, components_pb.PublishResponse)

    async def bulk_publish(
        self, topic: str, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[BulkFailure]:
        if PubSubCapability.BULK_PUBSUB not in self._features:
            return await super().bulk_publish(topic, entries, metadata)
        message = components_pb.BulkPublishRequest(pubsub_name=self.context.name, topic=topic, metadata=dict(metadata))
        for entry in entries:
            merged = {**metadata, **entry.metadata} if entry.metadata else metadata
            message.entries.add(
                entry_id=entry.entry_id, event=entry.data, content_type=entry.content_type, metadata=dict(merged)
            )
        try:
            answer = await self._open().call("BulkPublish", message, components_pb.BulkPublishResponse)
        except NotImplementedByComponentError:
            return await super().bulk_publish(topic, entries, metadata)
        except BackendError as error:
            return [BulkFailure(entry.entry_id, error) for entry in entries]
        known = {entry.entry_id for entry in entries}
        return [
            BulkFailure(failed.entry_id, BackendError(failed.error or "the component gave no reason"))
            for failed in answer.failed_entries
            if failed.entry_id in known
        ]

    async def subscribe(self, request: SubscribeRequest, handler: Handler) -> Subscription:
        connection = await self._of_group(request.group)
        feed = _Topic(request, handler)
        return await self._pulls.begin(connection, feed, request.max_in_flight)

    async def _of_group(self, group: str) -> Connection:
        own = self._open()
        if group == self._own_group or self._stack is None:
            return own
        await own.ready()  # raises where the component is closed
        async with self._opening:
            connection = self._groups.get(group)
            if connection is None:
                connection = self._connect(f"{self.context.name}.{group}", group)
                await connection.open(self._stack)
                self._groups[group] = connection
            return connection

    def _open(self) -> Connection:
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is None:
            raise BackendError(f"the pubsub component {self.context.name} is not open")
        return connection
