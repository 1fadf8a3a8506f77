"""The connections of one component to PostgreSQL, shared by all apps.

Last step of the request road. At most `maxConns` connections are open; a call takes one, runs its statements and gives
it back; who finds none free waits in line. A connection that was lost is replaced by the next call that needs one, so
the server may come and go. Connections are made by asyncpg; keeping them is done here because asyncpg's own pool makes
a task for each call and waits for a cancelled statement before its caller hears of it (decision 0013).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from dapr_shared.components.postgresql.errors import translate
from dapr_shared.contracts.component import BackendError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from dapr_shared.components.postgresql.settings import PostgresSettings

MAX_WAITING = 8192
"""Calls that wait for a connection at most; further ones are answered with an error."""
CLOSE_TIMEOUT = 3.0
"""Seconds that calls under way have when the component is closed."""
RECOVER_TIMEOUT = 5.0
"""Seconds that a connection has to get over a call that was given up; then it is replaced."""
RETRY_START = 0.25
"""Seconds between attempts to reach the server when a component starts."""
STATEMENTS = 100
"""Prepared statements that a connection keeps."""
TRANSACTION_ATTEMPTS = 3
"""How often a transaction is tried that PostgreSQL undid because of another one."""
_UNDONE = ("40001", "40P01")
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
)
"""What a connection raises that has ended, or is about to: the server says so before it closes it."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")


class Client:
    """Runs statements. Every method raises `BackendError`; after `BackendUnavailableError` a write may have happened."""

    def __init__(
        self, settings: PostgresSettings, *, keep_statements: bool = True, clean: tuple[str, ...] = ()
    ) -> None:
        """`clean`: what is run on a connection after each call; needed where apps write the SQL themselves."""
        self.address = settings.address()
        self._timeout = settings.timeout
        self._limit = settings.connections
        self._idle_time = settings.idle_time
        self._keep_statements = keep_statements and settings.keeps_statements
        self._clean = clean
        self._idle: deque[tuple[float, Connection]] = deque()
        self._count = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._busy: set[Connection] = set()
        self._recovering: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = True
        self._nobody_busy = asyncio.Event()

    async def start(self, stack: AsyncExitStack, waits_for: Callable[[str], None]) -> None:
        """Make the first connection; while the server cannot be reached, try again until the caller gives up.

        `waits_for` is told why it takes longer. Raises `BackendError` for what does not pass by itself.
        """
        self._closed = False
        stack.push_async_callback(self.close)
        while True:
            waits_for(f"PostgreSQL at {self.address} gives no answer")
            try:
                await self.value("SELECT 1")
            except BackendUnavailableError as error:
                waits_for(str(error))
                await asyncio.sleep(RETRY_START)
            else:
                return

    async def row(self, sql: str, *values: object) -> asyncpg.Record | None:
        """The first row, or `None`."""
        return await self.use(lambda connection: connection.fetchrow(sql, *values))

    async def rows(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """All rows."""
        return await self.use(lambda connection: connection.fetch(sql, *values))

    async def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row, or `None`."""
        return await self.use(lambda connection: connection.fetchval(sql, *values))

    async def time(self) -> float:
        """The server's clock, seconds since 1970. Raises `BackendError`."""
        return float(await self.value("SELECT extract(epoch FROM clock_timestamp())"))

    async def execute(self, sql: str, *values: object) -> int:
        """Run one statement; the number of rows that it changed."""
        return changed(await self.use(lambda connection: connection.execute(sql, *values)))

    async def transaction(self, work: Callable[[Connection], Awaitable[T]], begin: str = "BEGIN") -> T:
        """Run `work` in a transaction: all of it counts, or nothing when it raises.

        `work` runs again when PostgreSQL undid it because of another transaction.
        """

        async def whole(connection: Connection) -> T:
            await connection.execute(begin)
            try:
                result = await work(connection)
                await connection.execute("COMMIT")
            except Exception:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            return result

        for _ in range(TRANSACTION_ATTEMPTS - 1):
            try:
                return await self.use(whole)
            except BackendError as error:
                if getattr(error.__cause__, "sqlstate", None) not in _UNDONE:
                    raise
        return await self.use(whole)

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """As `use`, for what changes nothing: runs again when the connection turns out to be lost."""
        try:
            return await self.use(work)
        except BackendUnavailableError as error:
            if not isinstance(error.__cause__, _LOST):
                raise
        return await self.use(work)

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` with a connection, within the time of a call. Its own `BackendError` passes through."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._acquire()
                result = await work(connection)
                for statement in self._clean:
                    await connection.execute(statement)
        except asyncio.CancelledError:
            if connection is not None:
                self._recover(connection)
            raise
        except Exception as error:
            if connection is not None:
                usable = isinstance(error, BackendError | asyncpg.PostgresError) and not isinstance(error, _LOST)
                if usable and self._clean:
                    self._recover(connection)
                else:
                    self._release(connection, usable=usable)
                if connection.is_closed():
                    self._end_idle_now()  # the others are likely lost as well, and not known to be yet
            if self._closed and not isinstance(error, BackendError):
                raise BackendError("the component is closed") from error
            problem = translate(error, self.address, self._timeout)
            if problem is error:
                raise
            raise problem from error
        self._release(connection)
        return result

    async def connect(self) -> Connection:
        """Make a connection that is not one of the shared ones; the caller closes it. Raises what asyncpg raises."""
        address = self.address
        arguments: dict[str, Any] = {
            **address.tls.arguments(),
            "host": [host for host, _ in address.hosts],
            "port": [port for _, port in address.hosts],
            "user": address.user,
            "database": address.database,
            "password": address.password,
            "passfile": address.password_file or None,
            "timeout": address.connect_timeout or self._timeout,
            "statement_cache_size": STATEMENTS if self._keep_statements else 0,
            "max_cached_statement_lifetime": 0,
            "server_settings": {"application_name": "dapr-shared", **address.parameters},
            "target_session_attrs": address.session,
        }
        connection: Connection = await asyncpg.connect(**arguments)
        return connection

    async def close(self) -> None:
        """Refuse further calls, let those under way end, close everything."""
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(BackendError("the component is closed"))
        idle, self._idle = self._idle, deque()
        self._count -= len(idle)
        await asyncio.gather(*(_close(connection) for _, connection in idle))
        if self._busy:
            self._nobody_busy.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._nobody_busy.wait()
            for connection in self._busy:
                connection.terminate()
        for task in self._recovering:
            task.cancel()
        await asyncio.gather(*self._recovering, return_exceptions=True)

    # The connections -----------------------------------------------------------------------------------------------

    async def _acquire(self) -> Connection:
        if self._closed:
            raise BackendError("the component is not open")
        while self._idle:
            _, connection = self._idle.pop()  # the last one used: the others may grow idle enough to be closed
            if not connection.is_closed():
                self._busy.add(connection)
                return connection
            self._count -= 1
        if self._count >= self._limit:
            connection = await self._wait()
        else:
            self._count += 1
            connection = None
        if connection is None:
            try:
                connection = await self.connect()
            except BaseException:
                self._give_up_place()
                raise
            if self._closed:
                connection.terminate()
                raise BackendError("the component is closed")
        self._busy.add(connection)
        return connection

    async def _wait(self) -> Connection | None:
        """A connection that another call gives back; `None`: the right to make a new one."""
        if len(self._waiting) >= MAX_WAITING:
            raise BackendUnavailableError(
                f"all {self._limit} connections are busy and {MAX_WAITING} calls wait for one"
            )
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except BaseException:
            if not waiter.cancelled() and waiter.done() and waiter.exception() is None:
                given = waiter.result()  # it came at the same time: pass it on
                if given is None:
                    self._give_up_place()
                else:
                    self._release(given)
            raise

    def _release(self, connection: Connection, *, usable: bool = True) -> None:
        self._busy.discard(connection)
        if self._closed or not usable or connection.is_closed():
            connection.terminate()
            self._give_up_place()
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            now = asyncio.get_running_loop().time()
            self._idle.append((now, connection))
            if self._idle_timer is None:
                self._idle_timer = asyncio.get_running_loop().call_later(self._idle_time, self._end_idle)
        if self._closed and not self._busy:
            self._nobody_busy.set()

    def _give_up_place(self) -> None:
        """One connection less: somebody who waits may make a new one."""
        waiter = None if self._closed else self._next_waiter()
        if waiter is None:
            self._count -= 1
        else:
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _recover(self, connection: Connection) -> None:
        """Take a connection back whose caller gave up: asyncpg cancels the statement, and what was begun is undone."""

        async def recover() -> None:
            usable = False
            try:
                with suppress(Exception):
                    async with asyncio.timeout(RECOVER_TIMEOUT):
                        for statement in self._clean or ("ROLLBACK",):
                            await connection.execute(statement)
                        usable = True
            finally:
                self._release(connection, usable=usable)

        if connection.is_closed() or self._closed:
            self._release(connection, usable=False)
            return
        task = asyncio.create_task(recover(), name="postgresql: take a connection back")
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)

    def _end_idle_now(self) -> None:
        while self._idle:
            self._count -= 1
            self._idle.pop()[1].terminate()

    def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_timer = None
        oldest = loop.time() - self._idle_time
        while self._idle and self._idle[0][0] <= oldest:
            _, connection = self._idle.popleft()
            self._count -= 1
            connection.terminate()
        if self._idle:
            self._idle_timer = loop.call_at(self._idle[0][0] + self._idle_time, self._end_idle)


async def _close(connection: Connection) -> None:
    with suppress(Exception):
        await connection.close(timeout=1)
    connection.terminate()


def changed(status: str) -> int:
    """The number of rows in what PostgreSQL answers to a statement, such as `INSERT 0 1`."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0
