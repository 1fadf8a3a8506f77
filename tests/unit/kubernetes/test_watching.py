from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from dapr_shared.kube.objects import PODS, SERVICES
from dapr_shared.kubernetes import watching
from dapr_shared.kubernetes.resources import APPS
from dapr_shared.kubernetes.watching import ClusterWatch
from tests.support.fake_kube import FakeKube, refused


async def _until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_status_wakes_nobody():
    """The status that an instance writes makes no instance read its resources again; it is seen all the same."""
    changes: list[None] = []
    tasks: list[asyncio.Task] = []
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        server.install(SERVICES)
        server.put(APPS, "tea", spec={}, metadata={"generation": 1})
        client = await server.client(stack)
        watch = ClusterWatch(
            client, (APPS, SERVICES), ("shop",), changed=lambda: changes.append(None), told=lambda _followed: None
        )
        watch.start(lambda work, name: tasks.append(asyncio.create_task(work, name=name)))
        await _until(lambda: server.watches == 2)
        assert len(changes) == 1
        await client.patch(APPS, "tea", {"status": {"ready": True}}, "shop", subresource="status")
        await _until(lambda: watch.objects(APPS)[0][1].get("status"))
        assert len(changes) == 1
        server.put(APPS, "tea", spec={"appId": "other"}, metadata={"generation": 2})
        await _until(lambda: len(changes) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_pods_that_may_not_be_read(monkeypatch):
    """Pods of a namespace that may be followed and not read are told once for the namespace, asked for once at a time, and read again after a while; those of another namespace are read."""
    monkeypatch.setattr(watching, "REFUSED_AGAIN", 0.02)
    monkeypatch.setattr(watching, "_AT_ONCE", 1)
    said = 'pods "x" is forbidden: User "u" cannot get resource "pods" in API group ""'
    told, tasks = [], []
    changed = asyncio.Event()
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        annotations = {"dapr.io/app-id": "tea"}
        for namespace in ("bar", "shop"):
            for name in ("one", "two", "three"):
                server.put(PODS, name, namespace, metadata={"annotations": annotations})
        watch = ClusterWatch(
            await server.client(stack), (PODS,), ("bar", "shop"), changed=changed.set, told=told.append
        )
        watch.start(lambda work, name: tasks.append(asyncio.create_task(work, name=name)))
        await _until(lambda: server.watches == 2)
        told.clear()
        server.refuse = lambda request: refused(403, "Forbidden", said) if "/bar/pods/" in request.path else None
        changed.clear()
        assert len(await watch.pods()) == 3
        assert sum("/bar/pods/" in path for _verb, path, _query in server.requests) == 1
        (first,) = told
        assert (first.whole, first.namespace, first.state.refused) == (True, "bar", True)
        assert "needs the verb get on pods in namespace bar" in first.state.problem
        assert all(each.settled and not each.state.problem for each in watch.followed())
        async with asyncio.timeout(5):
            await changed.wait()
        assert len(await watch.pods()) == 3
        assert told == [first], "once"
        server.refuse = lambda _request: None
        assert len(await watch.pods()) == 6
        assert [(each.namespace, each.state.refused) for each in told[1:]] == [("bar", False)]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
