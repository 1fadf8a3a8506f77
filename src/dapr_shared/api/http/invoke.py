"""Invocation over HTTP: the three ways of naming the target. Facts: reference http-api §3."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

from dapr_shared.api.http.call import check_escapes
from dapr_shared.core import errors
from dapr_shared.wire.http.messages import Response

if TYPE_CHECKING:
    from dapr_shared.api.http.call import HttpCall
    from dapr_shared.blocks.invoke import InvokeBlock
    from dapr_shared.wire.http.messages import Request

PREFIX = b"/v1.0/invoke/"
_METHOD = b"/method/"
_PLAIN = re.compile(r"[A-Za-z0-9._-]*").fullmatch
_COLLAPSED_URL = re.compile(r"^(https?):/+")


class InvokeApi:
    """Turns any HTTP request that names a target into a call of the invoke block."""

    def __init__(self, block: InvokeBlock) -> None:
        self._block = block

    async def invoke(self, call: HttpCall, target: str, method: str) -> Response:
        """Call and copy the answer: status, headers and body as the app gave them."""
        request = call.request
        answer = await self._block.invoke(
            call.proved,
            target,
            method,
            verb=request.method,
            query=call.query_string,
            headers=request.headers,
            body=request.body,
            trace=call.trace,
        )
        headers = answer.headers
        if answer.content_type is not None:
            headers.append((b"content-type", answer.content_type))
        length = getattr(answer.body, "content_length", None)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        return Response(answer.status, headers, answer.body)


def find_target(request: Request, raw_path: bytes, cleaned_path: bytes) -> tuple[str, str]:
    """The target and the method that a request names. Raises `INVOKE_NO_TARGET`, `BAD_REQUEST`.

    In this order: the header `dapr-app-id`; basic authorization with the user `dapr-app-id`; the path
    `/v1.0/invoke/<target>/method/<method>`.
    """
    ids = request.header_values(b"dapr-app-id")
    if len(ids) > 1:
        raise errors.BAD_REQUEST(detail="dapr-app-id was sent more than once")
    if ids and ids[0]:
        return ids[0].decode("latin-1"), _decoded(cleaned_path[1:])
    authorization = request.header(b"authorization")
    if authorization is not None:
        named = _basic_target(authorization)
        if named:
            return named, _decoded(cleaned_path[1:])
    # An absolute URL as the target keeps its `//` only in the path as it was sent.
    path = raw_path if raw_path.startswith(PREFIX) else cleaned_path
    if path.startswith(PREFIX):
        target, found, method = path[len(PREFIX) :].partition(_METHOD)
        if found and target:
            return _target(target), _decoded(method)
    raise errors.INVOKE_NO_TARGET()


def _target(raw: bytes) -> str:
    try:
        text = raw.decode("ascii")
        if _PLAIN(text):  # a plain app id needs none of what follows, which costs more than the rest of this function
            return text
        check_escapes(text)
        text = unquote_plus(text, errors="strict")
    except ValueError as error:
        raise errors.BAD_REQUEST(detail=f"app id in the path: {error}") from error
    return _COLLAPSED_URL.sub(r"\1://", text)


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode("ascii")
        if "%" not in text:
            return text
        check_escapes(text)
        return unquote(text, errors="strict")
    except ValueError as error:
        raise errors.BAD_REQUEST(detail=f"path: {error}") from error


def _basic_target(authorization: bytes) -> str | None:
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, app = decoded.partition(":")
    if not colon or ":" in app or user.lower() != "dapr-app-id":
        return None
    return app or None
