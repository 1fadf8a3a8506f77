"""Calls of this instance's apps by apps of other instances and of daprd sidecars.

Step 4 of the request road, where the request comes from a peer. Nothing proves who calls (no mTLS between instances):
what the peer says of it is told to the app and counted; the app's access policy takes it for unknown, as daprd does
(reference behaviours §5).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from dapr_shared.blocks.invoke_headers import (
    binary_trace,
    identity_headers,
    proxy_metadata,
    request_headers,
    response_headers,
)
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.invocation import ChannelError, InvokeRequest, InvokeResponse
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.proxy import relay
from dapr_shared.wire.http.messages import BodyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from dapr_shared.blocks.invoke import Channels
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import ClaimedCaller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import Span, SpanTable
    from dapr_shared.security.access_control import Decision
    from dapr_shared.wire.grpc.interface import Call
    from dapr_shared.wire.http.messages import Body, Headers

UNKNOWN = "unknown"
"""Label of a caller that does not say who it is; daprd's word."""
_WRONG_VERBS = frozenset({"", "CONNECT"})


class ServedApps(Protocol):
    """Which apps are here."""

    def single(self) -> AppRef | None:
        """The one app of an instance in single-app mode."""
        ...

    def named(self, app_id: str) -> Sequence[AppRef]:
        """The apps of an id, one a namespace."""
        ...


class PeerPolicies(Protocol):
    """What is asked before another instance's app calls one of this."""

    def decide_unproved(self, callee: AppRef, operation: str, verb: str) -> Decision:
        """Whether the callee's access control lets a caller in that nothing proves."""
        ...


class PeerLimits(Protocol):
    """Bounds the calls by peers that are in flight to one app."""

    def enter(self, ref: AppRef) -> None:
        """Count a call in. Raises `TOO_MANY_CALLS` at the bound."""
        ...

    def leave(self, ref: AppRef) -> None:
        """Count it out."""
        ...


class ReceivedCalls:
    """What other instances may ask of this one's apps."""

    def __init__(
        self,
        served: ServedApps,
        channels: Channels,
        policies: PeerPolicies,
        limits: PeerLimits,
        metrics: DaprMetrics,
        events: Events,
        *,
        spans: SpanTable,
        normalize: Callable[[str, str], str],
    ) -> None:
        """`normalize`: makes a clean path of an app's method; raises `INVOKE_BAD_METHOD`."""
        self._served = served
        self._channels = channels
        self._policies = policies
        self._limits = limits
        self._metrics = metrics
        self._events = events
        self._spans = spans
        self._normalize = normalize

    def callee(self, claimed: ClaimedCaller, app_id: str, namespace: str) -> AppRef:
        """The app that a call is for. Raises `PEER_APP_NOT_SERVED`: it is never guessed.

        An empty `app_id` means the one app of single-app mode, and no other. An empty `namespace` leaves no choice.
        """
        problem = "the call names no app, and there are several"
        single = self._served.single()
        if not app_id and single is not None:
            return single
        if app_id:
            found = [ref for ref in self._served.named(app_id) if not namespace or ref.namespace == namespace]
            if len(found) == 1:
                return found[0]
            problem = "several namespaces have such an app, and the call names none" if found else "no such app"
        self._events.peer_call_refused(app_id[:64], "not_served", claimed.app_id, problem)
        raise errors.PEER_APP_NOT_SERVED(app=app_id, detail=problem)

    async def invoke(
        self,
        claimed: ClaimedCaller,
        callee: AppRef,
        method: str,
        *,
        verb: str,
        query: bytes,
        headers: Headers,
        body: Body,
        content_type: bytes | None,
        trace: Headers,
        api: str,
    ) -> InvokeResponse:
        """Call a method of an app of this instance. A body of the answer that is no `bytes` keeps the call open.

        `api` is the full name of the gRPC method that brought it. Raises `PEER_…` rows, `TOO_MANY_CALLS`.
        """
        path = self._path(callee, method)
        channel = self._channel(callee)
        over_grpc = isinstance(channel, GrpcAppChannel)
        if not over_grpc and verb in _WRONG_VERBS:
            raise errors.PEER_CALL_INVALID(detail="invalid HTTP verb")
        self._authorize(claimed, callee, "/" + path, verb)
        span = self._spans.begin_call(callee, f"CallLocal/{callee.app_id}/{path}", "server", trace)
        if span is not None:
            span.attributes |= {
                "rpc.service": "ServiceInvocation", "dapr.protocol": "grpc", "dapr.api": api, "dapr.invoke_method": path,
            }  # fmt: skip
            trace = span.headers()
        sent = request_headers(headers)
        sent += identity_headers(claimed.app_id, claimed.namespace, callee.app_id)
        sent += trace
        if over_grpc:
            sent += binary_trace(trace)
        # Callers take turns by who they say they are: no more than a share of this app depends on it.
        request = InvokeRequest(path, verb, query, sent, body, content_type, f"{claimed.app_id}.{claimed.namespace}")
        answer = await self._call(claimed, callee, channel, request, span)
        answer.headers = response_headers(answer.headers)
        return answer

    async def proxy(
        self, claimed: ClaimedCaller, callee: AppRef, call: Call, messages: AsyncIterator[bytes], trace: Headers
    ) -> AsyncGenerator[bytes]:
        """Relay a gRPC call of a service that only the app knows. Raises `PEER_…` rows, and `GrpcError` of the app."""
        channel = self._channel(callee)
        self._authorize(claimed, callee, call.method, "NONE")
        if not isinstance(channel, GrpcAppChannel):
            raise errors.PEER_CALL_FAILED(detail=f"{callee.app_id} is not a gRPC app: {call.method} cannot be relayed")
        span = self._spans.begin_call(callee, call.method, "server", trace)
        if span is not None:
            span.attributes["rpc.service"] = "ServiceInvocation"
            trace = span.headers()
        metadata = proxy_metadata(call.metadata, claimed.app_id, claimed.namespace, callee.app_id, trace)
        code = GrpcCode.OK
        self._limits.enter(callee)
        try:
            async with channel.slot(caller=f"{claimed.app_id}.{claimed.namespace}"):
                sent = [*metadata, *channel.metadata_for_app()]
                async with aclosing(relay(call, messages, channel.client, call.method, sent)) as answers:
                    async for message in answers:
                        yield message
        except GrpcError as error:
            code = error.code
            raise
        except ChannelError as error:
            code = GrpcCode.INTERNAL
            raise errors.PEER_CALL_FAILED(detail=error) from error
        finally:
            self._limits.leave(callee)
            self._metrics.invocation_received(claimed.app_id or UNKNOWN, callee.app_id, int(code))
            if span is not None:
                span.end(code.name if code is not GrpcCode.OK else None)

    async def _call(
        self, claimed: ClaimedCaller, callee: AppRef, channel: AppChannel, request: InvokeRequest, span: Span | None
    ) -> InvokeResponse:
        self._limits.enter(callee)
        status = int(GrpcCode.INTERNAL)
        problem = "cancelled"
        try:
            answer = await channel.invoke(request)
            status = answer.status if answer.grpc_status is None else int(answer.grpc_status[0])
            problem = ""
            return answer
        except (ChannelError, BodyError) as error:
            problem = str(error)
            # INTERNAL, whatever it is: only for a peer that is not there itself is another try worth while.
            raise errors.PEER_CALL_FAILED(detail=error) from error
        finally:
            self._limits.leave(callee)
            self._metrics.invocation_received(claimed.app_id or UNKNOWN, callee.app_id, status)
            if span is not None:
                span.end(problem or None)  # an answer is no failure, whatever its status, as in `invoke.py`

    def _path(self, callee: AppRef, method: str) -> str:
        try:
            return self._normalize(callee.app_id, method)
        except DaprError as error:
            raise errors.PEER_CALL_INVALID(detail=error.message) from error

    def _channel(self, callee: AppRef) -> AppChannel:
        channel = self._channels.get(callee)
        if channel is None:
            raise errors.PEER_CALL_FAILED(detail=f"app {callee.app_id} has no channel")
        return channel

    def _authorize(self, claimed: ClaimedCaller, callee: AppRef, operation: str, verb: str) -> None:
        if not self._policies.decide_unproved(callee, operation, verb).allowed:
            detail = f"access control policy has denied access to id:  operation: {operation} verb: {verb or 'NONE'}"
            self._events.peer_call_refused(callee.app_id, "access_control", claimed.app_id, detail)
            raise errors.PEER_CALL_DENIED(detail=detail)
