"""One Redis for one component: a pool of connections that all apps share, retries, errors in words.

Last step of the request road. A call takes a connection, sends, and reads the raw reply. When the server cannot be
reached the call is sent again, with back-off and jitter; one that may have been carried out is sent again only where
that does no harm (`again`). A connection that failed is opened anew by its next call, and with sentinels the primary is
asked for then.
"""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from redis import exceptions as library
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from dapr_shared.components.redis import connecting
from dapr_shared.components.redis.errors import code_of, translate
from dapr_shared.components.redis.pipelined import PipelinedConnection, UnsentError
from dapr_shared.contracts.component import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AsyncExitStack

    from dapr_shared.components.redis.settings import RedisSettings

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = tuple[Argument, ...]

JITTER = 0.25
"""By how much of itself a delay is shorter or longer at random."""
WAIT_FOR_REPLICAS = 1.0
"""Seconds that a strong write waits for the replicas, as in daprd; at most half of `readTimeout`."""
CLUSTER_RETRIES = 3
"""How often the library looks for a moved slot or a new primary before it gives up."""
_WORTH_A_RETRY = frozenset({"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"})

_NOT_QUICKLY = object()


class Script:
    """A Lua script, called by its digest and sent in full where the server does not have it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """The connections of one component."""

    def __init__(self, settings: RedisSettings, title: str) -> None:
        self.settings = settings
        self._title = title
        self._pool: Any = None
        self._cluster: Any = None
        self._line: PipelinedConnection | None = None
        self._turns = asyncio.Semaphore(settings.calls_at_a_time)
        self.where = ", ".join(map(str, settings.addresses))

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over servers."""
        return self.settings.redis_type == "cluster"

    async def start(self, stack: AsyncExitStack) -> None:
        """Connect. Raises `BackendError`."""
        settings = self.settings
        try:
            if settings.redis_type == "node" and not settings.failover:
                context = connecting.tls_context(settings)
                self._line = PipelinedConnection(settings, context, connecting.CLIENT_NAME)
            retry = Retry(NoBackoff(), CLUSTER_RETRIES if self.is_cluster else 0)
            opened = connecting.open_redis(self.settings, retry)
        except (OSError, ValueError) as error:
            raise BackendError(f"clientCert, clientKey or caCert cannot be used: {error}") from error
        stack.push_async_callback(self._close)
        if self.is_cluster:
            self._cluster = opened
        else:
            self._pool = opened
        await self.call("PING")

    async def call(self, *command: Argument, again: bool = True, key: str | None = None) -> Any:
        """The reply to one command.

        `again`: it may be carried out twice. `key`: decides on the node of a cluster where no argument says so. Raises
        `BackendError`, `BackendUnavailableError` where it may be sent again.
        """
        reply = await self._quickly(command, again=again)
        if reply is _NOT_QUICKLY:
            (reply,) = await self.pipeline((command,), again=again, key=key)
            if isinstance(reply, BackendError):
                raise reply
        return reply

    async def time(self) -> float:
        """The server's clock, seconds since 1970; of a cluster any node's. Raises `BackendError`."""
        seconds, microseconds = await self.call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    async def pipeline(
        self, commands: Sequence[Command], *, again: bool = True, key: str | None = None, aside: bool = False
    ) -> list[Any | BackendError]:
        """The replies to many commands, in order, sent in one go; an error that the server answers is a reply.

        `aside`: on a connection that nobody else uses meanwhile, for commands that wait at the server.

        Raises `BackendUnavailableError` where the server could not be reached: any of them may have been carried out.
        """
        attempt = 0
        while True:
            try:
                replies = await self._once(commands, key, again=again, aside=aside)
            except UnsentError as error:
                failed, sent = error.cause, False
            except (library.RedisError, library.RedisClusterException, OSError, TimeoutError) as error:
                failed, sent = error, True
            else:
                late = next((r for r in replies if isinstance(r, Exception) and code_of(r) in _WORTH_A_RETRY), None)
                if late is None or len(commands) > 1 or attempt >= self.settings.retries:
                    return [self._readable(reply) for reply in replies]
                failed, sent = late, False
            final = translate(failed, self.where, self.settings)
            timed_out = isinstance(failed, library.TimeoutError | TimeoutError)
            may_retry = (again or not sent) and not timed_out  # whoever hangs gets no more to do
            if not isinstance(final, BackendUnavailableError) or not may_retry or attempt >= self.settings.retries:
                raise final from failed
            await asyncio.sleep(self.settings.retry_delay(attempt) * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - spreads load
            attempt += 1

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument, again: bool = True) -> Any:
        """The reply of a script. Raises as `call`; what the script itself refuses is a `ReplyError`."""
        reply = await self._quickly(("EVALSHA", script.digest, len(keys), *keys, *arguments), again=again)
        if reply is _NOT_QUICKLY:
            (reply,) = await self.run_many([(script, keys, arguments)], again=again)
            if isinstance(reply, BackendError):
                raise reply
        return reply

    async def run_many(
        self, runs: Sequence[tuple[Script, Sequence[str], Sequence[Argument]]], *, again: bool = True
    ) -> list[Any | BackendError]:
        """The replies of many scripts, sent in one go. Those that the server does not know are sent in full."""
        commands = [("EVALSHA", script.digest, len(keys), *keys, *arguments) for script, keys, arguments in runs]
        replies = await self.pipeline(commands, again=again)
        unknown = [index for index, reply in enumerate(replies) if _is_unknown_script(reply)]
        if unknown:  # after a restart or a failover: nothing of these was carried out
            full = [("EVAL", runs[index][0].text, *commands[index][2:]) for index in unknown]
            for index, reply in zip(unknown, await self.pipeline(full, again=again), strict=True):
                replies[index] = reply
        return replies

    async def run_strongly(
        self, runs: Sequence[tuple[Script, Sequence[str], Sequence[Argument]]], *, again: bool = True
    ) -> tuple[list[Any | BackendError], bool]:
        """As `run_many`, and whether all replicas have what was written, for which it waits a second. Not in a cluster."""
        role = await self.call("ROLE")
        replicas = len(role[2]) if role[0] == b"master" else 0
        commands: list[Command] = [("EVAL", script.text, len(keys), *keys, *rest) for script, keys, rest in runs]
        if not replicas:
            return await self.pipeline(commands, again=again), True
        wait = min(WAIT_FOR_REPLICAS, (self.settings.answer_timeout or WAIT_FOR_REPLICAS) / 2)
        commands.append(("WAIT", replicas, int(wait * 1000)))  # it is for what this connection has written
        *replies, confirmed = await self.pipeline(commands, again=again, aside=True)
        return replies, isinstance(confirmed, int) and confirmed >= replicas

    async def keys(self, glob: str, step: int, *, most: float = math.inf) -> set[bytes]:
        """All keys that match, on all nodes; `step`: how many the server looks at in one go. Raises `BackendError`.

        `most`: with more than that found, the rest is not looked for.
        """
        if self._cluster is not None:
            try:
                return await connecting.keys_of_cluster(self._cluster, glob, step, most)
            except (library.RedisError, library.RedisClusterException, OSError, TimeoutError) as error:
                self.fail(error)
        found: set[bytes] = set()
        cursor: bytes = b""
        while cursor != b"0" and len(found) <= most:
            cursor, names = await self.call("SCAN", cursor or b"0", "MATCH", glob, "COUNT", step)
            found.update(names)
        return found

    @asynccontextmanager
    async def own_connection(self, key: str | None = None) -> AsyncGenerator[OwnConnection]:
        """A connection for calls that wait, beside the pool's turns. `key`: whose node in a cluster."""
        try:
            connection, release = await connecting.take(self._open(), key)
        except (library.RedisError, library.RedisClusterException, OSError, TimeoutError) as error:
            raise translate(error, self.where, self.settings) from error
        try:
            yield OwnConnection(self, connection)
        finally:
            await connection.disconnect(nowait=True)
            await release()

    def fail(self, error: Exception) -> NoReturn:
        """Raise the contract's error for one of the library's."""
        raise translate(error, self.where, self.settings) from error

    # ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> Any:
        opened = self._cluster or self._pool
        if opened is None:
            raise BackendError(f"{self._title} is not open")
        return opened

    async def _quickly(self, command: Command, *, again: bool) -> Any:
        """The reply where all goes well on the one line, as it mostly does; else the long way is to be gone.

        Raises what may not be sent again.
        """
        if self._line is None:
            return _NOT_QUICKLY
        try:
            sent = self._line.begin((command,))
            (reply,) = await (sent if sent is not None else self._line.send((command,)))
        except UnsentError:
            return _NOT_QUICKLY
        except (library.RedisError, OSError, TimeoutError) as error:
            if again and not isinstance(error, library.TimeoutError | TimeoutError):
                return _NOT_QUICKLY
            raise translate(error, self.where, self.settings) from error
        if not isinstance(reply, Exception):
            return reply
        if isinstance(reply, library.NoScriptError) or code_of(reply) in _WORTH_A_RETRY:
            return _NOT_QUICKLY  # nothing was carried out
        raise translate(reply, self.where, self.settings) from reply

    def _readable(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            error = translate(reply, self.where, self.settings)
            error.__cause__ = reply
            return error
        return reply

    async def _once(self, commands: Sequence[Command], key: str | None, *, again: bool, aside: bool) -> list[Any]:
        self._open()
        if self._line is not None and not aside:
            return await self._line.send(commands)
        if self._turns.locked():
            try:
                async with asyncio.timeout(self.settings.turn_timeout):
                    await self._turns.acquire()
            except TimeoutError as error:
                raise BackendUnavailableError(
                    f"{self.settings.calls_at_a_time} calls to Redis at {self.where} are under way and none ended in "
                    "time: raise poolSize, or look at the server"
                ) from error
        else:
            await self._turns.acquire()
        opened = None
        try:
            opened = self._open()
            limit = self.settings.answer_timeout
            if self.is_cluster:
                async with asyncio.timeout(limit):
                    return await connecting.send_to_cluster(opened, commands, key, again=again)
            return await _send(opened, commands, limit)
        finally:
            self._turns.release()
            if opened is not None and self._pool is None and self._cluster is None:
                await connecting.close(opened)  # closed meanwhile, and this call may have connected after that

    async def _close(self) -> None:
        pool, cluster, self._pool, self._cluster = self._pool, self._cluster, None, None
        if self._line is not None:
            await self._line.close()
        for opened in (pool, cluster):
            if opened is not None:
                await connecting.close(opened)


class OwnConnection:
    """A connection that one task alone uses."""

    def __init__(self, client: RedisClient, connection: Any) -> None:
        self._client = client
        self._connection = connection

    async def call(self, *command: Argument, wait: float = 0.0) -> Any:
        """The reply to a command that may wait `wait` seconds at the server. Raises `BackendError`."""
        limit = self._client.settings.answer_timeout
        try:
            async with asyncio.timeout(None if limit is None else limit + wait):
                await self._connection.send_command(*command)
                return await self._connection.read_response()
        except (library.RedisError, OSError, TimeoutError) as error:
            self._client.fail(error)

    async def send(self, *command: Argument) -> None:
        """Send a command whose reply comes to `listen`. Raises `BackendError`."""
        try:
            await self._connection.send_command(*command)
        except (library.RedisError, OSError) as error:
            self._client.fail(error)

    async def listen(self) -> Any:
        """The next message of a subscription. Raises `BackendError`."""
        try:
            return await self._connection.read_response()
        except (library.RedisError, OSError) as error:
            self._client.fail(error)


async def _send(pool: Any, commands: Sequence[Command], limit: float | None) -> list[Any]:
    try:
        async with asyncio.timeout(pool.connection_kwargs["socket_connect_timeout"]):
            connection = await pool.get_connection()
    except (library.RedisError, OSError, TimeoutError) as error:
        raise UnsentError(error) from error
    try:
        async with asyncio.timeout(limit):
            replies: list[Any] = []
            if len(commands) == 1:
                await connection.send_command(*commands[0])
            else:
                await connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except library.ResponseError as error:
                    replies.append(error)
        if any(isinstance(reply, library.ReadOnlyError) for reply in replies):
            await connection.disconnect(nowait=True)  # the primary has become a replica: connect anew
        return replies
    except BaseException:
        await connection.disconnect(nowait=True)  # there are replies that nobody has read
        raise
    finally:
        await pool.release(connection)


def _is_unknown_script(reply: Any) -> bool:
    return isinstance(reply, BackendError) and isinstance(reply.__cause__, library.NoScriptError)
