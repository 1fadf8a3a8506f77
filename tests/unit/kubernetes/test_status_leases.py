from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from dapr_shared.kube import informer as informer_module
from dapr_shared.kube.errors import Forbidden, KubeError
from dapr_shared.kube.objects import LEASES
from dapr_shared.kubernetes import status_leases
from dapr_shared.kubernetes.status_leases import ANNOTATION, LABEL, RENEWAL, STALE, PartReader, PartWriter, Place
from dapr_shared.kubernetes.status_parts import AppPart, encode
from tests.support.fake_clock import FakeClock
from tests.support.fake_kube import FakeKube, refused

TEA = ("shop", "tea")
REACHED, _ = encode({TEA: AppPart(reached=True)})
STREAMS, _ = encode({TEA: AppPart(error="no such topic")})
FORBIDDEN = 'leases.coordination.k8s.io is forbidden: User "system:serviceaccount:shop:dapr" cannot list resource "leases" in API group "coordination.k8s.io" in the namespace "shop"'


def place(pod: str) -> Place:
    return Place("dapr-shared-status", "shop", pod, f"uid-of-{pod}", "my")


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.fixture
async def cluster(monkeypatch):
    """A server; writers and a reader of instances; a clock for all of them."""
    monkeypatch.setattr(informer_module, "PAUSES", (0.005, 0.05))
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        server.install(LEASES)
        client = await server.client(stack)
        made = SimpleNamespace(server=server, client=client, clock=FakeClock(), texts={}, failed=[], known=0, tasks=[])

        async def text(pod: str) -> str:
            return made.texts.get(pod, "")

        def writer(pod: str) -> PartWriter:
            return PartWriter(client, place(pod), lambda: text(pod), failed=made.failed.append, clock=made.clock)

        def came() -> None:
            made.known += 1

        made.writer = writer
        made.reader = PartReader(client, place("pod-a"), known=came, failed=made.failed.append, clock=made.clock)
        made.begin = lambda work: made.tasks.append(asyncio.create_task(work.run())) or made.tasks[-1]
        made.lease = lambda pod: server.objects[LEASES.resource, "shop", f"dapr-shared-status.{pod}"]
        made.writes = lambda: server.counted("POST", "leases") + server.counted("PUT", "leases")
        yield made
        for task in made.tasks:
            task.cancel()
            await asyncio.wait([task])


async def end(task: asyncio.Task) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_lease_of_its_own(cluster):
    """An instance that has something to tell makes a Lease with its labels, its part, and the pod as its owner."""
    writer = cluster.writer("pod-b")
    await writer.look()
    assert cluster.server.requests == [], "who has nothing to tell asks nothing"
    cluster.texts["pod-b"] = REACHED
    await writer.look()
    lease = cluster.lease("pod-b")
    assert lease["metadata"]["annotations"] == {ANNOTATION: REACHED}
    assert lease["metadata"]["labels"] == {
        LABEL: "dapr-shared-status",
        "app.kubernetes.io/component": "app-status",
        "shared.dapr.io/instance": "my",
    }
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "pod-b", "uid": "uid-of-pod-b"}
    assert lease["metadata"]["ownerReferences"] == [owner]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["renewTime"]) == ("pod-b", "2026-01-01T00:00:00.000000Z")


async def test_written_rarely(cluster):
    """A part that stays is renewed in two minutes; one that changes all the time is written once in some seconds."""
    writer = cluster.writer("pod-b")
    cluster.texts["pod-b"] = REACHED
    for _ in range(60):
        await writer.look()
        cluster.clock.advance(10)
    assert cluster.writes() == 600 / RENEWAL
    before = cluster.writes()
    for number in range(600):
        cluster.texts["pod-b"] = STREAMS if number % 2 else REACHED
        await writer.look()
        cluster.clock.advance(1)
    assert 50 <= cluster.writes() - before <= 80
    cluster.clock.advance(10)
    await writer.look()
    assert cluster.lease("pod-b")["metadata"]["annotations"][ANNOTATION] == STREAMS, "the last state is written"
    long, _ = encode({("shop", f"app-{number}"): AppPart(reached=True) for number in range(4000)})
    before = cluster.writes()
    for number in range(600):
        cluster.texts["pod-b"] = long + " " * (number % 2)
        await writer.look()
        cluster.clock.advance(1)
    assert cluster.writes() - before <= 1 + 600 * status_leases.BYTES_PER_SECOND / len(long) + 1


async def test_nothing_more_to_tell(cluster):
    """A part that ends is taken back, and is not renewed."""
    writer = cluster.writer("pod-b")
    cluster.texts["pod-b"] = REACHED
    await writer.look()
    cluster.texts["pod-b"] = ""
    cluster.clock.advance(10)
    await writer.look()
    assert cluster.lease("pod-b")["metadata"]["annotations"] == {ANNOTATION: ""}
    writes = cluster.writes()
    cluster.clock.advance(1000)
    await writer.look()
    assert cluster.writes() == writes


async def test_a_lease_that_is_there_or_gone(cluster):
    """A Lease that a former process left is taken over; one that somebody changed or removed is written again."""
    cluster.server.put(LEASES, "dapr-shared-status.pod-b", metadata={"annotations": {"other": "x"}}, spec={})
    writer = cluster.writer("pod-b")
    cluster.texts["pod-b"] = REACHED
    await writer.look()
    assert cluster.lease("pod-b")["metadata"]["annotations"] == {"other": "x", ANNOTATION: REACHED}
    cluster.server.put(LEASES, "dapr-shared-status.pod-b", spec={})
    cluster.clock.advance(RENEWAL)
    await writer.look()
    assert cluster.lease("pod-b")["metadata"]["annotations"] == {ANNOTATION: REACHED}
    cluster.server.remove(LEASES, "dapr-shared-status.pod-b")
    cluster.clock.advance(RENEWAL)
    await writer.look()
    assert cluster.lease("pod-b")["metadata"]["ownerReferences"]


async def test_what_may_not_be_written(cluster, monkeypatch):
    """What the server refuses is told once, tried again, and ends nothing; at the end the part is taken back."""
    monkeypatch.setattr(status_leases, "LOOK", 0.005)
    monkeypatch.setattr(status_leases, "REFUSED_PAUSE", 0.005)
    cluster.server.refuse = lambda _request: refused(403, "Forbidden", FORBIDDEN)
    cluster.texts["pod-b"] = REACHED
    writer = cluster.writer("pod-b")
    with pytest.raises(Forbidden):
        await writer.look()
    task = cluster.begin(writer)
    await until(lambda: len(cluster.server.requests) > 4)
    assert len(cluster.failed) == 1
    cluster.server.refuse = lambda _request: None
    await until(lambda: len(cluster.failed) == 2)
    assert cluster.failed[1] == "", "that it works again is told, too"
    await end(task)
    assert cluster.lease("pod-b")["metadata"]["annotations"] == {ANNOTATION: ""}
    assert cluster.lease("pod-b")["spec"]["holderIdentity"] == ""


async def test_an_end_without_a_server(cluster):
    """An instance whose API server is away ends all the same."""
    cluster.texts["pod-b"] = REACHED
    writer = cluster.writer("pod-b")
    task = cluster.begin(writer)
    await until(lambda: cluster.server.objects)
    cluster.server.refuse = lambda _request: refused(500, "InternalError", "no")
    await end(task)
    assert task.cancelled()
    with pytest.raises(KubeError):
        await writer._write("")


async def test_the_holder_knows_the_parts(cluster):
    """The holder knows the parts of others as they change, not its own and not those of other leases; others watch nothing."""
    for pod in ("pod-a", "pod-b"):
        cluster.texts[pod] = REACHED
        await cluster.writer(pod).look()
    other = {"labels": {LABEL: "dapr-shared-status-0a1b2c3d"}, "annotations": {ANNOTATION: REACHED}}
    cluster.server.put(LEASES, "dapr-shared-status-0a1b2c3d.pod-z", metadata=other, spec={"holderIdentity": "pod-z"})
    cluster.server.put(LEASES, "dapr-shared-status", spec={"holderIdentity": "pod-a_x"})
    reader, before = cluster.reader, len(cluster.server.requests)
    cluster.begin(reader)
    await asyncio.sleep(0.02)
    assert (len(cluster.server.requests), reader.settled) == (before, False)
    reader.hold(held=True)
    await until(lambda: reader.settled)
    assert cluster.known
    reader.refresh()
    assert reader.of(TEA) == [("pod-b", AppPart(reached=True))]
    await until(lambda: cluster.server.watches == 1)
    cluster.texts["pod-c"] = STREAMS
    await cluster.writer("pod-c").look()

    def known() -> list[str]:
        reader.refresh()
        return [pod for pod, _ in reader.of(TEA)]

    await until(lambda: known() == ["pod-b", "pod-c"])
    cluster.server.remove(LEASES, "dapr-shared-status.pod-b")
    await until(lambda: known() == ["pod-c"])
    reader.hold(held=False)
    await until(lambda: not reader.settled)
    assert known() == []
    cluster.server.bookmark(LEASES)  # the server sees that nobody listens
    await until(lambda: cluster.server.watches == 0)
    reader.hold(held=True)
    await until(lambda: reader.settled)
    assert known() == ["pod-c"]


async def test_a_part_that_is_not_renewed(cluster):
    """A part whose instance has not renewed it for long counts no more, and counts again when it is renewed."""
    writer = cluster.writer("pod-b")
    cluster.texts["pod-b"] = REACHED
    await writer.look()
    reader = cluster.reader
    cluster.begin(reader)
    reader.hold(held=True)
    await until(lambda: reader.settled)
    await until(lambda: cluster.server.watches == 1)
    reader.refresh()
    cluster.clock.advance(STALE - 1)
    reader.refresh()
    assert reader.of(TEA)
    cluster.clock.advance(1)
    reader.refresh()
    assert reader.of(TEA) == []
    lease = cluster.lease("pod-b")
    metadata = {**lease["metadata"], "annotations": {ANNOTATION: STREAMS}}
    cluster.server.put(LEASES, metadata["name"], metadata=metadata, spec=lease["spec"])
    changed = cluster.lease("pod-b")["metadata"]["resourceVersion"]
    await until(lambda: reader._known[metadata["name"]].version == changed)
    reader.refresh()
    assert reader.of(TEA) == [], "a change that is no renewal is no sign of life"
    await writer.look()

    def counts() -> bool:
        reader.refresh()
        return bool(reader.of(TEA))

    await until(counts)


async def test_a_part_that_was_stale_before(cluster):
    """A new holder passes over parts that are old already; of one whose clock is wrong the next renewal counts."""
    spec = {"holderIdentity": "pod-b", "renewTime": "2025-12-31T23:00:00.000000Z"}
    metadata = {**place("pod-b").metadata(), "annotations": {ANNOTATION: REACHED}}
    for renewed, counts in (
        ("2025-12-31T23:54:59.000000Z", False),
        ("2025-12-31T23:55:01.000000Z", True),
        ("2026-01-01T10:00:00.000000Z", True),
        ("yesterday", False),
        (None, False),
    ):
        cluster.server.put(LEASES, "dapr-shared-status.pod-b", metadata=metadata, spec={**spec, "renewTime": renewed})
        reader = PartReader(
            cluster.client, place("pod-a"), known=lambda: None, failed=cluster.failed.append, clock=cluster.clock
        )
        task = cluster.begin(reader)
        reader.hold(held=True)
        await until(lambda now=reader: now.settled)
        reader.refresh()
        assert bool(reader.of(TEA)) is counts, renewed
        await end(task)


async def test_a_part_that_is_spoilt(cluster):
    """A part that cannot be read tells nothing, and disturbs no other."""
    cluster.texts["pod-b"] = REACHED
    await cluster.writer("pod-b").look()
    spec = {"holderIdentity": "pod-c", "renewTime": "2026-01-01T00:00:00.000000Z"}
    for pod, said in (("pod-c", {ANNOTATION: "[1"}), ("pod-d", {}), ("pod-e", {ANNOTATION: "x" * 200_000})):
        metadata = {**place(pod).metadata(), "annotations": said}
        cluster.server.put(LEASES, place(pod).name, metadata=metadata, spec=spec)
    cluster.begin(cluster.reader)
    cluster.reader.hold(held=True)
    await until(lambda: cluster.reader.settled)
    cluster.reader.refresh()
    assert cluster.reader.of(TEA) == [("pod-b", AppPart(reached=True))]


async def test_a_role_without_list(cluster):
    """A holder that may not list is settled without the others' parts, says once why, and sees them when it may."""
    cluster.texts["pod-b"] = REACHED
    await cluster.writer("pod-b").look()
    cluster.server.refuse = lambda request: refused(403, "Forbidden", FORBIDDEN) if request.method == "GET" else None
    reader = cluster.reader
    cluster.begin(reader)
    for _ in range(2):
        reader.hold(held=True)
        await until(lambda: reader.settled)
        reader.refresh()
        assert reader.of(TEA) == []
        reader.hold(held=False)
        await until(lambda: not reader.settled)
    (problem,) = cluster.failed
    assert "the service account shop/dapr needs the verb list on leases.coordination.k8s.io" in problem
    cluster.server.refuse = lambda _request: None
    reader.hold(held=True)

    def known() -> bool:
        reader.refresh()
        return bool(reader.of(TEA))

    await until(known)
    assert cluster.failed == [problem, ""], "that it works again is told, too"
