"""Calls of all kinds through a server of each engine and our client."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import ClientOptions
from dapr_shared.wire.grpc.interface import GrpcError, Kind, Method, ServerOptions
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


async def test_unary(desk) -> None:
    """A unary call's bytes arrive and the answer comes back, also when both are empty."""
    client = await desk.pair(*ALL_KINDS)
    assert (await client.unary(ECHO, b"\x00\xff")).data == b"\x00\xff"
    assert (await client.unary(ECHO, b"")).data == b""


async def test_server_stream(desk) -> None:
    """A server stream's messages come in order, and none is an answer too."""
    client = await desk.pair(*ALL_KINDS)
    assert await collect(client.stream(COUNT, stream_of([b"5"])).messages()) == [b"0", b"1", b"2", b"3", b"4"]
    assert await collect(client.stream(COUNT, stream_of([b"0"])).messages()) == []


async def test_client_stream(desk) -> None:
    """A client stream's handler gets every message and the end, and answers once."""
    client = await desk.pair(*ALL_KINDS)
    assert await collect(client.stream(JOIN, stream_of([b"a", b"", b"b"])).messages()) == [b"ab"]
    assert await collect(client.stream(JOIN, stream_of([])).messages()) == [b""]


async def test_bidi(desk) -> None:
    """A bidirectional call goes back and forth: each answer is there before the next request is sent."""
    client = await desk.pair(*ALL_KINDS)
    answered: asyncio.Queue[bytes] = asyncio.Queue()

    async def requests():
        for number in range(3):
            yield b"%d" % number
            assert await answered.get() == b"%d" % number

    call = client.stream(CHAT, requests())
    async with asyncio.timeout(5):
        async for message in call.messages():
            answered.put_nowait(message)


async def test_unknown_methods(desk) -> None:
    """A method that is not in the table reaches the handler of unknown ones with its full name, as a stream."""

    async def unknown(call, messages):
        yield call.method.encode()
        async for message in messages:
            yield message

    client = await desk.pair(*ALL_KINDS, unknown=unknown)
    assert (await collect(client.stream("/other.Service/X", stream_of([b"1", b"2"])).messages())) == [
        b"/other.Service/X",
        b"1",
        b"2",
    ]


async def test_unknown_method_as_unary(desk) -> None:
    """A unary call of an unknown method works when the handler answers with one message."""

    async def unknown(call, messages):
        async for message in messages:
            yield message

    client = await desk.pair(unknown=unknown)
    assert (await client.unary("/other.Service/X", b"1")).data == b"1"


async def test_metadata_both_ways(desk) -> None:
    """Metadata cross in both directions: repeated keys in order, binary values as bytes, headers apart from trailers."""
    seen = {}

    async def handler(call, data):
        seen["metadata"] = call.metadata
        await call.send_initial_metadata([("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff")])
        call.set_trailing_metadata([("t", "3"), ("t-bin", b"\xfe")])
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    answer = await client.unary(ECHO, b"", [("k", "1"), ("k", "2"), ("k-bin", b"\xff\x00"), ("Upper", "x")])
    assert values(seen["metadata"], "k") == ["1", "2"]
    assert values(seen["metadata"], "k-bin") == [b"\xff\x00"]
    assert values(seen["metadata"], "upper") == ["x"]
    assert answer.initial == (("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff"))
    assert answer.trailers == (("t", "3"), ("t-bin", b"\xfe"))


async def test_metadata_of_streams(desk) -> None:
    """A stream's headers are there before its first message, its trailers after the last."""
    go = asyncio.Event()

    async def handler(call, messages):
        await call.send_initial_metadata([("h", "1")])
        await go.wait()
        yield b"x"
        call.set_trailing_metadata([("t", "2")])

    client = await desk.pair(Method(CHAT, Kind.BIDI, handler))
    call = client.stream(CHAT, stream_of([]))
    async with asyncio.timeout(5):
        assert await call.initial_metadata() == (("h", "1"),)
        go.set()
        assert await collect(call.messages()) == [b"x"]
    assert call.trailers() == (("t", "2"),)


async def test_wire_keys_are_not_metadata(desk) -> None:
    """A handler sees what the client sent and its user agent, and no key that only describes the wire."""
    seen = []

    async def handler(call, data):
        seen.extend(key for key, _ in call.metadata)
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    await client.unary(ECHO, b"", [("x", "1")], timeout=5)
    assert sorted(seen) == ["user-agent", "x"]


async def test_errors_with_details(desk) -> None:
    """A handler's error arrives with its code, its message in any language and its binary details."""

    async def handler(call, data):
        call.set_trailing_metadata([("t", "1")])
        raise GrpcError(GrpcCode.ABORTED, "größer: 大", trailers=[("grpc-status-details-bin", b"\x08\x0a\xff")])

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    error = await fail(client.unary(ECHO, b""))
    assert (error.code, error.message) == (GrpcCode.ABORTED, "größer: 大")
    assert values(error.trailers, "grpc-status-details-bin") == [b"\x08\x0a\xff"]
    assert values(error.trailers, "t") == ["1"]
    assert not error.unreachable


@pytest.mark.parametrize("code", [code for code in GrpcCode if code is not GrpcCode.OK])
async def test_every_code(desk, code) -> None:
    """Each status code crosses unchanged; UNAVAILABLE from a server that answers is not called unreachable."""

    async def handler(call, data):
        raise GrpcError(code, "failed to connect to all addresses")

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    error = await fail(client.unary(ECHO, b""))
    assert error.code is code
    assert not error.unreachable


async def test_an_error_after_messages(desk) -> None:
    """A stream that fails delivers what it sent before, then the error with the headers."""

    async def handler(call, data):
        await call.send_initial_metadata([("h", "1")])
        yield b"1"
        yield b"2"
        raise GrpcError(GrpcCode.DATA_LOSS, "broken", trailers=[("t", "2")])

    client = await desk.pair(Method(COUNT, Kind.SERVER_STREAM, handler))
    answers = client.stream(COUNT, stream_of([b""])).messages()
    assert [await anext(answers), await anext(answers)] == [b"1", b"2"]
    error = await fail(anext(answers))
    assert error.code is GrpcCode.DATA_LOSS
    assert error.initial == (("h", "1"),)
    assert error.trailers == (("t", "2"),)


async def test_an_error_after_headers(desk) -> None:
    """A unary call that fails after its headers delivers them too."""

    async def handler(call, data):
        await call.send_initial_metadata([("h", "1"), ("h-bin", b"\xff")])
        call.set_trailing_metadata([("t", "2")])
        raise GrpcError(GrpcCode.NOT_FOUND, "none", trailers=[("t", "3")])

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    error = await fail(client.unary(ECHO, b""))
    headers, trailers = (("h", "1"), ("h-bin", b"\xff")), (("t", "2"), ("t", "3"))
    assert (error.code, error.message) == (GrpcCode.NOT_FOUND, "none")
    assert (error.initial, error.trailers) == (headers, trailers)


@pytest.mark.parametrize("method", [ECHO, COUNT, JOIN, CHAT])
async def test_defects_are_reported_and_not_told(desk, method) -> None:
    """Any other exception is answered INTERNAL without a word of it, and reported with the method's name."""

    async def one(call, data):
        raise KeyError("secret")

    async def many(call, data):
        raise KeyError("secret")
        yield b""

    kind = {ECHO: Kind.UNARY, COUNT: Kind.SERVER_STREAM, JOIN: Kind.CLIENT_STREAM, CHAT: Kind.BIDI}[method]
    client = await desk.pair(Method(method, kind, one if kind in {Kind.UNARY, Kind.CLIENT_STREAM} else many))
    error = await fail(collect(client.stream(method, stream_of([b""])).messages()))
    assert (error.code, error.message) == (GrpcCode.INTERNAL, "internal error")
    ((name, defect),) = desk.defects
    assert name == method
    assert isinstance(defect, KeyError)
    desk.defects.clear()


async def test_wrong_answers_are_defects(desk) -> None:
    """A handler that answers something else than bytes is a defect, not a broken connection."""

    async def handler(call, data):
        return None

    async def stream(call, data):
        yield "text"

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), Method(COUNT, Kind.SERVER_STREAM, stream))
    assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.INTERNAL
    assert (await fail(client.unary(COUNT, b""))).code is GrpcCode.INTERNAL
    assert [type(defect) for _, defect in desk.defects] == [TypeError, TypeError]
    desk.defects.clear()


async def test_a_stray_cancellation_is_answered(desk) -> None:
    """A handler that lets the cancellation of something else escape is a defect; the client is not left waiting."""

    async def handler(call, data):
        raise asyncio.CancelledError

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    assert (await fail(client.unary(ECHO, b"", timeout=5))).code is GrpcCode.INTERNAL
    assert len(desk.defects) == 1
    desk.defects.clear()


@pytest.mark.parametrize("method", [ECHO, COUNT, JOIN, CHAT])
async def test_large_messages_within_the_limit(desk, method) -> None:
    """Messages of nearly 4 MiB pass in every kind of call."""
    data = bytes(4 * 1024 * 1024 - 64)

    async def one(call, data):
        return data if isinstance(data, bytes) else b"".join([part async for part in data])

    async def many(call, data):
        if isinstance(data, bytes):
            yield data
        else:
            async for part in data:
                yield part

    kind = {ECHO: Kind.UNARY, COUNT: Kind.SERVER_STREAM, JOIN: Kind.CLIENT_STREAM, CHAT: Kind.BIDI}[method]
    client = await desk.pair(Method(method, kind, one if kind in {Kind.UNARY, Kind.CLIENT_STREAM} else many))
    assert await collect(client.stream(method, stream_of([data])).messages()) == [data]


@pytest.mark.parametrize("method", [ECHO, COUNT, JOIN, CHAT])
async def test_a_request_too_large(desk, method) -> None:
    """A request above the limit is answered RESOURCE_EXHAUSTED, and the next call works."""
    server = await desk.serve(ALL_KINDS, options=ServerOptions(max_message_bytes=1000))
    client = desk.client(server)
    error = await fail(collect(client.stream(method, stream_of([b"1" * 1001])).messages()))
    assert error.code is GrpcCode.RESOURCE_EXHAUSTED
    assert (await client.unary(ECHO, b"1" * 1000)).data == b"1" * 1000


async def test_an_answer_too_large(desk) -> None:
    """An answer above the server's limit, or above the client's, is RESOURCE_EXHAUSTED."""

    async def handler(call, data):
        return bytes(2000)

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), options=ServerOptions(max_message_bytes=1000))
    assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.RESOURCE_EXHAUSTED
    server = await desk.serve([Method(ECHO, Kind.UNARY, handler)])
    small = desk.client(server, ClientOptions(max_message_bytes=1000))
    assert (await fail(small.unary(ECHO, b""))).code is GrpcCode.RESOURCE_EXHAUSTED


async def test_no_limit(desk) -> None:
    """A limit of 0 is none: 20 MB pass."""
    server = await desk.serve(ALL_KINDS, options=ServerOptions(max_message_bytes=0))
    client = desk.client(server, ClientOptions(max_message_bytes=0))
    data = bytes(20_000_000)
    assert (await client.unary(ECHO, data)).data == data


async def test_metadata_sizes(desk) -> None:
    """20 KiB of metadata pass in both directions; more than the limit is refused before a handler sees the call."""
    calls = []

    async def handler(call, data):
        calls.append(call)
        await call.send_initial_metadata([("big", "y" * 20 * 1024)])
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), options=ServerOptions(max_metadata_bytes=64 * 1024))
    answer = await client.unary(ECHO, b"", [("big", "x" * 20 * 1024)])
    assert len(values(answer.initial, "big")[0]) == 20 * 1024
    error = await fail(client.unary(ECHO, b"", [("big", "x" * 100 * 1024)]))
    assert error.code is GrpcCode.RESOURCE_EXHAUSTED
    assert len(calls) == 1


async def test_the_deadline_is_visible(desk) -> None:
    """A handler sees how much of the client's deadline is left, and `None` without one."""
    seen = []

    async def handler(call, data):
        seen.append(call.time_remaining())
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), Method(JOIN, Kind.UNARY, handler))
    await client.unary(ECHO, b"", timeout=30)
    await client.unary(ECHO, b"")
    assert 25 < seen[0] <= 31  # gRPC rounds it up on the wire
    assert seen[1] is None


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.SERVER_STREAM, Kind.BIDI])
async def test_the_deadline_cancels(desk, kind) -> None:
    """When the deadline passes the client gets DEADLINE_EXCEEDED and the handler is cancelled."""
    ended = asyncio.Event()

    async def one(call, data):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def many(call, data):
        await one(call, data)
        yield b""

    client = await desk.pair(Method(ECHO, kind, one if kind is Kind.UNARY else many))
    error = await fail(client.unary(ECHO, b"", timeout=0.1))
    assert error.code is GrpcCode.DEADLINE_EXCEEDED
    assert not error.unreachable
    async with asyncio.timeout(5):
        await ended.wait()


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.SERVER_STREAM, Kind.CLIENT_STREAM, Kind.BIDI])
async def test_a_client_that_gives_up_cancels(desk, kind) -> None:
    """When the client gives a call up, its handler is cancelled, whatever it waits for."""
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

    streams = kind in {Kind.SERVER_STREAM, Kind.BIDI}
    client = await desk.pair(Method(ECHO, kind, many if streams else one))
    async with asyncio.timeout(5):
        task = asyncio.create_task(client.unary(ECHO, b""))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


async def test_a_cancelled_upload_does_not_look_complete(desk) -> None:
    """A handler that reads a stream never sees the end of one that the client broke off."""
    completed = []
    broken = []

    async def handler(call, messages):
        try:
            async for message in messages:
                yield message
            completed.append(call)
        finally:
            broken.append(call)

    client = await desk.pair(Method(CHAT, Kind.BIDI, handler))
    for _ in range(50):
        call = client.stream(CHAT, open_ended(b"part"))
        async for _ in call.messages():
            break
        call.cancel()
    await until(lambda: len(broken) == 50)
    assert not completed


async def test_a_slow_reader_holds_the_handler_back(desk) -> None:
    """A server stream whose client does not read stops after a bounded number of messages."""
    sent = []

    async def handler(call, data):
        for _ in range(1000):
            yield bytes(64 * 1024)
            sent.append(1)

    client = await desk.pair(Method(COUNT, Kind.SERVER_STREAM, handler))
    call = client.stream(COUNT, stream_of([b""]))
    await call.initial_metadata()
    count = -1
    while count != len(sent):  # until it stands still
        count = len(sent)
        await asyncio.sleep(0.1)
    assert count < 500
    call.cancel()


async def test_initial_metadata_only_once(desk) -> None:
    """Sending headers twice is a defect of the handler."""

    async def handler(call, data):
        await call.send_initial_metadata([])
        await call.send_initial_metadata([])
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.INTERNAL
    assert isinstance(desk.defects[0][1], RuntimeError)
    desk.defects.clear()


async def test_the_listener_is_evidence(desk) -> None:
    """Each call carries what the engine was given for its listener, on streams too."""
    seen = []

    async def handler(call, data):
        seen.append(call.listener)
        return data

    async def unknown(call, messages):
        seen.append(call.listener)
        async for message in messages:
            yield message

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), unknown=unknown, listener={"app": "orders"})
    await client.unary(ECHO, b"")
    await client.unary(CHAT, b"")
    assert seen == [{"app": "orders"}] * 2


@pytest.mark.parametrize("method", [ECHO, CHAT])
async def test_a_burst_of_calls(desk, method) -> None:
    """Of 2,200 calls started at once over two connections none is refused, and each gets its own answer.

    gRPC's own defaults fail about half of them, once more than 1,000 wait for Python.
    """
    server = await desk.serve(ALL_KINDS)
    clients = [desk.client(server), desk.client(server)]
    calls = (clients[number % 2].unary(method, b"%d" % number) for number in range(2200))
    answers = await asyncio.gather(*calls)
    assert [answer.data for answer in answers] == [b"%d" % number for number in range(2200)]


async def test_a_stream_that_never_waits_lets_others_have_their_turn(desk) -> None:
    """A handler and an iterator of requests that yield without ever waiting do not hold up other calls."""

    async def pour(call, messages):
        async for message in messages:
            for _ in range(200):
                yield message

    async def questions():
        for _ in range(100):
            yield b"x" * 10

    server = await desk.serve([*ALL_KINDS[:3], Method(CHAT, Kind.BIDI, pour)])
    poured = asyncio.create_task(collect(desk.client(server).stream(CHAT, questions()).messages()))
    other = desk.client(server)
    assert (await other.unary(ECHO, b"x", timeout=5)).data == b"x"
    assert not poured.done()
    assert len(await poured) == 20_000
