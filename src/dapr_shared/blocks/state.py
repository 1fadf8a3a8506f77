"""The state block: keys of the caller's app, in the store that it names.

Step 4 of the request road. Here stand the rules that hold for every store: key prefixes, illegal keys, time to live,
the order of checks. Facts: reference http-api §4, grpc-api §1.4, behaviours §2.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import msgspec

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
from dapr_shared.core import errors
from dapr_shared.core.errors import ErrorRow, FieldViolation, Resource

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics

SEPARATOR = "||"
TTL_KEY = "ttlInSeconds"
MAX_TTL = 2**31 - 1
MIN_TTL = -1
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}").fullmatch

_CONCURRENCY = {c.value: c for c in Concurrency}
_CONSISTENCY = {c.value: c for c in Consistency}


class SaveItem(msgspec.Struct, frozen=True):
    """One value to save, as a client sent it."""

    key: str
    value: bytes
    is_json: bool = True
    etag: str | None = None
    concurrency: str = ""
    consistency: str = ""
    metadata: Mapping[str, str] = {}


class DeleteItem(msgspec.Struct, frozen=True):
    """One key to delete, as a client sent it."""

    key: str
    etag: str | None = None
    concurrency: str = ""
    consistency: str = ""
    metadata: Mapping[str, str] = {}


class BulkItem(msgspec.Struct, frozen=True):
    """One answer of a bulk get."""

    key: str
    value: StateValue | None = None
    error: str = ""


class TransactionItem(msgspec.Struct, frozen=True):
    """One operation of a transaction, as a client sent it."""

    operation: str
    item: SaveItem


class StateBlock:
    """State of many apps; each reaches its own keys only."""

    def __init__(self, components: Components, metrics: DaprMetrics) -> None:
        self._components = components
        self._metrics = metrics

    async def get(
        self, caller: Caller, store: str, key: str, consistency: str = "", metadata: Mapping[str, str] | None = None
    ) -> StateValue | None:
        """The value under a key, or `None`. Raises `STATE_GET` and the errors of finding the store and key."""
        opened = self._store(caller, store)
        request = GetRequest(
            _full_key(opened, caller, key), _CONSISTENCY.get(consistency, Consistency.UNSPECIFIED), metadata or {}
        )
        with self._counted(caller, opened, "get"):
            try:
                return await opened.component.get(request)
            except BackendError as error:
                raise errors.STATE_GET(key=key, store=store, detail=error) from error

    async def bulk_get(
        self, caller: Caller, store: str, keys: Sequence[str], parallelism: int, metadata: Mapping[str, str]
    ) -> list[BulkItem]:
        """Values under many keys, in their order; an error of one key is in its item."""
        opened = self._store(caller, store)
        requests = [GetRequest(_full_key(opened, caller, key), metadata=metadata) for key in keys]
        with self._counted(caller, opened, "bulk_get"):
            try:
                answers = await opened.component.bulk_get(requests, parallelism)
            except BackendError as error:
                raise errors.STATE_BULK_GET(store=store, detail=error) from error
        return [
            BulkItem(key, error=str(answer)) if isinstance(answer, BackendError) else BulkItem(key, answer)
            for key, answer in zip(keys, answers, strict=True)
        ]

    async def save(self, caller: Caller, store: str, items: Sequence[SaveItem]) -> None:
        """Save all items. When it returns, all are written; after an error some may be."""
        opened = self._store(caller, store)
        requests = [_set_request(opened, caller, store, item, errors.STATE_SAVE) for item in items]
        if not requests:
            return
        with self._counted(caller, opened, "set" if len(requests) == 1 else "bulk_set"):
            try:
                if len(requests) == 1:
                    await opened.component.set(requests[0])
                else:
                    await opened.component.bulk_set(requests)
            except EtagMismatchError as error:
                raise errors.STATE_SAVE_ETAG_MISMATCH(store=store, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_SAVE_ETAG_INVALID(store=store, detail=error) from error
            except BackendError as error:
                raise errors.STATE_SAVE(store=store, detail=error) from error

    async def delete(self, caller: Caller, store: str, items: Sequence[DeleteItem]) -> None:
        """Delete all keys; an absent key without an etag is no error."""
        opened = self._store(caller, store)
        requests = [_delete_request(opened, caller, store, item, errors.STATE_DELETE) for item in items]
        if not requests:
            return
        key = ", ".join(item.key for item in items[:3])
        with self._counted(caller, opened, "delete" if len(requests) == 1 else "bulk_delete"):
            try:
                if len(requests) == 1:
                    await opened.component.delete(requests[0])
                else:
                    await opened.component.bulk_delete(requests)
            except EtagMismatchError as error:
                raise errors.STATE_DELETE_ETAG_MISMATCH(key=key, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_DELETE_ETAG_INVALID(key=key, detail=error) from error
            except BackendError as error:
                raise errors.STATE_DELETE(key=key, detail=error) from error

    async def transact(
        self, caller: Caller, store: str, operations: Sequence[TransactionItem], metadata: Mapping[str, str]
    ) -> None:
        """Carry out all operations or none."""
        opened = self._store(caller, store)
        component = opened.component
        if StateCapability.TRANSACTIONAL not in opened.capabilities:
            raise errors.STATE_TRANSACTIONS_NOT_SUPPORTED(store=store, resource=Resource("state", store))
        limit = component.max_operations
        if limit and len(operations) > limit:
            info = {"currentOpsTransaction": str(len(operations)), "maxOpsPerTransaction": str(limit)}
            raise errors.STATE_TOO_MANY_TRANSACTIONS(
                count=len(operations), limit=limit, store=store, info=info, resource=Resource("state", store)
            )
        requests = [_operation(opened, caller, store, operation) for operation in operations]
        if not requests:
            return
        with self._counted(caller, opened, "transaction"):
            try:
                await component.transact(requests, metadata)
            except BackendError as error:
                raise errors.STATE_TRANSACTION(detail=error) from error

    async def query(self, caller: Caller, store: str, query: bytes, metadata: Mapping[str, str]) -> QueryResult:
        """Answer a query of the query API, where the store can."""
        opened = self._store(caller, store)
        if StateCapability.QUERY_API not in opened.capabilities:
            raise errors.STATE_QUERY_NOT_SUPPORTED(store=store, resource=Resource("state", store))
        try:
            parsed = msgspec.json.decode(query)
        except (msgspec.DecodeError, RecursionError) as error:
            raise errors.STATE_QUERY(store=store, detail=error) from error
        if not isinstance(parsed, dict):
            raise errors.STATE_QUERY(store=store, detail="a query is a JSON object")
        with self._counted(caller, opened, "query"):
            try:
                return await opened.component.query(cast("dict[str, Any]", parsed), metadata)
            except NotSupportedError as error:
                raise errors.STATE_QUERY_NOT_SUPPORTED(store=store, resource=Resource("state", store)) from error
            except BackendError as error:
                raise errors.STATE_QUERY(store=store, detail=error) from error

    def _store(self, caller: Caller, store: str) -> Opened[StateStore[Any]]:
        # The contract stands for all its adapters, whatever their settings are.
        opened = self._components.find(cast("type[StateStore[Any]]", StateStore), caller.ref, store)
        if opened is not None:
            return opened
        row = errors.STATE_NOT_FOUND if self._components.has(StateStore, caller.ref) else errors.STATE_NOT_CONFIGURED
        raise row(store=store, info={"appID": caller.app_id})

    @contextmanager
    def _counted(self, caller: Caller, opened: Opened[StateStore[Any]], operation: str) -> Generator[None]:
        started = perf_counter()
        success = False
        try:
            yield
            success = True
        finally:
            self._metrics.state_operation(
                caller.app_id, opened.name, caller.namespace, operation, success=success
            ).record((perf_counter() - started) * 1000)


def _full_key(opened: Opened[StateStore[Any]], caller: Caller, key: str) -> str:
    """The key as it is stored (behaviours §2). Raises `STATE_ILLEGAL_KEY`, `STATE_KEY_EMPTY`."""
    if SEPARATOR in key:
        raise errors.STATE_ILLEGAL_KEY(
            key=key,
            resource=Resource("state", opened.name),
            violations=(FieldViolation(key, f"input key/keyPrefix '{key}' can't contain '||'"),),
        )
    strategy = opened.runtime_metadata.get("keyprefix", "appid").lower()
    if strategy in ("appid", ""):
        return f"{caller.app_id}{SEPARATOR}{key}"
    if strategy == "name":
        return f"{opened.name}{SEPARATOR}{key}"
    if strategy == "namespace":
        namespace = caller.record.given_namespace
        return f"{namespace}.{caller.app_id}{SEPARATOR}{key}" if namespace else f"{caller.app_id}{SEPARATOR}{key}"
    if strategy == "none":
        return key
    return f"{strategy}{SEPARATOR}{key}"


def _ttl(metadata: Mapping[str, str], store: str, row: ErrorRow) -> int | None:
    text = metadata.get(TTL_KEY)
    if text is None or text == "":
        return None
    if not _WHOLE_NUMBER(text):  # int() takes more than Go does: spaces, underscores, the digits of other scripts
        raise row(store=store, key="", detail=f"{TTL_KEY} must be a whole number of seconds, found {text[:40]!r}")
    seconds = int(text)
    if not MIN_TTL <= seconds <= MAX_TTL:
        raise row(store=store, key="", detail=f"{TTL_KEY} must be between {MIN_TTL} and {MAX_TTL}, found {seconds}")
    return seconds


def _options(item: SaveItem | DeleteItem, store: str, row: ErrorRow) -> tuple[Concurrency, Consistency]:
    concurrency = _CONCURRENCY.get(item.concurrency)
    consistency = _CONSISTENCY.get(item.consistency)
    if concurrency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized concurrency model '{item.concurrency}'")
    if consistency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized consistency model '{item.consistency}'")
    return concurrency, consistency


def _set_request(
    opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem, row: ErrorRow
) -> SetRequest:
    if not item.key:
        raise errors.STATE_KEY_EMPTY()
    concurrency, consistency = _options(item, store, row)
    return SetRequest(
        _full_key(opened, caller, item.key),
        item.value,
        is_json=item.is_json,
        etag=item.etag or None,
        concurrency=concurrency,
        consistency=consistency,
        ttl=_ttl(item.metadata, store, row) if item.metadata else None,
        metadata=item.metadata,
    )


def _delete_request(
    opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem | DeleteItem, row: ErrorRow
) -> DeleteRequest:
    if not item.key:
        raise errors.STATE_KEY_EMPTY()
    concurrency, consistency = _options(item, store, row)
    return DeleteRequest(
        _full_key(opened, caller, item.key),
        etag=item.etag or None,
        concurrency=concurrency,
        consistency=consistency,
        metadata=item.metadata,
    )


def _operation(opened: Opened[StateStore[Any]], caller: Caller, store: str, operation: TransactionItem) -> Operation:
    if operation.operation == "upsert":
        return _set_request(opened, caller, store, operation.item, errors.STATE_TRANSACTION)
    if operation.operation == "delete":
        return _delete_request(opened, caller, store, operation.item, errors.STATE_TRANSACTION)
    raise errors.STATE_OPERATION_NOT_SUPPORTED(operation=operation.operation)
