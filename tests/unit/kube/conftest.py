from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.support.fake_kube import FakeKube


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def server(stack) -> FakeKube:
    """An API server in this process."""
    made = FakeKube()
    await made.start(stack)
    return made


@pytest.fixture
async def client(server, stack):
    """A client of `server`."""
    return await server.client(stack)
