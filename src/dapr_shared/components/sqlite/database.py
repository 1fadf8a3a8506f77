"""One SQLite database: a thread that writes, a thread that reads, and calls in batches.

Last step of the request road for everything that is kept in SQLite. The calls that come while a batch is being
committed make up the next batch, so that the price of one commit (and of one trip between threads) is shared by all
who wait. No call is answered before its batch is committed.

What survives: with `synchronous=full` every answered write survives a killed process and lost power; with `normal`
(in WAL mode) it survives a killed process, and lost power may take the last ones.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, Literal, TypeVar, cast

import apsw

from dapr_shared.components.sqlite.cursor import Cursor
from dapr_shared.components.sqlite.location import Location, exclusive_lock, prepare_file
from dapr_shared.contracts.component import BackendError, BackendUnavailableError

T = TypeVar("T")
Work = Callable[[Cursor], T]
"""Runs in a thread of the database, inside a transaction. It may run again when its batch failed for lack of space."""

BATCH_LIMIT = 256
"""Calls that share one transaction at most."""
WAL_SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back after it has grown beyond them."""
_BUSY_WAITS = (0.001, 0.002, 0.005, 0.010, 0.020, 0.050)
_OPEN_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_OPEN_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How a database is opened."""

    location: Location
    timeout: float = 20.0
    """Seconds until a call is answered with an error."""
    busy_timeout: float = 2.0
    """Seconds to wait for another process's lock; at most 0: not at all."""
    wal: bool = True
    synchronous: Literal["full", "normal"] = "full"
    """`normal` counts in WAL mode alone."""
    exclusive: bool = False
    """Refuse a database that another process holds in the same way."""
    queue_limit: int = 8192
    """Calls that wait at most, of each kind; further ones are answered with an error."""


class _Job(Generic[T]):
    __slots__ = ("atomic", "error", "future", "outcome", "submitted", "work")

    def __init__(self, future: asyncio.Future[T], work: Work[T], submitted: float, *, atomic: bool) -> None:
        self.future = future
        self.work = work
        self.submitted = submitted
        self.atomic = atomic
        self.outcome: T | None = None
        self.error: BaseException | None = None


class Database:
    """A database file, or one in memory. `start` opens it; what it opened is closed by the exit stack."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        self._reader: _Lane | None = None
        self._writer: _Lane | None = None

    async def start(
        self,
        stack: AsyncExitStack,
        migrate: Callable[[Cursor], None],
        check: Callable[[Cursor], None],
    ) -> None:
        """Open the database; `migrate` runs in an exclusive transaction, `check` afterwards on what is there.

        A read-only database is not migrated. Raises `BackendError` for a file that cannot be opened, is damaged, no
        database, locked or read-only; such a file is left as it is.
        """
        options = self.options
        if not options.location.read_only:

            def open_writer(lane: _Lane, held: ExitStack) -> apsw.Connection:
                if options.location.path is not None:
                    prepare_file(options.location.path)
                    if options.exclusive:
                        held.enter_context(exclusive_lock(options.location.path))
                connection = _connect(options, lane.wait_when_busy, held, _OPEN_FLAGS)
                _journal(connection, options, lane.wait_when_busy)
                _in_transaction(connection, migrate)
                check(_cursor(connection))
                return connection

            self._writer = await _open_lane("write", open_writer, "BEGIN IMMEDIATE", options, stack)
        if options.location.path is None:
            self._reader = self._writer
            return

        def open_reader(lane: _Lane, held: ExitStack) -> apsw.Connection:
            flags = _OPEN_READ_ONLY if options.location.read_only else _OPEN_FLAGS
            connection = _connect(options, lane.wait_when_busy, held, flags)
            _cursor(connection).execute("PRAGMA query_only = ON")
            check(_cursor(connection))
            return connection

        self._reader = await _open_lane("read", open_reader, "BEGIN", options, stack)

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Run a query. It sees every write that was answered before. The future raises `BackendError`."""
        if self._reader is None:
            raise BackendError("the database is not open")
        return self._reader.submit(work, atomic=False)

    def write(self, work: Work[T], *, atomic: bool = False) -> asyncio.Future[T]:
        """Run statements that change the database; the future is done when they are committed.

        `atomic`: undo all statements of this call when it raises; needless for a single statement. The future raises
        `BackendError`, or what `work` raised.
        """
        if self._writer is None:
            raise BackendError("the database was opened read-only" if self._reader else "the database is not open")
        return self._writer.submit(work, atomic=atomic)


class _Lane:
    """One thread with one connection, and the queue to it."""

    def __init__(self, kind: str, begin: str, options: DatabaseOptions) -> None:
        self._kind = kind
        self._begin = begin
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._pending: deque[_Job[Any]] = deque()
        self._closing = threading.Event()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._watch: asyncio.TimerHandle | None = None
        self._busy_since = 0.0

    # On the loop ---------------------------------------------------------------------------------------------------

    async def open(self, opener: Callable[[_Lane, ExitStack], apsw.Connection], stack: AsyncExitStack) -> None:
        thread = threading.Thread(
            target=self._run, args=(opener,), name=f"sqlite {self._kind} {self._options.location}", daemon=True
        )
        thread.start()
        stack.push_async_callback(self._close)
        await self._started

    def submit(self, work: Work[T], *, atomic: bool) -> asyncio.Future[T]:
        if self._closing.is_set():
            raise BackendError("the database is closed")
        if len(self._pending) >= self._options.queue_limit:
            raise BackendUnavailableError(f"the database is busy: {len(self._pending)} calls wait to {self._kind}")
        loop = self._loop
        job = _Job(loop.create_future(), work, loop.time(), atomic=atomic)
        self._pending.append(job)
        self._queue.put(job)
        if self._watch is None:
            self._watch = loop.call_later(self._options.timeout / 4, self._end_late)
        return job.future

    def _deliver(self, batch: list[_Job[Any]]) -> None:
        for job in batch:
            self._pending.popleft()  # batches come back in the order of the queue
            future = job.future
            if future.done():
                continue
            if job.error is None:
                future.set_result(job.outcome)
            else:
                future.set_exception(job.error)

    def _end_late(self) -> None:
        """Answer the calls that have waited too long; one timer for all of them."""
        oldest = self._loop.time() - self._options.timeout
        for job in self._pending:
            if job.submitted > oldest:
                break
            if not job.future.done():
                job.future.set_exception(
                    BackendUnavailableError(
                        f"the database gave no answer within {self._options.timeout:g} s; a write may still happen",
                    ),
                )
        waiting = bool(self._pending)
        self._watch = self._loop.call_later(self._options.timeout / 4, self._end_late) if waiting else None

    async def _close(self) -> None:
        self._closing.set()
        self._queue.put(None)
        await asyncio.shield(self._ended)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # In the thread -------------------------------------------------------------------------------------------------

    def _run(self, opener: Callable[[_Lane, ExitStack], apsw.Connection]) -> None:
        with ExitStack() as held:
            try:
                connection = opener(self, held)
            except BaseException as error:  # noqa: BLE001 - handed to who waits for the start
                held.close()
                problem = translate(error, f"the database {self._options.location}", self._options)
                self._post(_fail, self._started, problem)
            else:
                self._post(_succeed, self._started)
                self._serve(connection)
        self._post(_succeed, self._ended)

    def _serve(self, connection: apsw.Connection) -> None:
        queue = self._queue
        cursor = _cursor(connection)
        ended = False
        while not ended:
            batch: list[_Job[Any]] = []
            job = queue.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= BATCH_LIMIT or queue.empty():
                    break
                job = queue.get_nowait()
            ended = job is None
            if not batch:
                continue
            if self._closing.is_set():
                for waiting in batch:
                    waiting.error = BackendError("the database is closed")
            else:
                self._run_batch(connection, cursor, batch)
            self._post(self._deliver, batch)

    def _run_batch(self, connection: apsw.Connection, cursor: Cursor, jobs: list[_Job[Any]]) -> None:
        try:
            cursor.execute(self._begin)
            for job in jobs:
                if not job.future.done():  # who asked may have given up
                    self._run_job(connection, cursor, job)
            cursor.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - handed to the callers
            _roll_back(connection)
            if isinstance(error, apsw.FullError) and len(jobs) > 1:
                # One caller's large value must not fail the small ones of others.
                for job in jobs:
                    self._run_batch(connection, cursor, [job])
                return
            for job in jobs:
                job.error = translate(error, "the database", self._options)

    def _run_job(self, connection: apsw.Connection, cursor: Cursor, job: _Job[Any]) -> None:
        """Run one call. Its own failure stays with it; raises what ends the whole batch."""
        job.error = None
        try:
            if job.atomic:
                cursor.execute("SAVEPOINT one_call")
            job.outcome = job.work(cursor)
            if job.atomic:
                cursor.execute("RELEASE one_call")
        except Exception as error:
            if isinstance(error, apsw.BusyError | apsw.LockedError) or not connection.in_transaction:
                raise
            if job.atomic:
                cursor.execute("ROLLBACK TO one_call")
                cursor.execute("RELEASE one_call")
            job.error = translate(error, "the database", self._options)

    def wait_when_busy(self, calls: int) -> bool:
        """SQLite's busy handler: wait a little, and say whether to try again."""
        now = time.monotonic()
        if calls == 0:
            self._busy_since = now
        if now - self._busy_since >= self._options.busy_timeout:
            return False
        return not self._closing.wait(_BUSY_WAITS[min(calls, len(_BUSY_WAITS) - 1)])

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._closing.set()  # the loop is closed: nobody waits any more
            self._queue.put(None)


async def _open_lane(
    kind: str,
    opener: Callable[[_Lane, ExitStack], apsw.Connection],
    begin: str,
    options: DatabaseOptions,
    stack: AsyncExitStack,
) -> _Lane:
    lane = _Lane(kind, begin, options)
    await lane.open(opener, stack)
    return lane


def _cursor(connection: apsw.Connection) -> Cursor:
    return cast("Cursor", connection.cursor())


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _connect(
    options: DatabaseOptions, when_busy: Callable[[int], bool], held: ExitStack, flags: int
) -> apsw.Connection:
    connection = apsw.Connection(options.location.uri, flags=flags)
    held.callback(connection.close, True)  # noqa: FBT003 - positional only
    connection.set_busy_handler(when_busy)
    cursor = _cursor(connection)
    cursor.execute("PRAGMA trusted_schema = OFF")  # the file may come from elsewhere
    for statement in options.location.pragmas:
        cursor.execute(statement)
    encoding = cursor.execute("PRAGMA encoding").fetchall()
    if encoding != [("UTF-8",)]:
        raise BackendError(f"the database {options.location} keeps text as {encoding[0][0]}; only UTF-8 is supported")
    return connection


def _journal(connection: apsw.Connection, options: DatabaseOptions, when_busy: Callable[[int], bool]) -> None:
    wanted = "memory" if options.location.path is None else "wal" if options.wal else "delete"
    cursor = _cursor(connection)
    calls = 0
    while True:  # where two open a new file at once, SQLite gives up without asking its busy handler
        try:
            ((mode,),) = cursor.execute(
                f"PRAGMA journal_mode = {wanted}"
            ).fetchall()  # not every file system can do wal
            break
        except apsw.BusyError:
            if not when_busy(calls):
                raise
            calls += 1
    cursor.execute(f"PRAGMA journal_size_limit = {WAL_SIZE_LIMIT}").fetchall()
    # With a rollback journal, `normal` could damage the file when power is lost.
    cursor.execute(f"PRAGMA synchronous = {options.synchronous if mode == 'wal' else 'full'}")


def _in_transaction(connection: apsw.Connection, work: Callable[[Cursor], None]) -> None:
    cursor = _cursor(connection)
    cursor.execute("BEGIN EXCLUSIVE")
    try:
        work(cursor)
        cursor.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        _cursor(connection).execute("ROLLBACK")


def translate(error: BaseException, subject: str, options: DatabaseOptions) -> BaseException:
    """The error to raise for one of apsw's: what is wrong and what to do. Others are given back as they are."""
    kind: type[BackendError] = BackendError
    match error:
        case apsw.BusyError() | apsw.LockedError():
            kind = BackendUnavailableError
            text = f"{subject} was locked by another process for longer than busyTimeout ({options.busy_timeout:g} s)"
        case apsw.FullError():
            text = f"{subject} cannot grow: the disk is full"
        case apsw.ReadOnlyError():
            text = f"{subject} is read-only: allow writing, or add ?mode=ro to the connection string to read only"
        case apsw.NotADBError():
            text = f"{subject} is no SQLite database, or is encrypted; it was left as it is"
        case apsw.CorruptError():
            text = f"{subject} is damaged and was left as it is: restore a backup ({error})"
        case apsw.CantOpenError() | apsw.PermissionsError():
            text = (
                f"{subject} cannot be opened: check that it is a file and that its directory may be written ({error})"
            )
        case apsw.IOError():
            text = f"{subject}: the disk failed: {error}"
        case apsw.TooBigError():
            text = f"the value is too large for {subject}"
        case apsw.Error():
            text = f"{subject}: {error}"
        case _:
            return error
    problem = kind(text)
    problem.__cause__ = error
    return problem
