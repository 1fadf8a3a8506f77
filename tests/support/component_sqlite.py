"""Opening `state.sqlite` and bare databases in tests, and the file systems and processes that make trouble for them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dapr_shared.components.sqlite.database import Database, DatabaseOptions
from dapr_shared.components.sqlite.location import parse_location
from dapr_shared.components.sqlite.state import SqliteStateStore
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import decode_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

WRITER = Path(__file__).with_name("component_writer.py")


@asynccontextmanager
async def sqlite_store(connection_string: object, **metadata: str) -> AsyncIterator[SqliteStateStore]:
    """A started store."""
    given = {"connectionString": str(connection_string), **metadata}
    store = SqliteStateStore(
        decode_settings(SqliteStateStore.settings_type, given), ComponentContext("s", "state.sqlite")
    )
    async with AsyncExitStack() as stack:
        await store.start(stack)
        yield store


@asynccontextmanager
async def database(connection_string: object, **options: Any) -> AsyncIterator[Database]:
    """An open database with a table `t (k PRIMARY KEY, v)`."""
    made = Database(DatabaseOptions(parse_location(str(connection_string)), **options))
    async with AsyncExitStack() as stack:
        await made.start(
            stack,
            migrate=lambda cursor: cursor.execute("CREATE TABLE IF NOT EXISTS t (k PRIMARY KEY, v)") and None,
            check=lambda cursor: None,
        )
        yield made


@asynccontextmanager
async def writer(mode: str, file: Path, times: int = 0, **metadata: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program `component_writer.py` in a process of its own, which is ended at the end."""
    given = {"connectionString": str(file), "busyTimeout": "20s", **metadata}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WRITER),
        mode,
        json.dumps(given),
        str(times),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def enlarge(place: Path, kibibytes: int) -> None:
    """Give a small file system more room."""
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(place)], check=True)


@contextmanager
def small_disk(path: Path, kibibytes: int) -> Iterator[bool]:
    """A file system of that size at `path`, where one may be mounted; says whether it is."""
    path.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path)]
    mounted = (
        os.geteuid() == 0
        and mount is not None
        and subprocess.run([mount, *options], check=False, capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
