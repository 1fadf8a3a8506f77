"""The state block: keys of the caller's app, in the store that it names.

Step 4 of the request road. Here stand the rules that hold for every store: key prefixes, illegal keys, time to live,
the order of checks, how much one call may ask for. Facts: reference http-api §4, grpc-api §1.4, behaviours §2.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from dapr_shared.blocks.counted import Counted
from dapr_shared.blocks.pubsub.publish import NO_TRACE
from dapr_shared.blocks.state.encryption import DecryptionError, decrypted
from dapr_shared.blocks.state.items import BulkItem
from dapr_shared.blocks.state.keys import full_key, own_key
from dapr_shared.blocks.state.outbox import outbox_config
from dapr_shared.blocks.state.requests import CONSISTENCY, delete_request, operation_of, save_request
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.state import (
    Consistency,
    EtagInvalidError,
    EtagMismatchError,
    GetRequest,
    NotSupportedError,
    QueryResult,
    StateCapability,
    StateStore,
    StateValue,
)
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, Resource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

    from dapr_shared.blocks.pubsub.publish import Trace
    from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem
    from dapr_shared.blocks.state.outbox import Outbox, OutboxConfig
    from dapr_shared.contracts.encryption import EncryptionKeys
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.contracts.state import Operation
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics

MAX_ITEMS = 10_000
"""Most keys or items of one call: a larger one would hold up the calls of all other apps. Dapr knows no such bound."""
MAX_BULK_BYTES = 64 * 1024 * 1024
"""Most bytes of keys and values in one answer of a bulk get, a key that is asked for twice counted twice."""
WRITE_CHUNK = 256
"""Items of one call that are made or written in one go; then other calls have a turn."""
EMPTY_PAGES = 100
"""Pages of one query in which a store may have nothing of the caller's."""
READ_CHUNK = 16
"""Keys of a bulk get that are read in one go: the sizes of their values are known only when they are here."""

Q = TypeVar("Q")
R = TypeVar("R")


class StateBlock:
    """State of many apps; each reaches its own keys only."""

    def __init__(self, components: Components, metrics: DaprMetrics, outbox: Outbox | None = None) -> None:
        """`outbox`: without one, transactions of stores that are configured for it are refused."""
        self._components = components
        self._metrics = metrics
        self._outbox = outbox

    async def get(
        self, caller: Caller, store: str, key: str, consistency: str = "", metadata: Mapping[str, str] | None = None
    ) -> StateValue | None:
        """The value under a key, or `None`. Raises `STATE_GET` and the errors of finding the store and key."""
        opened = self._store(caller, store)
        request = GetRequest(
            full_key(opened, caller, key), CONSISTENCY.get(consistency, Consistency.UNSPECIFIED), metadata or {}
        )
        with Counted(self._metrics.state_operation, caller, opened, "get") as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                value = await opened.component.get(request)
                if value is None or opened.encryption is None:
                    return value
                return decrypted(opened.encryption, value)
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
        full_keys = await _made(lambda key: full_key(opened, caller, key), list(wanted))
        answers: dict[str, StateValue | BackendError | None] = {}
        size = 0
        with Counted(self._metrics.state_operation, caller, opened, "bulk_get") as counted:
            if opened.turns is not None:
                await counted.turn()
            for chunk in _chunks(list(zip(wanted, full_keys, strict=True)), READ_CHUNK):
                requests = [GetRequest(full_key, metadata=metadata) for _, full_key in chunk]
                try:
                    found = await opened.component.bulk_get(requests, parallelism)
                except BackendError as error:
                    raise errors.STATE_BULK_GET(store=store, detail=error) from error
                for (key, _), answer in zip(chunk, found, strict=True):
                    answers[key] = _readable(opened.encryption, answer)
                    size += wanted[key] * (len(key) + (len(answer.data) if isinstance(answer, StateValue) else 0))
                if size > MAX_BULK_BYTES:
                    raise errors.STATE_BULK_GET_TOO_LARGE(store=store, limit=MAX_BULK_BYTES)
                await asyncio.sleep(0)
        return [_bulk_item(key, answers[key]) for key in keys]

    async def save(self, caller: Caller, store: str, items: Sequence[SaveItem]) -> None:
        """Save all items. When it returns, all are written; after an error some may be."""
        opened = self._store(caller, store)
        self.check_count(store, len(items))
        if len(items) == 1:  # as most have: without the function and the coroutine, 0.2 µs less
            requests = [save_request(opened, caller, store, items[0])]
        else:
            requests = await _made(lambda item: save_request(opened, caller, store, item), items)
        if not requests:
            return
        with Counted(
            self._metrics.state_operation, caller, opened, "set" if len(requests) == 1 else "bulk_set"
        ) as counted:
            if opened.turns is not None:
                await counted.turn()
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
        request = delete_request(opened, caller, store, item, errors.STATE_DELETE)
        with Counted(self._metrics.state_operation, caller, opened, "delete") as counted:
            if opened.turns is not None:
                await counted.turn()
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
        requests = await _made(lambda item: delete_request(opened, caller, store, item, row), items)
        if not requests:
            return
        with Counted(self._metrics.state_operation, caller, opened, "bulk_delete") as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                await _send(opened.component.bulk_delete, requests)
            except EtagMismatchError as error:
                raise errors.STATE_BULK_DELETE_ETAG_MISMATCH(store=store, detail=error) from error
            except EtagInvalidError as error:
                raise errors.STATE_BULK_DELETE_ETAG_INVALID(store=store, detail=error) from error
            except BackendError as error:
                raise row(store=store, detail=error) from error

    async def transact(
        self,
        caller: Caller,
        store: str,
        operations: Sequence[TransactionItem],
        metadata: Mapping[str, str],
        trace: Trace = NO_TRACE,
    ) -> None:
        """Carry out all operations or none. `trace`: goes into the events of an outbox.

        Raises `STATE_TRANSACTIONS_NOT_SUPPORTED`, `STATE_TOO_MANY_TRANSACTIONS`, `STATE_TRANSACTION`, and
        `PUBSUB_OUTBOX` where the events could not be announced: nothing is carried out then.
        """
        opened = self._store(caller, store)
        self.check_count(store, len(operations))
        if StateCapability.TRANSACTIONAL not in opened.capabilities:
            raise errors.STATE_TRANSACTIONS_NOT_SUPPORTED(store=store, resource=Resource("state", store))
        _check_limit(opened, store, len(operations))
        requests = await _made(lambda operation: operation_of(opened, caller, store, operation), operations)
        config = outbox_config(opened)
        if config is not None:
            await self._transact_with_outbox(caller, opened, config, operations, requests, metadata, trace)
        elif requests:
            await self._transact(caller, opened, requests, metadata)

    async def _transact(
        self,
        caller: Caller,
        opened: Opened[StateStore[Any]],
        requests: Sequence[Operation],
        metadata: Mapping[str, str],
    ) -> None:
        with Counted(self._metrics.state_operation, caller, opened, "transaction") as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                await opened.component.transact(requests, metadata)
            except BackendError as error:
                raise errors.STATE_TRANSACTION(detail=error) from error

    async def _transact_with_outbox(
        self,
        caller: Caller,
        opened: Opened[StateStore[Any]],
        config: OutboxConfig,
        items: Sequence[TransactionItem],
        requests: Sequence[Operation],
        metadata: Mapping[str, str],
        trace: Trace,
    ) -> None:
        if self._outbox is None:
            raise errors.PUBSUB_OUTBOX(detail="there is no outbox here")
        planned = self._outbox.plan(caller, opened, config, items, requests, trace)
        _check_limit(opened, opened.name, len(planned.operations))
        if not planned.operations:
            return
        await self._outbox.announce(caller, config, planned)
        try:
            await self._transact(caller, opened, planned.operations, metadata)
        except DaprError as error:
            if isinstance(error.__cause__, EtagMismatchError | EtagInvalidError | NotSupportedError):
                self._outbox.rolled_back(planned)  # any other error may hide that it was carried out
            raise

    async def query(self, caller: Caller, store: str, query: bytes, metadata: Mapping[str, str]) -> QueryResult:
        """Answer a query of the query API, where the store can, with the caller's own keys alone.

        A store may look at more than the caller's keys: values of others, and of actors, are left out of its pages. A page without any
        is followed by the next one, at most `EMPTY_PAGES` times; then the answer may be empty and have a token.
        Raises `STATE_QUERY_NOT_SUPPORTED`, `STATE_QUERY`, also for a store whose values are encrypted.
        """
        opened = self._store(caller, store)
        if StateCapability.QUERY_API not in opened.capabilities:
            raise errors.STATE_QUERY_NOT_SUPPORTED(store=store, resource=Resource("state", store))
        if opened.encryption is not None:
            raise errors.STATE_QUERY(store=store, detail="cannot query encrypted store")
        try:
            parsed = msgspec.json.decode(query)
        except (msgspec.DecodeError, RecursionError) as error:
            raise errors.STATE_QUERY(store=store, detail=error) from error
        if not isinstance(parsed, dict):
            raise errors.STATE_QUERY(store=store, detail="a query is a JSON object")
        with Counted(self._metrics.state_operation, caller, opened, "query") as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                return await _own_page(opened, caller, cast("dict[str, Any]", parsed), metadata)
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


def _check_limit(opened: Opened[StateStore[Any]], store: str, count: int) -> None:
    limit = opened.component.max_operations
    if limit and count > limit:
        info = {"currentOpsTransaction": str(count), "maxOpsPerTransaction": str(limit)}
        raise errors.STATE_TOO_MANY_TRANSACTIONS(
            count=count, limit=limit, store=store, info=info, resource=Resource("state", store)
        )


async def _own_page(
    opened: Opened[StateStore[Any]], caller: Caller, query: dict[str, Any], metadata: Mapping[str, str]
) -> QueryResult:
    found = QueryResult([])
    for _ in range(EMPTY_PAGES):
        found = await opened.component.query(query, metadata, full_key(opened, caller, ""))
        items = [(key, value) for stored, value in found.items if (key := own_key(opened, caller, stored)) is not None]
        if items or not found.token:
            return QueryResult(items, found.token, found.metadata)
        page = cast("dict[str, Any]", query["page"]) if isinstance(query.get("page"), dict) else {}
        query = {**query, "page": {**page, "token": found.token}}
    return QueryResult([], found.token, found.metadata)


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


def _readable(
    keys: EncryptionKeys | None, answer: StateValue | BackendError | None
) -> StateValue | BackendError | None:
    """The answer of a store to one key of a bulk get, decrypted where it is encrypted."""
    if keys is None or not isinstance(answer, StateValue):
        return answer
    try:
        return decrypted(keys, answer)
    except DecryptionError as error:
        return error


def _bulk_item(key: str, answer: StateValue | BackendError | None) -> BulkItem:
    return BulkItem(key, error=str(answer)) if isinstance(answer, BackendError) else BulkItem(key, answer)
