"""Calls of apps of other instances: what is sent, when it is tried again, and what becomes of failures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import pytest

from dapr_shared.blocks.invoke import InvokeBlock
from dapr_shared.blocks.invoke_peers import PeerCalls
from dapr_shared.contracts.invocation import (
    AppTimeoutError,
    AppUnreachableError,
    CallDeniedError,
    ChannelBusyError,
    ChannelError,
    InvokeResponse,
)
from dapr_shared.contracts.nameresolution import ResolveError
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.http.messages import BodyError


class Body:
    """A streamed body of one piece."""

    content_length = None

    def __aiter__(self):
        return self._pieces()

    async def _pieces(self):
        yield b"piece"


class FakePeers:
    """Answers, or fails in turn as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[AppRef, Any]] = []
        self.failures: list[Exception] = []
        self.reads = False
        self.client: Any = None

    async def invoke(self, app, request):
        self.calls.append((app, request))
        if self.reads and not isinstance(request.body, bytes):
            _ = [piece async for piece in request.body]
        if self.failures:
            raise self.failures.pop(0)
        return InvokeResponse(200, [(b"connection", b"close"), (b"x", b"1")], b"ok", b"text/plain")

    @asynccontextmanager
    async def connection(self, app):
        self.calls.append((app, None))
        if self.failures:
            raise self.failures.pop(0)
        yield self.client


class World:
    """The block with nothing but peers."""

    def __init__(self, metrics) -> None:
        self.peers = FakePeers()
        self.slept: list[float] = []
        self.told: list[tuple] = []
        calls = PeerCalls(self.peers, metrics, self, sleep=self._sleep)  # pyright: ignore[reportArgumentType]
        self.block = InvokeBlock(
            {},
            self,
            self,
            metrics,
            self,
            serves=lambda _: False,
            peers=calls,  # pyright: ignore[reportArgumentType]
        )

    async def _sleep(self, seconds):
        self.slept.append(seconds)

    def resolve(self, caller, target):
        return None

    def invocation_failed(self, *what):
        self.told.append(what)

    async def invoke(self, caller, target="stock", method="m", **given):
        options = {"verb": "POST", "query": b"", "headers": [], "body": b"", "trace": [], **given}
        return await self.block.invoke(caller, target, method, **options)


@pytest.fixture
def world(metrics) -> World:
    return World(metrics)


LOST = AppUnreachableError("10.0.0.1:50002: rpc error: code = Unavailable desc = gone")


async def test_what_is_sent(world, caller):
    """An app that is not here is called at its instance, with the proved caller in place of every claim."""
    headers = [(b"dapr-caller-app-id", b"forged"), (b"content-type", b"a/b"), (b"x", b"y"), (b"te", b"trailers")]
    answer = await world.invoke(
        caller, "stock.other", "/a/../b", headers=headers, query=b"c=d", trace=[(b"traceparent", b"t")]
    )
    ((app, request),) = world.peers.calls
    assert app == AppRef("stock", "other")
    assert (request.method, request.verb, request.query, request.content_type) == ("b", "POST", b"c=d", b"a/b")
    assert request.headers == [
        (b"x", b"y"), (b"dapr-caller-app-id", b"orders"), (b"dapr-caller-namespace", b"default"),
        (b"dapr-callee-app-id", b"stock"), (b"traceparent", b"t"),
    ]  # fmt: skip
    assert answer.headers == [(b"x", b"1")]


async def test_a_lost_connection_is_tried_again(world, caller):
    """A call that reached nobody is made up to three times more, a second apart."""
    world.peers.failures = [LOST, LOST, LOST]
    assert (await world.invoke(caller)).status == 200
    assert world.slept == [1.0, 1.0, 1.0]


async def test_the_last_try_fails(world, caller):
    """After three retries the failure says so, and names the target."""
    world.peers.failures = [LOST] * 4
    with pytest.raises(DaprError) as raised:
        await world.invoke(caller)
    assert raised.value.row is errors.INVOKE_UNAVAILABLE
    assert "failed to invoke target stock after 3 retries. Error: 10.0.0.1:50002" in raised.value.message
    assert len(world.peers.calls) == 4
    assert len(world.told) == 1


@pytest.mark.parametrize(
    ("failure", "row"),
    [
        (CallDeniedError("no"), errors.INVOKE_DENIED),
        (AppTimeoutError("late"), errors.INVOKE_TIMEOUT),
        (ChannelBusyError("full"), errors.INVOKE_FAILED),
        (ChannelError("rpc error: code = Internal desc = x"), errors.INVOKE_FAILED),
        (ResolveError("failed to resolve address for 'x'"), errors.INVOKE_FAILED),
        (BodyError("broke off"), errors.INVOKE_FAILED),
    ],
)
async def test_other_failures_are_final(world, caller, failure, row):
    """What is no lost connection is told at once."""
    world.peers.failures = [failure]
    with pytest.raises(DaprError) as raised:
        await world.invoke(caller)
    assert raised.value.row is row
    assert str(failure) in raised.value.message or row is errors.INVOKE_TIMEOUT
    assert world.slept == []


@pytest.mark.parametrize(("reads", "tries"), [(False, 2), (True, 1)])
async def test_a_streamed_body_is_sent_once(world, caller, reads, tries):
    """A body that streams is tried again only if none of it was taken."""
    world.peers.reads = reads
    world.peers.failures = [LOST]
    if reads:
        with pytest.raises(DaprError):
            await world.invoke(caller, body=Body())
    else:
        await world.invoke(caller, body=Body())
    assert len(world.peers.calls) == tries


async def test_without_name_resolution(metrics, caller):
    """Where there are no peers, an app that is not here is not found; neither is an absolute URL with them."""
    world = World(metrics)
    world.block._peers = None
    with pytest.raises(DaprError, match="couldn't find service: stock"):
        await world.invoke(caller)
    with pytest.raises(DaprError, match="couldn't find service"):
        await World(metrics).invoke(caller, "http://stock")


class Call:
    """One relayed call, as the front door has it."""

    method = "/a.B/C"
    metadata = (("x", "y"), ("dapr-app-id", "stock"), ("dapr-callee-namespace", "forged"))

    def time_remaining(self):
        return None

    async def send_initial_metadata(self, metadata):
        pass

    def set_trailing_metadata(self, metadata):
        pass


class Stream:
    """A call in progress that answers with what it is sent, or fails before."""

    def __init__(self, messages, failure):
        self._messages = messages
        self._failure = failure

    async def initial_metadata(self):
        if self._failure is not None:
            raise self._failure
        return ()

    async def messages(self):
        async for message in self._messages:
            yield message

    def trailers(self):
        return ()

    def cancel(self):
        pass


class Client:
    """Fails in turn as it is told, else echoes."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.sent: list[Any] = []

    def stream(self, method, messages, metadata, *, timeout):
        self.sent.append((method, metadata))
        return Stream(messages, self.failures.pop(0) if self.failures else None)


async def _messages():
    yield b"1"
    yield b"2"


async def _proxied(world, caller):
    return [one async for one in world.block.proxy(caller, "stock.other", Call(), _messages(), [])]


async def test_a_relayed_call_gets_a_new_connection_once(world, caller):
    """A call that no connection took is relayed over a new one, with the namespace beside it and no claim."""
    gone = GrpcError(GrpcCode.UNAVAILABLE, "refused", unreachable=True)
    world.peers.client = Client(gone)
    assert await _proxied(world, caller) == [b"1", b"2"]
    assert len(world.peers.client.sent) == 2
    method, metadata = world.peers.client.sent[-1]
    assert method == "/a.B/C"
    assert [value for key, value in metadata if key == "dapr-callee-namespace"] == ["other"]
    assert ("dapr-callee-app-id", "stock") in metadata
    assert not [value for key, value in metadata if key == "dapr-app-id"]


@pytest.mark.parametrize(
    "failures",
    [
        [GrpcError(GrpcCode.UNAVAILABLE, "by the app")],
        [GrpcError(GrpcCode.UNAVAILABLE, "refused", unreachable=True)] * 2,
    ],
)
async def test_a_relayed_call_fails_as_the_app_answered(world, caller, failures):
    """What the app answers passes; a second lost connection is the answer."""
    world.peers.client = Client(*failures)
    with pytest.raises(GrpcError) as raised:
        await _proxied(world, caller)
    assert raised.value.code is GrpcCode.UNAVAILABLE


async def test_a_relayed_call_of_a_name_that_has_no_address(world, caller):
    """Where the name does not resolve the call fails as an invocation does."""
    world.peers.failures = [ResolveError("failed to resolve address for 'x'")]
    with pytest.raises(DaprError, match="failed to resolve address"):
        await _proxied(world, caller)
