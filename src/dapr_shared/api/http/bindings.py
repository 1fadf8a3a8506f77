"""Output bindings over HTTP. Facts: reference http-api §6."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.api.errors import JSON, TEXT, http_response
from dapr_shared.api.http.call import HttpCall, metadata_headers, no_content
from dapr_shared.api.http.json_names import fold_names
from dapr_shared.api.http.routes import Route
from dapr_shared.blocks.state.items import is_json_text
from dapr_shared.core.errors import DaprError
from dapr_shared.wire.http.messages import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.blocks.bindings.output import BindingsBlock
    from dapr_shared.wire.http.messages import Headers

_NULL = msgspec.Raw(b"null")
_BINARY = b"application/octet-stream"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}").fullmatch
_LONGEST_VALUE = 4096
"""Characters of one value of response metadata in a header; clients bound the headers that they read."""
_MOST_HEADERS = 80
_ALL_HEADERS = 12 * 1024
"""How many values, and characters of all, are in headers: Python's client takes 100 headers, Node's 16 KiB by default."""


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    """An unknown name may be a known one in other letters: it sends the body through `fold_names`."""

    operation: str = ""
    data: msgspec.Raw = _NULL
    metadata: dict[str, str] | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_SHAPE = msgspec.inspect.type_info(_Request)


class BindingsApi:
    """Turns HTTP requests into calls of the bindings block."""

    def __init__(self, block: BindingsBlock) -> None:
        self._block = block

    def routes(self) -> Sequence[Route]:
        return [Route(("POST", "PUT"), "/v1.0/bindings/{name}", self.invoke, "InvokeBinding", "bindings")]

    async def invoke(self, call: HttpCall) -> Response:
        (name,) = call.params
        request = await call.json(_REQUEST, lambda data, _: fold_names(data, _SHAPE, lambda _: None))
        metadata = {**(request.metadata or {}), **_trace(call)}
        try:
            answer = await self._block.invoke(call.proved, name, request.operation, bytes(request.data), metadata)
        except DaprError as error:
            if not error.metadata:
                raise
            response = http_response(error)
            response.headers += _headers(error.metadata)
            return response
        if answer is None:
            return no_content()
        return Response(200, [(b"content-type", _type(answer.data)), *_headers(answer.metadata)], answer.data)


def _trace(call: HttpCall) -> dict[str, str]:
    """What carries the caller's trace on to the external system."""
    found = {name.decode(): value.decode("latin-1") for name, value in call.trace}
    baggage = [value.decode("latin-1") for name, value in call.request.headers if name == b"baggage"]
    return {**found, "baggage": ",".join(baggage)} if baggage else found


def _type(data: bytes) -> bytes:
    if is_json_text(data):
        return JSON
    try:
        data.decode()
    except UnicodeDecodeError:
        return _BINARY
    return TEXT


def _headers(metadata: Mapping[str, str]) -> Headers:
    """Response metadata as headers. It may be anything: a line end in a value would begin another header.

    What is past the bounds is left out: the external system must not make the app's client give the answer up.
    """
    shown: dict[str, str] = {}
    left = _ALL_HEADERS
    for name, value in metadata.items():
        if len(shown) == _MOST_HEADERS:
            break
        if _NAME(name):
            line = _line(value)
            left -= len(name) + len(line)
            if left < 0:
                break
            shown[name] = line
    return metadata_headers(shown)


def _line(text: str) -> str:
    shown = text[:_LONGEST_VALUE]
    return shown if shown.isprintable() else "".join(c if c.isprintable() else " " for c in shown)
