"""The server, request by request: framing of answers, persistence, bodies, limits and time limits."""
# ruff: noqa: SIM117 - what runs inside what is clearer nested

from __future__ import annotations

import asyncio
import re
from email.utils import parsedate_to_datetime

import pytest

from dapr_shared.wire.http.messages import BodyError, BodyTooLargeError, Response
from dapr_shared.wire.http.server import ServerLimits
from tests.support.http_peers import connected, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD_GET = b"GET / HTTP/1.0\r\n\r\n"


def post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    fields = (b"Host: a", b"Content-Length: %d" % (len(body) if length is None else length), *headers)
    return b"\r\n".join((b"POST / HTTP/1.1", *fields, b"", body))


def chunked(*pieces: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def answering(*responses: Response):
    left = list(responses)

    async def handler(_):
        return left.pop(0) if len(left) > 1 else left[0]

    return handler


# Requests ------------------------------------------------------------------------------------------------------------


async def test_the_request_as_the_handler_sees_it(running, recorder):
    """Method, raw target, lower-case names, values without surrounding white space, version, peer and listener."""
    raw = (
        b"PATCH /v1.0/a%2Fb//c?x=1&x=2 HTTP/1.1\r\nHOST: a:1\r\nX-Y: \t v w \t\r\nX-Y: 2\r\nContent-Length: 2\r\n\r\nhi"
    )
    async with running(recorder, listener="evidence") as server, connected(server.address) as peer:
        await peer.ask(raw)
    request = recorder.requests[0]
    assert (request.method, request.target, request.body) == ("PATCH", b"/v1.0/a%2Fb//c?x=1&x=2", b"hi")
    assert request.headers == [(b"host", b"a:1"), (b"x-y", b"v w"), (b"x-y", b"2"), (b"content-length", b"2")]
    assert (request.version, request.peer, request.listener) == ("1.1", "127.0.0.1", "evidence")


async def test_a_request_may_come_byte_by_byte(running, recorder):
    """Where the network cuts a request makes no difference."""
    async with running(recorder) as server, connected(server.address) as peer:
        for byte in post(b"hello") + chunked(b"wor", b"ld"):
            peer.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert [(await peer.answer()).body, (await peer.answer()).body] == [b"hello", b"world"]


async def test_requests_sent_at_once_are_answered_in_order(running):
    """Pipelined requests are answered in their order, each after the one before it."""
    order = []

    async def handler(request):
        order.append(b"+" + request.target)
        await asyncio.sleep(0.02 if request.target == b"/0" else 0)
        order.append(b"-" + request.target)
        return Response(200, [], request.target)

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(20)))
        answers = [await peer.answer() for _ in range(20)]
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(20)]
    assert order == [sign + b"/%d" % number for number in range(20) for sign in (b"+", b"-")]


async def test_many_pipelined_requests_are_held_back(running):
    """Behind a slow request only a bounded number of bytes is read; in the end every request is answered."""
    release = asyncio.Event()

    async def handler(request):
        await release.wait()
        return Response(200, [])

    count = 20_000
    async with running(handler) as server, connected(server.address) as peer:
        peer.send(GET * count)
        await until(lambda: server.connections)
        connection = next(iter(server._state.connections))
        await until(lambda: connection._reading_paused)
        assert len(connection._buffer) < 16 * 4096 + 300 * 1024
        release.set()
        for _ in range(count):
            await peer.answer()


async def test_small_bodies_arrive_whole_and_large_or_chunked_ones_as_streams(running):
    """A body announced to be at most 64 KiB arrives as bytes, any other as a stream with its announced length."""
    kinds = []

    async def handler(request):
        body = request.body
        kinds.append(type(body) is bytes or body.content_length)
        size = len(body) if isinstance(body, bytes) else len(await body.read(10**6))
        return Response(200, [], b"%d" % size)

    async with running(handler) as server, connected(server.address) as peer:
        sizes = [
            (await peer.ask(raw)).body for raw in (post(b""), post(b"x" * 65536), post(b"x" * 65537), chunked(b"x"))
        ]
    assert kinds == [True, True, 65537, None]
    assert sizes == [b"0", b"65536", b"65537", b"1"]


# Answers -------------------------------------------------------------------------------------------------------------


async def test_an_answer_has_date_and_length(running):
    """The server adds the date and the length; what the handler says of framing is not believed."""
    headers = [
        (b"content-length", b"99"), (b"Transfer-Encoding", b"chunked"), (b"connection", b"close"), (b"keep-alive", b"x"),
        (b"upgrade", b"h2c"), (b"te", b"x"), (b"Trailer", b"x"), (b"proxy-connection", b"x"), (b"x", b"y"),
    ]  # fmt: skip
    async with running(answering(Response(201, headers, b"hi"))) as server, connected(server.address) as peer:
        first = await peer.ask(GET)
        second = await peer.ask(GET)
    assert first.status == 201
    assert parsedate_to_datetime(first.headers.pop("date"))
    assert first.headers == {"x": "y", "content-length": "2"}
    assert second.body == b"hi"


async def test_a_given_date_is_kept(running):
    """A date from the handler, for instance from an app, is not replaced and not doubled."""
    async with running(answering(Response(200, [(b"Date", b"then")]))) as server, connected(server.address) as peer:
        assert (await peer.ask(GET)).headers["Date"] == "then"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status, running):
    """204 and 304 have neither body nor length, whatever the handler gives."""

    async def pieces():
        yield b"never"

    responses = (
        Response(status, [(b"content-length", b"5")], b"never"),
        Response(status, [], pieces()),
        Response(200, []),
    )
    async with running(answering(*responses)) as server, connected(server.address) as peer:
        for _ in range(2):
            answer = await peer.ask(GET)
            assert (answer.status, answer.body) == (status, b"")
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        assert (await peer.ask(GET)).status == 200


async def test_head_has_the_headers_and_no_body(running):
    """An answer to HEAD announces the length of the body, or the given one, and never sends one."""

    async def pieces():
        yield b"never"

    responses = (
        Response(200, [], b"12345"),
        Response(200, [(b"content-length", b"77")], b""),
        Response(200, [], b""),
        Response(200, [], pieces()),
        Response(200, [(b"content-length", b"5")], pieces()),
        Response(200, [], b"end"),
    )
    head = GET.replace(b"GET", b"HEAD")
    async with running(answering(*responses)) as server, connected(server.address) as peer:
        lengths = [(await peer.ask(head, head=True)).headers.get("content-length") for _ in range(5)]
        assert (await peer.ask(GET)).body == b"end"
    assert lengths == ["5", "77", None, None, "5"]


@pytest.mark.parametrize(
    "response",
    [
        Response(200, [(b"x", b"a\r\nset-cookie: b")]),
        Response(200, [(b"x", b"a\nb")]),
        Response(200, [(b"x", b"a\rb")]),
        Response(200, [(b"x", b"a\0b")]),
        Response(200, [(b"x\r\ny", b"a")]),
        Response(200, [(b"x y", b"a")]),
        Response(200, [(b"x:", b"a")]),
        Response(200, [(b"", b"a")]),
        Response(200, [("x", "a")]),
        Response(200, [(b"x", "ä")]),
        Response(200, [(b"content-length", b"1\r\nx: y")], None),
        Response(99, []),
        Response(101, []),
        Response(1000, []),
        Response(200, [], "text"),
        None,
    ],
)
async def test_an_answer_that_cannot_be_written_is_a_defect(response, running):
    """Nothing of an impossible answer reaches the wire: a bare 500 does, and the defect is reported."""
    async with running(answering(response), defects=1) as server, connected(server.address) as peer:
        peer.send(GET)
        raw = await peer.rest()
    # A body that is no body is seen only when the head has been written; then the connection is broken off.
    assert raw.startswith(b"HTTP/1.1 500 ") or (response.body == "text" and b"\r\n0\r\n" not in raw)
    assert b"set-cookie" not in raw


async def test_a_failing_handler_is_answered_500(running):
    """An exception that escapes a handler becomes a bare 500 and a reported defect; the text stays inside."""

    async def handler(_):
        raise RuntimeError("secret")

    async with running(handler, defects=1) as server, connected(server.address) as peer:
        peer.send(GET + GET)
        answers = await peer.answers()
    assert [(answer.status, answer.body) for answer in answers] == [(500, b"")]


async def test_a_handler_that_cancels_itself_is_answered_500(running):
    """A stray CancelledError is a defect like any other, not a request without an answer."""

    async def handler(_):
        raise asyncio.CancelledError

    async with running(handler, defects=1) as server, connected(server.address) as peer:
        assert (await peer.ask(GET)).status == 500


async def test_without_on_defect_the_loop_is_told(recorder):
    """Defects are never silent: without a listener they go to the loop's exception handler."""
    from dapr_shared.wire.http.server import serve

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    server = await serve("127.0.0.1:0", answering(None))
    async with connected(server.address) as peer:
        assert (await peer.ask(GET)).status == 500
    server.close()
    await until(lambda: not server.connections)
    assert [type(error) for error in told] == [AttributeError]


# Persistence ---------------------------------------------------------------------------------------------------------


async def test_http_1_1_is_kept_until_close_is_asked_for(running, recorder):
    """HTTP/1.1 connections are kept; `connection: close` is honoured and said."""
    async with running(recorder) as server, connected(server.address) as peer:
        assert "connection" not in (await peer.ask(GET)).headers
        answer = await peer.ask(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert answer.headers["connection"] == "close"
        assert await peer.closed()


async def test_http_1_0_is_closed_unless_asked_to_be_kept(running, recorder):
    """HTTP/1.0 connections are closed, unless kept by request, which the answer confirms."""
    async with running(recorder) as server:
        async with connected(server.address) as peer:
            answer = await peer.ask(OLD_GET.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n"))
            assert answer.headers["connection"] == "keep-alive"
            assert (await peer.ask(OLD_GET)).headers["connection"] == "close"
            assert await peer.closed()


async def test_http_1_0_streams_end_with_the_connection(running):
    """A streamed answer of unknown length to HTTP/1.0 is delimited by the end of the connection."""

    async def pieces():
        yield b"a"
        yield b"b"

    async with running(answering(Response(200, [], pieces()))) as server, connected(server.address) as peer:
        answer = await peer.ask(OLD_GET.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n"))
    assert answer.body == b"ab"
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"


async def test_an_unread_body_ends_the_connection(running):
    """A handler that answers without reading a streamed body is heard; then the connection closes."""
    async with running(answering(Response(401, [], b"no"))) as server, connected(server.address) as peer:
        peer.send(post(b"x" * 10_000, length=100_000))
        answers = await peer.answers()
    assert [(answer.status, answer.headers["connection"]) for answer in answers] == [(401, "close")]


async def test_an_unread_body_that_has_come_is_harmless(running):
    """A streamed body that was all there before the answer does not cost the connection."""

    async def handler(request):
        if not isinstance(request.body, bytes):
            await until(lambda: request.body.ended)
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"x" * 100_000))).status == 200
        assert (await peer.ask(GET)).status == 200


# Bodies and their limit ----------------------------------------------------------------------------------------------

SMALL = ServerLimits(body_bytes=1000)


async def reading(request):
    try:
        body = request.body if isinstance(request.body, bytes) else await request.body.read(10**9)
    except BodyTooLargeError:
        return Response(400, [], b"too large")
    return Response(200, [], b"%d" % len(body))


@pytest.mark.parametrize(
    "raw",
    [
        post(b"x" * 1001),
        post(b"x" * 200_000),
        post(b"", length=10**12),
        chunked(b"x" * 900, b"x" * 101),
        chunked(b"x" * 9999),
    ],
)
async def test_a_body_over_the_limit_is_the_handlers_to_answer(raw, running):
    """The handler's read fails, its answer arrives although the rest is still being sent, and the connection ends."""
    async with running(reading, limits=SMALL) as server, connected(server.address) as peer:
        peer.send(raw + GET)
        answers = await peer.answers()
    assert [(answer.status, answer.body, answer.headers["connection"]) for answer in answers] == [
        (400, b"too large", "close")
    ]


async def test_a_chunk_over_the_limit_is_refused_before_it_comes(running):
    """A chunk that is announced to be too long is refused at its size line."""
    async with running(reading, limits=SMALL) as server, connected(server.address) as peer:
        answer = await peer.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFF\r\n")
    assert answer.body == b"too large"


@pytest.mark.parametrize("raw", [post(b"x" * 1000), chunked(b"x" * 900, b"x" * 100)])
async def test_a_body_at_the_limit_is_taken(raw, running):
    """The limit itself is allowed."""
    async with running(reading, limits=SMALL) as server, connected(server.address) as peer:
        assert (await peer.ask(raw)).body == b"1000"


async def test_no_limit(running):
    """0 means no limit."""
    async with running(reading, limits=ServerLimits(body_bytes=0)) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"x" * 6_000_000))).body == b"6000000"


async def test_read_has_its_own_limit(running):
    """`read(limit)` refuses a longer body without holding it."""

    async def handler(request):
        with pytest.raises(BodyTooLargeError):
            await request.body.read(1000)
        return Response(200, [])

    async with running(handler) as server:
        for raw in (post(b"x" * 100_000), chunked(b"x" * 999, b"xx")):
            async with connected(server.address) as peer:
                assert (await peer.ask(raw)).status == 200


async def test_a_large_refused_upload_can_still_read_its_answer(running):
    """A sender of megabytes that are refused reads the answer instead of a reset connection."""
    async with running(reading, limits=SMALL) as server, connected(server.address) as peer:
        peer.send(post(b"x" * 20_000_000))
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [400]


# 100-continue --------------------------------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue"


async def test_continue_is_sent_when_the_body_is_wanted(running):
    """For a streamed body 100 comes exactly when the handler reads, once."""
    read = asyncio.Event()

    async def handler(request):
        await read.wait()
        return Response(200, [], b"%d" % len(await request.body.read(10**6)))

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(post(b"", EXPECT, length=100_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await peer.reader.read(1)
        read.set()
        assert (await peer.answer()).status == 100
        assert (await peer.ask(b"x" * 100_000)).body == b"100000"


async def test_continue_for_a_small_body(running, recorder):
    """For a body that the wire collects, 100 comes at once, unless the body is there already."""
    async with running(recorder) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"", EXPECT, length=5))).status == 100
        assert (await peer.ask(b"hello")).body == b"hello"
        assert (await peer.ask(post(b"hello", EXPECT))).status == 200


async def test_no_continue_without_a_reader(running):
    """A handler that answers without reading is heard at once, without 100; then the connection closes."""
    async with running(answering(Response(403, []))) as server, connected(server.address) as peer:
        peer.send(post(b"", EXPECT, length=100_000))
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [403]


async def test_no_continue_for_too_large_a_body(running):
    """A body that is announced too large is refused before it is sent."""
    async with running(reading, limits=SMALL) as server, connected(server.address) as peer:
        peer.send(post(b"", EXPECT, length=100_000))
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [400]


async def test_http_1_0_is_never_told_to_continue(running, recorder):
    """HTTP/1.0 does not know 100."""
    async with running(recorder) as server, connected(server.address) as peer:
        peer.send(post(b"", EXPECT, length=5).replace(b"HTTP/1.1", b"HTTP/1.0"))
        await asyncio.sleep(0.02)
        assert (await peer.ask(b"hello")).status == 200


# Limits of heads, and time limits ------------------------------------------------------------------------------------


async def test_the_head_limit_is_exact(running, recorder):
    """A head of the limit is taken; one byte more is 431, whether its end has come or not."""
    async with running(recorder, limits=ServerLimits(header_bytes=200)) as server:
        for size, status, end in ((200, 200, b"\r\n\r\n"), (201, 431, b"\r\n\r\n"), (201, 431, b"")):
            raw = GET[:-4] + b"\r\nX: "
            raw += b"x" * (size - len(raw) - len(end)) + end
            async with connected(server.address) as peer:
                assert (await peer.ask(raw)).status == status


TIGHT = ServerLimits(header_timeout=0.1, body_timeout=0.1, write_timeout=0.2, idle_timeout=0.1)


async def test_a_slow_head_is_answered_408(running, recorder):
    """A head that does not become complete in time is answered 408, however steadily it drips."""
    async with running(recorder, limits=TIGHT) as server, connected(server.address) as peer:

        async def drip():
            for byte in GET[:-2] + b"X: " + b"y" * 1000:
                peer.send(bytes((byte,)))
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        answers = await peer.answers()
        dripping.cancel()
    assert [answer.status for answer in answers] == [408]


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_silent_connection_is_closed_silently(before, running, recorder):
    """A connection that sends nothing, at first or after an answer, is closed without an answer nobody asked for."""
    async with running(recorder, limits=TIGHT) as server, connected(server.address) as peer:
        if before:
            await peer.ask(before)
        assert await peer.closed()


async def test_a_slow_small_body_is_answered_408(running, recorder):
    """A small body that stops coming is answered 408; the handler never hears of it."""
    async with running(recorder, limits=TIGHT) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"hel", length=5))).status == 408
    assert recorder.seen == []


async def test_a_slow_streamed_body_fails_its_reader(running):
    """A streamed body that stops coming raises BodyError in its reader, whose answer still arrives."""

    async def handler(request):
        with pytest.raises(BodyError, match="in time"):
            await request.body.read(10**6)
        return Response(400, [], b"slow")

    async with running(handler, limits=TIGHT) as server, connected(server.address) as peer:
        peer.send(post(b"x" * 10, length=100_000))
        answers = await peer.answers()
    assert [answer.body for answer in answers] == [b"slow"]


async def test_a_slow_handler_is_not_timed_out(running):
    """Only the peer has time limits: a handler may take as long as it likes, also with an unread body."""

    async def handler(request):
        await asyncio.sleep(0.3)
        return Response(200, [], b"%d" % len(await request.body.read(10**6)))

    async with running(handler, limits=TIGHT) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"x" * 100_000))).body == b"100000"


async def test_a_peer_that_does_not_read_is_cut_off(running):
    """A peer that stops reading its answer is disconnected, and the handler's body is closed."""
    closed = asyncio.Event()

    async def pieces():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    async with running(answering(Response(200, [], pieces())), limits=TIGHT) as server:
        async with connected(server.address, receive_buffer=4096) as peer:
            peer.send(GET)
            await asyncio.wait_for(closed.wait(), 30)
            await until(lambda: not server.connections)


async def test_a_connection_too_many_is_answered_503(running, recorder):
    """Beyond the limit of connections the answer is 503 and the end; as soon as one ends, the next is served."""
    async with running(recorder, limits=ServerLimits(connections=1)) as server:
        async with connected(server.address) as first:
            await first.ask(GET)
            async with connected(server.address) as second:
                second.send(GET)
                assert [answer.status for answer in await second.answers()] == [503]
        await until(lambda: not server.connections)
        async with connected(server.address) as third:
            assert (await third.ask(GET)).status == 200


# Disconnects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "half-close"])
async def test_a_disconnect_cancels_the_handler(how, running):
    """When the peer goes, the handler is cancelled."""
    events = []

    async def handler(request):
        events.append("called")
        try:
            await asyncio.sleep(60)
        finally:
            events.append("ended")
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(GET)
        await until(lambda: events)
        peer.abort() if how == "reset" else peer.writer.write_eof()
        await until(lambda: len(events) == 2)
        await until(lambda: not server.connections)


async def test_a_disconnect_midway_through_a_body_fails_its_reader(running):
    """A body that breaks off is never taken for a whole one."""
    errors, begun = [], asyncio.Event()

    async def handler(request):
        begun.set()
        try:
            await request.body.read(10**6)
        except (BodyError, asyncio.CancelledError) as error:
            errors.append(error)
            raise
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(post(b"x" * 100, length=100_000))
        await asyncio.wait_for(begun.wait(), 5)
        peer.writer.write_eof()
        await until(lambda: errors)


async def test_a_body_kept_past_its_request_breaks_off(running):
    """A body that somebody reads after the answer raises instead of ending early as if it were whole."""
    kept = []

    async def handler(request):
        kept.append(request.body)
        await until(lambda: request.body.ended)
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"x" * 100_000))).status == 200
        with pytest.raises(BodyError):
            await kept[0].read(10**6)


async def test_a_body_closed_by_its_reader(running):
    """After `aclose` reading raises, the answer still goes out, and the connection ends with it."""

    async def handler(request):
        await request.body.aclose()
        await request.body.aclose()
        with pytest.raises(BodyError):
            await request.body.read(10)
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(post(b"x", length=100_000))
        answers = await peer.answers()
    assert [answer.headers["connection"] for answer in answers] == ["close"]


async def test_a_body_has_one_reader(running):
    """Two readers at once are a mistake that is told."""

    async def handler(request):
        first = asyncio.create_task(request.body.read(10**6))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await request.body.read(10**6)
        first.cancel()
        return Response(200, [])

    async with running(handler) as server, connected(server.address) as peer:
        assert (await peer.ask(post(b"x", length=100_000))).status == 200


async def test_the_date_is_of_now(running, recorder):
    """The date in answers has the form of RFC 9110 and is at most a second or two old."""
    from datetime import UTC, datetime

    async with running(recorder) as server, connected(server.address) as peer:
        date = (await peer.ask(GET)).headers["date"]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()) < 3
