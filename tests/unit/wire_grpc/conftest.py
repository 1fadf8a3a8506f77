from __future__ import annotations

import pytest

from dapr_shared.wire.grpc.engines import engine
from tests.support.grpc_calls import Desk


@pytest.fixture(params=["http2", "aio"])
def engine_name(request) -> str:
    return request.param


@pytest.fixture
async def desk(engine_name):
    """Servers and clients of one engine; a test that expects a defect takes it from `defects`."""
    defects: list[tuple[str, BaseException]] = []
    desk = Desk(engine(engine_name, lambda method, error: defects.append((method, error))), defects)
    yield desk
    await desk.close()
    assert not defects
