"""Transparent proxying: client → proxy → upstream, both servers on the same engine."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError, Kind, Method
from dapr_shared.wire.grpc.proxy import relay
from tests.support.grpc_calls import (
    ALL_KINDS,
    CHAT,
    COUNT,
    ECHO,
    JOIN,
    collect,
    fail,
    open_ended,
    stream_of,
    until,
    values,
)

MIB = 1024 * 1024


async def _through(desk, *methods, unary_timeout: float | None = None):
    """A client that reaches a server of `methods` only through a proxy that knows none of them."""
    upstream = await desk.serve(methods)
    to_upstream = desk.client(upstream)

    async def proxy(call, messages):
        async for message in relay(
            call, messages, to_upstream, call.method, call.metadata, unary_timeout=unary_timeout
        ):
            yield message

    return await desk.pair(unknown=proxy), upstream


async def test_all_kinds(desk) -> None:
    """Each kind of call works through the proxy."""
    client, _ = await _through(desk, *ALL_KINDS)
    assert (await client.unary(ECHO, b"x")).data == b"x"
    assert await collect(client.stream(COUNT, stream_of([b"3"])).messages()) == [b"0", b"1", b"2"]
    assert await collect(client.stream(JOIN, stream_of([b"a", b"b"])).messages()) == [b"ab"]
    assert await collect(client.stream(CHAT, stream_of([b"a", b"", b"b"])).messages()) == [b"a", b"", b"b"]
    assert await collect(client.stream(CHAT, stream_of([])).messages()) == []


async def test_large_messages(desk) -> None:
    """Messages of 1 MiB cross unchanged in every kind of call."""
    data = bytes(range(256)) * (MIB // 256)

    async def repeat(call, data):
        for _ in range(3):
            yield data

    client, _ = await _through(desk, ALL_KINDS[0], Method(COUNT, Kind.SERVER_STREAM, repeat), *ALL_KINDS[2:])
    assert (await client.unary(ECHO, data)).data == data
    assert await collect(client.stream(COUNT, stream_of([data])).messages()) == [data] * 3
    assert await collect(client.stream(JOIN, stream_of([data[:MIB]] * 3)).messages()) == [data * 3]
    assert await collect(client.stream(CHAT, stream_of([data] * 5)).messages()) == [data] * 5


async def test_back_and_forth(desk) -> None:
    """The proxy holds no message back: each answer comes before the next request."""
    client, _ = await _through(desk, *ALL_KINDS)
    answered: asyncio.Queue[bytes] = asyncio.Queue()

    async def requests():
        for number in range(5):
            yield b"%d" % number
            assert await answered.get() == b"%d" % number

    async with asyncio.timeout(5):
        async for message in client.stream(CHAT, requests()).messages():
            answered.put_nowait(message)


async def test_metadata(desk) -> None:
    """Metadata cross both ways: the client's up, headers and trailers down, binary ones and repeated ones too."""
    seen = {}

    async def handler(call, data):
        seen["metadata"] = call.metadata
        await call.send_initial_metadata([("h", "1"), ("h", "2"), ("h-bin", b"\xff\x00")])
        call.set_trailing_metadata([("t", "3"), ("t-bin", b"\x00")])
        return data

    client, _ = await _through(desk, Method(ECHO, Kind.UNARY, handler))
    answer = await client.unary(ECHO, b"", [("k", "1"), ("k", "2"), ("k-bin", b"\x00\xff")])
    assert values(seen["metadata"], "k") == ["1", "2"]
    assert values(seen["metadata"], "k-bin") == [b"\x00\xff"]
    assert answer.initial == (("h", "1"), ("h", "2"), ("h-bin", b"\xff\x00"))
    assert answer.trailers == (("t", "3"), ("t-bin", b"\x00"))


async def test_headers_come_before_messages(desk) -> None:
    """Response headers pass on at once, before there is any message."""
    go = asyncio.Event()

    async def handler(call, messages):
        await call.send_initial_metadata([("h", "1")])
        await go.wait()
        yield b"x"

    client, _ = await _through(desk, Method(CHAT, Kind.BIDI, handler))
    call = client.stream(CHAT, open_ended(b""))
    async with asyncio.timeout(5):
        assert await call.initial_metadata() == (("h", "1"),)
        go.set()
        assert await collect(call.messages()) == [b"x"]


async def test_errors_cross_unchanged(desk) -> None:
    """A status crosses with its message, details and other trailers, before and after messages."""
    details = b"\x08\x05\x12\x03abc\xff"

    async def refuse(call, data):
        raise GrpcError(
            GrpcCode.FAILED_PRECONDITION, "nicht größer", trailers=[("grpc-status-details-bin", details), ("t", "1")]
        )

    async def break_off(call, data):
        yield b"1"
        raise GrpcError(GrpcCode.OUT_OF_RANGE, "end", trailers=[("grpc-status-details-bin", details)])

    client, _ = await _through(desk, Method(ECHO, Kind.UNARY, refuse), Method(COUNT, Kind.SERVER_STREAM, break_off))
    error = await fail(client.unary(ECHO, b""))
    assert (error.code, error.message) == (GrpcCode.FAILED_PRECONDITION, "nicht größer")
    assert values(error.trailers, "grpc-status-details-bin") == [details]
    assert values(error.trailers, "t") == ["1"]
    answers = client.stream(COUNT, stream_of([b""])).messages()
    assert await anext(answers) == b"1"
    error = await fail(anext(answers))
    assert (error.code, error.message) == (GrpcCode.OUT_OF_RANGE, "end")
    assert values(error.trailers, "grpc-status-details-bin") == [details]


async def test_unimplemented_upstream(desk) -> None:
    """A method that the upstream does not know is its UNIMPLEMENTED."""
    client, _ = await _through(desk, *ALL_KINDS)
    error = await fail(client.unary("/other.Service/X", b""))
    assert (error.code, error.message) == (GrpcCode.UNIMPLEMENTED, "no /other.Service/X")


async def test_the_deadline_is_passed_on(desk) -> None:
    """The upstream sees the client's deadline, shortened by a `unary_timeout` and not without either."""
    seen = []

    async def handler(call, data):
        seen.append(call.time_remaining())
        return data

    client, _ = await _through(desk, Method(ECHO, Kind.UNARY, handler))
    await client.unary(ECHO, b"", timeout=30)
    await client.unary(ECHO, b"")
    bounded, _ = await _through(desk, Method(ECHO, Kind.UNARY, handler), unary_timeout=10)
    await bounded.unary(ECHO, b"", timeout=30)
    await bounded.unary(ECHO, b"", timeout=5)
    assert 25 < seen[0] <= 31  # gRPC rounds it up on the wire, at each hop
    assert seen[1] is None
    assert 5.5 < seen[2] <= 10.5
    assert 0 < seen[3] <= 5.5


async def test_the_timeout_ends_the_call(desk) -> None:
    """A `unary_timeout` that passes is DEADLINE_EXCEEDED for the client, and the upstream's handler is cancelled."""
    ended = asyncio.Event()

    async def handler(call, data):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client, _ = await _through(desk, Method(ECHO, Kind.UNARY, handler), unary_timeout=0.1)
    assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await ended.wait()


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.SERVER_STREAM, Kind.CLIENT_STREAM, Kind.BIDI])
async def test_a_client_that_gives_up(desk, kind) -> None:
    """A client's cancellation reaches the upstream's handler."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def one(call, data):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def many(call, data):
        await one(call, data)
        yield b""

    client, _ = await _through(desk, Method(ECHO, kind, many if kind in {Kind.SERVER_STREAM, Kind.BIDI} else one))
    call = client.stream(ECHO, open_ended(b"x") if kind in {Kind.CLIENT_STREAM, Kind.BIDI} else stream_of([b"x"]))
    async with asyncio.timeout(5):
        await started.wait()
        call.cancel()
        await ended.wait()


async def test_a_cancelled_upload_does_not_look_complete(desk) -> None:
    """An upload that the client breaks off never looks complete to the upstream."""
    completed, broken = [], []

    async def handler(call, messages):
        try:
            async for message in messages:
                yield message
            completed.append(1)
        finally:
            broken.append(1)

    client, _ = await _through(desk, Method(CHAT, Kind.BIDI, handler))

    async def upload():
        call = client.stream(CHAT, open_ended(b"part"))
        async for _ in call.messages():
            break
        call.cancel()

    for _ in range(10):
        await asyncio.gather(*(upload() for _ in range(5)))
    await until(lambda: len(broken) == 50)
    assert not completed


async def test_a_client_that_disconnects(desk) -> None:
    """A client that is gone, connection and all, cancels its calls upstream."""
    ended = asyncio.Event()

    async def handler(call, messages):
        try:
            async for message in messages:
                yield message
        finally:
            ended.set()

    client, _ = await _through(desk, Method(CHAT, Kind.BIDI, handler))
    answers = client.stream(CHAT, open_ended(b"x")).messages()
    assert await anext(answers) == b"x"
    await client.aclose()
    async with asyncio.timeout(5):
        await ended.wait()
    assert (await fail(anext(answers))).code is GrpcCode.CANCELLED


async def test_an_upstream_that_is_gone(desk) -> None:
    """Without an upstream the answer is UNAVAILABLE at once; one that dies ends the streams through it."""
    client, upstream = await _through(desk, *ALL_KINDS)
    answers = client.stream(CHAT, open_ended(b"x")).messages()
    assert await anext(answers) == b"x"
    await upstream.stop(0)
    async with asyncio.timeout(5):
        assert (await fail(anext(answers))).code in {GrpcCode.UNAVAILABLE, GrpcCode.CANCELLED}
        assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.UNAVAILABLE


async def test_an_upstream_that_answers_early(desk) -> None:
    """An upstream that answers before the client is done ends the call for the client."""

    async def handler(call, messages):
        yield b"enough"

    client, _ = await _through(desk, Method(CHAT, Kind.BIDI, handler))
    async with asyncio.timeout(5):
        assert await collect(client.stream(CHAT, open_ended(b"x")).messages()) == [b"enough"]


async def test_a_slow_client_holds_the_upstream_back(desk) -> None:
    """The proxy does not pile up answers that its client does not read."""
    sent = []

    async def handler(call, data):
        for _ in range(1000):
            yield bytes(64 * 1024)
            sent.append(1)

    client, _ = await _through(desk, Method(COUNT, Kind.SERVER_STREAM, handler))
    call = client.stream(COUNT, stream_of([b""]))
    await call.initial_metadata()
    count = -1
    while count != len(sent):  # until it stands still
        count = len(sent)
        await asyncio.sleep(0.1)
    assert count < 700
    call.cancel()


async def test_a_slow_upstream_holds_the_client_back(desk) -> None:
    """The proxy does not pile up requests that its upstream does not read."""
    sent = []

    async def requests():
        for _ in range(1000):
            yield bytes(64 * 1024)
            sent.append(1)

    async def handler(call, messages):
        await asyncio.Event().wait()
        return b""

    client, _ = await _through(desk, Method(JOIN, Kind.CLIENT_STREAM, handler))
    call = client.stream(JOIN, requests())
    await until(lambda: sent)
    count = -1
    while count != len(sent):  # until it stands still
        count = len(sent)
        await asyncio.sleep(0.1)
    assert count < 700
    call.cancel()
