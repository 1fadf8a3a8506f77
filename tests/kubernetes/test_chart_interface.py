"""The interface of the existing chart (reference chart): objects, names, labels, ports, arguments and their order."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from dapr_shared.cli.flags import parse
from tests.support.chart import (
    CHART,
    ONE_APP,
    container,
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
FILES = Path(__file__).parent / "chart"
OLD = yaml.safe_load((FILES / "old-values.yaml").read_text(encoding="utf-8"))
FULL = yaml.safe_load((FILES / "full-values.yaml").read_text(encoding="utf-8"))
MANY = {"shared": {"multiApp": {"enabled": True}}}

_SMALL = """
    /daprd --mode=kubernetes --log-level=info --log-as-json=true --dapr-http-port=3500 --dapr-grpc-port=50001
    --dapr-internal-grpc-port=50002 --dapr-listen-addresses=0.0.0.0 --dapr-public-port=3501
    --dapr-graceful-shutdown-seconds=-1 --app-id=orders --app-port=8080 --app-protocol=http --control-plane-address=
    --placement-host-address= --sentry-address= --enable-metrics=true --metrics-port=9090 --enable-mtls=false
    --enable-api-logging=true --app-channel-address=orders.shop --config=
"""
_OLD = """
    /daprd --mode=kubernetes --log-level=debug --log-as-json=false --dapr-http-port=3501 --dapr-grpc-port=50011
    --dapr-internal-grpc-port=50012 --dapr-listen-addresses=0.0.0.0 --dapr-public-port=3502
    --dapr-graceful-shutdown-seconds=12 --app-id=orders --app-port=8080 --app-protocol=grpc
    --control-plane-address=dapr-api.dapr-system.svc.cluster.local:80
    --placement-host-address=dapr-placement-server.dapr-system.svc.cluster.local:50005
    --sentry-address=dapr-sentry.dapr-system.svc.cluster.local:80 --enable-metrics=true --metrics-port=9091
    --enable-mtls=false --enable-api-logging=false --app-channel-address=orders.shop.svc.cluster.local
    --config=appconfig --enable-app-health-check=true --app-health-check-path=/check --app-health-probe-interval=7
    --app-health-probe-timeout=3000 --app-health-threshold=2
"""
ARGUMENTS, OLD_ARGUMENTS = _SMALL.split(), _OLD.split()


@pytest.mark.parametrize("strategy", ["daemonset", "deployment"])
def test_arguments_of_a_small_release(strategy):
    """Arguments 0 to 21 are those of the existing chart in its order, without a command before them; ours follow."""
    runtime = container(render(shared(strategy=strategy)))
    assert runtime["args"] == [*ARGUMENTS, "--data-dir=/data"]
    assert "command" not in runtime


def test_the_domain_of_the_cluster():
    """A domain that is given reaches the runtime and the notes; without one the runtime finds it out."""
    given = shared(clusterDomain="example.org")
    assert container(render(given))["args"] == [*ARGUMENTS, "--data-dir=/data", "--cluster-domain=example.org"]
    assert parse(container(render(given))["args"][1:]).settings().cluster_domain == "example.org"
    assert "value: http://my-dapr.shop.svc.example.org:3500\n" in notes(given)
    assert "value: http://my-dapr.shop.svc.cluster.local:3500\n" in notes(ONE_APP)
    assert "cluster-domain" not in str(render(shared(clusterDomain=None)))


def test_a_values_file_of_the_existing_chart():
    """A values file with every key that the existing chart knows renders, and each value arrives where it did."""
    objects = render(OLD)
    assert workload(objects)["spec"]["replicas"] == 2
    runtime, template = container(objects), pod(objects)
    scheduler = "dapr-scheduler-server-0.dapr-scheduler-server.dapr-system.svc.cluster.local:50006"
    assert runtime["args"] == [*OLD_ARGUMENTS, "--data-dir=/data", f"--scheduler-host-address={scheduler}"]
    assert [each["containerPort"] for each in runtime["ports"]] == [3501, 50011, 50012, 3502, 9091]
    assert runtime["imagePullPolicy"] == "Always"
    assert template["metadata"]["annotations"]["team"] == "shop"
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry-login"}]
    assert template["spec"]["securityContext"]["fsGroup"] == 2000
    assert runtime["securityContext"]["runAsUser"] == 2000
    assert template["spec"]["nodeSelector"] == {"agentpool": "backend"}
    assert len(template["spec"]["tolerations"]) == 1
    assert secret(objects) == {"dapr-api-token": "for-the-runtime", "app-api-token": "for-the-app"}


def test_daprs_own_images_are_not_run():
    """An image of Dapr's daprd, which old values files name, is replaced by ours; a copy of ours elsewhere is used."""
    assert container(render(OLD))["image"] == "localhost/dapr-shared:0.1.0"
    mirror = {"registry": "mirror.example/dapr", "name": "daprd", "tag": 7}
    assert container(render(shared(daprd={"image": mirror})))["image"] == "mirror.example/dapr/daprd:7"
    assert container(render(shared(daprd={"image": {"registry": ""}})))["image"] == "dapr-shared:0.1.0"


def test_environment():
    """The environment is the existing chart's in its order without DAPR_TRUST_ANCHORS, and three of ours after it."""
    environment = container(render(ONE_APP))["env"]
    assert [each["name"] for each in environment] == [
        "DAPR_CONTROLPLANE_NAMESPACE", "DAPR_SCHEDULER_HOST_ADDRESS", "DAPR_API_TOKEN",
        "DAPR_CONTROLPLANE_TRUST_DOMAIN", "NAMESPACE", "POD_NAME", "POD_IP", "NODE_NAME", "APP_API_TOKEN",
    ]  # fmt: skip
    sources = {each["name"]: each.get("valueFrom", each.get("value")) for each in environment}
    name = "my-dapr-shared-chart"
    assert sources == {
        "DAPR_CONTROLPLANE_NAMESPACE": "dapr-system",
        "DAPR_SCHEDULER_HOST_ADDRESS": "",
        "DAPR_API_TOKEN": {"secretKeyRef": {"name": name, "key": "dapr-api-token"}},
        "DAPR_CONTROLPLANE_TRUST_DOMAIN": "cluster.local",
        "NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}},
        "APP_API_TOKEN": {"secretKeyRef": {"name": name, "key": "app-api-token", "optional": True}},
    }


@pytest.mark.parametrize(("strategy", "kind"), [("daemonset", "DaemonSet"), ("deployment", "Deployment")])
def test_objects_and_names(strategy, kind):
    """Workload, Service, Secret and service account have the names of the existing chart; selectors are unchanged."""
    objects = render(shared(strategy=strategy))
    name = "my-dapr-shared-chart"
    found = workload(objects)
    assert (found["kind"], found["metadata"]["name"]) == (kind, name)
    selector = {"app.kubernetes.io/name": "dapr-shared-chart", "app.kubernetes.io/instance": "my"}
    assert found["spec"]["selector"] == {"matchLabels": selector}
    assert selector.items() <= pod(objects)["metadata"]["labels"].items()
    assert pod(objects)["metadata"]["labels"]["dapr.io/app-id"] == "orders"
    assert pod(objects)["metadata"]["annotations"]["dapr.io/app-id"] == "orders"
    assert one(objects, "Service", "orders-dapr")["spec"]["selector"] == selector
    assert one(objects, "Secret")["metadata"]["name"] == name
    assert one(objects, "Secret")["metadata"]["labels"]["app"] == name
    assert one(objects, "ServiceAccount")["metadata"]["name"] == name
    assert pod(objects)["spec"]["serviceAccountName"] == name
    labels = found["metadata"]["labels"]
    assert labels["helm.sh/chart"].startswith("dapr-shared-chart-")
    assert labels["app.kubernetes.io/managed-by"] == "Helm"
    assert all(each["metadata"]["labels"]["shared.dapr.io/instance"] == "my" for each in objects)


def test_names_that_are_given():
    """nameOverride, fullnameOverride and long release names make the names that they make in the existing chart."""
    assert workload(render(merged(ONE_APP, {"nameOverride": "dapr"})))["metadata"]["name"] == "my-dapr"
    named = render(merged(ONE_APP, {"nameOverride": "dapr"}))
    assert workload(named)["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "dapr"
    assert workload(render(merged(ONE_APP, {"fullnameOverride": "x" * 62 + "-y"})))["metadata"]["name"] == "x" * 62
    long = render(ONE_APP, release="r" * 53)
    assert workload(long)["metadata"]["name"] == "r" * 53 + "-dapr-shar"
    assert all(len(each["metadata"]["name"]) <= 63 for each in long if not each["kind"].startswith("Cluster"))
    assert one(render(ONE_APP, release="2go"), "Service", "r-2go-dapr")


@pytest.mark.parametrize(
    ("values", "account"),
    [
        ({"create": True, "name": "tea"}, "tea"),
        ({"create": False, "name": "tea"}, "tea"),
        ({"create": False}, "default"),
    ],
)
def test_service_accounts(values, account):
    """The service account is the given one, or `default` where none is made; the roles are bound to it."""
    objects = render(shared(serviceAccount=values))
    assert pod(objects)["spec"]["serviceAccountName"] == account
    assert len(of_kind(objects, "ServiceAccount")) == values["create"]
    assert {each["subjects"][0]["name"] for each in of_kind(objects, "RoleBinding")} == {account}


def test_volumes_and_ports():
    """Container ports, the token for Dapr's certificate authority and its mount are those of the existing chart."""
    objects = render(ONE_APP)
    runtime = container(objects)
    assert [(each["name"], each["containerPort"], each["protocol"]) for each in runtime["ports"]] == [
        ("http", 3500, "TCP"), ("grpc", 50001, "TCP"), ("internal-grpc", 50002, "TCP"),
        ("public-http", 3501, "TCP"), ("metrics", 9090, "TCP"),
    ]  # fmt: skip
    token = {
        "audience": "spiffe://cluster.local/ns/dapr-system/dapr-sentry",
        "expirationSeconds": 7200,
        "path": "token",
    }
    volume = {"defaultMode": 420, "sources": [{"serviceAccountToken": token}]}
    assert pod(objects)["spec"]["volumes"][0] == {"name": "dapr-identity-token", "projected": volume}
    assert runtime["volumeMounts"][0] == {
        "name": "dapr-identity-token", "mountPath": "/var/run/secrets/dapr.io/sentrytoken", "readOnly": True,
    }  # fmt: skip


@pytest.mark.parametrize("given", [{"name": "login"}, [{"name": "login"}], ["login"], "login"])
def test_pull_secrets(given):
    """Secrets for pulling are taken as a map, a list of maps, a list of names or one name."""
    objects = render(merged(ONE_APP, {"imagePullSecrets": given}))
    assert pod(objects)["spec"]["imagePullSecrets"] == [{"name": "login"}]


def test_replicas():
    """The Deployment has the replicas of the values; null is 1, 0 is none."""
    for given, found in ((None, 1), (0, 0), (3, 3)):
        objects = render(shared(strategy="deployment", deployment={"replicas": given}))
        assert workload(objects)["spec"]["replicas"] == found


@pytest.mark.parametrize("values", [ONE_APP, OLD, FULL, MANY], ids=["small", "old", "full", "many"])
def test_our_executable_takes_the_arguments(values):
    """Every argument that the chart renders is a flag of our executable, with a value that it takes."""
    words = container(render(values))["args"]
    assert words[0] == "/daprd"
    settings = parse(words[1:]).settings()
    assert settings.mode == "kubernetes"
    assert settings.data_dir == "/data"
    assert settings.multi_app == (values in (FULL, MANY))


def test_arguments_of_many_apps():
    """In multi-app mode our flags follow, in a fixed order; without an app id those of one app are left out."""
    words = container(render(FULL))["args"]
    assert words[words.index("--data-dir=/data") :] == [
        "--data-dir=/data", "--cluster-domain=example.org", "--multi-app=true", "--apps=/etc/dapr-shared/apps",
        "--watch-namespaces=shop,tools",
        "--discover=apps,services,pods", "--service-account-audience=dapr-shared",
        "--service-account-verification=review", "--identify-by-address=true", "--max-calls-per-app=200",
        "--tls-cert=/certificates/tls.crt", "--tls-key=/certificates/tls.key",
    ]  # fmt: skip
    of_one = ("--app-id=", "--app-port=", "--app-protocol=", "--app-channel-address=")
    words = container(render(MANY))["args"]
    assert words == [
        *(each for each in ARGUMENTS if not each.startswith(of_one)),
        "--data-dir=/data", "--multi-app=true", "--apps=/etc/dapr-shared/apps",
    ]  # fmt: skip
    environment = {each["name"] for each in container(render(MANY))["env"]}
    assert not {"DAPR_API_TOKEN", "APP_API_TOKEN"} & environment


def secret(objects) -> dict[str, str]:
    """What the Secret of the release holds."""
    return {key: base64.b64decode(value).decode() for key, value in one(objects, "Secret")["data"].items()}


def test_the_chart_is_the_existing_ones_name():
    """The chart has the name of the existing one, and says which version of the runtime it runs."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["name"] == "dapr-shared-chart"
    assert chart["appVersion"]
