"""The channel to an app that speaks gRPC, plain or over TLS.

Step 6a of the request road and last step of the delivery road: invocations become `AppCallback.OnInvoke` calls
(reference grpc-api §3); proxied calls use `client` as it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from dapr_shared._proto import common_pb, wellknown_pb
from dapr_shared.channel.base import (
    AppChannel,
    ChannelConfigurationError,
    ChannelProperties,
    HealthAnswer,
    HealthProperties,
)
from dapr_shared.channel.concurrency import DEFAULT_WAITING
from dapr_shared.channel.tls import read_pem
from dapr_shared.contracts.grpc_status import VERBS, as_headers, status_response
from dapr_shared.contracts.invocation import (
    AppTimeoutError,
    AppUnreachableError,
    ChannelError,
    InvokeRequest,
    InvokeResponse,
)
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient, TlsOptions
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import ChannelTls
    from dapr_shared.wire.grpc.interface import Metadata
    from dapr_shared.wire.http.messages import Headers

ON_INVOKE = "/dapr.proto.runtime.v1.AppCallback/OnInvoke"
HEALTH_CHECK = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck"

DEFAULT_BODY_BYTES = 4 * 1024 * 1024
"""Longest body of an invocation, Dapr's `--max-body-size`; a gRPC message cannot be streamed."""

_UNLIMITED = 2**31 - 1
"""What a protobuf message can hold."""

_TOKEN_KEY = "dapr-api-token"  # noqa: S105 - the key, not a token

# What gRPC says when it has no connection, as opposed to having lost one with the call on it.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "dns resolution failed",
    "errors resolving",
    "empty address list",
)


class GrpcAppChannel(AppChannel):
    """One app over gRPC; all calls share one HTTP/2 connection.

    The app's token goes out as `dapr-api-token` with every call and with no probe. For `grpcs` the app's certificate
    is always verified, against `tls.ca_file` or else gRPC's list of public roots: unlike daprd's, this gRPC client
    cannot do without. Headers that gRPC cannot carry (a value that is not printable ASCII, an odd name) are left out.
    """

    def __init__(
        self,
        ref: AppRef,
        properties: ChannelProperties,
        *,
        api_token: str | None = None,
        tls: ChannelTls | None = None,
        body_bytes: int = DEFAULT_BODY_BYTES,
        waiting: int = DEFAULT_WAITING,
    ) -> None:
        """`body_bytes`: longest body of a request or an answer; 0 means no limit."""
        super().__init__(ref, properties, waiting=waiting)
        self._token: tuple[tuple[str, str], ...] = () if api_token is None else ((_TOKEN_KEY, api_token),)
        self._tls = tls
        self._body_bytes = body_bytes
        self._where = properties.where
        self._client: GrpcClient | None = None

    @property
    def client(self) -> GrpcClient:
        """The connection, for proxied calls; hold a `slot()` meanwhile. Raises `AppUnreachableError` when closed."""
        if self._client is None:
            raise AppUnreachableError(f"the channel to app {self.ref} is not open")
        return self._client

    def metadata_for_app(self) -> Metadata:
        """What every call to the app carries beside the caller's metadata: the app's token, if it has one."""
        return self._token

    def reached(self) -> None:
        """Connect anew at the next call instead of waiting for gRPC's back-off."""
        if self._client is not None:
            self._client.reconnect()

    async def invoke(
        self,
        request: InvokeRequest,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - see the base class
    ) -> InvokeResponse:
        """See `AppChannel.invoke`. A streamed body is read first, up to the limit: a message cannot be sent in parts.

        No slot is held meanwhile, and `timeout` does not run: a slow sender costs the app nothing.
        """
        if not isinstance(request.body, bytes) and self.healthy:
            body = await request.body.read(self._body_bytes or _UNLIMITED)
            request = InvokeRequest(
                request.method, request.verb, request.query, request.headers, body, request.content_type
            )
        return await super().invoke(request, timeout=timeout)

    async def _open(self) -> None:
        tls = await asyncio.to_thread(_tls_options, self._tls) if self.properties.protocol == "grpcs" else None
        # The message around a body has a method, a content type and a query of its own.
        message_bytes = self._body_bytes + 64 * 1024 if self._body_bytes else 0
        options = ClientOptions(max_message_bytes=message_bytes, tls=tls)
        self._client = GrpcClient(self._where, options, on_lost=self._connection_lost)

    async def _send(self, request: InvokeRequest, timeout: float | None) -> InvokeResponse:  # noqa: ASYNC109 - the wire's
        client = self.client
        message = _on_invoke(request)
        metadata = [*_as_metadata(request.headers), *self._token]
        start = asyncio.get_running_loop().time()
        try:
            answer = await client.unary(ON_INVOKE, message, metadata, timeout=timeout)
        except GrpcError as exc:
            waited = asyncio.get_running_loop().time() - start
            if exc.code is GrpcCode.DEADLINE_EXCEEDED and timeout is not None and waited >= timeout * 0.99:
                raise AppTimeoutError(f"no answer from {self._where} within {timeout:g} s") from exc
            if exc.unreachable:
                raise lost(exc, self._where) from exc
            if self._client is not client:
                raise ChannelError(f"the channel to app {self.ref} was closed during the call") from exc
            return status_response(exc)
        try:
            reply = common_pb.InvokeResponse.FromString(answer.data)
        except Exception as exc:  # protobuf's DecodeError has no public base class of its own
            raise ChannelError(f"{self._where}: the answer of OnInvoke is not an InvokeResponse") from exc
        return InvokeResponse(
            200,
            as_headers(answer.initial),
            reply.data.value,
            reply.content_type.encode() or None,
            grpc_status=(GrpcCode.OK, "", b""),
            trailers=as_headers(answer.trailers),
        )

    async def _probe(self, health: HealthProperties) -> HealthAnswer:
        try:
            await self.client.unary(HEALTH_CHECK, b"", timeout=health.timeout)
        except GrpcError as exc:
            return HealthAnswer(healthy=False, status="" if exc.unreachable else exc.code.name)
        return HealthAnswer(healthy=True, status=GrpcCode.OK.name)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _on_invoke(request: InvokeRequest) -> bytes:
    """The serialized message of an OnInvoke call."""
    try:
        message = common_pb.InvokeRequest(
            method=request.method,
            data=wellknown_pb.Any(value=cast("bytes", request.body)),  # `invoke` has read it
            content_type=(request.content_type or b"").decode("latin-1"),
            http_extension=common_pb.HTTPExtension(
                verb=VERBS.get(request.verb, 0), querystring=request.query.decode("latin-1")
            ),
        )
        return message.SerializeToString()
    except ValueError as exc:  # a method that is not UTF-8
        raise ChannelError(f"the call cannot be sent over gRPC: {exc}") from exc


def _tls_options(tls: ChannelTls | None) -> TlsOptions:
    if tls is None:
        return TlsOptions()
    if bool(tls.cert_file) != bool(tls.key_file):
        raise ChannelConfigurationError("channel.tls: certFile and keyFile are given together or not at all")
    return TlsOptions(
        root_certificates=read_pem("caFile", tls.ca_file),
        certificate_chain=read_pem("certFile", tls.cert_file),
        private_key=read_pem("keyFile", tls.key_file),
        server_name=tls.server_name or None,
    )


def _as_metadata(headers: Headers) -> list[tuple[str, str | bytes]]:
    """Headers as metadata. A value of a `-bin` name is raw bytes; the wire encodes it."""
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        key = name.decode("latin-1")
        if key == _TOKEN_KEY or not key.replace("-", "a").replace("_", "a").replace(".", "a").isalnum():
            continue
        if key.endswith("-bin"):
            metadata.append((key, value))
        elif key.isascii() and value.isascii():
            text = value.decode("ascii")
            if text.isprintable():
                metadata.append((key, text))
    return metadata


def lost(error: GrpcError, where: str) -> ChannelError:
    """Why there is no connection; only one that was never made leaves no doubt that the app has seen nothing."""
    text = error.message.lower()
    if not text.startswith(_NOT_CONNECTED):
        return ChannelError(f"{where}: the connection was lost: {error.message}")
    detail = "connection refused" if "connection refused" in text else error.message
    return AppUnreachableError(f"dial tcp {where}: {detail}")
