"""The gRPC front door: from a call to the block that answers it, and back.

First step of the request road after the wire, last on the way up. The order of the steps is the pipeline's
(`api/pipeline.py`). Methods of Dapr's interface that this version lacks answer UNIMPLEMENTED; everything else is
relayed to an app.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import DecodeError

from dapr_shared._proto import SERVICES
from dapr_shared.api.errors import grpc_error
from dapr_shared.api.grpc.call import GrpcCall, StreamMethod, UnaryMethod
from dapr_shared.api.spans import begin_grpc, grpc_request
from dapr_shared.api.trace import trace_of_grpc
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.identity.service_accounts import ReviewNeededError
from dapr_shared.wire.grpc.interface import Call, GrpcError, Kind, Method

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence

    from dapr_shared.api.grpc.invoke import ProxyRpc
    from dapr_shared.api.observed import Observed
    from dapr_shared.api.pipeline import Pipeline
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.spans import Span
    from dapr_shared.wire.grpc.interface import BidiHandler, UnaryHandler
    from dapr_shared.wire.http.messages import Headers

if TYPE_CHECKING:
    StreamHandler: TypeAlias = Callable[[GrpcCall, AsyncIterator[bytes]], AsyncGenerator[bytes]]

SERVICE = "dapr.proto.runtime.v1.Dapr"
_TOKEN = "dapr-api-token"  # noqa: S105 - the name of a metadata key
_PROXY = "proxy"


class GrpcFrontDoor:
    """The method table of the gRPC listeners, and the handler of unknown methods."""

    def __init__(
        self,
        methods: Iterable[UnaryMethod],
        streams: Iterable[StreamMethod],
        proxy: ProxyRpc,
        pipeline: Pipeline,
        observed: Observed,
    ) -> None:
        self._implemented = {method.name: method for method in methods}
        self._streams = {method.name: method for method in streams}
        self._proxy = proxy
        self._pipeline = pipeline
        self._metrics = observed.metrics
        self._tracing = observed.tracing
        self._access_log = observed.access_log
        self._spans = observed.spans
        self._events = observed.events

    def table(self) -> Sequence[Method]:
        """The methods to register with an engine: all of Dapr's, implemented or not."""
        rows: list[Method] = []
        for row in SERVICES[SERVICE].methods.values():
            method = self._implemented.get(row.name)
            if method is not None:
                rows.append(Method(row.path, Kind.UNARY, self._unary(row.path, method)))
            elif row.name in self._streams:
                rows.append(Method(row.path, Kind.BIDI, self._stream(self._streams[row.name])))
            else:
                rows.append(Method(row.path, Kind.BIDI, self._unimplemented(row.name)))
        return rows

    def serves(self, name: str) -> bool:
        """Whether a method of Dapr's interface, by its short name, is there; the documentation asks."""
        return name in self._implemented or name in self._streams

    def unknown(self) -> BidiHandler:
        """Make the handler of methods that are not Dapr's: they are relayed to an app."""
        # Neither reflection nor calls for an app are on the Configuration's API lists (behaviours §6).
        return self._relayed(_PROXY, "", "", self._proxy.relay)

    def _stream(self, method: StreamMethod) -> BidiHandler:
        return self._relayed(f"/{SERVICE}/{method.name}", method.api, method.version, method.handler)

    def _relayed(self, path: str, api: str, version: str, stream: StreamHandler) -> BidiHandler:
        async def handler(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            started = perf_counter()
            caller: Caller | None = None
            code = GrpcCode.OK
            span: Span | None = None
            try:
                try:
                    caller, trace, span = self._admit(call, call.method, api, version)
                except ReviewNeededError as needed:
                    caller, trace, span = await self._admit_reviewed(needed, call, call.method, api, version)
                try:
                    async with aclosing(stream(GrpcCall(call, caller, trace), messages)) as answers:
                        async for message in answers:
                            yield message
                finally:
                    self._pipeline.leave(caller)
            except (asyncio.CancelledError, GeneratorExit):
                code = GrpcCode.CANCELLED
                raise
            except GrpcError as error:
                code = error.code
                raise
            except DaprError as error:
                code = error.row.grpc
                raise grpc_error(error) from error
            except DecodeError as error:
                code = GrpcCode.INVALID_ARGUMENT
                raise GrpcError(code, f"a message of the stream is none of {call.method}") from error
            finally:
                self._finish(call, path, caller, code, started, 0, 0)
                if span is not None:
                    span.end(_problem(code))

        return handler

    def _unary(self, path: str, method: UnaryMethod) -> UnaryHandler:
        async def handler(call: Call, data: bytes) -> bytes:
            started = perf_counter()
            caller: Caller | None = None
            code = GrpcCode.OK
            answer = b""
            span: Span | None = None
            try:
                try:
                    caller, trace, span = self._admit(call, method.name, method.api, method.version)
                except ReviewNeededError as needed:
                    caller, trace, span = await self._admit_reviewed(
                        needed, call, method.name, method.api, method.version
                    )
                try:
                    request = method.request.FromString(data)
                    if span is not None:
                        grpc_request(span, path, method.name, request)
                    response = await method.handler(GrpcCall(call, caller, trace, span), request)
                    answer = response.SerializeToString()
                    return answer
                finally:
                    self._pipeline.leave(caller)
            except asyncio.CancelledError:
                code = GrpcCode.CANCELLED
                raise
            except GrpcError as error:
                code = error.code
                raise
            except DaprError as error:
                code = error.row.grpc
                self._metrics.error_code(caller.app_id if caller else "", error.row.code)
                raise grpc_error(error) from error
            except DecodeError as error:
                code = GrpcCode.INVALID_ARGUMENT
                raise GrpcError(code, f"the message is not a {method.request.DESCRIPTOR.full_name}") from error
            except Exception as error:
                code = GrpcCode.INTERNAL
                self._events.defect(path, error)
                raise grpc_error(errors.INTERNAL(trace=_trace_id(call))) from error
            finally:
                self._finish(call, path, caller, code, started, len(data), len(answer))
                if span is not None:
                    span.end(_problem(code))

        return handler

    def _unimplemented(self, name: str) -> BidiHandler:
        async def handler(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:  # noqa: ARG001 - never read
            started = perf_counter()
            caller: Caller | None = None
            code = GrpcCode.UNIMPLEMENTED
            try:
                try:
                    caller, _, span = self._admit(call, name, "", "")
                except ReviewNeededError as needed:
                    caller, _, span = await self._admit_reviewed(needed, call, name, "", "")
                if span is not None:
                    span.end(_problem(code))
                self._pipeline.leave(caller)
                raise grpc_error(errors.UNIMPLEMENTED(api=name))
            except DaprError as error:
                code = error.row.grpc
                raise grpc_error(error) from error
            finally:
                self._finish(call, call.method, caller, code, started, 0, 0)
            yield b""  # makes this an asynchronous generator

        return handler

    async def _admit_reviewed(
        self, needed: ReviewNeededError, call: Call, operation: str, api: str, version: str
    ) -> tuple[Caller, Headers, Span | None]:
        """Like `_admit`, once the token is verified."""
        caller = await self._pipeline.identify_reviewed(
            needed, _tokens(call), call.listener, call.certificate,
            protocol="grpc", operation=operation, peer=call.peer,
        )  # fmt: skip
        return self._admit(call, operation, api, version, caller)

    def _admit(
        self, call: Call, operation: str, api: str, version: str, caller: Caller | None = None
    ) -> tuple[Caller, Headers, Span | None]:
        """Identify unless that is done, authorize, take a place; the caller of this gives the place back."""
        sampled, trace = trace_of_grpc(self._tracing, call.metadata)
        if caller is None:
            tokens = [value.encode() for key, value in call.metadata if key == _TOKEN and isinstance(value, str)]
            caller = self._pipeline.identify(
                tokens, call.listener, call.certificate, protocol="grpc", operation=operation, peer=call.peer
            )
        span: Span | None = None
        if self._spans.active:
            trace, span = begin_grpc(self._spans, call, caller, trace, sampled, self._tracing)
        try:
            if api and not self._pipeline.allowed(caller, "grpc", api, version):
                raise errors.UNIMPLEMENTED(api=operation)
            self._pipeline.enter(caller, operation)
        except DaprError as error:
            if span is not None:
                span.end(_problem(error.row.grpc))
            raise
        return caller, trace, span

    def _finish(
        self, call: Call, path: str, caller: Caller | None, code: GrpcCode, started: float, received: int, sent: int
    ) -> None:
        milliseconds = (perf_counter() - started) * 1000
        app_id = caller.app_id if caller else ""
        self._metrics.grpc_request(app_id, path, code).record(milliseconds, received, sent)
        if self._access_log.enabled:
            agent = next((value for key, value in call.metadata if key == "user-agent"), "")
            self._access_log.grpc(
                caller.ref if caller else None,
                call.method,
                code=code,
                milliseconds=milliseconds,
                user_agent=agent if isinstance(agent, str) else "",
            )


def _tokens(call: Call) -> list[bytes]:
    return [value.encode() for key, value in call.metadata if key == _TOKEN and isinstance(value, str)]


def _problem(code: GrpcCode) -> str | None:
    """What a span says of a call that failed: the status alone, since a message may quote what the app sent."""
    return code.name if code is not GrpcCode.OK else None


def _trace_id(call: Call) -> str:
    parent = next((value for key, value in call.metadata if key == "traceparent"), "")
    return parent[3:35] if isinstance(parent, str) and parent else "none"
