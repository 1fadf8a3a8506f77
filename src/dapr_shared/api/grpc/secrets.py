"""Secrets over gRPC. Facts: reference grpc-api §1.4, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.secrets import SecretsBlock


class SecretsRpc:
    """Turns gRPC messages into calls of the secrets block."""

    def __init__(self, block: SecretsBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        return [
            unary("GetSecret", runtime_pb.GetSecretRequest, self.get, "secrets"),
            unary("GetBulkSecret", runtime_pb.GetBulkSecretRequest, self.bulk, "secrets"),
        ]

    async def get(self, call: GrpcCall, request: runtime_pb.GetSecretRequest) -> runtime_pb.GetSecretResponse:
        secret = await self._block.get(call.caller, request.store_name, request.key, dict(request.metadata))
        return runtime_pb.GetSecretResponse(data=dict(secret))

    async def bulk(self, call: GrpcCall, request: runtime_pb.GetBulkSecretRequest) -> runtime_pb.GetBulkSecretResponse:
        secrets = await self._block.bulk(call.caller, request.store_name, dict(request.metadata))
        response = runtime_pb.GetBulkSecretResponse()
        for name, secret in secrets.items():
            response.data[name].secrets.update(secret)
        return response
