"""Where a body ends: of a known length, chunked, or with the connection (RFC 9112 §6 and §7).

Belongs to the wire, on both roads. A decoder knows to the byte where the body ends, which is what keeps messages on one
connection apart. The chunked coding is read strictly; its extensions and trailers are checked, bounded and dropped.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")

_LINE_LIMIT: Final = 1024
_EXTENSION_LIMIT: Final = 16 * 1024


class FramingError(Exception):
    """The chunked coding is malformed, or its extensions or trailers are too long."""


class Decoder(Protocol):
    """Takes a body out of a stream of bytes."""

    done: bool
    """Whether the last byte of the body has been seen."""
    rest: bytes
    """Bytes after the end of the body."""

    @property
    def announced(self) -> int:
        """Bytes that are certain to come yet."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Decode the next piece of the stream: the bytes of the body in it. Raises `FramingError`."""
        ...


class LengthDecoder:
    """A body of a known length, which is not 0."""

    __slots__ = ("announced", "done", "rest")

    def __init__(self, length: int) -> None:
        self.announced = length
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        left = self.announced
        if len(data) < left:
            self.announced = left - len(data)
            return data
        self.announced = 0
        self.done = True
        if len(data) == left:
            return data
        self.rest = data[left:]
        return data[:left]


class EndlessDecoder:
    """A body that ends with its connection; `done` is never set."""

    __slots__ = ("announced", "done", "rest")

    def __init__(self) -> None:
        self.announced = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        return data


class ChunkedDecoder:
    """The chunked coding. `trailer_bytes`: how long all trailers together may be."""

    __slots__ = ("_extensions", "_left", "_line", "_step", "_trailer_bytes", "done", "rest")

    def __init__(self, trailer_bytes: int) -> None:
        self._trailer_bytes = trailer_bytes
        self._extensions = 0
        self._line = b""
        self._left = 0
        self._step = self._on_size
        self.done = False
        self.rest = b""

    @property
    def announced(self) -> int:
        """Bytes of the present chunk that are still to come."""
        return self._left

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        pieces: list[bytes] = []
        position = 0
        end = len(data)
        while position < end and not self.done:
            if self._left:
                piece = data[position : position + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                position += len(piece)
                if not self._left:
                    self._step = self._on_data_end
                continue
            position = self._feed_line(data, position)
        if position < end:
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_line(self, data: bytes, position: int) -> int:
        """Take one line, or what there is of it. Returns the position after it."""
        stop = data.find(b"\n", position) + 1
        line = self._line + data[position : stop or len(data)]
        if len(line) > _LINE_LIMIT and self._step != self._on_trailer:
            raise FramingError("a chunk's line is too long")
        if len(line) > self._trailer_bytes and self._step == self._on_trailer:
            raise FramingError("the trailers are too long")
        if not stop:
            self._line = line
            return len(data)
        self._line = b""
        self._step(line)
        return stop

    def _on_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise FramingError("malformed chunk size")
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > _EXTENSION_LIMIT:
                raise FramingError("the chunk extensions are too long")
        self._left = int(match[1], 16)
        if not self._left:
            self._step = self._on_trailer

    def _on_data_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise FramingError("a chunk is longer than announced")
        self._step = self._on_size

    def _on_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        if _TRAILER_LINE.fullmatch(line) is None:
            raise FramingError("malformed trailer")
        self._trailer_bytes -= len(line)
