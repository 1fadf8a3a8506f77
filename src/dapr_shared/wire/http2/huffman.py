"""Huffman coding of header strings (RFC 7541 §5.2 and appendix B): reading alone, as we write plain strings.

First step of the request road, below `hpack.py`. The code is canonical, so the length of each symbol's code is all that
has to be written down. Reading goes byte by byte through steps that are worked out when they are first needed.
"""

from __future__ import annotations

from typing import Final

_EOS: Final = 256
_LENGTHS: Final[dict[int, tuple[int, ...]]] = {
    5: tuple(b"012aceiost"),
    6: tuple(b" %-./3456789=A_bdfghlmnpru"),
    7: tuple(b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    8: tuple(b"&*,;XZ"),
    10: tuple(b'!"()?'),
    11: tuple(b"'+|"),
    12: tuple(b"#>"),
    13: tuple(b"\x00$@[]~"),
    14: tuple(b"^}"),
    15: tuple(b"<`{"),
    19: tuple(b"\\\xc3\xd0"),
    20: tuple(b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    21: tuple(b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    22: tuple(
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"
    ),
    23: tuple(
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef"
    ),
    24: tuple(b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    25: tuple(b"\xc7\xcf\xea\xeb"),
    26: tuple(b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    27: tuple(b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    28: tuple(
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9"
    ),
    30: (*b"\n\r\x16", _EOS),
}
"""The symbols by the length of their code in bits, each list in the order of the codes."""

_LONGEST_PADDING: Final = 7


class HuffmanError(Exception):
    """Bytes that no encoder makes."""


class _Node:
    """A place in the code's tree."""

    __slots__ = ("children", "may_end", "steps", "symbol")

    def __init__(self) -> None:
        self.children: list[_Node | None] = [None, None]
        self.symbol: int | None = None
        self.may_end = False
        """Whether a string may end here: up to seven bits of the code of EOS, which are all ones, are padding."""
        self.steps: dict[int, tuple[_Node, bytes]] = {}
        """Where a byte leads, and what it yields; filled when first needed."""


def _tree() -> _Node:
    root = _Node()
    code, before = 0, 0
    for length, symbols in _LENGTHS.items():
        for symbol in symbols:
            code <<= length - before
            before = length
            node = root
            for shift in range(length - 1, -1, -1):
                bit = code >> shift & 1
                child = node.children[bit] or _Node()
                node.children[bit] = child
                node = child
            node.symbol = symbol
            code += 1
    node, root.may_end = root, True
    for _ in range(_LONGEST_PADDING):
        child = node.children[1]
        if child is None:
            break
        child.may_end = True
        node = child
    return root


_ROOT: Final = _tree()


def _step(start: _Node, byte: int) -> tuple[_Node, bytes]:
    node, found = start, bytearray()
    for shift in range(7, -1, -1):
        child = node.children[byte >> shift & 1]
        if child is None or child.symbol == _EOS:
            raise HuffmanError("a string holds the end mark, or no code at all")
        if child.symbol is None:
            node = child
        else:
            found.append(child.symbol)
            node = _ROOT
    step = (node, bytes(found))
    start.steps[byte] = step
    return step


def decode(data: bytes) -> bytes:
    """What `data` stands for. Raises `HuffmanError`."""
    node = _ROOT
    parts: list[bytes] = []
    for byte in data:
        node, found = node.steps.get(byte) or _step(node, byte)
        if found:
            parts.append(found)
    if not node.may_end:
        raise HuffmanError("a string ends within a code")
    return b"".join(parts)
