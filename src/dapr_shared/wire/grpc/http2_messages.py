"""gRPC on HTTP/2, what both sides need: messages in their frames, status, timeouts and metadata in headers.

First step of the request road and last step of both. The rules are those of gRPC's PROTOCOL-HTTP2 document.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.metadata import WIRE_ONLY
from dapr_shared.wire.http2.frames import ErrorCode
from dapr_shared.wire.http2.hpack import encode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dapr_shared.wire.grpc.metadata import Pairs

PREFIX_BYTES: Final = 5
"""Of each message: whether it is compressed, and its length."""
ENCODINGS: Final = "identity,gzip,deflate"
"""Compression that we can read; we send plain messages."""
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_timeout = re.compile(r"(\d{1,8})([HMSmun])").fullmatch
_LONGEST_TIMEOUT: Final = 10 * 365 * 86_400.0
_MOST_DIGITS: Final = 99_999_999
_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class MessageReader:
    """Messages out of octets as they come."""

    __slots__ = ("_buffer", "_encoding", "_limit", "_needed")

    def __init__(self, limit: int, encoding: str) -> None:
        """`limit`: octets of one message, 0: none. `encoding`: the stream's `grpc-encoding`, empty: none."""
        self._limit = limit
        self._encoding = encoding
        self._buffer = bytearray()
        self._needed = PREFIX_BYTES

    @property
    def incomplete(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with these octets. Raises `GrpcError`."""
        size = len(data)
        if (
            not self._buffer
            and size >= PREFIX_BYTES
            and int.from_bytes(data[1:PREFIX_BYTES], "big") == size - PREFIX_BYTES
        ):
            self._check(size - PREFIX_BYTES)  # one message in one frame, the most frequent case by far
            return [self._message(data[0], data[PREFIX_BYTES:])]
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        start = 0
        while len(buffer) - start >= self._needed:
            if self._needed == PREFIX_BYTES:
                length = int.from_bytes(buffer[start + 1 : start + PREFIX_BYTES], "big")
                self._check(length)
                if length:
                    self._needed = PREFIX_BYTES + length
                    continue
            end = start + self._needed
            found.append(self._message(buffer[start], bytes(buffer[start + PREFIX_BYTES : end])))
            start, self._needed = end, PREFIX_BYTES
        if start:
            del buffer[:start]
        return found

    def _check(self, length: int) -> None:
        if self._limit and length > self._limit:
            raise GrpcError(
                GrpcCode.RESOURCE_EXHAUSTED, f"Received message larger than max ({length} vs. {self._limit})"
            )

    def _message(self, flag: int, data: bytes) -> bytes:
        if not flag:
            return data
        if flag != 1 or self._encoding in ("", "identity"):
            raise GrpcError(GrpcCode.INTERNAL, "a message is called compressed, and nothing says how")
        bits = _WINDOW_BITS.get(self._encoding)
        if bits is None:
            raise unknown_encoding(self._encoding)
        reader = zlib.decompressobj(bits)
        try:
            message = reader.decompress(data, self._limit + 1 if self._limit else 0)
        except zlib.error as error:
            raise GrpcError(GrpcCode.INTERNAL, "a compressed message cannot be read") from error
        if self._limit and len(message) > self._limit:
            raise GrpcError(GrpcCode.RESOURCE_EXHAUSTED, f"Received message larger than max ({self._limit})")
        if not reader.eof or reader.unused_data:
            raise GrpcError(GrpcCode.INTERNAL, "a compressed message breaks off, or has something behind it")
        return message


def unknown_encoding(name: str) -> GrpcError:
    """The error of a compression that is not known here."""
    return GrpcError(
        GrpcCode.UNIMPLEMENTED,
        f"the compression {name!r} is not known: use one of {ENCODINGS}",
    )


def prefixed(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def too_large_to_send(message: bytes, limit: int) -> GrpcError | None:
    """The error of a message that we may not send."""
    if not limit or len(message) <= limit:
        return None
    return GrpcError(GrpcCode.RESOURCE_EXHAUSTED, f"Sent message larger than max ({len(message)} vs. {limit})")


def parse_timeout(text: str) -> float:
    """Seconds of a `grpc-timeout`. Raises `GrpcError`."""
    match = _timeout(text)
    if match is None:
        raise GrpcError(GrpcCode.INTERNAL, f"malformed grpc-timeout {text[:40]!r}")
    return min(int(match[1]) * _UNITS[match[2]], _LONGEST_TIMEOUT)


def format_timeout(seconds: float) -> str:
    """A `grpc-timeout` of so many seconds, at least a microsecond."""
    micros = max(round(seconds * 1e6), 1)
    if micros <= _MOST_DIGITS:
        return f"{micros}u"
    millis = round(seconds * 1e3)
    return f"{millis}m" if millis <= _MOST_DIGITS else f"{min(round(seconds), _MOST_DIGITS)}S"


def encoded_metadata(pairs: Pairs) -> bytes:
    """Metadata, already checked, as headers."""
    return b"".join(
        encode(key, base64.b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value)
        for key, value in pairs
    )


def decoded_metadata(headers: Iterable[tuple[str, str]], leave_out: frozenset[str] = frozenset()) -> Pairs:
    """Headers as metadata, without what belongs to the wire. Raises `GrpcError` for a binary value that is none."""
    found: list[tuple[str, str | bytes]] = []
    for key, value in headers:
        if key[0] == ":" or key in WIRE_ONLY or key in leave_out:
            continue
        if key.endswith("-bin"):
            found += ((key, _binary(key, part)) for part in value.split(","))
        else:
            found.append((key, value))
    return tuple(found)


def encoded_message(text: str) -> str:
    """A status message as `grpc-message` has it: percent-encoded UTF-8."""
    return text if text.isascii() and text.isprintable() and "%" not in text else quote(text, safe=_SAFE)


def decoded_message(text: str) -> str:
    """A `grpc-message` in readable form."""
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "replace") if "%" in text else text


def code_of(text: str) -> GrpcCode:
    """The code of a `grpc-status`; one that is not known is UNKNOWN."""
    try:
        return GrpcCode(int(text))
    except ValueError:
        return GrpcCode.UNKNOWN


_OF_RESET: Final = {
    ErrorCode.REFUSED_STREAM: GrpcCode.UNAVAILABLE,
    ErrorCode.CANCEL: GrpcCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: GrpcCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: GrpcCode.PERMISSION_DENIED,
}


def code_of_reset(code: ErrorCode) -> GrpcCode:
    """The status that a reset stands for."""
    return _OF_RESET.get(code, GrpcCode.INTERNAL)


def _binary(key: str, text: str) -> bytes:
    text = text.strip()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise GrpcError(GrpcCode.INTERNAL, f"the binary metadata {key[:100]} is not base64") from error
