"""A release of the chart on the test cluster: the real image, Redis, an app that subscribes, and clients on both nodes.

Everything is in one namespace: instances (`shared`), `redis` and the app `orders` on node1, and a client pod on each node
that has nothing of Dapr's but the three variables of its SDKs.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support import images
from tests.support.kubernetes_cluster import NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.kubernetes_cluster import Cluster

CHART = Path(__file__).resolve().parents[2] / "chart" / "dapr-shared"
PATIENCE = 120.0
"""Seconds that pods may take to come up on a busy machine."""
INSTANCES = "app.kubernetes.io/instance=shared"


@dataclass
class Load:
    """What came of requests that were made one after another for a time."""

    statuses: dict[str, int]
    errors: dict[str, int]
    median: float
    """Milliseconds of the middle one."""

    @property
    def is_clean(self) -> bool:
        """Whether each request was answered, and well."""
        return set(self.statuses) <= {"200", "204"} and not self.errors and self.count > 0

    @property
    def count(self) -> int:
        """How many were answered."""
        return sum(self.statuses.values())


class Release:
    """Installed with `install`, removed with `remove`."""

    def __init__(self, cluster: Cluster, strategy: str) -> None:
        self.cluster, self.strategy = cluster, strategy
        self.namespace = cluster.create_namespace(strategy)
        self.workload = f"{strategy}/shared-dapr-shared-chart"

    def install(self) -> Release:
        """Install all and wait until it is ready."""
        self._install_redis()
        self.helm("install", "--timeout", f"{PATIENCE:.0f}s", "--wait")
        self.cluster.apply(*self._subscriber(), *(self._client(node) for node in NODES), namespace=self.namespace)
        self.rollout("deployment/orders")
        for node in NODES:
            self.kubectl("wait", f"pod/client-{node}", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        return self

    def helm(self, command: str, *words: str, **changes: Any) -> str:
        """Run a command of helm with the values of this release; `changes` go over them."""
        file = self.cluster.folder / f"{self.namespace}.json"
        file.write_text(json.dumps({**self._values(), **changes}), encoding="utf-8")
        return self.cluster.helm(
            command, "shared", str(CHART), "-n", self.namespace, "-f", str(file), *words, patience=PATIENCE + 30
        )

    def remove(self) -> None:
        """Remove everything."""
        with contextlib.suppress(AssertionError):
            self.cluster.helm("uninstall", "shared", "-n", self.namespace)
        self.cluster.delete("namespace", self.namespace)

    def kubectl(self, *words: str, patience: float = PATIENCE + 10) -> str:
        """What kubectl says in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *words, patience=patience)

    def rollout(self, workload: str = "") -> None:
        """Wait until all pods of a workload are new and ready."""
        self.kubectl("rollout", "status", workload or self.workload, f"--timeout={PATIENCE:.0f}s")

    def instances(self) -> list[dict]:
        """The pods of the release that are not about to go."""
        pods = self.cluster.items("pods", self.namespace, selector=INSTANCES)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def nodes(self) -> list[str]:
        """Where they are."""
        return sorted(pod["spec"]["nodeName"] for pod in self.instances())

    def ids_of_instances(self) -> set[tuple[str, int]]:
        """Which pods run and how often each was started again."""
        return {
            (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in self.instances()
        }

    def requests_of(self, app_id: str) -> dict[str, int]:
        """How many HTTP requests of an app the instances of each node have counted."""
        counts = dict.fromkeys(NODES, 0)
        for pod in self.instances():
            text = self.cluster.fetch(f"http://{pod['status']['podIP']}:9090/metrics")
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    # The parser gives every counter the end `_total`.
                    if sample.name == "dapr_http_server_request_count_total" and sample.labels.get("app_id") == app_id:
                        counts[pod["spec"]["nodeName"]] += int(sample.value)
        return counts

    def client(self, node: str, *words: str, patience: float = 60.0) -> Any:
        """What the client on a node prints, read as JSON."""
        said = self.kubectl("exec", f"client-{node}", "--", "python3", *words, patience=patience)
        return json.loads(said.splitlines()[-1])

    def load(self, node: str, seconds: float, path: str = "/v1.0/state/statestore/kind") -> Load:
        """Requests of the client on a node, one after another."""
        url = urllib.parse.urljoin(self.endpoint(3500), path)
        return Load(**self.client(node, "/apps/load.py", url, f"{seconds}", patience=seconds + 60))

    @contextlib.contextmanager
    def under_load(self, seconds: float, nodes: Sequence[str] = NODES) -> Iterator[dict[str, Load]]:
        """Requests from nodes while the body runs; the results are there after it."""
        results: dict[str, Load] = {}
        failed: list[BaseException] = []

        def work(node: str) -> None:
            try:
                results[node] = self.load(node, seconds)
            except BaseException as error:  # noqa: BLE001 - raised again by the test's thread
                failed.append(error)

        threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        time.sleep(2)  # requests are under way before anything is done to the instances
        try:
            yield results
        finally:
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]

    def publish(self, first: int, last: int, node: str = "node1") -> None:
        """Orders with these numbers, published by the SDK."""
        assert self.client(node, "/apps/client.py", "publish", str(first), str(last)) == "published"

    def received(self) -> set[int]:
        """The numbers of the orders that the app's running pod has got."""
        pods = self.cluster.items("pods", self.namespace, selector="app=orders")
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("podIP"):
                with contextlib.suppress(AssertionError):
                    given = json.loads(self.cluster.fetch(f"http://{pod['status']['podIP']}:8000/received"))
                    return {order["number"] for order in given}
        return set()

    def scale_app(self, replicas: int) -> None:
        """Scale the app and wait until it is so."""
        self.kubectl("scale", "deployment/orders", f"--replicas={replicas}")
        if replicas:
            self.rollout("deployment/orders")
        else:
            self.wait_until(lambda: not self.cluster.items("pods", self.namespace, selector="app=orders"), "no app")

    def wait_until(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition; what the instances say is in the error if it does not come."""
        try:
            self.cluster.wait_until(condition, what, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def logs(self) -> str:
        """The end of what the instances say."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            return self.kubectl("logs", "-l", INSTANCES, "--prefix", "--tail=40")
        return ""

    def endpoint(self, port: int) -> str:
        """The address that apps have."""
        return f"http://shared-dapr.{self.namespace}.svc.cluster.local:{port}"

    def _values(self) -> dict[str, Any]:
        registry, _, rest = images.NAME.partition("/")
        name, _, tag = rest.partition(":")
        channel = {"address": f"orders.{self.namespace}.svc.cluster.local", "port": 8000, "protocol": "http"}
        return {
            "apps": [{"appId": "orders", "channel": channel}, {"appId": "client"}],
            "shared": {
                "strategy": self.strategy,
                "daprd": {"image": {"registry": registry, "name": name, "tag": tag}},
                "deployment": {"replicas": 2},
            },
        }

    def _install_redis(self) -> None:
        container = {
            "name": "redis",
            "image": images.REDIS,
            "command": ["redis-server", "--save", "", "--protected-mode", "no", "--dir", "/tmp"],
            "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        }
        self.cluster.apply(
            _deployment("redis", container),
            _service("redis", 6379),
            namespace=self.namespace,
        )
        self.rollout("deployment/redis")
        self.kubectl("apply", "-f", str(CHART / "crds"))
        host = {"name": "redisHost", "value": f"redis.{self.namespace}.svc.cluster.local:6379"}
        again = [{"name": "processingTimeout", "value": "5s"}, {"name": "redeliverInterval", "value": "5s"}]
        self.cluster.wait_until(lambda: "components" in self.cluster.kubectl("api-resources", "-o", "name"), "the CRDs")
        self.cluster.apply(
            _component("statestore", "state.redis", host),
            _component("pubsub", "pubsub.redis", host, *again),
            namespace=self.namespace,
        )

    def _subscriber(self) -> list[dict]:
        node = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
        container = {
            "name": "app",
            "image": images.APP,
            "command": ["python3", "-u", "/apps/subscriber.py"],
            "env": [node],
            "readinessProbe": {"httpGet": {"path": "/where", "port": 8000}, "periodSeconds": 1},
        }
        return [_deployment("orders", container), _service("orders", 8000)]

    def _client(self, node: str) -> dict:
        token = {"secretKeyRef": {"name": "client-dapr-token", "key": "token"}}
        container = {
            "name": "client",
            "image": images.APP,
            "command": ["python3", "-c", "import time; time.sleep(1e6)"],
            "env": [
                {"name": "DAPR_HTTP_ENDPOINT", "value": self.endpoint(3500)},
                {"name": "DAPR_GRPC_ENDPOINT", "value": self.endpoint(50001)},
                {"name": "DAPR_API_TOKEN", "valueFrom": token},
            ],
        }
        spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"client-{node}"}, "spec": spec}


def _deployment(name: str, container: dict) -> dict:
    """One pod on node1."""
    labels = {"app": name}
    spec = {"nodeSelector": {"kubernetes.io/hostname": "node1"}, "terminationGracePeriodSeconds": 5}
    template = {"metadata": {"labels": labels}, "spec": {**spec, "containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def _service(name: str, port: int) -> dict:
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _component(name: str, kind: str, *metadata: dict) -> dict:
    spec = {"type": kind, "version": "v1", "metadata": list(metadata)}
    return {"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": name}, "spec": spec}
