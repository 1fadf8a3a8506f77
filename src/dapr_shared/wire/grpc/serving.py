"""Runs our handlers on a server of grpc.aio.

First step of the request road. grpc.aio hands a handler a `ServicerContext`; this module turns it into a `Call`, a `GrpcError` into a status, and any other exception into a neutral answer and a report. Handlers are
given to the engines as coroutine functions that read and write through the context: with asynchronous generators
grpc.aio leaves closing a cancelled one to the garbage collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import (
    BidiHandler,
    ClientStreamHandler,
    GrpcError,
    Kind,
    Metadata,
    Method,
    OnDefect,
    ServerStreamHandler,
    UnaryHandler,
)
from dapr_shared.wire.grpc.messages import close, is_being_cancelled
from dapr_shared.wire.grpc.metadata import Pairs, answer_metadata, received_metadata
from dapr_shared.wire.grpc.tls import certificate_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from dapr_shared.wire.tls import PeerCertificate

MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}
_EOF: Final[object] = cast("Any", grpc.aio).EOF
_ABORT: Final = cast("type[Exception]", grpc.aio.AbortError)


class Context(Protocol):  # the library documents the methods
    """What we use of `grpc.aio.ServicerContext`, with types."""

    async def read(self) -> object: ...  # noqa: D102
    async def write(self, message: bytes) -> None: ...  # noqa: D102
    async def send_initial_metadata(self, initial_metadata: Pairs) -> None: ...  # noqa: D102
    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Pairs) -> NoReturn: ...  # noqa: D102
    def set_trailing_metadata(self, trailing_metadata: Pairs) -> None: ...  # noqa: D102
    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]: ...  # noqa: D102
    def peer(self) -> str: ...  # noqa: D102
    def time_remaining(self) -> float | None: ...  # noqa: D102


class ServerCall:
    """`Call` over a `ServicerContext`."""

    __slots__ = (
        "_certified", "_context", "_initial_sent", "_listener", "_metadata", "_method", "_trailers",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        method: str,
        listener: object,
        *,
        certified: bool = False,
    ) -> None:
        """`certified`: the listener requires client certificates."""
        self._context = context
        self._certified = certified
        self._method = method
        self._listener = listener
        self._metadata: Pairs | None = None
        self._trailers: Pairs = ()
        self._initial_sent = False

    @property
    def method(self) -> str:
        """Full name: `/package.Service/Method`."""
        return self._method

    @property
    def metadata(self) -> Metadata:
        """What the client sent, without the keys that only describe the wire."""
        if self._metadata is None:
            # The engine parses it again on every access.
            self._metadata = received_metadata(self._context.invocation_metadata())
        return self._metadata

    @property
    def listener(self) -> object:
        """The evidence of the listener."""
        return self._listener

    @property
    def certificate(self) -> PeerCertificate | None:
        """The client's verified certificate."""
        return certificate_of(self._context) if self._certified else None

    @property
    def peer(self) -> str:
        """Address of the client, for logs only."""
        return self._context.peer()

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; `None` without one."""
        return self._context.time_remaining()

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send response headers.

        Raises `RuntimeError` when they are sent already, `GrpcError` CANCELLED when the client is gone.
        """
        if self._initial_sent:
            raise RuntimeError("initial metadata was sent already")
        self._initial_sent = True
        pairs = answer_metadata(metadata)
        try:
            await self._context.send_initial_metadata(pairs)
        except Exception as exc:
            raise _gone() from exc

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Trailers to send with the status, also with an error's (whose own are added)."""
        self._trailers = answer_metadata(metadata)
        self._context.set_trailing_metadata(self._trailers)

    async def write(self, message: bytes) -> None:
        """Send one answer. Raises `GrpcError` CANCELLED when the client is gone."""
        if type(message) is not bytes:
            raise TypeError(f"a handler answered {type(message).__name__}, not bytes")
        self._initial_sent = True
        try:
            await self._context.write(message)
        except Exception as exc:
            raise _gone() from exc

    async def fail(self, error: GrpcError) -> None:
        """End the call with the status of `error`; does not return normally while the client is there."""
        code = error.code if error.code is not GrpcCode.OK else GrpcCode.UNKNOWN
        trailers = self._trailers
        if error.trailers:
            trailers += answer_metadata(error.trailers)
        try:
            await self._context.abort(_STATUS[code], error.message, trailers)
        except _ABORT:
            raise
        except Exception:  # noqa: BLE001 - the client went away meanwhile: nobody is left to tell
            return


class Requests:
    """The messages of a client-streaming or bidirectional call."""

    __slots__ = ("_context", "_task")

    def __init__(self, context: Context) -> None:
        self._context = context
        # A proxy reads in a task of its own, but it is the call's task that grpc cancels.
        self._task = asyncio.current_task()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            message = await self._context.read()
        except Exception as exc:
            raise _gone() from exc
        if message is not _EOF:
            return cast("bytes", message)
        # grpc reports a cancelled call's stream as ended, and the cancellation right after: without the second read,
        # which returns behind it, an upload that was broken off would look complete.
        with contextlib.suppress(Exception):
            await self._context.read()
        if self._task is not None and self._task.cancelling():
            raise _gone()
        raise StopAsyncIteration


class Service:
    """The handlers of one server: makes grpc method handlers of rows, counts the calls in flight."""

    def __init__(
        self,
        methods: Sequence[Method],
        unknown: BidiHandler,
        listener: object,
        on_defect: OnDefect,
        *,
        certified: bool = False,
    ) -> None:
        """`certified`: the listener requires client certificates. Raises `ValueError` when a method is in the table twice."""
        self._listener = listener
        self._certified = certified
        self._on_defect = on_defect
        self._unknown = unknown
        self._refusing = False
        self._active = 0
        self._last_end = -math.inf
        self._idle = asyncio.Event()
        self._idle.set()
        self.handlers: dict[str, MethodHandler] = {}
        """grpc's method handlers by full name."""
        for row in methods:
            if row.name in self.handlers:
                raise ValueError(f"the method {row.name} is in the table twice")
            self.handlers[row.name] = self._handler(row)

    def generic(self) -> grpc.GenericRpcHandler:
        """A generic handler for all methods, the unknown ones too."""
        return _Generic(self.handlers, self._any)

    def refuse(self) -> None:
        """Answer new calls with UNAVAILABLE from now on."""
        self._refusing = True

    async def drained(self, timeout: float | None, rest: float = 0) -> None:  # noqa: ASYNC109 - the contract of this interface
        """Wait until no handler runs, at most `timeout` seconds (`None`: for ever).

        Then wait until `rest` seconds after the last one's end.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        left = self._last_end + rest - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)

    def _any(self, name: str) -> MethodHandler:
        return self._handler(Method(name, Kind.BIDI, self._unknown))

    def _handler(self, row: Method) -> MethodHandler:
        make, run = {
            Kind.UNARY: (grpc.unary_unary_rpc_method_handler, self._run_unary),
            Kind.CLIENT_STREAM: (grpc.stream_unary_rpc_method_handler, self._run_client_stream),
            Kind.SERVER_STREAM: (grpc.unary_stream_rpc_method_handler, self._run_server_stream),
            Kind.BIDI: (grpc.stream_stream_rpc_method_handler, self._run_bidi),
        }[row.kind]
        return cast("Any", make)(run(row.name, row.handler))

    def _run_unary(self, name: str, handler: object) -> Callable[[bytes, Context], Awaitable[bytes]]:
        unary = cast("UnaryHandler", handler)

        async def run(request: bytes, context: Context) -> bytes:
            call = ServerCall(context, name, self._listener, certified=self._certified)
            return await self._answer(call, unary, request)

        return run

    def _run_client_stream(self, name: str, handler: object) -> Callable[[object, Context], Awaitable[bytes]]:
        client_stream = cast("ClientStreamHandler", handler)

        async def run(_: object, context: Context) -> bytes:
            call = ServerCall(context, name, self._listener, certified=self._certified)
            return await self._answer(call, client_stream, Requests(context))

        return run

    def _run_server_stream(self, name: str, handler: object) -> Callable[[bytes, Context], Awaitable[None]]:
        server_stream = cast("ServerStreamHandler", handler)

        async def run(request: bytes, context: Context) -> None:
            call = ServerCall(context, name, self._listener, certified=self._certified)
            await self._answer_all(call, server_stream, request)

        return run

    def _run_bidi(self, name: str, handler: object) -> Callable[[object, Context], Awaitable[None]]:
        bidi = cast("BidiHandler", handler)

        async def run(_: object, context: Context) -> None:
            call = ServerCall(context, name, self._listener, certified=self._certified)
            await self._answer_all(call, bidi, Requests(context))

        return run

    async def _answer(self, call: ServerCall, handler: Callable[..., Awaitable[bytes]], request: object) -> bytes:
        if self._refusing:
            await call.fail(_stopping())
            return b""
        self._begin()
        try:
            answer = await handler(call, request)
            if type(answer) is bytes:
                return answer
            error = self._defect(call, TypeError(f"a handler answered {type(answer).__name__}, not bytes"))
        except GrpcError as exc:
            error = exc
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                raise
            # A handler let the cancellation of something else escape; grpc.aio would never answer the client.
            error = self._defect(call, exc)
        except Exception as exc:  # noqa: BLE001 - the boundary of a call
            error = self._defect(call, exc)
        finally:
            self._end()
        await call.fail(error)
        return b""

    async def _answer_all(
        self, call: ServerCall, handler: Callable[..., AsyncIterator[bytes]], request: object
    ) -> None:
        if self._refusing:
            await call.fail(_stopping())
            return
        self._begin()
        answers: AsyncIterator[bytes] | None = None
        try:
            answers = handler(call, request)
            try:
                async for message in answers:
                    await call.write(message)
            finally:
                await close(answers)
            return
        except GrpcError as exc:
            error = exc
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                raise
            # A handler let the cancellation of something else escape; grpc.aio would never answer the client.
            error = self._defect(call, exc)
        except Exception as exc:  # noqa: BLE001 - the boundary of a call
            error = self._defect(call, exc)
        finally:
            self._end()
        await call.fail(error)

    def _defect(self, call: ServerCall, exc: BaseException) -> GrpcError:
        self._on_defect(call.method, exc)
        return GrpcError(GrpcCode.INTERNAL, "internal error")

    def _begin(self) -> None:
        self._active += 1
        self._idle.clear()

    def _end(self) -> None:
        self._active -= 1
        self._last_end = asyncio.get_running_loop().time()
        if not self._active:
            self._idle.set()


class _Generic(grpc.GenericRpcHandler):
    """The table as one generic handler.

    Not grpc's registered methods: grpc.aio waits for each registered method with a task of its own, and walks over all
    of them for each call.
    """

    def __init__(self, handlers: dict[str, MethodHandler], other: Callable[[str], MethodHandler]) -> None:
        self._handlers = handlers
        self._other = other

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> MethodHandler:
        method = cast("Any", handler_call_details).method
        return self._handlers.get(method) or self._other(method)


def _gone() -> GrpcError:
    return GrpcError(GrpcCode.CANCELLED, "the client is gone")


def _stopping() -> GrpcError:
    return GrpcError(GrpcCode.UNAVAILABLE, "the server is stopping")
