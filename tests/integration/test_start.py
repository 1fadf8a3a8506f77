"""Starting the process: flags, environment, components that cannot start, ports that are taken."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

import dapr_shared
from tests.support.apps import echo_app, until
from tests.support.calls import ask
from tests.support.instance import (
    StartError,
    app,
    component,
    environment,
    free_ports,
    run_to_end,
    running,
    start,
)

MEMORY = component("memory", "state.in-memory")
ENTRIES = pytest.mark.parametrize("entry", ["dapr-shared", "daprd"])


def _run(entry: str) -> list[str]:
    return ["run"] if entry == "dapr-shared" else []


# Flags -------------------------------------------------------------------------------------------------------------
DAPRD_FLAGS = [
    ("app-id", "orders"), ("app-port", "0"), ("app-protocol", "HTTP"), ("app-channel-address", "localhost"),
    ("app-max-concurrency", "-1"), ("app-ssl", "false"), ("app-health-check-path", "/healthz"),
    ("app-health-probe-interval", "5"), ("app-health-probe-timeout", "500"), ("app-health-threshold", "3"),
    ("enable-app-health-check", "false"), ("app-binding-options-timeout", "4s"), ("allowed-origins", "https://shop.example"),
    ("config", ""), ("resources-path", ""), ("components-path", ""), ("control-plane-address", ""),
    ("control-plane-namespace", "default"), ("control-plane-trust-domain", "localhost"), ("sentry-address", ""),
    ("sentry-request-jwt-audiences", "a,b"), ("enable-mtls", "true"), ("dapr-http-port", "{http}"),
    ("dapr-grpc-port", "{grpc}"), ("dapr-internal-grpc-port", ""), ("dapr-internal-grpc-listen-address", "127.0.0.1"),
    ("dapr-listen-addresses", "127.0.0.1"), ("dapr-public-port", "{public}"),
    ("dapr-public-listen-address", "127.0.0.1"), ("profile-port", "7778"), ("enable-profiling", "false"),
    ("unix-domain-socket", ""), ("max-body-size", "4Mi"), ("dapr-http-max-request-size", "-1"),
    ("read-buffer-size", "4Ki"), ("dapr-http-read-buffer-size", "4"), ("dapr-graceful-shutdown-seconds", "-1"),
    ("dapr-block-shutdown-duration", "0s"), ("disable-builtin-k8s-secret-store", "true"),
    ("disable-init-endpoints", "config,subscribe"), ("enable-api-logging", "true"), ("mode", "standalone"),
    ("placement-host-address", "a:1,b:2"), ("scheduler-host-address", "c:1"), ("scheduler-job-streams", "3"),
    ("actors-disseminate-timeout", "1m30s"), ("hot-reload-reconcile-interval", "60s"), ("actors-service", "placement:1"),
    ("reminders-service", ""), ("enable-metrics", "true"), ("metrics-port", "{metrics}"),
    ("metrics-listen-address", "127.0.0.1"), ("log-level", "info"), ("log-as-json", "true"), ("log-file", ""),
]  # fmt: skip
"""Every flag of daprd that takes a value, with one that it takes (reference daprd-flags §2)."""
WITHOUT_EFFECT = [
    "--allowed-origins", "--app-binding-options-timeout", "--enable-mtls",
    "--placement-host-address", "--scheduler-host-address", "--profile-port", "--actors-service",
]  # fmt: skip


@ENTRIES
@pytest.mark.parametrize(("dashes", "form"), [("-", "apart"), ("--", "equals")])
def test_every_flag_of_daprd_is_taken(tmp_path, entry, dashes, form):
    """All of daprd's flags are accepted, with one dash or two; one without effect says so once."""
    http, grpc, public, metrics = free_ports(4)
    ports = {"http": http, "grpc": grpc, "public": public, "metrics": metrics}
    words: list[str] = []
    for name, text in DAPRD_FLAGS:
        value = text.format(**ports)
        if form == "equals" or name in ("app-ssl", "enable-app-health-check", "enable-mtls", "enable-profiling",
                                        "disable-builtin-k8s-secret-store", "enable-api-logging", "enable-metrics",
                                        "log-as-json"):  # fmt: skip
            words.append(f"{dashes}{name}={value}")
        else:
            words += [f"{dashes}{name}", value]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_command(entry), *_run(entry), *words], cwd=tmp_path, env=environment(tmp_path), stdout=log, stderr=log
        )
    try:
        until(lambda: process.poll() is not None or _healthy(public))
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert ask(f"127.0.0.1:{http}", "GET", "/v1.0/metadata").json()["id"] == "orders"
    finally:
        process.terminate()
        code = process.wait(20)
    assert code == 0
    output = (tmp_path / "log").read_text()
    for flag in WITHOUT_EFFECT:
        assert len(re.findall(f'"setting":"{flag}"', output)) == 1, flag


def _command(entry: str) -> list[str]:
    from tests.support.instance import command

    return command(entry=entry)


def _healthy(port: int) -> bool:
    try:
        return ask(f"127.0.0.1:{port}", "GET", "/v1.0/healthz/outbound").status == 204
    except OSError:
        return False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--no-such-flag"], "unknown flag: --no-such-flag"),
        (["--app-idd", "x"], "did you mean --app-id"),
        (["word"], "unexpected argument"),
        (["--app-id"], "flag needs an argument"),
        (["--app-port", "http"], "--app-port"),
        (["--dapr-http-port", "70000"], "--dapr-http-port"),
        (["--max-body-size", "much"], "--max-body-size"),
        (["--dapr-block-shutdown-duration", "5"], "--dapr-block-shutdown-duration"),
        (["--log-as-json=perhaps"], "--log-as-json"),
        (["--mode", "cloud"], "--mode"),
    ],
)
def test_wrong_words_are_exit_code_2(tmp_path, words, said):
    """An unknown flag or a value of the wrong kind ends with 2 and says which."""
    code, output = run_to_end(tmp_path, *words, entry="daprd")
    assert code == 2, output
    assert said in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--app-id=x", "--mode=kubernetes"], "--mode=kubernetes: no Kubernetes API server is known"),
        (["--mode", "kubernetes"], "--mode=kubernetes: no Kubernetes API server is known"),
        ([], "no app is given"),
        (["--app-id", "a.b"], "--app-id"),
        (["--app-id", ""], "no app is given"),
        (["--app-id=x", "--app-protocol=ftp"], "--app-protocol"),
        (["--app-id=x", "--log-level=loud"], "--log-level"),
        (["--app-id=x", "--app-port=3500"], "--app-port 3500"),
        (["--app-id=x", "--disable-init-endpoints=metadata"], "--disable-init-endpoints"),
        (["--app-id=x", "--app-health-probe-interval=1", "--app-health-probe-timeout=2000"], "longer than"),
        (["--app-id=x", "--config=/no/such/file.yaml"], "/no/such/file.yaml"),
    ],
)
def test_settings_that_do_not_make_an_instance_are_exit_code_2(tmp_path, words, said):
    """Flags that make no instance are wrong words to `dapr-shared run`: 2, and a line that names the flag."""
    code, output = run_to_end(tmp_path, "run", *words)
    assert code == 2, output
    assert said in output
    assert output.count("\n") == 1


def test_what_cannot_be_written_is_exit_code_1(tmp_path):
    """A log file that cannot be made is a failure, not wrong words: 1."""
    code, output = run_to_end(tmp_path, "run", "--app-id=x", "--log-file=/no/such/folder/log")
    assert (code, output.count("\n")) == (1, 1)
    assert "/no/such/folder/log" in output


@ENTRIES
def test_exit_codes_are_the_same_by_either_name(tmp_path, entry):
    """`daprd` and `dapr-shared run` end with the same codes, but for flags that make no instance: daprd's 1 is kept."""
    never = 1 if entry == "daprd" else 2
    assert run_to_end(tmp_path, *_run(entry), "--no-such-flag", entry=entry)[0] == 2
    assert run_to_end(tmp_path, *_run(entry), "--app-id=x", "--mode=kubernetes", entry=entry)[0] == never
    assert run_to_end(tmp_path, *_run(entry), "--app-id=a.b", entry=entry)[0] == never
    assert run_to_end(tmp_path, *_run(entry), "--version", entry=entry)[0] == 0


def test_one_app_or_many(tmp_path):
    """--app-id and --apps exclude each other."""
    code, output = run_to_end(tmp_path, "run", "--app-id=x", "--apps=.")
    assert (code, "exclude each other" in output) == (2, True)


def test_version_and_build_info(tmp_path):
    """--version prints the version, --build-info three lines; both end with 0."""
    assert run_to_end(tmp_path, "--version", entry="daprd") == (0, f"{dapr_shared.__version__}\n")
    code, output = run_to_end(tmp_path, "-build-info", entry="daprd")
    assert code == 0
    assert [line.partition(":")[0] for line in output.splitlines()] == ["Version", "Git Commit", "Git Version"]
    for words in (["version"], ["--version"], ["run", "--version"]):
        code, output = run_to_end(tmp_path, *words)
        assert code == 0
        assert dapr_shared.__version__ in output


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-help"]])
def test_help(tmp_path, words):
    """The help names every flag and ends with 0."""
    code, output = run_to_end(tmp_path, *words, entry="daprd")
    assert code == 0
    for name, _ in DAPRD_FLAGS:
        assert f"--{name}" in output
    code, output = run_to_end(tmp_path, "run", *words)
    assert code == 0
    assert "--apps" in output


def test_commands(tmp_path):
    """`dapr-shared` alone shows its commands with exit code 2, with --help with 0; an unknown command is 2."""
    assert run_to_end(tmp_path)[0] == 2
    assert run_to_end(tmp_path, "--help")[0] == 0
    code, output = run_to_end(tmp_path, "walk")
    assert (code, "walk" in output) == (2, True)


def test_wait(tmp_path):
    """--wait returns 0 once the instance on --dapr-http-port is ready."""
    with running(tmp_path, resources=[app("orders")]) as made:
        assert run_to_end(tmp_path, "--wait", f"--dapr-http-port={made.http_port}", entry="daprd")[0] == 0


# Environment -------------------------------------------------------------------------------------------------------
@ENTRIES
def test_an_almost_empty_environment(tmp_path, entry):
    """Without HOME, PATH and locale (`env -i`) the process starts and serves."""
    http, grpc, public = free_ports(3)
    words = [
        "--app-id=orders", f"--dapr-http-port={http}", f"--dapr-grpc-port={grpc}", "--enable-metrics=false",
        f"--dapr-public-port={public}", "--dapr-listen-addresses=127.0.0.1", "--dapr-public-listen-address=127.0.0.1",
    ]  # fmt: skip
    if entry == "dapr-shared":
        words.append(f"--data-dir={tmp_path}")
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_command(entry), *_run(entry), *words], cwd=tmp_path, env=path, stdout=log, stderr=log
        )
    try:
        until(lambda: process.poll() is not None or _healthy(public))
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_the_namespace_of_a_single_instance(tmp_path):
    """NAMESPACE chooses the resources of its namespace, and shows in the caller's namespace."""
    with echo_app() as callee:
        resources = [component("here", "state.in-memory", namespace="blue"),
                     component("there", "state.in-memory", namespace="red"), component("any", "state.in-memory")]  # fmt: skip
        with running(
            tmp_path, f"--app-port={callee.port}", app_id="orders", resources=resources, env={"NAMESPACE": "blue"}
        ) as made:
            names = {item["name"] for item in ask(made.http, "GET", "/v1.0/metadata").json()["components"]}
            assert {"here", "any"} <= names
            assert "there" not in names
            assert ask(made.http, "GET", "/v1.0/invoke/orders/method/x").status == 200
            assert callee.seen[-1].header("dapr-caller-namespace") == ["blue"]


def test_the_token_for_the_app(tmp_path):
    """APP_API_TOKEN is sent to the app of a single instance, and never to the caller."""
    with echo_app() as callee, running(
        tmp_path, f"--app-port={callee.port}", app_id="orders", env={"APP_API_TOKEN": "for-the-app"}
    ) as made:  # fmt: skip
        assert ask(made.http, "GET", "/v1.0/invoke/orders/method/x").status == 200
        assert callee.seen[-1].header("dapr-api-token") == ["for-the-app"]
        assert "for-the-app" not in made.output()


def test_a_token_from_the_environment_that_is_not_there(tmp_path):
    """An App whose envRef names no variable is a start error that names App, field and variable."""
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("orders", tokens=[{"envRef": "NO_SUCH_TOKEN"}])])
    assert ended.value.code == 1
    assert "spec.tokens[0].envRef" in ended.value.log
    assert "NO_SUCH_TOKEN" in ended.value.log


# Components --------------------------------------------------------------------------------------------------------
def _broken(**spec) -> dict:
    return component("broken", "secretstores.local.file", secretsFile="/no/such/file.json", spec=spec)


def test_a_component_that_cannot_start(tmp_path):
    """It ends the instance with 1; the last words name component, type and cause."""
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("orders"), _broken()])
    assert ended.value.code == 1
    for word in ("broken", "secretstores.local.file", "/no/such/file.json"):
        assert word in ended.value.log
    assert "Traceback" not in ended.value.log


def test_ignored_errors(tmp_path):
    """With `ignoreErrors` the instance starts without the component and says so."""
    bad = _broken()
    bad["spec"]["ignoreErrors"] = True
    with running(tmp_path, resources=[app("orders"), bad, MEMORY]) as made:
        line = made.wait_for_line("component failed")
        assert line["component"] == "broken"
        names = {item["name"] for item in made.ask("GET", "/v1.0/metadata", app="orders").json()["components"]}
        assert "memory" in names
        assert "broken" not in names


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (component("x", "state.no-such"), ["state.no-such"]),
        (component("x", "state.in-memory", spec={"version": "v9"}), ["v9"]),
        (component("x", "state.sqlite"), ["connectionString"]),
        (component("x", "state.sqlite", connectionString="x.db", busyTimeout="soon"), ["busyTimeout"]),
        (component("x", "pubsub.redis", redisHost="localhost:1"), ["pubsub.redis"]),
        (component("x", "state.redis"), ["state.redis", "redisHost"]),
        (component("x", "lock.redis", redisHost="localhost:1", redisDB="first"), ["redisDB", "whole number", "first"]),
        (component("x", "state.postgresql"), ["state.postgresql", "connectionString"]),
        (
            component("x", "configuration.postgresql", connectionString="host=localhost password=s3cret", table="a b;"),
            ["configuration.postgresql", "table"],
        ),
        (component("x", "bindings.cron", schedule="every day"), ["bindings.cron", "schedule", "every day"]),
        (component("x", "bindings.http"), ["bindings.http", "url"]),
        (component("x", "bindings.localstorage"), ["bindings.localstorage", "rootPath"]),
    ],
)
def test_component_mistakes(tmp_path, resource, words):
    """An unknown type or version, and a missing or wrong setting, end the start with a message that names it."""
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("orders"), resource])
    assert ended.value.code == 1
    for word in [*words, "x"]:
        assert word in ended.value.log
    assert "Traceback" not in ended.value.log
    assert "s3cret" not in ended.value.log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["bad.yaml"]),
        (
            "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\nspec: {tokens: [{sha256: short}]}\n",
            ["bad.yaml", "document 1", "spec.tokens[0].sha256"],
        ),
        (
            "---\napiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: 'a||b'}\n",
            ["bad.yaml", "metadata.name"],
        ),
        (
            "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\nspec: {configuration: gone}\n",
            ["bad.yaml", "spec.configuration", "gone"],
        ),
    ],
)
def test_resource_mistakes(tmp_path, text, words):
    """A mistake in a resource ends the start and names file, document and field."""
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "bad.yaml").write_text(text)
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("orders")])
    assert ended.value.code == 1
    for word in words:
        assert word in ended.value.log
    assert "Traceback" not in ended.value.log


def test_the_embedded_store(tmp_path):
    """Without resources of its own, `dapr-shared run` has a durable `statestore`; `daprd` has none."""
    for value in (b"1", b"2"):
        with running(tmp_path, app_id="orders") as made:
            if value == b"2":
                assert ask(made.http, "GET", "/v1.0/state/statestore/k").body == b"1"
            body = b'[{"key":"k","value":' + value + b"}]"
            assert ask(made.http, "POST", "/v1.0/state/statestore", body).status == 204
    assert (tmp_path / "state" / "dapr-shared").is_dir()
    with running(tmp_path / "plain", app_id="orders", entry="daprd") as made:
        assert ask(made.http, "GET", "/v1.0/state/statestore/k").code == "ERR_STATE_STORE_NOT_CONFIGURED"


def test_the_embedded_store_has_one_instance(tmp_path):
    """A second instance on the same embedded store ends with 1 and says why."""
    with running(tmp_path, app_id="orders"):
        second = tmp_path / "second"
        with pytest.raises(StartError) as ended:
            start(second, f"--data-dir={tmp_path / 'state' / 'dapr-shared'}", app_id="stock")
    assert ended.value.code == 1
    assert "statestore" in ended.value.log
