"""The invoke block's calls of apps that other instances and daprd sidecars serve.

Step 4 of the request road, between the block's look-up and the mesh: what is sent, and when it is tried again. Facts:
reference http-api §3, grpc-api §1.5, internal §3.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from dapr_shared.blocks.invoke_headers import identity_headers, proxy_metadata, request_headers, response_headers
from dapr_shared.contracts.invocation import (
    AppTimeoutError,
    AppUnreachableError,
    CallDeniedError,
    ChannelError,
    InvokeRequest,
    InvokeResponse,
)
from dapr_shared.contracts.nameresolution import ResolveError
from dapr_shared.core import errors
from dapr_shared.core.errors import GrpcCode
from dapr_shared.mesh.messages import CALLEE_NAMESPACE
from dapr_shared.resiliency.builtin import builtin_service_retry, connection_failed
from dapr_shared.resiliency.runner import run
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.grpc.proxy import relay
from dapr_shared.wire.http.messages import BodyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.resiliency.policy import Policy
    from dapr_shared.resiliency.runner import Sleep
    from dapr_shared.wire.grpc.interface import Call, Client
    from dapr_shared.wire.http.messages import Body, BodyStream, Headers


class Peers(Protocol):
    """How the block reaches other instances."""

    async def invoke(self, app: AppRef, request: InvokeRequest) -> InvokeResponse:
        """Call a method of an app, once. Raises `ResolveError`, `ChannelError`, `BodyError`."""
        ...

    def connection(self, app: AppRef) -> AbstractAsyncContextManager[Client]:
        """A connection for one call that is relayed. Raises `ResolveError`, `ChannelError`."""
        ...


class PeerCalls:
    """Calls of apps of other instances."""

    def __init__(
        self,
        peers: Peers,
        metrics: DaprMetrics,
        events: Events,
        *,
        policy: Policy | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`policy`: how often a call whose connection failed is tried again; default: Dapr's 3 times, 1 s apart."""
        self._peers = peers
        self._metrics = metrics
        self._events = events
        self._policy = policy or builtin_service_retry()
        self._sleep = sleep

    async def invoke(
        self,
        caller: Caller,
        callee: AppRef,
        target: str,
        method: str,
        *,
        verb: str,
        query: bytes,
        headers: Headers,
        body: Body,
        trace: Headers,
    ) -> InvokeResponse:
        """Call `method`, which is normalised, of an app of another instance; see `InvokeBlock.invoke`.

        A body that is streamed is sent once: after its first byte was taken there is no second try.
        """
        content_type = next((value for name, value in headers if name == b"content-type"), None)
        sent = request_headers(headers) + identity_headers(caller.app_id, caller.namespace, callee.app_id) + trace
        once = None if isinstance(body, bytes) else ReadOnce(body)
        request = InvokeRequest(method, verb, query, sent, once or body, content_type, str(caller.ref))
        tries = 0

        async def attempt() -> InvokeResponse:
            nonlocal tries
            tries += 1
            return await self._peers.invoke(callee, request)

        def worth_retry(outcome: object) -> bool:
            return connection_failed(outcome) and (once is None or not once.begun)

        started = perf_counter()
        try:
            answer = await run(self._policy, attempt, retryable=worth_retry, sleep=self._sleep)
        except (ChannelError, ResolveError) as error:
            self._events.invocation_failed(caller.ref, target, type(error).__name__, str(error))
            raise _failure(target, error, tries) from error
        except BodyError as error:
            raise errors.INVOKE_FAILED(app=target, detail=f"request body: {error}") from error
        status = answer.status if answer.grpc_status is None else int(answer.grpc_status[0])
        self._metrics.invocation_sent(caller.app_id, callee.app_id, status).record((perf_counter() - started) * 1000)
        answer.headers = response_headers(answer.headers)
        return answer

    async def proxy(
        self, caller: Caller, callee: AppRef, target: str, call: Call, messages: AsyncIterator[bytes], trace: Headers
    ) -> AsyncGenerator[bytes]:
        """Relay a gRPC call to the instance of an app; see `InvokeBlock.proxy`.

        A call that no connection took is tried once more with a new one, as daprd does, unless it has begun.
        """
        metadata = proxy_metadata(call.metadata, caller.app_id, caller.namespace, callee.app_id, trace)
        metadata.append((CALLEE_NAMESPACE, callee.namespace))
        once = MessagesOnce(messages)
        started = perf_counter()
        code = GrpcCode.OK
        try:
            for last in (False, True):
                try:
                    async with (
                        self._peers.connection(callee) as client,
                        aclosing(relay(call, once, client, call.method, metadata)) as answers,
                    ):
                        async for message in answers:
                            yield message
                    break
                except GrpcError as error:
                    if last or not error.unreachable or once.begun:
                        raise
        except GrpcError as error:
            code = error.code
            if error.unreachable:
                self._events.invocation_failed(caller.ref, target, "unreachable", str(error))
            raise
        except (ChannelError, ResolveError) as error:
            code = GrpcCode.INTERNAL
            self._events.invocation_failed(caller.ref, target, type(error).__name__, str(error))
            raise _failure(target, error, 1) from error
        finally:
            elapsed = (perf_counter() - started) * 1000
            self._metrics.invocation_sent(caller.app_id, callee.app_id, int(code), "streaming").record(elapsed)


class ReadOnce:
    """A `BodyStream` that tells whether any of it was taken."""

    __slots__ = ("_body", "begun")

    def __init__(self, body: BodyStream) -> None:
        self._body = body
        self.begun = False

    @property
    def content_length(self) -> int | None:
        """As it was announced."""
        return self._body.content_length

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        return self._body.__aiter__()

    async def read(self, limit: int) -> bytes:
        """All of it; see `BodyStream.read`."""
        self.begun = True
        return await self._body.read(limit)

    async def aclose(self) -> None:
        """See `BodyStream.aclose`."""
        await self._body.aclose()


class MessagesOnce:
    """The messages of a call, and whether any was taken. No generator: a try that fails must not close them."""

    __slots__ = ("_messages", "begun")

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = messages
        self.begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.begun = True
        return await anext(self._messages)


def _failure(target: str, error: Exception, tries: int) -> errors.DaprError:
    if isinstance(error, AppUnreachableError):
        detail = f"failed to invoke target {target} after {tries - 1} retries. Error: {error}"
        return errors.INVOKE_UNAVAILABLE(app=target, detail=detail)
    if isinstance(error, CallDeniedError):
        return errors.INVOKE_DENIED(app=target, detail=error)
    if isinstance(error, AppTimeoutError):
        return errors.INVOKE_TIMEOUT(app=target)
    return errors.INVOKE_FAILED(app=target, detail=error)
