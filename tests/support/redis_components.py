"""Redis components for tests, opened in this process at a server of ours."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import decode_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.redis_server import RedisServer

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
