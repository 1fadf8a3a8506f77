"""Answers that are odd: refused, or delivered and the connection never used again. One answer for one request."""

from __future__ import annotations

import pytest

from dapr_shared.wire.http.client import (
    ClientLimits,
    ConnectionLostError,
    ResponseProtocolError,
    ResponseTooLargeError,
)
from dapr_shared.wire.http.messages import BodyError
from tests.support.http_peers import Origin, origin, read_request

OK = b"HTTP/1.1 200 OK\r\n"
CL5 = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

REFUSED = {
    "length and chunked": OK + CL5 + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked and length": OK + CHUNKED + CL5 + b"\r\n0\r\n\r\n",
    "two lengths": OK + CL5 + b"Content-Length: 6\r\n\r\nhello!",
    "the same length twice": OK + CL5 + CL5 + b"\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "length that is no number": OK + b"Content-Length: five\r\n\r\nhello",
    "empty length": OK + b"Content-Length:\r\n\r\nhello",
    "length past 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "coding in a list": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding that is unknown": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "coding twice": OK + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "coding like chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding under HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "folded line": OK + b"X: y\r\n Content-Length: 5\r\n\r\nhello",
    "bare LF": OK + b"X: y\nContent-Length: 5\r\n\r\nhello",
    "only bare LFs": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "bare CR": OK + b"X: y\rz\r\n\r\n",
    "NUL in a value": OK + b"X: y\0z\r\n\r\n",
    "NUL in the status line": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "no colon": OK + b"X\r\n\r\n",
    "no name": OK + b": x\r\n\r\n",
    "version 0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "version 2": b"HTTP/2.0 200 OK\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "two-digit status": b"HTTP/1.1 20 OK\r\n\r\n",
    "four-digit status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x46",
    "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "empty lines before": b"\r\n\r\n" + OK + CL5 + b"\r\nhello",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "a flood of interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK + CL5 + b"\r\nhello",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_answer_that_can_be_read_in_two_ways_is_refused(name, client_of):
    """An ambiguous or malformed answer raises ResponseProtocolError, and its connection is gone."""
    async with origin(REFUSED[name]) as app, client_of(app) as client:
        for _ in range(2):
            with pytest.raises(ResponseProtocolError):
                await client.request("GET", b"/", [], timeout=5)
        assert client.idle_connections == 0
        assert app.connections == 2


ODD = {
    "surplus bytes": ("GET", OK + CL5 + b"\r\nhello" + POISON, b"hello"),
    "surplus line end": ("GET", OK + CL5 + b"\r\nhello\r\n", b"hello"),
    "surplus after chunks": ("GET", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n" + POISON, b"hello"),
    "surplus after nothing": ("GET", OK + b"Content-Length: 0\r\n\r\n" + POISON, b""),
    "HEAD that announces a body": ("HEAD", OK + CL5 + b"\r\n", b""),
    "HEAD with a body": ("HEAD", OK + CL5 + b"\r\nhello", b""),
    "HEAD that announces chunks": ("HEAD", OK + CHUNKED + b"\r\n", b""),
    "HEAD with chunks": ("HEAD", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", b""),
    "204 that announces a body": ("GET", b"HTTP/1.1 204 No Content\r\n" + CL5 + b"\r\n", b""),
    "204 with a body": ("GET", b"HTTP/1.1 204 No Content\r\n" + CL5 + b"\r\nhello", b""),
    "204 with a body unannounced": ("GET", b"HTTP/1.1 204 No Content\r\n\r\nhello", b""),
    "204 with chunks": ("GET", b"HTTP/1.1 204 No Content\r\n" + CHUNKED + b"\r\n0\r\n\r\n", b""),
    "304 that announces a body": ("GET", b"HTTP/1.1 304 Not Modified\r\n" + CL5 + b"\r\n", b""),
    "304 with a body": ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\nhello", b""),
    "connection: close": ("GET", OK + b"Connection: close\r\n" + CL5 + b"\r\nhello", b"hello"),
    "connection: x, CLOSE": ("GET", OK + b"Connection: x, CLOSE\r\n" + CL5 + b"\r\nhello", b"hello"),
    "close and keep-alive": ("GET", OK + b"Connection: keep-alive\r\nConnection: close\r\n" + CL5 + b"\r\nhello", b"hello"),
    "HTTP/1.0": ("GET", b"HTTP/1.0 200 OK\r\n" + CL5 + b"\r\nhello", b"hello"),
    "an upgrade that was not asked for": (
        "GET", OK + b"Upgrade: h2c\r\nConnection: Upgrade, close\r\n" + CL5 + b"\r\nhello", b"hello",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_is_delivered_and_its_connection_dropped(name, client_of):
    """The answer counts; a connection that may hold surplus bytes, or is to be closed, serves no further request."""
    method, raw, body = ODD[name]
    async with origin(raw) as app, client_of(app) as client:
        for number in range(1, 4):
            answer = await client.request(method, b"/", [], timeout=5)
            got = answer.body if isinstance(answer.body, bytes) else await answer.body.read(100)
            assert got == body
            assert client.idle_connections == 0
            assert app.connections == number


CLEAN = {
    "a length": ("GET", OK + CL5 + b"\r\nhello", b"hello"),
    "an empty body": ("GET", OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": ("GET", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks with extensions and trailers": ("GET", OK + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
    "no content": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
    "HEAD of nothing": ("HEAD", OK + b"Content-Length: 0\r\n\r\n", b""),
    "HTTP/1.0 that is kept": ("GET", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + CL5 + b"\r\nhello", b"hello"),
    "interim answers": ("POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + CL5 + b"\r\nhello", b"hello"),
    "no reason phrase": ("GET", b"HTTP/1.1 200\r\n" + CL5 + b"\r\nhello", b"hello"),
    "an unknown status": ("GET", b"HTTP/1.1 799 Odd\r\n" + CL5 + b"\r\nhello", b"hello"),
    "an upgrade offered": ("GET", OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + CL5 + b"\r\nhello", b"hello"),
    "a redirect is an answer": ("GET", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", b""),
    "high bytes in a value": ("GET", OK + b"X: caf\xe9\r\n" + CL5 + b"\r\nhello", b"hello"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
async def test_a_clean_answer_keeps_its_connection(name, client_of):
    """An answer that leaves no doubt is delivered, and its connection carries the next request."""
    method, raw, body = CLEAN[name]
    async with origin(raw) as app, client_of(app) as client:
        for _ in range(3):
            answer = await client.request(method, b"/", [], timeout=5)
            got = answer.body if isinstance(answer.body, bytes) else await answer.body.read(100)
            assert got == body
        assert client.idle_connections == 1
        assert app.connections == 1
    assert len(app.requests) == 3


async def test_unsolicited_bytes_end_an_idle_connection(client_of):
    """Bytes on a connection without a request are nobody's answer: the next request gets a fresh connection."""
    seen = Origin()

    async def script(reader, writer):
        await read_request(reader, seen)
        writer.write(OK + CL5 + b"\r\nhello")
        await writer.drain()
        writer.write(POISON)
        await reader.read()

    from tests.support.http_peers import until

    async with origin(script) as app, client_of(app) as client:
        assert (await client.request("GET", b"/", [])).body == b"hello"
        await until(lambda: not client.connections)
        assert (await client.request("GET", b"/", [])).body == b"hello"
        assert app.connections == 2


CUT = {
    "before the head": (b"", ConnectionLostError),
    "in the head": (OK + b"Content-", ConnectionLostError),
    "in a small body": (OK + CL5 + b"\r\nhel", ConnectionLostError),
    "after an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLostError),
    "in a large body": (OK + b"Content-Length: 100000\r\n\r\nhello", BodyError),
    "in a chunk": (OK + CHUNKED + b"\r\n5\r\nhel", BodyError),
    "between chunks": (OK + CHUNKED + b"\r\n5\r\nhello\r\n", BodyError),
    "before the last line": (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", BodyError),
    "by a malformed chunk": (OK + CHUNKED + b"\r\n5\r\nhello\r\nx\r\n", BodyError),
    "by a chunk of 64 bits": (OK + CHUNKED + b"\r\nffffffffffffffff\r\nhello\r\n", BodyError),
}


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_off_answer_is_never_taken_for_a_whole_one(name, client_of):
    """An answer that ends early raises, at the request or, once its body is a stream, at the reader."""
    raw, error = CUT[name]
    async with origin(raw, close=True) as app, client_of(app) as client:
        with pytest.raises(error):
            await (await client.request("POST", b"/", [], b"x", timeout=5)).body.read(10**9)
        assert client.idle_connections == 0


LARGE = {
    "head": (ClientLimits(header_bytes=100), OK + b"X: " + b"y" * 100 + b"\r\n\r\n"),
    "head without end": (ClientLimits(header_bytes=100), OK + b"X: " + b"y" * 100),
    "announced body": (ClientLimits(body_bytes=4), OK + CL5 + b"\r\nhello"),
    "announced large body": (ClientLimits(body_bytes=10**5), OK + b"Content-Length: 100001\r\n\r\nhello"),
}


@pytest.mark.parametrize("name", LARGE)
async def test_an_answer_over_the_limit_is_refused(name, client_of):
    """An answer whose head or announced body is too long raises ResponseTooLargeError."""
    limits, raw = LARGE[name]
    async with origin(raw) as app, client_of(app, limits=limits) as client:
        with pytest.raises(ResponseTooLargeError):
            await client.request("GET", b"/", [], timeout=5)
        assert client.idle_connections == 0


@pytest.mark.parametrize("framing", [CHUNKED + b"\r\n8\r\ntoo long\r\n0\r\n\r\n", b"\r\ntoo long"])
async def test_an_unannounced_body_over_the_limit_is_broken_off(framing, client_of):
    """A body that turns out too long fails its reader."""
    async with origin(OK + framing, close=True) as app, client_of(app, limits=ClientLimits(body_bytes=7)) as client:
        answer = await client.request("GET", b"/", [])
        with pytest.raises(BodyError, match="longer than 7"):
            await answer.body.read(100)
