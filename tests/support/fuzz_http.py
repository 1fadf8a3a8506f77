"""HTTP requests that are nearly right, as bytes, and how an attacker sends them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.support.fuzz_instance import PATIENCE
from tests.support.inprocess import ORDERS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"QUERY",
    b"get",
    b"",
)
_TEMPLATES = (
    b"/v1.0/state/{}", b"/v1.0/state/{}/{}", b"/v1.0/state/{}/bulk", b"/v1.0/state/{}/transaction",
    b"/v1.0-alpha1/state/{}/query", b"/v1.0/secrets/{}/{}", b"/v1.0/secrets/{}/bulk", b"/v1.0/metadata",
    b"/v1.0/metadata/{}", b"/v1.0/healthz", b"/v1.0/healthz/outbound", b"/v1.0/shutdown",
    b"/v1.0/invoke/{}/method/{}", b"/v1.0/invoke/{}/method/{}/{}", b"/v1.0/invoke/{}/method", b"/{}/{}", b"/{}", b"*",
    b"{}", b"http://127.0.0.1/{}", b"/v1.0/publish/{}/{}", b"/v1.0//state/./{}/../{}",
)  # fmt: skip
_SEGMENTS = (
    b"memory", b"mine", b"vault", b"mine-vault", b"stock", b"orders", b"k", b"a", b"stock||k", b"stock%7C%7Ck",
    b"stock%7c|k", b"%73tock", b"stock.default", b"stock.", b".stock", b"..", b".", b"%2e%2e", b"%2E%2e%2f", b"%00",
    b"%ff", b"%c0%ae", b"%", b"%2", b"%zz", b"+", b"%20", b"%0d%0aX:1", b"%ed%a0%80", b"\xc3\xbc", b"\xff", b"|", b"\\",
    b"hidden", b"HIDDEN", b"%68idden", b"open", b"stock-app-token", b"bulk", b"metadata", b"a" * 300, b"",
    b"http://127.0.0.1:1", b"http:%2F%2F127.0.0.1:1", b"http:/127.0.0.1:1", b"https://[", b"http://[::1", b"http://a:b",
    b"http://x:99999999", b"ftp://x", b"a.b.c", b"method", b";a=b", b"k;x", b"~", b"'\"<>", b"%e2%80%ae", b"note",
)  # fmt: skip
_QUERIES = (
    b"", b"?", b"?metadata.ttlInSeconds=1", b"?metadata.ttlInSeconds=x", b"?metadata.=&metadata.a", b"?consistency=strong",
    b"?concurrency=%ff", b"?a=%zz", b"?" + b"&".join([b"a"] * 1100), b"?\xff", b"?a=b?c=d", b"?appid=stock", b"??", b"?%",
    b"?metadata.keyPrefix=none", b"?metadata.contentType=a%0d%0ab", b"?metadata.\xc3\xbc=1",
)  # fmt: skip
_BASIC = base64.b64encode(b"dapr-app-id:stock")
_HEADERS = (
    (b"dapr-api-token", ORDERS.encode()), (b"Dapr-Api-Token", ORDERS.encode()), (b"dapr-api-token", b""),
    (b"dapr-api-token", b"\xff"), (b"dapr-api-token", b"stock"), (b"dapr-app-id", b"stock"), (b"dapr-app-id", b""),
    (b"dapr-app-id", b"\xff"), (b"dapr-app-id", b"http://127.0.0.1:1"), (b"dapr-app-id", b"http://["),
    (b"dapr-caller-app-id", b"stock"), (b"dapr_app_id", b"stock"), (b"authorization", b"Basic " + _BASIC),
    (b"authorization", b"basic ZZZ"), (b"authorization", b"Bearer x"), (b"host", b"b"), (b"host", b""), (b"host", b"a b"),
    (b"content-length", b"0"), (b"content-length", b"5"), (b"content-length", b"+5"), (b"content-length", b"-1"),
    (b"content-length", b"0x5"), (b"content-length", b"9" * 30), (b"content-length", b"5, 5"),
    (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity"), (b"transfer-encoding", b"chunked, gzip"),
    (b"Transfer-Encoding", b"\x0bchunked"), (b"transfer-encoding ", b"chunked"), (b"connection", b"close"),
    (b"connection", b"dapr-api-token, keep-alive"), (b"connection", b"upgrade"), (b"upgrade", b"h2c"),
    (b"upgrade", b"websocket"), (b"expect", b"100-continue"), (b"expect", b"x"), (b"te", b"trailers"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), (b"traceparent", b"x"),
    (b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"), (b"tracestate", b"a=b,\xff"), (b"baggage", b"\xff"),
    (b"baggage", b"a=b;c"), (b"baggage", b"=,;"), (b"content-type", b"application/grpc"), (b"if-match", b'"1"'),
    (b"if-match", b"\xff"), (b"dapr-force-shutdown", b"true"), (b"x" * 200, b"y" * 200), (b"a", b"b" * 5000),
    (b"x-bin", b"***"), (b"grpc-timeout", b"1S"), (b":path", b"/x"), (b"", b"x"), (b"x", b"\x00"), (b"x", b"a\rb"),
    (b"x", b"a\nb: c"), (b"user-agent", b"\xff\x00"), (b"accept-encoding", b"gzip"), (b"x y", b"z"), (b"cookie", b"a" * 100),
)  # fmt: skip
_BODIES = (
    b"", b"[]", b"{}", b"null", b"[null]", b'[{"key":"k","value":1}]', b'[{"key":"k","value":1,"etag":"1"}]',
    b'[{"key":"k"},{"key":"","value":2}]', b'[{"key":"stock||k","value":1}]', b'[{"key":"k","value":"\\ud800"}]',
    b'[{"key":"\\ud800"}]', b'[{"key":"k\\u0000","value":"\xff"}]', b'{"keys":["k","stock||k"],"parallelism":-1}',
    b'{"keys":["k"],"parallelism":99999999999999999999}', b'{"keys":["k","k","a"],"metadata":{"a":"b"}}',
    b'{"operations":[{"operation":"upsert","request":{"key":"k","value":[]}},{"operation":"delete","request":{"key":"k"}}]}',
    b'{"operations":[{"operation":"x"}],"metadata":null}', b'{"operations":null}', b'{"filter":{}}', b"[" * 2000,
    b'[{"key":"k","value":' + b"[" * 1500 + b"]" * 1500 + b"}]", b'{"a":' * 2000, b"\xff\xfe", b"\xef\xbb\xbf[]", b"x" * 70_000,
    b'[{"key":"k","value":1,"metadata":{"ttlInSeconds":"99999999999999999999"}}]', b'[{"key":1}]', b"1e999",
    b'[{"key":"k","value":1,"options":{"concurrency":"first-write","consistency":"x"}}]',
)  # fmt: skip
_FRAMINGS = ("length", "length", "length", "chunked", "chunks", "none", "short", "long", "bad-chunks")


def _fill(template: bytes, segments: list[bytes]) -> bytes:
    filled = template
    for segment in segments:
        filled = filled.replace(b"{}", segment, 1)
    return filled


_segment = st.one_of(st.sampled_from(_SEGMENTS), st.binary(max_size=6))
_targets = st.builds(
    lambda template, segments, query: _fill(template, segments) + query,
    st.sampled_from(_TEMPLATES),
    st.lists(_segment, min_size=3, max_size=3),
    st.one_of(st.just(b""), st.sampled_from(_QUERIES)),
)
_header = st.one_of(
    st.sampled_from(_HEADERS),
    st.tuples(st.sampled_from([name for name, _ in _HEADERS]), st.binary(max_size=12)),
    st.tuples(st.binary(max_size=8), st.binary(max_size=8)),
)
_body = st.one_of(st.sampled_from(_BODIES), st.binary(max_size=40))


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _framed(framing: str, body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    size = len(body)
    if framing == "length":
        return [(b"content-length", b"%d" % size)], body
    if framing == "short":
        return [(b"content-length", b"%d" % max(size - 3, 0))], body
    if framing == "long":
        return [(b"content-length", b"%d" % (size + 3))], body
    if framing == "none":
        return [], body
    coded = {"chunked": _chunked(body, 100_000), "chunks": _chunked(body, 700)}.get(
        framing, b"5\r\n" + body + b"\r\n-1\r\n"
    )
    return [(b"transfer-encoding", b"chunked")], coded


def _build(method: bytes, target: bytes, token: bool, headers: list, framing: str, body: bytes, end: bytes) -> bytes:  # noqa: FBT001
    framing_headers, coded = _framed(framing, body)
    fields = [(b"host", b"x"), *([(b"dapr-api-token", ORDERS.encode())] if token else []), *headers, *framing_headers]
    lines = [b"%s %s %s" % (method, target, end), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + coded


_versions = st.sampled_from([b"HTTP/1.1"] * 20 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b""])
near_requests = st.builds(
    _build,
    st.one_of(st.sampled_from(_METHODS[:4]), st.sampled_from(_METHODS)),
    _targets,
    st.sampled_from([True, True, True, False]),
    st.lists(_header, max_size=2),
    st.sampled_from(_FRAMINGS),
    _body,
    _versions,
)
"""Requests of the right form, with wrong parts."""


def _damage(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, put in edits:
        at = int(where * len(data))
        data = data[:at] + put + data[at + length :]
    return data


_edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 4),
        st.one_of(
            st.binary(max_size=4), st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b":", b"\x80"])
        ),
    ),
    min_size=1,
    max_size=3,
)
damaged_requests = st.builds(_damage, near_requests, _edits)
"""The same with bytes changed, lost and added."""

garbage: SearchStrategy[bytes] = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.builds(lambda start, rest: start + rest, st.sampled_from([b"GET ", b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\n"]), st.binary(max_size=80)),
)  # fmt: skip
"""Bytes that need not be HTTP."""

_head = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n")
_length = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


async def attack(address: str, data: bytes) -> bytes:
    """Send the bytes; what came back until an answer was whole or the server hung up. `TimeoutError`: neither."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            async with asyncio.timeout(PATIENCE):
                while not _complete(received):
                    piece = await reader.read(65536)
                    if not piece:
                        break
                    received += piece
    finally:
        writer.transport.abort()
    if received:
        assert _head.match(received), f"no HTTP answer: {received[:80]!r}"
    return received


def _complete(data: bytes) -> bool:
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            return False
        status = _head.match(head + b"\r\n")
        if status is None or status[1] != b"100":
            break
        data = body
    length = _length.search(head + b"\r\n")
    if length is not None:
        # The answer to a HEAD announces a body that does not come: a server that goes on will say more, or close.
        return len(body) >= int(length[1]) or b"connection: close" not in head.lower()
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    return status is None or status[1] in (b"204", b"304")
