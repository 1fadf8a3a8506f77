"""The HTTP front door: from a request to the block that answers it, and back.

First step of the request road after the wire, last on the way up. The order of the steps is the pipeline's
(`api/pipeline.py`).
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from dapr_shared.api.errors import http_response
from dapr_shared.api.http.call import HttpCall
from dapr_shared.api.http.counted_body import CountedBody
from dapr_shared.api.http.invoke import find_target
from dapr_shared.api.http.routes import Route, RouteTable
from dapr_shared.api.spans import begin_http, end_http, invoked
from dapr_shared.api.trace import trace_of_http
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.identity.service_accounts import ReviewNeededError
from dapr_shared.wire.http.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dapr_shared.api.http.invoke import InvokeApi
    from dapr_shared.api.observed import Observed
    from dapr_shared.api.pipeline import Pipeline
    from dapr_shared.identity.caller import Caller

_TOKEN = b"dapr-api-token"
_NO_APP = ""
CLIENT_GONE = 499
"""What a request whose client went away before the answer counts as; never sent."""


class HttpFrontDoor:
    """The handler of the HTTP listeners that offer the Dapr API."""

    def __init__(
        self,
        routes: Iterable[Route],
        invoke: InvokeApi,
        pipeline: Pipeline,
        observed: Observed,
        *,
        body_limit: int,
    ) -> None:
        self.table = RouteTable(routes)
        self._invoke = invoke
        self._pipeline = pipeline
        self._metrics = observed.metrics
        self._tracing = observed.tracing
        self._access_log = observed.access_log
        self._spans = observed.spans
        self._events = observed.events
        self._body_limit = body_limit

    async def __call__(self, request: Request) -> Response:
        """Answer one request; whatever happens, the answer is a row of the error table or the block's."""
        started = perf_counter()
        target = self.table.resolve(request.method, request.target)
        call = HttpCall(request, target.path, target.query, target.params, self._body_limit)
        trace = None
        name = "InvokeService"
        try:
            trace, call.trace = trace_of_http(self._tracing, request.headers)
            call.sampled = trace
            route = target.known_route()
            if route is None:
                name, response = await self._invoked(call, target.raw_path, started)
            else:
                name = route.name
                response = await self._routed(call, route, started)
        except DaprError as error:
            response = self._error(call, error)
        except asyncio.CancelledError:  # the client has gone: nobody reads an answer, but the call is counted
            self._leave(call)
            self._finish(call, name, Response(CLIENT_GONE, []), started, 0)
            raise
        except Exception as error:  # noqa: BLE001 - the last line: a defect of ours becomes an answer and an event
            self._events.defect(f"{request.method} {name}", error, trace.trace_id if trace else "")
            response = self._error(call, errors.INTERNAL(trace=trace.trace_id if trace else "none"))
        if trace is not None and not name.startswith("Healthz"):
            response.headers.extend(call.trace)
        if isinstance(response.body, bytes):
            self._leave(call)
            self._finish(call, name, response, started, len(response.body))
        else:
            response.body = CountedBody(response.body, self._at_the_end(call, name, response, started))
        return response

    async def _routed(self, call: HttpCall, route: Route, started: float) -> Response:
        if route.open:
            return await route.handler(call)
        try:
            caller = call.caller = self._identify(call, route.name)
        except ReviewNeededError as needed:
            caller = call.caller = await self._identify_reviewed(needed, call, route.name)
        if self._spans.active:
            begin_http(self._spans, call, route, call.sampled, self._tracing, perf_counter() - started)
        if not self._pipeline.allowed(caller, "http", route.api, route.version, route.path[1:]):
            raise errors.INVOKE_NO_TARGET()  # as if the route were not there (behaviours §6)
        self._enter(call, caller, route.name)
        return await route.handler(call)

    async def _invoked(self, call: HttpCall, raw_path: bytes, started: float) -> tuple[str, Response]:
        """Every path without a route is an invocation, if the request names a target."""
        try:
            caller = call.caller = self._identify(call, "InvokeService")
        except ReviewNeededError as needed:
            caller = call.caller = await self._identify_reviewed(needed, call, "InvokeService")
        if self._spans.active:
            begin_http(self._spans, call, None, call.sampled, self._tracing, perf_counter() - started)
        target, method = find_target(call.request, raw_path, call.path)
        if call.span is not None:
            invoked(call.span, target, method)
        if not self._pipeline.allowed(caller, "http", "invoke", "v1"):
            raise errors.INVOKE_NO_TARGET()
        self._enter(call, caller, "InvokeService")
        response = await self._invoke.invoke(call, target, method)
        # Only a target that answered becomes a label: a caller can make up any number of others.
        return (f"InvokeService/{target}" if "://" not in target else "InvokeService"), response

    def _enter(self, call: HttpCall, caller: Caller, operation: str) -> None:
        self._pipeline.enter(caller, operation)
        call.entered = True

    def _leave(self, call: HttpCall) -> None:
        if call.entered and call.caller is not None:
            call.entered = False
            self._pipeline.leave(call.caller)

    def _at_the_end(self, call: HttpCall, name: str, response: Response, started: float) -> Callable[[int], None]:
        def done(sent: int) -> None:
            self._leave(call)
            self._finish(call, name, response, started, sent)

        return done

    def _identify(self, call: HttpCall, operation: str) -> Caller:
        request = call.request
        return self._pipeline.identify(
            request.header_values(_TOKEN), request.listener, request.certificate,
            protocol="http", operation=operation, peer=request.peer,
        )  # fmt: skip

    async def _identify_reviewed(self, needed: ReviewNeededError, call: HttpCall, operation: str) -> Caller:
        request = call.request
        return await self._pipeline.identify_reviewed(
            needed, request.header_values(_TOKEN), request.listener, request.certificate,
            protocol="http", operation=operation, peer=request.peer,
        )  # fmt: skip

    def _error(self, call: HttpCall, error: DaprError) -> Response:
        self._metrics.error_code(call.caller.app_id if call.caller else _NO_APP, error.row.code)
        return http_response(error)

    def _finish(self, call: HttpCall, name: str, response: Response, started: float, sent: int) -> None:
        milliseconds = (perf_counter() - started) * 1000
        if call.span is not None:
            end_http(call, response.status)
        request = call.request
        app_id = call.caller.app_id if call.caller else _NO_APP
        body = request.body
        self._metrics.http_request(app_id, request.method, name, response.status).record(
            milliseconds, len(body) if isinstance(body, bytes) else 0, sent
        )
        if self._access_log.enabled:
            self._access_log.http(
                call.caller.ref if call.caller else None,
                request.method,
                request.target.decode("latin-1"),
                name,
                status=response.status,
                size=sent,
                milliseconds=milliseconds,
                user_agent=(request.header(b"user-agent") or b"").decode("latin-1"),
            )


class PublicFrontDoor:
    """The handler of the public port: the routes marked `public`, without identity."""

    def __init__(self, routes: Iterable[Route], *, body_limit: int) -> None:
        self._table = RouteTable(route for route in routes if route.public)
        self._body_limit = body_limit

    async def __call__(self, request: Request) -> Response:
        target = self._table.resolve(request.method, request.target)
        call = HttpCall(request, target.path, target.query, target.params, self._body_limit)
        try:
            route = target.known_route()
            if route is None:
                return Response(404, [(b"content-type", b"text/plain; charset=utf-8")], b"404 page not found\n")
            return await route.handler(call)
        except DaprError as error:
            return http_response(error)
