"""Bodies in pieces: their order, their end, their limits, and what is read ahead."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared._proto import common_pb, internals_pb
from dapr_shared.core.errors import GrpcCode
from dapr_shared.mesh.pieces import (
    PIECE_BYTES,
    PieceBody,
    request_payload,
    request_pieces,
    response_payload,
    response_pieces,
)
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.http.messages import WHOLE_BODY_LIMIT, BodyError, BodyTooLargeError


def payload(data: bytes, sequence: int) -> common_pb.StreamPayload:
    return common_pb.StreamPayload(data=data, seq=sequence)


def piece(data: bytes, sequence: int) -> bytes:
    return internals_pb.InternalInvokeRequestStream(payload=payload(data, sequence)).SerializeToString()


class Messages:
    """What the other side sends; notes how much was taken. An exception among them is raised."""

    def __init__(self, *messages) -> None:
        self.left = list(messages)
        self.hold = asyncio.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        message = self.left.pop(0)
        if message is None:
            await self.hold.wait()
            return await self.__anext__()
        if isinstance(message, Exception):
            raise message
        return message


def body(*messages, first=None, **options) -> PieceBody:
    return PieceBody(Messages(*messages), request_payload, first, **options)


async def test_pieces_are_taken_one_at_a_time():
    """The next piece is read when the last was taken, empty ones are passed over, and the end is told once."""
    ended: list[int] = []
    messages = Messages(piece(b"b", 1), piece(b"", 2), piece(b"c", 3))
    made = PieceBody(messages, request_payload, payload(b"a", 0), ended=lambda: ended.append(1))
    assert await anext(made) == b"a"
    assert len(messages.left) == 3
    assert await anext(made) == b"b"
    assert len(messages.left) == 2
    assert [one async for one in made] == [b"c"]
    assert ended == [1]
    await made.aclose()
    assert ended == [1]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ((piece(b"b", 2),), "invalid sequence number received: 2"),
        ((GrpcError(GrpcCode.UNAVAILABLE, "gone"),), "broke off"),
        ((b"\xff\xff",), "no piece of a request"),
    ],
)
async def test_bodies_that_break(messages, problem):
    """A body whose pieces are not in order, or that breaks off, does not look complete, however often it is read."""
    made = body(*messages, first=payload(b"a", 0))
    assert await anext(made) == b"a"
    for _ in range(2):
        with pytest.raises(BodyError, match=problem):
            await anext(made)


def test_heads_are_leading():
    """Only the first message has a head; daprd's empty one of event streams is none."""
    later = internals_pb.InternalInvokeRequestStream(payload=payload(b"a", 0))
    later.request.message.method = "m"
    with pytest.raises(BodyError, match="non-leading"):
        request_payload(later.SerializeToString())
    answer = internals_pb.InternalInvokeResponseStream(payload=payload(b"a", 0))
    answer.response.SetInParent()
    found = response_payload(answer.SerializeToString())
    assert found is not None
    assert found.data == b"a"
    answer.response.status.code = 200
    with pytest.raises(BodyError, match="non-leading"):
        response_payload(answer.SerializeToString())


async def test_limits():
    """A body over the limit fails when it gets there; one with a length must have it."""
    with pytest.raises(BodyTooLargeError):
        await body(piece(b"abc", 1), first=payload(b"ab", 0), limit=4).read(10)
    with pytest.raises(BodyTooLargeError):
        await body(first=payload(b"ab", 0)).read(1)
    with pytest.raises(BodyError, match="2 of 3 bytes"):
        await body(first=payload(b"ab", 0), content_length=3).read(10)
    assert await body(first=payload(b"ab", 0), content_length=2).read(10) == b"ab"


@pytest.mark.parametrize(("length", "whole"), [(3, False), (99, False), (None, True)])
async def test_short_bodies_go_on_whole(length, whole):
    """A body that is short, as announced or by its sender's nature, is read to its end; the announcement is a hint."""
    settled = await body(piece(b"bc", 1), first=payload(b"a", 0)).settled(length, whole=whole)
    assert settled == b"abc"


@pytest.mark.parametrize(("length", "whole"), [(WHOLE_BODY_LIMIT + 1, False), (3, False), (None, True)])
async def test_long_bodies_stream(length, whole):
    """A body that turns out long is not held; what was read ahead comes first."""
    rest = [piece(bytes(PIECE_BYTES), number) for number in range(1, 4)]
    made = body(*rest, first=payload(b"a", 0))
    settled = await made.settled(length, whole=whole)
    assert settled is made
    assert len(await made.read(1_000_000)) == 1 + 3 * PIECE_BYTES


async def test_no_body_of_an_unknown_length():
    """A request that announces no length and sends nothing has no body; the wait for one is short."""
    assert await body().settled(None, whole=False) == b""
    messages = Messages(None, piece(b"late", 0))
    made = PieceBody(messages, request_payload, None)
    assert await made.settled(None, whole=False) is made
    messages.hold.set()
    assert await made.read(10) == b"late"
    silent = PieceBody(Messages(None), request_payload, None)
    assert await silent.settled(None, whole=False) is silent
    await silent.aclose()
    with pytest.raises(BodyError, match="closed"):
        await anext(silent)


async def test_an_exact_length_needs_no_end():
    """Where the length is no hint, a body that is there goes on without a wait for the end of the stream."""
    assert await body(None, first=payload(b"abc", 0)).settled(3, whole=False, exact=True) == b"abc"
    assert await body(None).settled(0, whole=False, exact=True) == b""
    assert await body(piece(b"c", 1), first=payload(b"ab", 0)).settled(3, whole=False, exact=True) == b"abc"


async def test_a_stream_is_not_waited_for():
    """A body in chunks whose first piece is there goes on at once."""
    made = PieceBody(Messages(None), request_payload, payload(b"a", 0))
    assert await made.settled(None, whole=False) is made
    await made.aclose()


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_what_is_sent_is_received(length):
    """A whole body is cut into pieces that make it again."""
    data = bytes(index % 251 for index in range(length))
    request = internals_pb.InternalInvokeRequest(message=common_pb.InvokeRequest(method="m"))
    sent = [one async for one in request_pieces(request, data)]
    leading = internals_pb.InternalInvokeRequestStream.FromString(sent[0])
    assert leading.request.message.method == "m"
    first = leading.payload if leading.HasField("payload") else None
    assert await body(*sent[1:], first=first).read(1_000_000) == data
    assert all(len(one) <= PIECE_BYTES + 100 for one in sent)


async def test_a_streamed_body_is_sent_as_it_comes():
    """The head goes out before the body is there; long parts are cut."""
    gate = asyncio.Event()

    async def parts():
        await gate.wait()
        yield b"a" * (PIECE_BYTES + 1)
        yield b"b"

    response = internals_pb.InternalInvokeResponse(status=internals_pb.Status(code=200))
    sent = response_pieces(response, parts())
    assert internals_pb.InternalInvokeResponseStream.FromString(await anext(sent)).response.status.code == 200
    gate.set()
    rest = [internals_pb.InternalInvokeResponseStream.FromString(one).payload async for one in sent]
    assert [(len(one.data), one.seq) for one in rest] == [(PIECE_BYTES, 0), (1, 1), (1, 2)]
