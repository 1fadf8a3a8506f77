"""Answers as bytes: the head of a response, and how its body is framed.

Last step of the request road. Which framing an answer gets follows RFC 9112 §6 from the request's method and version,
the status and the kind of body; headers of the handler cannot change it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from dapr_shared.wire.http.fields import STATUS_LINES, FieldError, Fields

if TYPE_CHECKING:
    from dapr_shared.wire.http.messages import Request, Response

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class StreamHead(NamedTuple):
    """How a streamed answer goes out."""

    head: bytes
    bodyless: bool
    """Whether the answer has no body, whatever the handler gave (HEAD, 204, 304)."""
    length: int | None
    """Bytes that the body must have, no more and no less; `None` if its length was not given."""
    chunked: bool
    keep_alive: bool


def has_no_body(method: str, status: int) -> bool:
    """Whether an answer ends with its head (RFC 9112 §6.3 rule 1)."""
    return method == "HEAD" or status in {204, 304}


def _persistence(request: Request, *, keep_alive: bool) -> bytes:
    if not keep_alive:
        return b"connection: close\r\n\r\n"
    return b"connection: keep-alive\r\n\r\n" if request.version == "1.0" else b"\r\n"


def _parsed_length(given: bytes | None) -> int | None:
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise FieldError("invalid content-length")
    return int(given)


def whole_head(request: Request, response: Response, size: int, date: bytes, *, keep_alive: bool) -> bytes:
    """The head of an answer whose body of `size` bytes is at hand. Raises `FieldError`.

    A HEAD answer keeps the length that the handler gave; without one it announces `size`, unless that is 0.
    """
    status = response.status
    line = STATUS_LINES.get(status)
    if line is None:
        raise FieldError(f"{status} is not the status of a final answer")
    fields = Fields.of(response.headers)
    if has_no_body(request.method, status):
        length = _parsed_length(fields.length) if request.method == "HEAD" else None
        if length is None and size and status not in {204, 304}:
            length = size
        framing = b"" if length is None or status in {204, 304} else b"content-length: %d\r\n" % length
    else:
        framing = b"content-length: %d\r\n" % size
    if keep_alive and request.version != "1.0":
        return b"".join((line, b"" if fields.dated else date, fields.block(), framing, b"\r\n"))
    end = _persistence(request, keep_alive=keep_alive)
    return b"".join((line, b"" if fields.dated else date, fields.block(), framing, end))


def stream_head(request: Request, response: Response, date: bytes, *, keep_alive: bool) -> StreamHead:
    """The head of an answer whose body is an iterator. Raises `FieldError`."""
    line = STATUS_LINES.get(response.status)
    if line is None:
        raise FieldError(f"{response.status} is not the status of a final answer")
    fields = Fields.of(response.headers)
    length = _parsed_length(fields.length)
    bodyless = has_no_body(request.method, response.status)
    chunked = False
    if bodyless:
        framing = b"content-length: %d\r\n" % length if length is not None and request.method == "HEAD" else b""
        if response.status in {204, 304}:
            framing = b""
    elif length is not None:
        framing = b"content-length: %d\r\n" % length
    elif request.version == "1.0":
        framing = b""
        keep_alive = False  # the end of the connection is the end of the body
    else:
        framing = b"transfer-encoding: chunked\r\n"
        chunked = True
    end = _persistence(request, keep_alive=keep_alive)
    head = b"".join((line, b"" if fields.dated else date, fields.block(), framing, end))
    return StreamHead(head, bodyless, length, chunked, keep_alive)


def refusal(status: int, date: bytes) -> bytes:
    """A whole answer that says no more than its status; the connection is closed after it."""
    return b"".join((STATUS_LINES[status], date, b"content-length: 0\r\nconnection: close\r\n\r\n"))
