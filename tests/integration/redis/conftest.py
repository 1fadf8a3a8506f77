"""Servers for the tests of Redis components."""

from __future__ import annotations

import pytest

from tests.support import redis_server
from tests.support.redis_components import own_server  # noqa: F401 - a fixture


@pytest.fixture(scope="session", autouse=True)
def servers():
    """Ends the servers that the tests have started."""
    yield
    redis_server.stop_shared()


@pytest.fixture
def server():
    """The worker's shared server."""
    return redis_server.shared()


@pytest.fixture
def database() -> int:
    """An empty database of the shared server."""
    return redis_server.fresh_database()
