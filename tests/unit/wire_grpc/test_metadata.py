"""What metadata may cross a hop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.metadata import answer_metadata, received_metadata, request_metadata


@pytest.mark.parametrize(
    "key",
    [
        ":authority",
        ":path",
        "te",
        "TE",
        "content-type",
        "content-length",
        "user-agent",
        "host",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-status",
        "grpc-message",
    ],
)
def test_reserved_keys(key) -> None:
    """Keys that belong to the transport are dropped in both directions, in any case."""
    assert request_metadata([(key, "x"), ("k", "v")]) == (("k", "v"),)
    assert answer_metadata([(key, "x"), ("k", "v")]) == (("k", "v"),)


def test_trace_and_details() -> None:
    """The binary trace context may go both ways, status details only in answers."""
    pairs = [("grpc-trace-bin", b"\x00"), ("grpc-tags-bin", b"\x01"), ("grpc-status-details-bin", b"\x02")]
    assert request_metadata(pairs) == tuple(pairs[:2])
    assert answer_metadata(pairs) == tuple(pairs)


def test_keys_and_values_are_made_legal() -> None:
    """Keys become lower case, values get the type that their key asks for, order and repetition stay."""
    pairs = [("B", "1"), ("a", b"2"), ("b", "3"), ("x-bin", "text")]
    assert request_metadata(pairs) == (("b", "1"), ("a", "2"), ("b", "3"), ("x-bin", b"text"))


@pytest.mark.parametrize("pair", [("k", "ü"), ("k", "a\nb"), ("k", "\x7f"), ("a b", "x"), ("ü", "x"), ("", "x")])
def test_what_cannot_be_sent(pair) -> None:
    """What gRPC cannot carry fails a request and is left out of an answer."""
    with pytest.raises(GrpcError) as caught:
        request_metadata([pair])
    assert caught.value.code is GrpcCode.INTERNAL
    assert answer_metadata([pair, ("k", "v")]) == (("k", "v"),)


def test_received() -> None:
    """What only describes the wire is not metadata."""
    pairs = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-accept-encoding", "gzip"), ("k", "v")]
    assert received_metadata(pairs) == (("k", "v"),)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8) | st.binary(max_size=8))))
def test_any_answer_is_sendable(pairs) -> None:
    """Whatever is put in, what comes out of the filter for answers is legal and passes it unchanged."""
    cleaned = answer_metadata(pairs)
    assert answer_metadata(cleaned) == cleaned
    for key, value in cleaned:
        assert key == key.lower()
        assert isinstance(value, bytes) == key.endswith("-bin")
