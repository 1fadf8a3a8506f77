"""The address of a pod as evidence: what it proves, and everything that makes it prove nothing."""

from __future__ import annotations

import time

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.identity import addresses as addresses_module
from dapr_shared.identity.account_apps import ServiceAccount
from dapr_shared.identity.addresses import AddressIdentity, PodAtAddress, address_of
from dapr_shared.identity.apps import AppRegistry
from dapr_shared.identity.caller import Evidence, ListenerIdentity, RegisteredApp
from dapr_shared.identity.refusal import RefusedError
from dapr_shared.identity.service_accounts import NotVerifiableError, PodFact
from dapr_shared.resources.model import App
from dapr_shared.wire.peer import PeerAddress

A, B = AppRef("a", "shop"), AppRef("b", "shop")
SHARED = ListenerIdentity("http")
ADDRESS = "10.244.1.7"


class Pods:
    """Pods by address."""

    def __init__(self) -> None:
        self.known: dict[str, list[PodAtAddress]] = {}
        self.behind = False

    def at(self, address: str) -> list[PodAtAddress]:
        if self.behind:
            raise NotVerifiableError("the API server is away")
        return self.known.get(address, [])

    def add(self, app_id: str = "a", account: str = "default", age: float = 86_400.0) -> None:
        pod = PodAtAddress(ServiceAccount("shop", account), PodFact("u-1", app_id), time.time() - age)
        self.known.setdefault(ADDRESS, []).append(pod)


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def registry(pods) -> AppRegistry:
    made = AppRegistry(addresses=AddressIdentity(pods))
    apps = [
        App(name="a", app_id="a", namespace="shop"),
        App(name="b", app_id="b", namespace="shop", service_account="shop:b"),
    ]
    made.replace([RegisteredApp(app.ref, app) for app in apps])
    return made


def identify(registry: AppRegistry, peer: str, tokens: tuple[bytes, ...] = (), listener: object = SHARED):
    """As the pipeline does."""
    try:
        return registry.identify(tokens, listener)
    except RefusedError as refused:
        return registry.identify_by_address(refused, peer)


def refusal(registry: AppRegistry, peer: str, *given) -> tuple[str, int]:
    with pytest.raises(RefusedError) as refused:
        identify(registry, peer, *given)
    return refused.value.reason, refused.value.error.row.http


@pytest.mark.parametrize(
    "peer",
    [PeerAddress(ADDRESS), f"ipv4:{ADDRESS}:41234", PeerAddress(f"::ffff:{ADDRESS}"), f"ipv6:%5B::ffff:{ADDRESS}%5D:1"],
)
def test_the_address_of_a_pod_proves_its_app(registry, pods, peer):
    """By the annotation, or by the service account that an App names, over HTTP and gRPC."""
    pods.add("a")
    caller = identify(registry, peer)
    assert (caller.ref, caller.evidence) == (A, (Evidence.ADDRESS,))
    pods.known.clear()
    pods.add("", "b")
    assert identify(registry, peer).ref == B


def test_only_who_brings_nothing_is_found_by_address(registry, pods):
    """A wrong token is not overlooked for a right address, and a listener counts as before."""
    pods.add("a")
    assert refusal(registry, PeerAddress(ADDRESS), (b"wrong",)) == ("unknown_token", 401)
    assert refusal(registry, PeerAddress(ADDRESS), (b"x", b"y")) == ("several_tokens", 401)
    assert identify(registry, PeerAddress(ADDRESS), (), ListenerIdentity("b", B)).evidence == (Evidence.LISTENER,)


@pytest.mark.parametrize(
    "peer", ["", "unix:/run/app.sock", "unix:", PeerAddress("10.244.1.8"), "ipv4:10.244.1.8:1", "nonsense"]
)
def test_who_is_no_pod_of_this_node_is_refused(registry, pods, peer):
    """Other addresses, sockets and what is no address prove nothing."""
    pods.add("a")
    assert refusal(registry, peer) == ("no_evidence", 401)


def test_pod_and_service_account_that_disagree_are_refused(registry, pods):
    """The rules are those of service account tokens."""
    pods.add("a", "b")
    assert refusal(registry, PeerAddress(ADDRESS)) == ("evidence_disagrees", 401)
    pods.known.clear()
    pods.add("absent")
    assert refusal(registry, PeerAddress(ADDRESS)) == ("app_not_served", 401)


def test_an_address_of_two_pods_proves_neither(registry, pods):
    """Where two running pods have an address, nothing is guessed."""
    pods.add("a")
    pods.add("b")
    assert refusal(registry, PeerAddress(ADDRESS)) == ("address_of_several", 401)


def test_a_pod_that_is_younger_than_the_connection(registry, pods):
    """A connection that was there before the pod is not the pod's: the address was another's."""
    old, call = PeerAddress(ADDRESS), f"ipv4:{ADDRESS}:41234"
    pods.add("a")
    assert identify(registry, call).ref == A
    pods.known.clear()
    pods.add("a", age=-5)
    assert refusal(registry, old) == ("address_reused", 401)
    assert refusal(registry, call) == ("address_reused", 401)


def test_while_pods_cannot_be_watched_no_address_counts(registry, pods):
    """An address may have been given to another pod meanwhile: 503, to be sent again."""
    pods.add("a")
    pods.behind = True
    assert refusal(registry, PeerAddress(ADDRESS)) == ("address_unavailable", 503)


def test_it_is_off_unless_it_is_asked_for():
    """Without the flag a request without evidence is refused as ever."""
    registry = AppRegistry()
    registry.replace([RegisteredApp(A, App(name="a", app_id="a", namespace="shop"))])
    assert refusal(registry, PeerAddress(ADDRESS)) == ("no_evidence", 401)


def test_remembered_connections_are_bounded(registry, pods, monkeypatch):
    """However many connections call, a bounded number is remembered."""
    monkeypatch.setattr(addresses_module, "REMEMBERED", 10)
    identity = AddressIdentity(pods)
    pods.add("a")
    for port in range(50):
        assert identity.pod(f"ipv4:{ADDRESS}:{port}") is not None
    assert len(identity._since) == 10


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("ipv6:[fd00::0:1]:5", "fd00::1"),
        ("10.0.0.1, 10.0.0.2", ""),
        ("010.0.0.1", ""),
    ],
)
def test_addresses_have_one_spelling(peer, address):
    """One address is one text, and what is none is empty."""
    assert address_of(peer) == address
