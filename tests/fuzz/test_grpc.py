"""The gRPC front door, fed with bytes and with valid messages of no sense: in process, and behind a real server.

Whatever is sent: an answer or a status, no defect, nothing of another app. Every run tries the same examples;
`FUZZ_SECONDS=60` tries fresh random ones, for that long in each test. An example that fails belongs into
`corpus/grpc/`, as a JSON file with the method's name, the request in hex, and the metadata.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import GrpcClient
from dapr_shared.wire.grpc.engines import ENGINES
from dapr_shared.wire.grpc.interface import GrpcError, Kind, Metadata
from tests.support.fuzz_grpc import IMPLEMENTED, METHODS, call_of, messages, metadata, requests, tokens, with_token
from tests.support.fuzz_instance import CORPUS, PATIENCE, explore
from tests.support.inprocess import ORDERS

SEEDS = sorted((CORPUS / "grpc").glob("*.json"))


def _seen(pairs: Metadata) -> bytes:
    return b" ".join(value if isinstance(value, bytes) else value.encode() for _, value in pairs)


async def _once(data: bytes) -> Any:
    yield data


async def _in_process(target, name: str, data: bytes, given: list) -> GrpcCode:
    """Call as an engine does; judge all that comes out."""
    path = METHODS[name].path
    row = next(row for row in target.instance.parts.grpc.table() if row.name == path)
    call = call_of(path, given)
    handler: Any = row.handler
    answer, code = b"", GrpcCode.OK
    try:
        if row.kind is Kind.UNARY:
            answer = await handler(call, data)
        else:
            answer = b"".join([message async for message in handler(call, _once(data))])
    except GrpcError as error:
        code = error.code
        answer = error.message.encode() + _seen(error.trailers)
    target.judge(answer, _seen(call.initial), _seen(call.trailers))
    if name in IMPLEMENTED and code is GrpcCode.OK:
        METHODS[name].response_class.FromString(answer)
    await target.still_serves()
    return code


def _survives(arena, name: str, data: bytes, given: list) -> GrpcCode:
    return arena.bounded(_in_process(arena.target, name, data, given))


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.stem for seed in SEEDS])
def test_seeds(arena, seed) -> None:
    """Every call that was interesting once is answered or refused, in process and over each engine."""
    saved = json.loads(seed.read_text())
    given = [(key, bytes.fromhex(value) if key.endswith("-bin") else value) for key, value in saved["metadata"]]
    data = bytes.fromhex(saved["hex"])
    _survives(arena, saved["method"], data, given)
    for engine in ENGINES:
        arena.bounded(_over_the_wire(arena.target, engine, METHODS[saved["method"]].path, data, given))


def test_there_are_seeds() -> None:
    """The corpus is found."""
    assert len(SEEDS) >= 10


@pytest.mark.parametrize("name", IMPLEMENTED)
def test_valid_messages(arena, name) -> None:
    """A message of the right type, whatever its fields say, is answered or refused and harms nobody."""
    calls = st.tuples(messages(METHODS[name].request_class.DESCRIPTOR), tokens, metadata)

    def check(call: tuple) -> None:
        message, token, more = call
        _survives(arena, name, message.SerializeToString(), with_token(token, more))

    explore(calls, check, examples=120)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_random_bytes(arena, name) -> None:
    """Bytes that are no message are refused as such by methods that exist; all others say that they do not."""

    def check(data: bytes) -> None:
        code = _survives(arena, name, data, with_token(ORDERS, []))
        if name not in IMPLEMENTED:
            assert code is GrpcCode.UNIMPLEMENTED
        else:
            try:
                METHODS[name].request_class.FromString(data)
            except DecodeError:
                assert code is GrpcCode.INVALID_ARGUMENT

    explore(st.binary(max_size=60), check, examples=25 if name in IMPLEMENTED else 2)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_without_a_token(arena, name) -> None:
    """Who proves no app learns nothing but that, from any method and with any metadata."""

    def check(more: list) -> None:
        given = [(key, value) for key, value in more if key not in ("dapr-api-token", "baggage")]
        assert _survives(arena, name, b"", given) is GrpcCode.UNAUTHENTICATED

    explore(metadata, check, examples=4)


async def _over_the_wire(target, engine: str, path: str, data: bytes, given: list) -> None:
    client = GrpcClient(target.grpc_addresses[engine])
    refused: GrpcError | None = None
    try:
        answer = await client.unary(path, data, given, timeout=PATIENCE)
        target.judge(answer.data, _seen(answer.initial), _seen(answer.trailers))
    except GrpcError as error:
        refused = error
    finally:
        await client.aclose()
    if refused is not None:
        assert not refused.unreachable, "the server was gone"
        assert refused.code is not GrpcCode.DEADLINE_EXCEEDED, "the server was silent"
        target.judge(refused.message.encode(), _seen(refused.trailers), _seen(refused.initial))
    await target.still_serves()


@pytest.mark.parametrize("engine", ENGINES)
def test_over_a_real_server(arena, engine) -> None:
    """The same through each engine, with unknown methods too: what no handler catches has nowhere to hide."""
    paths = st.sampled_from(
        ["/a.B/C", "/dapr.proto.runtime.v1.AppCallback/OnInvoke", "/dapr.proto.runtime.v1.Dapr/No", "/"]
    )
    calls = st.tuples(requests(), st.one_of(st.none(), st.none(), paths))

    def check(call: tuple) -> None:
        (name, data, given), path = call
        arena.bounded(_over_the_wire(arena.target, engine, path or METHODS[name].path, data, given))

    explore(calls, check, examples=300)
