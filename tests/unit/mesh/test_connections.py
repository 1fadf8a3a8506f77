"""Connections to peers: shared, bounded, forgotten when nobody uses them."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.invocation import ChannelBusyError
from dapr_shared.mesh import connections as module
from dapr_shared.mesh.connections import CALLS_PER_CONNECTION, CONNECTIONS_PER_ADDRESS, PeerConnections
from dapr_shared.wire.grpc.client import ClientOptions


class Client:
    """Stands for a connection."""

    made: list[Client]

    def __init__(self, address: str, options: ClientOptions) -> None:
        self.address = address
        self.closed = False
        self.reconnected = 0
        Client.made.append(self)

    def reconnect(self) -> None:
        self.reconnected += 1

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def pool():
    Client.made = []
    return PeerConnections(ClientOptions(), make=Client)  # pyright: ignore[reportArgumentType]


async def test_calls_share_a_connection(pool):
    """A hundred calls at a time share a connection, which is what daprd's server allows; more open another."""
    leases = [pool.take("a:1") for _ in range(CALLS_PER_CONNECTION)]
    assert len({id(lease.client) for lease in leases}) == 1
    another = pool.take("a:1")
    assert another.client is not leases[0].client
    leases[0].give_back()
    leases[0].give_back()
    assert pool.take("a:1").client is leases[0].client
    assert pool.take("a:1").client is another.client


async def test_calls_to_one_peer_are_bounded(pool):
    """A peer that answers nothing does not take any number of connections."""
    for _ in range(CALLS_PER_CONNECTION * CONNECTIONS_PER_ADDRESS):
        pool.take("a:1")
    with pytest.raises(ChannelBusyError, match="2000 calls to the peer at a:1"):
        pool.take("a:1")
    pool.take("b:1")


async def test_addresses_are_bounded(pool, monkeypatch):
    """Addresses that nobody calls make room for others; where all are in use a further one is refused."""
    monkeypatch.setattr(module, "ADDRESSES", 2)
    first = pool.take("a:1")
    pool.take("b:1")
    with pytest.raises(ChannelBusyError):
        pool.take("c:1")
    first.give_back()
    pool.take("c:1")
    await asyncio.sleep(0)
    assert [(one.address, one.closed) for one in Client.made] == [("a:1", True), ("b:1", False), ("c:1", False)]


async def test_idle_connections_are_closed(pool, monkeypatch):
    """A connection without a call for five minutes is closed, one with a call is not."""
    pool.take("a:1").give_back()
    pool.take("b:1")
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 301, raising=False)
    pool.take("c:1")
    monkeypatch.undo()
    await asyncio.sleep(0)
    assert [(one.address, one.closed) for one in Client.made] == [("a:1", True), ("b:1", False), ("c:1", False)]
    assert pool.count == 2


async def test_reconnect_and_close(pool):
    """A lost address is connected anew; at the end all are closed."""
    pool.take("a:1")
    pool.reconnect("a:1")
    pool.reconnect("unknown:1")
    assert Client.made[0].reconnected == 1
    await pool.aclose()
    assert Client.made[0].closed
