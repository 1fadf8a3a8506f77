"""`dapr-shared run -f`: the real command with real apps: who sees what, and who is whom."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.calls import ask
from tests.support.instance import component, free_ports, write_resources
from tests.support.runs import SERVE, components_of, running, write_run_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.runs import Run

QUICK = ["-f", "dapr.yaml", "--dapr-graceful-shutdown-seconds", "2"]


def two_apps(folder: Path, **common) -> list[dict]:
    """A run file with two small apps that serve."""
    one, two = free_ports(2)
    apps = [
        {"appDirPath": "orders", "appPort": one, "command": SERVE, "env": {"COLOUR": "red"}},
        {"appDirPath": "stock", "appPort": two, "command": SERVE},
    ]
    write_run_file(folder, apps, **common)
    return apps


def environment(run: Run, app: str, target: str) -> dict[str, str]:
    """The environment of an app, asked through the instance."""
    run.wait_for(f"app {target} listens")
    return run.ask(app, "GET", f"/v1.0/invoke/{target}/method/env").json()


def test_apps_call_each_other_without_tokens(tmp_path):
    """Each app is proved by its own port; its environment says where that is, with its own variables over it."""
    apps = two_apps(tmp_path, env={"COLOUR": "blue", "SHAPE": "round"})
    with running(tmp_path, QUICK) as run:
        env = environment(run, "orders", "stock")
        own = environment(run, "orders", "orders")
        metadata = run.ask("orders", "GET", "/v1.0/metadata").json()
    assert metadata["id"] == "orders"
    assert env["APP_ID"] == "stock"
    assert env["APP_PORT"] == str(apps[1]["appPort"])
    assert env["APP_PROTOCOL"] == "http"
    assert env["DAPR_HTTP_ENDPOINT"] == f"http://127.0.0.1:{env['DAPR_HTTP_PORT']}"
    assert env["DAPR_GRPC_ENDPOINT"] == f"127.0.0.1:{env['DAPR_GRPC_PORT']}"
    assert env["DAPR_METRICS_PORT"]
    assert (env["COLOUR"], env["SHAPE"], own["COLOUR"]) == ("blue", "round", "red")
    assert env["DAPR_API_TOKEN"] != own["DAPR_API_TOKEN"]


def test_a_token_proves_its_app_alone(tmp_path):
    """An app's token agrees with its own port, is refused at another app's, and proves it at the shared port."""
    two_apps(tmp_path)
    (shared,) = free_ports(1)
    with running(tmp_path, [*QUICK, "-H", str(shared), "-G", "0"]) as run:
        token = environment(run, "orders", "orders")["DAPR_API_TOKEN"]
        headers = [("dapr-api-token", token)]
        own = run.ask("orders", "GET", "/v1.0/metadata", headers=headers)
        other = run.ask("stock", "GET", "/v1.0/metadata", headers=headers)
        at_shared = ask(f"127.0.0.1:{shared}", "GET", "/v1.0/metadata", headers=headers)
        nobody = ask(f"127.0.0.1:{shared}", "GET", "/v1.0/metadata")
    assert (own.status, own.json()["id"]) == (200, "orders")
    assert other.status == 401
    assert (at_shared.status, at_shared.json()["id"]) == (200, "orders")
    assert nobody.status == 401


def test_state_is_each_apps_own(tmp_path):
    """The built-in store is there without any resources, and one key of two apps is two values."""
    two_apps(tmp_path)
    with running(tmp_path, QUICK) as run:
        run.wait_for("app stock listens")
        for app in ("orders", "stock"):
            body = json.dumps([{"key": "tea", "value": app}]).encode()
            headers = [("content-type", "application/json")]
            assert run.ask(app, "POST", "/v1.0/state/statestore", headers=headers, body=body).status == 204
        assert run.ask("orders", "GET", "/v1.0/state/statestore/tea").json() == "orders"
        assert run.ask("stock", "GET", "/v1.0/state/statestore/tea").json() == "stock"


def test_the_other_built_in_stores_are_there(tmp_path):
    """Without any resources an app of a run file has locks and configuration too."""
    two_apps(tmp_path)
    with running(tmp_path, QUICK) as run:
        run.wait_for("app stock listens")
        assert components_of(run, "orders") == {"statestore", "pubsub", "lockstore", "configstore"}
        body = json.dumps({"resourceId": "tea", "lockOwner": "me", "expiryInSeconds": 60}).encode()
        headers = [("content-type", "application/json")]
        answer = run.ask("orders", "POST", "/v1.0-alpha1/lock/lockstore", headers=headers, body=body)
        assert (answer.status, answer.json()) == (200, {"success": True})
        assert run.ask("orders", "GET", "/v1.0/configuration/configstore").status == 204


def test_resources_of_one_app_are_its_own(tmp_path):
    """Two apps may each have a component of one name; those of `common` are for the apps without any; changes count."""
    apps = two_apps(tmp_path, resourcesPaths=["shared"])
    apps.append({"appDirPath": "mail"})
    write_run_file(tmp_path, apps, resourcesPaths=["shared"])
    for name in ("orders/.dapr/resources", "stock/.dapr/resources", "shared"):
        (tmp_path / name).mkdir(parents=True)
    own = tmp_path / "orders" / ".dapr" / "resources" / "a.yaml"
    write_resources(own, [component("store", "state.in-memory"), component("mine", "state.in-memory")])
    write_resources(tmp_path / "stock/.dapr/resources/b.yaml", [component("store", "state.in-memory")])
    scoped = component("not-for-mail", "state.in-memory", scopes=["somebody"])
    write_resources(tmp_path / "shared" / "c.yaml", [component("common", "state.in-memory"), scoped])
    with running(tmp_path, QUICK) as run:
        run.wait_for("app stock listens")
        assert components_of(run, "orders") == {"store", "mine"}
        assert components_of(run, "stock") == {"store"}
        assert components_of(run, "mail") == {"common"}
        shown = subprocess.run(
            [
                sys.executable,
                "-m",
                "dapr_shared",
                "components",
                "--data-dir",
                str(tmp_path / "state"),
                "--output",
                "json",
            ],
            capture_output=True,
            check=True,
        )
        scopes = sorted((one["name"], one["scopes"]) for one in json.loads(shown.stdout))
        assert scopes == [("common", ["mail"]), ("mine", ["orders"]), ("store", ["orders", "stock"])]
        write_resources(own, [component("store", "state.in-memory"), component("later", "state.in-memory")])
        run.wait_until(lambda: components_of(run, "orders") == {"store", "later"})
        assert components_of(run, "stock") == {"store"}
        write_resources(own, [component("store", "state.nope")])
        run.wait_for("state.nope")
        assert components_of(run, "orders") == {"store"}


def test_copies_of_one_broker_file(tmp_path):
    """Each app may have its copy of one file: the broker is the same, and each app has a consumer group of its own."""
    two_apps(tmp_path)
    broker = component("pubsub", "pubsub.sqlite", connectionString=str(tmp_path / "broker.db"), consumerID="shop")
    for name in ("orders", "stock"):
        (tmp_path / name / ".dapr" / "resources").mkdir(parents=True)
        write_resources(tmp_path / name / ".dapr" / "resources" / "pubsub.yaml", [broker])
        subscription = {
            "apiVersion": "dapr.io/v2alpha1",
            "kind": "Subscription",
            "metadata": {"name": "sold"},
            "spec": {"pubsubname": "pubsub", "topic": "sold", "routes": {"default": f"/{name}"}},
        }
        write_resources(tmp_path / name / ".dapr" / "resources" / "sold.yaml", [subscription])
    with running(tmp_path, QUICK) as run:
        for name in ("orders", "stock"):
            subscriptions = run.wait_until(
                lambda name=name: run.ask(name, "GET", "/v1.0/metadata").json().get("subscriptions")
            )
            assert [list(one["rules"]) and one["rules"][0]["path"] for one in subscriptions] == [f"/{name}"]
        headers = [("content-type", "application/json")]
        assert run.ask("orders", "POST", "/v1.0/publish/pubsub/sold", headers=headers, body=b'"tea"').status == 204
        run.wait_for('== APP - orders == got .*"tea"')
        run.wait_for('== APP - stock == got .*"tea"')


def test_configuration_and_secrets_of_one_app(tmp_path):
    """An app's Configuration is its own, also where two have one name; its secret store is open to it alone."""
    two_apps(tmp_path)
    for name in ("orders", "stock"):
        (tmp_path / name / ".dapr" / "resources").mkdir(parents=True)
        action = "deny" if name == "stock" else "allow"
        spec = {"accessControl": {"defaultAction": action, "trustDomain": "public"}}
        made = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "same"}, "spec": spec}
        write_resources(tmp_path / name / ".dapr" / "config.yaml", [made])
    (tmp_path / "secrets.json").write_text('{"db": "p4ss"}')
    store = component("vault", "secretstores.local.file", secretsFile=str(tmp_path / "secrets.json"))
    write_resources(tmp_path / "orders/.dapr/resources/vault.yaml", [store])
    write_resources(tmp_path / "stock/.dapr/resources/other.yaml", [component("other", "state.in-memory")])
    with running(tmp_path, QUICK) as run:
        run.wait_for("app orders listens")
        run.wait_for("app stock listens")
        assert run.ask("stock", "GET", "/v1.0/invoke/orders/method/env").status == 200
        assert run.ask("orders", "GET", "/v1.0/invoke/stock/method/env").status == 403
        configuration = tmp_path / "stock" / ".dapr" / "config.yaml"
        write_resources(configuration, [{**made, "spec": {"accessControl": {"defaultAction": "allow"}}}])
        run.wait_until(lambda: run.ask("orders", "GET", "/v1.0/invoke/stock/method/env").status == 200)
        assert run.ask("orders", "GET", "/v1.0/secrets/vault/db").json() == {"db": "p4ss"}
        assert run.ask("stock", "GET", "/v1.0/secrets/vault/db").status in (401, 403, 500)


def test_limits_of_one_app(tmp_path):
    """An app's largest request is its own: the same body is taken from one and refused from the other."""
    write_run_file(
        tmp_path, [{"appDirPath": "small", "maxBodySize": "1Ki"}, {"appDirPath": "large", "maxBodySize": "6Mi"}]
    )
    body = json.dumps([{"key": "k", "value": "x" * 5_000_000}]).encode()
    headers = [("content-type", "application/json")]
    with running(tmp_path, QUICK) as run:
        assert run.ask("large", "POST", "/v1.0/state/statestore", headers=headers, body=body).status == 204
        assert run.ask("small", "POST", "/v1.0/state/statestore", headers=headers, body=body).status != 204


def test_unix_sockets(tmp_path):
    """`unixDomainSocket` gives an app sockets in place of ports, and they prove it."""
    write_run_file(tmp_path, [{"appDirPath": "a", "unixDomainSocket": "s", "command": ["sh", "-c", "env; sleep 60"]}])
    with running(tmp_path, QUICK) as run:
        run.wait_for(rf"DAPR_GRPC_ENDPOINT=unix://{tmp_path}/s/dapr-a-grpc\.socket")
        assert ask(f"unix:{tmp_path}/s/dapr-a-http.socket", "GET", "/v1.0/metadata").json()["id"] == "a"
        assert "DAPR_HTTP_PORT" not in run.text()


def test_output_without_a_terminal(tmp_path):
    """What a run prints, to the letter: notices, where each app's API is, lines of apps, ends, and no colours."""
    write_run_file(
        tmp_path,
        [
            {"appDirPath": "orders", "command": ["printf", "one\\ntwo\\033[31m red\\nno end"], "profilePort": 7},
            {"appDirPath": "stock", "command": ["./missing"], "comand": "x"},
        ],
    )
    with running(tmp_path, QUICK) as run:
        assert run.wait() == 1
        text = run.text()
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text.replace(str(tmp_path), "FOLDER"))
    text = re.sub(r"\d{14}", "TIME", text)
    lines = text.splitlines()
    ours = [line for line in lines if line.startswith("== dapr-shared ==")]
    assert [line for line in lines if line not in ours] == [
        "== APP - orders == one",
        "== APP - orders == two red",
        "== APP - orders == no end",
    ]
    assert ours == [
        "== dapr-shared == dapr.yaml, document 1, line 6: apps[0].profilePort: has no effect: there is one instance and no control plane",
        "== dapr-shared == dapr.yaml, document 1, line 8: apps[1].comand: unknown field; did you mean command?",
        "== dapr-shared == app orders: HTTP ADDRESS, gRPC ADDRESS",
        "== dapr-shared == app stock: HTTP ADDRESS, gRPC ADDRESS",
        "== dapr-shared == log of the instance: FOLDER/.dapr/logs/dapr-shared_daprd_TIME.log",
        "== dapr-shared == app stock cannot start: the command ./missing is not found in FOLDER/stock",
        "== dapr-shared == app orders has ended with exit code 0",
    ]


def test_log_files(tmp_path):
    """An app's output goes where its run file says, with the names that Dapr gives; a file has it as it is."""
    write_run_file(
        tmp_path,
        [
            {"appDirPath": "both", "command": ["printf", "\\033[31mred\\n"]},
            {"appDirPath": "quiet", "command": ["echo", "hidden"], "appLogDestination": "file"},
            {"appDirPath": "loud", "command": ["echo", "shown"], "appLogDestination": "console"},
        ],
        daprdLogDestination="fileAndConsole",
    )
    with running(tmp_path, QUICK) as run:
        assert run.wait() == 0
        text = run.text()
    assert "== APP - both == red" in text
    assert "== APP - loud == shown" in text
    assert "hidden" not in text
    (both,) = (tmp_path / "both" / ".dapr" / "logs").glob("both_app_??????????????.log")
    assert both.read_bytes() == b"\x1b[31mred\n"
    (quiet,) = (tmp_path / "quiet" / ".dapr" / "logs").glob("quiet_app_*.log")
    assert quiet.read_text() == "hidden\n"
    assert not (tmp_path / "loud" / ".dapr").exists()
    (instance,) = (tmp_path / ".dapr" / "logs").glob("dapr-shared_daprd_*.log")
    assert "ready" in instance.read_text()
    assert "dapr.runtime: ready" in text
    for file in (both, quiet, instance):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600  # what programs print may be anything


def test_the_log_about_one_app(tmp_path):
    """`daprdLogDestination` of an app: its lines are in a file below its folder, as those of its sidecar would be."""
    apps = [
        {"appDirPath": "own", "command": ["true"], "daprdLogDestination": "file"},
        {"appDirPath": "with", "command": ["true"]},
    ]
    write_run_file(tmp_path, apps)
    with running(tmp_path, QUICK) as run:
        assert run.wait() == 0
        text = run.text()
    (own,) = (tmp_path / "own" / ".dapr" / "logs").glob("own_daprd_*.log")
    (instance,) = (tmp_path / ".dapr" / "logs").glob("dapr-shared_daprd_*.log")
    assert f"log of the instance about app own: {own}" in text
    lines = own.read_text().splitlines()
    assert any("app added" in line for line in lines)
    assert all("app_id=own" in line for line in lines)
    assert "app_id=own" not in instance.read_text()
    assert "app_id=with" in instance.read_text()
    assert stat.S_IMODE(own.stat().st_mode) == 0o600


def test_a_flood_of_output_is_bounded(tmp_path):
    """An app that prints megabytes without an end of line, and bytes that are no text, harms neither instance nor console."""
    flood = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4_000 + b'x' * 1_000_000); print('\\nafter')"
    write_run_file(tmp_path, [{"appDirPath": "a", "command": [sys.executable, "-c", flood]}])
    with running(tmp_path, QUICK) as run:
        assert run.wait() == 0
        data = run.output.read_bytes()
    lines = data.splitlines()
    assert b"== APP - a == after" in lines
    assert all(line.startswith(b"== ") for line in lines)
    assert max(len(line) for line in lines) < 5 * 16 * 1024
    assert not set(data) & {0, 7, 27, 127}


def test_taken_ports_are_named(tmp_path):
    """A port that somebody has is told before anything starts: which field, and by which process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for field in ("appPort", "daprHTTPPort"):
            write_run_file(tmp_path, [{"appDirPath": "a", "command": ["true"], field: port}])
            with running(tmp_path, QUICK) as run:
                assert run.wait() == 1
                text = run.text()
            assert re.fullmatch(
                rf"dapr-shared run: dapr\.yaml, document 1, line 2: app a: {field} {port} is taken by .* "
                rf"\(process {os.getpid()}\): end that process, or choose another port\n",
                text,
            )
