"""W3C trace context: what came in, whether it is sampled, and what goes on.

Second step of the request road (pipeline). A request that is not sampled costs one regular expression and one small
object: its `traceparent` goes on unchanged. Only a sampled one gets span ids of its own. Rules: W3C Trace Context,
W3C Baggage, OpenCensus's binary form (`grpc-trace-bin`), and Dapr's (reference behaviours §7).
"""

from __future__ import annotations

import math
import random
import re
from binascii import hexlify
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_SAMPLING_RATE = 1e-4
"""Share of new traces that are sampled when the Configuration says nothing, or nothing that is a number."""

TRACESTATE_MEMBERS = 32
"""Most members of a tracestate; one with more is dropped whole."""

TRACESTATE_LENGTH = 512
"""Most characters of a tracestate; the members behind that are dropped."""

BAGGAGE_LENGTH = 8192
"""Most bytes of a baggage header."""

BAGGAGE_MEMBERS = 180
"""Most members of a baggage header."""

_SAMPLED = 1
_BITS_63 = (1 << 63) - 1

# Ids of zeros only are invalid, and so are capitals.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
# What a later version adds behind the flags begins with a dash; there is no version ff.
_LATER_TRACEPARENT = re.compile(
    rb"(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL
).fullmatch
_ODD_DIGITS = b"13579bdf"
_STATE_MEMBER = re.compile(
    rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
# No possessive quantifiers: `re` of Python before 3.11.5 gets some of them wrong. At each byte these patterns have but
# one way to go on, so a header made to be tried again and again is refused in one pass all the same.
_BAGGAGE_KEY = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_BAGGAGE_VALUE = re.compile(rb"(?:%[0-9A-Fa-f]{2}|[\x21\x23\x24\x26-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e])*").fullmatch
_RATE = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class TraceContext(msgspec.Struct, eq=False):
    """The trace that a request belongs to, as it is passed on."""

    traceparent: bytes
    """Version 00, 55 bytes: the header to send on."""
    tracestate: bytes
    """The header to send on; empty when there is none."""
    sampled: bool
    remote: bool = False
    """Whether it came with the request; else the trace begins here."""

    @property
    def trace_id(self) -> str:
        """32 lower-case hexadecimal digits."""
        return self.traceparent[3:35].decode()

    @property
    def span_id(self) -> str:
        """16 lower-case hexadecimal digits: of the sender of `traceparent`."""
        return self.traceparent[36:52].decode()

    @property
    def grpc_trace_bin(self) -> bytes:
        """The same in the binary form of gRPC metadata `grpc-trace-bin`, 29 bytes."""
        return grpc_trace_bin(self.traceparent)


class Tracing:
    """The sampling decision of one instance, and the making of contexts.

    A request with a parent is sampled if the parent is (parent-based); a new trace with the probability `rate`. At a
    rate of 0 tracing is off: there are no contexts at all, and headers pass through untouched.
    """

    __slots__ = ("_random", "_threshold", "enabled", "rate")

    def __init__(
        self, rate: float = DEFAULT_SAMPLING_RATE, *, random_bytes: Callable[[int], bytes] | None = None
    ) -> None:
        self.rate = min(max(rate, 0.0), 1.0)
        self.enabled = self.rate > 0
        self._threshold = int(self.rate * (1 << 63))
        # Ids have to differ, not to be secret; this is several times cheaper than asking the system.
        self._random = random_bytes or random.Random().randbytes  # noqa: S311

    def from_http(self, traceparent: bytes | None, tracestate: bytes | None = None) -> TraceContext | None:
        """The context of a request with these headers; a new trace if there is no valid `traceparent`.

        Several `tracestate` headers are given joined with commas; several `traceparent` headers count as none.
        `None` while tracing is off.
        """
        if not self.enabled:
            return None
        if traceparent is None:
            return self.new_trace()
        if _TRACEPARENT(traceparent) is None:
            if _LATER_TRACEPARENT(traceparent) is None:
                return self.new_trace()
            # Of a later version only the ids and the one flag that is known may be passed on.
            traceparent = b"00" + traceparent[2:53] + (b"01" if traceparent[54] in _ODD_DIGITS else b"00")
        sampled = traceparent[54] in _ODD_DIGITS
        return TraceContext(traceparent, parse_tracestate(tracestate) if tracestate else b"", sampled, True)  # noqa: FBT003

    def from_grpc(
        self, grpc_trace_bin: bytes | None, traceparent: bytes | None = None, tracestate: bytes | None = None
    ) -> TraceContext | None:
        """The context of a call with this metadata: `grpc-trace-bin` first, then `traceparent`, else a new trace."""
        if not self.enabled:
            return None
        if grpc_trace_bin is not None:
            found = parse_grpc_trace_bin(grpc_trace_bin)
            if found is not None:
                traceparent = found
        return self.from_http(traceparent, tracestate)

    def new_trace(self) -> TraceContext:
        """A trace that begins here, sampled with the instance's rate."""
        ids = self._random(24)
        # The low 63 bits of the trace id decide, as in OpenTelemetry's ratio sampler: others decide the same from it.
        sampled = (int.from_bytes(ids[8:16], "big") & _BITS_63) < self._threshold
        # 16 bytes, a dash, 8 bytes.
        return TraceContext(b"00-" + hexlify(ids, b"-", -16) + (b"-01" if sampled else b"-00"), b"", sampled)

    def child(self, parent: TraceContext) -> TraceContext:
        """The same trace with a new span id, for what a sampled request calls."""
        head, tail = parent.traceparent[:36], parent.traceparent[52:]
        return TraceContext(head + hexlify(self._random(8)) + tail, parent.tracestate, parent.sampled)


def grpc_trace_bin(traceparent: bytes) -> bytes:
    """A valid `traceparent` in the binary form of gRPC metadata `grpc-trace-bin`, 29 bytes."""
    digits = traceparent.decode()
    return bytes.fromhex(f"0000{digits[3:35]}01{digits[36:52]}02{digits[53:55]}")


def parse_sampling_rate(text: str) -> float:
    """The `samplingRate` of a Configuration: 0 to 1; empty or not a number means the default, as in Dapr."""
    if not _RATE.fullmatch(text.strip()):
        return DEFAULT_SAMPLING_RATE
    rate = float(text)
    return min(max(rate, 0.0), 1.0) if math.isfinite(rate) else DEFAULT_SAMPLING_RATE


def parse_tracestate(value: bytes) -> bytes:
    """The members of a tracestate that go on; empty if it is malformed, which does not harm the traceparent."""
    if len(value) > TRACESTATE_LENGTH * TRACESTATE_MEMBERS:
        return b""
    members = [member for part in value.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > TRACESTATE_MEMBERS or len(keys) < len(members):
        return b""
    if not all(_STATE_MEMBER.fullmatch(member) for member in members):
        return b""
    kept = b",".join(members)
    while len(kept) > TRACESTATE_LENGTH:
        members.pop()
        kept = b",".join(members)
    return kept


def parse_grpc_trace_bin(value: bytes) -> bytes | None:
    """The `traceparent` that a `grpc-trace-bin` stands for; `None` if it is not valid.

    The form: version 0; field 0, 16 bytes of trace id; field 1, 8 bytes of span id; field 2, one byte of flags.
    """
    if len(value) < 27 or value[0] != 0 or value[1] != 0 or value[18] != 1:
        return None
    trace, span = value[2:18], value[19:27]
    if not any(trace) or not any(span):
        return None
    flags = value[28] & _SAMPLED if len(value) >= 29 and value[27] == 2 else 0
    return f"00-{trace.hex()}-{span.hex()}-{flags:02x}".encode()


def baggage_problem(value: bytes) -> str | None:
    """Say what is wrong with a `baggage` header, or `None`; Dapr answers a wrong one with status 400 and a text."""
    if len(value) > BAGGAGE_LENGTH:
        return f"invalid baggage header: longer than {BAGGAGE_LENGTH} bytes"
    members = value.split(b",") if value.strip(b" \t") else []
    if len(members) > BAGGAGE_MEMBERS:
        return f"invalid baggage header: more than {BAGGAGE_MEMBERS} members"
    for number, member in enumerate(members, 1):
        if not _is_baggage_member(member):
            return f"invalid baggage header: member {number} is not of the form key=value"
    return None


def _is_baggage_member(member: bytes) -> bool:
    """Whether it is `key=value`, with properties `;key=value` or `;key` behind it; neither contains a semicolon."""
    first, *properties = member.split(b";")
    return b"=" in first and all(_is_baggage_pair(part) for part in (first, *properties))


def _is_baggage_pair(part: bytes) -> bool:
    """Whether it is `key=value` or `key`, with blanks around both."""
    key, _, value = part.partition(b"=")
    return _BAGGAGE_KEY(key.strip(b" \t")) is not None and _BAGGAGE_VALUE(value.strip(b" \t")) is not None
