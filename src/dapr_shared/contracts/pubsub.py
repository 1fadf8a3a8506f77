"""The promise of a message broker.

Last step of the request road (publish) and first of the delivery road. Topics and payloads arrive complete: an adapter
knows nothing of CloudEvents, routes or apps; it knows consumer groups. Rules: design §5.14, reference behaviours §1.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import TypeAlias

import msgspec

from dapr_shared.contracts.component import BackendError, Component, S
from dapr_shared.core.durations import parse_duration

BULK_PARALLELISM = 100
"""Publishes of one bulk request at a time, for brokers without bulk calls of their own (behaviours §1.3)."""


class PubSubCapability(StrEnum):
    """Features under the names that Dapr's metadata API uses."""

    MESSAGE_TTL = "MESSAGE_TTL"
    SUBSCRIBE_WILDCARDS = "SUBSCRIBE_WILDCARDS"
    BULK_PUBSUB = "BULK_PUBSUB"
    BULK_SUBSCRIBE_IMMEDIATE = "BULK_SUBSCRIBE_IMMEDIATE"


def time_to_live(metadata: Mapping[str, str]) -> float | None:
    """Seconds to live that a publisher asks for: `ttlInSeconds` or `ttl`, a Go duration or whole seconds above 0.

    Names ignore case; a value that is none of these is ignored, as in Dapr (behaviours §1.1).
    """
    for name in metadata:
        if name.lower() in {"ttlinseconds", "ttl"}:
            try:
                seconds = parse_duration(metadata[name].strip())
            except ValueError:
                continue
            if seconds > 0:
                return seconds
    return None


class BrokerFullError(BackendError):
    """The broker's bound on what it retains is reached: nothing was published."""


class PublishRequest(msgspec.Struct, frozen=True):
    """Publish one message."""

    topic: str
    data: bytes
    content_type: str = ""
    metadata: Mapping[str, str] = {}
    """The publisher's metadata, `ttlInSeconds` and `partitionKey` among it where given."""


class BulkEntry(msgspec.Struct, frozen=True):
    """One message of a bulk publish."""

    entry_id: str
    data: bytes
    content_type: str = ""
    metadata: Mapping[str, str] = {}


class BulkFailure(msgspec.Struct, frozen=True):
    """One message that was not published."""

    entry_id: str
    error: BackendError


class Message(msgspec.Struct, frozen=True):
    """One message as it comes from a broker."""

    topic: str
    data: bytes
    content_type: str = ""
    metadata: Mapping[str, str] = {}
    id: str = ""
    """The broker's own id, for logs; empty where it has none."""
    deliveries: int = 1
    """How often it was delivered to this group, this time included, where the broker counts."""


class Outcome(Enum):
    """What became of a message."""

    ACCEPTED = "accepted"
    """The app has it, or it is safe in the dead-letter topic: acknowledge it."""
    RETRY = "retry"
    """The app answered that it failed: redeliver by the component's rules, and count it."""
    RELEASED = "released"
    """The app could not be reached: give it back uncounted; it comes again when the subscription resumes."""


Handler: TypeAlias = Callable[[Message], Awaitable[Outcome]]
"""Called for each message; how many at a time is the request's `max_in_flight`. It does not raise."""


class SubscribeRequest(msgspec.Struct, frozen=True):
    """What to receive, as which consumer group."""

    topic: str
    group: str
    """Consumer group: all instances and replicas of one app share it, each message goes to one of them."""
    metadata: Mapping[str, str] = {}
    """The subscription's metadata."""
    max_in_flight: int = 100
    """Messages with the handler at a time, at most; the broker's own limit may be lower."""


class Subscription(ABC):
    """One running subscription."""

    @abstractmethod
    async def pause(self) -> None:
        """Take no more messages from the broker until `resume`; those with the handler go on. Twice does no harm."""

    @abstractmethod
    async def resume(self) -> None:
        """Take messages again."""

    @abstractmethod
    async def stop(self, grace: float) -> None:
        """End it: take no more, wait at most `grace` seconds for the handler, give back what it has not finished.

        What is given back is neither acknowledged nor counted as a retry. Twice does no harm.
        """

    async def pending(self) -> int | None:
        """How many messages wait for the group, those in flight included; `None` where the broker does not know."""
        return None


class PubSub(Component[S]):
    """A message broker: at least once, to each consumer group.

    Every method raises `BackendError`. When `publish` returns, the message is as safe as the adapter's documentation
    says. A message is delivered to a group until its handler has answered `ACCEPTED`; a message whose handler is cut
    off by a crash is delivered again.
    """

    @property
    def processing_timeout(self) -> float | None:
        """Seconds that an app may work on one message where the component's settings say so.

        0: without limit; `None`: they say nothing, and the instance's own limit holds.
        """
        return None

    @abstractmethod
    async def publish(self, request: PublishRequest) -> None:
        """Publish one message. Raises `BrokerFullError` at the broker's bound."""

    async def bulk_publish(
        self, topic: str, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[BulkFailure]:
        """Publish many messages; the ones that failed. `metadata` holds for an entry that has none (behaviours §1.3).

        Without `BULK_PUBSUB` they are published side by side, in no order.
        """
        limit = asyncio.Semaphore(BULK_PARALLELISM)

        async def one(entry: BulkEntry) -> BulkFailure | None:
            merged = {**metadata, **entry.metadata} if entry.metadata else metadata
            async with limit:
                try:
                    await self.publish(PublishRequest(topic, entry.data, entry.content_type, merged))
                except BackendError as error:
                    return BulkFailure(entry.entry_id, error)
            return None

        return [failure for failure in await asyncio.gather(*map(one, entries)) if failure is not None]

    @abstractmethod
    async def subscribe(self, request: SubscribeRequest, handler: Handler) -> Subscription:
        """Begin to deliver to `handler`. A group that is new begins where the adapter's documentation says.

        Cancelled midway, nothing is left running. The component's own stack stops what is still running.
        """
