"""Lines of apps: whole, bounded, and safe for a console."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.runtime.app_output import LONGEST_LINE, Lines, prefix, shown


def cut(*chunks: bytes) -> list[bytes]:
    lines = Lines()
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b\nc"], [b"ab", b"c"]),
        ([b"a\r\nb"], [b"a", b"b"]),
        ([b"a\r", b"\nb"], [b"a", b"b"]),
        ([b"10%\r20%\r\n"], [b"10%", b"20%"]),
        ([b"\n\n"], [b"", b""]),
        ([b""], []),
        ([b"a\r", b"b"], [b"a", b"b"]),
    ],
)
def test_lines(chunks, expected):
    """Lines end with a line feed, a carriage return or both, wherever the chunks are torn."""
    assert cut(*chunks) == expected


@given(st.binary(max_size=200), st.integers(1, 7))
def test_chunks_make_no_difference(data, size):
    """The same bytes give the same lines, however they come."""
    assert cut(*(data[i : i + size] for i in range(0, len(data), size))) == cut(data)


def test_a_line_without_end_is_bounded():
    """What never ends comes out in pieces, and no more than one piece is kept."""
    lines = Lines()
    got = [piece for _ in range(100) for piece in lines.feed(b"x" * 1000)]
    assert [len(piece) for piece in got] == [LONGEST_LINE] * (100_000 // LONGEST_LINE)
    assert len(lines.end()[0]) == 100_000 % LONGEST_LINE


def test_a_cut_tears_no_character():
    """A long line of two-byte characters is cut between them."""
    pieces = cut(b"x" + "é".encode() * LONGEST_LINE)
    assert "".join(piece.decode() for piece in pieces) == "x" + "é" * LONGEST_LINE


@pytest.mark.parametrize(
    ("line", "plain", "coloured"),
    [
        (b"hello\tyou", b"hello\tyou", b"hello\tyou"),
        ("Grüße ☕".encode(), "Grüße ☕".encode(), "Grüße ☕".encode()),
        (b"\x1b[31mred", b"red", b"\x1b[31mred\x1b[0m"),
        (b"\x1b[2Jgone\x07\x00", rb"\x1b[2Jgone\x07\x00", rb"\x1b[2Jgone\x07\x00"),
        (b"\xff\xfe", rb"\xff\xfe", rb"\xff\xfe"),
        (b"\x1b]0;title\x07", rb"\x1b]0;title\x07", rb"\x1b]0;title\x07"),
    ],
)
def test_what_a_console_gets(line, plain, coloured):
    """Colours pass where there are colours; other control sequences and bytes that are no text are written out."""
    assert shown(line, coloured=False) == plain
    assert shown(line, coloured=True) == coloured


def test_prefixes():
    """Apps are told apart by name, and by colour where there are colours."""
    assert prefix("orders", 0, coloured=False) == b"== APP - orders == "
    assert prefix("dapr-shared", None, coloured=False) == b"== dapr-shared == "
    assert prefix("a", 0, coloured=True) != prefix("a", 1, coloured=True)
