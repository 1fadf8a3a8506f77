"""`bindings.localstorage`: files in a folder of the machine. Output only.

Last step of the request road. A file that was created is on the disk when the call is answered, and a reader sees the
old or the new content, never half of it. What differs from daprd, on purpose: a name that would lead out of the folder,
by `..` or by a symbolic link, is refused instead of bent back into it; a list without files is `[]`, not `null`; a file
larger than `maxFileSize` is not read. Facts: reference components §5.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
import contextlib
from binascii import Error as Base64Error
from binascii import a2b_base64
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import msgspec
import orjson

from dapr_shared.components.localstorage.confined import ConfinedFolder
from dapr_shared.contracts.bindings import BindingCapability, BindingRequest, BindingResponse, OutputBinding
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.settings import Kind, Setting, SettingError, Settings
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from dapr_shared.contracts.component import ComponentContext

T = TypeVar("T")
THREADS = 4
"""Files of one component that are worked on at a time; further calls wait, and those of other components do not."""
REFUSED = ("/proc", "/sys", "/boot", "/var/run/secrets", "/run/secrets")
"""Folders that hold no files of apps (reference components §5)."""


class LocalStorageSettings(Settings, frozen=True, kw_only=True):
    """The settings of `bindings.localstorage`. All but the last are daprd's."""

    root_path: Annotated[
        str,
        Setting("Folder of the files; made where it is missing. Nothing outside it is reached.", example="data/files"),
    ]
    max_file_size: Annotated[
        int,
        Setting(
            "Largest file that get answers with; 0: no limit.", Kind.BYTES, unit="bytes", minimum=0, example="100Mi"
        ),
    ] = 100 * 1024 * 1024

    def __post_init__(self) -> None:
        """Check what no annotation says. Raises `SettingError`."""
        if not self.root_path.strip():
            raise SettingError("rootPath", "must not be empty")
        folder = self.folder
        refused = {Path(path).resolve() for path in REFUSED}
        if folder in refused or not refused.isdisjoint(folder.parents):
            raise SettingError("rootPath", f"{folder} is in a part of the system that holds no files of apps")
        if any(folder in path.parents for path in refused):  # `/`: an app would read /proc/…/environ
            raise SettingError("rootPath", f"{folder} has parts of the system in it that hold no files of apps")

    @property
    def folder(self) -> Path:
        """The folder, with links resolved."""
        return Path(self.root_path).resolve()


class LocalStorageBinding(OutputBinding[LocalStorageSettings]):
    """A folder."""

    settings_type = LocalStorageSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.OUTPUT_BINDING})
    operations: ClassVar[tuple[str, ...]] = ("create", "get", "list", "delete")

    _folder: ConfinedFolder | None = None
    """`None` before the start and after the end."""

    def __init__(self, settings: LocalStorageSettings, context: ComponentContext) -> None:
        super().__init__(settings, context)
        if context.private is None:
            return
        folder, private = settings.folder, context.private.resolve()
        if folder == private or folder in private.parents or private in folder.parents:
            problem = f"{folder} is, has in it, or is in the instance's own data directory {private} (--data-dir)"
            raise SettingError("rootPath", f"{problem}: what is kept there is not for apps")

    def data_location(self) -> str | None:
        return f"folder:{self.settings.folder}"

    async def start(self, stack: AsyncExitStack) -> None:
        folder = self.settings.folder
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"rootPath {folder} cannot be made: {error.strerror or error}") from error
        self._folder = ConfinedFolder(folder)
        # Not the loop's own threads: names of hosts are resolved there, also for apps that never use this folder.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=self.context.name)
        stack.callback(self._threads.shutdown, wait=False)
        stack.callback(self._forget)

    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        folder = self._folder
        if folder is None:
            raise BackendError(f"binding {self.context.name} is not open")
        name = request.metadata.get("fileName", "")
        match request.operation:
            case "create":
                kept = await self._run(folder.write, name or random_id(), content(request.data))
                return BindingResponse(orjson.dumps({"fileName": kept}))
            case "get":
                return BindingResponse(await self._run(folder.read, name, self.settings.max_file_size))
            case "delete":
                await self._run(folder.remove, name)
                return None
            case _:
                return BindingResponse(orjson.dumps(await self._run(folder.list, name)))

    def _run(self, work: Callable[..., T], *given: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *given))

    def _forget(self) -> None:
        self._folder = None


def content(data: bytes) -> bytes:
    """What is kept of the data of a request, as in Dapr: a JSON text without its quotes, base64 decoded."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
        data = msgspec.json.decode(data, type=str).encode()
    try:
        return a2b_base64(data.replace(b"\r", b"").replace(b"\n", b""), strict_mode=True)
    except Base64Error:
        return data
