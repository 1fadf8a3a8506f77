"""What every app channel is: one app's address, protocol, health and concurrency, behind one way to call it.

Step 6a of the request road and last step of the delivery road. The protocols are in `http.py`, `grpc.py` and `h2c.py`;
`table.py` finds the channel of an app, `health.py` decides whether it is healthy.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dapr_shared.channel.concurrency import DEFAULT_WAITING, CallSlots, HeldBody
from dapr_shared.channel.reach import accepts_tcp
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    InvokeRequest,
    InvokeResponse,
    NoSlotError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AsyncExitStack

    from dapr_shared.core.ids import AppRef
    from dapr_shared.wire.http.messages import Body, BodyStream, Headers

NOT_HEALTHY = "app is not in a healthy state"
"""Dapr's words for a call to an app whose health check fails (reference daprd-flags §7)."""

REACH_TIMEOUT = 0.5
"""Seconds for one TCP connect that only asks whether the app's port is open; Dapr's value (reference http-api §13)."""


class ChannelConfigurationError(ChannelError):
    """A channel that cannot be built from its settings: a certificate that cannot be read, a missing extra."""


@dataclass(frozen=True, slots=True)
class HealthProperties:
    """How an app is asked whether it is healthy (reference daprd-flags §1 and §7)."""

    path: str = "/healthz"
    """Path of the GET; for the HTTP protocols only."""
    interval: float = 5.0
    """Seconds between probes."""
    timeout: float = 0.5
    """Seconds for one probe."""
    threshold: int = 3
    """Failures that make a healthy app unhealthy."""


@dataclass(frozen=True, slots=True)
class ChannelProperties:
    """What the metadata API tells about an app's channel (`appConnectionProperties`)."""

    protocol: str = "http"
    """`http`, `https`, `h2c`, `grpc` or `grpcs`."""
    address: str = "127.0.0.1"
    port: int = 0
    max_concurrency: int = 0
    """Calls at a time; 0 means no limit."""
    health: HealthProperties | None = None
    """`None`: health checks are off, and the app always counts as healthy."""

    @property
    def where(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """One health probe's outcome."""

    healthy: bool
    status: str
    """HTTP status or name of the gRPC status, for the metric; empty when the app did not answer."""


def _nobody() -> None:
    """Nobody wants to know."""


class AppChannel(ABC):
    """How the instance reaches one app.

    `invoke` counts every call until its answer, body included, is finished, and lets no more than `max_concurrency` of
    them run at a time; the others wait in turn, at most `waiting` of them.
    """

    def __init__(self, ref: AppRef, properties: ChannelProperties, *, waiting: int = DEFAULT_WAITING) -> None:
        self.ref = ref
        self.properties = properties
        self.healthy = properties.health is None
        """Whether the app takes calls. With health checks on it is false until the first good probe."""
        self.on_unreachable: Callable[[], None] = _nobody
        """Called when a call did not reach the app and when the app closed a connection, so that whoever watches the app
        looks at once."""
        self._slots = CallSlots(properties.max_concurrency, waiting)
        self._closed = False

    @property
    def concurrency(self) -> int:
        """Calls in flight now."""
        return self._slots.in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot now."""
        return self._slots.waiting

    async def invoke(
        self,
        request: InvokeRequest,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the wire's timer is cheaper than a scope around it
    ) -> InvokeResponse:
        """Call a method of the app. Whatever the app answers is an answer, not an error.

        `timeout` is in seconds, until the answer's head, the wait for a slot included; `None` means no limit. A body
        of the answer that is not `bytes` is a `BodyStream`: read it to its end or call its `aclose`, because the call
        holds its slot until then.

        Raises `AppNotHealthyError`, `ChannelBusyError` (too many wait), `AppUnreachableError` (nothing reached the
        app), `AppTimeoutError`, `ChannelError` (the app broke off or answered garbage), and `BodyError` when the body
        of the request could not be read from its sender.
        """
        if not self.healthy:
            raise AppNotHealthyError(NOT_HEALTHY)
        slots = self._slots
        if not slots.try_take():
            timeout = await self._wait_for_slot(timeout, request.caller)
        try:
            self._check_open()
            response = await self._send(request, timeout)
        except ChannelError as exc:
            slots.give_back()
            self._call_failed(exc)
            raise
        except BaseException:
            slots.give_back()
            raise
        body = response.body
        if isinstance(body, bytes):
            slots.give_back()
        else:
            response.body = HeldBody(cast("BodyStream", body), slots)  # what `_send` promises
        return response

    async def deliver(
        self,
        path: str,
        body: bytes,
        headers: Headers,
        content_type: bytes,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `invoke`
    ) -> tuple[int, Body | AsyncIterator[bytes]]:
        """POST to a path of the app: status and body of its answer. As `invoke`, with the same errors.

        `path`: without the leading slash, decoded. `headers`: end-to-end headers, without `content-type`.
        """
        answer = await self.invoke(InvokeRequest(path, "POST", b"", headers, body, content_type), timeout=timeout)
        return answer.status, answer.body

    @asynccontextmanager
    async def slot(self, *, timeout: float | None = None, caller: str = "") -> AsyncGenerator[None]:  # noqa: ASYNC109 - as in `invoke`
        """Hold a slot for a call that does not go through `invoke`: a proxied one, a stream.

        `timeout` is in seconds, for the wait. Raises what `invoke` raises before it calls.
        """
        if not self.healthy:
            raise AppNotHealthyError(NOT_HEALTHY)
        if not self._slots.try_take():
            await self._wait_for_slot(timeout, caller)
        try:
            self._check_open()
            yield
        finally:
            self._slots.give_back()

    async def check_health(self) -> bool:
        """Ask the app once whether it is healthy; false as well when it does not answer in time. Never raises."""
        return (await self.probe_health()).healthy

    async def probe_health(self) -> HealthAnswer:
        """Like `check_health`, with the status that the app answered."""
        health = self.properties.health or HealthProperties()
        try:
            async with asyncio.timeout(health.timeout):
                return await self._probe(health)
        except (ChannelError, TimeoutError, OSError):
            return HealthAnswer(healthy=False, status="")

    async def reachable(self) -> bool:
        """Whether the app's port accepts TCP connections now. Never raises."""
        return await accepts_tcp(self.properties.address, self.properties.port, REACH_TIMEOUT)

    def reached(self) -> None:  # noqa: B027 - only what backs off by itself needs to know
        """Say that the app's port accepts connections again, so that no reconnecting waits. Nothing by default."""

    async def start(self, stack: AsyncExitStack) -> None:
        """Open what the channel needs; the stack closes it, with no grace. At most once.

        Connecting is not part of it: an app may be absent. Raises `ChannelConfigurationError`.
        """
        stack.push_async_callback(self.aclose, 0.0)
        await self._open()

    async def aclose(self, grace: float | None = None) -> None:
        """Close. Calls in flight finish first, for at most `grace` seconds (`None`: however long); then they fail.

        Calls that come in the meantime are still made, so that one that has just looked the channel up does not fail.
        Closing twice is safe.
        """
        if self._closed:
            return
        if self._slots.in_flight and grace != 0:
            try:
                async with asyncio.timeout(grace):
                    await self._slots.idle()
            except TimeoutError:
                pass
        self._closed = True
        await self._close()

    def _connection_lost(self) -> None:
        """Say that the app has closed a connection, to whoever watches it then."""
        self.on_unreachable()

    def _call_failed(self, error: ChannelError) -> None:
        """Say so, if it broke off, or was not there."""
        if not isinstance(error, AppTimeoutError | ChannelBusyError):
            self.on_unreachable()

    def _check_open(self) -> None:
        if self._closed:
            raise AppUnreachableError(f"the channel to app {self.ref} is closed")

    async def _wait_for_slot(self, timeout: float | None, caller: str) -> float | None:  # noqa: ASYNC109 - one deadline for both waits
        """Wait for our turn; return what is left of the time."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(timeout):
                await self._slots.take(caller)
        except TimeoutError:
            raise NoSlotError(
                f"no free slot within {timeout:g} s: the app takes {self.properties.max_concurrency} calls at a time"
            ) from None
        if not self.healthy:
            self._slots.give_back()
            raise AppNotHealthyError(NOT_HEALTHY)
        return None if timeout is None else max(0.001, timeout - (loop.time() - start))

    @abstractmethod
    async def _send(self, request: InvokeRequest, timeout: float | None) -> InvokeResponse:  # noqa: ASYNC109 - the wire's
        """Make one call. The body of the answer is `bytes` or a `BodyStream`."""

    @abstractmethod
    async def _probe(self, health: HealthProperties) -> HealthAnswer:
        """Ask the app for its health, without the app's token. The caller keeps the time."""

    @abstractmethod
    async def _open(self) -> None:
        """Open what the protocol needs, without connecting. Raises `ChannelConfigurationError`."""

    @abstractmethod
    async def _close(self) -> None:
        """Close connections; calls in flight fail."""
