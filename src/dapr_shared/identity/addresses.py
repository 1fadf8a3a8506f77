"""The address of a pod on this node as evidence: the weakest there is, and off unless it is asked for.

Step 2 of the request road, asked only where a request brings nothing else. The address is the other end's of the TCP
connection, never one that a header names. What this can be wrong about is in docs/kubernetes/security.md.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote

from dapr_shared.core import errors
from dapr_shared.identity.refusal import RefusedError
from dapr_shared.identity.service_accounts import NotVerifiableError
from dapr_shared.wire.peer import PeerAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.identity.account_apps import ServiceAccount
    from dapr_shared.identity.service_accounts import PodFact

REMEMBERED = 20_000
"""Connections of grpc.aio of which it is known since when they call; the one that called longest ago is forgotten first."""
_GRPC = ("ipv4:", "ipv6:")


class PodAtAddress(NamedTuple):
    """A running pod on this node."""

    account: ServiceAccount
    pod: PodFact
    started: float
    """Seconds since 1970, rounded down as the kubelet does."""


class NodePods(Protocol):
    """The pods on this node, watched."""

    def at(self, address: str) -> Sequence[PodAtAddress]:
        """Those that have the address for themselves. Raises `NotVerifiableError` where what is known may be old."""
        ...


class AddressIdentity:
    """Finds the pod at the other end of a connection."""

    def __init__(self, pods: NodePods) -> None:
        self._pods = pods
        self._since: OrderedDict[str, float] = OrderedDict()

    def pod(self, peer: str) -> PodAtAddress | None:
        """The pod that has sent a request; `None`: it is none of this node.

        Raises `RefusedError` where that is not certain: the watch is behind, two pods have the address, or the pod
        is younger than the connection, which therefore was another's.
        """
        address = address_of(peer)
        if not address:
            return None
        try:
            found = self._pods.at(address)
        except NotVerifiableError:
            raise RefusedError("address_unavailable", errors.ADDRESS_UNAVAILABLE()) from None
        if len(found) > 1:
            raise RefusedError("address_of_several", errors.NO_EVIDENCE())
        if not found:
            return None
        if found[0].started > self._connected(peer):
            raise RefusedError("address_reused", errors.NO_EVIDENCE())
        return found[0]

    def _connected(self, peer: str) -> float:
        """Since when the connection is known. grpc.aio does not say when it was made: since its first call."""
        if isinstance(peer, PeerAddress):
            return peer.since
        since = self._since.setdefault(peer, time())
        self._since.move_to_end(peer)
        if len(self._since) > REMEMBERED:
            self._since.popitem(last=False)
        return since


def address_of(peer: str) -> str:
    """The IP address in what the wire says of the other end, in one spelling; empty: there is none.

    HTTP says an address, gRPC `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`.
    """
    text = peer
    if peer.startswith(_GRPC):
        text = unquote(peer[5:]).rpartition(":")[0].strip("[]")
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
