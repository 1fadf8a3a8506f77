"""What the instance asks of an app for pub/sub: which topics it wants, and whether it takes an event.

Last step of the delivery road. Facts: reference http-api §13, grpc-api §3. The two protocols end in the same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence  # noqa: TC003 - read by msgspec
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import msgspec
from google.protobuf.message import DecodeError

from dapr_shared._proto import appcallback_pb
from dapr_shared.channel.grpc import GrpcAppChannel, lost
from dapr_shared.contracts.invocation import AppTimeoutError, ChannelError, InvokeRequest
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.wire.http.messages import Headers

CLOUD_EVENTS = b"application/cloudevents+json"
_ON_TOPIC_EVENT = "/dapr.proto.runtime.v1.AppCallback/OnTopicEvent"
_ON_BULK = "/dapr.proto.runtime.v1.AppCallback/OnBulkTopicEvent"
_ON_BULK_ALPHA = "/dapr.proto.runtime.v1.AppCallbackAlpha/OnBulkTopicEventAlpha1"
_LIST = "/dapr.proto.runtime.v1.AppCallback/ListTopicSubscriptions"
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an app's answer that are read; more is an answer that cannot be understood."""


class Reply(Enum):
    """What the app said to an event."""

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"
    DROP = "DROP"
    DROP_SILENTLY = "DROP_SILENTLY"
    """A gRPC app without the method: dropped without dead letter (grpc-api §3)."""


_ACCEPTED = (Reply.SUCCESS, "")


class AskedSubscription(msgspec.Struct, frozen=True):
    """One entry of an app's own list of subscriptions, as it gave it."""

    pubsub_name: str
    topic: str
    rules: tuple[tuple[str, str], ...] = ()
    """(match, path) in order; the default route is last, with an empty match."""
    metadata: Mapping[str, str] = {}
    dead_letter_topic: str = ""
    bulk_enabled: bool = False
    bulk_max_messages: int = 0
    """0: the default."""
    bulk_max_await_ms: int = 0
    """Milliseconds; 0: the default."""


class SubscriptionListError(Exception):
    """The app answered its list with something that is none; the message says what."""


async def list_subscriptions(channel: AppChannel, *, timeout: float) -> list[AskedSubscription]:  # noqa: ASYNC109 - the wire's
    """The subscriptions that the app asks for; an app without any answers 404 or UNIMPLEMENTED.

    `timeout` in seconds. Raises `ChannelError` when the app cannot be asked, `SubscriptionListError` for an answer that
    is not a list of subscriptions.
    """
    if isinstance(channel, GrpcAppChannel):
        return await _list_grpc(channel, timeout)
    headers: Headers = [(b"dapr-app-id", channel.ref.app_id.encode())]
    request = InvokeRequest("dapr/subscribe", "GET", b"", headers, b"", None)
    answer = await channel.invoke(request, timeout=timeout)
    body = await whole_answer(answer.body, timeout)
    if answer.status == 404:
        return []
    if answer.status != 200:
        raise SubscriptionListError(f"GET /dapr/subscribe answered {answer.status}")
    if not body.strip():
        return []
    try:
        entries: list[dict[str, Any]] = msgspec.json.decode(body, type=list[dict[str, Any]] | None) or []
    except msgspec.MsgspecError as error:
        raise SubscriptionListError(f"GET /dapr/subscribe answered no list of subscriptions: {error}") from error
    return [_asked(entry) for entry in entries]


async def _list_grpc(channel: GrpcAppChannel, timeout: float) -> list[AskedSubscription]:  # noqa: ASYNC109 - the wire's
    try:
        data = await call_app(channel, _LIST, b"", timeout=timeout)
    except GrpcError as error:
        if error.code is GrpcCode.UNIMPLEMENTED:
            return []
        raise SubscriptionListError(f"ListTopicSubscriptions answered {error.code.name}: {error.message}") from error
    try:
        response = appcallback_pb.ListTopicSubscriptionsResponse.FromString(data)
    except DecodeError as error:
        raise SubscriptionListError(f"ListTopicSubscriptions answered no list of subscriptions: {error}") from error
    asked: list[AskedSubscription] = []
    for entry in response.subscriptions:
        rules = [(rule.match, rule.path) for rule in entry.routes.rules]
        if entry.routes.default or not rules:
            rules.append(("", entry.routes.default))
        asked.append(
            AskedSubscription(
                entry.pubsub_name,
                entry.topic,
                tuple(rules),
                dict(entry.metadata),
                entry.dead_letter_topic,
                entry.bulk_subscribe.enabled,
                entry.bulk_subscribe.max_messages_count,
                entry.bulk_subscribe.max_await_duration_ms,
            )
        )
    return asked


def _asked(entry: dict[str, Any]) -> AskedSubscription:
    """One entry of `/dapr/subscribe` (http-api §13): `routes.default` beats `route`."""
    routes: dict[str, Any] = _mapping(entry, "routes")
    try:
        given = msgspec.convert(routes.get("rules") or [], type=list[dict[str, Any]])
    except msgspec.ValidationError as error:
        raise SubscriptionListError(f"GET /dapr/subscribe answered routes.rules that are no list: {error}") from error
    rules = [(str(rule.get("match") or ""), str(rule.get("path") or "")) for rule in given]
    default = str(routes.get("default") or entry.get("route") or "")
    if default:
        rules.append(("", default))
    bulk = _mapping(entry, "bulkSubscribe")
    return AskedSubscription(
        str(entry.get("pubsubname") or ""),
        str(entry.get("topic") or ""),
        tuple(rules),
        {str(key): str(value) for key, value in _mapping(entry, "metadata").items()},
        str(entry.get("deadLetterTopic") or ""),
        bool(bulk.get("enabled")),
        _number(bulk.get("maxMessagesCount")),
        _number(bulk.get("maxAwaitDurationMs")),
    )


def _mapping(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value: object = entry.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


async def deliver_http(
    channel: AppChannel,
    path: str,
    body: bytes,
    headers: Headers,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> tuple[Reply, str]:
    """POST an event to a route of an HTTP app; its reply and, for a failure, its words for the log.

    `timeout`: seconds for the whole answer. Raises `ChannelError` when the app did not answer.
    """
    status, text = await channel.deliver(path.lstrip("/"), body, headers, CLOUD_EVENTS, timeout=timeout)
    if not isinstance(text, bytes):
        text = await whole_answer(text, timeout)
    if status == 404:
        return Reply.DROP, "status 404"
    if not 200 <= status <= 299:
        return Reply.RETRY, f"status {status}"
    return _reply_of(text) if text else _ACCEPTED


def _reply_of(body: bytes) -> tuple[Reply, str]:
    """The table of http-api §13: what is empty or not JSON is a success, an unknown status is a retry."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return _ACCEPTED
    status: object = cast("dict[str, Any]", decoded).get("status", "") if isinstance(decoded, dict) else ""
    if status in ("", None, "SUCCESS"):
        return _ACCEPTED
    if status == "DROP":
        return Reply.DROP, "status DROP"
    return Reply.RETRY, f"status {str(status)[:100]}"


async def deliver_grpc(
    channel: GrpcAppChannel,
    event: appcallback_pb.TopicEventRequest,
    headers: Headers,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> tuple[Reply, str]:
    """Call OnTopicEvent of a gRPC app. Raises `ChannelError` when the app did not answer (within `timeout` seconds)."""
    try:
        data = await call_app(channel, _ON_TOPIC_EVENT, event.SerializeToString(), headers=headers, timeout=timeout)
    except GrpcError as error:
        if error.code is GrpcCode.UNIMPLEMENTED:
            return Reply.DROP_SILENTLY, "the app does not implement OnTopicEvent"
        return Reply.RETRY, f"{error.code.name}: {error.message}"
    try:
        return reply_of_status(appcallback_pb.TopicEventResponse.FromString(data).status)
    except DecodeError:
        return Reply.RETRY, "OnTopicEvent answered no TopicEventResponse"


def reply_of_status(status: int) -> tuple[Reply, str]:
    """The reply for a TopicEventResponseStatus; an unknown number is a retry."""
    if status == appcallback_pb.TopicEventResponse.SUCCESS:
        return Reply.SUCCESS, ""
    if status == appcallback_pb.TopicEventResponse.DROP:
        return Reply.DROP, "status DROP"
    return Reply.RETRY, "status RETRY" if status == appcallback_pb.TopicEventResponse.RETRY else f"status {status}"


class _EntryStatus(msgspec.Struct, rename="camel"):
    """One entry of the answer to a bulk envelope."""

    entry_id: str = ""
    status: str = ""


class _BulkAnswer(msgspec.Struct):
    """The answer to a bulk envelope."""

    statuses: list[_EntryStatus] | None = None


async def deliver_bulk_http(
    channel: AppChannel,
    path: str,
    envelope: bytes,
    entry_ids: Sequence[str],
    headers: Headers,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> dict[str, Reply]:
    """POST a bulk envelope; each entry's reply. An entry that the app does not name is retried (http-api §13)."""
    request = InvokeRequest(path.lstrip("/"), "POST", b"", headers, envelope, b"application/json")
    answer = await channel.invoke(request, timeout=timeout)
    body = await whole_answer(answer.body, timeout)
    if answer.status == 404:
        return dict.fromkeys(entry_ids, Reply.DROP)
    replies = dict.fromkeys(entry_ids, Reply.RETRY)
    if not 200 <= answer.status <= 299:
        return replies
    try:
        answered = msgspec.json.decode(body, type=_BulkAnswer)
    except msgspec.MsgspecError:
        return replies
    for entry in answered.statuses or ():
        if entry.entry_id in replies and entry.status in ("SUCCESS", "DROP"):
            replies[entry.entry_id] = Reply(entry.status)
    return replies


async def deliver_bulk_grpc(
    channel: GrpcAppChannel,
    request: appcallback_pb.TopicEventBulkRequest,
    headers: Headers,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> dict[str, Reply]:
    """Call OnBulkTopicEvent, or its alpha form where the app has only that one."""
    ids = [entry.entry_id for entry in request.entries]
    message = request.SerializeToString()
    try:
        try:
            data = await call_app(channel, _ON_BULK, message, headers=headers, timeout=timeout)
        except GrpcError as error:
            if error.code is not GrpcCode.UNIMPLEMENTED:
                raise
            data = await call_app(channel, _ON_BULK_ALPHA, message, headers=headers, timeout=timeout)
    except GrpcError as error:
        return dict.fromkeys(ids, Reply.DROP_SILENTLY if error.code is GrpcCode.UNIMPLEMENTED else Reply.RETRY)
    replies = dict.fromkeys(ids, Reply.RETRY)
    try:
        statuses = appcallback_pb.TopicEventBulkResponse.FromString(data).statuses
    except DecodeError:
        return replies
    for entry in statuses:
        if entry.entry_id in replies:
            replies[entry.entry_id] = reply_of_status(entry.status)[0]
    return replies


async def call_app(
    channel: GrpcAppChannel,
    method: str,
    data: bytes,
    *,
    headers: Headers | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the wire's
) -> bytes:
    """One callback of a gRPC app. Raises `GrpcError` as it answered, `ChannelError` when it did not."""
    metadata = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers or []]
    async with channel.slot(timeout=timeout):
        try:
            answer = await channel.client.unary(method, data, [*metadata, *channel.metadata_for_app()], timeout=timeout)
        except GrpcError as error:
            if error.unreachable:
                raise lost(error, channel.properties.where) from error
            raise
    return answer.data


async def whole_answer(body: object, timeout: float | None) -> bytes:  # noqa: ASYNC109 - one place for the scope and its error
    """The answer's body, of which an app may send one byte and then nothing more."""
    if isinstance(body, bytes):
        return body
    stream = cast("Any", body)
    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            return await stream.read(ANSWER_LIMIT)
    except Exception as error:
        if scope.expired():
            await stream.aclose()
            raise AppTimeoutError(f"the app's answer did not end within {timeout:g} s") from error
        raise ChannelError(f"the app's answer could not be read: {error}") from error
