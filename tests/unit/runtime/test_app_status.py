from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.kube.objects import EVENTS, LEASES, SERVICES
from dapr_shared.kubernetes import status as status_module
from dapr_shared.kubernetes import status_leases, status_parts
from dapr_shared.kubernetes.discovery import origin_of
from dapr_shared.kubernetes.resources import APPS
from dapr_shared.kubernetes.status import SubscriptionReport
from dapr_shared.kubernetes.status_leases import ANNOTATION, Place
from dapr_shared.kubernetes.status_parts import AppPart, decode, encode
from dapr_shared.runtime.app_status import AppStatus, lease_name
from dapr_shared.runtime.refusals import APPLYING, Refusal, Refusals
from tests.support.fake_kube import FakeKube, refused


class Told:
    """Named events, as a list."""

    def __init__(self) -> None:
        self.lines: list[tuple] = []

    def __getattr__(self, name: str):
        return lambda *values, **named: self.lines.append((name, *values, *named.values()))


@pytest.fixture
async def told(monkeypatch):
    """An instance in the cluster of the test: its apps, its refusals, and the API server it tells."""
    monkeypatch.setattr(status_module, "QUIET", 0.005)
    monkeypatch.setattr(status_module, "LOOK", 0.02)
    monkeypatch.setattr(status_module, "APP_INTERVAL", 0.0)
    monkeypatch.setattr(status_leases, "LOOK", 0.02)
    monkeypatch.setattr(status_module, "WRITES_PER_SECOND", 1000.0)
    monkeypatch.setenv("POD_NAME", "instance-0")
    monkeypatch.setenv("NAMESPACE", "release")
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        server.install(LEASES, EVENTS, APPS, SERVICES)
        client = await server.client(stack)
        events = Told()
        made = SimpleNamespace(
            server=server,
            events=events,
            refusals=Refusals(events),
            records={},
            channels={},
            reachable={},
            subscriptions={},
        )

        async def subscriptions(ref, *, count):
            assert not count, "brokers are not asked for how many messages wait"
            return made.subscriptions.get(ref.app_id, [])

        parts = SimpleNamespace(
            apps=SimpleNamespace(apps=lambda: list(made.records.values())),
            channels=SimpleNamespace(get=lambda ref: made.channels.get(ref.app_id)),
            watch=SimpleNamespace(reachable=lambda ref: made.reachable.get(ref.app_id)),
            subscriptions=SimpleNamespace(status=subscriptions),
        )

        def objects(kind):
            given = {"apiVersion": kind.api_version, "kind": kind.kind}
            return [{**item, **given} for (name, *_), item in server.objects.items() if name == kind.resource]

        kinds = {"App": APPS, "Service": SERVICES}
        sources = SimpleNamespace(
            client=client,
            app_objects=lambda: objects(APPS),
            object_at=lambda kind, origin: (
                next((data for data in objects(kinds[kind]) if origin_of(kind, data) == origin), None)
                if kind in kinds
                else None
            ),
        )
        settings = SimpleNamespace(watch_namespaces=())

        def serve(name: str, *, reachable: bool | None = None, healthy: bool = True, channel: bool = True) -> None:
            data = server.put(APPS, name, metadata={"generation": 1})
            ref = AppRef(name, "shop")
            made.records[name] = SimpleNamespace(ref=ref, app=SimpleNamespace(origin=origin_of("App", data)))
            if channel:
                properties = SimpleNamespace(protocol="http", where=f"{name}.shop.svc:80")
                made.channels[name] = SimpleNamespace(properties=properties, healthy=healthy)
                made.reachable[name] = reachable

        made.serve = serve
        made.status = lambda name: server.objects[APPS.resource, "shop", name].get("status") or {}
        made.written = lambda: [
            (item["involvedObject"]["name"], item["reason"])
            for (kind, *_), item in server.objects.items()
            if kind == "events"
        ]
        made.work = AppStatus(parts, sources, made.refusals, settings, events)
        tasks: list[asyncio.Task] = []
        made.begin = lambda: tasks.append(asyncio.create_task(made.work.run()))
        yield made
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def ready(told, name: str) -> tuple[bool | None, str]:
    """Whether the App is ready, and the reason."""
    status = told.status(name)
    return status.get("ready"), next(
        (each["reason"] for each in status.get("conditions", []) if each["type"] == "Ready"), ""
    )


async def test_what_is_told(told):
    """An App's status says whether and where its app can be called, and why not."""
    told.begin()
    told.serve("there", reachable=True)
    told.serve("away", reachable=False)
    told.serve("ill", reachable=True, healthy=False)
    told.serve("new")
    told.serve("silent", channel=False)
    await until(lambda: all(told.status(name) for name in told.records))
    assert {name: ready(told, name) for name in told.records} == {
        "there": (True, "Reachable"),
        "away": (False, "NotReachable"),
        "ill": (False, "Unhealthy"),
        "new": (False, "Unknown"),
        "silent": (True, "NoChannel"),
    }
    assert told.status("there")["address"] == "http://there.shop.svc:80"
    assert told.status("silent")["address"] == ""
    told.reachable["away"] = True
    await until(lambda: ready(told, "away") == (True, "Reachable"))


async def test_subscriptions(told):
    """Subscriptions are told each once, whatever their number of streams, with the problem of one that has failed."""
    told.begin()
    row = {"pubsub": "broker", "topic": "orders", "reason": "the app is away", "kind": "STREAMING"}
    told.subscriptions["tea"] = [
        SimpleNamespace(**row, state="paused"),
        SimpleNamespace(**row, state="paused"),
        SimpleNamespace(pubsub="broker", topic="stock", state="failed", reason="no such topic", kind="DECLARATIVE"),
    ]
    told.serve("tea", reachable=True)
    await until(lambda: told.status("tea"))
    assert told.status("tea")["subscriptions"] == [
        {"pubsub": "broker", "topic": "orders", "state": "paused"},
        {"pubsub": "broker", "topic": "stock", "state": "failed"},
    ]
    assert told.status("tea")["lastError"] == "broker/stock: no such topic"


async def test_an_app_that_is_refused(told):
    """An App that is refused says why; one that was not looked at yet says nothing."""
    told.begin()
    data = told.server.put(APPS, "bad")
    told.server.put(APPS, "unread")
    told.refusals.replace(APPLYING, [Refusal("App", origin_of("App", data), "there is no Configuration 'x'")])
    await until(lambda: told.status("bad"))
    assert told.status("bad")["lastError"] == "there is no Configuration 'x' (it is left out)"
    assert ready(told, "bad") == (False, "Refused")
    assert told.status("unread") == {}
    await until(lambda: ("bad", "Refused") in told.written())


async def test_events_of_other_objects(told):
    """A Service that loses has an Event, and one more when it is mended; what stands in a file has none."""
    told.begin()
    data = told.server.put(SERVICES, "tea")
    loses = Refusal("Service", origin_of("Service", data), "the app shop/tea is described already by App shop/tea")
    told.refusals.replace(APPLYING, [loses, Refusal("File", origin_of("File", data), "no YAML")])
    await until(lambda: told.written() == [("tea", "Refused")])
    told.refusals.replace(APPLYING, [])
    await until(lambda: told.written() == [("tea", "Refused"), ("tea", "Accepted")])


async def test_one_of_many_instances(told):
    """The instance that holds the lease tells, named by its pod; it is known, and the lease is free at its end."""
    told.begin()
    told.serve("tea", reachable=True)
    await until(lambda: told.status("tea"))
    lease = told.server.objects[LEASES.resource, "release", "dapr-shared-status"]
    assert lease["spec"]["holderIdentity"].startswith("instance-0_")
    assert ("status_holder", True) in told.events.lines


async def test_what_another_instance_knows(told):
    """The holder's status says what others know too; what this one alone knows stands in its Lease, what all know does not."""
    text, _ = encode(
        {("shop", "tea"): AppPart(reached=True, subscriptions=(SubscriptionReport("broker", "beans", "active"),))}
    )
    place = Place("dapr-shared-status", "release", "instance-1")
    metadata = {**place.metadata(), "annotations": {ANNOTATION: text}}
    now = datetime.now(UTC).isoformat()
    told.server.put(
        LEASES, place.name, "release", metadata=metadata, spec={"holderIdentity": "instance-1", "renewTime": now}
    )
    row = {"pubsub": "broker", "reason": ""}
    told.subscriptions["tea"] = [
        SimpleNamespace(**row, topic="orders", state="paused", kind="STREAMING"),
        SimpleNamespace(**row, topic="stock", state="paused", kind="DECLARATIVE"),
    ]
    told.serve("tea", reachable=False)
    told.serve("here", reachable=True)
    told.begin()
    await until(lambda: told.status("tea") and told.status("here"))
    assert ready(told, "tea") == (True, "Reachable")
    assert [each["topic"] for each in told.status("tea")["subscriptions"]] == ["beans", "orders", "stock"]

    def own() -> dict:
        lease = told.server.objects.get((LEASES.resource, "release", "dapr-shared-status.instance-0"))
        return decode(lease["metadata"]["annotations"][ANNOTATION]) if lease else {}

    await until(own)
    assert own() == {
        ("shop", "here"): AppPart(reached=True),
        ("shop", "tea"): AppPart(subscriptions=(SubscriptionReport("broker", "orders", "paused"),)),
    }


async def test_more_than_there_is_room_for(told, monkeypatch):
    """Where a part has no room for all apps, it says so once, with how many are left out."""
    monkeypatch.setattr(status_parts, "MOST_BYTES", 100)
    monkeypatch.setattr(status_parts.encode, "__defaults__", (100,))
    for number in range(20):
        told.serve(f"app-{number}", reachable=True)
    told.begin()
    await until(lambda: any(line[0] == "status_part_cut" for line in told.events.lines))
    ((_, more, apps),) = [line for line in told.events.lines if line[0] == "status_part_cut"]
    assert apps == 20 > more > 10


async def test_another_instance_holds_it(told):
    """While another instance holds the lease, nothing is told."""
    spec = {"holderIdentity": "instance-1", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    told.server.put(LEASES, "dapr-shared-status", "release", spec=spec)
    told.serve("tea", reachable=True)
    told.begin()
    await until(lambda: told.work.lease.holder == "instance-1")
    data = told.server.put(SERVICES, "x")
    told.refusals.replace(APPLYING, [Refusal("Service", origin_of("Service", data), "no")])
    await asyncio.sleep(0.2)
    assert (told.status("tea"), told.written()) == ({}, [])


async def test_a_server_that_refuses(told):
    """What may not be written is told once and ends nothing."""
    told.begin()
    said = (
        'x is forbidden: User "system:serviceaccount:release:dapr" cannot patch resource "apps/status" in API group "x"'
    )
    told.server.refuse = lambda request: refused(403, "Forbidden", said) if request.method == "PATCH" else None
    told.serve("tea", reachable=True)
    await until(lambda: any(line[:2] == ("cluster_write_failed", "status") for line in told.events.lines))
    told.server.refuse = lambda _request: None


def test_lease_names():
    """Instances that serve the same namespaces share a lease, whatever the order; others have another."""
    assert lease_name(()) == "dapr-shared-status"
    assert lease_name(("a", "b")) == lease_name(("b", "a")) != lease_name(("a",))
