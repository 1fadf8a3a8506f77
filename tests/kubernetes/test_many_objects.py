"""A thousand apps at a real API server: what an instance asks for, how often it reloads, and lists that break in their midst."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared.kube.client import CHUNK, KubeClient
from dapr_shared.kube.objects import SECRETS, custom
from dapr_shared.kubernetes.resources import APPS
from tests.support.instance import token_of
from tests.support.kubernetes_between import Between
from tests.support.kubernetes_client import ADMIN
from tests.support.kubernetes_instance import address, app, cluster_instance, id_of, memory, metadata, of_dapr, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dapr_shared.kube.objects import JsonObject, ObjectKind

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]
COUNT = 1000
PARTS = COUNT // CHUNK
WITH_SECRETS = 100
COMPONENTS = custom("dapr.io", "v1alpha1", "components", "Component")
SUBSCRIPTIONS = custom("dapr.io", "v2alpha1", "subscriptions", "Subscription")
FOLLOWED = 8
"""Kinds that an instance for many apps follows: five of Dapr's, Apps, Services, Pods."""


def written(kubeconfig: Path, namespace: str, objects: Iterable[tuple[str, ObjectKind, JsonObject]]) -> None:
    """Create objects, or change them (`patch`), several at a time."""

    async def write() -> None:
        async with AsyncExitStack() as stack:
            client = KubeClient.from_environment({"KUBECONFIG": str(kubeconfig)}, agent="test")
            await client.start(stack)
            at_once = asyncio.Semaphore(8)

            async def one(verb: str, kind: ObjectKind, body: JsonObject) -> None:
                async with at_once:
                    if verb == "create":
                        await client.create(kind, body, namespace)
                    else:
                        await client.patch(kind, body["metadata"]["name"], body, namespace)

            await asyncio.gather(*(one(*each) for each in objects))

    asyncio.run(write())


def secrets() -> Iterator[tuple[str, ObjectKind, JsonObject]]:
    """The tokens of some apps."""
    for number in range(WITH_SECRETS):
        name = f"app-{number}"
        yield "create", SECRETS, {"metadata": {"name": name}, "stringData": {"token": token_of(name)}}


def everything() -> Iterator[tuple[str, ObjectKind, JsonObject]]:
    """Apps, each with a store of its own, and some with a subscription."""
    for number in range(COUNT):
        secret = {"secretKeyRef": {"name": f"app-{number}", "key": "token"}}
        tokens = {"tokens": [secret]} if number < WITH_SECRETS else {}
        yield "create", APPS, app(f"app-{number}", **tokens)
        yield "create", COMPONENTS, memory(f"store-{number}", scopes=[f"app-{number}"])
    broker = {"type": "pubsub.in-memory", "version": "v1", "metadata": []}
    yield "create", COMPONENTS, of_dapr("Component", "broker", broker)
    for number in range(0, COUNT, 10):
        spec = {"pubsubname": "broker", "topic": f"t-{number}", "routes": {"default": "/o"}}
        yield "create", SUBSCRIPTIONS, of_dapr("Subscription", f"s-{number}", spec, scopes=[f"app-{number}"])


def port_of(number: int, port: int) -> tuple[str, ObjectKind, JsonObject]:
    channel = {"channel": {"address": "127.0.0.1", "port": port}}
    return "patch", APPS, {"metadata": {"name": f"app-{number}"}, "spec": channel}


def asked(between: Between, verb: str) -> int:
    """For resources; the Leases of the instances of a release are followed too."""
    return between.count(verb) - between.count(verb, "leases")


def names(found: dict[str, Any]) -> set[str]:
    return {one["name"] for one in found.get("components", [])}


def test_a_thousand_apps(kinds, namespace, tmp_path):
    """They are read in parts, also where the server forgets a list in its midst; a change costs no list, a thousand few reloads."""
    written(kinds.kubeconfig, namespace, [*secrets(), *everything()])
    between = Between(kinds)
    between.expire = {"components"}
    config = between.kubeconfig(tmp_path, ADMIN, namespace)
    with between.running(), cluster_instance(tmp_path / "i", config, namespace, "--multi-app", patience=90) as instance:
        assert instance.metric("dapr_shared_apps") == COUNT
        for number in (0, CHUNK, COUNT - 1):
            assert names(metadata(instance, f"app-{number}")) == {"broker", f"store-{number}"}
        assert between.count("list", "apps") == PARTS
        assert between.count("list", "components") == 3, "two parts, of which the second is forgotten, and then all"
        assert asked(between, "list") == PARTS + 3 + FOLLOWED - 2
        assert asked(between, "watch") == FOLLOWED
        assert between.count("get", "secrets") == WITH_SECRETS, "each once"
        assert 1 < between.most_at_once["secrets"] <= 16
        assert between.count("get", "apps") == between.count("get", "components") == 0

        listed, reloads = asked(between, "list"), instance.metric("dapr_shared_reload_total")
        written(kinds.kubeconfig, namespace, [port_of(7, 1007)])
        until(lambda: address(instance, "app-7") == ("127.0.0.1", 1007), "one change")
        assert instance.metric("dapr_shared_reload_total") == reloads + 1
        written(kinds.kubeconfig, namespace, [port_of(number, 2000) for number in range(COUNT)])
        until(lambda: address(instance, f"app-{COUNT - 1}") == ("127.0.0.1", 2000), "a thousand changes", 60)
        until(lambda: address(instance, "app-0") == ("127.0.0.1", 2000), "the first of them", 60)
        assert instance.metric("dapr_shared_reload_total") <= reloads + 12, "changes that come together are one"
        assert asked(between, "list") == listed, "what changes is told by the watch"
        assert asked(between, "watch") == FOLLOWED

        between.end_watches("apps")
        kinds.delete("app.shared.dapr.io", "app-3", namespace)
        kinds.apply(app("late"), namespace=namespace)
        until(
            lambda: (id_of(instance, "app-3"), id_of(instance, "late")) == ("", "late"),
            "what a broken watch missed",
            60,
        )
        assert between.count("list", "apps") in (PARTS * 2, PARTS * 2 + 1), "everything once more"
        assert between.count("watch", "apps") == 2
        assert instance.metric("dapr_shared_apps") == COUNT
        assert not [line for line in instance.log() if line["msg"] in ("resource refused", "cluster away")]
