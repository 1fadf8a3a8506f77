"""`state.in-memory`: state in this process.

Last step of the request road. Nothing survives the process. Operations of one transaction see each other's effects, in
order; daprd compares all etags with the state before the transaction instead, which differs only where a transaction
names one key twice. daprd also refuses a first-write delete without an etag of a key that exists; here, as in the SQL
stores, such a delete succeeds. Its size is bounded, which daprd's is not.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, TypeVar

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Kind, Setting, Settings
from dapr_shared.contracts.state import (
    Concurrency,
    DeleteRequest,
    EtagMismatchError,
    GetRequest,
    KeysPage,
    Operation,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SWEEP_INTERVAL = 1.0
"""Seconds between two looks for expired values."""
SWEEP_LIMIT = 5_000
"""Values that one look examines at most; the next one goes on from there."""


SWEEP_WHEN_FULL = 100
"""Values that a write into a full store examines in search of room."""
TURN = 1_000
"""Items of a bulk call after which other calls have a turn."""
ITEM_BYTES = 768
"""What an item takes beside its key and value, about: objects, etag, a place in the dictionary."""

Q = TypeVar("Q")
R = TypeVar("R")


class MemoryStateSettings(Settings, frozen=True, kw_only=True):
    """The settings of `state.in-memory`; daprd's has none."""

    max_bytes: Annotated[
        int,
        Setting(
            f"Most bytes of keys and values, {ITEM_BYTES} more for each; a write that needs more fails.",
            Kind.BYTES,
            unit="bytes",
            minimum=1,
            example="1Gi",
        ),
    ] = 256 * 1024 * 1024


class _Item(NamedTuple):
    value: StateValue
    expires: datetime | None
    order: int
    """Grows with each write: the order in which keys are listed."""
    size: int
    """Bytes that it counts for."""


class MemoryStateStore(StateStore[MemoryStateSettings]):
    """A dictionary with etags, expiry and atomic transactions."""

    settings_type = MemoryStateSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            StateCapability.ETAG,
            StateCapability.TRANSACTIONAL,
            StateCapability.TTL,
            StateCapability.DELETE_WITH_PREFIX,
            StateCapability.KEYS_LIKE,
        },
    )

    _items: dict[str, _Item] | None = None
    """`None` before the start and after the end."""
    _writes = 0
    _size = 0
    """Sum of the sizes of all items, the expired ones too until they are removed."""

    def data_location(self) -> str | None:
        return None

    async def start(self, stack: AsyncExitStack) -> None:
        self._items = {}
        self._size = 0
        self._expiring: OrderedDict[str, None] = OrderedDict()
        stack.callback(self._forget)
        sweeper = asyncio.create_task(self._sweep_forever(), name=f"{self.context.name}: sweep expired state")
        stack.push_async_callback(_end, sweeper)

    async def get(self, request: GetRequest) -> StateValue | None:
        item = self._live(self._open(), request.key)
        return None if item is None else item.value

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        del parallelism  # nothing here waits

        def get(request: GetRequest) -> StateValue | None:
            item = self._live(self._open(), request.key)
            return None if item is None else item.value

        return await _in_turns(get, requests)

    async def set(self, request: SetRequest) -> None:
        self._set(self._open(), request)

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        await _try_all(lambda request: self._set(self._open(), request), requests)

    async def delete(self, request: DeleteRequest) -> None:
        self._delete(self._open(), request)

    async def bulk_delete(self, requests: Sequence[DeleteRequest]) -> None:
        await _try_all(lambda request: self._delete(self._open(), request), requests)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:
        del metadata
        items = self._open()
        before: dict[str, _Item | None] = {}
        try:
            for operation in operations:
                before.setdefault(operation.key, items.get(operation.key))
                if isinstance(operation, SetRequest):
                    self._set(items, operation)
                else:
                    self._delete(items, operation)
        except BaseException:
            for key, item in before.items():
                self._restore(items, key, item)
            raise

    async def delete_with_prefix(self, prefix: str) -> int:
        items = self._open()
        start = len(prefix)
        keys = [key for key in items if key.startswith(prefix) and "||" not in key[start:]]
        count = sum(self._live(items, key) is not None for key in keys)
        for key in keys:
            self._remove(items, key)
        return count

    async def keys_like(self, pattern: str, page_size: int | None = None, token: str | None = None) -> KeysPage:
        items = self._open()
        matches = _like(pattern).fullmatch
        after = _order_of(token)
        found = [
            (item.order, key)
            for key in tuple(items)
            if matches(key) and (item := self._live(items, key)) is not None and item.order > after
        ]
        found.sort()
        page = found if page_size is None else found[:page_size]
        more = len(page) < len(found)
        return KeysPage(tuple(key for _, key in page), str(page[-1][0]) if more and page else None)

    def sweep(self, limit: int | None = None) -> int:
        """Remove expired values, looking at `limit` (by default `SWEEP_LIMIT`) of them. Returns how many were removed."""
        items, expiring = self._open(), self._expiring
        removed = 0
        for _ in range(min(SWEEP_LIMIT if limit is None else limit, len(expiring))):
            key = next(iter(expiring))
            if self._live(items, key) is None:
                removed += 1
            else:
                expiring.move_to_end(key)
        return removed

    def _open(self) -> dict[str, _Item]:
        if self._items is None:
            raise BackendError(f"state store {self.context.name} is closed")
        return self._items

    def _live(self, items: dict[str, _Item], key: str) -> _Item | None:
        item = items.get(key)
        if item is None or item.expires is None or self.context.clock.now() < item.expires:
            return item
        self._remove(items, key)
        return None

    def _set(self, items: dict[str, _Item], request: SetRequest) -> None:
        key = request.key
        if request.etag:
            self._check(items, key, request.etag)
        elif request.concurrency is Concurrency.FIRST_WRITE and self._live(items, key) is not None:
            raise EtagMismatchError("the key exists and the first write wins")
        size = self._room_for(items, key, request.value)
        expires = None
        metadata: Mapping[str, str] = {}
        if request.ttl is not None and request.ttl > 0:
            expires = self.context.clock.now() + timedelta(seconds=request.ttl)
            metadata = {"ttlExpireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
            self._expiring[key] = None
        else:
            self._expiring.pop(key, None)
        self._writes += 1
        value = StateValue(request.value, random_id(), metadata, is_json=request.is_json)
        self._put(items, key, _Item(value, expires, self._writes, size))

    def _room_for(self, items: dict[str, _Item], key: str, value: bytes) -> int:
        """The size of this item, for which there is room. Raises `BackendError`."""
        size = ITEM_BYTES + len(value) + (len(key) if key.isascii() else len(key.encode()))
        limit = self.settings.max_bytes
        old = items.get(key)
        grows_by = size if old is None else size - old.size
        if grows_by > 0 and self._size + grows_by > limit:
            self.sweep(SWEEP_WHEN_FULL)
            old = items.get(key)
            if self._size + size - (0 if old is None else old.size) > limit:
                raise BackendError(f"the store is full: maxBytes is {limit}, and the item needs {size}")
        return size

    def _put(self, items: dict[str, _Item], key: str, item: _Item) -> None:
        old = items.get(key)
        self._size += item.size if old is None else item.size - old.size
        items[key] = item

    def _delete(self, items: dict[str, _Item], request: DeleteRequest) -> None:
        if request.etag:
            self._check(items, request.key, request.etag)
        self._remove(items, request.key)

    def _check(self, items: dict[str, _Item], key: str, etag: str) -> None:
        item = self._live(items, key)
        if item is None:
            raise EtagMismatchError("there is no value with this etag: the key does not exist")
        if item.value.etag != etag:
            raise EtagMismatchError("the stored value has another etag")

    def _remove(self, items: dict[str, _Item], key: str) -> None:
        item = items.pop(key, None)
        if item is not None:
            self._size -= item.size
        self._expiring.pop(key, None)

    def _restore(self, items: dict[str, _Item], key: str, item: _Item | None) -> None:
        if item is None:
            self._remove(items, key)
            return
        self._put(items, key, item)
        if item.expires is None:
            self._expiring.pop(key, None)
        else:
            self._expiring[key] = None

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep()

    def _forget(self) -> None:
        self._items = None


async def _in_turns(call: Callable[[Q], R], requests: Sequence[Q]) -> list[R | BackendError]:
    """Call for each request, giving other calls a turn now and then; an error of one is its answer."""
    answers: list[R | BackendError] = []
    for number, request in enumerate(requests, 1):
        try:
            answers.append(call(request))
        except BackendError as error:
            answers.append(error)
        if number % TURN == 0:
            await asyncio.sleep(0)
    return answers


async def _try_all(call: Callable[[Q], None], requests: Sequence[Q]) -> None:
    for answer in await _in_turns(call, requests):
        if answer is not None:
            raise answer


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _order_of(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(token)
    except ValueError as error:
        raise BackendError("the continuation token is not one of this store's") from error


def _like(pattern: str) -> re.Pattern[str]:
    """The regular expression of an SQL LIKE pattern with backslash as its escape, case-sensitive. Raises `BackendError`."""
    if not pattern:
        raise BackendError("the pattern is empty")
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        match character:
            case "%":
                if not parts or parts[-1] != ".*":  # one is enough, and two take time squared
                    parts.append(".*")
            case "_":
                parts.append(".")
            case "\\":
                parts.append(re.escape(next(characters, "\\")))
            case _:
                parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)
