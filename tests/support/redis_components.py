"""Redis components for tests, opened in this process at a server of ours."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import decode_settings
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_CATALOG = Catalog(installed=None)


def make(component_type: str, address: str, **metadata: str) -> Any:
    """A component that is not started."""
    adapter = _CATALOG.load(_CATALOG.find(component_type))
    settings = decode_settings(adapter.settings_type, {"redisHost": address, **metadata})
    return adapter(settings, ComponentContext("redis", component_type))


@asynccontextmanager
async def opened(component_type: str, server: RedisServer, **metadata: str) -> AsyncIterator[Any]:
    """A started component at the server."""
    if server.password:
        metadata.setdefault("redisPassword", server.password)
    component = make(component_type, server.address, **metadata)
    async with AsyncExitStack() as stack:
        await component.start(stack)
        yield component


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of the test's own, and ends them."""
    started: list[RedisServer] = []

    def start(*options: str, **fields: Any) -> RedisServer:
        server = RedisServer(tmp_path / f"redis-{len(started)}", options, **fields)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
