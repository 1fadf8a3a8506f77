"""A stream of messages from a pluggable component, each acknowledged on it: a subscription, or the reading of a binding.

First step of the delivery road. The stream ends when the program does; it is begun anew, with back-off, and what was not
acknowledged on the old one is the program's to deliver again. A message that is given back unreached is kept here,
unacknowledged, until the subscription resumes. What the messages look like is the business of a `Feed`.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from google.protobuf.message import DecodeError

from dapr_shared.components import delivery
from dapr_shared.components.pluggable.connection import RETRY_FIRST, RETRY_LONGEST
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Outcome, Subscription
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.messages import close

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AsyncExitStack

    from dapr_shared.components.pluggable.connection import Connection
    from dapr_shared.wire.grpc.client import GrpcStream

SETTLE = 0.25
"""Seconds that a program may take to say that a subscription has begun; most say nothing before the first message."""
AGAIN = 0.1
"""Seconds until a message that was given back is tried again while the subscription is not paused."""
LAST_WORDS = 1.0
"""Seconds that a program may take to end a stream that we have ended."""
_MOST_REFUSED = 10_000

_Acks = asyncio.Queue[bytes | None]
P = TypeVar("P")


class Feed(ABC, Generic[P]):
    """How one kind of stream speaks; `P` is its message as the program sends it."""

    method: ClassVar[str]
    """The call that is the stream."""
    name: str
    """For the names of tasks."""
    first: bytes | None
    """The request that begins it; `None`: there is none, the call alone does."""

    @abstractmethod
    def read(self, data: bytes) -> P:
        """A message. Raises `DecodeError`."""

    @abstractmethod
    def id_of(self, pulled: P) -> str:
        """By which it is acknowledged."""

    @abstractmethod
    async def handle(self, pulled: P, deliveries: int) -> tuple[Outcome, bytes]:
        """Bring it to the app, for the `deliveries`-th time; what came of it, and what the app answered."""

    @abstractmethod
    def ack(self, message_id: str, answer: bytes, *, refused: bool) -> bytes:
        """The request that says that it was taken, or refused."""


class Pull(Subscription, Generic[P]):
    """A running stream."""

    def __init__(
        self, connection: Connection, feed: Feed[P], max_in_flight: int, ended: Callable[[Pull[P]], None]
    ) -> None:
        """`ended` is told when it was stopped."""
        self._connection = connection
        self._feed = feed
        self._ended = ended
        self._slots = asyncio.Semaphore(max(max_in_flight, 1))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._settled = asyncio.Event()
        self._stopping = False
        self._handling: dict[asyncio.Task[None], bool] = {}
        """The messages here; true: with the handler now."""
        self._refused: OrderedDict[str, int] = OrderedDict()
        """How often the app has refused a message, by its id: the protocol does not tell."""
        self._acks: _Acks | None = None
        """To the stream that runs now."""
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start; return when the program has said that it began, or after `SETTLE`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pull {self._feed.name}")
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                await self._settled.wait()

    async def pause(self) -> None:
        self._flowing.clear()

    async def resume(self) -> None:
        self._flowing.set()

    async def stop(self, grace: float) -> None:
        if self._stopping:
            return
        self._stopping = True
        rest: list[asyncio.Task[None]] = []
        try:
            await self._last_words(grace)
        finally:  # also when the stop is cancelled: without the grace, but all the same
            rest += self._handling
            if self._task is not None:
                rest.append(self._task)
            for task in rest:
                task.cancel()
            self._ended(self)
        if rest:  # a handler that ignores being cancelled holds up nobody: its message is given back
            await asyncio.wait(rest, timeout=delivery.CANCEL_TIMEOUT)

    async def _last_words(self, grace: float) -> None:
        """Let handlers end and their acknowledgements go out."""
        for task, with_handler in list(self._handling.items()):
            if not with_handler:
                task.cancel()
        busy = [task for task, with_handler in self._handling.items() if with_handler]
        if busy and grace > 0:
            await asyncio.wait(busy, timeout=grace)
        if self._task is not None and self._acks is not None and not any(self._handling.values()):
            self._acks.put_nowait(None)
            await asyncio.wait([self._task], timeout=LAST_WORDS)

    async def _run(self) -> None:
        delay = RETRY_FIRST
        while not self._stopping:
            try:
                await self._connection.ready()
                if await self._read():
                    delay = RETRY_FIRST
            except (BackendError, GrpcError, DecodeError):
                pass  # whoever looks at the component's health is told by `ping`; here it is only tried again
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            delay = min(delay * 2, RETRY_LONGEST)

    async def _read(self) -> bool:
        """Take messages until the stream ends; whether there was any."""
        acks: _Acks = asyncio.Queue()
        self._acks = acks
        stream = self._connection.stream(self._feed.method, _requests(self._feed.first, acks))
        settling = asyncio.get_running_loop().create_task(self._settle(stream))
        some = False
        mine: list[asyncio.Task[None]] = []
        messages = stream.messages()
        try:
            async for data in messages:
                some = True
                message = self._feed.read(data)
                await self._slots.acquire()
                if self._stopping:  # it stays unacknowledged
                    self._slots.release()
                    continue
                task = asyncio.get_running_loop().create_task(self._handle(message, acks))
                self._handling[task] = False
                task.add_done_callback(self._done)
                mine = [one for one in mine if not one.done()]
                mine.append(task)
        except GrpcError as error:
            raise self._connection.failure(error) from error
        finally:
            settling.cancel()
            self._acks = None
            for task in mine:  # what only waits is delivered anew by the program
                if not self._handling.get(task, True):
                    task.cancel()
            stream.cancel()
            await close(messages)
        return some

    async def _settle(self, stream: GrpcStream) -> None:
        with suppress(GrpcError):
            await stream.initial_metadata()
            self._settled.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._handling.pop(task, None)
        self._slots.release()

    async def _handle(self, pulled: P, acks: _Acks) -> None:
        message_id = self._feed.id_of(pulled)
        deliveries = 1 + self._refused.get(message_id, 0)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs as one
        while True:
            await self._flowing.wait()
            self._handling[task] = True
            answer = b""
            try:
                outcome, answer = await self._feed.handle(pulled, deliveries)
            except Exception:  # noqa: BLE001 - it promises not to raise; a defect of it loses no message
                outcome = Outcome.RETRY
            self._handling[task] = False
            if outcome is not Outcome.RELEASED:
                break
            if self._stopping:
                return
            await asyncio.sleep(AGAIN)
        failures = self._refused.pop(message_id, 0)
        if outcome is Outcome.RETRY:
            self._refused[message_id] = failures + 1
            while len(self._refused) > _MOST_REFUSED:
                self._refused.popitem(last=False)
        acks.put_nowait(self._feed.ack(message_id, answer, refused=outcome is Outcome.RETRY))


async def _requests(first: bytes | None, acks: _Acks) -> AsyncIterator[bytes]:
    if first is not None:
        yield first
    while (ack := await acks.get()) is not None:
        yield ack


class Pulls:
    """The running streams of one component: begun here, and ended with it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        """`stack`: the component's own."""
        self._running: set[Pull[Any]] = set()
        stack.push_async_callback(self._end)

    async def begin(self, connection: Connection, feed: Feed[P], max_in_flight: int) -> Pull[P]:
        """Begin one. Raises `BackendError`; cancelled midway, nothing is left running."""
        await connection.ready()
        pull = Pull(connection, feed, max_in_flight, self._running.discard)
        self._running.add(pull)
        try:
            await pull.begin()
        except BaseException:
            await pull.stop(0.0)
            raise
        return pull

    async def _end(self) -> None:
        await asyncio.gather(*(pull.stop(0.0) for pull in tuple(self._running)))
