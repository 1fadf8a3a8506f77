"""Calls by apps of other instances: which app is meant, what it is told, who is let in, what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.blocks.invoke import normalize_method
from dapr_shared.blocks.invoke_received import ReceivedCalls
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError, InvokeResponse
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import AppRef
from dapr_shared.identity.caller import ClaimedCaller
from dapr_shared.observability.spans import AppTracing, SpanTable
from dapr_shared.observability.tracing import Tracing
from dapr_shared.security.access_control import Decision
from dapr_shared.security.limits import CallLimits
from dapr_shared.wire.http.messages import BodyError

STOCK = AppRef("stock", "shop")
CLAIM = ClaimedCaller("orders", "far")
TRACE = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]


class World:
    """Everything that the block asks."""

    def __init__(self, metrics) -> None:
        self.apps = [STOCK, AppRef("twice", "a"), AppRef("twice", "b")]
        self.one: AppRef | None = None
        self.requests: list[Any] = []
        self.answer: Any = None
        self.allow = True
        self.decided: list[tuple] = []
        self.told: list[tuple] = []
        self.spans: list[Any] = []
        self.limits = CallLimits(1)
        table, tracing = SpanTable(), Tracing(1)
        table.replace({STOCK: AppTracing("stock", tracing, [self])}, tracing)
        self.block = ReceivedCalls(
            self,
            {STOCK: self},
            self,
            self.limits,
            metrics,
            self,
            spans=table,
            normalize=normalize_method,  # pyright: ignore[reportArgumentType]
        )

    def single(self):
        return self.one

    def named(self, app_id):
        return [ref for ref in self.apps if ref.app_id == app_id]

    def decide_unproved(self, callee, operation, verb):
        self.decided.append((callee, operation, verb))
        return Decision(allowed=self.allow, policy=None)

    def peer_call_refused(self, *what):
        self.told.append(what)

    def put(self, span):
        self.spans.append(span)

    async def invoke(self, request):
        self.requests.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer or InvokeResponse(200, [(b"connection", b"close"), (b"x", b"1")], b"ok", b"text/plain")

    async def call(self, **given):
        options = {
            "verb": "POST", "query": b"", "headers": [], "body": b"", "content_type": None, "trace": TRACE, "api": "/S/CallLocal", **given,
        }  # fmt: skip
        return await self.block.invoke(CLAIM, STOCK, options.pop("method", "m"), **options)


@pytest.fixture
def world(metrics) -> World:
    return World(metrics)


@pytest.mark.parametrize(
    ("app_id", "namespace", "single", "found"),
    [
        ("stock", "", False, STOCK),
        ("stock", "shop", False, STOCK),
        ("stock", "other", False, None),
        ("twice", "b", False, AppRef("twice", "b")),
        ("twice", "", False, None),
        ("nobody", "", False, None),
        ("", "", False, None),
        ("", "", True, STOCK),
        ("nobody", "", True, None),
    ],
)
def test_which_app_is_meant(world, app_id, namespace, single, found):
    """The app id names it, with the namespace where there are several; nothing is guessed but the one app of --app-id."""
    world.one = STOCK if single else None
    if found is not None:
        assert world.block.callee(CLAIM, app_id, namespace) == found
        return
    with pytest.raises(DaprError) as raised:
        world.block.callee(CLAIM, app_id, namespace)
    assert raised.value.row is errors.PEER_APP_NOT_SERVED
    assert world.told[0][1:3] == ("not_served", "orders")


async def test_what_the_app_is_told(world):
    """The app gets the request without what belongs to a hop, and the claim as the name of the caller."""
    headers = [(b"x", b"y"), (b"dapr-caller-app-id", b"forged"), (b"te", b"z"), (b"traceparent", b"old")]
    answer = await world.call(method="/a/../b", headers=headers, content_type=b"a/b", query=b"c=d", body=b"z")
    (request,) = world.requests
    assert (request.method, request.verb, request.query, request.body, request.content_type) == (
        "b",
        "POST",
        b"c=d",
        b"z",
        b"a/b",
    )
    assert request.headers[:4] == [
        (b"x", b"y"), (b"dapr-caller-app-id", b"orders"), (b"dapr-caller-namespace", b"far"), (b"dapr-callee-app-id", b"stock"),
    ]  # fmt: skip
    assert answer.headers == [(b"x", b"1")]
    assert world.decided == [(STOCK, "/b", "POST")]


async def test_the_span(world):
    """The callee has a span of Dapr's name in the caller's trace, and the app is in it."""
    await world.call(method="a/b")
    (span,) = world.spans
    assert (span.name, span.kind, span.trace_id) == (
        "CallLocal/stock/a/b",
        "server",
        "0af7651916cd43dd8448eb211c80319c",
    )
    assert span.attributes["dapr.api"] == "/S/CallLocal"
    assert dict(world.requests[0].headers)[b"traceparent"].decode()[36:52] == span.span_id
    world.answer = AppUnreachableError("refused")
    with pytest.raises(DaprError):
        await world.call()
    assert world.spans[1].error == "refused"


async def test_who_is_let_in(world):
    """A call that the policy does not allow never reaches the app, and is told."""
    world.allow = False
    with pytest.raises(DaprError) as raised:
        await world.call()
    assert raised.value.row is errors.PEER_CALL_DENIED
    assert world.requests == []
    assert world.told[0][:3] == ("stock", "access_control", "orders")


@pytest.mark.parametrize("failure", [AppUnreachableError("x"), AppTimeoutError("x"), ChannelError("x"), BodyError("x")])
async def test_failures_are_final(world, failure):
    """Whatever keeps the app from answering is INTERNAL, which no peer tries again; its place is given back."""
    world.answer = failure
    for _ in range(2):
        with pytest.raises(DaprError) as raised:
            await world.call()
        assert raised.value.row is errors.PEER_CALL_FAILED


@pytest.mark.parametrize(("method", "verb"), [("a#b", "GET"), ("a\nb", "GET"), ("m", ""), ("m", "CONNECT")])
async def test_what_cannot_be_called(world, method, verb):
    """A method or a verb that HTTP does not have is an invalid argument."""
    with pytest.raises(DaprError) as raised:
        await world.call(method=method, verb=verb)
    assert raised.value.row is errors.PEER_CALL_INVALID
    assert world.requests == []


async def test_calls_in_flight_are_bounded(world):
    """Peers cannot have more calls in flight to an app than the limit."""
    world.limits.enter(STOCK)
    with pytest.raises(DaprError) as raised:
        await world.call()
    assert raised.value.row is errors.TOO_MANY_CALLS
    world.limits.leave(STOCK)
    await world.call()


async def test_what_is_counted(world, count):
    """The callee's side is counted, under the name that the caller gives, or `unknown`."""
    await world.call()
    name = "dapr_runtime_service_invocation_"
    assert count(name + "req_recv_total", app_id="stock", src_app_id="orders") == 1
    assert count(name + "res_sent_total", app_id="stock", dst_app_id="orders", status="200") == 1
    assert count(name + "req_sent_total") == 0
