from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from dapr_shared.kube.errors import Forbidden
from dapr_shared.kube.objects import custom
from dapr_shared.kubernetes import status as status_module
from dapr_shared.kubernetes.status import AppReport, StatusWriter, SubscriptionReport, status_of, turns
from tests.support.fake_clock import FakeClock
from tests.support.fake_kube import FakeKube, refused

APPS = custom("shared.dapr.io", "v1alpha1", "apps", "App")
READY = AppReport(
    ready=True,
    reason="Reachable",
    message="the app accepts connections",
    address="http://tea.shop.svc:8080",
    subscriptions=(SubscriptionReport("broker", "orders", "active"), SubscriptionReport("broker", "stock", "paused")),
)
AWAY = READY._replace(ready=False, reason="NotReachable", message="the app does not accept connections")
REFUSED = AppReport(problem="spec.channel.port: 0 is no port (it is left out)")
NOW = "2026-01-01T00:00:00Z"


def app(status=None, generation: int = 1) -> dict:
    metadata = {"name": "tea", "namespace": "shop", "uid": "u", "generation": generation}
    return {"metadata": metadata, **({"status": status} if status else {})}


def test_a_status():
    """A status has what the printer columns and `kubectl wait --for=condition=Ready` read."""
    assert status_of(READY, app(generation=3), NOW) == {
        "appId": "tea",
        "ready": True,
        "lastError": "",
        "address": "http://tea.shop.svc:8080",
        "subscriptionCount": 2,
        "subscriptions": [
            {"pubsub": "broker", "topic": "orders", "state": "active"},
            {"pubsub": "broker", "topic": "stock", "state": "paused"},
        ],
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "lastTransitionTime": NOW, "observedGeneration": 3,
            },
            {
                "type": "Ready", "status": "True", "reason": "Reachable", "message": "the app accepts connections",
                "lastTransitionTime": NOW, "observedGeneration": 3,
            },
        ],
    }  # fmt: skip


def test_the_app_id():
    """The app id is the one that counts: that of `spec`, else the name."""
    for spec, app_id in (({"appId": "orders"}, "orders"), ({}, "tea"), (None, "tea")):
        assert status_of(READY, {**app(), "spec": spec}, NOW)["appId"] == app_id


def test_a_condition_keeps_its_time():
    """A condition has the time at which it turned, not that at which it was written."""
    first = status_of(READY, app(), NOW)
    second = status_of(AWAY, app(first), "2026-01-02T00:00:00Z")
    assert [each["lastTransitionTime"] for each in second["conditions"]] == [NOW, "2026-01-02T00:00:00Z"]
    assert status_of(AWAY, app(second), "2026-01-03T00:00:00Z") == second


def test_errors():
    """The last error is what is wrong now: a refusal, else a subscription that has failed; an app that is away is not wrong."""
    failed = (SubscriptionReport("broker", "orders", "failed", "no such topic"),)
    assert status_of(REFUSED, app(), NOW)["lastError"] == REFUSED.problem
    assert status_of(READY._replace(subscriptions=failed), app(), NOW)["lastError"] == "broker/orders: no such topic"
    assert status_of(AWAY, app(), NOW)["lastError"] == ""


def test_bounds():
    """Many subscriptions are counted and a hundred listed; a long text is cut."""
    many = tuple(SubscriptionReport("broker", f"t{number}", "active") for number in range(500))
    status = status_of(READY._replace(subscriptions=many, problem="x" * 5000), app(), NOW)
    assert (status["subscriptionCount"], len(status["subscriptions"])) == (500, 100)
    assert len(status["lastError"]) == 1024
    assert all(len(condition["message"]) <= 1024 for condition in status["conditions"])


def said(before: AppReport | None, after: AppReport) -> list[tuple[str, str]]:
    item = app(status_of(before, app(), NOW)) if before else app()
    return [(turn.type, turn.reason) for turn in turns(item, status_of(after, item, NOW))]


def test_turns():
    """Events tell what turns: accepted, refused, ready, not ready, a subscription that fails; never what stays."""
    failed = READY._replace(subscriptions=(SubscriptionReport("broker", "orders", "failed", "no such topic"),))
    assert said(None, READY) == [("Normal", "Accepted"), ("Normal", "Ready")]
    assert said(None, AWAY) == [("Normal", "Accepted")]
    assert said(READY, READY) == []
    assert said(READY, AWAY) == [("Normal", "NotReady")]
    assert said(AWAY, READY) == [("Normal", "Ready")]
    assert said(AWAY, REFUSED) == [("Warning", "Refused")]
    assert said(REFUSED, REFUSED._replace(problem="another")) == [("Warning", "Refused")]
    assert said(REFUSED, AWAY) == [("Normal", "Accepted")]
    assert said(READY, failed) == [("Warning", "SubscriptionFailed")]
    assert said(failed, failed) == []


@pytest.fixture
async def cluster(monkeypatch):
    """A writer of one instance, the server it writes to, and what both may be told."""
    monkeypatch.setattr(status_module, "WRITES_PER_SECOND", 1000.0)
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        client = await server.client(stack)
        made = SimpleNamespace(server=server, held=True, reports={}, turned=[], failed=[], clock=FakeClock())

        def apps() -> list[dict]:
            return [item for (kind, *_), item in server.objects.items() if kind == APPS.resource]

        async def report(item: dict) -> AppReport:
            return made.reports.get(item["metadata"]["name"], AWAY)

        made.writer = StatusWriter(
            client,
            APPS,
            lambda: made.seen if hasattr(made, "seen") else apps(),
            report,
            holder=lambda: made.held,
            turned=lambda item, turn: made.turned.append((item["metadata"]["name"], turn.reason)),
            failed=made.failed.append,
            clock=made.clock,
        )
        made.status = lambda name: server.objects[APPS.resource, "shop", name].get("status")
        made.writes = lambda: server.counted("PATCH", "apps")
        yield made


async def test_the_holder_writes(cluster):
    """The holder writes each status once, and says what turned; again only when something differs."""
    for name in ("coffee", "tea"):
        cluster.server.put(APPS, name)
    cluster.reports["tea"] = READY
    await cluster.writer.look()
    assert (cluster.status("tea")["ready"], cluster.status("coffee")["ready"]) == (True, False)
    assert cluster.turned == [("coffee", "Accepted"), ("tea", "Accepted"), ("tea", "Ready")]
    assert cluster.server.requests[-1][1].endswith("/apps/tea/status")
    await cluster.writer.look()
    assert cluster.writes() == 2
    cluster.clock.advance(60)
    await cluster.writer.look()
    assert cluster.writes() == 2


async def test_another_instance_writes_nothing(cluster):
    """An instance that does not hold the lease writes nothing; a new holder repeats nothing that stands there."""
    cluster.server.put(APPS, "tea")
    cluster.held = False
    await cluster.writer.look()
    assert cluster.server.requests == []
    cluster.server.put(APPS, "tea", status=status_of(AWAY, app(generation=0), NOW))
    cluster.held = True
    await cluster.writer.look()
    assert (cluster.server.requests, cluster.turned) == ([], [])


async def test_an_app_that_comes_and_goes(cluster):
    """An app that comes and goes all the time costs one write in ten seconds, and its last state is written."""
    cluster.server.put(APPS, "tea")
    for number in range(20):
        cluster.reports["tea"] = READY if number % 2 else AWAY
        await cluster.writer.look()
        cluster.clock.advance(1)
    assert cluster.writes() <= 3
    cluster.clock.advance(10)
    await cluster.writer.look()
    assert cluster.status("tea")["ready"] is True


async def test_before_the_watch_has_told(cluster):
    """What was written is not written again while the watch has not told of it yet; a lost write is, after a while."""
    cluster.seen = [cluster.server.put(APPS, "tea") | {}]
    await cluster.writer.look()
    cluster.clock.advance(12)
    await cluster.writer.look()
    assert cluster.writes() == 1
    cluster.clock.advance(30)
    await cluster.writer.look()
    assert cluster.writes() == 2


async def test_an_app_made_anew(cluster):
    """The status of an App that was deleted is not written to another of its name."""
    old = cluster.server.put(APPS, "tea", metadata={"uid": "old"})
    cluster.seen = [{**old, "metadata": dict(old["metadata"])}]
    cluster.server.remove(APPS, "tea")
    await cluster.writer.look()
    cluster.server.put(APPS, "tea", metadata={"uid": "new"})
    await cluster.writer.look()
    assert cluster.status("tea") is None
    assert cluster.turned == []


async def test_one_namespace_refuses(cluster):
    """Where RBAC refuses in one namespace, it is asked once there, and the Apps of others have their status."""
    said = 'apps is forbidden: User "u" cannot patch resource "apps/status" in API group "x"'
    for namespace in ("bar", "shop"):
        for name in ("coffee", "tea"):
            cluster.server.put(APPS, name, namespace)
    cluster.server.refuse = lambda request: refused(403, "Forbidden", said) if "/bar/" in request.path else None
    with pytest.raises(Forbidden, match="in namespace bar"):
        await cluster.writer.look()
    assert cluster.status("tea") is not None
    assert cluster.status("coffee") is not None
    assert sum("/bar/" in path for _verb, path, _query in cluster.server.requests) == 1


async def test_refused_and_away(cluster, monkeypatch):
    """What cannot be written is told once and tried again; that it can be written again is told too."""
    monkeypatch.setattr(status_module, "QUIET", 0.001)
    monkeypatch.setattr(status_module, "LOOK", 0.005)
    monkeypatch.setattr(status_module, "REFUSED_PAUSE", 0.005)
    said = (
        'apps is forbidden: User "system:serviceaccount:shop:dapr" cannot patch resource "apps/status" in API group "x"'
    )
    cluster.server.put(APPS, "tea")
    cluster.server.refuse = lambda _request: refused(403, "Forbidden", said)
    with pytest.raises(Forbidden):
        await cluster.writer.look()
    task = asyncio.create_task(cluster.writer.run())
    try:
        async with asyncio.timeout(5):
            while len(cluster.server.requests) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            (problem,) = cluster.failed
            assert "the service account shop/dapr needs the verb patch on apps.shared.dapr.io/status" in problem
            cluster.server.refuse = lambda _request: None
            while cluster.status("tea") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            cluster.reports["tea"] = READY
            cluster.clock.advance(20)
            cluster.writer.kick()
            while not cluster.status("tea")["ready"]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert cluster.failed == [problem, ""]
    finally:
        task.cancel()
        await asyncio.wait([task])
