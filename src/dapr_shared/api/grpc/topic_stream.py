"""Streaming subscriptions over gRPC: `SubscribeTopicEventsAlpha1`. Facts: reference grpc-api §1.4, §2.

First step of the request road for the call, last of the delivery road for its events.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.call import StreamMethod
from dapr_shared.channel.callbacks import reply_of_status
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from dapr_shared.api.grpc.call import GrpcCall
    from dapr_shared.blocks.pubsub.streaming import StreamingBlock, TopicStream


class TopicStreamRpc:
    """Turns the messages of the call into a stream of the block, and back."""

    def __init__(self, block: StreamingBlock) -> None:
        self._block = block

    def streams(self) -> Sequence[StreamMethod]:
        return [StreamMethod("SubscribeTopicEventsAlpha1", self.subscribe, "subscribe", "v1alpha1")]

    async def subscribe(self, call: GrpcCall, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Receive events until the client ends the call. Raises the errors of opening, `BAD_REQUEST` for a wrong message."""
        initial = await self._initial(messages)
        stream = await self._block.open(
            call.caller,
            initial.pubsub_name,
            initial.topic,
            dict(initial.metadata),
            initial.dead_letter_topic if initial.HasField("dead_letter_topic") else "",
        )
        replies = asyncio.ensure_future(self._read_replies(stream, messages))
        replies.add_done_callback(lambda done: stream.end(None if done.cancelled() else done.exception()))
        try:
            started = runtime_pb.SubscribeTopicEventsResponseAlpha1()
            started.initial_response.SetInParent()
            yield started.SerializeToString()
            while (event := await stream.next()) is not None:
                response = runtime_pb.SubscribeTopicEventsResponseAlpha1()
                response.event_message.MergeFrom(event)
                yield response.SerializeToString()
        finally:
            replies.cancel()
            await self._block.left(stream)

    async def _initial(self, messages: AsyncIterator[bytes]) -> runtime_pb.SubscribeTopicEventsRequestInitialAlpha1:
        async for data in messages:
            request = runtime_pb.SubscribeTopicEventsRequestAlpha1.FromString(data)
            if request.HasField("initial_request"):
                return request.initial_request
            break
        raise errors.BAD_REQUEST(detail="the first message of the stream has no initial_request")

    async def _read_replies(self, stream: TopicStream, messages: AsyncIterator[bytes]) -> None:
        async for data in messages:
            request = runtime_pb.SubscribeTopicEventsRequestAlpha1.FromString(data)
            if not request.HasField("event_processed"):
                raise errors.BAD_REQUEST(detail="only the first message of the stream may be an initial_request")
            processed = request.event_processed
            stream.reply(processed.id, reply_of_status(processed.status.status)[0])
