"""One call over HTTP: the invocation as a request, the answer as the invocation's response, errors in plain words.

Step 6a of the request road and last step of the delivery road; what the channels to apps (`http.py`) and the targets
outside (`external.py`) have in common.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from dapr_shared.contracts.invocation import (
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    InvokeRequest,
    InvokeResponse,
)
from dapr_shared.wire.http.client import (
    ConnectError,
    ConnectionLostError,
    HttpClientError,
    PoolFullError,
    RequestBodyError,
    RequestTimeoutError,
)
from dapr_shared.wire.http.messages import BodyError

if TYPE_CHECKING:
    from dapr_shared.wire.http.client import HttpClient
    from dapr_shared.wire.http.messages import Headers

API_TOKEN = b"dapr-api-token"

_RAW_IN_PATH = "/:@!$&'()*+,;="
"""Kept as they are beside the unreserved characters: RFC 3986's sub-delims, `:`, `@` and the separator."""

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
"""Characters that may stand in a request target as they are; all others are percent-encoded."""

_QUERY_CHARACTERS = PRINTABLE.replace("#", "")
_clean_query = re.compile(rb"[!\"$-~]*").fullmatch

_NOT_FORWARDED = frozenset(
    {
        b"connection",
        b"content-length",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of one hop (reference http-api §3, "Header filtering")."""

_NOT_FORWARDED_OPTIONS = _NOT_FORWARDED | {b"close"}
"""What a `connection` header may name without a further header to remove."""


@lru_cache(maxsize=1024)
def encode_method(method: str) -> bytes:
    """A decoded method as the path of a request target, so that the app decodes what the caller encoded."""
    return b"/" + quote(method, safe=_RAW_IN_PATH, errors="surrogateescape").encode("ascii")


def request_target(base_path: bytes, request: InvokeRequest) -> bytes:
    """The request target: base path (without a slash at its end), method and query."""
    target = base_path + encode_method(request.method)
    query = request.query
    if not query:
        return target
    if not _clean_query(query):  # of a gRPC caller, who may write anything
        query = quote(query, safe=_QUERY_CHARACTERS).encode("ascii")
    return target + b"?" + query


def end_to_end(headers: Headers) -> tuple[Headers, bytes | None]:
    """An answer's headers without those of one hop and without its content type, which is returned beside them."""
    kept: Headers = []
    content_type: bytes | None = None
    named = set[bytes]()
    for header in headers:
        name = header[0]
        if name == b"content-type":
            if content_type is None:
                content_type = header[1]
        elif name not in _NOT_FORWARDED:
            kept.append(header)
        elif name == b"connection":
            named.update(option.strip().lower() for option in header[1].split(b","))
    if not named <= _NOT_FORWARDED_OPTIONS:
        kept = [header for header in kept if header[0] not in named]
    return kept, content_type


async def exchange(
    client: HttpClient,
    where: str,
    target: bytes,
    request: InvokeRequest,
    headers: Headers,
    content_type: bytes | None,
    timeout: float | None,  # noqa: ASYNC109 - the wire's
) -> InvokeResponse:
    """Send the verb and body of `request` with these headers; see `AppChannel.invoke` for what is raised.

    The body of the answer is `bytes` or a `BodyStream`. `headers` is changed.
    """
    if content_type is not None:
        headers.append((b"content-type", content_type))
    try:
        answer = await client.request(request.verb, target, headers, request.body, timeout=timeout)
    except HttpClientError as exc:
        raise plain_error(exc, where, timeout) from exc
    except ValueError as exc:
        raise unsendable(exc) from exc
    kept, answer_type = end_to_end(answer.headers)
    return InvokeResponse(answer.status, kept, answer.body, answer_type)


def unsendable(error: ValueError) -> ChannelError:
    """What it means that a request must not be written."""
    return ChannelError(f"the call cannot be sent over HTTP: {error}")


def plain_error(  # noqa: PLR0911 - one return a case
    error: HttpClientError, where: str, timeout: float | None
) -> Exception:
    """What a failed call means for the invocation; `where` is the target's `host:port`."""
    if isinstance(error, RequestBodyError):
        cause = error.cause
        return cause if isinstance(cause, BodyError) else BodyError(str(error))
    if isinstance(error, ConnectError):
        return AppUnreachableError(f"dial tcp {where}: {reason(error)}")
    if isinstance(error, PoolFullError):
        return ChannelBusyError(f"too many calls wait for a connection to {where}")
    if isinstance(error, RequestTimeoutError):
        limit = "" if timeout is None else f" within {timeout:g} s"
        if error.sent:
            return AppTimeoutError(f"no answer from {where}{limit}")
        return AppUnreachableError(f"dial tcp {where}: no connection{limit}")
    if isinstance(error, ConnectionLostError) and not error.sent:
        return AppUnreachableError(f"{where}: {reason(error)}")
    return ChannelError(f"{where}: {reason(error)}")


def reason(error: BaseException) -> str:
    """Why, in the words of the operating system where it is an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        # Several addresses that all refuse give a plain OSError with all their messages.
        if isinstance(cause, ConnectionRefusedError) or (isinstance(cause, OSError) and "refused" in str(cause)):
            return "connection refused"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[:1].lower() + cause.strerror[1:]
        cause = cause.__cause__
    return str(error) or type(error).__name__
