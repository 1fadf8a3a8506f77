"""`bindings.http`: requests to an HTTP endpoint. Output only.

Last step of the request road. What differs from daprd, on purpose: a `path` cannot lead out of the path of `url` by
`..`; with a `securityToken` redirects are not followed, so that the token goes to no other host; the headers that frame
a message or belong to one hop cannot be set; no cookies are kept, because apps would share them. Facts: reference
components §5.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from dapr_shared.components.http.settings import HttpBindingSettings, tls_context
from dapr_shared.contracts.bindings import (
    BindingCapability,
    BindingError,
    BindingRequest,
    BindingResponse,
    OutputBinding,
)
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.settings import TRUE_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

CONNECT_TIMEOUT = 15.0
"""Seconds to connect, TLS included; Dapr's value."""
KEEP_ALIVE = 90.0
"""Seconds that an idle connection is kept; Go's value."""
MAX_REDIRECTS = 10
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_JSON = "application/json; charset=utf-8"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_FRAMING = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy-connection",
        "proxy-authorization",
    }
)
_TRACE = ("traceparent", "tracestate", "baggage")


class HttpBinding(OutputBinding[HttpBindingSettings]):
    """An endpoint."""

    settings_type = HttpBindingSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.OUTPUT_BINDING})
    operations: ClassVar[tuple[str, ...]] = (
        "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
    )  # fmt: skip

    _session: aiohttp.ClientSession | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return None  # what apps send there is the endpoint's

    async def start(self, stack: AsyncExitStack) -> None:
        context = await asyncio.to_thread(tls_context, self.settings)
        connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=KEEP_ALIVE)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.settings.response_timeout or None, sock_connect=CONNECT_TIMEOUT),
            headers={"User-Agent": "dapr-shared"},
        )
        stack.push_async_callback(session.close)
        self._session = session
        stack.callback(self._forget)

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        if self._session is None:
            raise BackendError(f"binding {self.context.name} is not open")
        method = "POST" if request.operation == "create" else request.operation.upper()
        target = self._target(request.metadata.get("path", ""))
        limit = self.settings.max_response_body_size
        try:
            async with self._session.request(
                method,
                target,
                data=request.data if method in _WITH_BODY else None,
                headers=self._headers(request.metadata, body=method in _WITH_BODY),
                allow_redirects=not self.settings.security_token,
                max_redirects=MAX_REDIRECTS,
                proxy=_proxy(target),
            ) as answer:
                data = await _read(answer, limit if limit > 0 else None)
                response = BindingResponse(data, _metadata(answer))
                status = answer.status
        except TimeoutError as error:
            raise BackendError(f"no answer within {self.settings.response_timeout or CONNECT_TIMEOUT:g} s") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise BackendUnavailableError(f"the endpoint cannot be reached: {_words(error)}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise BackendError(f"the request failed: {_words(error)}") from error
        wanted = request.metadata.get("errorIfNot2XX", "")
        strict = wanted.strip().lower() in TRUE_WORDS if wanted else self.settings.error_if_not_2xx
        if strict and not 200 <= status <= 299:
            raise BindingError(f"received status code {status}", response)
        return response

    def _target(self, path: str) -> URL:
        """The URL of a request, sent as it is written."""
        url = self.settings.url
        if path:
            if ".." in re.split(r"[/\\]", unquote(re.split(r"[?#]", path, maxsplit=1)[0])):
                raise BackendError("path must not have '..' in it")
            if any(c.isspace() or ord(c) < 0x20 or ord(c) == 0x7F for c in path):
                raise BackendError("path must not have blanks or control characters in it: encode them")
            url = f"{url.rstrip('/')}/{path.lstrip('/')}"
        try:
            return URL(url, encoded=url.isascii())
        except ValueError as error:
            raise BackendError("path makes no URL") from error

    def _headers(self, metadata: Mapping[str, str], *, body: bool) -> dict[str, str]:
        """Metadata that begins with a capital is a header, as in Dapr."""
        headers = {"Accept": _JSON}
        if body:
            headers["Content-Type"] = _JSON
        if self.settings.security_token:
            headers[self.settings.security_token_header] = self.settings.security_token
        given = {name: value for name, value in metadata.items() if "A" <= name[:1] <= "Z"}
        given |= {name.capitalize(): metadata[name] for name in _TRACE if metadata.get(name)}
        for name, value in given.items():
            if name.lower() in _FRAMING:
                continue
            if not _NAME(name) or not _VALUE(value):
                raise BackendError(f"metadata {name[:80]!r} makes no header")
            for known in [known for known in headers if known.lower() == name.lower()]:
                del headers[known]
            headers[name] = value
        return headers

    def _forget(self) -> None:
        self._session = None


async def _read(answer: aiohttp.ClientResponse, limit: int | None) -> bytes:
    if limit is None:
        return await answer.read()
    data = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) >= limit:
            answer.close()  # what is left is not waited for
            break
    return bytes(data[:limit])


def _metadata(answer: aiohttp.ClientResponse) -> dict[str, str]:
    found = {"statusCode": str(answer.status), "status": f"{answer.status} {answer.reason or ''}".rstrip()}
    decoded = answer.headers.get("Content-Encoding", "").lower() in ("gzip", "deflate")
    for name in dict.fromkeys(answer.headers):
        if decoded and name.lower() in ("content-encoding", "content-length"):
            continue  # the body was decoded: they say nothing about what the app gets
        shown = "-".join(part.capitalize() for part in name.split("-"))
        found[shown] = ", ".join(answer.headers.getall(name))
    return found


def _proxy(target: URL) -> str | None:
    """The proxy that the environment names for this URL, as Go's client finds it."""
    proxies = getproxies_environment()
    proxy = proxies.get(target.scheme)
    if not proxy or proxy_bypass(urlsplit(str(target)).hostname or "", proxies):
        return None
    return proxy


def _words(error: Exception) -> str:
    """What is wrong, without the URL: its query may hold a key."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r"https?://\S+", "(url)", str(error)) or type(error).__name__
