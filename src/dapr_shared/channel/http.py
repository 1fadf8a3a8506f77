"""The channel to an app that speaks HTTP or HTTPS.

Step 6a of the request road and last step of the delivery road: one pool of HTTP/1.1 connections an app.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from dapr_shared.channel.base import (
    AppChannel,
    ChannelConfigurationError,
    ChannelProperties,
    HealthAnswer,
    HealthProperties,
)
from dapr_shared.channel.concurrency import DEFAULT_WAITING, HeldBody
from dapr_shared.channel.exchange import (
    API_TOKEN,
    PRINTABLE,
    encode_method,
    exchange,
    plain_error,
    request_target,
    unsendable,
)
from dapr_shared.channel.tls import app_context
from dapr_shared.contracts.invocation import AppUnreachableError, ChannelError
from dapr_shared.wire.http.client import HttpClient, HttpClientError
from dapr_shared.wire.http.limits import ClientLimits

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from dapr_shared.contracts.invocation import InvokeRequest, InvokeResponse
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import ChannelTls
    from dapr_shared.wire.http.messages import Body, Headers

_MOST_STARTS = 256
_PROBE_LIMITS = ClientLimits(connections=2, waiting=8, idle=1)


class HttpAppChannel(AppChannel):
    """One app over HTTP/1.1.

    The app's token (`api_token`) goes out as `dapr-api-token` with every call and with no probe; a value that came
    from the caller never does. For `https`, see `tls.app_context` on what is verified.
    """

    def __init__(
        self,
        ref: AppRef,
        properties: ChannelProperties,
        *,
        api_token: str | None = None,
        tls: ChannelTls | None = None,
        base_path: str = "",
        limits: ClientLimits | None = None,
        waiting: int = DEFAULT_WAITING,
    ) -> None:
        """`base_path` is put before every path, already encoded. `limits` bound the connections and the answers."""
        super().__init__(ref, properties, waiting=waiting)
        self._token = None if api_token is None else (API_TOKEN, api_token.encode())
        self._tls = tls
        self._base_path = base_path.rstrip("/").encode("ascii")
        self._limits = limits or ClientLimits()
        self._where = properties.where
        self._context: ssl.SSLContext | None = None
        self._client: HttpClient | None = None
        self._starts: dict[tuple[str, bytes], bytes] = {}
        """Heads of deliveries, as far as they are the same each time, by path and content type."""
        # Probes have connections of their own: an app whose pool is full of slow calls is busy, not unhealthy.
        self._probe_client: HttpClient | None = None

    async def _open(self) -> None:
        if self.properties.protocol == "https":
            self._context = await asyncio.to_thread(app_context, self._tls)
        try:
            self._client = self._connect(self._limits)
            self._client.on_idle_lost = self._connection_lost
        except ValueError as exc:
            raise ChannelConfigurationError(f"channel.address: {self.properties.address!r}: {exc}") from exc

    def _connect(self, limits: ClientLimits) -> HttpClient:
        """A client; it connects with its first request."""
        return HttpClient(
            self.properties.protocol,
            self.properties.address,
            self.properties.port,
            limits=limits,
            ssl=self._context,
            server_name=(self._tls.server_name or None) if self._tls is not None else None,
        )

    async def _send(self, request: InvokeRequest, timeout: float | None) -> InvokeResponse:  # noqa: ASYNC109 - the wire's
        if self._client is None:
            raise AppUnreachableError(f"the channel to app {self.ref} is not open")
        headers = [header for header in request.headers if header[0] != API_TOKEN]
        if self._token is not None:
            headers.append(self._token)
        target = request_target(self._base_path, request)
        return await exchange(self._client, self._where, target, request, headers, request.content_type, timeout)

    async def deliver(
        self,
        path: str,
        body: bytes,
        headers: Headers,
        content_type: bytes,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the wire's
    ) -> tuple[int, Body | AsyncIterator[bytes]]:
        """See `AppChannel.deliver`.

        What `invoke` does without what only an invocation needs, and with a head of which most is made once: 20 of 320
        calls of a message fewer, from its publication on.
        """
        client, slots = self._client, self._slots
        if client is None or self._closed or not self.healthy or not slots.try_take():
            return await super().deliver(path, body, headers, content_type, timeout=timeout)
        try:
            start = self._starts.get((path, content_type)) or self._delivery_start(client, path, content_type)
            given = [header for header in headers if header[0] != API_TOKEN]
            answer = await client.post(start, given, body, timeout=timeout)
        except (HttpClientError, ValueError) as exc:
            slots.give_back()
            error = plain_error(exc, self._where, timeout) if isinstance(exc, HttpClientError) else unsendable(exc)
            if isinstance(error, ChannelError):
                self._call_failed(error)
            raise error from exc
        except BaseException:
            slots.give_back()
            raise
        whole = answer.body
        if isinstance(whole, bytes):
            slots.give_back()
            return answer.status, whole
        return answer.status, HeldBody(whole, slots)

    def _delivery_start(self, client: HttpClient, path: str, content_type: bytes) -> bytes:
        token = [] if self._token is None else [self._token]
        start = client.post_start(self._base_path + encode_method(path), [*token, (b"content-type", content_type)])
        if len(self._starts) >= _MOST_STARTS:
            self._starts.clear()
        self._starts[path, content_type] = start
        return start

    async def _probe(self, health: HealthProperties) -> HealthAnswer:
        if self._probe_client is None:
            self._probe_client = self._connect(_PROBE_LIMITS)
        path = health.path if health.path.startswith("/") else "/" + health.path
        target = self._base_path + quote(path, safe=PRINTABLE).encode("ascii")
        try:
            answer = await self._probe_client.request("GET", target, [], timeout=health.timeout)
        except HttpClientError as exc:
            raise plain_error(exc, self._where, health.timeout) from exc
        except ValueError as exc:
            raise ChannelError(f"channel.healthCheck.path: {exc}") from exc
        if not isinstance(answer.body, bytes):
            await answer.body.aclose()
        return HealthAnswer(healthy=200 <= answer.status < 300, status=str(answer.status))

    async def _close(self) -> None:
        clients = (self._client, self._probe_client)
        self._client = self._probe_client = None
        for client in clients:
            if client is not None:
                await client.aclose()
