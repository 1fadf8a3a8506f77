"""Servers for the tests of Redis components."""

from __future__ import annotations

import pytest

from tests.support import redis_server


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


@pytest.fixture
def own_server(tmp_path):
    """Starts servers of the test's own, and ends them."""
    started: list[redis_server.RedisServer] = []

    def start(*options: str, **fields) -> redis_server.RedisServer:
        server = redis_server.RedisServer(tmp_path / f"redis-{len(started)}", options, **fields)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
