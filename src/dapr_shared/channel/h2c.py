"""The channel to an app that speaks HTTP/2 without TLS, by prior knowledge (protocol `h2c`).

Step 6a of the request road and last step of the delivery road. By pyreqwest (extra `dapr-shared[h2c]`, imported when
the first such app starts). Bodies are streamed both ways. What it cannot do: trailers of the answer are lost; a header
of the request that is not ASCII, and one of the answer that is not visible ASCII, is left out; a call without `accept`
or `user-agent` goes out with the library's own; a call given up before the answer's head ends for us, but the app
learns of it only when it answers.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from dapr_shared.channel.base import (
    AppChannel,
    ChannelConfigurationError,
    ChannelProperties,
    HealthAnswer,
    HealthProperties,
)
from dapr_shared.channel.concurrency import DEFAULT_WAITING
from dapr_shared.channel.exchange import API_TOKEN, PRINTABLE, end_to_end, request_target
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError, InvokeResponse
from dapr_shared.wire.http.messages import WHOLE_BODY_LIMIT, BodyError, BodyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pyreqwest.client import Client
    from pyreqwest.exceptions import PyreqwestError
    from pyreqwest.request import RequestBuilder, StreamRequest
    from pyreqwest.response import Response

    from dapr_shared.contracts.invocation import InvokeRequest
    from dapr_shared.core.ids import AppRef
    from dapr_shared.wire.http.messages import Body, BodyStream, Headers

_CONNECT_TIMEOUT: Final = 5.0
"""Seconds."""
_LIFE: Final = 300.0
"""Seconds, give or take 10 %, after which new calls use a new connection and resolve the name again."""
_OURS: Final = frozenset({API_TOKEN, b"host", b"content-length"})


class H2cAppChannel(AppChannel):
    """One app over HTTP/2 without TLS; all calls share one connection."""

    def __init__(
        self,
        ref: AppRef,
        properties: ChannelProperties,
        *,
        api_token: str | None = None,
        base_path: str = "",
        waiting: int = DEFAULT_WAITING,
    ) -> None:
        super().__init__(ref, properties, waiting=waiting)
        self._token = None if api_token is None else (API_TOKEN.decode(), api_token)
        self._base_path = base_path.rstrip("/").encode("ascii")
        self._client: Client | None = None
        self._expires = 0.0

    async def _open(self) -> None:
        try:
            self._client = self._connect()
        except ImportError as exc:
            raise ChannelConfigurationError(
                "app protocol h2c needs pyreqwest: install the extra dapr-shared[h2c]"
            ) from exc

    def _connect(self) -> Client:
        """A client; it connects with its first request. The one before lives on until its calls have ended."""
        from pyreqwest.client import ClientBuilder  # noqa: PLC0415 - an extra, loaded when an app needs it

        jitter = random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnecting
        self._expires = asyncio.get_running_loop().time() + _LIFE * jitter
        builder = ClientBuilder().http2_prior_knowledge().connect_timeout(timedelta(seconds=_CONNECT_TIMEOUT))
        builder = builder.no_proxy().follow_redirects(enable=False).referer(enable=False).user_agent("dapr-shared")
        return builder.gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False).build()

    def _current(self) -> Client:
        if self._client is None:
            raise AppUnreachableError(f"the channel to app {self.ref} is not open")
        if asyncio.get_running_loop().time() >= self._expires:
            self._client = self._connect()
        return self._client

    async def _send(self, request: InvokeRequest, timeout: float | None) -> InvokeResponse:  # noqa: ASYNC109 - of `invoke`
        headers = _as_text(request.headers)
        if request.content_type is not None:
            headers.append(("content-type", request.content_type.decode("latin-1")))
        if self._token is not None:
            headers.append(self._token)
        target = request_target(self._base_path, request)
        builder = self._current().request(request.verb, self._url(target)).headers(headers)
        sending: _Sending | None = None
        if isinstance(request.body, bytes):
            builder = builder.body_bytes(request.body)
        else:
            sending = _Sending(request.body)
            builder = builder.body_stream(sending)
            if request.body.content_length is not None:
                builder = builder.header("content-length", str(request.body.content_length))
        try:
            async with asyncio.timeout(timeout):
                status, answer_headers, body = await self._exchange(builder)
        except TimeoutError as exc:
            raise AppTimeoutError(f"no answer from {self._where} within {timeout:g} s") from exc
        except ChannelError:
            if sending is not None and sending.failure is not None:
                raise sending.failure from None
            raise
        kept, content_type = end_to_end(answer_headers)
        return InvokeResponse(status, kept, body, content_type)

    async def _probe(self, health: HealthProperties) -> HealthAnswer:
        path = health.path if health.path.startswith("/") else "/" + health.path
        builder = self._current().request("GET", self._url(self._base_path + path.encode()))
        status, _, body = await self._exchange(builder)
        if not isinstance(body, bytes):
            await body.aclose()
        return HealthAnswer(healthy=200 <= status < 300, status=str(status))

    async def _exchange(self, builder: RequestBuilder) -> tuple[int, Headers, Body]:
        """Send; returns when the answer's head is there, for a short answer when all of it is. Raises `ChannelError`."""
        from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError  # noqa: PLC0415 - see `_connect`

        # Without a buffer: with one, the library waits for it to fill before it shows the head of a slow stream.
        request = builder.streamed_read_buffer_limit(0).build_streamed()
        try:
            response = await request.__aenter__()
        except RequestTimeoutError as exc:
            raise AppUnreachableError(f"dial tcp {self._where}: i/o timeout") from exc
        except PyreqwestError as exc:
            raise self._plain_error(exc) from exc
        headers = _received(response)
        body = _H2cBody(request, response, 0 if response.status in (204, 304) else _content_length(headers))
        if body.content_length is None or body.content_length > WHOLE_BODY_LIMIT:
            return response.status, headers, body
        try:
            return response.status, headers, await body.read(WHOLE_BODY_LIMIT)
        except BodyError as exc:
            raise ChannelError(f"{self._where}: {exc}") from exc

    def _plain_error(self, error: PyreqwestError) -> ChannelError:
        causes = _causes(error)
        if any("(Connect)" in cause for cause in causes):
            return AppUnreachableError(f"dial tcp {self._where}: {_reason(causes)}")
        return ChannelError(f"{self._where}: {_reason(causes) or error}")

    @property
    def _where(self) -> str:
        return self.properties.where

    def _url(self, target: bytes) -> str:
        return f"http://{self._where}" + quote(target, safe=PRINTABLE)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class _Sending:
    """The body of a request on its way; keeps why it broke off, which the library does not."""

    def __init__(self, body: BodyStream) -> None:
        self._chunks = aiter(body)
        self.failure: BodyError | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except BodyError as exc:
            self.failure = exc
            raise


class _H2cBody:
    """The body of an answer."""

    def __init__(self, request: StreamRequest, response: Response, content_length: int | None) -> None:
        self.content_length = content_length
        self._request: StreamRequest | None = request
        self._reader = response.body_reader

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        from pyreqwest.exceptions import PyreqwestError  # noqa: PLC0415 - see `_connect`

        if self._request is None:
            raise StopAsyncIteration
        try:
            while (chunk := await self._reader.read_chunk()) is not None:
                if chunk:
                    return bytes(chunk)
        except PyreqwestError as exc:
            await self.aclose()
            raise BodyError(f"the app broke off its answer: {_reason(_causes(exc)) or exc}") from exc
        await self.aclose()
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                await self.aclose()
                raise BodyTooLargeError(f"the body is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            await request.__aexit__(None, None, None)


def _as_text(headers: Headers) -> list[tuple[str, str]]:
    return [
        (name.decode("ascii"), value.decode("ascii"))
        for name, value in headers
        if name not in _OURS and name.isascii() and value.isascii()
    ]


def _received(response: Response) -> Headers:
    """The answer's headers; those whose values the library cannot show are left out."""
    headers = response.headers
    try:
        return [(name.encode(), value.encode()) for name, value in headers.items()]
    except ValueError:
        pass
    found: Headers = []
    for name in dict.fromkeys(headers):
        try:
            found += [(name.encode(), value.encode()) for value in headers.getall(name)]
        except ValueError:
            continue
    return found


def _content_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _causes(error: PyreqwestError) -> list[str]:
    """What the library says about an error, from the outermost to the innermost cause."""
    from pyreqwest.exceptions import DetailedPyreqwestError  # noqa: PLC0415 - see `_connect`

    if not isinstance(error, DetailedPyreqwestError):
        return []
    return [cause["message"] for cause in error.details["causes"] or []]


def _reason(causes: list[str]) -> str:
    if not causes:
        return ""
    return "connection refused" if "Connection refused" in causes[-1] else causes[-1]
