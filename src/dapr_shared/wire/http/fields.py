"""Heads that we send: header fields checked, joined and framed.

Last step of the request road (answers) and of the delivery road (requests to apps). Nothing that a handler or a caller
puts into a header can end a line or a head: names are tokens, values have no control characters, and the fields that
frame a message are the wire's own.
"""

from __future__ import annotations

import re
from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from dapr_shared.wire.http.messages import Headers

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS: Final = bytes(code for code in range(32) if code != 9) + b"\x7f"
_CACHE_LIMIT: Final = 1024


class FieldError(ValueError):
    """A header name or value, a method or a target that must not be written."""


class Kind(IntEnum):
    """What a header name means to whoever writes a head."""

    PLAIN = 1
    OWN = 2
    """Belongs to one connection (RFC 9110 §7.6.1): the wire writes its own."""
    LENGTH = 3
    DATE = 4
    HOST = 5


_OWN_NAMES: Final = (
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"expect",
)  # fmt: skip
_kinds: dict[bytes, Kind] = {
    **dict.fromkeys(_OWN_NAMES, Kind.OWN),
    b"content-length": Kind.LENGTH,
    b"date": Kind.DATE,
    b"host": Kind.HOST,
}
"""Header names that are known to be tokens. Bounded."""


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("latin-1")


STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 1000)}


def kind_of(name: bytes) -> Kind:
    """What a header name means. Raises `FieldError` when it is not a token."""
    kind = _kinds.get(name)
    if kind is not None:
        return kind
    if not isinstance(name, bytes) or _TOKEN.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FieldError("invalid header name")
    kind = _kinds.get(name.lower(), Kind.PLAIN)
    if len(_kinds) < _CACHE_LIMIT:
        _kinds[name] = kind
    return kind


def is_token(text: bytes) -> bool:
    """Whether this may stand as a method or a header name."""
    return _TOKEN.fullmatch(text) is not None


class Fields(msgspec.Struct, eq=False):
    """Header fields sorted for sending: `lines` to be written, and what the given ones said about framing."""

    lines: list[bytes] = []
    length: bytes | None = None
    dated: bool = False
    hosted: bool = False

    @staticmethod
    def of(headers: Headers) -> Fields:
        """Sort these. Raises `FieldError`."""
        fields = Fields()
        lines = fields.lines
        for name, value in headers:
            kind = _kinds.get(name) or kind_of(name)
            if kind is Kind.PLAIN:
                lines += (name, b": ", value, b"\r\n")
            elif kind is not Kind.OWN:
                fields._take(kind, name, value)
        return fields

    def _take(self, kind: Kind, name: bytes, value: bytes) -> None:
        if kind is Kind.LENGTH:
            self.length = value
            return
        self.dated = self.dated or kind is Kind.DATE
        self.hosted = self.hosted or kind is Kind.HOST
        self.lines += (name, b": ", value, b"\r\n")

    def block(self) -> bytes:
        """The lines as one piece. Raises `FieldError` when a value would end its line or holds control characters."""
        try:
            block = b"".join(self.lines)
        except TypeError as error:
            raise FieldError("a header value is not bytes") from error
        # Four items a line, two of its bytes are CR and LF: any more control characters came in with a value.
        if len(block) - len(block.translate(None, _CONTROLS)) != len(self.lines) // 2:
            raise FieldError("invalid header value")
        return block


_METHODS: Final = {
    method: method.encode() + b" " for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
}
_NOT_IN_TARGET: Final = bytes(code for code in range(256) if not 0x21 <= code <= 0x7E)


def request_head(method: str, target: bytes, headers: Headers, host_line: bytes, framing: bytes) -> bytes:
    """The head of a request. `host_line` is written unless `headers` has a host. Raises `FieldError`."""
    start = _METHODS.get(method)
    if start is None:
        start = method.encode("ascii", "replace") + b" "
        if not is_token(start[:-1]) or not method.isascii():
            raise FieldError("invalid method")
    if not target or len(target.translate(None, _NOT_IN_TARGET)) != len(target):
        raise FieldError("invalid target")
    fields = Fields.of(headers)
    return b"".join(
        (start, target, b" HTTP/1.1\r\n", b"" if fields.hosted else host_line, fields.block(), framing, b"\r\n")
    )
