"""What an instance in a cluster reads: custom resources, annotations and files, joined."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import yaml

from dapr_shared.core.ids import AppRef
from dapr_shared.kube.errors import Unavailable
from dapr_shared.kube.informer import InformerState
from dapr_shared.kube.objects import PODS, SERVICES, ObjectKey
from dapr_shared.kubernetes.resources import APPS, COMPONENTS, CONFIGURATIONS
from dapr_shared.kubernetes.watching import Followed
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.origin import Origin
from dapr_shared.runtime import kubernetes_sources
from dapr_shared.runtime.kubernetes_sources import KubernetesSources
from dapr_shared.runtime.settings import Settings, SettingsError, check
from dapr_shared.runtime.sources import ClusterError

STORE = {"type": "state.in-memory", "version": "v1", "metadata": []}


class FakeClient:
    """An API server that knows pods."""

    namespace = "shop"
    server = "https://fake"

    def __init__(self) -> None:
        self.pods: dict[str, dict] = {}
        self.asked: list[str] = []
        self.away = False

    async def get(self, kind, name, namespace):
        assert kind is PODS
        self.asked.append(f"{namespace}/{name}")
        if self.away:
            raise Unavailable(0, "", "away")
        return self.pods[name]


class Silent:
    def __getattr__(self, name):
        return lambda *_, **__: None


class Cluster:
    """Says what the informers know."""

    def __init__(self, sources: KubernetesSources, client: FakeClient) -> None:
        self.sources, self.client = sources, client
        self.version = 0
        self.told: list[tuple[str, tuple, dict]] = []
        for name in ("cluster_refused", "cluster_followed"):
            setattr(sources._events, name, lambda *given, _name=name, **more: self.told.append((_name, given, more)))

    def put(self, kind, name: str, spec: dict | None = None, *, annotations: dict | None = None, **top) -> dict:
        self.version += 1
        made = {
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": name,
                "resourceVersion": str(self.version),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {f"dapr.io/{key}": value for key, value in (annotations or {}).items()},
            },
            **({"spec": spec} if spec is not None else {}),
            **top,
        }
        self.sources._watch._informers[kind, "shop"]._objects[ObjectKey("shop", name)] = made
        return made

    def put_pod(self, name: str, ip: str, *, ready: bool = True, port: str = "80") -> None:
        conditions = [{"type": "Ready", "status": str(ready)}]
        found = self.put(PODS, name, annotations={"app-id": "orders", "app-port": port})
        self.client.pods[name] = {**found, "status": {"phase": "Running", "podIP": ip, "conditions": conditions}}

    async def apps(self) -> dict[str, str]:
        resources = await self.sources.read_now()
        return {app.app_id: app.channel.address if app.channel else "" for app in resources.apps}

    @property
    def refused(self) -> dict[str, str]:
        return {str(refusal.origin): refusal.problem for refusal in self.sources.refused}


@pytest.fixture
def cluster(monkeypatch):
    """Make sources at a cluster that a test says everything of."""
    for name in ("NAMESPACE", "DAPR_API_TOKEN", "APP_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def make(**settings) -> Cluster:
        client = FakeClient()
        monkeypatch.setattr(kubernetes_sources, "cluster_client", lambda: client)
        events = Events(DaprMetrics(), lambda _: Silent())
        sources = KubernetesSources(check(Settings(mode="kubernetes", **settings)), events)
        sources.check()
        return Cluster(sources, client)

    return make


async def test_a_pod_that_flaps_changes_nothing(cluster):
    """The pod in use stays while it is ready; only another address is another app, and pods are read when they change."""
    found = cluster()
    found.put_pod("old", "10.0.0.1")
    assert await found.apps() == {"orders": "10.0.0.1"}
    found.put_pod("young", "10.0.0.2")
    first = await found.sources.read_now()
    assert found.client.asked == ["shop/old", "shop/young"]
    found.put_pod("old", "10.0.0.1", ready=False)
    assert await found.apps() == {"orders": "10.0.0.2"}
    found.put_pod("old", "10.0.0.1")
    assert await found.apps() == {"orders": "10.0.0.2"}, "it does not go back"
    found.put_pod("young", "10.0.0.2", ready=True)
    again = await found.sources.read_now()
    assert again.apps[0].channel.address == "10.0.0.2"
    assert first.apps[0].ref == AppRef("orders", "shop")


async def test_a_pod_that_cannot_be_read_is_as_it_was(cluster, monkeypatch):
    """While the API server is away a changed pod keeps its address, and it is looked at again."""
    monkeypatch.setattr("dapr_shared.kubernetes.watching._AGAIN", 0.01)
    found = cluster()
    found.put_pod("old", "10.0.0.1")
    assert await found.apps() == {"orders": "10.0.0.1"}
    found.put_pod("old", "10.0.0.9")
    found.client.away = True
    assert await found.apps() == {"orders": "10.0.0.1"}
    found.sources._changed.clear()
    async with asyncio.timeout(5):
        await found.sources._changed.wait()
    found.client.away = False
    assert await found.apps() == {"orders": "10.0.0.9"}


def _say(found: Cluster, kind, state: InformerState, *, others: InformerState) -> None:
    """What the informers of all kinds say of themselves."""
    for (each, _), informer in found.sources._watch._informers.items():
        informer.state = state if each is kind else others


@pytest.mark.parametrize("app_id", ["orders", ""])
async def test_a_list_that_is_refused(cluster, app_id):
    """An instance of one app does not start where a kind may not be listed, and says why; one of many serves the rest."""
    found = cluster(app_id=app_id)
    _say(found, COMPONENTS, InformerState(problem="needs list", refused=True), others=InformerState(synced=True))
    if app_id:
        with pytest.raises(ClusterError, match="needs list"):
            await found.sources.wait_known(lambda _: None)
    else:
        await found.sources.wait_known(lambda _: None)


@pytest.mark.parametrize("app_id", ["orders", ""])
async def test_a_watch_that_is_refused(cluster, app_id):
    """What was listed is known: that it may not be followed ends no start, however early that is known, and is told."""
    found = cluster(app_id=app_id)
    state = InformerState(synced=True, problem="needs watch", refused=True)
    _say(found, COMPONENTS, state, others=InformerState(synced=True))
    await found.sources.wait_known(lambda _: None)
    found.sources._hear(Followed(COMPONENTS, "shop", state))
    assert found.told == [("cluster_refused", (COMPONENTS.resource, "shop", "needs watch"), {"known": True})]
    assert not found.sources.away


async def test_refusals_of_reading_and_of_following_are_two_things(cluster):
    """That pods may be followed does not say that they may be read, and the other way round."""
    found = cluster(watch_namespaces=("*",))
    refused = InformerState(synced=True, problem="needs get", refused=True)
    found.sources._hear(Followed(PODS, "", refused, whole=True))
    found.sources._hear(Followed(PODS, "", InformerState(synced=True)))
    found.sources._hear(Followed(PODS, "", refused, whole=True))
    found.sources._hear(Followed(PODS, "", InformerState(synced=True), whole=True))
    assert [name for name, _, _ in found.told] == ["cluster_refused", "cluster_followed"]


async def test_the_order_of_places(cluster, tmp_path):
    """App, file, Service, Pod; what does not count and says otherwise is refused by name."""
    app = {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": "orders"}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**app, "spec": {"channel": {"address": "file", "port": 80}}}))
    found = cluster(apps=(str(tmp_path),))
    found.put(APPS, "orders", {"channel": {"address": "app", "port": 80}})
    found.put(SERVICES, "svc", annotations={"app-id": "orders", "app-port": "80"})
    found.put_pod("pod", "10.0.0.1", port="81")
    assert await found.apps() == {"orders": "app"}
    assert list(found.refused) == ["Pod shop/pod"]
    informers = found.sources._watch._informers
    informers[APPS, "shop"]._objects.clear()
    assert await found.apps() == {"orders": "file"}
    (tmp_path / "a.yaml").unlink()
    assert await found.apps() == {"orders": "svc.shop.svc.cluster.local"}
    assert found.refused == {}, "a Service may have another port than its pods"
    informers[SERVICES, "shop"]._objects.clear()
    assert await found.apps() == {"orders": "10.0.0.1"}


async def test_an_object_is_found_by_where_it_stands(cluster):
    """By kind, namespace and name, for its Events; what stands in a file, is of another kind, or is gone is not."""
    found = cluster()
    store = found.put(COMPONENTS, "store", STORE)
    service = found.put(SERVICES, "store", annotations={"app-id": "a"})
    at = found.sources.object_at
    assert at("Component", Origin("Component shop/store", 0, 0)) is store
    assert at("Service", Origin("Service shop/store", 0, 0)) is service
    assert at("Service", Origin("Component shop/store", 0, 0)) is None
    assert at("Component", Origin("Component shop/gone", 0, 0)) is None
    assert at("Component", Origin("Component other/store", 0, 0)) is None
    assert at("App", Origin("/etc/dapr-shared/apps/a.yaml", 1, 1)) is None


async def test_what_is_discovered(cluster):
    """Only the places that --discover names are looked at."""
    found = cluster(discover=("services",))
    found.put(SERVICES, "svc", annotations={"app-id": "a"})
    assert {kind for kind, _ in found.sources._watch._informers}.isdisjoint({APPS, PODS})
    assert await found.apps() == {"a": ""}


async def test_the_domain_of_the_cluster(cluster):
    """Services are called by names that end with the cluster's domain."""
    found = cluster(cluster_domain="example.org")
    found.put(SERVICES, "svc", annotations={"app-id": "a", "app-port": "80"})
    assert await found.apps() == {"a": "svc.shop.svc.example.org"}


async def test_resources_of_the_cluster_go_before_those_of_files(cluster, tmp_path):
    """Of one kind and name that of the cluster counts; the other is refused, and names both."""
    written = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "c"}, "spec": {}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(written))
    found = cluster(apps=(str(tmp_path),))
    found.put(CONFIGURATIONS, "c", {"api": {}})
    resources = await found.sources.read_now()
    assert [str(one.origin) for one in resources.configurations] == ["Configuration shop/c"]
    ((place, problem),) = found.refused.items()
    assert "c.yaml" in place
    assert "Configuration shop/c" in problem


async def test_one_app_sees_what_is_scoped_to_it(cluster):
    """What is scoped to others is not even decoded; what is its own and wrong is an error."""
    found = cluster(app_id="orders")
    found.put(COMPONENTS, "mine", STORE, scopes=["orders"])
    found.put(COMPONENTS, "others", {}, scopes=["stock"])
    resources = await found.sources.read_now()
    assert [component.name for component in resources.components] == ["mine"]
    assert [app.ref for app in resources.apps] == [AppRef("orders", "shop")]
    assert not found.sources.tolerant
    found.put(COMPONENTS, "wrong", {})
    with pytest.raises(ResourceErrors, match="Component shop/wrong"):
        await found.sources.read_now()


async def test_files_of_one_app_are_neither_read_nor_followed(cluster, tmp_path):
    """One app has the resources of its namespace alone, as in daprd; a file is no reason to read them again."""
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"kind": "Component"}))
    found = cluster(app_id="orders", resources_path=(str(tmp_path),))
    found.put(COMPONENTS, "mine", STORE)
    resources = await found.sources.read_now()
    assert [component.name for component in resources.components] == ["mine"]
    assert found.sources.paths == []
    many = cluster(app_id="orders", multi_app=True, resources_path=(str(tmp_path),))
    assert many.sources.paths == [tmp_path]


async def test_changes_that_come_together_are_told_once(cluster, monkeypatch):
    """So many changes without a rest are read together, and after a while in any case."""
    monkeypatch.setattr(kubernetes_sources, "QUIET", 0.05)
    monkeypatch.setattr(kubernetes_sources, "LONGEST_WAIT", 0.3)
    found = cluster()
    changes = found.sources.changes(hot_reload=False)
    told = 0

    async def listen() -> None:
        nonlocal told
        async for _ in changes:
            told += 1

    task = asyncio.create_task(listen())
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 0.7:
        found.sources._changed.set()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert 1 < told <= 5
    assert cluster(app_id="a").sources.changes(hot_reload=False) is None


def test_no_cluster(monkeypatch):
    """Outside of a cluster and without KUBECONFIG the flag is named."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="--mode=kubernetes: no Kubernetes API server is known"):
        KubernetesSources(check(Settings(mode="kubernetes")), Events(DaprMetrics(), lambda _: Silent()))


async def test_namespaces(cluster):
    """Its own unless told otherwise; all of them by a star. Every namespace was given, for keys of state."""
    assert {namespace for _, namespace in cluster().sources._watch._informers} == {"shop"}
    assert {n for _, n in cluster(watch_namespaces=("a", "b")).sources._watch._informers} == {"a", "b"}
    assert {n for _, n in cluster(watch_namespaces=("*",)).sources._watch._informers} == {""}
    assert cluster().sources.given_namespace("default") == "default"
