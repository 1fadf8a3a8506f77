"""One HTTP API call on its way to a block.

First step of the request road. Everything that is read from a request lazily is read here: query, metadata, body.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_plus

import msgspec
import orjson

from dapr_shared.api.errors import JSON
from dapr_shared.core import errors
from dapr_shared.wire.http.messages import BodyError, BodyTooLargeError, Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.spans import Span
    from dapr_shared.observability.tracing import TraceContext

T = TypeVar("T")
Mend: TypeAlias = "Callable[[bytes, HttpCall], bytes]"
"""Makes JSON of the form that a decoder takes of JSON that it refused; raises what the call is then answered with."""
_METADATA = "metadata."
_MAX_QUERY_FIELDS = 1000


class HttpCall(msgspec.Struct, eq=False):
    """A request, its route's parameters and, once proved, its caller."""

    request: Request
    path: bytes
    """Cleaned path, still percent-encoded."""
    query_string: bytes
    params: tuple[str, ...]
    """Path parameters in order, decoded."""
    body_limit: int
    """Bytes; 0: no limit."""
    caller: Caller | None = None
    entered: bool = False
    """Whether the call holds one of its app's places (pipeline, step 5)."""
    trace: Headers = []
    """The trace context to pass on."""
    sampled: TraceContext | None = None
    """The same with the decision whether it is sampled; `None` while tracing is off."""
    span: Span | None = None
    """The span of a sampled call that is exported."""
    _query: list[tuple[str, str]] | None = None

    @property
    def proved(self) -> Caller:
        """The caller of a route that needs one."""
        if self.caller is None:  # a route that is open to everybody asked for a caller: a defect
            raise AssertionError("the route is open: it has no caller")
        return self.caller

    def query(self, name: str, default: str = "") -> str:
        """First value of a query parameter."""
        if not self.query_string:
            return default
        for key, value in self._pairs():
            if key == name:
                return value
        return default

    def query_all(self, name: str) -> list[str]:
        """All values of a query parameter, in order."""
        return [value for key, value in self._pairs() if key == name] if self.query_string else []

    def metadata(self) -> dict[str, str]:
        """The `metadata.<key>=<value>` query parameters, first value of each (reference http-api §1)."""
        if not self.query_string:
            return {}
        found: dict[str, str] = {}
        for key, value in self._pairs():
            if key.startswith(_METADATA):
                found.setdefault(key[len(_METADATA) :], value)
        return found

    async def body(self) -> bytes:
        """The whole body. Raises `BODY_READ`."""
        body = self.request.body
        if isinstance(body, bytes):
            return body
        try:
            return await body.read(self.body_limit or sys.maxsize)
        except BodyTooLargeError as error:
            raise errors.BODY_READ(detail=f"stream too large: more than {self.body_limit} bytes") from error
        except BodyError as error:
            raise errors.BODY_READ(detail=error) from error

    async def json(self, decoder: msgspec.json.Decoder[T], mend: Mend | None = None) -> T:
        """The body as typed data. Raises `MALFORMED_REQUEST`, also for a body over the limit, as Dapr does.

        `mend`: what the decoder refuses is decoded once more as this makes it.
        """
        body = self.request.body
        if isinstance(body, bytes):
            return self.decoded(body, decoder, mend)
        try:
            data = await self.body()
        except errors.DaprError as error:
            raise errors.MALFORMED_REQUEST(detail=error.message) from error
        return self.decoded(data, decoder, mend)

    def decoded(self, data: bytes, decoder: msgspec.json.Decoder[T], mend: Mend | None = None) -> T:
        """A body that is here as typed data; see `json`."""
        try:
            data.decode()  # msgspec does not look into the strings of values that pass through
            try:
                return decoder.decode(data)
            except msgspec.ValidationError:  # it is JSON, of another form
                if mend is None:
                    raise
                return decoder.decode(mend(data, self))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # the last: nested too deep
            raise errors.MALFORMED_REQUEST(detail=error) from error

    def _pairs(self) -> list[tuple[str, str]]:
        if self._query is None:
            try:
                self._query = parse_qsl(
                    self.query_string.decode("ascii"),
                    keep_blank_values=True,
                    errors="strict",
                    max_num_fields=_MAX_QUERY_FIELDS,
                )
            except ValueError as error:
                raise errors.BAD_REQUEST(detail=f"query string: {error}") from error
        return self._query


def unquote_param(raw: bytes) -> str:
    """A path parameter, query-unescaped as Dapr does (`+` is a space). Raises `BAD_REQUEST`."""
    try:
        text = raw.decode("ascii")
        if "%" not in text and "+" not in text:
            return text
        check_escapes(text)
        return unquote_plus(text, errors="strict")
    except ValueError as error:
        raise errors.BAD_REQUEST(detail=f"path parameter {raw.decode('latin-1')}: {error}") from error


def check_escapes(text: str) -> None:
    """Raise `ValueError` where a `%` begins no escape: Dapr refuses such a path, Python's `unquote` lets it stand."""
    position = text.find("%")
    while position >= 0:
        digits = text[position + 1 : position + 3]
        if len(digits) != 2 or not all(c in "0123456789abcdefABCDEF" for c in digits):
            raise ValueError(f"invalid URL escape {text[position : position + 3]!r}")
        position = text.find("%", position + 3)


NO_CONTENT = 204


def no_content() -> Response:
    """204, the answer of a call that has nothing to say."""
    return Response(NO_CONTENT, [])


def json_bytes(data: bytes, status: int = 200, headers: Headers | None = None) -> Response:
    """An answer that is JSON already."""
    return Response(status, [(b"content-type", JSON), *(headers or [])], data)


def json_response(value: object, status: int = 200) -> Response:
    """An answer made from plain data."""
    return json_bytes(orjson.dumps(value), status)


def metadata_headers(metadata: Mapping[str, str]) -> Headers:
    """Response metadata as `metadata.<key>` headers."""
    if not metadata:
        return []
    return [(b"metadata." + key.lower().encode(), value.encode()) for key, value in metadata.items()]
