"""Metadata and shutdown over gRPC. Facts: reference grpc-api §1.4, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb, wellknown_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary
from dapr_shared.core.durations import format_go_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.metadata import MetadataBlock
    from dapr_shared.blocks.shutdown import ShutdownBlock

_TYPES = {"DECLARATIVE": 1, "PROGRAMMATIC": 2, "STREAMING": 3}
"""PubsubSubscriptionType"""
_DISABLED = 1
"""ActorRuntime.ActorRuntimeStatus.DISABLED"""


class SystemRpc:
    """Turns gRPC messages into calls of the metadata and shutdown blocks."""

    def __init__(self, metadata: MetadataBlock, shutdown: ShutdownBlock) -> None:
        self._metadata = metadata
        self._shutdown = shutdown

    def methods(self) -> Sequence[UnaryMethod]:
        return [
            unary("GetMetadata", runtime_pb.GetMetadataRequest, self.get, "metadata"),
            unary("SetMetadata", runtime_pb.SetMetadataRequest, self.set, "metadata"),
            unary("Shutdown", runtime_pb.ShutdownRequest, self.shutdown, "shutdown"),
        ]

    async def get(self, call: GrpcCall, request: runtime_pb.GetMetadataRequest) -> runtime_pb.GetMetadataResponse:  # noqa: ARG002 - the request is empty
        metadata = await self._metadata.get(call.caller)
        response = runtime_pb.GetMetadataResponse(
            id=metadata.id,
            runtime_version=metadata.runtime_version,
            enabled_features=list(metadata.enabled_features),
            extended_metadata=dict(metadata.extended),
        )
        for component in metadata.components:
            response.registered_components.add(
                name=component.name,
                type=component.type,
                version=component.version,
                capabilities=list(component.capabilities),
            )
        for status in metadata.subscriptions:
            row = response.subscriptions.add(
                pubsub_name=status.pubsub,
                topic=status.topic,
                metadata=dict(status.metadata),
                dead_letter_topic=status.dead_letter_topic,
                type=_TYPES.get(status.kind, 0),
            )
            for match, path in status.rules:
                row.rules.rules.add(match=match, path=path)
        for name in metadata.http_endpoints:
            response.http_endpoints.add(name=name)
        for name in metadata.resiliencies:
            response.resiliencies.add(name=name)
        response.actor_runtime.runtime_status = _DISABLED
        if metadata.app is not None:
            app = response.app_connection_properties
            app.port = metadata.app.port
            app.protocol = metadata.app.protocol
            app.channel_address = metadata.app.address
            app.max_concurrency = metadata.app.max_concurrency
            if metadata.app.health:
                app.health.health_check_path = metadata.app.health.path
                app.health.health_probe_interval = format_go_duration(metadata.app.health.interval)
                app.health.health_probe_timeout = format_go_duration(metadata.app.health.timeout)
                app.health.health_threshold = metadata.app.health.threshold
        return response

    async def set(self, call: GrpcCall, request: runtime_pb.SetMetadataRequest) -> wellknown_pb.Empty:
        self._metadata.set(call.caller, request.key, request.value)
        return wellknown_pb.Empty()

    async def shutdown(self, call: GrpcCall, request: runtime_pb.ShutdownRequest) -> wellknown_pb.Empty:  # noqa: ARG002 - the request is empty
        force = any(key == "dapr-force-shutdown" and value == "true" for key, value in call.wire.metadata)
        self._shutdown.shutdown(call.caller, force=force)
        return wellknown_pb.Empty()
