"""The invoke block: which target is meant, who may call it, and what becomes of its failures."""

from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.blocks.invoke import EXTERNAL, InvokeBlock, normalize_method, parse_target
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    InvokeResponse,
)
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.security.access_control import Decision
from dapr_shared.wire.http.messages import BodyTooLargeError


class FakeChannel:
    """Notes the requests, and answers or fails as it is told."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Any = None

    async def invoke(self, request):
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or InvokeResponse(200, [(b"connection", b"close"), (b"x", b"1")], b"ok", b"text/plain")


class World:
    """Everything that the block asks."""

    def __init__(self, metrics) -> None:
        self.apps: dict[AppRef, FakeChannel | None] = {}
        self.outside: dict[str, FakeChannel] = {}
        self.denied: Any = None
        self.decided: list[tuple] = []
        self.allow = True
        self.told: list[tuple] = []
        self.block = InvokeBlock(self.apps, self, self, metrics, self, serves=self.apps.__contains__)

    def resolve(self, caller, target):
        if self.denied is not None:
            raise self.denied
        return self.outside.get(target)

    def decide(self, caller, callee, operation, verb):
        self.decided.append((caller.ref, callee, operation, verb))
        return Decision(allowed=self.allow, policy=None)

    def invocation_failed(self, *what):
        self.told.append(what)

    def access_refused(self, *what):
        self.told.append(what)

    async def invoke(self, caller, target="stock", method="m", **given):
        options = {"verb": "POST", "query": b"", "headers": [], "body": b"", "trace": [], **given}
        return await self.block.invoke(caller, target, method, **options)


@pytest.fixture
def world(metrics) -> World:
    made = World(metrics)
    made.apps[AppRef("stock")] = FakeChannel()
    return made


@pytest.fixture
def channel(world) -> FakeChannel:
    return world.apps[AppRef("stock")]


async def refused(awaitable) -> DaprError:
    with pytest.raises(DaprError) as caught:
        await awaitable
    return caught.value


# Targets and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "ref"),
    [("stock", AppRef("stock", "shop")), ("stock.other", AppRef("stock", "other")), ("A_b-1", AppRef("A_b-1", "shop"))],
)
def test_names_of_targets(caller_of, target, ref):
    """A bare app id is one of the caller's namespace; another namespace stands behind one dot."""
    assert parse_target(caller_of(namespace="shop"), target) == ref


@pytest.mark.parametrize("target", ["", ".", "a.", ".a", "a.b.c", "a..b", ".."])
def test_names_that_are_none(caller, target):
    """Every other form is refused with a sentence about the form."""
    with pytest.raises(DaprError, match="invalid app id") as caught:
        parse_target(caller, target)
    assert caught.value.row is errors.INVOKE_FAILED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("", ""), ("m", "m"), ("a/b", "a/b"), ("/a", "a"), ("//a//b", "a/b"), ("a/./b", "a/b"), ("a/../b", "b"),
        ("../../x", "x"), ("a/..", ""), (".", ""), ("..", ""), ("a b", "a b"), ("\u00fc/\U0001f40d", "\u00fc/\U0001f40d"),
        ("a%2Fb", "a%2Fb"), ("a;b=c", "a;b=c"), ("...", "..."), ("a/.../b", "a/.../b"),
    ],
)  # fmt: skip
def test_methods(method, path):
    """A method becomes a clean relative path that cannot leave the app's root."""
    assert normalize_method("stock", method) == path


@pytest.mark.parametrize("method", ["a?b", "a#b", "a\r\nb", "\x00", "a\x7f", "\t"])
def test_methods_with_forbidden_characters(method):
    """What could end the path or the header line is refused."""
    with pytest.raises(DaprError) as caught:
        normalize_method("stock", method)
    assert caught.value.row is errors.INVOKE_BAD_METHOD


async def test_the_request_that_the_app_gets(world, channel, caller):
    """Verb, path, query, body, content type and headers arrive; claims do not, and the proved caller does, once."""
    headers = [(b"content-type", b"a/b"), (b"x", b"1"), (b"dapr-caller-app-id", b"stock"), (b"dapr-api-token", b"t")]
    answer = await world.invoke(
        caller,
        method="/a/../b",
        verb="PUT",
        query=b"q=1",
        headers=headers,
        body=b"body",
        trace=[(b"traceparent", b"t")],
    )
    (request,) = channel.requests
    assert (request.method, request.verb, request.query, request.body) == ("b", "PUT", b"q=1", b"body")
    assert request.content_type == b"a/b"
    assert request.headers == [
        (b"x", b"1"), (b"dapr-caller-app-id", b"orders"), (b"dapr-caller-namespace", b"default"),
        (b"dapr-callee-app-id", b"stock"), (b"traceparent", b"t"),
    ]  # fmt: skip
    assert (answer.status, answer.headers, answer.body, answer.content_type) == (
        200,
        [(b"x", b"1")],
        b"ok",
        b"text/plain",
    )


@pytest.mark.parametrize("status", [100, 204, 301, 404, 500, 599])
async def test_any_status_is_an_answer(world, channel, caller, status):
    """What the app answers passes through, whatever its status."""
    channel.answer = InvokeResponse(status, [], b"theirs")
    answer = await world.invoke(caller)
    assert (answer.status, answer.body) == (status, b"theirs")
    assert len(channel.requests) == 1


async def test_targets_that_are_not_there(world, caller):
    """An unknown name is not found; an app without a channel says so; another namespace's app needs its namespace."""
    assert (await refused(world.invoke(caller, "nobody"))).row is errors.INVOKE_NOT_FOUND
    world.apps[AppRef("mute")] = None
    error = await refused(world.invoke(caller, "mute"))
    assert error.row is errors.INVOKE_FAILED
    assert "channel is not initialized" in error.message
    world.apps[AppRef("far", "shop")] = FakeChannel()
    assert (await refused(world.invoke(caller, "far"))).row is errors.INVOKE_NOT_FOUND
    assert (await world.invoke(caller, "far.shop")).status == 200


async def test_targets_outside(world, caller):
    """What is no app here may be an endpoint or URL; it is not told who calls, and no access control is asked."""
    outside = world.outside["http://x"] = world.outside["endpoint"] = FakeChannel()
    world.allow = False
    for target in ("http://x", "endpoint"):
        assert (await world.invoke(caller, target, headers=[(b"dapr-caller-app-id", b"a"), (b"x", b"1")])).status == 200
        assert outside.requests[-1].headers == [(b"x", b"1")]
    assert world.decided == []


async def test_an_app_hides_an_endpoint_of_its_name(world, channel, caller):
    """A name of an app of this instance is that app."""
    world.outside["stock"] = FakeChannel()
    await world.invoke(caller)
    assert len(channel.requests) == 1
    assert world.outside["stock"].requests == []


async def test_a_url_that_is_not_allowed(world, caller):
    """A denied URL is answered as such, and is an audit event."""
    world.denied = errors.INVOKE_DENIED(app="http://x", detail="no")
    assert (await refused(world.invoke(caller, "http://x"))).row is errors.INVOKE_DENIED
    assert world.told[0][:2] == (AppRef("orders"), "external_url")


# Access control ------------------------------------------------------------------------------------------------------


async def test_access_control_is_asked(world, channel, caller):
    """The callee's policy decides on the clean path and the verb; a denied call never reaches the app."""
    world.allow = False
    error = await refused(world.invoke(caller, method="x/../secret/%2e", verb="DELETE"))
    assert error.row is errors.INVOKE_DENIED
    assert world.decided == [(AppRef("orders"), AppRef("stock"), "/secret/%2e", "DELETE")]
    assert channel.requests == []
    assert world.told[0][1] == "access_control"


async def test_an_app_may_call_itself(world, caller_of):
    """An app's own policy does not bind its calls of itself, but does those of its name in another namespace."""
    world.allow = False
    assert (await world.invoke(caller_of("stock"))).status == 200
    error = await refused(world.invoke(caller_of("stock", "shop"), "stock.default"))
    assert error.row is errors.INVOKE_DENIED


# Failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (AppUnreachableError("refused"), errors.INVOKE_UNAVAILABLE),
        (AppTimeoutError("late"), errors.INVOKE_TIMEOUT),
        (AppNotHealthyError("sick"), errors.INVOKE_FAILED),
        (ChannelBusyError("full"), errors.INVOKE_FAILED),
        (ChannelError("odd"), errors.INVOKE_FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failures_of_the_channel(world, channel, caller, fault, row):
    """Each failure has its row, is told once with its reason, and is not tried again: the app may have been called."""
    channel.answer = fault
    error = await refused(world.invoke(caller))
    assert error.row is row
    assert error.row.http == 500
    assert world.told == [(AppRef("orders"), "stock", type(fault).__name__, str(fault))]
    assert len(channel.requests) == 1


async def test_a_body_that_cannot_be_read(world, channel, caller):
    """A request body over the limit is a failed invocation, not the app's fault."""
    channel.answer = BodyTooLargeError("too large")
    error = await refused(world.invoke(caller))
    assert error.row is errors.INVOKE_FAILED
    assert "request body" in error.message
    assert world.told == []


# Counting ------------------------------------------------------------------------------------------------------------


async def test_labels_are_bounded(world, channel, caller, metrics):
    """However many paths, verbs and outside targets a caller makes up, no label is made of them."""
    world.outside.update({f"http://host-{number}": FakeChannel() for number in range(20)})
    for number in range(20):
        await world.invoke(caller, method=f"made-up-{number}", verb="GET" if number % 2 else "POST")
        await world.invoke(caller, f"http://host-{number}")
        await refused(world.invoke(caller, f"nobody-{number}"))
    text = b"".join(metrics.registry.chunks()).decode()
    assert "made-up" not in text
    assert "host-" not in text
    assert "nobody-" not in text
    assert f'dst_app_id="{EXTERNAL}"' in text
    assert 'dst_app_id="stock"' in text


async def test_answers_of_grpc_apps_are_counted_by_their_code(world, channel, caller, count):
    """An answer with a gRPC status counts under that status."""
    channel.answer = InvokeResponse(404, [], b"", grpc_status=(GrpcCode.NOT_FOUND, "no", b""))
    await world.invoke(caller)
    name = "dapr_runtime_service_invocation_res_recv_total"
    assert count(name, app_id="orders", status="5") == 1
