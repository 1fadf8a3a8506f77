"""The HTTP connection to an API server: credentials, one request, one answer, errors in words.

Beside both roads, below `client.py`, which says what the requests mean. Every answer, line and number of calls at once is
bounded. Redirects are not followed and proxies not used, so that the token goes to the API server alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import orjson
from yarl import URL

from dapr_shared.kube.errors import Asked, KubeConfigError, KubeError, error_of, unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AsyncExitStack

    from dapr_shared.kube.config import Credentials, KubeConfig
    from dapr_shared.kube.errors import Advise
    from dapr_shared.kube.objects import JsonObject

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to connect, TLS included."""
REQUEST_TIMEOUT: Final = 30.0
"""Seconds for one answer; each part of a list is one."""
SILENCE: Final = 100.0
"""Seconds without a byte after which a watch is given up. The server sends a bookmark about every minute."""
CREDENTIALS_AGE: Final = 60.0
"""Seconds after which token and certificate files are looked at again; the kubelet renews a token long before its end."""
CALLS_AT_ONCE: Final = 16
"""Requests under way at most, watches not counted; the others wait."""
ANSWER_LIMIT: Final = 128 * 1024 * 1024
"""Bytes of one answer; an object has at most about 1.5 MiB at the server."""
LINE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one event of a watch."""
_REFUSAL_LIMIT: Final = 1024 * 1024
_LONGEST_WAIT: Final = 60.0
"""Seconds of a `Retry-After` that are believed."""
_BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what it is about."""

    method: str
    asked: Asked
    params: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: JsonObject | None = field(default=None, repr=False)


class ApiConnection:
    """Sends requests to one API server as one identity."""

    def __init__(self, config: KubeConfig, agent: str, advise: Advise | None = None) -> None:
        self.config = config
        self._advise = advise
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._credentials: Credentials | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def start(self, stack: AsyncExitStack) -> None:
        """Read the credentials; nothing is sent yet. Raises `KubeConfigError`."""
        self._credentials = await asyncio.to_thread(self.config.read)
        self._read_at = asyncio.get_running_loop().time()
        self._session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
                headers={"User-Agent": self._agent},
            )
        )

    async def ask(self, request: Request) -> JsonObject:
        """The object that answers. Raises `KubeError`."""
        async with self._calls, await self._send(request) as answer:
            if not 200 <= answer.status < 300:
                raise await self._refusal(request.asked, answer)
            raw = await self._read(request.asked, answer)
        try:
            parsed: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:  # its text would show what was answered
            parsed = None
        if not isinstance(parsed, dict):
            raise unreachable(request.asked, self.config.server, "answered what is no object in JSON")
        return cast("JsonObject", parsed)

    async def follow(self, request: Request) -> AsyncGenerator[bytes]:
        """The lines of an answer that goes on and on; the first is empty and says that the server has answered.

        Raises `KubeError`, also after `SILENCE` without a byte.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE)
        answer = await self._send(request, timeout=timeout)
        try:
            if answer.status != 200:
                raise await self._refusal(request.asked, answer)
            yield b""
            pending = bytearray()
            searched = 0
            async for part in answer.content.iter_any():
                pending += part
                while (end := pending.find(b"\n", searched)) >= 0:
                    yield bytes(pending[:end])
                    del pending[: end + 1]
                    searched = 0
                searched = len(pending)
                if searched > LINE_LIMIT:
                    raise KubeError(200, "TooLarge", f"{request.asked}: one event has more than {LINE_LIMIT} bytes")
        except _BROKEN as error:
            raise self._failed(request.asked, error) from error
        finally:
            answer.close()

    async def _send(self, request: Request, **options: Any) -> aiohttp.ClientResponse:
        """The answer, its body not read. A refused identity is tried once more where the token was renewed."""
        now = asyncio.get_running_loop().time()
        credentials = await self._current(older_than=now - CREDENTIALS_AGE)
        answer = await self._send_as(credentials, request, options)
        if answer.status == 401:
            renewed = await self._current(older_than=now)
            if renewed.token != credentials.token:
                answer.close()
                answer = await self._send_as(renewed, request, options)
        return answer

    async def _send_as(
        self, credentials: Credentials, request: Request, options: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        asked = request.asked
        if self._session is None or self._session.closed:
            raise unreachable(asked, self.config.server, "is not asked before the start or after the end")
        headers = dict(request.headers)
        if credentials.token:
            headers["Authorization"] = f"Bearer {credentials.token}"
        path = asked.kind.path(asked.namespace, asked.name, asked.subresource)
        try:
            return await self._session.request(
                request.method,
                URL(self.config.server + path, encoded=True),
                params=request.params,
                headers=headers,
                data=None if request.body is None else orjson.dumps(request.body),
                allow_redirects=False,
                ssl=credentials.context or True,
                server_hostname=(self.config.server_name or None) if credentials.context else None,
                **options,
            )
        except aiohttp.ClientConnectorCertificateError as error:
            self._read_at = float("-inf")  # the authority may have been replaced
            raise self._failed(asked, error) from error
        except _BROKEN as error:
            raise self._failed(asked, error) from error

    async def _current(self, older_than: float) -> Credentials:
        """The credentials, read again when they were read before that time; the former ones where that fails."""
        if self._credentials is not None and self._read_at > older_than:
            return self._credentials
        async with self._reading:
            if self._credentials is None or self._read_at <= older_than:
                self._read_at = asyncio.get_running_loop().time()
                try:
                    self._credentials = await asyncio.to_thread(self.config.read, self._credentials)
                except KubeConfigError:
                    if self._credentials is None:
                        raise
            return self._credentials

    async def _read(self, asked: Asked, answer: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async for part in answer.content.iter_any():
                size += len(part)
                if size > limit:
                    answer.close()
                    raise KubeError(answer.status, "TooLarge", f"{asked}: the answer has more than {limit} bytes")
                parts.append(part)
        except _BROKEN as error:
            raise self._failed(asked, error) from error
        return b"".join(parts)

    async def _refusal(self, asked: Asked, answer: aiohttp.ClientResponse) -> KubeError:
        try:
            body: Any = orjson.loads(await self._read(asked, answer, _REFUSAL_LIMIT))
        except (KubeError, orjson.JSONDecodeError):
            body = None
        wait = answer.headers.get("Retry-After", "")
        seconds = min(float(wait), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else 0.0
        status = cast("JsonObject", body) if isinstance(body, dict) else {}
        return error_of(asked, answer.status, status, retry_after=seconds, advise=self._advise)

    def _failed(self, asked: Asked, error: Exception) -> KubeError:
        return unreachable(asked, self.config.server, _problem(error))


def _problem(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"has a certificate that is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached ({error.os_error.strerror or error.os_error or type(error).__name__})"
    return f"ended the connection ({type(error).__name__})"
