"""Metadata and shutdown over HTTP. Facts: reference http-api §11."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dapr_shared.api.http.call import HttpCall, json_response, no_content
from dapr_shared.api.http.routes import Route
from dapr_shared.core import errors
from dapr_shared.core.durations import format_go_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dapr_shared.blocks.metadata import Metadata, MetadataBlock
    from dapr_shared.blocks.pubsub.subscriptions import SubscriptionStatus
    from dapr_shared.blocks.shutdown import ShutdownBlock
    from dapr_shared.channel.base import ChannelProperties
    from dapr_shared.identity.caller import Caller
    from dapr_shared.wire.http.messages import Response


class SystemApi:
    """Turns HTTP requests into calls of the metadata and shutdown blocks.

    `public_caller` is the one app of single-app mode, for the metadata that daprd serves on its public port without a
    token; on a shared instance there is none, and the public port serves health only (design §5.6).
    """

    def __init__(
        self,
        metadata: MetadataBlock,
        shutdown: ShutdownBlock,
        *,
        public_caller: Callable[[], Caller] | None,
    ) -> None:
        self._metadata = metadata
        self._shutdown = shutdown
        self._public_caller = public_caller

    def routes(self) -> Sequence[Route]:
        public = self._public_caller is not None
        return [
            Route(("GET",), "/v1.0/metadata", self.get, "GetMetadata", "metadata", public=public),
            Route(("PUT",), "/v1.0/metadata/{key}", self.put, "PutMetadata", "metadata", public=public),
            Route(("POST",), "/v1.0/shutdown", self.shutdown, "Shutdown", "shutdown"),
        ]

    async def get(self, call: HttpCall) -> Response:
        return json_response(metadata_json(await self._metadata.get(self._caller(call))))

    async def put(self, call: HttpCall) -> Response:
        (key,) = call.params
        try:
            value = (await call.body()).decode()
        except UnicodeDecodeError as error:
            raise errors.MALFORMED_REQUEST(detail=error) from error
        self._metadata.set(self._caller(call), key, value)
        return no_content()

    async def shutdown(self, call: HttpCall) -> Response:
        force = call.request.header(b"dapr-force-shutdown") == b"true"
        self._shutdown.shutdown(call.proved, force=force)
        return no_content()

    def _caller(self, call: HttpCall) -> Caller:
        if call.caller is None and self._public_caller is not None:
            return self._public_caller()
        return call.proved


def metadata_json(metadata: Metadata) -> dict[str, Any]:
    """The metadata answer with Dapr's keys, empty ones left out."""
    answer: dict[str, Any] = {"id": metadata.id, "runtimeVersion": metadata.runtime_version}
    if metadata.enabled_features:
        answer["enabledFeatures"] = list(metadata.enabled_features)
    if metadata.components:
        answer["components"] = [
            {"name": c.name, "type": c.type, "version": c.version}
            | ({"capabilities": list(c.capabilities)} if c.capabilities else {})
            for c in metadata.components
        ]
    answer["extended"] = dict(metadata.extended)
    if metadata.subscriptions:
        answer["subscriptions"] = [_subscription(status) for status in metadata.subscriptions]
    if metadata.http_endpoints:
        answer["httpEndpoints"] = [{"name": name} for name in metadata.http_endpoints]
    answer["appConnectionProperties"] = _connection(metadata.app) if metadata.app else {}
    answer["actorRuntime"] = {"runtimeStatus": "DISABLED", "hostReady": False}
    if metadata.resiliencies:
        answer["resiliencies"] = [{"name": name} for name in metadata.resiliencies]
    return answer


def _subscription(status: SubscriptionStatus) -> dict[str, Any]:
    """Dapr's keys, and ours of an app that comes and goes: `state`, `reason`, `since`, `pending`."""
    answer: dict[str, Any] = {"pubsubname": status.pubsub, "topic": status.topic}
    if status.metadata:
        answer["metadata"] = dict(status.metadata)
    if status.rules:
        answer["rules"] = [
            ({"match": match} if match else {}) | ({"path": path} if path else {}) for match, path in status.rules
        ]
    answer["deadLetterTopic"] = status.dead_letter_topic
    answer["type"] = status.kind
    answer["state"] = status.state
    if status.reason:
        answer["reason"] = status.reason
    if status.since is not None:
        answer["since"] = status.since.isoformat(timespec="milliseconds")
    if status.pending is not None:
        answer["pending"] = status.pending
    return answer


def _connection(app: ChannelProperties) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if app.port:
        answer["port"] = app.port
    answer["protocol"] = app.protocol
    answer["channelAddress"] = app.address
    if app.max_concurrency > 0:
        answer["maxConcurrency"] = app.max_concurrency
    if app.health:
        answer["health"] = {
            "healthCheckPath": app.health.path,
            "healthProbeInterval": format_go_duration(app.health.interval),
            "healthProbeTimeout": format_go_duration(app.health.timeout),
            "healthThreshold": app.health.threshold,
        }
    return answer
