"""Configuration over gRPC. Facts: reference grpc-api §1.4, §2.

First step of the request road; for a stream of changes the last of the delivery road.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import common_pb, runtime_pb
from dapr_shared.api.grpc.call import GrpcCall, StreamMethod, UnaryMethod, unary
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from dapr_shared.blocks.configuration.block import ConfigurationBlock
    from dapr_shared.contracts.configuration import Items

_API = "configuration"
_ALPHA = "v1alpha1"


class ConfigurationRpc:
    """Turns gRPC messages into calls of the configuration block."""

    def __init__(self, block: ConfigurationBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        get, unsubscribe = runtime_pb.GetConfigurationRequest, runtime_pb.UnsubscribeConfigurationRequest
        return [
            unary("GetConfiguration", get, self.get, _API),
            unary("GetConfigurationAlpha1", get, self.get, _API, _ALPHA),
            unary("UnsubscribeConfiguration", unsubscribe, self.unsubscribe, _API),
            unary("UnsubscribeConfigurationAlpha1", unsubscribe, self.unsubscribe, _API, _ALPHA),
        ]

    def streams(self) -> Sequence[StreamMethod]:
        return [
            StreamMethod("SubscribeConfiguration", self.subscribe, _API),
            StreamMethod("SubscribeConfigurationAlpha1", self.subscribe, _API, _ALPHA),
        ]

    async def get(
        self, call: GrpcCall, request: runtime_pb.GetConfigurationRequest
    ) -> runtime_pb.GetConfigurationResponse:
        items = await self._block.get(call.caller, request.store_name, list(request.keys), dict(request.metadata))
        return runtime_pb.GetConfigurationResponse(items=_messages(items))

    async def subscribe(self, call: GrpcCall, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The id first, then each change, until the client ends the call or the subscription is ended by its id."""
        request = await _first(messages)
        listener = await self._block.open_stream(
            call.caller, request.store_name, list(request.keys), dict(request.metadata)
        )
        try:
            yield runtime_pb.SubscribeConfigurationResponse(id=listener.id).SerializeToString()
            while await listener.wait():
                items = _messages(listener.take())
                yield runtime_pb.SubscribeConfigurationResponse(id=listener.id, items=items).SerializeToString()
        finally:
            await self._block.close(listener)

    async def unsubscribe(
        self, call: GrpcCall, request: runtime_pb.UnsubscribeConfigurationRequest
    ) -> runtime_pb.UnsubscribeConfigurationResponse:
        try:
            await self._block.unsubscribe_stream(call.caller, request.id)
        except DaprError as error:  # as daprd answers it: status OK, and not ok
            return runtime_pb.UnsubscribeConfigurationResponse(ok=False, message=error.message)
        return runtime_pb.UnsubscribeConfigurationResponse(ok=True)


async def _first(messages: AsyncIterator[bytes]) -> runtime_pb.SubscribeConfigurationRequest:
    async for data in messages:
        return runtime_pb.SubscribeConfigurationRequest.FromString(data)
    raise errors.BAD_REQUEST(detail="the call has no message")


def _messages(items: Items) -> dict[str, common_pb.ConfigurationItem]:
    return {
        key: common_pb.ConfigurationItem(value=item.value, version=item.version, metadata=dict(item.metadata))
        for key, item in items.items()
    }
