"""A release of the chart on the test cluster: the real image, Redis, an app that subscribes, and clients on both nodes.

Everything is in one namespace: instances (`shared`), `redis` and the app `orders` on node1, and a client pod on each node
that has nothing of Dapr's but the three variables of its SDKs.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support import images
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_cluster import NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.samples import Sample

    from tests.support.kubernetes_cluster import Cluster

CHART = Path(__file__).resolve().parents[2] / "chart" / "dapr-shared"
PATIENCE = 120.0
"""Seconds that pods may take to come up on a busy machine."""
AUDIENCE = "dapr-shared"
"""Of service account tokens that prove an app."""
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

    def __init__(self, cluster: Cluster, strategy: str, **shared: Any) -> None:
        """`shared` are further values below `shared`."""
        self.cluster, self.strategy, self._shared = cluster, strategy, shared
        self.namespace = cluster.create_namespace(strategy)
        self.further_apps: list[dict[str, Any]] = []
        """Of `apps` in the values, beside `orders` and `client`; in force with the next command of helm."""

    @property
    def workload(self) -> str:
        """The DaemonSet or Deployment of the instances, as kubectl names it."""
        return f"{self.strategy}/shared-dapr-shared-chart"

    def install(self) -> Release:
        """Install all and wait until it is ready."""
        self._install_redis()
        self.helm("install", "--timeout", f"{PATIENCE:.0f}s", "--wait")
        self.apply(objects.deployment("orders", objects.subscriber()), objects.service("orders", 8000))
        self.start_clients()
        self.rollout("deployment/orders")
        return self

    def start_clients(self) -> None:
        """Make the clients' pods, where they are not, and wait until they run."""
        self.cluster.apply(*(self._client(node) for node in NODES), namespace=self.namespace)
        self.ready(*(f"client-{node}" for node in NODES))

    def ready(self, *pods: str) -> None:
        """Wait until pods are ready."""
        self.kubectl(
            *("wait", *(f"pod/{name}" for name in pods), "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        )

    def helm(self, command: str, *words: str, **shared: Any) -> str:
        """Run a command of helm with the values of this release, `shared` over those below `shared`."""
        self._shared.update(shared)
        file = self.cluster.folder / f"{self.namespace}.json"
        file.write_text(json.dumps(self._values()), encoding="utf-8")
        return self.cluster.helm(
            command, "shared", str(CHART), "-n", self.namespace, "-f", str(file), *words, patience=PATIENCE + 30
        )

    def remove(self) -> None:
        """Remove everything."""
        with contextlib.suppress(AssertionError):
            self.cluster.helm("uninstall", "shared", "-n", self.namespace)
        self.cluster.delete("namespace", self.namespace)

    def apply(self, *things: dict) -> None:
        """Create or change objects in the namespace."""
        self.cluster.apply(*things, namespace=self.namespace)

    def kubectl(self, *words: str, given: str = "", patience: float = PATIENCE + 10) -> str:
        """What kubectl says in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *words, given=given, patience=patience)

    def rollout(self, workload: str = "") -> None:
        """Wait until all pods of a workload are new and ready."""
        self.kubectl("rollout", "status", workload or self.workload, f"--timeout={PATIENCE:.0f}s")

    def all_instances(self) -> list[dict]:
        """The pods of the release."""
        return self.cluster.items("pods", self.namespace, selector=INSTANCES)

    def instances(self) -> list[dict]:
        """Those that are not about to go."""
        return [pod for pod in self.all_instances() if "deletionTimestamp" not in pod["metadata"]]

    def pods(self, app: str) -> list[dict]:
        """Those of an app."""
        return self.cluster.items("pods", self.namespace, selector=f"app={app}")

    def nodes(self) -> list[str]:
        """Where they are."""
        return sorted(pod["spec"]["nodeName"] for pod in self.instances())

    def spread(self) -> None:
        """Have an instance on both nodes again, after nodes were drained or lost."""
        self.rollout()
        if self.nodes() != list(NODES):
            self.kubectl("rollout", "restart", self.workload)
            self.rollout()
        assert self.nodes() == list(NODES)

    def ids_of_instances(self, *, all_of_them: bool = False) -> set[tuple[str, int]]:
        """Which pods run and how often each was started again; all of them: those too that are about to go."""
        pods = self.all_instances() if all_of_them else self.instances()
        return {(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods}

    def requests_of(self, app_id: str) -> dict[str, int]:
        """How many HTTP requests of an app the instances of each node have counted."""
        counts = dict.fromkeys(NODES, 0)
        for node, samples in self._metrics():
            # The parser gives every counter the end `_total`.
            counts[node] += int(_sum(samples, "dapr_http_server_request_count_total", app_id=app_id))
        return counts

    def is_subscribed(self, app_id: str) -> bool:
        """Whether every instance has an active subscription of an app."""
        wanted = {"app_id": app_id, "state": "active"}
        return all(_sum(samples, "dapr_shared_subscriptions", **wanted) > 0 for _, samples in self._metrics())

    def _metrics(self) -> Iterator[tuple[str, list[Sample]]]:
        """The node of each instance and what it has counted."""
        for pod in self.instances():
            text = self.cluster.fetch(f"http://{pod['status']['podIP']}:9090/metrics")
            families = text_string_to_metric_families(text)
            yield pod["spec"]["nodeName"], [sample for family in families for sample in family.samples]

    def client(self, node: str, *words: str, patience: float = 60.0) -> Any:
        """What the client on a node prints, read as JSON."""
        return self.run(f"client-{node}", *words, patience=patience)

    def run(self, pod: str, *words: str, given: str = "", patience: float = 60.0) -> Any:
        """What a program in a pod prints last, read as JSON."""
        where = ["-n", self.namespace, "exec", *(["-i"] if given else []), pod, "-c", "app", "--"]
        said = self.cluster.kubectl(*where, "python3", *words, given=given, patience=patience)
        return json.loads(said.splitlines()[-1])

    def can_invoke(self, pod: str, app: str) -> bool:
        """Whether a call from a pod succeeds: a Service takes a moment to lead to new pods, from every node."""
        try:
            return bool(self.run(pod, "/apps/client.py", "invoke", app, "1"))
        except AssertionError:
            return False

    def load(self, node: str, seconds: float) -> Load:
        """Requests of the client on a node, one after another."""
        given = self.client(node, "/apps/load.py", self._loaded(), f"{seconds}", patience=seconds + 60)
        return Load(**given)

    @contextlib.contextmanager
    def under_load(self, nodes: Sequence[str] = NODES) -> Iterator[dict[str, Load]]:
        """Requests from nodes, under way before the body and until it ends; the results are there after it."""
        results: dict[str, Load] = {}
        with contextlib.ExitStack() as stack:
            running = {node: stack.enter_context(self._running_load(node)) for node in nodes}
            yield results
            for node, process in running.items():
                said, _ = process.communicate(timeout=60)  # closes its input, which ends it
                results[node] = Load(**json.loads(said.splitlines()[-1]))

    @contextlib.contextmanager
    def _running_load(self, node: str) -> Iterator[subprocess.Popen[str]]:
        words = ["-n", self.namespace, "exec", "-i", f"client-{node}", "--", "python3", "/apps/load.py", self._loaded()]
        with self.cluster.open(*words) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
                yield process
            finally:
                process.kill()  # of no effect once it has ended

    def _loaded(self) -> str:
        return urllib.parse.urljoin(self.endpoint(3500), "/v1.0/state/statestore/kind")

    def statuses(self, path: str) -> dict[str, tuple[int, str]]:
        """What the instance of each node answers the app `client`, asked directly: status and body."""
        token = b64decode(self.cluster.get("secret", "client-dapr-token", self.namespace)["data"]["token"]).decode()
        pods = {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in self.instances()}
        return {node: self.cluster.ask(f"http://{address}:3500{path}", token) for node, address in pods.items()}

    def publish(self, first: int, last: int, node: str = "node1", topic: str = "orders") -> None:
        """Orders with these numbers, published by the SDK."""
        assert self.client(node, "/apps/client.py", "publish", str(first), str(last), topic) == "published"

    def received(self, app: str = "orders") -> set[int]:
        """The numbers of the orders that the app's running pod has got."""
        return set(self.deliveries(app))

    def deliveries(self, app: str) -> list[int]:
        """These numbers, in their order, each as often as it has got it."""
        for pod in self.pods(app):
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("podIP"):
                with contextlib.suppress(AssertionError):
                    given = json.loads(self.cluster.fetch(f"http://{pod['status']['podIP']}:8000/received"))
                    return [order["number"] for order in given]
        return []

    def scale_app(self, replicas: int, app: str = "orders") -> None:
        """Scale an app and wait until it is so."""
        self.kubectl("scale", f"deployment/{app}", f"--replicas={replicas}")
        if replicas:
            self.rollout(f"deployment/{app}")
        else:
            self.wait_until(lambda: not self.pods(app), "no app")

    def wait_until(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition; what the instances say is in the error if it does not come."""
        try:
            self.cluster.wait_until(condition, what, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def logs(self) -> str:
        """The end of what the instances say, calls apart."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            said = self.kubectl("logs", "-l", INSTANCES, "--prefix", "--tail=1000").splitlines()
            return "\n".join([line for line in said if "API Called" not in line][-60:])
        return ""

    def endpoint(self, port: int) -> str:
        """The address that apps have."""
        return f"http://shared-dapr.{self.namespace}.svc.cluster.local:{port}"

    def _values(self) -> dict[str, Any]:
        registry, _, rest = images.NAME.partition("/")
        name, _, tag = rest.partition(":")
        channel = {"address": f"orders.{self.namespace}.svc.cluster.local", "port": 8000, "protocol": "http"}
        # Each of the two ways to verify tokens is what one of the releases has.
        verification = "review" if self.strategy == "daemonset" else "keys"
        return {
            "apps": [{"appId": "orders", "channel": channel}, {"appId": "client"}, *self.further_apps],
            "shared": {
                "strategy": self.strategy,
                "daprd": {"image": {"registry": registry, "name": name, "tag": tag}},
                "deployment": {"replicas": 2},
                "identity": {"serviceAccountAudience": AUDIENCE, "serviceAccountVerification": verification},
                **self._shared,
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
            objects.deployment("redis", container),
            objects.service("redis", 6379),
            namespace=self.namespace,
        )
        self.rollout("deployment/redis")
        self.kubectl("apply", "-f", str(CHART / "crds"))
        self.cluster.wait_until(lambda: "components" in self.cluster.kubectl("api-resources", "-o", "name"), "the CRDs")
        self.apply(*self.components())

    def components(self) -> list[dict]:
        """`statestore` and `pubsub`, on Redis."""
        host = {"name": "redisHost", "value": f"redis.{self.namespace}.svc.cluster.local:6379"}
        again = [{"name": "processingTimeout", "value": "5s"}, {"name": "redeliverInterval", "value": "5s"}]
        return [
            objects.component("statestore", "state.redis", host),
            objects.component("pubsub", "pubsub.redis", host, *again),
        ]

    def _client(self, node: str) -> dict:
        variables = {
            "DAPR_HTTP_ENDPOINT": self.endpoint(3500),
            "DAPR_GRPC_ENDPOINT": self.endpoint(50001),
            "DAPR_API_TOKEN": {"secretKeyRef": {"name": "client-dapr-token", "key": "token"}},
        }
        return objects.pod(f"client-{node}", objects.idle(**variables), node)


def _sum(samples: Sequence[Sample], name: str, **labels: str) -> float:
    """The values of the samples that have these labels, together."""
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())
