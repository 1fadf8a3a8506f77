from __future__ import annotations

import asyncio

import pytest

from dapr_shared.kube import lease as lease_module
from dapr_shared.kube.lease import LeaseHolder
from dapr_shared.kube.objects import LEASES
from tests.support.fake_clock import FakeClock
from tests.support.fake_kube import refused


class Turned:
    """A holder of the test lease whose looks and clock the test turns by hand."""

    def __init__(self, client, identity: str) -> None:
        self.clock = FakeClock()
        self.clock.advance(1000)
        self.changes: list[bool] = []
        self.holder = LeaseHolder(
            client, "status", "shop", identity, clock=self.clock.monotonic, changed=self._changed
        )  # fmt: skip

    def _changed(self) -> None:
        self.changes.append(self.holder.held)

    async def look(self, after: float = 2.0) -> bool:
        self.clock.advance(after)
        await self.holder._try()
        return self.holder.held


@pytest.fixture
def leases(server):
    server.install(LEASES)
    return server


@pytest.fixture
def pair(leases, client):
    """Two instances."""
    return Turned(client, "one"), Turned(client, "two")


def _lease(server) -> dict:
    return server.objects[LEASES.resource, "shop", "status"]


async def test_the_first_takes_it(leases, pair):
    """The first instance makes the lease, with client-go's fields; the second does not get it while it is renewed."""
    one, two = pair
    assert await one.look()
    assert not await two.look()
    for _ in range(20):
        assert await one.look()
        assert not await two.look()
    spec = _lease(leases)["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("one", 15, 0)
    assert len(spec["renewTime"]) == len("2026-01-01T00:00:00.000000Z")
    assert two.holder.holder == "one"


async def test_taken_over(leases, pair):
    """When the holder is gone the other takes the lease after having itself seen no renewal for its whole duration."""
    one, two = pair
    await one.look()
    assert not await two.look()
    assert not await two.look(14.9)
    assert await two.look(0.1)
    assert _lease(leases)["spec"]["leaseTransitions"] == 1


async def test_clocks_that_disagree(leases, pair):
    """What the holder's clock says is compared with nothing: a renewal that says it is hours old or ahead is a renewal."""
    one, two = pair
    await one.look()
    await two.look()
    for renewed in ("2001-01-01T00:00:00.000000Z", "2091-01-01T00:00:00.000000Z", "2001-01-01T00:00:00.000000Z"):
        two.clock.advance(14)
        item = _lease(leases)
        item["spec"]["renewTime"] = renewed
        assert not await two.look(0)
    assert await two.look(15)


async def test_a_longer_duration_is_respected(leases, pair):
    """A holder that says that it needs longer is waited for."""
    one, two = pair
    await one.look()
    _lease(leases)["spec"]["leaseDurationSeconds"] = 60
    assert not await two.look()
    assert not await two.look(59)
    assert await two.look(1)


async def test_held_ends_by_itself(leases, pair):
    """A holder that could not renew in time is none any more, before any other takes over, without any call."""
    one, _two = pair
    await one.look()
    one.clock.advance(9.9)
    assert one.holder.held
    one.clock.advance(0.2)
    assert not one.holder.held


async def test_time_counts_from_before_the_request(leases, pair):
    """A renewal counts from before it was asked for, however long the answer takes."""
    one, two = pair
    await one.look()

    def slowly(_request):
        one.clock.advance(8)

    leases.refuse = slowly
    await one.look()
    assert one.holder.held
    one.clock.advance(2.1)
    assert not one.holder.held
    assert two.changes == []


async def test_both_at_once(leases, pair):
    """Of two that take a free lease at the same moment one gets it."""
    one, two = pair
    await one.look()
    await two.look()
    _lease(leases)["spec"]["holderIdentity"] = ""
    await asyncio.gather(one.look(11), two.look(11), return_exceptions=True)
    assert sorted([one.holder.held, two.holder.held]) == [False, True]


async def test_found_with_another_holder(leases, pair):
    """A holder that finds another one in its lease is none any more at once."""
    one, _two = pair
    await one.look()
    _lease(leases)["spec"]["holderIdentity"] = "two"
    one.holder._lease = None
    assert not await one.look(1)


@pytest.fixture
def quick(monkeypatch):
    """Seconds become hundredths."""
    monkeypatch.setattr(lease_module, "LEASE_DURATION", 0.15)
    monkeypatch.setattr(lease_module, "RENEW_DEADLINE", 0.1)
    monkeypatch.setattr(lease_module, "RETRY_PERIOD", 0.02)


async def _until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def _end(task: asyncio.Task) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_run_gives_it_back(leases, client, quick):
    """An instance that ends gives the lease back, and another has it soon."""
    changes = []
    one = LeaseHolder(client, "status", "shop", "one", changed=lambda: changes.append(one.held))
    two = LeaseHolder(client, "status", "shop", "two")
    task = asyncio.create_task(one.run())
    await _until(lambda: one.held)
    other = asyncio.create_task(two.run())
    await _end(task)
    assert not one.held
    assert changes == [True, False]
    await _until(lambda: two.held)
    await _end(other)
    assert _lease(leases)["spec"]["holderIdentity"] == ""


async def test_run_without_server(leases, client, quick):
    """While the API server is away the lease is lost and the problem is known; both end when it is back."""
    one = LeaseHolder(client, "status", "shop", "one")
    task = asyncio.create_task(one.run())
    await _until(lambda: one.held)
    await leases.down()
    await _until(lambda: not one.held)
    assert "cannot be reached" in one.problem
    await leases.up()
    await _until(lambda: one.held)
    assert one.problem == ""
    await _end(task)


async def test_run_with_a_server_that_hangs(leases, client, quick):
    """A server that does not answer costs the lease in time, and is told."""
    changes = []
    one = LeaseHolder(client, "status", "shop", "one", changed=lambda: changes.append(one.held))
    task = asyncio.create_task(one.run())
    await _until(lambda: one.held)
    silent = asyncio.Event()

    async def hang(_request):
        await silent.wait()
        return refused(503, "", "")

    leases.refuse = hang
    await _until(lambda: changes == [True, False])
    assert "did not answer in time" in one.problem
    silent.set()
    leases.refuse = lambda _request: None
    await _until(lambda: one.held)
    await _end(task)


async def test_run_with_a_lease_that_is_deleted(leases, client, quick):
    """A lease that somebody deletes is made again."""
    one = LeaseHolder(client, "status", "shop", "one")
    task = asyncio.create_task(one.run())
    await _until(lambda: one.held)
    leases.remove(LEASES, "status")
    await _until(lambda: (LEASES.resource, "shop", "status") in leases.objects and one.held)
    await _end(task)


async def test_run_forbidden(leases, client, quick):
    """What RBAC does not allow is told in words, once, and so is that it is allowed again."""
    said = 'leases is forbidden: User "system:serviceaccount:shop:dapr" cannot get resource "leases" in API group "x"'
    leases.refuse = lambda _request: refused(403, "Forbidden", said)
    told: list[str] = []
    one = LeaseHolder(client, "status", "shop", "one", told=told.append)
    task = asyncio.create_task(one.run())
    await _until(lambda: one.problem)
    assert (
        "the service account shop/dapr needs the verb get on leases.coordination.k8s.io in namespace shop"
        in one.problem
    )
    assert not one.held
    leases.refuse = lambda _request: None
    await _until(lambda: one.held)
    await _end(task)
    assert [bool(text) for text in told] == [True, False]
