"""Secrets, metadata, health, shutdown, metrics and logs of the real process, over HTTP."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

import dapr_shared
from tests.support.apps import echo_app, until
from tests.support.calls import ask
from tests.support.instance import app, component, free_ports, running, token_of

SECRETS = {"plain": "p", "nested": {"a": {"b": "deep"}, "list": ["x", "y"]}, "number": 1.50, "empty": ""}


@pytest.fixture(scope="module")
def orders():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def instance(orders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    (folder / "secrets.json").write_text(json.dumps(SECRETS))
    file = str(folder / "secrets.json")
    resources = [
        app(
            "orders",
            orders.port,
            channel={"maxConcurrency": 7, "healthCheck": {"enabled": True, "path": "/healthz", "intervalSeconds": 2}},
            secrets={
                "scopes": [
                    {"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": ["number"]},
                    {"storeName": "many", "defaultAccess": "allow"},
                    {"storeName": "some", "allowedSecrets": ["plain"]},
                    {"storeName": "none", "defaultAccess": "deny"},
                ]
            },
        ),
        app("stock"),
        app("bare", namespace="empty"),
        component("vault", "secretstores.local.file", secretsFile=file),
        component("some", "secretstores.local.file", secretsFile=file),
        component("none", "secretstores.local.file", secretsFile=file),
        component("many", "secretstores.local.file", secretsFile=file, multiValued="true"),
        component("memory", "state.in-memory"),
        component("sqlite", "state.sqlite", connectionString=str(folder / "state.db")),
    ]
    with running(folder, "--enable-api-logging", resources=resources) as made:
        yield made


# Secrets -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("vault/plain", {"plain": "p"}),
        ("vault/nested:a:b", {"nested:a:b": "deep"}),
        ("vault/nested:list:0", {"nested:list:0": "x"}),
        ("vault/empty", {"empty": ""}),
        ("many/nested", {"a:b": "deep", "list:0": "x", "list:1": "y"}),
        ("some/plain", {"plain": "p"}),
        ("vault/plain?metadata.version_id=2", {"plain": "p"}),
    ],
)
def test_a_secret(instance, path, secret):
    """A secret that is open is given as a JSON object."""
    answer = instance.ask("GET", f"/v1.0/secrets/{path}", app="orders")
    assert (answer.status, answer.json()) == (200, secret)


@pytest.mark.parametrize(
    ("app_id", "path", "status", "code"),
    [
        ("orders", "vault/absent", 500, "ERR_SECRET_GET"),
        ("orders", "vault/number", 403, "ERR_PERMISSION_DENIED"),
        ("orders", "some/empty", 403, "ERR_PERMISSION_DENIED"),
        ("orders", "none/plain", 403, "ERR_PERMISSION_DENIED"),
        ("orders", "nowhere/plain", 401, "ERR_SECRET_STORE_NOT_FOUND"),
        ("stock", "vault/plain", 403, "ERR_PERMISSION_DENIED"),
        ("bare", "vault/plain", 500, "ERR_SECRET_STORES_NOT_CONFIGURED"),
        ("bare", "vault/bulk", 500, "ERR_SECRET_STORES_NOT_CONFIGURED"),
        ("orders", "nowhere/bulk", 401, "ERR_SECRET_STORE_NOT_FOUND"),
    ],
)
def test_no_secret(instance, app_id, path, status, code):
    """Denied, absent and unknown have Dapr's statuses and codes."""
    answer = instance.ask("GET", f"/v1.0/secrets/{path}", app=app_id)
    assert (answer.status, answer.code) == (status, code)
    assert set(answer.json()) == {"errorCode", "message"}


def test_all_secrets(instance):
    """A bulk get leaves out what is denied, without a word."""
    found = instance.ask("GET", "/v1.0/secrets/vault/bulk", app="orders").json()
    assert set(found) == {"plain", "nested:a:b", "nested:list:0", "nested:list:1", "empty"}
    assert instance.ask("GET", "/v1.0/secrets/some/bulk", app="orders").json() == {"plain": {"plain": "p"}}
    assert instance.ask("GET", "/v1.0/secrets/none/bulk", app="orders").json() == {}


# Metadata ----------------------------------------------------------------------------------------------------------
def test_metadata(instance, orders):
    """Metadata has Dapr's keys, for the app that asks."""
    found = instance.ask("GET", "/v1.0/metadata", app="orders").json()
    assert found["id"] == "orders"
    assert found["runtimeVersion"] == dapr_shared.__version__
    assert found["extended"]["daprRuntimeVersion"] == dapr_shared.__version__
    assert found["appConnectionProperties"] == {
        "port": orders.port,
        "protocol": "http",
        "channelAddress": "127.0.0.1",
        "maxConcurrency": 7,
        "health": {
            "healthCheckPath": "/healthz",
            "healthProbeInterval": "2s",
            "healthProbeTimeout": "500ms",
            "healthThreshold": 3,
        },
    }
    assert found["actorRuntime"] == {"runtimeStatus": "DISABLED", "hostReady": False}
    components = {item["name"]: item for item in found["components"]}
    assert components["sqlite"]["type"] == "state.sqlite"
    assert components["sqlite"]["version"] == "v1"
    assert {"ETAG", "TRANSACTIONAL", "TTL", "ACTOR"} <= set(components["sqlite"]["capabilities"])
    assert "MULTIPLE_KEY_VALUES_PER_SECRET" in components["many"]["capabilities"]
    others = instance.ask("GET", "/v1.0/metadata", app="bare").json().get("components", [])
    assert not {item["name"] for item in others} & {"vault", "some", "none", "many", "memory", "sqlite"}


def test_metadata_is_set(instance):
    """What an app puts is in its own extended metadata, and replaced by the next put."""
    for value in ("first", "second ü", ""):
        assert instance.ask("PUT", "/v1.0/metadata/my%20note", value.encode(), app="orders").status == 204
        assert instance.ask("GET", "/v1.0/metadata", app="orders").json()["extended"]["my note"] == value
    assert "my note" not in instance.ask("GET", "/v1.0/metadata", app="stock").json()["extended"]
    assert instance.ask("PUT", "/v1.0/metadata/x", b"\xff", app="orders").status == 400
    assert instance.ask("PUT", "/v1.0/metadata/x", b"y" * 100_000, app="orders").status == 400


# Health and the public port ---------------------------------------------------------------------------------------
def test_health_does_not_depend_on_an_app(tmp_path):
    """A shared instance is healthy while all its apps are away."""
    with running(tmp_path, resources=[app("orders", free_ports(1)[0])]) as made:
        for address in (made.http, made.public):
            assert ask(address, "GET", "/v1.0/healthz").status == 204
            assert ask(address, "GET", "/v1.0/healthz/outbound").status == 204
        assert ask(made.public, "GET", "/v1.0/metadata").status == 404


def test_health_of_a_single_instance_waits_for_its_app(tmp_path):
    """A single instance is ready once its app's port is open; outbound health does not wait; a wrong id is told."""
    port = free_ports(1)[0]
    with running(tmp_path, f"--app-port={port}", app_id="orders") as made:
        answer = ask(made.http, "GET", "/v1.0/healthz")
        assert (answer.status, answer.code) == (500, "ERR_HEALTH_NOT_READY")
        assert ask(made.http, "GET", "/v1.0/healthz/outbound").status == 204
        with echo_app(port):
            until(lambda: ask(made.http, "GET", "/v1.0/healthz").status == 204)
            assert ask(made.public, "GET", "/v1.0/healthz").status == 204
            assert ask(made.http, "GET", "/v1.0/healthz?appid=orders").status == 204
            answer = ask(made.http, "GET", "/v1.0/healthz?appid=stock")
            assert (answer.status, answer.code) == (500, "ERR_HEALTH_APPID_NOT_MATCH")
            assert answer.json()["message"] == "dapr app-id does not match"


def test_the_public_port_of_a_single_instance(tmp_path):
    """There it serves metadata, read and write, and health; nothing else."""
    with running(tmp_path, app_id="orders") as made:
        assert ask(made.public, "PUT", "/v1.0/metadata/a", b"b").status == 204
        assert ask(made.public, "GET", "/v1.0/metadata").json()["extended"]["a"] == "b"
        for method, target in (("GET", "/v1.0/state/statestore/k"), ("POST", "/v1.0/shutdown"), ("GET", "/x")):
            assert ask(made.public, method, target).status == 404


# Shutdown ----------------------------------------------------------------------------------------------------------
def test_shutdown_of_a_single_instance(tmp_path):
    """POST /v1.0/shutdown answers 204 and ends the process with 0."""
    with running(tmp_path, app_id="orders") as made:
        assert ask(made.http, "POST", "/v1.0/shutdown").status == 204
        assert made.wait() == 0


def test_forced_shutdown_of_a_single_instance(tmp_path):
    """With `dapr-force-shutdown: true` it ends with 1, soon."""
    with running(tmp_path, app_id="orders") as made:
        started = time.monotonic()
        assert ask(made.http, "POST", "/v1.0/shutdown", headers=[("dapr-force-shutdown", "true")]).status == 204
        assert made.wait() == 1
        assert time.monotonic() - started < 3


def test_shutdown_of_a_shared_instance(instance):
    """On a shared instance it answers 204 and ends nothing, forced or not."""
    for headers in ([], [("dapr-force-shutdown", "true")]):
        assert instance.ask("POST", "/v1.0/shutdown", headers=headers, app="orders").status == 204
    time.sleep(0.3)  # a forced shutdown would end the process after 100 ms
    assert instance.process.poll() is None
    assert instance.ask("GET", "/v1.0/metadata", app="orders").status == 200


# Metrics -----------------------------------------------------------------------------------------------------------
def test_metrics(instance, orders):
    """Metrics are valid Prometheus text under Dapr's names, counted for the app that called, on any path."""
    before = {
        name: instance.metric(name, **labels)
        for name, labels in _COUNTED.items()
    }  # fmt: skip
    assert instance.ask("GET", "/v1.0/state/memory/metric", app="orders").status == 204
    assert instance.ask("GET", "/v1.0/secrets/vault/plain", app="orders").status == 200
    assert instance.ask("GET", "/v1.0/invoke/orders/method/x", app="stock").status == 200
    for name, labels in _COUNTED.items():
        assert instance.metric(name, **labels) == before[name] + 1, name
    text = ask(instance.metrics_address, "GET", "/anything").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {"dapr_http_server_latency", "dapr_component_state_latencies", "process_resident_memory_bytes"} <= set(
        families
    )
    assert instance.metric("dapr_shared_apps") == 3
    assert instance.metric("dapr_shared_ready") == 1
    assert instance.metric("dapr_shared_build_info", version=dapr_shared.__version__) == 1
    assert instance.metric("dapr_shared_defects_total") == 0


_COUNTED = {
    "dapr_component_state_count": {
        "app_id": "orders", "component": "memory", "operation": "get", "success": "true", "namespace": "default",
    },
    "dapr_component_secret_count": {"app_id": "orders", "component": "vault", "operation": "get", "success": "true"},
    "dapr_http_server_request_count": {"app_id": "orders", "method": "GET", "path": "GetState", "status": "204"},
    "dapr_runtime_service_invocation_req_sent_total": {"app_id": "stock", "dst_app_id": "orders"},
    "dapr_runtime_service_invocation_req_recv_total": {"app_id": "orders", "src_app_id": "stock"},
}  # fmt: skip


def test_labels_are_bounded(instance):
    """Paths, methods and targets that callers make up are no labels."""
    for number in range(50):
        instance.ask("GET", f"/no/such/{number}", app="stock")
        instance.ask("GET", f"/v1.0/invoke/nobody-{number}/method/x", app="stock")
        instance.ask("GET", f"/v1.0/invoke/orders/method/made-up-{number}", app="stock")
        instance.ask("GET", f"/v1.0/state/no-store-{number}/k", app="stock")
    text = ask(instance.metrics_address, "GET", "/").body.decode()
    for word in ("such", "nobody-", "made-up", "no-store"):
        assert word not in text


def test_metrics_can_be_off(tmp_path):
    """With --enable-metrics=false nobody listens on the port."""
    with (
        running(tmp_path, "--enable-metrics=false", resources=[app("orders")]) as made,
        pytest.raises(ConnectionRefusedError),
    ):
        ask(made.metrics_address, "GET", "/")


# Logs --------------------------------------------------------------------------------------------------------------
def test_the_access_log(instance):
    """With --enable-api-logging each call is a line with Dapr's fields and the app; no query and no token is in it."""
    lines = len(instance.log())
    instance.ask("GET", "/v1.0/state/memory/k?metadata.x=hidden", headers=[("user-agent", "tester/1")], app="orders")
    line = instance.wait_for_line("HTTP API Called", after=lines)
    assert line["scope"] == "dapr.runtime.http-info"
    assert line["method"] == "GET /v1.0/state/memory/k"
    assert line["code"] == 204
    assert line["useragent"] == "tester/1"
    assert line["app_id"] == "orders"
    assert isinstance(line["duration"], int)
    assert "hidden" not in instance.output()
    assert token_of("orders") not in instance.output()


def test_every_line_has_daprs_fields(instance):
    """Each line of the JSON log has Dapr's fields, and a time of RFC 3339."""
    for line in instance.log():
        assert {"time", "level", "type", "msg", "scope", "app_id", "instance", "ver"} <= set(line)
        assert line["type"] == "log"
        assert line["ver"] == dapr_shared.__version__
        assert datetime.fromisoformat(line["time"])


def test_no_access_log_by_default(tmp_path):
    """Without the flag and without a Configuration calls are not logged."""
    with running(tmp_path, resources=[app("orders"), component("memory", "state.in-memory")]) as made:
        assert made.ask("GET", "/v1.0/state/memory/k", app="orders").status == 204
        assert not [line for line in made.log() if line["msg"] == "HTTP API Called"]


def test_a_log_file(tmp_path):
    """With --log-file the log goes there."""
    with running(tmp_path, f"--log-file={tmp_path / 'own.log'}", resources=[app("orders")]) as made:
        until(lambda: '"msg":"ready"' in (tmp_path / "own.log").read_text())
        assert '"msg":"ready"' not in made.output()
