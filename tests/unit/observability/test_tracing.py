"""Trace contexts are read strictly, passed on unchanged when not sampled, and decided on once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.observability.tracing import (
    DEFAULT_SAMPLING_RATE,
    TraceContext,
    Tracing,
    baggage_problem,
    parse_grpc_trace_bin,
    parse_sampling_rate,
    parse_tracestate,
)

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
PARENT = b"00-" + TRACE + b"-" + SPAN + b"-00"
SAMPLED = b"00-" + TRACE + b"-" + SPAN + b"-01"


def tracing(rate: float = DEFAULT_SAMPLING_RATE, *, trace: int = (1 << 128) - 1, span: int = 0xABC) -> Tracing:
    """With ids that are known beforehand."""
    ids = trace.to_bytes(16, "big") + span.to_bytes(8, "big")
    return Tracing(rate, random_bytes=lambda count: ids[-count:])


def read(traceparent: bytes | None, tracestate: bytes | None = None) -> TraceContext:
    context = tracing().from_http(traceparent, tracestate)
    assert context is not None
    return context


@pytest.mark.parametrize(
    ("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"03", True), (b"ff", True)]
)
def test_a_parent_is_passed_on_and_decides(flags: bytes, *, sampled: bool) -> None:
    """A valid traceparent goes on byte for byte, and its sampled bit is the decision."""
    header = b"00-" + TRACE + b"-" + SPAN + b"-" + flags
    context = read(header, b"a=1")
    assert context.traceparent == header
    assert context.tracestate == b"a=1"
    assert context.sampled is sampled
    assert context.trace_id == TRACE.decode()
    assert context.span_id == SPAN.decode()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        PARENT + b"-",
        PARENT + b"-extra",
        PARENT[:-1],
        b" " + PARENT,
        PARENT + b"\n",
        b"00-" + TRACE.upper() + b"-" + SPAN + b"-00",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-00",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-00",
        b"ff-" + TRACE + b"-" + SPAN + b"-00",
        b"0x-" + TRACE + b"-" + SPAN + b"-00",
        b"01-" + TRACE + b"-" + SPAN + b"-00x",
        PARENT.replace(b"-", b"_"),
        b"00-" + b"g" * 32 + b"-" + SPAN + b"-00",
    ],
)
def test_an_invalid_parent_begins_a_new_trace(header: bytes) -> None:
    """What W3C calls invalid is ignored together with its tracestate."""
    context = read(header, b"a=1")
    assert context.traceparent == b"00-" + b"f" * 32 + b"-0000000000000abc-00"
    assert context.tracestate == b""


@pytest.mark.parametrize("extra", [b"", b"-", b"-what-comes\n"])
def test_later_versions_are_read_as_version_00(extra: bytes) -> None:
    """Of a later version the ids and the sampled flag go on, as version 00."""
    context = read(b"cc-" + TRACE + b"-" + SPAN + b"-0b" + extra)
    assert context.traceparent == SAMPLED
    assert context.sampled


def test_a_new_trace_is_made_when_none_came() -> None:
    """Without a parent a trace begins here, with ids that no other has."""
    assert read(None).traceparent == b"00-" + b"f" * 32 + b"-0000000000000abc-00"
    many = {Tracing().new_trace().traceparent for _ in range(100)}
    assert len(many) == 100


def test_the_rate_decides_on_new_traces_by_their_id() -> None:
    """The low 63 bits of a trace id under the rate's share mean sampled, whatever the other bits are."""
    high = 1 << 127 | 1 << 63
    just_under = int(0.25 * 2**63) - 1
    assert tracing(0.25, trace=high | just_under).new_trace().sampled
    assert not tracing(0.25, trace=high | (just_under + 1)).new_trace().sampled
    assert tracing(1, trace=(1 << 128) - 1).new_trace().sampled


def test_a_rate_of_zero_turns_tracing_off() -> None:
    """With the rate 0 there is no context at all, also for a sampled parent."""
    off = Tracing(0)
    assert not off.enabled
    assert off.from_http(SAMPLED) is None
    assert off.from_http(None) is None
    assert off.from_grpc(None, SAMPLED) is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1", 1.0),
        ("0", 0.0),
        ("0.5", 0.5),
        (" 1e-3 ", 0.001),
        (".25", 0.25),
        ("", 1e-4),
        ("often", 1e-4),
        ("nan", 1e-4),
        ("1_0", 1e-4),
        ("1e999", 1e-4),
        ("7", 1.0),
        ("-1", 0.0),
    ],
)
def test_sampling_rates(text: str, rate: float) -> None:
    """A rate is a number from 0 to 1; what is none means Dapr's default."""
    assert parse_sampling_rate(text) == rate


def test_a_child_has_the_same_trace_and_a_new_span() -> None:
    """A sampled request's own calls carry its trace id, flags and state under a new span id."""
    child = tracing().child(read(SAMPLED, b"a=1"))
    assert child.traceparent == b"00-" + TRACE + b"-0000000000000abc-01"
    assert child.tracestate == b"a=1"
    assert child.sampled


def test_tracestate_goes_on_without_blanks_and_empty_members() -> None:
    """Optional blanks and empty members are all that is changed of a valid tracestate."""
    assert parse_tracestate(b"rojo=00f067aa0ba902b7, congo@t6 , ,") == b""
    assert parse_tracestate(b"rojo=1 , 1a-_*/@v=x y;z,,") == b"rojo=1,1a-_*/@v=x y;z"


@pytest.mark.parametrize(
    "state", [b"a", b"A=1", b"a=", b"a=1,a=2", b"a=\x00", b"a=x=y", b"1a=1", b"a@1b=1", b"k=" + b"v" * 257]
)
def test_malformed_tracestate_is_dropped_without_harm(state: bytes) -> None:
    """A malformed tracestate is dropped whole; the trace goes on."""
    assert parse_tracestate(state) == b""
    assert read(PARENT, state).traceparent == PARENT


def test_tracestate_has_limits() -> None:
    """At most 32 members, else none; at most 512 characters, the members behind them fall away."""
    members = [b"k%d=v" % number for number in range(33)]
    assert parse_tracestate(b",".join(members[:32])) == b",".join(members[:32])
    assert parse_tracestate(b",".join(members)) == b""
    long = [b"k%d=" % number + b"v" * 100 for number in range(9)]
    assert parse_tracestate(b",".join(long)) == b",".join(long[:4])
    assert parse_tracestate(b"k=" + b"v" * 100_000) == b""


def test_grpc_trace_bin_stands_for_a_traceparent() -> None:
    """The binary form holds the same ids and flags, and comes before `traceparent`."""
    binary = read(SAMPLED).grpc_trace_bin
    assert binary.hex() == "0000" + TRACE.decode() + "01" + SPAN.decode() + "0201"
    assert parse_grpc_trace_bin(binary) == SAMPLED
    assert parse_grpc_trace_bin(binary[:27]) == PARENT
    other = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00"
    context = tracing().from_grpc(binary, other, b"a=1")
    assert context is not None
    assert context.traceparent == SAMPLED
    assert context.tracestate == b"a=1"


@pytest.mark.parametrize(
    "binary",
    [
        b"",
        b"\x00" * 29,
        b"\x01\x00" + b"t" * 16 + b"\x01" + b"s" * 8 + b"\x02\x01",
        b"\x00\x01" + b"t" * 16 + b"\x01" + b"s" * 8 + b"\x02\x01",
        b"\x00\x00" + b"t" * 16 + b"\x02" + b"s" * 8 + b"\x02\x01",
        b"\x00\x00" + b"\x00" * 16 + b"\x01" + b"s" * 8 + b"\x02\x01",
        b"\x00\x00" + b"t" * 16 + b"\x01" + b"\x00" * 8 + b"\x02\x01",
    ],
)
def test_an_invalid_grpc_trace_bin_gives_way_to_traceparent(binary: bytes) -> None:
    """A binary form that is not valid is ignored, and `traceparent` counts."""
    context = tracing().from_grpc(binary, PARENT)
    assert context is not None
    assert context.traceparent == PARENT


@given(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.integers(0, 1)
)
def test_both_forms_say_the_same(trace: bytes, span: bytes, sampled: int) -> None:
    """Any valid context survives the way through the binary form and back."""
    header = f"00-{trace.hex()}-{span.hex()}-{sampled:02x}".encode()
    assert parse_grpc_trace_bin(read(header).grpc_trace_bin) == header


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"  ",
        b"a=1",
        b"a = 1 , b=",
        b"a==,b= =1= \t",
        b"\ta = ; b ; c\t=\t%20=%3d ",
        b"userId=al%20ice;ttl=5;secure , b=2",
        b"k=" + b"v" * 4000,
        b",".join([b"a=1"] * 180),
    ],
)
def test_valid_baggage(header: bytes) -> None:
    """Baggage as W3C writes it passes."""
    assert baggage_problem(header) is None


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"a", "member 1 is not of the form key=value"),
        (b"a=1,b", "member 2 is not of the form key=value"),
        (b"a=1,", "member 2 is not of the form key=value"),
        (b"=1", "member 1 is not of the form key=value"),
        (b"a b=1", "member 1 is not of the form key=value"),
        (b'a="1"', "member 1 is not of the form key=value"),
        (b"a=%zz", "member 1 is not of the form key=value"),
        (b"a;b=1", "member 1 is not of the form key=value"),
        (b"a=1;b c", "member 1 is not of the form key=value"),
        (b"a=1;b=c d", "member 1 is not of the form key=value"),
        (b"a=1;=2", "member 1 is not of the form key=value"),
        (b"a=1;;b", "member 1 is not of the form key=value"),
        (b"a=1\n", "member 1 is not of the form key=value"),
        (b"a=1;", "member 1 is not of the form key=value"),
        (b"a=\xff", "member 1 is not of the form key=value"),
        (b"a=" + b"v" * 8192, "longer than 8192 bytes"),
        (b",".join([b"a=1"] * 181), "more than 180 members"),
    ],
)
def test_wrong_baggage(header: bytes, problem: str) -> None:
    """Wrong baggage is answered with a text that says where it is wrong and does not repeat it."""
    assert baggage_problem(header) == f"invalid baggage header: {problem}"


@pytest.mark.parametrize(
    "header", [b"a" + b" " * 4000 + b"=" + b" " * 4000 + b"\x00", b"a=1" + b";b " * 2700, b"a" * 8192]
)
def test_no_baggage_takes_long_to_refuse(header: bytes) -> None:
    """A header made to be tried in many ways costs no more than another one of its length."""
    started = time.thread_time()
    baggage_problem(header[:8192])
    assert time.thread_time() - started < 0.05
