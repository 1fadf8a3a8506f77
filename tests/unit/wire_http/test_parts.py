"""The pure parts of the wire: heads, decoders and fields, without a socket."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dapr_shared.wire.http.fields import FieldError, Fields, request_head
from dapr_shared.wire.http.framing import ChunkedDecoder, EndlessDecoder, FramingError, LengthDecoder
from dapr_shared.wire.http.head import HeadError, RequestHead, RequestHeads, ResponseHead, ResponseHeads, hopeless
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.outgoing import write_chunk, write_whole

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes in pieces."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges) if start < stop]


def decode(pieces: list[bytes], trailer_bytes: int = 4096) -> tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder(trailer_bytes)
    body = b""
    for number, piece in enumerate(pieces):
        body += decoder.feed(piece)
        if decoder.done:
            return body, True, decoder.rest + b"".join(pieces[number + 1 :])
    return body, False, b""


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";a", b";a=b;c", b';q="x y"']),
    st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC:\r\n"]),
    st.binary(max_size=20),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_chunks_do_not_depend_on_the_network(chunks, extension, trailers, rest, places):
    """However the stream is cut, the body and the place of its end are the same."""
    stream = (
        b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    )
    expected = b"".join(chunks), True, rest
    assert decode([stream + rest]) == expected
    assert decode(cut(stream + rest, places)) == expected
    assert decode([bytes((byte,)) for byte in stream + rest]) == expected


class Events:
    def __init__(self):
        self.body = b""
        self.done = False

    def on_body(self, data):
        self.body += data

    def on_message_complete(self):
        self.done = True


@given(
    st.lists(
        st.sampled_from(
            [
                b"0\r\n",
                b"\r\n",
                b"1\r\n",
                b"a\r\n",
                b"x",
                b"\n",
                b"\r",
                b"5\r\nhello\r\n",
                b";e",
                b" ",
                b"A: b\r\n",
                b"\x00",
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_nothing_is_taken_that_llhttp_refuses(stream):
    """A body that our decoder takes to its end is the same body, with the same end, for llhttp's strict mode."""
    theirs = Events()
    parser = httptools.HttpRequestParser(theirs)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        ours = decode([stream])
    except FramingError:
        return
    if ours[1]:
        parser.feed_data(stream[: len(stream) - len(ours[2])])
        assert (theirs.body, theirs.done) == ours[:2]


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=4), st.integers(1, 50))
def test_lengths_do_not_depend_on_the_network(data, places, length):
    """A body of a known length takes exactly that many bytes."""
    decoder = LengthDecoder(length)
    body = b""
    rest = b""
    for piece in cut(data, places):
        if decoder.done:
            rest += piece
        else:
            body += decoder.feed(piece)
            rest += decoder.rest
    assert (body, rest) == (data[:length], data[length:])
    assert decoder.done == (len(data) >= length)
    assert decoder.announced == max(0, length - len(data))


def test_an_endless_body_never_ends():
    """A body that ends with its connection has no other end."""
    decoder = EndlessDecoder()
    assert decoder.feed(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert (decoder.done, decoder.announced, decoder.rest) == (False, 0, b"")


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_a_head(data):
    """Whatever bytes end in an empty line are a head or raise HeadError with a status, nothing else."""
    for kind in (RequestHead, ResponseHead):
        try:
            head = kind(data + b"\r\n\r\n")
        except HeadError as refused:
            status = refused.status
        else:
            status = 400 if isinstance(head.headers, list) else 0
        assert 400 <= status <= 505


@given(
    st.lists(
        st.sampled_from(
            [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host: a", b":", b"\t", b"\n", b"Content-Length: 1", b"A"]
        ),
        max_size=20,
    )
)
def test_a_head_that_is_taken_says_what_stands_there(parts):
    """Each line of an accepted head is accounted for: one header a line, no more and no fewer."""
    raw = b"".join(parts) + b"\r\n\r\n"
    try:
        head = RequestHead(raw)
    except HeadError:
        return
    lines = raw.rstrip(b"\r\n").split(b"\r\n")
    assert raw.startswith(b"%b %b HTTP/1.1\r\n" % (head.method.encode(), head.target))
    assert len(head.headers) == len(lines) - 1
    for line, (name, value) in zip(lines[1:], head.headers, strict=True):
        assert line.lower().startswith(name + b":")
        assert line.partition(b":")[2].strip(b" \t") == value


@pytest.mark.parametrize(
    ("data", "is_hopeless"),
    [(b"GET", False), (b"a\r", False), (b"a\r\nb", False), (b"a\n", True), (b"a\rb", True), (b"\0", True)],
)
def test_hopeless_beginnings(data, is_hopeless):
    """A head that holds bare CR or LF or NUL is refused before its end has come, wherever it is cut."""
    assert hopeless(data) == is_hopeless
    assert hopeless(data, len(data) - 1) == is_hopeless


def test_framing_of_a_head():
    """A head knows its length, its coding and whether its connection is kept."""
    head = RequestHead(HEAD)
    assert (head.content_length, head.chunked, head.keep_alive, head.expect_continue) == (5, False, True, False)
    assert RequestHead(HEAD.replace(b"Host", b"Expect: 100-Continue\r\nHost")).expect_continue


@given(
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4),
    st.text(max_size=6),
    st.binary(max_size=12),
)
def test_what_is_written_is_what_was_meant(headers, method, target):
    """Whatever the headers, a head that is written parses back to exactly them, or FieldError is raised."""
    try:
        raw = request_head(method, target, headers, b"host: a\r\n", b"")
    except FieldError:
        return
    assert raw.count(b"\r\n\r\n") == 1
    assert raw.endswith(b"\r\n\r\n")
    lines = raw[:-4].split(b"\r\n")
    kept = [(name, value) for name, value in headers if name.lower() not in {b"te", b"content-length"}]
    assert lines[0] == method.encode() + b" " + target + b" HTTP/1.1"
    assert lines[-len(kept) :] == [name + b": " + value for name, value in kept] or not kept


def test_fields_know_what_frames():
    """Connection headers are left out, the length is noted, dates and hosts are seen."""
    fields = Fields.of(
        [(b"Connection", b"x"), (b"Content-Length", b"3"), (b"Date", b"d"), (b"HOST", b"h"), (b"a", b"b")]
    )
    assert (fields.length, fields.dated, fields.hosted) == (b"3", True, True)
    assert fields.block() == b"Date: d\r\nHOST: h\r\na: b\r\n"


def test_many_names_are_not_kept_for_ever():
    """The caches of header names and hosts are bounded."""
    from dapr_shared.wire.http import fields, head

    for number in range(3000):
        Fields.of([(b"x-%d" % number, b"")]).block()
        RequestHead(b"GET / HTTP/1.1\r\nHost: h%d\r\nX-%d: y\r\n\r\n" % (number, number))
    assert max(len(fields._kinds), len(head._names), len(head._good_hosts)) <= 1024


def test_the_defaults_are_daprs():
    """4 KiB of headers and 4 MiB of body, as daprd's flags say."""
    assert (ServerLimits().header_bytes, ServerLimits().body_bytes) == (4096, 4 * 1024 * 1024)


# What leaves ---------------------------------------------------------------------------------------------------------


class _Transport(asyncio.WriteTransport):
    """Keeps what is written; knows no `writelines`, which does not hold the writer back on every Python."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data

    def writelines(self, list_of_data):
        raise AssertionError("writelines")


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 100_000])
def test_chunks_and_whole_bodies_of_any_length(size):
    """What is joined and what is not looks the same on the wire."""
    body = b"x" * size
    chunked, whole = _Transport(), _Transport()
    write_chunk(chunked, body)
    assert chunked.written == b"%x\r\n" % size + body + b"\r\n"
    write_whole(whole, b"head", body)
    write_whole(whole, b"head", b"")
    assert whole.written == b"head" + body + b"head"


def _meaning(read, raw: bytes) -> object:
    """Everything that a head says, or the status of its refusal."""
    try:
        head = read(raw)
    except HeadError as error:
        return error.status
    return [getattr(head, name) for name in (*_ALL, *(_OF_REQUESTS if hasattr(head, "method") else ("status",)))]


_ALL = ("headers", "content_length", "chunked", "keep_alive")
_OF_REQUESTS = ("method", "target", "version", "expect_continue")
_LINES = st.builds(
    lambda method, target, version: b"%b %b HTTP/%b\r\n" % (method, target, version),
    st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"FOO", b"PRI"]),
    st.one_of(
        st.sampled_from([b"/", b"*", b"http://h/a", b"h:1", b"/a#b", b"", b"//", b"/a b"]),
        st.lists(st.integers(0x20, 0xFF), max_size=12).map(lambda codes: b"/" + bytes(codes)),
    ),
    st.sampled_from([b"1.1", b"1.1", b"1.0", b"2.0", b"1.11"]),
)
_FIELDS = st.sampled_from(
    [
        b"Host: h\r\n", b"host:h2\r\n", b"Content-Length: 3\r\n", b"Content-Length: 03\r\n", b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n",
        b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"X : y\r\n", b"X: a\nb\r\n", b" folded\r\n", b"X: \x00\r\n",
    ]
)  # fmt: skip


@given(st.lists(_FIELDS, max_size=5), st.lists(_LINES, min_size=2, max_size=6))
@example(
    [b"Host: h\r\n"],
    [b"GET /a HTTP/1.1\r\n", b"GET /a#b HTTP/1.1\r\n", b"HEAD /a HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n"],
)
def test_a_head_that_is_remembered_means_what_it_would_mean_anew(fields, lines):
    """Whatever came before on the connection, a head is read, or refused, as if it were the first."""
    heads = RequestHeads()
    for line in [*lines, *lines]:
        raw = line + b"".join(fields) + b"\r\n"
        assert _meaning(heads.read, raw) == _meaning(RequestHead, raw)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"200 OK", b"204 x", b"101 y", b"99 z", b"20 a"]), st.lists(_FIELDS, max_size=4)),
        max_size=6,
    )
)
def test_an_answer_that_is_remembered_means_what_it_would_mean_anew(answers):
    """The same for answers of apps."""
    heads = ResponseHeads()
    for status, fields in [*answers, *answers]:
        raw = b"HTTP/1.1 " + status + b"\r\n" + b"".join(fields) + b"\r\n"
        assert _meaning(heads.read, raw) == _meaning(ResponseHead, raw)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_is_done_to_one_head_is_not_done_to_the_next(method):
    """Who changes the headers of a request changes no other's; and no connection remembers heads without end."""
    heads = RequestHeads()
    raw = method + b" / HTTP/1.1\r\nHost: h\r\n\r\n"
    heads.read(raw).headers.append((b"x", b"y"))
    heads.read(raw).headers.append((b"x", b"y"))
    assert heads.read(raw).headers == [(b"host", b"h")]
    for number in range(100):
        heads.read(method + b" / HTTP/1.1\r\nHost: h\r\nX: %d\r\n\r\n" % number)
    assert len(heads._known) <= 16
    assert len(heads._whole) <= 16
    heads.read(method + b" / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"y" * 3000))
    assert max(map(len, [*heads._known, *heads._whole])) < 3000
