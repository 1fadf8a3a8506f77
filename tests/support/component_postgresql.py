"""Opening the PostgreSQL components in tests."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.settings import decode_settings
from tests.support import postgres_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.postgres_server import PostgresServer

CATALOG = Catalog(installed=None)


def make(component_type: str, metadata: dict[str, str], version: str = "v1") -> Any:
    """A component that is not started."""
    adapter = CATALOG.load(CATALOG.find(component_type, version))
    settings = decode_settings(adapter.settings_type, metadata)
    return adapter(settings, ComponentContext("c", component_type, version))


@asynccontextmanager
async def opened(component_type: str, metadata: dict[str, str], version: str = "v1") -> AsyncIterator[Any]:
    """A started component, closed at the end."""
    async with AsyncExitStack() as stack:
        component = make(component_type, metadata, version)
        await component.start(stack)
        yield component


@pytest.fixture
def server() -> PostgresServer:
    """The server that all tests of the process share: a test must not stop it."""
    return postgres_server.shared_server()


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The name of a new, empty database."""
    return server.new_database()
