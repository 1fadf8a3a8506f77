"""The promise of a state store.

Keys arrive complete (with the app's prefix): an adapter knows nothing of apps. The rules on etags and concurrency are
those of reference components §3 and behaviours §2.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from dapr_shared.contracts.component import BackendError, Component, S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

BULK_PARALLELISM = 16
"""Calls of one bulk request at a time, for stores without bulk calls of their own."""


class StateCapability(StrEnum):
    """Features under the names that Dapr's metadata API uses."""

    ETAG = "ETAG"
    TRANSACTIONAL = "TRANSACTIONAL"
    TTL = "TTL"
    QUERY_API = "QUERY_API"
    DELETE_WITH_PREFIX = "DELETE_WITH_PREFIX"
    KEYS_LIKE = "KEYS_LIKE"
    PARTITION_KEY = "PARTITION_KEY"


class Concurrency(Enum):
    """What happens to a write whose key has changed meanwhile."""

    UNSPECIFIED = ""
    FIRST_WRITE = "first-write"
    LAST_WRITE = "last-write"


class Consistency(Enum):
    """A hint to stores that have replicas."""

    UNSPECIFIED = ""
    EVENTUAL = "eventual"
    STRONG = "strong"


class EtagMismatchError(BackendError):
    """The stored value has another etag than the request, or there is none."""


class EtagInvalidError(BackendError):
    """The etag cannot be one of this store's."""


class NotSupportedError(BackendError):
    """The store lacks the capability that the call needs."""


class GetRequest(msgspec.Struct, frozen=True):
    """Read one key."""

    key: str
    consistency: Consistency = Consistency.UNSPECIFIED
    metadata: Mapping[str, str] = {}


class StateValue(msgspec.Struct, frozen=True):
    """What is stored under a key."""

    data: bytes
    """Exactly the bytes that were set."""
    etag: str | None = None
    metadata: Mapping[str, str] = {}
    """`ttlExpireTime` (RFC 3339, UTC) where the store has TTL and the value expires."""
    is_json: bool | None = None
    """True: `data` was set as JSON text. False: as any bytes, which may happen to be JSON. `None`: the store cannot tell."""


class SetRequest(msgspec.Struct, frozen=True):
    """Write one key."""

    key: str
    value: bytes
    is_json: bool = True
    """True: `value` is JSON text. False: any bytes. A store may keep the two in different forms."""
    etag: str | None = None
    """Write only if this is the stored value's etag. `None` (and, as in Dapr, an empty text): no condition."""
    concurrency: Concurrency = Concurrency.UNSPECIFIED
    consistency: Consistency = Consistency.UNSPECIFIED
    ttl: int | None = None
    """Seconds until the value expires. `None` or at most 0: never (also for a key that expired before)."""
    metadata: Mapping[str, str] = {}


class DeleteRequest(msgspec.Struct, frozen=True):
    """Delete one key; deleting an absent key without an etag succeeds."""

    key: str
    etag: str | None = None
    concurrency: Concurrency = Concurrency.UNSPECIFIED
    consistency: Consistency = Consistency.UNSPECIFIED
    metadata: Mapping[str, str] = {}


Operation: TypeAlias = SetRequest | DeleteRequest
Q = TypeVar("Q")
R = TypeVar("R")


class QueryResult(msgspec.Struct, frozen=True):
    """One page of a query."""

    items: Sequence[tuple[str, StateValue]]
    token: str = ""
    metadata: Mapping[str, str] = {}


class KeysPage(msgspec.Struct, frozen=True):
    """One page of a listing of keys."""

    keys: tuple[str, ...]
    token: str | None = None
    """Pass it to get the next page; `None`: there is none."""


class StateStore(Component[S]):
    """A store of values under keys.

    Every method raises `BackendError`; `set` and `delete` also `EtagMismatchError` and `EtagInvalidError`. When a write
    returns, the value is as durable as the adapter's documentation says, and every later read of any caller sees it.

    - Without an etag a write replaces (last write wins).
    - With an etag it replaces only the value with that etag, else `EtagMismatchError`; never inserts.
    - `FIRST_WRITE` without an etag only inserts (or replaces an expired value), else `EtagMismatchError`.
    """

    max_operations: int = 0
    """Most operations of one transaction; 0: no limit."""

    @abstractmethod
    async def get(self, request: GetRequest) -> StateValue | None:
        """The value, or `None` where there is none or it has expired."""

    @abstractmethod
    async def set(self, request: SetRequest) -> None:
        """Write one value."""

    @abstractmethod
    async def delete(self, request: DeleteRequest) -> None:
        """Delete one key. With an etag and no such value: `EtagMismatchError`."""

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        """Read many keys, answers in order; an error of one key is that key's answer."""

        async def one(request: GetRequest) -> StateValue | BackendError | None:
            try:
                return await self.get(request)
            except BackendError as error:
                return error

        return await _limited(one, requests, parallelism)

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        """Write many keys, not atomically. Raises the first error after all were tried."""
        await _try_all(self.set, requests)

    async def bulk_delete(self, requests: Sequence[DeleteRequest]) -> None:
        """Delete many keys, not atomically. Raises the first error after all were tried."""
        await _try_all(self.delete, requests)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:  # noqa: ARG002 - for stores that can
        """Carry out all operations in order, or none. Needs `TRANSACTIONAL`, else `NotSupportedError`."""
        raise NotSupportedError(f"{self.context.type} has no transactions")

    async def query(self, query: Mapping[str, Any], metadata: Mapping[str, str], key_prefix: str = "") -> QueryResult:  # noqa: ARG002 - for stores that can
        """Answer a query of the query API. Needs `QUERY_API`, else `NotSupportedError`.

        The caller's keys are `key_prefix` and then no `||`. A store that can looks at no others; who asks leaves out those
        of others in any case. The answer has complete keys.
        """
        raise NotSupportedError(f"{self.context.type} has no query API")

    async def delete_with_prefix(self, prefix: str) -> int:  # noqa: ARG002 - for stores that can
        """Delete all keys that are `prefix` and then no `||`; the number of values that were there.

        `prefix` ends with `||`. Needs `DELETE_WITH_PREFIX`, else `NotSupportedError`.
        """
        raise NotSupportedError(f"{self.context.type} cannot delete by prefix")

    async def keys_like(self, pattern: str, page_size: int | None = None, token: str | None = None) -> KeysPage:  # noqa: ARG002 - for stores that can
        """The keys that match an SQL LIKE pattern (`%`, `_`, escaped by a backslash), case-sensitive.

        Oldest first, by their first or their last write; in the order of keys where the store does not know that. A key
        that is written while pages are read may come twice; the last page may be empty. Needs `KEYS_LIKE`, else `NotSupportedError`.
        """
        raise NotSupportedError(f"{self.context.type} cannot list keys")


async def _try_all(call: Callable[[Q], Awaitable[None]], requests: Sequence[Q]) -> None:
    async def one(request: Q) -> BackendError | None:
        try:
            await call(request)
        except BackendError as error:
            return error
        return None

    for error in await _limited(one, requests, 0):
        if error is not None:
            raise error


async def _limited(call: Callable[[Q], Awaitable[R]], requests: Sequence[Q], parallelism: int) -> list[R]:
    """Call for each request, a bounded number at a time; answers in order.

    A few workers share one iterator: a task for each request would stop the loop while they are made. What a call
    raises ends the other workers.
    """
    limit = parallelism if 0 < parallelism < BULK_PARALLELISM else BULK_PARALLELISM
    answers: dict[int, R] = {}
    rest = iter(enumerate(requests))

    async def work() -> None:
        for index, request in rest:
            answers[index] = await call(request)

    workers = [asyncio.create_task(work()) for _ in range(min(limit, len(requests)))]
    try:
        await asyncio.gather(*workers)
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        raise
    return [answers[index] for index in range(len(requests))]
