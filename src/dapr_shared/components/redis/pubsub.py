"""`pubsub.redis`: streams of Redis or Valkey with consumer groups, in daprd's layout.

Last step of the request road and first of the delivery road. A topic is the stream of that name, a message an entry
with the fields `data` and `metadata` (JSON), and `contentType` where the publisher gave one, which is ours and daprd
ignores. daprd and instances of ours can publish to and consume from one stream, also as one group.

- A published message is as safe as the server keeps it when `publish` returns: with `appendonly yes` and `appendfsync
  always` it survives a killed server and lost power. A failover may lose what no replica has.
- A group that is new begins at the oldest entry that is kept. All instances share its messages.
- What an instance had when it died comes to another one when there was no sign of life for `processingTimeout`, which
  is looked for every `redeliverInterval`; it counts as delivered. What an instance gives back at its end, or while it
  is paused, is free for others at once and does not count.
- A failed message comes again after `redeliverInterval`, doubled with each failure up to `maxRedeliverInterval`, ± 10 %.
- Order: messages are first delivered in the order of publication; a failed one does not hold up those behind it.
- Entries stay in the stream after they are done; `maxLenApprox` or `streamTTL` trims it, also what nobody had yet.

What differs from daprd, on purpose (design §5.14): daprd acknowledges a message that its app refused; here it comes
again. daprd gives a handler `processingTimeout` and then lets the message be delivered a second time; here an instance
that is alive keeps what its apps work on. Where either time is 0, nothing is delivered again, as in daprd: failed
messages stay on the group's list. Needs Redis 6.2 or newer.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec

from dapr_shared.components.delivery import Backoff, Member
from dapr_shared.components.redis.client import RedisClient
from dapr_shared.components.redis.errors import FullError
from dapr_shared.components.redis.pubsub_group import RedisGroup, Shared, create_group
from dapr_shared.components.redis.pubsub_watcher import Watcher
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import (
    BrokerFullError,
    BulkEntry,
    BulkFailure,
    Handler,
    PublishRequest,
    PubSub,
    SubscribeRequest,
    Subscription,
)
from dapr_shared.contracts.settings import Kind, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

    from dapr_shared.components.redis.client import Command

CHUNK = 128
"""Messages of a bulk publish that are sent in one go."""


class RedisPubSubSettings(RedisSettings, frozen=True, kw_only=True):
    """The settings of `pubsub.redis`."""

    processing_timeout: Annotated[
        float,
        Setting(
            "Time without a sign of life after which an instance's messages go to another; 0: never.",
            Kind.MILLISECONDS,
            unit="seconds",
            minimum=0,
            example="60s",
        ),
    ] = 60.0
    redeliver_interval: Annotated[
        float,
        Setting(
            "Time between two looks for such messages, and until a failed one comes again; 0: never.",
            Kind.MILLISECONDS,
            unit="seconds",
            minimum=0,
            example="15s",
        ),
    ] = 15.0
    max_redeliver_interval: Annotated[
        float,
        Setting(
            "How long a failed message waits at most; ours.",
            Kind.MILLISECONDS,
            unit="seconds",
            minimum=0.001,
            example="60s",
        ),
    ] = 60.0
    queue_depth: Annotated[
        int, Setting("Messages that a group has fetched in one instance, at most.", Kind.INTEGER, minimum=1)
    ] = 100
    concurrency: Annotated[
        int, Setting("Messages of a subscription with the app at a time, at most.", Kind.INTEGER, minimum=1)
    ] = 10
    max_len_approx: Annotated[int, Setting("Entries that a stream keeps, about; 0: all.", Kind.INTEGER, minimum=0)] = 0
    stream_ttl: Annotated[
        float,
        Setting(
            "How long a stream keeps entries, about; 0: for ever. Not with maxLenApprox.",
            Kind.DURATION,
            name="streamTTL",
            unit="seconds",
            minimum=0,
        ),
    ] = 0.0


class RedisPubSub(PubSub[RedisPubSubSettings]):
    """A broker in Redis streams."""

    settings_type = RedisPubSubSettings

    _shared: Shared | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return self.settings.location

    async def start(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        client = RedisClient(settings, f"broker {self.context.name}")
        await client.start(stack)
        self._groups: dict[tuple[str, str], RedisGroup] = {}
        self._watchers: dict[str, Watcher] = {}
        self._problem: BackendError | None = None
        first = settings.redeliver_interval or 1.0
        self._shared = Shared(
            client=client,
            backoff=Backoff(first, max(first, settings.max_redeliver_interval)),
            queue_depth=settings.queue_depth,
            processing_timeout=settings.processing_timeout,
            redeliver_interval=settings.redeliver_interval,
            watcher_of=self._watcher_of,
            problem=self._note,
            closed=self._forget,
        )
        stack.push_async_callback(self._close)

    async def ping(self) -> None:
        await self._open().client.call("PING")
        if self._problem is not None:
            raise self._problem

    async def backend_time(self) -> float:
        return await self._open().client.time()

    async def publish(self, request: PublishRequest) -> None:
        command = self._add(request.topic, request.data, request.content_type, request.metadata)
        try:
            await self._open().client.call(*command)
        except FullError as error:
            raise BrokerFullError(str(error)) from error

    async def bulk_publish(
        self, topic: str, entries: Sequence[BulkEntry], metadata: Mapping[str, str]
    ) -> list[BulkFailure]:
        failures: list[BulkFailure] = []
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            try:
                commands = [
                    self._add(
                        topic,
                        entry.data,
                        entry.content_type,
                        {**metadata, **entry.metadata} if entry.metadata else metadata,
                    )
                    for entry in chunk
                ]
                replies = await self._open().client.pipeline(commands)
            except BackendError as error:
                replies = [error] * len(chunk)
            for entry, reply in zip(chunk, replies, strict=True):
                if isinstance(reply, BackendError):
                    failed = BrokerFullError(str(reply)) if isinstance(reply, FullError) else reply
                    failures.append(BulkFailure(entry.entry_id, failed))
        return failures

    async def subscribe(self, request: SubscribeRequest, handler: Handler) -> Subscription:
        shared = self._open()
        check_topic(request.topic)
        key = (request.topic, request.group)
        while (group := self._groups.get(key)) is None or group.closing is not None:
            if group is not None and group.closing is not None:
                await asyncio.wait([group.closing])  # what it gives back must be there when this one looks
                continue
            await create_group(shared.client, *key)
            self._open()
            if key not in self._groups:
                self._groups[key] = RedisGroup(shared, *key)
        most = min(request.max_in_flight, self.settings.concurrency)
        member = Member(group, msgspec.structs.replace(request, max_in_flight=most), handler)
        group.join(member)
        return member

    # ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> Shared:
        if self._shared is None:
            raise BackendError(f"broker {self.context.name} is not open")
        return self._shared

    def _add(self, topic: str, data: bytes, content_type: str, metadata: Mapping[str, str]) -> Command:
        """The command that publishes. Raises `BackendError` for what is no text, or no topic."""
        check_topic(topic)
        trim: Command = ()
        if self.settings.max_len_approx:
            trim = ("MAXLEN", "~", self.settings.max_len_approx)
        elif self.settings.stream_ttl:
            oldest = self.context.clock.now().timestamp() - self.settings.stream_ttl
            trim = ("MINID", "~", f"{int(oldest * 1000)}-1")
        fields: list[bytes | str] = ["data", data]
        try:
            if metadata:
                fields += ["metadata", msgspec.json.encode(metadata)]
            if content_type:
                fields += ["contentType", content_type.encode()]
            return ("XADD", topic.encode(), *trim, "*", *fields)
        except UnicodeEncodeError as error:
            raise BackendError("topic, content type and metadata must be valid Unicode") from error

    def _watcher_of(self, topic: str) -> Watcher:
        shared = self._open()
        key = topic if shared.client.is_cluster else ""
        watcher = self._watchers.get(key)
        if watcher is None:
            watcher = self._watchers[key] = Watcher(shared.client, f"{self.context.name}: watch {key or 'topics'}")
        return watcher

    def _forget(self, group: RedisGroup) -> None:
        del self._groups[group.topic, group.name]

    def _note(self, problem: BackendError | None) -> None:
        self._problem = problem

    async def _close(self) -> None:
        members = [member for group in self._groups.values() for member in group.members]
        await asyncio.gather(*(member.stop(0) for member in members))
        closing = [group.closing for group in self._groups.values() if group.closing is not None]
        if closing:
            await asyncio.wait(closing)
        self._shared = None
        await asyncio.gather(*(watcher.end() for watcher in self._watchers.values()))


def check_topic(topic: str) -> None:
    """Refuse a topic that could be the key of an app's value or lock, `app||key`: a state store may share the server.

    Raises `BackendError`. The stream would stand where the other app's value belongs.
    """
    if "||" in topic:
        raise BackendError("a topic must not contain '||': keys of apps do")
