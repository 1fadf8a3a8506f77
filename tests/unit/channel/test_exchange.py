"""Invocations as HTTP requests and answers: paths, queries and headers."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.channel.exchange import encode_method, end_to_end, request_target


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("", b"/"),
        ("orders", b"/orders"),
        ("a/b/c.d-e_f~g", b"/a/b/c.d-e_f~g"),
        ("a:b@c!$&'()*+,;=", b"/a:b@c!$&'()*+,;="),
        ("a b", b"/a%20b"),
        ("100%", b"/100%25"),
        ('<"|\\^`{}[]>', b"/%3C%22%7C%5C%5E%60%7B%7D%5B%5D%3E"),
        ("café/日本", b"/caf%C3%A9/%E6%97%A5%E6%9C%AC"),
        ("\udcff", b"/%FF"),
        ("what?#", b"/what%3F%23"),
    ],
)
def test_a_method_becomes_the_path_that_the_caller_wrote(method, target):
    """Unreserved characters, sub-delims, ':', '@' and '/' stay; all others are %XX in capitals."""
    assert encode_method(method) == target


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_method_can_be_decoded_again(method):
    """The app that decodes the path sees exactly the method, whatever its characters."""
    target = encode_method(method)
    assert unquote_to_bytes(target) == b"/" + method.encode()
    assert target.isascii()
    assert target.decode().isprintable()
    assert b" " not in target


@pytest.mark.parametrize(
    ("query", "target"),
    [
        (b"", b"/base/m"),
        (b"a=1&b=%20&c", b"/base/m?a=1&b=%20&c"),
        (b"a b\r\n#\xff", b"/base/m?a%20b%0D%0A%23%FF"),
    ],
)
def test_a_query_is_passed_on_as_it_is_but_for_what_cannot_be_sent(call, query, target):
    """The raw query follows the path; characters that no request line may hold are encoded."""
    assert request_target(b"/base", call(query=query)) == target


def test_headers_of_one_hop_stay_behind():
    """Hop-by-hop headers, content-length and what `connection` names are removed; the content type stands beside."""
    headers = [
        (b"content-type", b"a/b"),
        (b"x-kept", b"1"),
        (b"connection", b"close, X-Named"),
        (b"x-named", b"2"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"7"),
        (b"trailer", b"x"),
        (b"upgrade", b"h2c"),
        (b"proxy-authenticate", b"x"),
        (b"x-kept", b"3"),
        (b"content-type", b"c/d"),
    ]
    assert end_to_end(headers) == ([(b"x-kept", b"1"), (b"x-kept", b"3")], b"a/b")
