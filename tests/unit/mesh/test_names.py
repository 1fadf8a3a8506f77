"""Addresses of peers: looked up once, remembered for a while, bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dapr_shared.components.nameresolution.table import make_resolver
from dapr_shared.contracts.nameresolution import ResolveError
from dapr_shared.core.ids import AppRef
from dapr_shared.mesh.names import PeerNames

ORDERS = AppRef("orders", "shop")


class Dns:
    """Answers as it is told, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: list[str] | Exception = ["10.0.0.1"]
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        self.gate.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def dns():
    return Dns()


@pytest.fixture
def names(dns):
    resolver = make_resolver({"component": "kubernetes"}, port=50002)
    assert resolver is not None
    made = PeerNames(resolver, lookup=dns)
    yield made
    dns.gate.set()
    made.close()


async def test_a_name_is_looked_up_once(names, dns):
    """Calls within 20 seconds share one lookup; a useless address is asked for again."""
    assert await names.address(ORDERS) == "10.0.0.1:50002"
    assert await names.address(ORDERS) == "10.0.0.1:50002"
    assert dns.asked == ["orders-dapr.shop.svc.cluster.local"]
    names.forget(ORDERS)
    dns.answer = ["fd00::1"]
    assert await names.address(ORDERS) == "[fd00::1]:50002"


async def test_an_answer_grows_old(names, dns, monkeypatch):
    """After 20 seconds the name is asked for again."""
    await names.address(ORDERS)
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 20.5, raising=False)
    await names.address(ORDERS)
    assert len(dns.asked) == 2


async def test_calls_are_spread(names, dns):
    """Of several addresses each gets calls."""
    dns.answer = ["10.0.0.1", "10.0.0.2"]
    assert {await names.address(ORDERS) for _ in range(64)} == {"10.0.0.1:50002", "10.0.0.2:50002"}


async def test_calls_at_once_share_a_lookup(names, dns):
    """Calls that come while a name is looked up wait for the same answer; one that is cancelled harms no other."""
    dns.gate.clear()
    calls = [asyncio.ensure_future(names.address(ORDERS)) for _ in range(5)]
    await asyncio.sleep(0.01)
    calls[0].cancel()
    dns.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == ["10.0.0.1:50002"] * 4
    assert len(dns.asked) == 1


async def test_a_name_without_an_address(names, dns):
    """A failure names what was asked for, and the name is left alone for a second."""
    dns.answer = OSError(-2, "Name or service not known")
    for _ in range(2):
        with pytest.raises(ResolveError, match=r"'orders-dapr\.shop\.svc\.cluster\.local': .*not known"):
            await names.address(ORDERS)
    assert len(dns.asked) == 1


@pytest.mark.parametrize("app", [AppRef("a/b"), AppRef("evil.example"), AppRef("orders", "x y"), AppRef("", "x")])
async def test_what_is_no_app_id_is_no_name(names, dns, app):
    """A target that could be more than a part of a name is never looked up."""
    with pytest.raises(ResolveError):
        await names.address(app)
    assert dns.asked == []


async def test_many_names_at_once(names, dns):
    """Names that nobody answers for do not pile up: a further one is refused."""
    dns.gate.clear()
    waiting = [asyncio.ensure_future(names.address(AppRef(f"app-{n}"))) for n in range(256)]
    await asyncio.sleep(0.01)
    with pytest.raises(ResolveError, match="256 other names"):
        await names.address(ORDERS)
    dns.gate.set()
    assert set(await asyncio.gather(*waiting)) == {"10.0.0.1:50002"}


async def test_addresses_need_no_lookup(dns):
    """A resolver that says an address costs no lookup; one that says no port is told of."""
    for template, expected in (("10.1.2.3:{{.Port}}", "10.1.2.3:7"), ("[::1]:9", "[::1]:9")):
        resolver = make_resolver({"component": "kubernetes", "configuration": {"template": template}}, port=7)
        assert resolver is not None
        assert await PeerNames(resolver, lookup=dns).address(ORDERS) == expected
    resolver = make_resolver({"component": "nameformat", "configuration": {"format": "{appid}"}}, port=7)
    assert resolver is not None
    with pytest.raises(ResolveError, match="not host:port"):
        await PeerNames(resolver, lookup=dns).address(ORDERS)
    assert dns.asked == []
