"""Frames of HTTP/2 (RFC 9113 §4, §6): numbers, and the bytes of those that we send."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""
HEAD_BYTES: Final = 9
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
"""Settings."""

DEFAULT_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = 2**31 - 1
LAST_STREAM: Final = 2**31 - 1
FRAME_BYTES: Final = 16_384
"""Largest payload of a frame unless settings allow more; we announce no more."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionBroken(Exception):  # noqa: N818 - it says what has become of the connection
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, code: ErrorCode, problem: str) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return (len(payload) << 48 | kind << 40 | flags << 32 | stream).to_bytes(HEAD_BYTES, "big") + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(
        SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    )


def window_update(stream: int, octets: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, octets.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, int(code).to_bytes(4, "big"))


def goaway(last: int, code: int, text: bytes = b"") -> bytes:
    """A GOAWAY frame; `last`: the newest stream that the sender has taken up or may have."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + int(code).to_bytes(4, "big") + text)


def headers(stream: int, block: bytes, frame_bytes: int, *, end_stream: bool) -> bytes:
    """A block of headers as one HEADERS frame and as many CONTINUATION frames as it needs."""
    end = END_STREAM if end_stream else 0
    if len(block) <= frame_bytes:
        return frame(HEADERS, end | END_HEADERS, stream, block)
    parts = [frame(HEADERS, end, stream, block[:frame_bytes])]
    for start in range(frame_bytes, len(block), frame_bytes):
        last = start + frame_bytes >= len(block)
        parts.append(frame(CONTINUATION, END_HEADERS if last else 0, stream, block[start : start + frame_bytes]))
    return b"".join(parts)
