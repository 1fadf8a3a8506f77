"""One call over HTTP: the invocation as a request, the answer as the invocation's response, errors in plain words.

Step 6a of the request road and last step of the delivery road; what the channels to apps (`http.py`) and the targets
outside (`external.py`) have in common.
"""

from __future__ import annotations

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
    from collections.abc import Iterable

    from dapr_shared.wire.http.client import HttpClient
    from dapr_shared.wire.http.messages import Header, Headers

API_TOKEN = b"dapr-api-token"

_RAW_IN_PATH = "/:@!$&'()*+,;="
"""Kept as they are beside the unreserved characters: RFC 3986's sub-delims, `:`, `@` and the separator."""

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


@lru_cache(maxsize=1024)
def encode_method(method: str) -> bytes:
    """A decoded method as the path of a request target, so that the app decodes what the caller encoded."""
    return b"/" + quote(method, safe=_RAW_IN_PATH, errors="surrogateescape").encode("ascii")


def request_target(base_path: bytes, request: InvokeRequest) -> bytes:
    """The request target: base path (without a slash at its end), method and query."""
    target = base_path + encode_method(request.method)
    return target + b"?" + request.query if request.query else target


def end_to_end(headers: Headers) -> tuple[Headers, bytes | None]:
    """An answer's headers without those of one hop and without its content type, which is returned beside them."""
    kept: Headers = []
    content_type: bytes | None = None
    named: set[bytes] | None = None
    for header in headers:
        name = header[0]
        if name == b"content-type":
            if content_type is None:
                content_type = header[1]
        elif name not in _NOT_FORWARDED:
            kept.append(header)
        elif name == b"connection":
            named = (named or set()) | {option.strip().lower() for option in header[1].split(b",")}
    if named and not named <= {b"close", b"keep-alive"}:
        kept = [header for header in kept if header[0] not in named]
    return kept, content_type


def without(headers: Headers, names: Iterable[bytes]) -> Headers:
    """A copy of the headers without those names."""
    names = frozenset(names)
    return [header for header in headers if header[0] not in names]


async def exchange(
    client: HttpClient,
    where: str,
    target: bytes,
    request: InvokeRequest,
    headers: Headers,
    timeout: float | None,  # noqa: ASYNC109 - the wire's
) -> InvokeResponse:
    """Send `request` with these headers and its content type; see `AppChannel.invoke` for what is raised."""
    if request.content_type is not None:
        content_type: Header = (b"content-type", request.content_type)
        headers.append(content_type)
    try:
        answer = await client.request(request.verb, target, headers, request.body, timeout=timeout)
    except HttpClientError as exc:
        raise plain_error(exc, where, timeout) from exc
    kept, answer_type = end_to_end(answer.headers)
    return InvokeResponse(answer.status, kept, answer.body, answer_type)


def plain_error(error: HttpClientError, where: str, timeout: float | None) -> Exception:
    """What a failed call means for the invocation; `where` is the target's `host:port`."""
    match error:
        case ConnectError():
            return AppUnreachableError(f"dial tcp {where}: {reason(error)}")
        case ConnectionLostError(sent=False):
            return AppUnreachableError(f"{where}: {reason(error)}")
        case RequestTimeoutError():
            limit = "" if timeout is None else f" within {timeout:g} s"
            return AppTimeoutError(f"no answer from {where}{limit}")
        case PoolFullError():
            return ChannelBusyError(f"too many calls wait for a connection to {where}")
        case RequestBodyError(cause=BodyError() as cause):
            return cause
        case RequestBodyError():
            return BodyError(f"the body of the request could not be read: {reason(error)}")
        case _:
            return ChannelError(f"{where}: {reason(error)}")


def reason(error: BaseException) -> str:
    """Why, in the words of the operating system where it is an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[:1].lower() + cause.strerror[1:]
        cause = cause.__cause__
    return str(error) or type(error).__name__
