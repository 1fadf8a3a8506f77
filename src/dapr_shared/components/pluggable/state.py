"""A state store of another program.

Last step of the request road. What it can do it says itself (`Features`), and the runtime asks nothing else of it.
Facts: reference internal §7.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from google.protobuf.message import Message

from dapr_shared._proto import components_pb, wellknown_pb
from dapr_shared.components.pluggable.connection import (
    Connection,
    NotImplementedByComponentError,
    PluggableSettings,
    init_metadata,
    violated_field,
)
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import (
    Concurrency,
    Consistency,
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    GetRequest,
    NotSupportedError,
    Operation,
    QueryResult,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

JSON = "application/json"
_CONCURRENCY = {Concurrency.UNSPECIFIED: 0, Concurrency.FIRST_WRITE: 1, Concurrency.LAST_WRITE: 2}
_CONSISTENCY = {Consistency.UNSPECIFIED: 0, Consistency.EVENTUAL: 1, Consistency.STRONG: 2}

M = TypeVar("M", bound=Message)


class PluggableStateStore(StateStore[PluggableSettings]):
    """A state store behind a socket."""

    settings_type = PluggableSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            StateCapability.ETAG,
            StateCapability.TRANSACTIONAL,
            StateCapability.TTL,
            StateCapability.QUERY_API,
            StateCapability.PARTITION_KEY,
        },
    )

    _features: frozenset[str] = frozenset()

    def effective_capabilities(self) -> frozenset[str]:
        return type(self).capabilities & self._features

    async def start(self, stack: AsyncExitStack) -> None:
        self._connection = Connection(self.context.type, "StateStore", self.context.name, self._initialise)
        await self._connection.open(stack)
        if StateCapability.TRANSACTIONAL in self._features:
            self.max_operations = await self._most_operations()

    async def _initialise(self, connection: Connection) -> None:
        request = components_pb.InitRequest(metadata=init_metadata(self.settings.properties))
        await connection.request("Init", request, components_pb.InitResponse)
        answer = await connection.request("Features", components_pb.FeaturesRequest(), components_pb.FeaturesResponse)
        self._features = frozenset(answer.features)

    async def _most_operations(self) -> int:
        try:
            answer = await self._connection.call(
                "MultiMaxSize",
                components_pb.MultiMaxSizeRequest(),
                components_pb.MultiMaxSizeResponse,
                service="TransactionalStoreMultiMaxSize",
            )
        except NotImplementedByComponentError:
            return 0
        return max(answer.max_size, 0)

    async def ping(self) -> None:
        await self._open().call("Ping", components_pb.PingRequest(), components_pb.PingResponse)

    async def get(self, request: GetRequest) -> StateValue | None:
        answer = await self._open().call("Get", _get(request), components_pb.GetResponse)
        return _value(answer)

    async def set(self, request: SetRequest) -> None:
        await self._write("Set", _set(request), components_pb.SetResponse)

    async def delete(self, request: DeleteRequest) -> None:
        await self._write("Delete", _delete(request), components_pb.DeleteResponse)

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        if not requests:
            return []
        message = components_pb.BulkGetRequest(
            items=[_get(request) for request in {request.key: request for request in requests}.values()],
            options=components_pb.BulkGetRequestOptions(parallelism=parallelism),
        )
        try:
            answer = await self._open().call("BulkGet", message, components_pb.BulkGetResponse)
        except NotImplementedByComponentError:
            return await super().bulk_get(requests, parallelism)
        found: dict[str, StateValue | BackendError | None] = {
            item.key: BackendError(item.error) if item.error else _value(item) for item in answer.items
        }
        return [found.get(request.key) for request in requests]

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        message = components_pb.BulkSetRequest(items=[_set(request) for request in requests])
        try:
            await self._write("BulkSet", message, components_pb.BulkSetResponse)
        except NotImplementedByComponentError:
            await super().bulk_set(requests)

    async def bulk_delete(self, requests: Sequence[DeleteRequest]) -> None:
        message = components_pb.BulkDeleteRequest(items=[_delete(request) for request in requests])
        try:
            await self._write("BulkDelete", message, components_pb.BulkDeleteResponse)
        except NotImplementedByComponentError:
            await super().bulk_delete(requests)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:
        self._open()
        if StateCapability.TRANSACTIONAL not in self._features:
            raise NotSupportedError(f"{self.context.type} has no transactions")
        message = components_pb.TransactionalStateRequest(metadata=dict(metadata))
        for operation in operations:
            if isinstance(operation, SetRequest):
                message.operations.add(set=_set(operation))
            else:
                message.operations.add(delete=_delete(operation))
        try:
            await self._write(
                "Transact", message, components_pb.TransactionalStateResponse, service="TransactionalStateStore"
            )
        except NotImplementedByComponentError as error:
            raise NotSupportedError(str(error)) from error

    async def query(self, query: Mapping[str, Any], metadata: Mapping[str, str], key_prefix: str = "") -> QueryResult:
        del key_prefix  # the protocol has no place for it
        connection = self._open()
        if StateCapability.QUERY_API not in self._features:
            raise NotSupportedError(f"{self.context.type} has no query API")
        message = components_pb.QueryRequest(query=_query(query), metadata=dict(metadata))
        try:
            answer = await connection.call("Query", message, components_pb.QueryResponse, service="QueriableStateStore")
        except NotImplementedByComponentError as error:
            raise NotSupportedError(str(error)) from error
        for item in answer.items:
            if item.error:
                raise BackendError(item.error)
        items = [(item.key, _read(item)) for item in answer.items]
        return QueryResult(items, answer.token, dict(answer.metadata))

    async def _write(self, method: str, message: Message, answer: type[M], *, service: str = "") -> None:
        try:
            await self._open().call(method, message, answer, service=service)
        except BackendError as error:
            raise _of_etag(error) from error.__cause__

    def _open(self) -> Connection:
        connection: Connection | None = getattr(self, "_connection", None)
        if connection is None:
            raise BackendError(f"the store {self.context.name} is not open")
        return connection


def _of_etag(error: BackendError) -> BackendError:
    """The error of an etag that the status stands for, or the error as it is."""
    cause = error.__cause__
    if not isinstance(cause, GrpcError) or violated_field(cause) != "etag":
        return error
    if cause.code is GrpcCode.FAILED_PRECONDITION:
        return EtagMismatchError(str(error))
    return EtagInvalidError(str(error)) if cause.code is GrpcCode.INVALID_ARGUMENT else error


def _get(request: GetRequest) -> components_pb.GetRequest:
    return components_pb.GetRequest(
        key=request.key, metadata=dict(request.metadata), consistency=_CONSISTENCY[request.consistency]
    )


def _set(request: SetRequest) -> components_pb.SetRequest:
    metadata = dict(request.metadata)
    if request.ttl is not None:
        metadata["ttlInSeconds"] = str(request.ttl)
    return components_pb.SetRequest(
        key=request.key,
        value=request.value,
        etag=components_pb.Etag(value=request.etag) if request.etag else None,
        metadata=metadata,
        options=_options(request),
        content_type=JSON if request.is_json else "",
    )


def _delete(request: DeleteRequest) -> components_pb.DeleteRequest:
    return components_pb.DeleteRequest(
        key=request.key,
        etag=components_pb.Etag(value=request.etag) if request.etag else None,
        metadata=dict(request.metadata),
        options=_options(request),
    )


def _options(request: SetRequest | DeleteRequest) -> components_pb.StateOptions:
    return components_pb.StateOptions(
        concurrency=_CONCURRENCY[request.concurrency], consistency=_CONSISTENCY[request.consistency]
    )


def _value(answer: components_pb.GetResponse | components_pb.BulkStateItem) -> StateValue | None:
    """The protocol knows no absence: a value without bytes, etag and content type is none."""
    if not answer.data and not answer.HasField("etag") and not answer.content_type:
        return None
    return _read(answer, answer.metadata)


def _read(
    answer: components_pb.GetResponse | components_pb.BulkStateItem | components_pb.QueryItem,
    metadata: Mapping[str, str] | None = None,
) -> StateValue:
    return StateValue(
        answer.data,
        answer.etag.value if answer.HasField("etag") else None,
        dict(metadata or {}),
        is_json=True if answer.content_type == JSON else None,
    )


def _query(query: Mapping[str, Any]) -> components_pb.Query:
    """The parts of a query; what has another form than the query API says is left out, as daprd does."""
    filters = query.get("filter")
    page = query.get("page")
    message = components_pb.Query()
    if isinstance(filters, dict):
        for name, value in filters.items():  # pyright: ignore[reportUnknownVariableType]
            message.filter[str(name)].CopyFrom(wellknown_pb.Any(value=json.dumps(value).encode()))  # pyright: ignore[reportUnknownArgumentType]
    for entry in _list(query.get("sort")):
        order = 1 if str(entry.get("order", "")).upper() == "DESC" else 0
        message.sort.add(key=str(entry.get("key", "")), order=order)
    if isinstance(page, dict):
        limit: Any = page.get("limit")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        token: Any = page.get("token")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        message.pagination.limit = limit if isinstance(limit, int) else 0
        message.pagination.token = token if isinstance(token, str) else ""
    return message


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
