"""The state block: keys of the caller's app, in the store that it names.

Step 4 of the request road. Here stand the rules that hold for every store: key prefixes, illegal keys, time to live,
the order of checks, how much one call may ask for. Facts: reference http-api §4, grpc-api §1.4, behaviours §2.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from dapr_shared.blocks.counted import Counted
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
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
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics

SEPARATOR = "||"
TTL_KEY = "ttlInSeconds"
MAX_TTL = 2**31 - 1
MAX_ITEMS = 10_000
"""Most keys or items of one call: a larger one would hold up the calls of all other apps. Dapr knows no such bound."""
MAX_BULK_BYTES = 64 * 1024 * 1024
"""Most bytes of keys and values in one answer of a bulk get, a key that is asked for twice counted twice."""
WRITE_CHUNK = 256
"""Items of one call that are made or written in one go; then other calls have a turn."""
READ_CHUNK = 16
"""Keys of a bulk get that are read in one go: the sizes of their values are known only when they are here."""
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}").fullmatch

_CONCURRENCY = {c.value: c for c in Concurrency}
_CONSISTENCY = {c.value: c for c in Consistency}

Q = TypeVar("Q")
R = TypeVar("R")


class SaveItem(msgspec.Struct, frozen=True):
    """One value to save, as a client sent it."""

    key: str
    value: bytes
    is_json: bool = True
    parsed: bool = True
    """False: `is_json` is the client's word alone."""
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
        with Counted(self._metrics.state_operation, caller, opened, "get"):
            try:
                return await opened.component.get(request)
            except BackendError as error:
                raise errors.STATE_GET(key=key, store=store, detail=error) from error

    async def bulk_get(
        self, caller: Caller, store: str, keys: Sequence[str], parallelism: int, metadata: Mapping[str, str]
    ) -> list[BulkItem]:
        """Values under many keys, in their order; an error of one key is in its item.

        A key that is asked for several times is read once and answered each time, as daprd's memory store does.
        Raises `STATE_TOO_MANY_ITEMS`, `STATE_BULK_GET_TOO_LARGE`, `STATE_BULK_GET`.
        """
        opened = self._store(caller, store)
        self.check_count(store, len(keys))
        wanted = Counter(keys)
        full_keys = await _made(lambda key: _full_key(opened, caller, key), list(wanted))
        answers: dict[str, StateValue | BackendError | None] = {}
        size = 0
        with Counted(self._metrics.state_operation, caller, opened, "bulk_get"):
            for chunk in _chunks(list(zip(wanted, full_keys, strict=True)), READ_CHUNK):
                requests = [GetRequest(full_key, metadata=metadata) for _, full_key in chunk]
                try:
                    found = await opened.component.bulk_get(requests, parallelism)
                except BackendError as error:
                    raise errors.STATE_BULK_GET(store=store, detail=error) from error
                for (key, _), answer in zip(chunk, found, strict=True):
                    answers[key] = answer
                    size += wanted[key] * (len(key) + (len(answer.data) if isinstance(answer, StateValue) else 0))
                if size > MAX_BULK_BYTES:
                    raise errors.STATE_BULK_GET_TOO_LARGE(store=store, limit=MAX_BULK_BYTES)
                await asyncio.sleep(0)
        return [_bulk_item(key, answers[key]) for key in keys]

    async def save(self, caller: Caller, store: str, items: Sequence[SaveItem]) -> None:
        """Save all items. When it returns, all are written; after an error some may be."""
        opened = self._store(caller, store)
        self.check_count(store, len(items))
        requests = await _made(lambda item: _save_request(opened, caller, store, item), items)
        if not requests:
            return
        with Counted(self._metrics.state_operation, caller, opened, "set" if len(requests) == 1 else "bulk_set"):
            try:
                if len(requests) == 1:
                    await opened.component.set(requests[0])
                else:
                    await _send(opened.component.bulk_set, requests)
            except EtagMismatchError as error:
                raise errors.STATE_SAVE_ETAG_MISMATCH(store=store, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_SAVE_ETAG_INVALID(store=store, detail=error) from error
            except BackendError as error:
                raise errors.STATE_SAVE(store=store, detail=error) from error

    async def delete(self, caller: Caller, store: str, item: DeleteItem) -> None:
        """Delete one key; an absent key without an etag is no error."""
        opened = self._store(caller, store)
        request = _delete_request(opened, caller, store, item, errors.STATE_DELETE)
        with Counted(self._metrics.state_operation, caller, opened, "delete"):
            try:
                await opened.component.delete(request)
            except EtagMismatchError as error:
                raise errors.STATE_DELETE_ETAG_MISMATCH(key=item.key, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_DELETE_ETAG_INVALID(key=item.key, detail=error) from error
            except BackendError as error:
                raise errors.STATE_DELETE(key=item.key, detail=error) from error

    async def bulk_delete(self, caller: Caller, store: str, items: Sequence[DeleteItem]) -> None:
        """Delete many keys; absent keys without an etag are no error. After an error some may be deleted."""
        opened = self._store(caller, store)
        self.check_count(store, len(items))
        row = errors.STATE_BULK_DELETE
        requests = await _made(lambda item: _delete_request(opened, caller, store, item, row), items)
        if not requests:
            return
        with Counted(self._metrics.state_operation, caller, opened, "bulk_delete"):
            try:
                await _send(opened.component.bulk_delete, requests)
            except EtagMismatchError as error:
                raise errors.STATE_BULK_DELETE_ETAG_MISMATCH(store=store, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_BULK_DELETE_ETAG_INVALID(store=store, detail=error) from error
            except BackendError as error:
                raise row(store=store, detail=error) from error

    async def transact(
        self, caller: Caller, store: str, operations: Sequence[TransactionItem], metadata: Mapping[str, str]
    ) -> None:
        """Carry out all operations or none."""
        opened = self._store(caller, store)
        self.check_count(store, len(operations))
        component = opened.component
        if StateCapability.TRANSACTIONAL not in opened.capabilities:
            raise errors.STATE_TRANSACTIONS_NOT_SUPPORTED(store=store, resource=Resource("state", store))
        limit = component.max_operations
        if limit and len(operations) > limit:
            info = {"currentOpsTransaction": str(len(operations)), "maxOpsPerTransaction": str(limit)}
            raise errors.STATE_TOO_MANY_TRANSACTIONS(
                count=len(operations), limit=limit, store=store, info=info, resource=Resource("state", store)
            )
        requests = await _made(lambda operation: _operation(opened, caller, store, operation), operations)
        if not requests:
            return
        with Counted(self._metrics.state_operation, caller, opened, "transaction"):
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
        with Counted(self._metrics.state_operation, caller, opened, "query"):
            try:
                return await opened.component.query(cast("dict[str, Any]", parsed), metadata)
            except NotSupportedError as error:
                raise errors.STATE_QUERY_NOT_SUPPORTED(store=store, resource=Resource("state", store)) from error
            except BackendError as error:
                raise errors.STATE_QUERY(store=store, detail=error) from error

    def check_store(self, caller: Caller, store: str) -> None:
        """Raise the error of finding the store: a front door asks before it reads a body, as daprd does."""
        self._store(caller, store)

    @staticmethod
    def check_count(store: str, count: int) -> None:
        """Raise `STATE_TOO_MANY_ITEMS`; a front door asks before it makes items of a message."""
        if count > MAX_ITEMS:
            raise errors.STATE_TOO_MANY_ITEMS(store=store, count=count, limit=MAX_ITEMS)

    def _store(self, caller: Caller, store: str) -> Opened[StateStore[Any]]:
        # The contract stands for all its adapters, whatever their settings are.
        opened = self._components.find(cast("type[StateStore[Any]]", StateStore), caller.ref, store)
        if opened is not None:
            return opened
        row = errors.STATE_NOT_FOUND if self._components.has(StateStore, caller.ref) else errors.STATE_NOT_CONFIGURED
        raise row(store=store, info={"appID": caller.app_id})


def key_prefix(metadata: Mapping[str, str], name: str, app_id: str, given_namespace: str) -> str | None:
    """What stands before `||` in the keys of an app, by the component's `keyPrefix`; `None`: no prefix, no `||`.

    `metadata`: the component's runtime metadata. `name`: the component's. `given_namespace`: empty for the default one.
    """
    text = metadata.get("keyprefix", "")
    match text.lower():
        case "" | "appid":
            return app_id
        case "name":
            return name
        case "namespace":
            return f"{given_namespace}.{app_id}" if given_namespace else app_id
        case "none":
            return None
        case _:
            return text


def is_json_text(data: bytes) -> bool:
    """Whether the bytes are one JSON value in UTF-8."""
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _full_key(opened: Opened[StateStore[Any]], caller: Caller, key: str) -> str:
    """The key as it is stored (behaviours §2). Raises `STATE_ILLEGAL_KEY`."""
    if SEPARATOR in key:
        raise errors.STATE_ILLEGAL_KEY(
            key=key,
            resource=Resource("state", opened.name),
            violations=(FieldViolation(key, f"input key/keyPrefix '{key}' can't contain '||'"),),
        )
    prefix = key_prefix(opened.runtime_metadata, opened.name, caller.app_id, caller.record.given_namespace)
    return key if prefix is None else f"{prefix}{SEPARATOR}{key}"


async def _made(make: Callable[[Q], R], items: Sequence[Q]) -> list[R]:
    """What `make` makes of each item; other calls have a turn in between."""
    if len(items) <= WRITE_CHUNK:
        return [make(item) for item in items]
    made: list[R] = []
    for chunk in _chunks(items, WRITE_CHUNK):
        made += [make(item) for item in chunk]
        await asyncio.sleep(0)
    return made


async def _send(send: Callable[[Sequence[Q]], Awaitable[None]], requests: Sequence[Q]) -> None:
    """Send requests that need not be atomic, in chunks. Raises the first error after all were tried.

    A backend that cannot be reached is not tried again for each chunk.
    """
    first: BackendError | None = None
    for chunk in _chunks(requests, WRITE_CHUNK):
        try:
            await send(chunk)
        except BackendUnavailableError:
            raise
        except BackendError as error:
            first = first or error
        await asyncio.sleep(0)
    if first is not None:
        raise first


def _chunks(items: Sequence[Q], size: int) -> Generator[Sequence[Q]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _bulk_item(key: str, answer: StateValue | BackendError | None) -> BulkItem:
    return BulkItem(key, error=str(answer)) if isinstance(answer, BackendError) else BulkItem(key, answer)


def _ttl(metadata: Mapping[str, str], store: str, row: ErrorRow) -> int | None:
    """Seconds; zero and below mean no expiry (daprd's stores differ below -1; its memory store takes any)."""
    text = metadata.get(TTL_KEY)
    if text is None or text == "":
        return None
    if not _WHOLE_NUMBER(text):  # int() takes more than Go does: spaces, underscores, the digits of other scripts
        raise row(store=store, key="", detail=f"{TTL_KEY} must be a whole number of seconds, found {text[:40]!r}")
    seconds = int(text)
    if seconds > MAX_TTL:
        raise row(store=store, key="", detail=f"{TTL_KEY} must be at most {MAX_TTL}, found {seconds}")
    return seconds


def _options(item: SaveItem | DeleteItem, store: str, row: ErrorRow) -> tuple[Concurrency, Consistency]:
    concurrency = _CONCURRENCY.get(item.concurrency)
    consistency = _CONSISTENCY.get(item.consistency)
    if concurrency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized concurrency model '{item.concurrency}'")
    if consistency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized consistency model '{item.consistency}'")
    return concurrency, consistency


def _save_request(opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem) -> SetRequest:
    """The write of one item, which must have a key and, where it says so, JSON.

    A value that is declared as JSON and is none is `STATE_SAVE_INVALID`: daprd answers the gRPC code UNKNOWN there,
    which would say that the server is broken.
    """
    if not item.key:
        raise errors.STATE_SAVE_KEY_EMPTY()
    if item.is_json and not item.parsed and not is_json_text(item.value):
        raise errors.STATE_SAVE_INVALID(store=store, detail=f"the value of {item.key} is declared as JSON and is none")
    return _set_request(opened, caller, store, item, errors.STATE_SAVE)


def _set_request(
    opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem, row: ErrorRow
) -> SetRequest:
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
    concurrency, consistency = _options(item, store, row)
    return DeleteRequest(
        _full_key(opened, caller, item.key),
        etag=item.etag or None,
        concurrency=concurrency,
        consistency=consistency,
        metadata=item.metadata,
    )


def _operation(opened: Opened[StateStore[Any]], caller: Caller, store: str, operation: TransactionItem) -> Operation:
    """As in daprd, an operation may have an empty key, and a value that is declared as JSON and is none stays bytes."""
    item = operation.item
    if operation.operation == "upsert":
        if item.is_json and not item.parsed and not is_json_text(item.value):
            item = msgspec.structs.replace(item, is_json=False)
        return _set_request(opened, caller, store, item, errors.STATE_TRANSACTION)
    if operation.operation == "delete":
        return _delete_request(opened, caller, store, item, errors.STATE_TRANSACTION)
    raise errors.STATE_OPERATION_NOT_SUPPORTED(operation=operation.operation)
