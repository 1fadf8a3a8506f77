"""Publishing over gRPC. Facts: reference grpc-api §1.4, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb, wellknown_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary
from dapr_shared.api.spans import traces_of_events
from dapr_shared.blocks.pubsub.publish import PublishEntry, Trace, publish_failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.pubsub.publish import PublishBlock


class PubSubRpc:
    """Turns gRPC messages into calls of the publishing side of the pubsub block."""

    def __init__(self, block: PublishBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        bulk = runtime_pb.BulkPublishRequest
        return [
            unary("PublishEvent", runtime_pb.PublishEventRequest, self.publish, "publish"),
            unary("BulkPublishEvent", bulk, self.bulk_publish, "publish"),
            unary("BulkPublishEventAlpha1", bulk, self.bulk_publish, "publish", "v1alpha1"),
        ]

    async def publish(self, call: GrpcCall, request: runtime_pb.PublishEventRequest) -> wellknown_pb.Empty:
        await self._block.publish(
            call.caller,
            request.pubsub_name,
            request.topic,
            request.data,
            request.data_content_type,
            dict(request.metadata),
            Trace.carried(call.trace),
            trace_raw=True,
        )
        return wellknown_pb.Empty()

    async def bulk_publish(
        self, call: GrpcCall, request: runtime_pb.BulkPublishRequest
    ) -> runtime_pb.BulkPublishResponse:
        entries = [
            PublishEntry(entry.entry_id, entry.event, entry.content_type, dict(entry.metadata) or None)
            for entry in request.entries
        ]
        failures = await self._block.bulk_publish(
            call.caller,
            request.pubsub_name,
            request.topic,
            entries,
            dict(request.metadata),
            traces_of_events(call.span, call.trace, "/"),
        )
        if failures:
            raise publish_failed(request.pubsub_name, request.topic, failures[0].error)
        return runtime_pb.BulkPublishResponse()
