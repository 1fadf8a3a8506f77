"""Requests that two parsers could read in two ways: each is answered once, nothing behind it is parsed."""

from __future__ import annotations

import pytest

from tests.support.http_peers import connected

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def request(*headers: bytes, line: bytes = b"POST / HTTP/1.1", host: bool = True, body: bytes = b"") -> bytes:
    fields = ((b"Host: a",) if host else ()) + headers
    return b"\r\n".join((line, *fields, b"", b"")) + body


CL5 = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"

REFUSED = {
    "length and chunked": (400, request(CL5, CHUNKED, body=b"0\r\n\r\n")),
    "chunked and length": (400, request(CHUNKED, CL5, body=b"0\r\n\r\n")),
    "two lengths": (400, request(CL5, b"Content-Length: 6", body=b"hello")),
    "the same length twice": (400, request(CL5, CL5, body=b"hello")),
    "a list of lengths": (400, request(b"Content-Length: 5, 5", body=b"hello")),
    "negative length": (400, request(b"Content-Length: -5", body=b"hello")),
    "signed length": (400, request(b"Content-Length: +5", body=b"hello")),
    "hexadecimal length": (400, request(b"Content-Length: 0x5", body=b"hello")),
    "length with a space": (400, request(b"Content-Length: 5 5", body=b"hello")),
    "length with an underscore": (400, request(b"Content-Length: 1_0", body=b"hello")),
    "empty length": (400, request(b"Content-Length:", body=b"hello")),
    "length past 64 bits": (400, request(b"Content-Length: 99999999999999999999", body=b"hello")),
    "length past 18 digits": (400, request(b"Content-Length: 9999999999999999999", body=b"hello")),
    "length of other digits": (400, request(b"Content-Length: \xb2\xb2", body=b"hello")),
    "length name with a space": (400, request(b"Content-Length : 5", body=b"hello")),
    "length name with a tab": (400, request(b"Content-Length\t: 5", body=b"hello")),
    "length in a folded line": (400, request(b"X: y\r\n Content-Length: 5", body=b"hello")),
    "folded by a tab": (400, request(b"X: y\r\n\tz")),
    "first header begins with a space": (400, request(b" X: y", host=False)),
    "coding twice": (400, request(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    "coding twice, once unknown": (400, request(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "coding in a list": (501, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "chunked in a list with itself": (400, request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunked not last": (400, request(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "coding like chunked": (400, request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "coding with a vertical tab": (400, request(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "coding in quotes": (400, request(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "coding with a parameter": (400, request(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "empty coding": (400, request(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "coding name with a space": (400, request(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "coding under HTTP/1.0": (400, request(CHUNKED, line=b"POST / HTTP/1.0", body=b"0\r\n\r\n")),
    "no host": (400, request(host=False, line=b"GET / HTTP/1.1")),
    "two hosts": (400, request(b"Host: b", line=b"GET / HTTP/1.1")),
    "the same host twice": (400, request(b"Host: a", line=b"GET / HTTP/1.1")),
    "host with a space": (400, request(b"Host: a b", host=False, line=b"GET / HTTP/1.1")),
    "host with a path": (400, request(b"Host: a/b", host=False, line=b"GET / HTTP/1.1")),
    "host with a user": (400, request(b"Host: u@a", host=False, line=b"GET / HTTP/1.1")),
    "host with a bad port": (400, request(b"Host: a:b", host=False, line=b"GET / HTTP/1.1")),
    "host list": (400, request(b"Host: a, b\\c", host=False, line=b"GET / HTTP/1.1")),
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF between headers": (400, request(b"X: y\nZ: w", line=b"GET / HTTP/1.1")),
    "only bare LFs": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: a\n\n"),
    "bare CR in a value": (400, request(b"X: y\rZ: w", line=b"GET / HTTP/1.1")),
    "bare CR in the request line": (400, request(line=b"GET /\rx HTTP/1.1")),
    "NUL in a value": (400, request(b"X: y\x00z", line=b"GET / HTTP/1.1")),
    "control character in a value": (400, request(b"X: y\x01z", line=b"GET / HTTP/1.1")),
    "DEL in a value": (400, request(b"X: y\x7fz", line=b"GET / HTTP/1.1")),
    "NUL in a name": (400, request(b"X\x00: y", line=b"GET / HTTP/1.1")),
    "high byte in a name": (400, request(b"X\xff: y", line=b"GET / HTTP/1.1")),
    "no colon": (400, request(b"X", line=b"GET / HTTP/1.1")),
    "no name": (400, request(b": y", line=b"GET / HTTP/1.1")),
    "parenthesis in a name": (400, request(b"X(: y", line=b"GET / HTTP/1.1")),
    "control character in the target": (400, request(line=b"GET /\x01 HTTP/1.1")),
    "tab in the target": (400, request(line=b"GET /\tx HTTP/1.1")),
    "high byte in the target": (400, request(line=b"GET /\xff HTTP/1.1")),
    "space in the target": (400, request(line=b"GET /a b HTTP/1.1")),
    "two spaces before the target": (400, request(line=b"GET  / HTTP/1.1")),
    "space after the version": (400, request(line=b"GET / HTTP/1.1 ")),
    "fragment in the target": (400, request(line=b"GET /a#b HTTP/1.1")),
    "target without a slash": (400, request(line=b"GET a HTTP/1.1")),
    "asterisk for GET": (400, request(line=b"GET * HTTP/1.1")),
    "target of another scheme": (400, request(line=b"GET ftp://a/ HTTP/1.1")),
    "no target": (400, request(line=b"GET HTTP/1.1")),
    "no version": (400, b"GET /\r\n\r\n"),
    "version 0.9": (505, request(line=b"GET / HTTP/0.9")),
    "version 1.2": (505, request(line=b"GET / HTTP/1.2")),
    "version 2.0": (505, request(line=b"GET / HTTP/2.0")),
    "version in two digits": (400, request(line=b"GET / HTTP/01.1")),
    "version in lower case": (400, request(line=b"GET / http/1.1")),
    "another protocol": (400, request(line=b"SOURCE / ICE/1.0")),
    "streaming protocol": (400, request(line=b"PLAY / RTSP/1.0")),
    "the HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "method in lower case": (501, request(line=b"get / HTTP/1.1")),
    "unknown method": (501, request(line=b"BREW / HTTP/1.1")),
    "CONNECT": (501, request(line=b"CONNECT a:443 HTTP/1.1")),
    "a TLS handshake": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a second empty line before the request": (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an unknown expectation": (417, request(b"Expect: a-pony", CL5, body=b"hello")),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_once_and_nothing_parsed_after_it(name, running, recorder):
    """An ambiguous or malformed request is answered once, with its status, and what stands behind it never runs."""
    status, raw = REFUSED[name]
    async with running(recorder) as server, connected(server.address) as peer:
        peer.send(raw + SMUGGLED)
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [status]
    assert answers[0].headers["connection"] == "close"
    assert recorder.seen == []


CHUNKS = {
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "size with a space after": b"5 \r\nhello\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "size past 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size near 64 bits": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "size with many zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
    "size ended by LF": b"5\nhello\r\n0\r\n\r\n",
    "size ended by CR": b"5\rhello\r\n0\r\n\r\n",
    "chunk longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "chunk ended by LF": b"5\r\nhello\n0\r\n\r\n",
    "chunk not ended": b"5\r\nhello0\r\n\r\n",
    "extension with LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "extension with CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension with NUL": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "extension without a semicolon": b"5 a=b\r\nhello\r\n0\r\n\r\n",
    "long extension": b"5;" + b"a" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
    "long size line that never ends": b"5;" + b"a" * 2000,
    "many extensions": (b"1;" + b"a" * 900 + b"\r\nx\r\n") * 40 + b"0\r\n\r\n",
    "trailer without a colon": b"0\r\nfoo\r\n\r\n",
    "trailer ended by LF": b"0\r\nA: b\n\r\n",
    "trailer with a space before the colon": b"0\r\nA : b\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "last chunk ended by LF": b"0\n\r\n",
    "long trailers": b"0\r\n" + (b"A: " + b"b" * 100 + b"\r\n") * 50 + b"\r\n",
    "one long trailer": b"0\r\nA: " + b"b" * 5000,
}


@pytest.mark.parametrize("name", CHUNKS)
async def test_malformed_chunks_are_answered_once(name, running, recorder):
    """A body in malformed chunks ends in one 400 and the end of the connection; what stands behind it never runs."""
    async with running(recorder) as server, connected(server.address) as peer:
        peer.send(request(CHUNKED, body=CHUNKS[name] + SMUGGLED))
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [400]
    assert recorder.seen == []


ACCEPTED = {
    "no body": (request(line=b"GET / HTTP/1.1"), b""),
    "a body": (request(CL5, body=b"hello"), b"hello"),
    "a length with leading zeros": (request(b"Content-Length: 005", body=b"hello"), b"hello"),
    "a length with white space around": (request(b"Content-Length: \t 5 \t", body=b"hello"), b"hello"),
    "chunks": (request(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "chunked in other letters": (request(b"TRANSFER-ENCODING: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "an extension": (request(CHUNKED, body=b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n'), b"hello"),
    "trailers": (request(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n"), b"hello"),
    "an upgrade without a body": (request(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.1"), b""),
    "an upgrade to h2c with a body": (request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", CL5, body=b"hello"), b"hello"),
    "an upgrade to h2c with chunks": (
        request(b"Connection: Upgrade", b"Upgrade: h2c", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello",
    ),
    "a body for GET": (request(CL5, line=b"GET / HTTP/1.1", body=b"hello"), b"hello"),
    "a body for DELETE": (request(CL5, line=b"DELETE / HTTP/1.1", body=b"hello"), b"hello"),
    "an empty line before": (b"\r\n" + request(CL5, body=b"hello"), b"hello"),
    "a full URL": (request(line=b"GET http://b/x HTTP/1.1"), b""),
    "an asterisk for OPTIONS": (request(line=b"OPTIONS * HTTP/1.1"), b""),
    "an empty host": (request(b"Host:", host=False, line=b"GET / HTTP/1.1"), b""),
    "an IPv6 host": (request(b"Host: [::1]:3500", host=False, line=b"GET / HTTP/1.1"), b""),
    "an empty value": (request(b"X:", line=b"GET / HTTP/1.1"), b""),
    "high bytes in a value": (request(b"X: caf\xc3\xa9", line=b"GET / HTTP/1.1"), b""),
    "a body that looks like a request": (request(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), SMUGGLED),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_is_clear_is_taken_and_the_next_request_is_the_next(name, running, recorder):
    """A request that can be read in one way only is answered, and the bytes behind it are the next request."""
    raw, body = ACCEPTED[name]
    last = request(b"Connection: close", line=b"GET /last HTTP/1.1")
    async with running(recorder) as server, connected(server.address) as peer:
        peer.send(raw + last)
        answers = await peer.answers()
    assert [answer.status for answer in answers] == [200, 200]
    assert [seen[2] for seen in recorder.seen] == [body, b""]
    assert recorder.seen[1][1] == b"/last"


@pytest.mark.parametrize(
    "raw",
    [
        request(b"Connection: close", line=b"GET / HTTP/1.1"),
        request(b"Connection: x, Close", line=b"GET / HTTP/1.1"),
        request(line=b"GET / HTTP/1.0"),
    ],
)
async def test_nothing_is_parsed_after_the_last_request(raw, running, recorder):
    """What follows a request that ends its connection is not a request any more."""
    async with running(recorder) as server, connected(server.address) as peer:
        peer.send(raw + SMUGGLED)
        answers = await peer.answers()
    assert len(answers) == 1
    assert len(recorder.seen) == 1
