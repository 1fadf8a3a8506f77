"""Every test of the HTTP wire runs on uvloop, which production uses, and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager

import pytest
import uvloop

from dapr_shared.wire.http.client import HttpClient
from dapr_shared.wire.http.server import ServerLimits, serve
from tests.support.http_peers import Recorder, until


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@asynccontextmanager
async def tidy():
    """Nothing that is started inside is left behind, and the event loop has nothing to complain of."""
    loop = asyncio.get_running_loop()
    complaints = []
    before = asyncio.all_tasks()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield
    finally:
        await until(lambda: not [task for task in asyncio.all_tasks() - before if "wire/http" in repr(task)])
        gc.collect()
        loop.set_exception_handler(None)
    assert not complaints


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def running():
    """Start a server for a handler; it must not have reported a defect in the end, unless `defects` says so."""

    @asynccontextmanager
    async def start(handler, *, address="127.0.0.1:0", limits=None, defects=0, **options):
        found = []
        server = await serve(
            address, handler, limits=limits or ServerLimits(), on_defect=lambda _, error: found.append(error), **options
        )
        async with tidy():
            try:
                yield server
            finally:
                server.close()
                await until(lambda: not server.connections)
        assert len(found) == defects, found

    return start


@pytest.fixture
def client_of():
    """A client of an origin, closed in the end with nothing left open."""

    @asynccontextmanager
    async def start(origin, **options):
        client = HttpClient("http", "127.0.0.1", origin.port, **options)
        async with tidy():
            try:
                yield client
            finally:
                await client.aclose()
        assert client.connections == 0
        assert client.idle_connections == 0

    return start
