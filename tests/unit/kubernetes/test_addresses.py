"""The pods on a node by their addresses."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dapr_shared.identity.service_accounts import NotVerifiableError
from dapr_shared.kube.objects import PODS
from dapr_shared.kubernetes.addresses import WatchedNodePods
from tests.support.fake_kube import FakeKube


def pod(address: str = "10.244.1.7", *, phase: str = "Running", app_id: str = "till", **spec):
    metadata = {"uid": "u-1", "annotations": {"dapr.io/app-id": app_id}}
    status = {"phase": phase, "podIP": address, "podIPs": [{"ip": address}], "startTime": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"nodeName": "node1", "serviceAccountName": "till", **spec}, "status": status}


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a watch sends no event to the test
            await asyncio.sleep(0.01)


async def test_pods_of_the_node_by_their_addresses():
    """Running pods with an address of their own are found, at once gone when they go, and not while the watch is behind."""
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        server.put(PODS, "till-1", "shop", **pod())
        server.put(PODS, "host", "shop", **pod("10.0.0.5", hostNetwork=True))
        server.put(PODS, "ended", "shop", **pod("10.244.1.8", phase="Succeeded"))
        server.put(PODS, "starting", "shop", **pod("", phase="Pending"))
        told = []
        client = await server.client(stack)
        pods = WatchedNodePods(client, "node1", ("shop",), told=lambda *state: told.append(state))
        with pytest.raises(NotVerifiableError):
            pods.at("10.244.1.7")
        tasks = []
        pods.start(lambda work, name: tasks.append(asyncio.create_task(work, name=name)))
        await until(lambda: pods._informers[0].state.synced)
        assert ("fieldSelector", "spec.nodeName=node1") in server.requests[0][2].items()
        (found,) = pods.at("10.244.1.7")
        assert (found.account, found.pod.app_id) == (("shop", "till"), "till")
        assert not any(pods.at(address) for address in ("10.0.0.5", "10.244.1.8", "", "10.244.1.9"))
        server.put(PODS, "till-2", "shop", **pod("10.244.1.8"))
        await until(lambda: pods.at("10.244.1.8"))
        server.remove(PODS, "till-1")
        await until(lambda: not pods.at("10.244.1.7"))
        await server.down()

        def behind() -> bool:
            try:
                pods.at("10.244.1.8")
            except NotVerifiableError:
                return True
            return False

        await until(behind)
        assert [(name, bool(state.problem)) for name, state in told] == [("shop", False), ("shop", True)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
