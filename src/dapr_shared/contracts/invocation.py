"""One service invocation as the invoke block, the app channels and other instances pass it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dapr_shared.core.errors import GrpcCode
    from dapr_shared.wire.http.messages import Body, Headers


class InvokeRequest:
    """A call of one app's method. Made for every invocation, hence plain attributes."""

    __slots__ = ("body", "caller", "content_type", "headers", "method", "query", "verb")

    def __init__(
        self,
        method: str,
        verb: str,
        query: bytes,
        headers: Headers,
        body: Body,
        content_type: bytes | None,
        caller: str = "",
    ) -> None:
        self.method = method
        """Normalised path without the leading slash, percent-decoded."""
        self.verb = verb
        """HTTP verb in capitals."""
        self.query = query
        """Raw query string without `?`."""
        self.headers = headers
        """End-to-end headers for the app, already filtered, without `content-type`."""
        self.body = body
        self.content_type = content_type
        self.caller = caller
        """Who takes turns with others where the app's concurrency is bounded: the calling app; empty for deliveries."""


class InvokeResponse:
    """The app's answer, whatever its status."""

    __slots__ = ("body", "content_type", "grpc_status", "headers", "status", "trailers")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: Body | AsyncIterator[bytes],
        content_type: bytes | None = None,
        *,
        grpc_status: tuple[GrpcCode, str, bytes] | None = None,
        trailers: Headers | None = None,
    ) -> None:
        self.status = status
        """HTTP status: the app's own, or the one that its gRPC status maps to."""
        self.headers = headers
        """End-to-end headers, without `content-type`."""
        self.body = body
        self.content_type = content_type
        self.grpc_status = grpc_status
        """Code, message and serialized google.rpc.Status (may be empty) of a gRPC app; `None` for an HTTP app."""
        self.trailers = trailers or []


class ChannelError(Exception):
    """The app could not be called, or did not answer properly."""


class AppUnreachableError(ChannelError):
    """Nothing reached the app: refused, no such name, not in time. The call may be tried again."""


class AppTimeoutError(ChannelError):
    """The app did not answer in time."""


class NoSlotError(AppTimeoutError):
    """The app's other calls took all of its concurrency for so long: it has not been called."""


class AppNotHealthyError(ChannelError):
    """The app's health check fails; it is not called."""


class ChannelBusyError(ChannelError):
    """Too many calls wait for the app."""


class CallDeniedError(ChannelError):
    """The instance of the app does not let the caller call it."""
