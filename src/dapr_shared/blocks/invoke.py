"""The invoke block: one app calls a method of another.

Step 4 of the request road. The target is looked up here: an app of this instance, an HTTPEndpoint, or (single-app mode,
or where allowed by name) an absolute URL. Facts: reference http-api §3, grpc-api §1.4 and §1.5.
"""

from __future__ import annotations

import posixpath
from contextlib import aclosing
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from dapr_shared.blocks.invoke_headers import (
    binary_trace,
    identity_headers,
    proxy_metadata,
    request_headers,
    response_headers,
)
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelError,
    InvokeRequest,
    InvokeResponse,
)
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.observability.spans import SpanTable
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.proxy import relay
from dapr_shared.wire.http.messages import BodyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from dapr_shared.blocks.invoke_peers import PeerCalls
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import Span
    from dapr_shared.security.access_control import Decision
    from dapr_shared.wire.grpc.interface import Call
    from dapr_shared.wire.http.messages import Body, Headers

EXTERNAL = "external"
"""Label of targets that are not apps of this instance: their names have no bound."""
ON_INVOKE = "/dapr.proto.runtime.v1.AppCallback/OnInvoke"

_FORBIDDEN_IN_METHOD = frozenset("#?\x7f") | {chr(code) for code in range(32)}

_CALL_LOCAL = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream"
"""What a sidecar's span says of a call by another one; ours says the same."""


class Channels(Protocol):
    """How the block reaches local apps."""

    def get(self, ref: AppRef) -> AppChannel | None:
        """The channel of an app of this instance; `None` when the app has none."""
        ...


class Invokable(Protocol):
    """Whatever can be invoked: an app's channel, a service outside."""

    async def invoke(self, request: InvokeRequest) -> InvokeResponse:
        """Call it. Raises `ChannelError` and `BodyError`; any status is an answer."""
        ...


class Targets(Protocol):
    """How the block reaches what is not an app of this instance."""

    def resolve(self, caller: Caller, target: str) -> Invokable | None:
        """An HTTPEndpoint that the caller sees, or an absolute URL that it may call; `None` when neither.

        Raises `DaprError` where calling it is forbidden.
        """
        ...


class AccessPolicies(Protocol):
    """What the block asks before one app calls another (behaviours §5)."""

    def decide(self, caller: Caller, callee: AppRef, operation: str, verb: str) -> Decision:
        """Whether the callee's access control policy allows the call."""
        ...


class InvokeBlock:
    """Invocation between many apps."""

    def __init__(
        self,
        channels: Channels,
        targets: Targets,
        policies: AccessPolicies,
        metrics: DaprMetrics,
        events: Events,
        *,
        serves: Serves,
        spans: SpanTable | None = None,
        peers: PeerCalls | None = None,
    ) -> None:
        """`peers`: how apps of other instances are called; `None`: there is no name resolution, and none is."""
        self._channels = channels
        self._targets = targets
        self._policies = policies
        self._metrics = metrics
        self._events = events
        self._serves = serves
        self._spans = spans or SpanTable()
        self._peers = peers

    async def invoke(
        self,
        caller: Caller,
        target: str,
        method: str,
        *,
        verb: str,
        query: bytes,
        headers: Headers,
        body: Body,
        trace: Headers,
    ) -> InvokeResponse:
        """Call `method` of `target` and give back its answer, whatever its status.

        `headers` are the client's own; `trace` is what is passed on of the trace context. Raises `INVOKE_…` rows when
        the app is unknown, cannot be reached, does not answer in time or does not allow the call.
        """
        path = normalize_method(target, method)
        channel, ref = self._channel(caller, target)
        if channel is None:
            peers, callee = self._of_peers(caller, target)
            return await peers.invoke(
                caller, callee, target, path, verb=verb, query=query, headers=headers, body=body, trace=trace
            )
        if ref is not None:
            self._authorize(caller, ref, target, "/" + path, verb)
        span = self._begin_span(caller, ref, f"CallLocal/{ref.app_id}/{path}", trace) if ref is not None else None
        if span is not None:
            span.attributes |= {"dapr.protocol": "grpc", "dapr.api": _CALL_LOCAL, "dapr.invoke_method": path}
            trace = span.headers()
        content_type = next((value for name, value in headers if name == b"content-type"), None)
        forwarded = request_headers(headers)
        if ref is not None:
            forwarded += identity_headers(caller.app_id, caller.namespace, ref.app_id)
        forwarded += trace
        if isinstance(channel, GrpcAppChannel):
            forwarded += binary_trace(trace)
        started = perf_counter()
        try:
            # No retry here: Dapr's built-in ones are for peers, whose connection may be lost (`invoke_peers.py`); a local
            # app that refuses is answered at once, and so is a service outside.
            answer = await channel.invoke(
                InvokeRequest(path, verb, query, forwarded, body, content_type, str(caller.ref))
            )
        except (ChannelError, BodyError) as error:
            if span is not None:
                span.end(str(error))
            if isinstance(error, BodyError):  # http-api §1: a body over the limit is a failed invocation
                raise errors.INVOKE_FAILED(app=target, detail=f"request body: {error}") from error
            self._events.invocation_failed(caller.ref, target, type(error).__name__, str(error))
            raise _channel_failure(target, error) from error
        self._count(caller, ref.app_id if ref else EXTERNAL, body, answer, (perf_counter() - started) * 1000)
        if span is not None:
            span.end()  # the callee has answered; what it answered is the caller's span's to say, as in Dapr
        answer.headers = response_headers(answer.headers)
        return answer

    def _begin_span(self, caller: Caller, callee: AppRef, name: str, trace: Headers) -> Span | None:
        """The callee's span of a call by another app; one that calls itself has its own alone, as in Dapr."""
        if caller.ref == callee:
            return None
        span = self._spans.begin_call(callee, name, "server", trace)
        if span is not None:
            span.attributes["rpc.service"] = "ServiceInvocation"
        return span

    def _count(self, caller: Caller, callee: str, body: Body, answer: InvokeResponse, milliseconds: float) -> None:
        sent = len(body) if isinstance(body, bytes) else 0
        received = len(answer.body) if isinstance(answer.body, bytes) else 0
        if answer.grpc_status is None:
            # The verb and path are the caller's to choose: they are no labels here.
            self._metrics.http_call(callee, "", f"InvokeService/{callee}", answer.status).record(
                milliseconds, received, sent
            )
            self._metrics.invocation(caller.app_id, callee, answer.status).record(milliseconds)
        else:
            self._metrics.grpc_call(callee, ON_INVOKE, answer.grpc_status[0]).record(milliseconds, received, sent)
            self._metrics.invocation(caller.app_id, callee, int(answer.grpc_status[0])).record(milliseconds)

    async def proxy(
        self, caller: Caller, target: str, call: Call, messages: AsyncIterator[bytes], trace: Headers
    ) -> AsyncGenerator[bytes]:
        """Relay a gRPC call of a service that only the app knows, message by message.

        Raises `INVOKE_…` rows as `invoke` does, and `GrpcError` as the app answered it.
        """
        channel, ref = self._channel(caller, target)
        if channel is None:
            peers, callee = self._of_peers(caller, target)
            async with aclosing(peers.proxy(caller, callee, target, call, messages, trace)) as answers:
                async for message in answers:
                    yield message
            return
        if ref is not None:
            self._authorize(caller, ref, target, call.method, "NONE")
        if ref is None or not isinstance(channel, GrpcAppChannel):
            raise errors.INVOKE_FAILED(
                app=target, detail=f"{target} is not a gRPC app: {call.method} cannot be relayed"
            )
        span = self._begin_span(caller, ref, call.method, trace)
        if span is not None:
            trace = span.headers()
        metadata = proxy_metadata(call.metadata, caller.app_id, caller.namespace, ref.app_id, trace)
        started = perf_counter()
        code = GrpcCode.OK
        try:
            async with channel.slot(caller=str(caller.ref)):
                sent = [*metadata, *channel.metadata_for_app()]
                async with aclosing(relay(call, messages, channel.client, call.method, sent)) as answers:
                    async for message in answers:
                        yield message
        except GrpcError as error:
            code = error.code
            raise
        except ChannelError as error:
            self._events.invocation_failed(caller.ref, target, type(error).__name__, str(error))
            raise _channel_failure(target, error) from error
        finally:
            elapsed = (perf_counter() - started) * 1000
            self._metrics.invocation(caller.app_id, ref.app_id, int(code), "streaming").record(elapsed)
            if span is not None:
                span.end(code.name if code is not GrpcCode.OK else None)

    def _of_peers(self, caller: Caller, target: str) -> tuple[PeerCalls, AppRef]:
        if self._peers is None or "://" in target:
            raise errors.INVOKE_NOT_FOUND(app=target)
        return self._peers, parse_target(caller, target)

    def _channel(self, caller: Caller, target: str) -> tuple[Invokable | None, AppRef | None]:
        """How the target is called, and which app of this instance it is; neither: what only a peer may know."""
        if "://" not in target:
            ref = parse_target(caller, target)
            if self._serves(ref):
                channel = self._channels.get(ref)
                if channel is None:
                    raise errors.INVOKE_FAILED(
                        app=target, detail=f"app channel is not initialized: app {ref.app_id} has no channel"
                    )
                return channel, ref
        try:
            channel = self._targets.resolve(caller, target)
        except DaprError as error:
            if error.row is errors.INVOKE_DENIED:
                self._events.access_refused(caller.ref, "external_url", "InvokeService", target)
            raise
        return channel, None

    def _authorize(self, caller: Caller, callee: AppRef, target: str, operation: str, verb: str) -> None:
        if caller.ref == callee:  # behaviours §5: never for self-invocation
            return
        decision = self._policies.decide(caller, callee, operation, verb)
        if not decision.allowed:
            self._events.access_refused(caller.ref, "access_control", f"{verb} {operation}"[:200], target)
            raise errors.INVOKE_DENIED(
                app=target,
                detail=f"access control policy has denied access to id: {caller.app_id} operation: {operation} verb: {verb}",
            )


class Serves(Protocol):
    """Tells whether this instance serves an app."""

    def __call__(self, ref: AppRef, /) -> bool:
        """Whether this instance serves the app."""
        ...


def parse_target(caller: Caller, target: str) -> AppRef:
    """`app` (of the caller's namespace) or `app.namespace`. Raises `INVOKE_FAILED` for any other number of dots."""
    app_id, dot, namespace = target.partition(".")
    if "." in namespace or not app_id or (dot and not namespace):
        raise errors.INVOKE_FAILED(app=target, detail=f"invalid app id {target}: use <app> or <app>.<namespace>")
    return AppRef(app_id, namespace or caller.namespace)


def normalize_method(target: str, method: str) -> str:
    """The method as a clean relative path. Raises `INVOKE_BAD_METHOD`.

    `method` is percent-decoded; leading slashes and `../` steps are dropped as Dapr's path cleaning does.
    """
    bad = _FORBIDDEN_IN_METHOD.intersection(method)
    if bad:
        raise errors.INVOKE_BAD_METHOD(app=target, detail=f"contains {min(bad)!r}")
    if "/" not in method and method not in (".", ".."):
        return method
    return posixpath.normpath("/" + method).lstrip("/")


def _channel_failure(target: str, error: ChannelError) -> errors.DaprError:
    if isinstance(error, AppUnreachableError):
        return errors.INVOKE_UNAVAILABLE(app=target, detail=error)
    if isinstance(error, AppTimeoutError):
        return errors.INVOKE_TIMEOUT(app=target)
    if isinstance(error, AppNotHealthyError):
        return errors.INVOKE_FAILED(app=target, detail="app is not in a healthy state")
    return errors.INVOKE_FAILED(app=target, detail=error)
