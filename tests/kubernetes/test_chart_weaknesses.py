"""The weaknesses of the existing chart, by their number in its reference: what is rendered in their place."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tests.support.chart import (
    MIDDLE,
    OLDEST,
    ONE_APP,
    container,
    helm,
    merged,
    notes,
    of_kind,
    one,
    pod,
    render,
    shared,
    workload,
)

pytestmark = pytest.mark.kubernetes
MANY = {"shared": {"multiApp": {"enabled": True}}}


def test_1_4_5_13_no_issuer_key_no_init_container_no_hooks():
    """Nothing copies the issuer's key or the trust anchors, nothing runs before the runtime, and no hook but the test."""
    objects = render(ONE_APP)
    assert "initContainers" not in pod(objects)["spec"]
    text = json.dumps(objects)
    assert "shared-cm" not in text
    assert "TRUST_ANCHORS" not in text
    assert not of_kind(objects, "ConfigMap")
    hooks = {
        each["metadata"]["name"]: each["metadata"]["annotations"]["helm.sh/hook"]
        for each in objects
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    assert hooks == {"my-dapr-shared-chart-test": "test"}


def rules(objects, kind="Role") -> dict[tuple[str, str], list[dict]]:
    """The rules of each role, by namespace and name."""
    return {
        (each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["rules"]
        for each in of_kind(objects, kind)
    }


def test_2_no_secrets_of_the_cluster():
    """One app: Dapr's resources and Secrets by name, in the release's namespace, and nothing of the cluster."""
    objects = render(ONE_APP)
    assert not of_kind(objects, "ClusterRole")
    assert not of_kind(objects, "ClusterRoleBinding")
    assert rules(objects) == {
        ("shop", "my-dapr-shared-chart"): [
            {
                "apiGroups": ["dapr.io"],
                "resources": ["components", "httpendpoints", "resiliencies", "subscriptions"],
                "verbs": ["list", "watch"],
            }
        ],
        ("shop", "my-dapr-shared-chart-secrets"): [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    named = rules(render(shared(daprd={"config": "appconfig"})))["shop", "my-dapr-shared-chart-own"]
    assert [(each["resources"], each["resourceNames"], each["verbs"]) for each in named] == [
        (["configurations"], ["appconfig"], ["get"]),
    ]  # fmt: skip


def test_2_roles_of_many_apps():
    """Many apps: a role in each watched namespace; of the cluster only the review of tokens, if they prove apps."""
    values = merged(MANY, {"shared": {"watchNamespaces": ["shop", "tools"], "secrets": {"names": ["redis"]}}})
    objects = render(values)
    assert not of_kind(objects, "ClusterRole")
    found = rules(objects)
    assert set(found) == {
        ("shop", "my-dapr-shared-chart"),
        ("shop", "my-dapr-shared-chart-secrets"),
        ("shop", "my-dapr-shared-chart-own"),
        ("tools", "my-dapr-shared-chart:shop:watch"),
        ("tools", "my-dapr-shared-chart:shop:secrets"),
    }
    assert found["tools", "my-dapr-shared-chart:shop:watch"] == found["shop", "my-dapr-shared-chart"]
    (read,) = found["tools", "my-dapr-shared-chart:shop:secrets"]
    assert (read["verbs"], read["resourceNames"]) == (["get"], ["redis"])
    assert {(each["resources"][0], *each["verbs"]) for each in found["shop", "my-dapr-shared-chart"]} == {
        ("components", "list", "watch"),
        ("apps", "list", "watch"),
        ("apps/status", "patch"),
        ("services", "list", "watch"),
        ("pods", "get", "list", "watch"),
        ("events", "create", "patch"),
    }
    for each in of_kind(objects, "RoleBinding"):
        assert each["roleRef"]["name"] == each["metadata"]["name"]
        assert each["subjects"] == [
            {"kind": "ServiceAccount", "name": "my-dapr-shared-chart", "namespace": "shop"},
        ]
    audience = {"shared": {"identity": {"serviceAccountAudience": "dapr-shared"}}}
    reviewing = rules(render(merged(values, audience)), "ClusterRole")
    assert reviewing == {
        ("", "my-dapr-shared-chart:shop:tokens"): [
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
        ]
    }
    keys = {"shared": {"identity": {"serviceAccountAudience": "a", "serviceAccountVerification": "keys"}}}
    assert [each["verbs"] for each in rules(render(merged(values, keys)), "ClusterRole").popitem()[1]] == [["get"]]


def test_2_what_is_not_discovered_is_not_read():
    """A kind that apps are not looked for in is not in the role, and without roles there are none."""
    of_apps = rules(render(merged(MANY, {"shared": {"discover": ["apps"]}})))["shop", "my-dapr-shared-chart"]
    assert not {"pods", "services"} & {each["resources"][0] for each in of_apps}
    of_pods = rules(render(merged(MANY, {"shared": {"discover": ["pods"]}})))["shop", "my-dapr-shared-chart"]
    assert {each["resources"][0] for each in of_pods} == {"components", "pods", "events"}
    proved = {"discover": ["apps"], "identity": {"serviceAccountAudience": "dapr-shared"}}
    of_tokens = rules(render(merged(MANY, {"shared": proved})))["shop", "my-dapr-shared-chart"]
    assert [each["verbs"] for each in of_tokens if each["resources"] == ["pods"]] == [["get"]]
    assert not rules(render(shared(rbac={"create": False})))


def test_2_all_namespaces():
    """All namespaces: cluster roles; Secrets still by name alone, and in named namespaces if the values say so."""
    everywhere = merged(MANY, {"shared": {"watchNamespaces": ["*"]}})
    found = rules(render(everywhere), "ClusterRole")
    assert set(found) == {("", "my-dapr-shared-chart:shop:watch"), ("", "my-dapr-shared-chart:shop:secrets")}
    assert found["", "my-dapr-shared-chart:shop:secrets"][0]["verbs"] == ["get"]
    assert "every Secret of the cluster" in notes(everywhere)
    fewer = merged(everywhere, {"shared": {"secrets": {"namespaces": ["shop"]}}})
    assert set(rules(render(fewer), "ClusterRole")) == {("", "my-dapr-shared-chart:shop:watch")}
    assert "every Secret of the cluster" not in notes(fewer)


def test_3_the_app_has_no_part_in_the_probes():
    """Start, liveness and readiness ask for paths that no app has a part in, on the port of the health checks."""
    runtime = container(render(ONE_APP))
    probes = {kind: runtime[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/livez", "port": "public-http"},
        "liveness": {"path": "/livez", "port": "public-http"},
        "readiness": {"path": "/readyz", "port": "public-http"},
    }


def test_6_ports_are_those_of_the_values():
    """A changed port is changed in the argument, the container and both Services."""
    ports = {"httpPort": 3600, "grpcPort": 3601, "internalGrpcPort": 3602, "metrics": {"port": 3603}}
    objects = render(shared(daprd=ports))
    for each in of_kind(objects, "Service"):
        assert [(port["name"], port["port"], port["targetPort"]) for port in each["spec"]["ports"]] == [
            ("dapr-http", 3600, 3600), ("dapr-grpc", 3601, 3601),
            ("dapr-internal", 3602, 3602), ("dapr-metrics", 3603, 3603),
        ]  # fmt: skip
    assert {"--dapr-http-port=3600", "--metrics-port=3603"} < set(container(objects)["args"])
    assert [each["containerPort"] for each in container(objects)["ports"]] == [3600, 3601, 3602, 3501, 3603]


def test_7_the_scheduler_has_its_argument():
    """A scheduler's address is in the variable that daprd read, and in the flag that it reads now; none is made up."""
    given = container(render(shared(scheduler={"address": "a:1,b:2"})))
    assert "--scheduler-host-address=a:1,b:2" in given["args"]
    assert given["env"][1] == {"name": "DAPR_SCHEDULER_HOST_ADDRESS", "value": "a:1,b:2"}
    assert not any("scheduler" in word for word in container(render(ONE_APP))["args"])


def policies(objects) -> dict[str, str]:
    """The internal traffic policy of each Service."""
    return {each["metadata"]["name"]: each["spec"]["internalTrafficPolicy"] for each in of_kind(objects, "Service")}


def test_8_node_local():
    """A DaemonSet's own Service stays on the node, the one that sidecars look up does not; a Deployment's never does."""
    assert policies(render(ONE_APP)) == {"orders-dapr": "Cluster", "my-dapr": "Local"}
    assert policies(render(shared(strategy="deployment"))) == {"orders-dapr": "Cluster", "my-dapr": "Cluster"}
    assert policies(render(MANY)) == {"my-dapr": "Local"}
    wide = shared(service={"internalTrafficPolicy": "Cluster"})
    assert policies(render(wide)) == {"orders-dapr": "Cluster", "my-dapr": "Cluster"}


def test_8_one_name_one_service():
    """Where release and app id give one name there is one Service, reachable from all nodes, and the notes say so."""
    objects = render(ONE_APP, release="orders")
    assert policies(objects) == {"orders-dapr": "Cluster"}
    assert "so there is one Service, orders-dapr, and it is not node-local" in notes(ONE_APP, release="orders")
    local = shared(service={"internalTrafficPolicy": "Local"})
    assert policies(render(local, release="orders")) == {"orders-dapr": "Local"}


def test_8_host_ports():
    """Ports of the node are optional; an update then stops the old pod first, because two cannot have one port."""
    values = shared(hostPort={"enabled": True, "grpc": 50099})
    objects = render(values)
    assert [each.get("hostPort") for each in container(objects)["ports"]] == [3500, 50099, None, None, None]
    assert workload(objects)["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "50099 (gRPC). While a node's pod is updated, calls to them are refused" in notes(values)


def test_9_the_apps_token_reaches_the_runtime():
    """The token for the app is in the Secret, and in the runtime's environment as APP_API_TOKEN."""
    objects = render(shared(initContainer={"token": "for-the-app"}))
    assert base64.b64decode(one(objects, "Secret")["data"]["app-api-token"]) == b"for-the-app"
    reference = {"name": "my-dapr-shared-chart", "key": "app-api-token", "optional": True}
    assert container(objects)["env"][-1] == {"name": "APP_API_TOKEN", "valueFrom": {"secretKeyRef": reference}}


def test_10_a_token_by_default():
    """A token of 40 characters is made where none is given; an open instance is a choice, and the notes warn of it."""
    unset = shared(daprd={"token": ""})
    made = base64.b64decode(one(render(unset), "Secret")["data"]["dapr-api-token"])
    other = base64.b64decode(one(render(unset, release="other"), "Secret")["data"]["dapr-api-token"])
    assert len(made) == 40
    assert made != other
    opened = merged(unset, {"shared": {"daprd": {"requireToken": False}}})
    assert one(render(opened), "Secret")["data"] == {"dapr-api-token": ""}
    assert "whoever reaches the Service is the app orders" in notes(opened)
    own = shared(daprd={"existingSecret": "mine"})
    assert not of_kind(render(own), "Secret")
    used = {
        each["valueFrom"]["secretKeyRef"]["name"] for each in container(render(own))["env"] if "TOKEN" in each["name"]
    }
    assert used == {"mine"}


def test_10_a_token_for_each_app():
    """Each of `apps` without evidence of its own gets a Secret with a token, which its App names and the runtime may read."""
    values = {
        "apps": [
            {"appId": "stock"},
            {"appId": "bill", "tokens": [{"secretKeyRef": {"name": "bill-token"}}]},
            {"appId": "mail", "serviceAccount": "mailer"},
        ],
        "shared": {"secrets": {"names": ["redis"]}},
    }
    objects = render(values)
    assert {each["metadata"]["name"] for each in of_kind(objects, "Secret")} == {
        "my-dapr-shared-chart", "stock-dapr-token",
    }  # fmt: skip
    apps = list(yaml.safe_load_all(one(objects, "ConfigMap")["data"]["apps.yaml"]))
    assert apps[0]["spec"]["tokens"] == [{"secretKeyRef": {"name": "stock-dapr-token", "key": "token"}}]
    assert "tokens" not in apps[2]["spec"]
    (read,) = rules(objects)["shop", "my-dapr-shared-chart-secrets"]
    assert read["resourceNames"] == ["redis", "stock-dapr-token", "bill-token"]


@pytest.mark.parametrize("strategy", ["daemonset", "deployment"])
def test_12_updates_without_loss(strategy):
    """The new pod is ready before the old one goes, which first leaves its Services, then ends its calls in its time."""
    spec = workload(render(shared(strategy=strategy)))["spec"]
    update = spec.get("updateStrategy") or spec["strategy"]
    assert update == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    template = spec["template"]["spec"]
    assert template["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}
    assert template["terminationGracePeriodSeconds"] == 20
    assert template["containers"][0]["resources"]["requests"]


@pytest.mark.parametrize(
    ("values", "grace"),
    [
        ({"preStopSeconds": 30}, 45),
        ({"daprd": {"gracefulShutdownSeconds": 25}}, 40),
        ({"daprd": {"gracefulShutdownSeconds": 0}}, 75),
        ({"terminationGracePeriodSeconds": 99}, 99),
    ],
)
def test_12_the_grace_period_is_enough(values, grace):
    """The grace period is longer than the wait, and the calls in flight, may take together."""
    assert pod(render(shared(**values)))["spec"]["terminationGracePeriodSeconds"] == grace


def test_12_waiting_before_the_end_on_older_clusters():
    """Kubernetes before 1.30 has no sleep of its own, and the image no shell, so its Python waits; and none is a choice."""
    assert container(render(ONE_APP, kubernetes=MIDDLE))["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}
    command = {"exec": {"command": ["python3", "-c", "import time; time.sleep(5)"]}}
    assert container(render(ONE_APP, kubernetes=OLDEST))["lifecycle"]["preStop"] == command
    assert "lifecycle" not in container(render(shared(preStopSeconds=0)))


def test_12_disruptions_scaling_and_spread():
    """A Deployment has a budget for disruptions and a soft spread, and an autoscaler in place of replicas if wanted."""
    objects = render(shared(strategy="deployment"))
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = pod(objects)["spec"]["topologySpreadConstraints"]
    # Nodes alone: a constraint of zones takes nodes without one out of account, and then nothing is spread.
    assert [(each["topologyKey"], each["whenUnsatisfiable"]) for each in spread] == [
        ("kubernetes.io/hostname", "ScheduleAnyway")
    ]
    assert spread[0]["matchLabelKeys"] == ["pod-template-hash"]
    selector = workload(objects)["spec"]["selector"]
    assert all(each["labelSelector"] == selector for each in spread)
    assert not of_kind(objects, "HorizontalPodAutoscaler")
    scaling = {"autoscaling": {"enabled": True}, "podDisruptionBudget": {"enabled": False}}
    scaled = render(shared(strategy="deployment", deployment={**scaling, "topologySpread": {"enabled": False}}))
    assert "replicas" not in workload(scaled)["spec"]
    target = one(scaled, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "my-dapr-shared-chart"}
    assert not of_kind(scaled, "PodDisruptionBudget")
    assert "topologySpreadConstraints" not in pod(scaled)["spec"]
    assert not {"PodDisruptionBudget", "HorizontalPodAutoscaler"} & {each["kind"] for each in render(ONE_APP)}


def test_12_hardening():
    """Pod and container, also of the test, are as the restricted profile of Kubernetes wants them; values go over it."""
    objects = render(ONE_APP)
    for spec in (pod(objects)["spec"], one(objects, "Pod")["spec"]):
        assert spec["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        assert spec["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
    mounts = {each["mountPath"] for each in container(objects)["volumeMounts"]}
    assert {"/data", "/tmp"} < mounts
    assert "--data-dir=/data" in container(objects)["args"]
    given = {"podSecurityContext": {"runAsUser": 1}, "securityContext": {"readOnlyRootFilesystem": False}}
    changed = pod(render(merged(ONE_APP, given)))["spec"]
    assert (changed["securityContext"]["runAsUser"], changed["securityContext"]["fsGroup"]) == (1, 65532)
    assert changed["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    bare = pod(render(merged(ONE_APP, {"podSecurityContext": None, "securityContext": None})))["spec"]
    assert "securityContext" not in bare
    assert "securityContext" not in bare["containers"][0]


def test_12_network_policy():
    """The policy opens the API to the namespaces that are served, and the health checks to the nodes."""
    values = merged(MANY, {"shared": {"watchNamespaces": ["tools"], "networkPolicy": {"enabled": True}}})
    spec = one(render(values), "NetworkPolicy")["spec"]
    api, inside, metrics, health = spec["ingress"]
    (near,) = api["from"]
    assert near["namespaceSelector"]["matchExpressions"][0]["values"] == ["tools", "shop"]
    assert [each["port"] for each in api["ports"]] == [3500, 50001]
    assert (inside["ports"][0]["port"], metrics["ports"][0]["port"]) == (50002, 9090)
    assert health == {"ports": [{"port": 3501, "protocol": "TCP"}]}
    everywhere = render(merged(values, {"shared": {"watchNamespaces": ["*"]}}))
    assert one(everywhere, "NetworkPolicy")["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}}]
    own = render(merged(values, {"shared": {"networkPolicy": {"apiFrom": [{"podSelector": {}}]}}}))
    assert one(own, "NetworkPolicy")["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]


def test_14_values_that_had_no_effect():
    """The path of the app's health check counts; checkPath, which was read in its place, and channelAddress still do."""
    health = {"enabled": True, "path": "/mine"}
    assert "--app-health-check-path=/mine" in container(render(shared(daprd={"appHealth": health})))["args"]
    both = shared(daprd={"appHealth": {**health, "checkPath": "/old"}})
    assert "--app-health-check-path=/old" in container(render(both))["args"]
    stale = shared(remoteURL="", channelAddress="orders.old")
    assert "--app-channel-address=orders.old" in container(render(stale))["args"]
    image = shared(initContainer={"image": {"tag": "0.0.15"}})
    assert "shared.initContainer.image has no effect" in notes(image)


def test_18_19_configuration_and_metrics():
    """The pod says its Configuration; metrics are found by a ServiceMonitor, of one Service, or by annotations."""
    values = shared(
        daprd={"config": "appconfig", "metrics": {"annotations": True}}, serviceMonitor={"enabled": True},
        service={"port80": True},
    )  # fmt: skip
    objects = render(values)
    annotations = pod(objects)["metadata"]["annotations"]
    assert annotations["dapr.io/config"] == "appconfig"
    assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/port"]) == ("true", "9090")
    wanted = one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    chosen = [each for each in of_kind(objects, "Service") if wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in chosen] == ["my-dapr"]
    assert one(objects, "ServiceMonitor")["spec"]["endpoints"][0]["port"] == "dapr-metrics"
    assert one(objects, "Service", "orders-dapr")["spec"]["ports"][-1] == {
        "name": "dapr-http-80", "port": 80, "targetPort": 3500, "protocol": "TCP",
    }  # fmt: skip
    plain = pod(render(ONE_APP))["metadata"]["annotations"]
    assert not any(key.startswith(("prometheus.io/", "dapr.io/config")) for key in plain)


def test_apps_change_without_a_restart():
    """Other `apps` change the ConfigMap and not the pod, whose folder of apps the kubelet keeps in step."""
    first = render({"apps": [{"appId": "stock"}]})
    second = render({"apps": [{"appId": "stock"}, {"appId": "mail", "channel": {"port": 8001}}]})
    assert workload(first) == workload(second)
    assert one(first, "ConfigMap") != one(second, "ConfigMap")
    (mount,) = [each for each in container(first)["volumeMounts"] if each["name"] == "apps"]
    assert mount == {"name": "apps", "mountPath": "/etc/dapr-shared/apps", "readOnly": True}
    assert {"name": "apps", "configMap": {"name": "my-dapr-shared-chart-apps"}} in pod(first)["spec"]["volumes"]


def test_services_of_apps():
    """On request, each of `apps` in the release's namespace has the Service by which sidecars look it up."""
    apps = [
        {"appId": "stock"},
        {"appId": "my"},
        {"appId": "bill", "namespace": "tools", "tokens": [{"sha256": "0" * 64}]},
    ]
    values = {"apps": apps, "shared": {"watchNamespaces": ["shop", "tools"], "service": {"perApp": True}}}
    assert policies(render(values)) == {"stock-dapr": "Cluster", "my-dapr": "Cluster"}


def test_lint():
    """`helm lint` has nothing to warn of."""
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "", ONE_APP, "--strict")
