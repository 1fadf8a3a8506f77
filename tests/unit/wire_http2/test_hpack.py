"""Header compression beside a library of its own, and against what no encoder makes."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.wire.http2 import huffman
from dapr_shared.wire.http2.hpack import TABLE_BYTES, CompressionError, HeaderDecoder, encode

NAMES = st.sampled_from([":path", ":status", "content-type", "grpc-timeout", "via", "x-trace", "x" * 200])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@given(st.binary(max_size=200))
def test_huffman_reads_what_the_library_writes(data) -> None:
    """Every string of octets comes back from its Huffman code."""
    assert huffman.decode(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(data)) == data


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00\xff\xff", b"\x00", b"\xfe"])
def test_huffman_that_no_encoder_makes(data) -> None:
    """The end mark, padding of more than seven bits and padding that is not all ones are refused."""
    with pytest.raises(huffman.HuffmanError):
        huffman.decode(data)


@given(st.lists(HEADERS, max_size=8), st.booleans())
def test_blocks_of_one_connection(blocks, coded) -> None:
    """Blocks that refer to what earlier ones left in the table mean what the library's encoder was given."""
    encoder, decoder = hpack.Encoder(), HeaderDecoder()
    for headers in blocks:
        block = decoder.decode(encoder.encode(headers, huffman=coded), 1_000_000)
        assert (block.headers, block.too_large, block.malformed) == (headers, False, False)


@given(st.lists(HEADERS, min_size=2, max_size=6), st.lists(st.integers(0, TABLE_BYTES), min_size=6, max_size=6))
def test_a_table_that_changes_its_size(blocks, sizes) -> None:
    """An encoder may make its table smaller and larger again between blocks."""
    encoder, decoder = hpack.Encoder(), HeaderDecoder()
    for headers, size in zip(blocks, sizes, strict=False):
        encoder.header_table_size = size
        assert decoder.decode(encoder.encode(headers), 1_000_000).headers == headers


@given(HEADERS)
def test_what_we_write_the_library_reads(headers) -> None:
    """Our literals are right, whatever their length."""
    found = hpack.Decoder().decode(b"".join(encode(name, value) for name, value in headers))
    assert [(str(name), str(value)) for name, value in found] == headers


@given(st.binary(max_size=60))
def test_garbage_is_an_error_or_headers(data) -> None:
    """Any octets are decoded or refused with the one error that ends a connection."""
    with contextlib.suppress(CompressionError):
        HeaderDecoder().decode(data, 10_000)


BROKEN = {
    "index 0": b"\x80",
    "beyond the table": b"\xbe",
    "an integer without end": b"\xff" + b"\xff" * 10,
    "an integer that breaks off": b"\xff\x80",
    "a string that breaks off": b"\x40\x05abc",
    "a name alone": b"\x40\x01a",
    "a table too large": b"\x3f\xe2\x1f",
    "a table size behind a header": b"\x82\x20",
}


@pytest.mark.parametrize("block", BROKEN.values(), ids=BROKEN.keys())
def test_broken_blocks(block) -> None:
    """A block that cannot be read is an error, never a guess."""
    with pytest.raises(CompressionError):
        HeaderDecoder().decode(block, 10_000)


def test_a_small_block_that_means_much() -> None:
    """A block of references to one large header stops at the limit, keeps little, and leaves the table right."""
    decoder = HeaderDecoder()
    large = "v" * 3000
    decoder.decode(b"\x40\x01a\x7f\xb9\x16" + large.encode(), 10_000)
    block = decoder.decode(b"\xbe" * 100_000, 10_000)
    assert block.too_large
    assert block.headers == [("a", large)] * 3
    assert decoder.decode(b"\xbe", 10_000).headers == [("a", large)]


@pytest.mark.parametrize(
    ("name", "value"), [("X-Upper", "v"), ("", "v"), ("a b", "v"), ("a", "v\r\nevil: 1"), ("a", "v\0"), ("a:", "v")]
)
def test_forbidden_headers(name, value) -> None:
    """Upper case, odd names, and line ends in values are called malformed (they would be headers of their own further on)."""
    assert HeaderDecoder().decode(encode(name, value), 10_000).malformed
