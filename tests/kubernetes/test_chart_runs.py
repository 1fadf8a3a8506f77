"""What a release runs: the chart's arguments, environment and rights, given to the real process at a real API server."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from tests.support.calls import ask
from tests.support.chart import CHART, merged, one, render
from tests.support.instance import running
from tests.support.kubernetes_client import CommandError
from tests.support.ports import free_ports

pytestmark = pytest.mark.kubernetes
NAME = "my-dapr-shared-chart"
OF_THE_TEST = (
    "--dapr-http-port=", "--dapr-grpc-port=", "--metrics-port=", "--dapr-public-port=", "--dapr-listen-addresses=",
    "--log-as-json=", "--data-dir=",
)  # fmt: skip
"""Arguments that a test has to say otherwise: ports are free ones, listeners on loopback, data in a folder of its own."""


class App:
    """An app that keeps the headers of what it is asked."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        headers = self.headers

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers.append({key.lower(): value for key, value in self.headers.items()})
                found = self.path in ("/hello", "/healthz")
                self.send_response(200 if found else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def app():
    made = App()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def expected(line) -> bool:
    """Whether a line of the log is no complaint: brought about by the test, or said at each start."""
    starting = line.get("problem", "").endswith("not listed yet")
    return starting or line["msg"] == "identity refused"


class Release:
    """A release in the API server, and its one pod as a process of the test."""

    def __init__(self, server, namespace, folder) -> None:
        self.server, self.namespace, self.folder = server, namespace, folder
        self.apps = folder / "apps"
        self.objects: list[dict] = []
        self.alone = True
        """Whether no other test's objects are seen, so that the log has to be without complaints."""

    def install(self, values) -> None:
        """Install or upgrade it, and bring the mounted `apps` up to date as the kubelet does."""
        words = ("upgrade", "--install", "my", str(CHART), "-n", self.namespace, "--skip-crds", "-f", "-")
        self.server.helm(*words, given=json.dumps(values))
        self.objects = render(values)
        self.apps.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(CommandError):
            given = self.server.get("configmap", f"{NAME}-apps", self.namespace)["data"]["apps.yaml"]
            draft = self.apps / "..draft"
            draft.write_text(given, encoding="utf-8")
            draft.replace(self.apps / "apps.yaml")

    def secret(self, name: str, key: str) -> str | None:
        """What a Secret holds."""
        try:
            data = self.server.get("secret", name, self.namespace)["data"]
        except CommandError:
            return None
        return base64.b64decode(data[key]).decode() if key in data else None

    def environment(self, container) -> dict[str, str]:
        """The environment that the kubelet would make."""
        fields = {
            "metadata.namespace": self.namespace, "metadata.name": "my-0", "status.podIP": "127.0.0.1",
            "spec.nodeName": "node1", "metadata.uid": "5a1c2b7e-0000-4000-8000-000000000001",
        }  # fmt: skip
        made: dict[str, str] = {}
        for each in container["env"]:
            source = each.get("valueFrom", {})
            if "secretKeyRef" in source:
                value = self.secret(source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
                assert value is not None or source["secretKeyRef"].get("optional")
            else:
                value = fields[source["fieldRef"]["fieldPath"]] if source else each["value"]
            if value is not None:
                made[each["name"]] = value
        return made

    @contextlib.contextmanager
    def pod(self):
        """The process that a pod would run."""
        (container,) = one(self.objects, "DaemonSet")["spec"]["template"]["spec"]["containers"]
        given = [each for each in container["args"][1:] if not each.startswith(OF_THE_TEST)]
        given = [each.replace("/etc/dapr-shared/apps", str(self.apps)) for each in given]
        token = self.server.service_account_token(self.namespace, NAME)
        kubeconfig = self.server.kubeconfig_for(token, self.namespace, self.folder / "kubeconfig")
        environment = {**self.environment(container), "KUBECONFIG": str(kubeconfig)}
        data = f"--data-dir={self.folder / 'data'}"
        with running(self.folder / "pod", data, *given, env=environment, entry="daprd") as instance:
            for path in ("/livez", "/readyz"):
                assert ask(instance.public, "GET", path).status == 200
            yield instance
            bad = [line for line in instance.log() if line["level"] in ("warning", "error") and not expected(line)]
            assert not bad or not self.alone, "a right is missing, or something else is wrong"

    def check(self, instance) -> str:
        """What the pod of `helm test` says; it must end well."""
        (container,) = one(self.objects, "Pod")["spec"]["containers"]
        environment = {each["name"]: each.get("value", "") for each in container["env"]}
        environment["ENDPOINT"] = f"http://{instance.http}"
        if "DAPR_API_TOKEN" in environment:
            environment["DAPR_API_TOKEN"] = self.secret(NAME, "dapr-api-token") or ""
        words = [sys.executable, *container["command"][1:], *container["args"]]
        done = subprocess.run(
            words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def token_proves(self, instance, secret: str) -> bool:
        """Whether the token of an app's Secret is let in."""
        token = self.secret(secret, "token")
        assert token is not None
        return ask(instance.http, "GET", "/v1.0/metadata", headers=[("dapr-api-token", token)]).status == 200


def status_of(release, app: str) -> dict:
    """What stands at an App."""
    return release.server.get("apps.shared.dapr.io", app, release.namespace).get("status", {})


@pytest.fixture
def release(api_server, namespace, tmp_path):
    api_server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    api_server.kubectl("wait", "--for=condition=Established", "-f", str(CHART / "crds"), "--timeout=30s")
    return Release(api_server, namespace, tmp_path)


@pytest.fixture
def ports() -> dict:
    """Values for a process beside others."""
    (internal,) = free_ports(1)
    flags = ["--metrics-listen-address=127.0.0.1", "--dapr-internal-grpc-listen-address=127.0.0.1"]
    return {"shared": {"daprd": {"internalGrpcPort": internal, "extraArgs": flags}}}


def test_one_app(release, ports, app):
    """The release's token lets its app in; resources and Secrets are read; the app gets the token that is meant for it."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": {"password": "tea"}}
    metadata = [{"name": "password", "secretKeyRef": {"name": "redis", "key": "password"}}]
    store = {
        "apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "statestore"},
        "spec": {"type": "state.in-memory", "version": "v1", "metadata": metadata},
    }  # fmt: skip
    release.server.apply(secret, store, namespace=release.namespace)
    values = {
        "appId": "orders", "remoteURL": "127.0.0.1", "remotePort": app.port,
        "initContainer": {"token": "for-the-app"},
    }  # fmt: skip
    release.install(merged(ports, {"shared": values}))
    with release.pod() as instance:
        said = release.check(instance)
        assert "/v1.0/metadata without token: 401" in said
        token = [("dapr-api-token", release.secret(NAME, "dapr-api-token") or "")]
        assert ask(instance.http, "GET", "/v1.0/state/statestore/tea", headers=token).status == 204
        assert ask(instance.http, "GET", "/v1.0/invoke/orders/method/hello", headers=token).status == 200
        assert app.headers[-1]["dapr-api-token"] == "for-the-app"


def test_many_apps(release, ports, app):
    """Each of `apps` is let in by its own token; one that is added to the values, or as an App, is there without a restart."""
    channel = {"channel": {"address": "127.0.0.1", "port": app.port}}
    values = merged(ports, {"apps": [{"appId": "orders", **channel}, {"appId": "stock"}]})
    release.install(values)
    with release.pod() as instance:
        assert "/v1.0/metadata without token: 401" in release.check(instance)
        assert release.token_proves(instance, "orders-dapr-token")
        assert release.token_proves(instance, "stock-dapr-token")
        release.install(merged(values, {"apps": [*values["apps"], {"appId": "mail"}]}))
        release.server.wait_until(lambda: release.token_proves(instance, "mail-dapr-token"), "the app mail")
        given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bill"}, "stringData": {"token": "b-i-l-l"}}
        spec = {"tokens": [{"secretKeyRef": {"name": "bill", "key": "token"}}]}
        bill = {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": "bill"}, "spec": spec}
        release.server.apply(given, bill, namespace=release.namespace)
        release.server.wait_until(lambda: release.token_proves(instance, "bill"), "the app bill")
        release.server.wait_until(lambda: status_of(release, "bill").get("ready"), "the status of the app bill")
        token = [("dapr-api-token", release.secret("stock-dapr-token", "token") or "")]
        assert ask(instance.http, "GET", "/v1.0/invoke/orders/method/hello", headers=token).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("everywhere", [True, False], ids=["all", "named"])
def test_namespaces(release, ports, everywhere):
    """Apps of watched namespaces, all or named ones, are proved by their Secrets and by tokens of their service accounts."""
    other = release.server.create_namespace()
    watched = ["*"] if everywhere else [release.namespace, other]
    identity = {"serviceAccountAudience": "dapr-shared"}
    values = {"multiApp": {"enabled": True}, "watchNamespaces": watched, "identity": identity}
    release.install(merged(ports, {"shared": values}))
    release.alone = not everywhere
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bill"}, "stringData": {"token": "b-i-l-l"}}
    evidence = {
        "bill": {"tokens": [{"secretKeyRef": {"name": "bill", "key": "token"}}]},
        "mail": {"serviceAccount": "default"},
    }
    apps = [
        {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": name}, "spec": spec}
        for name, spec in evidence.items()
    ]
    release.server.apply(secret, *apps, namespace=other)

    def proves(token: str) -> bool:
        return ask(instance.http, "GET", "/v1.0/metadata", headers=[("dapr-api-token", token)]).status == 200

    with release.pod() as instance:
        release.server.wait_until(lambda: proves("b-i-l-l"), "the app bill")
        account = release.server.service_account_token(other, "default", "dapr-shared")
        release.server.wait_until(lambda: proves(account), "the app mail")
        assert not proves(release.server.service_account_token(other, "default", "others"))
    release.server.helm("uninstall", "my", "-n", release.namespace)
    release.server.delete("namespace", other)


def full_name(resource: str, group: str) -> str:
    """A resource as errors name it: pods, apps.shared.dapr.io/status."""
    name, _, below = resource.partition("/")
    return ".".join(filter(None, (name, group))) + (f"/{below}" if below else "")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["list", "watch", "get", "create", "update", "patch"])
def test_a_verb_that_is_missing(release, ports, verb):
    """Where the release's role lacks a verb, the log names it with the kind and the service account, for each kind."""
    release.install(merged(ports, {"apps": [{"appId": "orders"}]}))
    release.alone = False
    wanted = set()
    bill = {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": "bill"}, "spec": {}}
    release.server.apply(bill, namespace=release.namespace)
    for name in (NAME, f"{NAME}-secrets", f"{NAME}-own"):
        rules = release.server.get("role", name, release.namespace)["rules"]
        for rule in rules:
            if verb in rule["verbs"]:
                wanted |= {full_name(each, rule["apiGroups"][0]) for each in rule["resources"]}
                rule["verbs"].remove(verb)
        rules = [rule for rule in rules if rule["verbs"]]
        release.server.kubectl(
            "patch", "role", name, "-n", release.namespace, "--type=merge", "-p", json.dumps({"rules": rules})
        )
    # Pods are read one by one where some are annotated; Events are of the lease's holder, and patched when they repeat.
    wanted -= {"pods", "events"} if verb not in ("list", "watch") else set()
    assert wanted
    with release.pod() as instance:

        def told() -> set[str]:
            lines = [json.dumps(line) for line in instance.log() if line["level"] in ("warning", "error")]
            named = [line for line in lines if f"verb {verb} on" in line and f"{release.namespace}/{NAME}" in line]
            return {kind for kind in wanted if any(f"verb {verb} on {kind} " in line for line in named)}

        release.server.wait_until(lambda: told() == wanted, f"a line for each of {wanted}")
