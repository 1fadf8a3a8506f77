"""The gRPC client: raw bytes to an app, a peer instance or a daprd sidecar.

Last step of both roads. A thin layer over grpc.aio channels that adds what they lack: one error type with all metadata,
metadata that is always legal (`metadata.py`), a request stream that ends when the call does, and connections that live
for a limited time, so that names are resolved again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import grpc.aio

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError, Metadata
from dapr_shared.wire.grpc.metadata import Pairs, received_metadata, request_metadata
from dapr_shared.wire.grpc.serving import close, is_being_cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LIFE_JITTER: Final = 0.1
_BACK_OFF_FIRST_MS: Final = 100
_BACK_OFF_MOST_MS: Final = 5_000
_CONNECT_MS: Final = 5_000
_RESOLVE_PAUSE_MS: Final = 1_000
_LOST: Final = (
    "Stream removed",
    "Socket closed",
    "recvmsg:",
    "sendmsg:",
    "GOAWAY received",
    "Connection reset by peer",
)
"""What gRPC says when it has lost a connection with a call on it."""
_REJECTED: Final = "grpc_call_start_batch"
"""In the text of an operation that gRPC did not even begin."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS towards the server."""

    root_certificates: bytes | None = None
    """PEM; `None`: gRPC's own list of public roots."""
    certificate_chain: bytes | None = None
    """PEM of the client's certificate; with `private_key` or not at all."""
    private_key: bytes | None = None
    """PEM; secret."""
    server_name: str | None = None
    """Name to expect in the server's certificate instead of the target's host."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Bounds of one gRPC client."""

    max_message_bytes: int = 4 * 1024 * 1024
    """Largest message in either direction; 0 means no limit."""
    max_metadata_bytes: int = 4 * 1024 * 1024
    """Largest metadata of an answer."""
    keepalive_interval: float | None = None
    """Seconds between pings while calls are in flight; `None`: no pings. A Go server closes connections that ping more
    often than every 5 minutes unless it was told otherwise."""
    keepalive_timeout: float = 5.0
    """Seconds to wait for the answer of a ping."""
    life: float = 300.0
    """Seconds, give or take 10 %, after which new calls use a new connection and resolve the name again; calls in
    flight end on the old one."""
    tls: TlsOptions | None = None
    """`None`: plain text."""
    user_agent: str = ""
    """Put before gRPC's own in the `user-agent` header."""

    def arguments(self) -> list[tuple[str, Any]]:
        """Grpc's channel arguments."""
        message_bytes = self.max_message_bytes or -1
        arguments: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", message_bytes),
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.max_metadata_bytes),
            # Only what gRPC calls transparent retries: of calls that no server has seen (refused stream, connection that
            # was just closed). Retries by policy are ours (resiliency): a service configuration from DNS is not read.
            ("grpc.enable_retries", 1),
            ("grpc.service_config_disable_resolution", 1),
            # Two clients of one address are two connections, and a new channel really connects anew.
            ("grpc.use_local_subchannel_pool", 1),
            # A proxy in the environment is for the way out of the cluster, not for apps.
            ("grpc.enable_http_proxy", 0),
            ("grpc.initial_reconnect_backoff_ms", _BACK_OFF_FIRST_MS),
            ("grpc.max_reconnect_backoff_ms", _BACK_OFF_MOST_MS),
            # The time to connect, in spite of its name.
            ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
            ("grpc.dns_min_time_between_resolutions_ms", _RESOLVE_PAUSE_MS),
            ("grpc.client_idle_timeout_ms", max(1_000, round(self.life * 1000))),
        ]
        if self.keepalive_interval is not None:
            arguments += [
                ("grpc.keepalive_time_ms", round(self.keepalive_interval * 1000)),
                ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout * 1000)),
                ("grpc.http2.ping_timeout_ms", round(self.keepalive_timeout * 1000)),
                ("grpc.http2.max_pings_without_data", 0),
            ]
        if self.user_agent:
            arguments.append(("grpc.primary_user_agent", self.user_agent))
        if self.tls is not None and self.tls.server_name:
            arguments.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return arguments


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """A unary call's whole answer."""

    data: bytes
    initial: Metadata
    trailers: Metadata


class _Channel:
    """A grpc.aio channel with the calls in flight on it; closes when it is retired and the last of them ends."""

    def __init__(
        self,
        target: str,
        options: ClientOptions,
        now: float,
        open_channels: set[_Channel],
        on_lost: Callable[[], None] | None,
    ) -> None:
        self.expires = now + options.life * (1 + random.uniform(-_LIFE_JITTER, _LIFE_JITTER))  # noqa: S311 - jitter
        self._calls = 0
        self._retired = False
        self._open_channels = open_channels
        self._closing: asyncio.Task[None] | None = None
        tls = options.tls
        self.raw: Any
        if tls is None:
            self.raw = grpc.aio.insecure_channel(target, options=options.arguments())
        else:
            credentials = cast("Any", grpc).ssl_channel_credentials(
                tls.root_certificates, tls.private_key, tls.certificate_chain
            )
            self.raw = grpc.aio.secure_channel(target, credentials, options=options.arguments())
        open_channels.add(self)
        self._watching: asyncio.Task[None] | None = None
        if on_lost is not None:
            self._watching = asyncio.get_running_loop().create_task(
                self._watch(on_lost), name=f"connection to {target}"
            )

    def begin(self) -> None:
        self._calls += 1

    def end(self, _: object = None) -> None:
        self._calls -= 1
        self._close_when_idle()

    def retire(self) -> None:
        """Take no new calls: the client has forgotten this channel."""
        self._retired = True
        self._close_when_idle()

    def error(self, status: grpc.StatusCode, details: str, initial: Pairs, trailers: Pairs) -> GrpcError:
        """The error of a call that just ended, and whether it did so for want of a connection.

        gRPC does not say who made a status, but only a server sends metadata with it, over a connection that is ready.
        One that was lost may still be called ready for a moment; then gRPC's text tells. A server that passes on such
        a text from a call of its own, with nothing beside it, is misread as lost: its call has failed either way.
        """
        unreachable = (
            status is grpc.StatusCode.UNAVAILABLE
            and not initial
            and not trailers
            and (
                self not in self._open_channels
                or self.raw.get_state() is not grpc.ChannelConnectivity.READY
                or details.startswith(_LOST)
            )
        )
        code = GrpcCode(status.value[0])
        return GrpcError(code, details, trailers=trailers, initial=initial, unreachable=unreachable)

    async def close(self) -> None:
        """Cancel the calls in flight and disconnect."""
        self._open_channels.discard(self)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.raw.close()

    async def _watch(self, on_lost: Callable[[], None]) -> None:
        """Tell when the connection is lost, in use or not."""
        state = self.raw.get_state()
        while not self._retired:
            await self.raw.wait_for_state_change(state)
            before, state = state, self.raw.get_state()
            if before is grpc.ChannelConnectivity.READY and state is not before and not self._retired:
                on_lost()

    def _close_when_idle(self) -> None:
        if self._retired and not self._calls and self in self._open_channels and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self.close())


class GrpcStream:
    """A call in progress: `StreamCall` over a grpc.aio call."""

    def __init__(self, call: Any, messages: AsyncIterator[bytes], channel: _Channel) -> None:
        self._call = call
        self._channel = channel
        self._trailers: Pairs = ()
        self._failure: Exception | None = None
        # Not grpc's own sending from an iterator: it goes on waiting for the next message when the call has ended.
        self._sending = asyncio.get_running_loop().create_task(self._send(messages))

    async def initial_metadata(self) -> Metadata:
        """Response headers, once they are there. Raises `GrpcError` if the call failed before."""
        try:
            pairs = received_metadata(await self._call.initial_metadata())
            if not pairs and self._call.done() and await self._call.code() is not grpc.StatusCode.OK:
                trailers = received_metadata(await self._call.trailing_metadata() or ())
                raise self._failure or self._channel.error(
                    await self._call.code(), await self._call.details() or "", pairs, trailers
                )
        except asyncio.CancelledError:
            self._raise_unless_cancelled()
            raise
        return pairs

    async def messages(self) -> AsyncIterator[bytes]:
        """The answers, asked from the server one at a time. Raises `GrpcError` on a status other than OK.

        An exception of the iterator of requests cancels the call and is raised here.
        """
        try:
            async for message in self._call:
                yield message
            self._trailers = received_metadata(await self._call.trailing_metadata())
        except grpc.aio.AioRpcError as exc:
            raise self._failure or _error(exc, self._channel) from None
        except asyncio.CancelledError:
            self._raise_unless_cancelled()
            raise
        finally:
            self.cancel()
            # The iterator of requests has ended when the answers have.
            await asyncio.wait({self._sending})

    def trailers(self) -> Metadata:
        """Trailing metadata, after `messages()` has ended."""
        return self._trailers

    def cancel(self) -> None:
        """End the call with CANCELLED unless it has ended; stop reading the requests."""
        self._call.cancel()
        self._sending.cancel()

    async def _send(self, messages: AsyncIterator[bytes]) -> None:
        try:
            try:
                await self._call.wait_for_connection()
                async for message in messages:
                    if self._call.done():
                        return
                    await self._write(message)
                await self._call.done_writing()
            finally:
                await close(messages)
        except grpc.aio.AioRpcError:
            return  # the call has ended; its status says why
        except Exception as exc:  # noqa: BLE001 - raised again by who reads the answers
            if isinstance(exc, grpc.aio.InternalError) and _REJECTED not in str(exc):
                return  # the call has ended, or its status is on its way
            self._failure = exc
            self._call.cancel()

    async def _write(self, message: bytes) -> None:
        """Send one message.

        Not grpc's own `write`: when that fails because the call is ending, it replaces the status of the server by
        INTERNAL (grpc/grpc#36066, seen in 1.85.1).
        """
        await self._call._cython_call.send_serialized_message(message)  # noqa: SLF001 - see above

    def _raise_unless_cancelled(self) -> None:
        if self._failure is not None and not is_being_cancelled():
            raise self._failure from None
        _raise_unless_cancelled()


class GrpcClient:
    """A connection to one gRPC server; reconnects by itself.

    A call fails at once with UNAVAILABLE while the server refuses connections; reconnecting backs off from 100 ms to
    5 s. Reserved metadata keys are dropped (`metadata.py`); `user-agent` is always gRPC's own (see
    `ClientOptions.user_agent`).
    """

    def __init__(
        self, target: str, options: ClientOptions | None = None, *, on_lost: Callable[[], None] | None = None
    ) -> None:
        """`target` is `host:port` or `unix:path`. Connects with the first call; use it on one event loop.

        `on_lost` is called when the server closes the connection or breaks it off, also while no call is in flight.
        """
        self.target = target
        self._options = options or ClientOptions()
        self._on_lost = on_lost
        self._channel: _Channel | None = None
        self._open_channels: set[_Channel] = set()
        self._closed = False

    async def unary(
        self,
        method: str,
        data: bytes,
        metadata: Metadata = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline travels with the call
    ) -> GrpcAnswer:
        """Call a unary method. `timeout`: seconds, sent as the deadline. Raises `GrpcError`."""
        cleaned = request_metadata(metadata) if metadata else ()
        channel = self._current()
        channel.begin()
        try:
            call = channel.raw.unary_unary(method)(data, timeout=timeout, metadata=cleaned)
            answer = await call
            initial = await call.initial_metadata()
            trailers = await call.trailing_metadata()
        except grpc.aio.AioRpcError as exc:
            raise _error(exc, channel) from None
        except asyncio.CancelledError:
            _raise_unless_cancelled()
            raise
        finally:
            channel.end()
        return GrpcAnswer(answer, received_metadata(initial), received_metadata(trailers))

    def stream(
        self,
        method: str,
        messages: AsyncIterator[bytes],
        metadata: Metadata = (),
        *,
        timeout: float | None = None,
    ) -> GrpcStream:
        """Call any method as a stream of raw bytes in both directions; the end of `messages` half-closes.

        The call starts now. Read `messages()` to its end or call `cancel()`; either ends the reading of `messages`.
        Raises `GrpcError` for metadata that cannot be sent and when the client is closed.
        """
        cleaned = request_metadata(metadata) if metadata else ()
        channel = self._current()
        call = channel.raw.stream_stream(method)(timeout=timeout, metadata=cleaned)
        channel.begin()
        call.add_done_callback(channel.end)
        return GrpcStream(call, messages, channel)

    def reconnect(self) -> None:
        """Use a new connection for the next call, at once: for who knows that a refusing server is back."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.retire()

    async def aclose(self) -> None:
        """Close; calls in flight are cancelled and fail with `GrpcError` CANCELLED."""
        self._closed = True
        self._channel = None
        for channel in tuple(self._open_channels):
            await channel.close()

    def _current(self) -> _Channel:
        if self._closed:
            raise GrpcError(GrpcCode.CANCELLED, "the client is closed")
        now = asyncio.get_running_loop().time()
        if self._channel is not None and now >= self._channel.expires:
            self.reconnect()
        if self._channel is None:
            self._channel = _Channel(self.target, self._options, now, self._open_channels, self._on_lost)
        return self._channel


def _error(exc: grpc.aio.AioRpcError, channel: _Channel) -> GrpcError:
    error: Any = exc
    initial = received_metadata(error.initial_metadata() or ())
    trailers = received_metadata(error.trailing_metadata() or ())
    return channel.error(error.code(), error.details() or "", initial, trailers)


def _raise_unless_cancelled() -> None:
    """grpc.aio raises `CancelledError` also when the call was cancelled and the task that waits for it was not."""
    if not is_being_cancelled():
        raise GrpcError(GrpcCode.CANCELLED, "the call was cancelled") from None
