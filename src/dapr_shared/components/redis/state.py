"""`state.redis`: state in Redis or Valkey, in daprd's layout.

Last step of the request road. What daprd has written can be read and written here and the other way round, also by both
at the same time (`state_scripts` says how a value is kept). An etag is the decimal text of the value's version.

How safe a value is when a call returns is the server's decision: with `appendonly yes` and `appendfsync always` it
survives a killed server and lost power, with `everysec` lost power may take the last second, without either all since
the last snapshot. With `consistency: strong` a write waits at most a second for the replicas there are; a failover may
lose what no replica has.

What differs from daprd, on purpose: a transaction is one script, so that it happens as a whole or not at all; value and
expiry are written together; reads say when a value expires; an etag is a condition with last-write too, never inserts,
and `0` is one like any other; a write without a time to live clears an older one, as in the other stores. As in daprd,
the version of a key that was deleted begins at 1 again. Documents of RedisJSON and the query API are not supported.
Needs Redis 5 or newer.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from dapr_shared.components.redis import state_scripts as scripts
from dapr_shared.components.redis.client import RedisClient
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.settings import Kind, Setting
from dapr_shared.contracts.state import (
    Concurrency,
    Consistency,
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    GetRequest,
    KeysPage,
    Operation,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

    from dapr_shared.components.redis.client import Argument, Script

CHUNK = 128
"""Keys of a bulk call that are sent in one go; other calls may come in between."""
SCAN = 1_000
"""Keys that the server looks at in one step of a listing."""

Run: TypeAlias = "tuple[Script, Sequence[str], Sequence[Argument]]"
"""A script with its keys and arguments."""

_NO_METADATA: Mapping[str, str] = {}
_ABSENT = -2
_VERSION = re.compile(r"-?[0-9]{1,19}")


class RedisStateSettings(RedisSettings, frozen=True, kw_only=True):
    """The settings of `state.redis`."""

    ttl_in_seconds: Annotated[
        int | None,
        Setting(
            "Time to live of values that are saved without one; 0 or less: for ever.", Kind.INTEGER, unit="seconds"
        ),
    ] = None

    @property
    def default_min_retry(self) -> float:
        """2 s, which the longest time before a retry then limits, as in daprd."""
        return 2.0


class RedisStateStore(StateStore[RedisStateSettings]):
    """State in Redis hashes."""

    settings_type = RedisStateSettings
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {
            StateCapability.ETAG,
            StateCapability.TRANSACTIONAL,
            StateCapability.TTL,
            StateCapability.KEYS_LIKE,
        },
    )

    _client: RedisClient | None = None

    @property
    def calls_at_a_time(self) -> int:
        return self.settings.shared_connections

    def data_location(self) -> str | None:
        return self.settings.location

    async def start(self, stack: AsyncExitStack) -> None:
        client = RedisClient(self.settings, f"state store {self.context.name}")
        await client.start(stack)
        self._client = client

    async def ping(self) -> None:
        await self._open().call("PING")

    async def backend_time(self) -> float:
        return await self._open().time()

    async def get(self, request: GetRequest) -> StateValue | None:
        return _value(await self._open().run(scripts.GET, (request.key,)))

    async def bulk_get(
        self, requests: Sequence[GetRequest], parallelism: int = 0
    ) -> list[StateValue | BackendError | None]:
        del parallelism  # they go in one pipeline
        answers: list[StateValue | BackendError | None] = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            try:
                replies = await self._open().run_many([(scripts.GET, (request.key,), ()) for request in chunk])
            except BackendError as error:
                answers += [error] * len(chunk)
                continue
            answers += [_value_or_error(reply) for reply in replies]
        return answers

    async def set(self, request: SetRequest) -> None:
        await self._write_one(request)

    async def bulk_set(self, requests: Sequence[SetRequest]) -> None:
        await self._write(requests)

    async def delete(self, request: DeleteRequest) -> None:
        await self._write_one(request)

    async def bulk_delete(self, requests: Sequence[DeleteRequest]) -> None:
        await self._write(requests)

    async def transact(self, operations: Sequence[Operation], metadata: Mapping[str, str]) -> None:
        del metadata
        if not operations:
            return
        keys = [operation.key for operation in operations]
        arguments: list[Argument] = []
        for operation in operations:
            if isinstance(operation, SetRequest):
                arguments += ["s", *self._set_arguments(operation)]
            else:
                arguments += ["d", b"", _etag(operation.etag), 0, 0]
        (reply,), doubt = await self._run(operations, [(scripts.TRANSACT, keys, arguments)])
        if isinstance(reply, BackendError):
            raise reply
        refused = -int(reply)
        if refused > 0:
            raise EtagMismatchError(f"operation {refused} of the transaction: {_why(operations[refused - 1])}")
        if doubt is not None:
            raise doubt

    async def keys_like(self, pattern: str, page_size: int | None = None, token: str | None = None) -> KeysPage:
        if token and not token.isdecimal():
            raise BackendError("the continuation token is not one of this store's")
        glob, expression = _like(pattern)
        names = (key.decode(errors="surrogateescape") for key in await self._open().keys(glob, SCAN))
        found = sorted(name for name in names if expression.fullmatch(name))
        start = int(token or 0)
        end = len(found) if page_size is None else start + page_size
        return KeysPage(tuple(found[start:end]), str(end) if end < len(found) else None)

    # ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> RedisClient:
        if self._client is None:
            raise BackendError(f"state store {self.context.name} is not open")
        return self._client

    def _set_arguments(self, request: SetRequest) -> tuple[Argument, ...]:
        ttl = self.settings.ttl_in_seconds if request.ttl is None else request.ttl
        first = request.concurrency is Concurrency.FIRST_WRITE
        return request.value, _etag(request.etag), max(0, ttl or 0), int(first)

    async def _write_one(self, request: Operation) -> None:
        if request.consistency is Consistency.STRONG:
            await self._write((request,))
            return
        script, keys, arguments = self._run_of(request)
        reply = await self._open().run(script, keys, *arguments, again=not _conditional(request))
        if reply == scripts.MISMATCH:
            raise EtagMismatchError(_why(request))

    async def _write(self, requests: Sequence[Operation]) -> None:
        """Write them all, in order of their chunks. Raises the first error after all were tried."""
        errors: list[BackendError] = []
        for start in range(0, len(requests), CHUNK):
            errors += await self._write_chunk(requests[start : start + CHUNK])
        if errors:
            raise errors[0]

    async def _write_chunk(self, requests: Sequence[Operation]) -> list[BackendError]:
        """Write them in one go; the errors."""
        errors: list[BackendError] = []
        runs: list[Run] = []
        tried: list[Operation] = []
        for request in requests:
            try:
                runs.append(self._run_of(request))
            except EtagInvalidError as error:
                errors.append(error)
            else:
                tried.append(request)
        if not runs:
            return errors
        try:
            replies, doubt = await self._run(tried, runs)
        except BackendError as error:
            return [*errors, error]
        for request, reply in zip(tried, replies, strict=True):
            if isinstance(reply, BackendError):
                errors.append(reply)
            elif reply == scripts.MISMATCH:
                errors.append(EtagMismatchError(_why(request)))
        return errors if doubt is None else [*errors, doubt]

    def _run_of(self, request: Operation) -> Run:
        """The script that carries the request out. Raises `EtagInvalidError`."""
        if isinstance(request, SetRequest):
            return scripts.SET, (request.key,), self._set_arguments(request)
        return scripts.DELETE, (request.key,), (_etag(request.etag),)

    async def _run(
        self, operations: Sequence[Operation], runs: Sequence[Run]
    ) -> tuple[list[Any | BackendError], BackendError | None]:
        """The scripts' replies, and what is to be said about replicas. Raises `BackendError`."""
        client = self._open()
        again = not any(map(_conditional, operations))
        if client.is_cluster or not any(one.consistency is Consistency.STRONG for one in operations):
            return await client.run_many(runs, again=again), None
        replies, confirmed = await client.run_strongly(runs, again=again)
        if confirmed:
            return replies, None
        return replies, BackendUnavailableError("written, and not all replicas have confirmed it in time")


def _conditional(request: Operation) -> bool:
    """Whether sending it twice could answer something else than once."""
    return bool(request.etag) or request.concurrency is Concurrency.FIRST_WRITE


def _why(request: Operation) -> str:
    return "there is no value with this etag" if request.etag else "the key exists and the first write wins"


def _etag(etag: str | None) -> str:
    """The version that must be there; empty: any. Raises `EtagInvalidError`."""
    if not etag:
        return ""
    if not _VERSION.fullmatch(etag):
        raise EtagInvalidError("an etag of Redis is a whole number")
    return etag


def _value_or_error(reply: Any) -> StateValue | BackendError | None:
    if isinstance(reply, BackendError):
        return reply
    try:
        return _value(reply)
    except BackendError as error:
        return error


def _value(reply: Any) -> StateValue | None:
    data, version, expires = reply
    if expires == _ABSENT:
        return None
    if data is None or version is None:
        raise BackendError("the key is a hash without the fields data and version: no value of a state store")
    metadata = _NO_METADATA
    if expires >= 0:
        metadata = {"ttlExpireTime": datetime.fromtimestamp(expires // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    return StateValue(data, version.decode(errors="replace") or None, metadata)


def _like(pattern: str) -> tuple[str, re.Pattern[str]]:
    """A glob for the server and the expression that decides here, for an SQL LIKE pattern escaped by a backslash.

    The server's `?` is one byte, and `_` is one character. Raises `BackendError` for an empty pattern.
    """
    if not pattern:
        raise BackendError("the pattern is empty")
    glob: list[str] = []
    expression: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in {"%", "_"}:
            if not glob or glob[-1] != "*":
                glob.append("*")
            if character == "_" or not expression or expression[-1] != ".*":
                expression.append("." if character == "_" else ".*")
            continue
        literal = next(characters, "\\") if character == "\\" else character
        glob.append(f"\\{literal}" if literal in "*?[]\\^" else literal)
        expression.append(re.escape(literal))
    return "".join(glob), re.compile("".join(expression), re.DOTALL)
