"""What the instance asks of an app for input bindings: which it wants, and whether it takes an event.

Last step of the delivery road. Facts: reference http-api §13, grpc-api §3. The two protocols end in the same answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.message import DecodeError

from dapr_shared._proto import appcallback_pb
from dapr_shared.channel.callbacks import call_app, whole_answer
from dapr_shared.contracts.invocation import InvokeRequest
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared._proto import common_pb
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.channel.grpc import GrpcAppChannel
    from dapr_shared.wire.http.messages import Headers

JSON = b"application/json"
_LIST = "/dapr.proto.runtime.v1.AppCallback/ListInputBindings"
_ON_EVENT = "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}").fullmatch
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}").fullmatch
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "connection", "transfer-encoding", "upgrade", "te", "dapr-api-token"}
)


class BindingReply(msgspec.Struct, frozen=True):
    """What the app said to an event."""

    accepted: bool
    words: str = ""
    """For the log, where it did not accept."""
    data: bytes = b""
    to: tuple[str, ...] = ()
    """Output bindings that the app wants called with `data`; gRPC apps only, as in Dapr."""
    parallel: bool = False
    """Whether they are called side by side; else one after another."""
    store: str = ""
    """State store for `states`."""
    states: tuple[common_pb.StateItem, ...] = ()


async def wants_binding(channel: AppChannel, route: str, *, timeout: float) -> bool:  # noqa: ASYNC109 - the wire's
    """Whether an HTTP app has a handler: OPTIONS of the route answers 2xx, or 405 where it knows only POST.

    `timeout` in seconds. Raises `ChannelError` when the app cannot be asked.
    """
    answer = await channel.invoke(InvokeRequest(route, "OPTIONS", b"", [], b"", JSON), timeout=timeout)
    await whole_answer(answer.body, timeout)
    return 200 <= answer.status <= 299 or answer.status == 405


async def list_bindings(channel: GrpcAppChannel, *, timeout: float) -> frozenset[str]:  # noqa: ASYNC109 - the wire's
    """The input bindings that a gRPC app wants; an app that answers an error wants none, as in Dapr.

    `timeout` in seconds. Raises `ChannelError` when the app cannot be asked.
    """
    try:
        data = await call_app(channel, _LIST, b"", timeout=timeout)
        return frozenset(appcallback_pb.ListInputBindingsResponse.FromString(data).bindings)
    except (GrpcError, DecodeError):
        return frozenset()


async def deliver_event_http(
    channel: AppChannel,
    route: str,
    data: bytes,
    metadata: Mapping[str, str],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> BindingReply:
    """POST an event to the route of an HTTP app. Raises `ChannelError` when the app did not answer (in `timeout` seconds)."""
    answer = await channel.invoke(InvokeRequest(route, "POST", b"", _headers(metadata), data, JSON), timeout=timeout)
    body = await whole_answer(answer.body, timeout)
    if 200 <= answer.status <= 299:
        return BindingReply(accepted=True, data=body)
    return BindingReply(accepted=False, words=f"status {answer.status}")


async def deliver_event_grpc(
    channel: GrpcAppChannel,
    name: str,
    data: bytes,
    metadata: Mapping[str, str],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> BindingReply:
    """Call OnBindingEvent of a gRPC app. Raises `ChannelError` when the app did not answer (in `timeout` seconds)."""
    request = appcallback_pb.BindingEventRequest(name=name, data=data, metadata=dict(metadata))
    trace = [(key.encode(), metadata[key].encode()) for key in ("traceparent", "tracestate") if metadata.get(key)]
    try:
        answer = await call_app(channel, _ON_EVENT, request.SerializeToString(), headers=trace, timeout=timeout)
        response = appcallback_pb.BindingEventResponse.FromString(answer)
    except GrpcError as error:
        return BindingReply(accepted=False, words=f"{error.code.name}: {error.message}")
    except DecodeError:
        return BindingReply(accepted=False, words="OnBindingEvent answered no BindingEventResponse")
    return BindingReply(
        accepted=True,
        data=response.data,
        to=tuple(response.to),
        parallel=response.concurrency == appcallback_pb.BindingEventResponse.PARALLEL,
        store=response.store_name,
        states=tuple(response.states),
    )


def _headers(metadata: Mapping[str, str]) -> Headers:
    """The event's metadata as far as it makes headers."""
    return [
        (name.lower().encode(), value.encode())
        for name, value in metadata.items()
        if name.lower() not in _OWN_HEADERS and _HEADER_NAME(name) and _HEADER_VALUE(value)
    ]
