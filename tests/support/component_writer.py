"""A program that uses a state.sqlite file until it is killed or done: `component_writer.py MODE METADATA [N]`.

`acknowledge` prints the key of each write after it was answered, for ever; `increment` adds N to one counter, by etag;
`hold` opens it, prints a line and waits. METADATA is the component's, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack

from dapr_shared.components.sqlite.state import SqliteStateStore
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.contracts.state import EtagMismatchError, GetRequest, SetRequest

COUNTER = "app||counter"


async def acknowledge(store: SqliteStateStore) -> None:
    """Write ever new keys from many callers; the value is the key's own text as JSON."""
    turn = os.getpid()

    async def caller(name: int) -> None:
        for count in range(1_000_000):
            key = f"app||{turn}-{name}-{count}"
            await store.set(SetRequest(key, f'"{key}"'.encode()))
            os.write(1, f"{key}\n".encode())

    await asyncio.gather(*(caller(name) for name in range(16)))


async def increment(store: SqliteStateStore, times: int) -> None:
    """Add 1 to the counter so many times."""
    for _ in range(times):
        while True:
            found = await store.get(GetRequest(COUNTER))
            assert found is not None
            try:
                await store.set(SetRequest(COUNTER, str(int(found.data) + 1).encode(), etag=found.etag))
                break
            except EtagMismatchError:
                continue


async def run(mode: str, metadata: dict[str, str], times: int) -> None:
    """Open the store and do what `mode` says."""
    settings = decode_settings(SqliteStateStore.settings_type, metadata)
    async with AsyncExitStack() as stack:
        store = SqliteStateStore(settings, ComponentContext("writer", "state.sqlite"))
        await store.start(stack)
        if mode == "acknowledge":
            await acknowledge(store)
        elif mode == "increment":
            await increment(store, times)
        else:
            os.write(1, b"held\n")
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])))
