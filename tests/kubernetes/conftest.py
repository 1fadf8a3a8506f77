"""Kubernetes for the tests of this folder: an API server shared by all of a run, one of a test's own, two real nodes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import images, kubernetes_api_server
from tests.support.kubernetes_api_server import ApiServer
from tests.support.kubernetes_client import KubernetesClient
from tests.support.kubernetes_cluster import Cluster, need_cluster
from tests.support.kubernetes_instance import cluster_instance, install_kinds
from tests.support.kubernetes_keeper import kept
from tests.support.kubernetes_programs import need_programs
from tests.support.kubernetes_release import Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.instance import Instance


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this run see."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def api_server(shared_folder: Path) -> Iterator[KubernetesClient]:
    """A control plane without nodes; one for all processes of the run, so each test works in namespaces of its own."""
    need_programs()
    folder = shared_folder / "kubernetes"
    with kept(f"{kubernetes_api_server.__name__}:ApiServer", folder, kubernetes_api_server.START):
        yield KubernetesClient(folder)


@pytest.fixture
def namespace(api_server: KubernetesClient) -> Iterator[str]:
    """A namespace of this test's own in the shared control plane."""
    name = api_server.create_namespace()
    yield name
    api_server.delete("namespace", name)


@pytest.fixture(scope="session")
def kinds(api_server: KubernetesClient) -> KubernetesClient:
    """The control plane with the kinds of the chart."""
    install_kinds(api_server)
    return api_server


@pytest.fixture
def many(kinds: KubernetesClient, namespace: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Instance]]:
    """Start an instance for the apps of the namespace, as administrator."""

    @contextmanager
    def begin(*flags: str, **options: Any) -> Iterator[Instance]:
        with cluster_instance(tmp_path / "instance", kinds.kubeconfig, namespace, *flags, **options) as made:
            yield made

    return begin


@pytest.fixture
def own_api_server(tmp_path: Path) -> Iterator[ApiServer]:
    """A control plane of this test's own, whose API server it may kill and start again."""
    need_programs()
    server = ApiServer(tmp_path / "kubernetes")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two real nodes with containers; for the tests that `make e2e` runs, one after another."""
    need_cluster()
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), images.for_cluster())
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session", params=["daemonset", "deployment"])
def release(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Release]:
    """A release of each strategy on the two nodes, with two instances; each has all its tests before the other comes."""
    release = Release(cluster, request.param)
    try:
        yield release.install()
    finally:
        release.remove()
