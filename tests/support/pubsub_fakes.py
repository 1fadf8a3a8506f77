"""An app as its channel shows it, and what is noted beside it: for tests of the delivery road without sockets."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dapr_shared._proto import appcallback_pb
from dapr_shared.channel.base import AppChannel, ChannelProperties, HealthAnswer
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.invocation import AppUnreachableError, InvokeRequest, InvokeResponse
from dapr_shared.contracts.pubsub import Message
from dapr_shared.core.errors import GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ORDERS = AppRef("orders", "default")
PATIENCE = 5.0
"""Seconds until a test that waits fails."""


async def until(condition: Callable[[], Any]) -> None:
    """Wait until it is so; the condition may be a coroutine function."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.005)


def answer(body: Any = b"", status: int = 200) -> InvokeResponse:
    """What an HTTP app answers; anything but bytes goes as JSON."""
    return InvokeResponse(status, [], body if isinstance(body, bytes) else json.dumps(body).encode())


class HangingBody:
    """The body of an answer whose end never comes."""

    closed = False

    async def read(self, _limit: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def aclose(self) -> None:
        self.closed = True


class FakeHttpChannel(AppChannel):
    """An HTTP app that can be absent and that answers what `reply` gives: an answer, bytes or an error to raise."""

    def __init__(self, ref: AppRef = ORDERS, **properties: Any) -> None:
        super().__init__(ref, ChannelProperties(**properties))
        self.present = True
        self.list: Any = b"[]"
        """The body of `/dapr/subscribe`, an answer, or an error."""
        self.asked = 0
        self.looked = 0
        self.delivered: list[InvokeRequest] = []
        self.timeouts: list[float | None] = []
        """Seconds that each delivery was given."""
        self.reply: Callable[[InvokeRequest], Any] = lambda _: b""

    @property
    def paths(self) -> list[str]:
        """Where events went."""
        return [request.method for request in self.delivered]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that came."""
        return [json.loads(request.body) for request in self.delivered if isinstance(request.body, bytes)]

    async def reachable(self) -> bool:
        self.looked += 1
        return self.present

    async def _send(self, request: InvokeRequest, timeout: float | None) -> InvokeResponse:  # noqa: ASYNC109
        if not self.present:
            raise AppUnreachableError("connection refused")
        if request.method == "dapr/subscribe":
            self.asked += 1
            found = self.list
        else:
            self.delivered.append(request)
            self.timeouts.append(timeout)
            found = self.reply(request)
            if inspect.isawaitable(found):
                found = await found
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, InvokeResponse) else answer(found)

    async def _probe(self, health: Any) -> HealthAnswer:
        return HealthAnswer(healthy=True, status="200")

    async def _open(self) -> None:
        """Nothing to open."""

    async def _close(self) -> None:
        """Nothing to close."""


@dataclass
class _Unary:
    data: bytes
    initial: tuple[()] = ()
    trailers: tuple[()] = ()


@dataclass
class FakeGrpcClient:
    """Answers methods by name with bytes or errors, and keeps what it was asked."""

    answers: dict[str, Any] = field(default_factory=dict)
    called: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)

    async def unary(self, method: str, data: bytes, metadata: Any, *, timeout: float | None = None) -> _Unary:  # noqa: ASYNC109
        name = method.rpartition("/")[2]
        self.called.append((name, data, dict(metadata)))
        self.timeouts.append(timeout)
        found = self.answers.get(name, GrpcError(GrpcCode.UNIMPLEMENTED, "no such method"))
        if callable(found):
            found = found(data)
        if isinstance(found, Exception):
            raise found
        return _Unary(found)


class FakeGrpcChannel(GrpcAppChannel):
    """A gRPC app."""

    def __init__(self, ref: AppRef = ORDERS, **answers: Any) -> None:
        super().__init__(ref, ChannelProperties(protocol="grpc"))
        self.present = True
        self.fake = FakeGrpcClient(answers)
        self._client = self.fake  # pyright: ignore[reportAttributeAccessIssue]

    async def reachable(self) -> bool:
        return self.present

    @property
    def events(self) -> list[Any]:
        """The events that came."""
        return [
            appcallback_pb.TopicEventRequest.FromString(data)
            for name, data, _ in self.fake.called
            if name == "OnTopicEvent"
        ]


@dataclass
class Lines:
    """A log that keeps its lines; `Events` takes the bound method `logger`."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def logger(self, _name: str) -> Any:
        return self

    def info(self, message: str, **fields: Any) -> None:
        self.lines.append((message, fields))

    debug = warning = error = info

    def of(self, message: str) -> list[dict[str, Any]]:
        """The fields of the lines that say this."""
        return [fields for said, fields in self.lines if said == message]


@dataclass
class FakeMemory:
    """Keeps an app's last answer."""

    kept: dict[AppRef, Sequence[Any]] = field(default_factory=dict)
    saved: int = 0

    def load(self, app: AppRef) -> Sequence[Any]:
        return self.kept.get(app, ())

    def save(self, app: AppRef, asked: Sequence[Any]) -> None:
        self.saved += 1
        self.kept[app] = asked


def event(data: Any = "hello", **attributes: Any) -> dict[str, Any]:
    """A CloudEvent."""
    return {
        "id": "1", "source": "shop", "type": "made", "specversion": "1.0", "datacontenttype": "text/plain",
        "data": data, **attributes,
    }  # fmt: skip


def message(body: Any = None, **metadata: str) -> Message:
    """A message with that event, or those bytes."""
    body = event() if body is None else body
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message("t", data, "application/cloudevents+json", metadata, "m1")
