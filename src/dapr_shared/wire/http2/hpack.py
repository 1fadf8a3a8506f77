"""Header compression (RFC 7541): a decoder with its table, and headers written without one.

First step of the request road. We write no header into the peer's table: an answer has few, and an encoder without
memory cannot fall out of step. Names and values are text, one character a byte (latin-1); what they may hold is
checked once, when they are read.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from dapr_shared.wire.http2.huffman import HuffmanError
from dapr_shared.wire.http2.huffman import decode as huffman_decode

Header: TypeAlias = tuple[str, str]

_STATIC: Final[tuple[Header, ...]] = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
)  # fmt: skip
"""The static table (appendix A); its first entry has the index 1."""

_OVERHEAD: Final = 32
"""Octets that an entry counts beside its name and value (§4.1)."""
TABLE_BYTES: Final = 4096
"""Size of our decoder's table, HTTP/2's default, which we do not change."""
_MAX_INTEGER: Final = 1 << 32
_legal_name = re.compile(r":?[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_illegal_value = re.compile(r"[\x00\r\n]").search


class CompressionError(Exception):
    """A block that leaves the decoder's table in an unknown state: the connection must end."""


class HeaderBlock:
    """The headers of one block."""

    __slots__ = ("headers", "malformed", "meaning", "too_large")

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.meaning: object = None
        """What whoever takes the block made of it: a connection keeps blocks that come again."""
        self.too_large = False
        """More than the limit: `headers` holds the first of them. The table is right nevertheless."""
        self.malformed = False
        """A name or a value that HTTP/2 forbids (RFC 9113 §8.2.1)."""


class HeaderDecoder:
    """Decodes the blocks of one connection in their order."""

    __slots__ = ("_capacity", "_entries", "_size", "changes")

    def __init__(self) -> None:
        self._entries: list[Header] = []
        """Newest first."""
        self._size = 0
        self._capacity = TABLE_BYTES
        self.changes = 0
        """Goes up with each change of the table: while it stays, equal blocks mean equal headers."""

    def decode(self, block: bytes, limit: int) -> HeaderBlock:
        """Decode one block; `limit`: octets of its headers as HTTP/2 counts them. Raises `CompressionError`."""
        found = HeaderBlock()
        total, position, end = 0, 0, len(block)
        updates_allowed = True
        while position < end:
            first = block[position]
            if first & 0x80:  # indexed
                index, position = self._integer(block, position, 0x7F)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:  # table size update
                if not updates_allowed:
                    raise CompressionError("a table size update behind a header")
                size, position = self._integer(block, position, 0x1F)
                self._resize(size)
                continue
            else:
                keep = first & 0x40
                index, position = self._integer(block, position, 0x3F if keep else 0x0F)
                name = self._entry(index)[0] if index else None
                if name is None:
                    name, position = self._string(block, position)
                    if _legal_name(name) is None:
                        found.malformed = True
                value, position = self._string(block, position)
                if _illegal_value(value):
                    found.malformed = True
                header = (name, value)
                if keep:
                    self._add(header)
            updates_allowed = False
            total += len(header[0]) + len(header[1]) + _OVERHEAD
            if total <= limit:
                found.headers.append(header)
            else:
                found.too_large = True
        return found

    def _entry(self, index: int) -> Header:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        place = index - len(_STATIC) - 1
        if not 0 <= place < len(self._entries):
            raise CompressionError(f"there is no header {index} in the table")
        return self._entries[place]

    def _add(self, header: Header) -> None:
        self.changes += 1
        size = len(header[0]) + len(header[1]) + _OVERHEAD
        self._shrink(self._capacity - size)
        if size <= self._capacity:
            self._entries.insert(0, header)
            self._size += size

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise CompressionError(f"a table of {size} bytes, more than the {TABLE_BYTES} announced")
        self.changes += 1
        self._capacity = size
        self._shrink(size)

    def _shrink(self, size: int) -> None:
        while self._entries and self._size > size:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD

    @staticmethod
    def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
        value = block[position] & mask
        position += 1
        if value < mask:
            return value, position
        shift = 0
        while position < len(block):
            byte = block[position]
            position += 1
            value += (byte & 0x7F) << shift
            if value > _MAX_INTEGER:
                break
            if not byte & 0x80:
                return value, position
            shift += 7
            if shift > 35:  # six octets: more than the largest value needs
                break
        raise CompressionError("a number that is too large or breaks off")

    def _string(self, block: bytes, position: int) -> tuple[str, int]:
        if position >= len(block):
            raise CompressionError("a block that breaks off")
        coded = block[position] & 0x80
        length, position = self._integer(block, position, 0x7F)
        end = position + length
        if end > len(block):
            raise CompressionError("a string that breaks off")
        data = block[position:end]
        if coded:
            try:
                data = huffman_decode(data)
            except HuffmanError as error:
                raise CompressionError(str(error)) from error
        return data.decode("latin-1"), end


_INDEX_OF_NAME: Final = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, start=1)))}
_INDEX_OF_HEADER: Final[dict[Header, int]] = {
    header: index for index, header in enumerate(_STATIC, start=1) if header[1]
}
_LONGEST_SHORT: Final = 126
_LAST_SMALL_INDEX: Final = 14


def encode(name: str, value: str) -> bytes:
    """One header, as a literal that enters no table. Characters above U+00FF raise `UnicodeEncodeError`."""
    index = _INDEX_OF_HEADER.get((name, value))
    if index is not None:
        return bytes((0x80 | index,))
    index = _INDEX_OF_NAME.get(name)
    if index is None:
        head = b"\x00" + _encoded_string(name)
    else:
        head = bytes((index,)) if index <= _LAST_SMALL_INDEX else bytes((0x0F, index - 15))
    return head + _encoded_string(value)


def _encoded_string(text: str) -> bytes:
    data = text.encode("latin-1")
    length = len(data)
    if length <= _LONGEST_SHORT:
        return bytes((length,)) + data
    head, rest = bytearray(b"\x7f"), length - 127
    while rest > 127:  # seven bits an octet
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + data
