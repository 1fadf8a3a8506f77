"""State over gRPC. Facts: reference grpc-api §1.4, §2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import common_pb, runtime_pb, wellknown_pb
from dapr_shared.api.grpc.call import GrpcCall, UnaryMethod, unary
from dapr_shared.blocks.pubsub.publish import Trace
from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.blocks.state.block import StateBlock

_CONCURRENCY = {0: "", 1: "first-write", 2: "last-write"}
_CONSISTENCY = {0: "", 1: "eventual", 2: "strong"}
_JSON_CONTENT_TYPE = "application/json"


class StateRpc:
    """Turns gRPC messages into calls of the state block."""

    def __init__(self, block: StateBlock) -> None:
        self._block = block

    def methods(self) -> Sequence[UnaryMethod]:
        return [
            unary("GetState", runtime_pb.GetStateRequest, self.get, "state"),
            unary("GetBulkState", runtime_pb.GetBulkStateRequest, self.bulk_get, "state"),
            unary("SaveState", runtime_pb.SaveStateRequest, self.save, "state"),
            unary("DeleteState", runtime_pb.DeleteStateRequest, self.delete, "state"),
            unary("DeleteBulkState", runtime_pb.DeleteBulkStateRequest, self.bulk_delete, "state"),
            unary("ExecuteStateTransaction", runtime_pb.ExecuteStateTransactionRequest, self.transact, "state"),
            unary("QueryStateAlpha1", runtime_pb.QueryStateRequest, self.query, "state", "v1alpha1"),
        ]

    async def get(self, call: GrpcCall, request: runtime_pb.GetStateRequest) -> runtime_pb.GetStateResponse:
        value = await self._block.get(
            call.caller,
            request.store_name,
            request.key,
            _CONSISTENCY.get(request.consistency, ""),
            dict(request.metadata),
        )
        if value is None:
            return runtime_pb.GetStateResponse()
        return runtime_pb.GetStateResponse(data=value.data, etag=value.etag or "", metadata=dict(value.metadata))

    async def bulk_get(
        self, call: GrpcCall, request: runtime_pb.GetBulkStateRequest
    ) -> runtime_pb.GetBulkStateResponse:
        items = await self._block.bulk_get(
            call.caller, request.store_name, list(request.keys), request.parallelism, dict(request.metadata)
        )
        response = runtime_pb.GetBulkStateResponse()
        for item in items:
            answer = response.items.add(key=item.key, error=item.error)
            if item.value is not None:
                answer.data = item.value.data
                answer.etag = item.value.etag or ""
                answer.metadata.update(item.value.metadata)
        return response

    async def save(self, call: GrpcCall, request: runtime_pb.SaveStateRequest) -> wellknown_pb.Empty:
        self._block.check_count(request.store_name, len(request.states))
        await self._block.save(call.caller, request.store_name, [_save_item(item) for item in request.states])
        return wellknown_pb.Empty()

    async def delete(self, call: GrpcCall, request: runtime_pb.DeleteStateRequest) -> wellknown_pb.Empty:
        item = _delete_item(request.key, _etag(request), request.options, request.metadata)
        await self._block.delete(call.caller, request.store_name, item)
        return wellknown_pb.Empty()

    async def bulk_delete(self, call: GrpcCall, request: runtime_pb.DeleteBulkStateRequest) -> wellknown_pb.Empty:
        self._block.check_count(request.store_name, len(request.states))
        items = [_delete_item(item.key, _etag(item), item.options, item.metadata) for item in request.states]
        await self._block.bulk_delete(call.caller, request.store_name, items)
        return wellknown_pb.Empty()

    async def transact(self, call: GrpcCall, request: runtime_pb.ExecuteStateTransactionRequest) -> wellknown_pb.Empty:
        self._block.check_count(request.storeName, len(request.operations))
        operations = [TransactionItem(o.operationType, _save_item(o.request)) for o in request.operations]
        await self._block.transact(
            call.caller, request.storeName, operations, dict(request.metadata), Trace.carried(call.trace)
        )
        return wellknown_pb.Empty()

    async def query(self, call: GrpcCall, request: runtime_pb.QueryStateRequest) -> runtime_pb.QueryStateResponse:
        result = await self._block.query(
            call.caller, request.store_name, request.query.encode(), dict(request.metadata)
        )
        response = runtime_pb.QueryStateResponse(token=result.token, metadata=dict(result.metadata))
        for key, value in result.items:
            response.results.add(key=key, data=value.data, etag=value.etag or "")
        return response


def _etag(item: common_pb.StateItem | runtime_pb.DeleteStateRequest) -> str | None:
    return item.etag.value if item.HasField("etag") else None


def _save_item(item: common_pb.StateItem) -> SaveItem:
    metadata = dict(item.metadata)
    return SaveItem(
        item.key,
        item.value,
        is_json=metadata.get("contentType", "") == _JSON_CONTENT_TYPE,
        parsed=False,
        etag=_etag(item),
        concurrency=_CONCURRENCY.get(item.options.concurrency, ""),
        consistency=_CONSISTENCY.get(item.options.consistency, ""),
        metadata=metadata,
    )


def _delete_item(
    key: str, etag: str | None, options: common_pb.StateOptions, metadata: Mapping[str, str]
) -> DeleteItem:
    return DeleteItem(
        key,
        etag=etag,
        concurrency=_CONCURRENCY.get(options.concurrency, ""),
        consistency=_CONSISTENCY.get(options.consistency, ""),
        metadata=dict(metadata),
    )
