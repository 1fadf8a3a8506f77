"""`state.folder`: a folder with one file for each value. Durable, with etags; slow on purpose of being simple.

The promise that it keeps is `dapr_shared.contracts.state.StateStore`. A file is a line with the etag and the form of the
value, then the value. One thread does the work, under a lock on the folder, so that several instances may share it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Setting, Settings
from dapr_shared.contracts.state import (
    Concurrency,
    DeleteRequest,
    EtagMismatchError,
    GetRequest,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack


class FolderSettings(Settings, frozen=True, kw_only=True):
    """The settings of `state.folder`."""

    path: Annotated[str, Setting("The folder; it is made where it is absent.", example="/var/lib/orders")]


class FolderStore(StateStore[FolderSettings]):
    """Values as files."""

    settings_type = FolderSettings
    capabilities = frozenset({StateCapability.ETAG})

    _worker: ThreadPoolExecutor | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        """Where the data is: two components that name one folder share it."""
        return str(Path(self.settings.path).resolve())

    async def start(self, stack: AsyncExitStack) -> None:
        """Make the folder; whatever was opened is closed by the stack."""
        try:
            await asyncio.to_thread(Path(self.settings.path).mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"the folder {self.settings.path} cannot be made: {error.strerror}") from error
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=self.context.name)
        stack.push_async_callback(self._close)

    async def _close(self) -> None:
        worker, self._worker = self._worker, None  # what still waits for the thread finds that the store is closed
        if worker is not None:
            await asyncio.to_thread(worker.shutdown)

    async def get(self, request: GetRequest) -> StateValue | None:
        """The value, or `None`."""
        return await self._do(self._read, request)

    async def set(self, request: SetRequest) -> None:
        """Write one value."""
        await self._do(self._write, request)

    async def delete(self, request: DeleteRequest) -> None:
        """Delete one key."""
        await self._do(self._remove, request)

    async def _do(self, work: Callable[[Any], Any], request: GetRequest | SetRequest | DeleteRequest) -> Any:
        """Run `work` in the store's thread. Raises `BackendError`, also for what the system refuses."""
        worker = self._worker
        if worker is None:
            raise BackendError(f"the store {self.context.name} is closed")

        def locked() -> Any:
            if self._worker is None:
                raise BackendError(f"the store {self.context.name} is closed")
            with (Path(self.settings.path) / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return work(request)

        try:
            return await asyncio.get_running_loop().run_in_executor(worker, locked)
        except OSError as error:
            raise BackendError(f"the folder {self.settings.path}: {error.strerror}") from error
        except RuntimeError as error:  # closed between the look and the call
            raise BackendError(f"the store {self.context.name} is closed") from error

    def _file(self, key: str) -> Path:
        """Keys may hold any character and be long; file names may not."""
        return Path(self.settings.path) / hashlib.sha256(key.encode()).hexdigest()

    def _read(self, request: GetRequest | SetRequest | DeleteRequest) -> StateValue | None:
        try:
            head, _, data = self._file(request.key).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        etag, form = head.decode().split(" ")
        return StateValue(data, etag, is_json=form == "json")

    def _write(self, request: SetRequest) -> None:
        self._check(request)
        file = self._file(request.key)
        draft = file.with_suffix(".draft")
        head = f"{secrets.token_hex(8)} {'json' if request.is_json else 'bytes'}\n"
        with draft.open("wb") as opened:
            opened.write(head.encode() + request.value)
            opened.flush()
            os.fsync(opened.fileno())  # when the write is answered, lost power does not lose it
        draft.replace(file)

    def _remove(self, request: DeleteRequest) -> None:
        self._check(request)
        self._file(request.key).unlink(missing_ok=True)

    def _check(self, request: SetRequest | DeleteRequest) -> None:
        """The rules of the contract on etags. Raises `EtagMismatchError`."""
        if request.etag:
            found = self._read(request)
            if found is None or found.etag != request.etag:
                raise EtagMismatchError(f"the etag of {request.key} is another one")
        elif (
            isinstance(request, SetRequest)
            and request.concurrency is Concurrency.FIRST_WRITE
            and self._read(request) is not None
        ):
            raise EtagMismatchError(f"{request.key} is there already")
