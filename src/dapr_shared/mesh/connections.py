"""Connections to peers: shared by all calls to one address, and bounded.

Step 6c of the request road. A connection lives about five minutes (`wire/grpc/client.py`); an address that nobody calls
for as long is forgotten with its connections.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from dapr_shared.contracts.invocation import ChannelBusyError
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS_PER_CONNECTION: Final = 100
"""Calls at a time on one connection: what daprd's server allows."""
CONNECTIONS_PER_ADDRESS: Final = 20
ADDRESSES: Final = 1024
"""Addresses with connections at a time."""
IDLE_SECONDS: Final = 300.0
_SWEEP_SECONDS: Final = 30.0


class _Connection:
    __slots__ = ("calls", "client", "used")

    def __init__(self, client: GrpcClient, now: float) -> None:
        self.client = client
        self.calls = 0
        self.used = now


class Lease:
    """One call's share of a connection: give it back once."""

    __slots__ = ("_connection", "_given_back", "client")

    def __init__(self, connection: _Connection) -> None:
        connection.calls += 1
        self._connection = connection
        self._given_back = False
        self.client = connection.client

    def give_back(self) -> None:
        """The call has ended. A second time does nothing."""
        if not self._given_back:
            self._given_back = True
            self._connection.calls -= 1
            self._connection.used = asyncio.get_running_loop().time()


class PeerConnections:
    """The connections of one instance to its peers."""

    def __init__(
        self, options: ClientOptions, *, make: Callable[[str, ClientOptions], GrpcClient] = GrpcClient
    ) -> None:
        self._options = options
        self._make = make
        self._by_address: dict[str, list[_Connection]] = {}
        self._swept = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Connections that are kept now."""
        return sum(len(connections) for connections in self._by_address.values())

    def take(self, address: str) -> Lease:
        """A connection to `host:port` for one call. Raises `ChannelBusyError` at the bounds; never waits."""
        now = asyncio.get_running_loop().time()
        if now - self._swept >= _SWEEP_SECONDS:
            self._sweep(now, IDLE_SECONDS)
        connections = self._by_address.get(address)
        if connections is None:
            if len(self._by_address) >= ADDRESSES:
                self._sweep(now, 0.0)
            if len(self._by_address) >= ADDRESSES:
                raise ChannelBusyError(f"calls to {ADDRESSES} peers at a time are in flight")
            connections = self._by_address[address] = []
        for connection in connections:
            if connection.calls < CALLS_PER_CONNECTION:
                return Lease(connection)
        if len(connections) >= CONNECTIONS_PER_ADDRESS:
            most = CONNECTIONS_PER_ADDRESS * CALLS_PER_CONNECTION
            raise ChannelBusyError(f"{most} calls to the peer at {address} are in flight")
        connection = _Connection(self._make(address, self._options), now)
        connections.append(connection)
        return Lease(connection)

    def reconnect(self, address: str) -> None:
        """Connect anew for the next calls to an address; those in flight end where they are."""
        for connection in self._by_address.get(address, ()):
            connection.client.reconnect()

    async def aclose(self) -> None:
        """Close all; calls in flight fail."""
        everything = [one for connections in self._by_address.values() for one in connections]
        self._by_address.clear()
        await asyncio.gather(*(one.client.aclose() for one in everything), *self._closing, return_exceptions=True)

    def _sweep(self, now: float, idle: float) -> None:
        self._swept = now
        for address, connections in list(self._by_address.items()):
            kept: list[_Connection] = []
            for one in connections:
                if one.calls or now - one.used < idle:
                    kept.append(one)
                    continue
                task = asyncio.get_running_loop().create_task(one.client.aclose(), name=f"closing of {address}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            if kept:
                self._by_address[address] = kept
            else:
                del self._by_address[address]
