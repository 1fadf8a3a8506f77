"""HTTP services outside: absolute URLs and HTTPEndpoint resources, invoked like apps.

Step 6a of the request road. Unlike the channel to an app: certificates are verified, no app's token is ever sent, and
connections are shared by all who call the same origin, for a bounded number of origins.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import unquote_to_bytes, urlsplit

from dapr_shared.channel.base import ChannelConfigurationError
from dapr_shared.channel.concurrency import CallSlots, HeldBody
from dapr_shared.channel.exchange import API_TOKEN, exchange, request_target
from dapr_shared.channel.tls import verified_context
from dapr_shared.wire.http.client import HttpClient
from dapr_shared.wire.http.limits import ClientLimits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from contextlib import AsyncExitStack

    from dapr_shared.contracts.invocation import InvokeRequest, InvokeResponse
    from dapr_shared.wire.http.messages import BodyStream, Header

ORIGINS = 64
"""Origins whose connections are kept; the one not called for longest makes room."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where connections go; two targets with one origin and one TLS context share them."""

    scheme: str
    host: str
    port: int


class _Pooled:
    """One origin's client and the calls in flight on it."""

    __slots__ = ("calls", "client")

    def __init__(self, client: HttpClient) -> None:
        self.client = client
        self.calls = CallSlots()


class ExternalConnections:
    """Connections to services outside, shared by all `HttpTarget`s; at most `origins` origins.

    An origin that makes room keeps its connections until its calls in flight have ended.
    """

    def __init__(self, *, origins: int = ORIGINS, limits: ClientLimits | None = None) -> None:
        self._most = origins
        self._limits = limits or ClientLimits(connections=256)
        self._pooled: OrderedDict[tuple[Origin, ssl.SSLContext | None], _Pooled] = OrderedDict()
        self._leaving: set[asyncio.Task[None]] = set()
        self._context: ssl.SSLContext | None = None
        self._making_context = asyncio.Lock()

    async def start(self, stack: AsyncExitStack) -> None:
        """Let the stack close every connection."""
        stack.push_async_callback(self.aclose)

    async def system_context(self) -> ssl.SSLContext:
        """TLS verified against the system's certificates; made once, when first needed."""
        async with self._making_context:
            if self._context is None:
                self._context = await asyncio.to_thread(verified_context)
            return self._context

    def get(self, origin: Origin, context: ssl.SSLContext | None) -> _Pooled:
        """The origin's client, made if need be."""
        key = (origin, context)
        pooled = self._pooled.get(key)
        if pooled is not None:
            self._pooled.move_to_end(key)
            return pooled
        while len(self._pooled) >= self._most:
            _, oldest = self._pooled.popitem(last=False)
            self._let_go(oldest)
        client = HttpClient(origin.scheme, origin.host, origin.port, limits=self._limits, ssl=context)
        self._pooled[key] = pooled = _Pooled(client)
        return pooled

    def __len__(self) -> int:
        return len(self._pooled)

    async def aclose(self) -> None:
        """Close every connection; calls in flight fail."""
        leaving = tuple(self._leaving)
        for task in leaving:
            task.cancel()
        if leaving:
            await asyncio.wait(leaving)
        while self._pooled:
            _, pooled = self._pooled.popitem()
            await pooled.client.aclose()

    def _let_go(self, pooled: _Pooled) -> None:
        async def close() -> None:
            try:
                await pooled.calls.idle()
            finally:
                await pooled.client.aclose()

        task = asyncio.get_running_loop().create_task(close(), name="close-origin")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class HttpTarget:
    """A service outside: a base URL, the headers that its endpoint sets, and its TLS.

    The headers are set over what the caller sent. User and password in the URL become basic authorization, as in Go.
    Redirects are answers, not followed.
    """

    def __init__(
        self,
        base_url: str,
        connections: ExternalConnections,
        *,
        headers: Iterable[tuple[str, str]] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`context`: TLS of its own (`tls.endpoint_context`); `None`: verified against the system's certificates.

        Raises `ChannelConfigurationError` for a URL that is not an absolute http or https URL without query.
        """
        self.base_url = base_url
        self._connections = connections
        self._context = context
        self.origin, self._base_path, authorization = _parse(base_url)
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        self._where = f"{host}:{self.origin.port}"
        given: list[Header] = [(name.lower().encode(), value.encode()) for name, value in headers]
        if authorization is not None and all(name != b"authorization" for name, _ in given):
            given.append((b"authorization", authorization))
        self._headers = given
        self._content_type = next((value for name, value in given if name == b"content-type"), None)
        # `host` is the URL's own unless the endpoint sets it; the caller's names us.
        self._replaced = frozenset({API_TOKEN, b"host"} | {name for name, _ in given})

    async def invoke(
        self,
        request: InvokeRequest,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `AppChannel.invoke`
    ) -> InvokeResponse:
        """Call it; the same promise and errors as `AppChannel.invoke`, but for health and concurrency."""
        context = self._context
        if context is None and self.origin.scheme == "https":
            context = await self._connections.system_context()
        pooled = self._connections.get(self.origin, context)
        headers = [header for header in request.headers if header[0] not in self._replaced]
        headers += [header for header in self._headers if header[0] != b"content-type"]
        content_type = self._content_type or request.content_type
        target = request_target(self._base_path, request)
        pooled.calls.try_take()
        try:
            response = await exchange(pooled.client, self._where, target, request, headers, content_type, timeout)
        except BaseException:
            pooled.calls.give_back()
            raise
        if isinstance(response.body, bytes):
            pooled.calls.give_back()
        else:
            response.body = HeldBody(cast("BodyStream", response.body), pooled.calls)  # what `exchange` promises
        return response


def _parse(url: str) -> tuple[Origin, bytes, bytes | None]:
    """Origin, base path without a slash at its end, and basic authorization of a base URL."""
    if any(char <= " " or char == "\x7f" for char in url):
        raise ChannelConfigurationError(f"{url!r} is not a URL: it has spaces or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
        path = parts.path.rstrip("/").encode("ascii")
    except ValueError as exc:
        raise ChannelConfigurationError(f"{url!r} is not a URL: {exc}") from exc
    if parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
        raise ChannelConfigurationError(f"{url!r} is not an absolute http or https URL")
    if parts.query or parts.fragment:
        raise ChannelConfigurationError(f"{url!r}: a base URL has no query and no fragment")
    authorization = None
    if parts.username is not None:
        pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = b"Basic " + base64.b64encode(pair)
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), path, authorization
