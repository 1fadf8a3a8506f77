from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from dapr_shared.kube.objects import SERVICES
from dapr_shared.kubernetes.resources import APPS
from dapr_shared.kubernetes.watching import ClusterWatch
from tests.support.fake_kube import FakeKube


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
