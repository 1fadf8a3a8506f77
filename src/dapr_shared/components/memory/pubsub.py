"""`pubsub.in-memory`: a message bus in this process.

Last step of the request road and first of the delivery road. Nothing survives the process, and no other process takes
part. As in Dapr there are no topics to make, a message is discarded when no group subscribes to its topic, and a
subscription to `orders*` receives every topic that begins with `orders` and goes on.

What differs from daprd, on purpose (design §5.14): a failed message is delivered again, with back-off and a count
(daprd logs and drops it); a group that is paused keeps its messages, up to `maxPending`; the subscriptions of one group
share its messages (daprd gives each to all). Order: messages of one topic are first delivered in the order of their
publication; a failed one does not hold up those behind it. With one message in flight at a time, that is the order in
which the handler sees them.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, ClassVar

from dapr_shared.components.delivery import Backoff, ConsumerGroup, Entry, Member
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import (
    BrokerFullError,
    Handler,
    Message,
    PublishRequest,
    PubSub,
    PubSubCapability,
    SubscribeRequest,
    Subscription,
)
from dapr_shared.contracts.settings import Kind, Setting, Settings

if TYPE_CHECKING:
    from contextlib import AsyncExitStack


class MemoryPubSubSettings(Settings, frozen=True, kw_only=True):
    """The settings of `pubsub.in-memory`; Dapr's has none."""

    max_pending: Annotated[
        int,
        Setting(
            "Messages that one group may have waiting; past it, publishing to its topic is refused.",
            Kind.INTEGER,
            minimum=1,
            example="100000",
        ),
    ] = 100_000
    redeliver_interval: Annotated[
        float,
        Setting(
            "How long a failed message waits; doubled with each failure.",
            Kind.DURATION,
            unit="seconds",
            minimum=0.001,
            example="1s",
        ),
    ] = 1.0
    max_redeliver_interval: Annotated[
        float,
        Setting(
            "How long a failed message waits at most.", Kind.DURATION, unit="seconds", minimum=0.001, example="60s"
        ),
    ] = 60.0
    group_timeout: Annotated[
        float,
        Setting(
            "How long a group without subscriptions is kept, with its messages, so that it can subscribe again.",
            Kind.DURATION,
            unit="seconds",
            minimum=0,
            example="60s",
        ),
    ] = 60.0


class MemoryPubSub(PubSub[MemoryPubSubSettings]):
    """A bus of groups in this process."""

    settings_type = MemoryPubSubSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({PubSubCapability.SUBSCRIBE_WILDCARDS})

    _groups: dict[tuple[str, str], _Group] | None = None
    """By topic and group; `None` before the start and after the end."""

    def data_location(self) -> str | None:
        return None

    async def start(self, stack: AsyncExitStack) -> None:
        self._groups = {}
        self._by_topic: dict[str, list[_Group]] = {}
        self._by_prefix: dict[str, list[_Group]] = {}
        self._published = 0
        stack.push_async_callback(self._close)

    async def publish(self, request: PublishRequest) -> None:
        self._open()
        topic = request.topic
        groups = self._by_topic.get(topic, ())
        if self._by_prefix:
            matching = (found for prefix, found in self._by_prefix.items() if _matches(prefix, topic))
            groups = [*groups, *(group for found in matching for group in found)]
        limit = self.settings.max_pending
        for group in groups:
            if group.count >= limit:
                raise BrokerFullError(
                    f"the group {group.name} has {group.count} messages waiting on the topic {group.topic}, which is "
                    "maxPending: its app must take them first, or raise maxPending",
                )
        self._published += 1
        order = self._published
        message = Message(topic, request.data, request.content_type, request.metadata, str(order))
        for group in groups:
            group.publish(Entry(order, message))

    async def subscribe(self, request: SubscribeRequest, handler: Handler) -> Subscription:
        groups = self._open()
        key = (request.topic, request.group)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(self, request.topic, request.group)
            self._listing(request.topic).setdefault(_index(request.topic), []).append(group)
        member = Member(group, request, handler)
        group.join(member)
        return member

    def forget(self, group: _Group) -> None:
        """The group has had no subscription for too long: its messages are discarded."""
        if self._groups is None or self._groups.pop((group.topic, group.name), None) is None:
            return
        listing, index = self._listing(group.topic), _index(group.topic)
        listing[index].remove(group)
        if not listing[index]:
            del listing[index]

    def _listing(self, topic: str) -> dict[str, list[_Group]]:
        return self._by_prefix if topic.endswith("*") else self._by_topic

    def _open(self) -> dict[tuple[str, str], _Group]:
        if self._groups is None:
            raise BackendError(f"broker {self.context.name} is not open")
        return self._groups

    async def _close(self) -> None:
        groups, self._groups = self._groups or {}, None
        members = [member for group in groups.values() for member in group.members]
        await asyncio.gather(*(member.stop(0) for member in members))
        for group in groups.values():
            group.end()


class _Group(ConsumerGroup):
    """A group with its messages."""

    def __init__(self, bus: MemoryPubSub, topic: str, name: str) -> None:
        settings = bus.settings
        super().__init__(topic, name, Backoff(settings.redeliver_interval, settings.max_redeliver_interval))
        self.count = 0
        """Messages that are not done, those in flight and those held back included."""
        self._bus = bus
        self._timer: asyncio.TimerHandle | None = None

    def publish(self, entry: Entry) -> None:
        """A message for the group."""
        self.count += 1
        self.add((entry,))

    def accepted(self, entry: Entry) -> None:
        del entry
        self.count -= 1

    async def pending(self) -> int | None:
        return self.count

    def resumed(self) -> None:
        self._stop_timer()

    def removed(self, member: Member) -> None:
        del member
        if not self.members:
            self._stop_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._bus.settings.group_timeout, self._forget)

    def end(self) -> None:
        """The bus ends."""
        self._stop_timer()
        self.take_ready()
        self.take_held_back()
        self.count = 0

    def _forget(self) -> None:
        self._timer = None
        self._bus.forget(self)
        self.end()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _index(topic: str) -> str:
    return topic.removesuffix("*")


def _matches(prefix: str, topic: str) -> bool:
    """Whether the topic begins with the prefix and goes on."""
    return len(topic) > len(prefix) and topic.startswith(prefix)
