"""Locks over gRPC. Facts: reference grpc-api §1.4, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.lock import LockBlock


class LockRpc:
    """Turns gRPC messages into calls of the lock block."""

    def __init__(self, block: LockBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        return [
            unary("TryLockAlpha1", runtime_pb.TryLockRequest, self.try_lock, "lock", "v1alpha1"),
            unary("UnlockAlpha1", runtime_pb.UnlockRequest, self.unlock, "unlock", "v1alpha1"),
        ]

    async def try_lock(self, call: GrpcCall, request: runtime_pb.TryLockRequest) -> runtime_pb.TryLockResponse:
        taken = await self._block.try_lock(
            call.caller, request.store_name, request.resource_id, request.lock_owner, request.expiry_in_seconds
        )
        return runtime_pb.TryLockResponse(success=taken)

    async def unlock(self, call: GrpcCall, request: runtime_pb.UnlockRequest) -> runtime_pb.UnlockResponse:
        status = await self._block.unlock(call.caller, request.store_name, request.resource_id, request.lock_owner)
        return runtime_pb.UnlockResponse(status=int(status))
