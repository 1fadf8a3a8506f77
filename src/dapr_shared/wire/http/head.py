"""Message heads: from the bytes up to the empty line to method, target, headers and framing, or to a refusal.

First step of the request road, and the answer's side of the delivery road. A head is parsed in one piece by a fresh
llhttp parser (httptools) that sees nothing else: where the body begins and ends is decided by our own framing, so that
the parser's own ideas of a body (`Upgrade`, HEAD, `connection: close`) cannot move the end of a message. Beyond llhttp's
strict mode the rules of RFC 9112 that it leaves open are checked here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

if TYPE_CHECKING:
    from dapr_shared.wire.http.messages import Headers

END_OF_HEAD: Final = b"\r\n\r\n"

_OWS: Final = b" \t"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(\d)\.(\d)\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-fvV:.%A-Za-z\-_~]+\])(?::[0-9]{0,5})?")
_HOPELESS = re.compile(rb"(?<!\r)\n|\r[^\n]|\x00")
_FRAMING_NAMES: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))

_CACHE_LIMIT: Final = 1024
_names: dict[bytes, tuple[bytes, bool]] = {}
"""Header names as sent -> (lower case, whether framing depends on it). Bounded; saves work, decides nothing."""
_good_hosts: set[bytes] = {b"localhost", b"127.0.0.1"}


class HeadError(Exception):
    """The head is refused. `status` is what a server answers; the connection cannot be used any further."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def hopeless(data: bytes, start: int = 0) -> bool:
    """Whether the beginning of a head can be refused without waiting for its end: bare CR or LF, or a NUL."""
    return _HOPELESS.search(data, max(0, start - 1)) is not None


def _learn(name: bytes) -> tuple[bytes, bool]:
    lower = name.lower()
    known = (lower, lower in _FRAMING_NAMES)
    if len(_names) < _CACHE_LIMIT:
        _names[name] = known
    return known


class _Head:
    """What requests and responses have in common; the instance is the parser's callback object."""

    __slots__ = ("_complete", "_framing", "chunked", "content_length", "headers")

    def __init__(self) -> None:
        self.headers: Headers = []
        """Names in lower case, in the order received."""
        self.content_length: int | None = None
        self.chunked = False
        self._framing: Headers = []
        self._complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header (httptools callback)."""
        known = _names.get(name) or _learn(name)
        header = (known[0], value.rstrip(_OWS))
        self.headers.append(header)
        if known[1]:
            self._framing.append(header)

    def on_headers_complete(self) -> None:
        """Note the end of the head (httptools callback)."""
        self._complete = True

    def _take_length(self, value: bytes) -> None:
        if self.content_length is not None or not value.isdigit() or len(value) > 18:
            raise HeadError(400, "invalid content-length")
        self.content_length = int(value)

    def _take_coding(self, value: bytes) -> None:
        if self.chunked:
            raise HeadError(400, "more than one transfer-encoding")
        if value.lower() != b"chunked":
            raise HeadError(501, "transfer-encoding other than chunked")
        self.chunked = True


def _has_token(value: bytes, token: bytes) -> bool:
    return any(part.strip(_OWS) == token for part in value.lower().split(b","))


class RequestHead(_Head):
    """The head of a request, from all its bytes including the empty line. Raises `HeadError`."""

    __slots__ = ("expect_continue", "keep_alive", "method", "target", "version")

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.target = b""
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(raw)
        except HttpParserUpgrade:
            pass  # CONNECT, or an upgrade that we do not follow: the rest of the connection stays HTTP/1.1
        except HttpParserError as error:
            raise _request_error(raw, str(error)) from None
        method = parser.get_method()
        if raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, self.target)):
            self.version = "1.1"
        elif raw.startswith(b"%b %b HTTP/1.0\r\n" % (method, self.target)):
            self.version = "1.0"
        else:
            raise _request_error(raw, "malformed request line")
        if not self._complete:
            raise HeadError(400, "malformed head")
        self.method = method.decode("ascii")
        self.expect_continue = False
        self.keep_alive = self.version == "1.1"
        self._check_target()
        self._check_framing()

    def again(self, method: str, target: bytes) -> RequestHead:
        """The same headers, in a list of their own, behind another request line."""
        head = RequestHead.__new__(RequestHead)
        head.headers = self.headers.copy()
        head.content_length = self.content_length
        head.chunked = self.chunked
        head.method, head.target, head.version = method, target, self.version
        head.expect_continue = self.expect_continue
        head.keep_alive = self.keep_alive
        return head

    def on_url(self, url: bytes) -> None:
        """Take the request target (httptools callback)."""
        self.target += url

    def _check_target(self) -> None:
        target = self.target
        if target.startswith(b"/"):
            if target.find(b"#") >= 0:
                raise HeadError(400, "fragment in the target")
        elif self.method == "CONNECT":
            raise HeadError(501, "CONNECT is not offered")
        elif target == b"*":
            if self.method != "OPTIONS":
                raise HeadError(400, "asterisk target")
        elif not target.lower().startswith((b"http://", b"https://")) or target.find(b"#") >= 0:
            raise HeadError(400, "malformed target")

    def _check_framing(self) -> None:
        host = False
        for name, value in self._framing:
            if name == b"host":
                if host or not _is_host(value):
                    raise HeadError(400, "invalid host")
                host = True
            elif name == b"connection":
                self._take_connection(value)
            elif name == b"content-length":
                self._take_length(value)
            elif name == b"transfer-encoding":
                self._take_coding(value)
            else:
                self._take_expect(value)
        if self.chunked and (self.content_length is not None or self.version == "1.0"):
            raise HeadError(400, "ambiguous framing")
        if not host and self.version == "1.1":
            raise HeadError(400, "no host")

    def _take_connection(self, value: bytes) -> None:
        if value == b"keep-alive":
            self.keep_alive = True
        elif _has_token(value, b"close"):
            self.keep_alive = False
        elif self.version == "1.0" and _has_token(value, b"keep-alive"):
            self.keep_alive = True

    def _take_expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            raise HeadError(417, "unknown expectation")
        self.expect_continue = self.version == "1.1"


def _is_host(value: bytes) -> bool:
    if value in _good_hosts:
        return True
    if _HOST.fullmatch(value) is None:
        return False
    if len(_good_hosts) < _CACHE_LIMIT:
        _good_hosts.add(value)
    return True


def _request_error(raw: bytes, reason: str) -> HeadError:
    """Refuse a head that llhttp refused, or accepted too kindly, with the most telling status."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        return HeadError(400, reason)
    if line[3] != b"1" or line[4] not in b"01":
        return HeadError(505, "unsupported version")
    return HeadError(501 if "method" in reason else 400, reason)


_KNOWN: Final = 16
"""Heads that a connection remembers, and how long one may be."""
_KNOWN_BYTES: Final = 2048
_P: Final = 0x50
"""The letter with which POST, PUT and PATCH begin, and no other method that has a plain line."""
_PLAIN_LINE = re.compile(rb"(GET|POST|PUT|DELETE|PATCH) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n")
"""A request line of which nothing in the headers depends: no HEAD, CONNECT or OPTIONS, no fragment, version 1.1."""


class RequestHeads:
    """Heads of one connection's requests, each set of headers understood once.

    A client sends the same headers again and again, only the request line differs; what equal octets mean is equal. Saves
    a third of the calls of a head, 4 of 33 µs of a state get. Holds no more than `_KNOWN` heads in each of
    its two dictionaries, for as long as the connection lives.
    """

    __slots__ = ("_known", "_whole")

    def __init__(self) -> None:
        self._known: dict[bytes, RequestHead] = {}
        self._whole: dict[bytes, RequestHead] = {}
        """Of POST, PUT and PATCH, whose targets come again too: that saves another 0.8 µs."""

    def read(self, raw: bytes) -> RequestHead:
        """The head of a request, from all its bytes including the empty line. Raises `HeadError`."""
        if raw[0] != _P:
            return self._read(raw)
        same = self._whole.get(raw)
        if same is not None:
            return same.again(same.method, same.target)
        head = self._read(raw)
        if len(raw) <= _KNOWN_BYTES:
            if len(self._whole) >= _KNOWN:
                self._whole.clear()
            self._whole[raw] = head.again(head.method, head.target)
        return head

    def _read(self, raw: bytes) -> RequestHead:
        line = _PLAIN_LINE.match(raw)
        if line is None:
            return RequestHead(raw)
        rest = raw[line.end() :]
        same = self._known.get(rest)
        if same is not None:
            return same.again(line[1].decode("ascii"), line[2])
        head = RequestHead(raw)
        if len(rest) <= _KNOWN_BYTES:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[rest] = head.again(head.method, head.target)
        return head


class ResponseHead(_Head):
    """The head of an answer, from all its bytes including the empty line. Raises `HeadError`."""

    __slots__ = ("keep_alive", "status")

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        if not raw.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or raw.find(b"\x00") >= 0:
            raise HeadError(502, "not an HTTP/1.1 answer")
        try:
            HttpResponseParser(self).feed_data(raw)
        except HttpParserUpgrade:
            pass  # 101: the connection refuses it by its status
        except HttpParserError as error:
            raise HeadError(502, str(error)) from None
        if not self._complete or raw[12:13] not in b" \r" or not raw[9:12].isdigit():
            raise HeadError(502, "malformed status line")
        self.status = int(raw[9:12])
        self.keep_alive = raw[7] == 0x31  # "1" of HTTP/1.1
        if self.status < 100:
            raise HeadError(502, "malformed status")
        self._check_framing(http_1_0=not self.keep_alive)

    def _check_framing(self, *, http_1_0: bool) -> None:
        closed = False
        for name, value in self._framing:
            if name == b"content-length":
                self._take_length(value)
            elif name == b"transfer-encoding":
                self._take_coding(value)
            elif name == b"connection":
                closed = closed or _has_token(value, b"close")
                self.keep_alive = self.keep_alive or _has_token(value, b"keep-alive")
        if self.chunked and (self.content_length is not None or http_1_0):
            raise HeadError(502, "ambiguous framing")
        self.keep_alive = self.keep_alive and not closed


class ResponseHeads:
    """Heads of one connection's answers, each understood once: a server says the same, within a second also its date."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseHead] = {}

    def read(self, raw: bytes) -> ResponseHead:
        """The head of an answer, from all its bytes including the empty line; not to be changed. Raises `HeadError`."""
        same = self._known.get(raw)
        if same is not None:
            return same
        head = ResponseHead(raw)
        if len(raw) <= _KNOWN_BYTES:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[raw] = head
        return head
