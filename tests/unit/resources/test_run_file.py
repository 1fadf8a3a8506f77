"""Reading run files: merging, conventions, and what is said about wrong ones."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck as HealthCheckOfHypothesis
from hypothesis import given, settings
from hypothesis import strategies as st

from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.model import ChannelProtocol, HealthCheck
from dapr_shared.resources.run_file import LogDestination, RunFile, load_run_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("orders", "stock", "res"):
        (tmp_path / name).mkdir()
    return tmp_path


def read(folder: Path, text: str) -> RunFile:
    (folder / "dapr.yaml").write_text(text, encoding="utf-8")
    return load_run_file(str(folder / "dapr.yaml"))


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong, without the name of the file."""
    with pytest.raises(ResourceErrors) as raised:
        read(folder, text)
    return [str(error).replace(f"{folder}/dapr.yaml, ", "") for error in raised.value.errors]


def test_every_field_is_read(folder):
    """Each field of an app arrives with its meaning, units and defaults of Dapr's table."""
    (folder / "c.yaml").write_text("x")
    (app,) = read(
        folder,
        """
version: 1
apps:
  - appDirPath: orders
    appID: shop
    command: [python3, app.py, 8080, 1.10]
    resourcesPaths: [res]
    configFilePath: c.yaml
    appPort: 8001
    appProtocol: HTTP
    appSSL: true
    appChannelAddress: localhost
    daprHTTPPort: 3501
    daprGRPCPort: -1
    unixDomainSocket: ./socks
    enableAppHealthCheck: true
    appHealthCheckPath: /up
    appHealthProbeInterval: 7
    appHealthProbeTimeout: 250
    appHealthThreshold: 2
    appMaxConcurrency: 4
    daprHTTPMaxRequestSize: 8
    daprHTTPReadBufferSize: 16
    appLogDestination: file
    logLevel: Debug
    env: {DEBUG: true, VERSION: 1.10, EMPTY: }
""",
    ).apps
    assert app.app_id == "shop"
    assert app.folder == str(folder / "orders")
    assert app.command == ("python3", "app.py", "8080", "1.10")
    assert app.resources_paths == (str(folder / "res"),)
    assert app.configuration_path == str(folder / "c.yaml")
    assert (app.port, app.protocol, app.address) == (8001, ChannelProtocol.HTTPS, "localhost")
    assert (app.http_port, app.grpc_port) == (3501, 0)
    assert app.socket_folder == str(folder / "socks")
    assert app.health_check == HealthCheck(enabled=True, path="/up", interval=7, timeout=0.25, threshold=2)
    assert (app.max_concurrency, app.body_bytes, app.header_bytes) == (4, 8 * 1024 * 1024, 16 * 1024)
    assert (app.log, app.log_level) == (LogDestination.FILE, "debug")
    assert app.env == {"DEBUG": "true", "VERSION": "1.10", "EMPTY": ""}


def test_defaults(folder):
    """An app needs its directory alone, and has its name from it."""
    (app,) = read(folder, "version: 1\napps: [{appDirPath: ./orders/}]").apps
    assert (app.app_id, app.command, app.resources_paths, app.configuration_path) == ("orders", (), (), "")
    assert (app.port, app.http_port, app.protocol, app.log) == (0, 0, ChannelProtocol.HTTP, LogDestination.BOTH)
    assert (app.body_bytes, app.header_bytes, app.max_concurrency) == (None, None, 0)


def test_an_app_wins_over_common(folder):
    """What an app says goes before `common`, false and 0 too; env maps are merged key by key."""
    run_file = read(
        folder,
        """
version: 1
common:
  env: {A: common, B: common}
  appMaxConcurrency: 9
  enableAppHealthCheck: true
  maxBodySize: 1Mi
  logLevel: warn
  enableApiLogging: true
  metricsPort: 9191
  daprdLogDestination: console
apps:
  - {appDirPath: orders, env: {B: own}, appMaxConcurrency: 0, enableAppHealthCheck: false, maxBodySize: 2Mi}
  - {appDirPath: stock, daprdLogDestination: fileAndConsole}
""",
    )
    orders, stock = run_file.apps
    assert (orders.daprd_log, stock.daprd_log) == (None, LogDestination.BOTH)
    assert orders.env == {"A": "common", "B": "own"}
    assert stock.env == {"A": "common", "B": "common"}
    assert (orders.max_concurrency, stock.max_concurrency) == (0, 9)
    assert (orders.health_check.enabled, stock.health_check.enabled) == (False, True)
    assert (orders.body_bytes, stock.body_bytes) == (2 * 1024 * 1024, 1024 * 1024)
    assert (run_file.log_level, run_file.api_logging, run_file.metrics_port) == ("warn", True, 9191)
    assert run_file.log is LogDestination.CONSOLE
    assert run_file.notices == ()


def test_conventions(folder):
    """`.dapr` of an app goes before `common`, and what the app names goes before both."""
    for name in ("orders/.dapr/resources", "stock/.dapr/resources", "own"):
        (folder / name).mkdir(parents=True)
    (folder / "orders/.dapr/config.yaml").write_text("x")
    (folder / "common.yaml").write_text("x")
    run_file = read(
        folder,
        """
version: 1
common: {resourcesPath: res, configFilePath: common.yaml}
apps:
  - {appDirPath: orders}
  - {appDirPath: stock, resourcesPath: own}
  - {appDirPath: res}
""",
    )
    orders, stock, res = run_file.apps
    assert orders.resources_paths == (str(folder / "orders/.dapr/resources"),)
    assert orders.configuration_path == str(folder / "orders/.dapr/config.yaml")
    assert stock.resources_paths == (str(folder / "own"),)
    assert stock.configuration_path == run_file.configuration_path == str(folder / "common.yaml")
    assert res.resources_paths == (str(folder / "res"),)


def test_paths_in_one_text(folder):
    """Dapr's own examples write `resourcesPaths` as one text, with commas between several."""
    (app,) = read(folder, "version: 1\napps: [{appDirPath: orders, resourcesPaths: 'res, stock'}]").apps
    assert app.resources_paths == (str(folder / "res"), str(folder / "stock"))


def test_a_directory_stands_for_its_run_file(folder):
    """A directory is searched for dapr.yaml."""
    read(folder, "version: 1\napps: [{appDirPath: orders}]")
    assert load_run_file(str(folder)).path == str(folder / "dapr.yaml")
    with pytest.raises(ResourceErrors, match=r"orders: is a directory without dapr\.yaml"):
        load_run_file(str(folder / "orders"))


def test_fields_without_effect_are_told_once(folder):
    """A field that is for a sidecar's own process, for Kubernetes, or unknown, is one notice wherever it stands."""
    run_file = read(
        folder,
        """
version: 1
common: {runtimePath: /x, appid: y}
apps:
  - {appDirPath: orders, runtimePath: /y, profilePort: 1, containerImage: i, metricsPort: 3}
  - {appDirPath: stock, profilePort: 2, createService: true, appId: z}
""",
    )
    told = [str(notice).replace(f"{folder}/dapr.yaml, document 1, ", "") for notice in run_file.notices]
    assert told == [
        "line 3: common.runtimePath: has no effect: there is one instance and no control plane",
        "line 5: apps[0].profilePort: has no effect: there is one instance and no control plane",
        "line 5: apps[0].metricsPort: has no effect in an app: all apps have one instance; give it in common",
        "line 5: apps[0].containerImage: has no effect: it is for `dapr run -k`, which is not there",
        "line 6: apps[1].createService: has no effect: it is for `dapr run -k`, which is not there",
        "line 6: apps[1].appId: unknown field; did you mean appID?",
        "line 3: common.appid: unknown field",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["is empty"]),
        ("hello", ["is not a run file: expected a mapping with version and apps"]),
        ("[1]", ["is not a run file"]),
        ("a: [", ["is not valid YAML"]),
        ("version: 1", ["apps: is required: a list of apps"]),
        ("version: 1\napps: []", ["apps: is required"]),
        ("version: 1\napps: {}", ["apps: expected a list, found a mapping"]),
        ("version: 1\napps: [x]", ["apps[0]: expected a mapping, found a text"]),
        ("apps: [{appDirPath: orders}]", ["version: is required: 1"]),
        ("version: 2\napps: [{appDirPath: orders}]", ["version: expected 1"]),
        ("version: one\napps: [{appDirPath: orders}]", ["version: expected a whole number" ]),
        ("version: 1\napps: [{appID: a}]", ["apps[0].appDirPath: is required"]),
        ("version: 1\napps: [{appDirPath: nope}]", ["apps[0].appDirPath: the directory of the app does not exist"]),
        ("version: 1\napps: [{appDirPath: dapr.yaml}]", ["is not a directory", "apps[0].appID: 'dapr.yaml' is not an app id"]),
        ("version: 1\napps: [{appDirPath: orders, appID: a.b}]", ["apps[0].appID: 'a.b' is not an app id"]),
        ("version: 1\napps: [{appDirPath: orders, command: python3 app.py}]", ['apps[0].command: expected a list of words such as ["python3", "app.py"], found a text']),
        ("version: 1\napps: [{appDirPath: orders, appPort: http}]", ['apps[0].appPort: expected a whole number from -1 to 65535, found "http"']),
        ("version: 1\napps: [{appDirPath: orders, appPort: 70000}]", ["apps[0].appPort: expected a whole number"]),
        ("version: 1\napps: [{appDirPath: orders, appProtocol: htp}]", ['apps[0].appProtocol: expected one of http, https, h2c, grpc, grpcs, found "htp"; did you mean http?']),
        ("version: 1\ncommon: {logLevel: loud}\napps: [{appDirPath: orders}]", ['common.logLevel: expected one of debug, info, warn, error, fatal, found "loud"']),
        ("version: 1\napps: [{appDirPath: orders, env: [A=1]}]", ["apps[0].env: expected a mapping, found a list"]),
        ("version: 1\napps: [{appDirPath: orders, env: {A: {b: 1}}}]", ["apps[0].env.A: expected a text, found a mapping"]),
        ("version: 1\napps: [{appDirPath: orders, maxBodySize: lots}]", ["apps[0].maxBodySize: expected a size such as 4Mi"]),
        ("version: 1\napps: [{appDirPath: orders, resourcesPath: gone}]", ["apps[0].resourcesPath: does not exist:"]),
        ("version: 1\napps: [{appDirPath: orders, configFilePath: gone}]", ["apps[0].configFilePath: there is no such file:"]),
        ("version: 1\napps: [{appDirPath: orders, appHealthCheckPath: up}]", ["apps[0].appHealthCheckPath: does not begin with '/'"]),
        ("version: 1\napps: [{appDirPath: orders, appHealthProbeTimeout: 9000}]", ["apps[0].appHealthProbeTimeout: is longer than"]),
        ("version: 1\napps: [{appDirPath: orders}]\n---\nversion: 1", ["is a second document"]),
        ("apiVersion: dapr.io/v1alpha1\nkind: Component", ["kind: this is a resource of the kind Component, not a run file; give it with --resources-path"]),
        ("kind: Deployment", ["kind: this is a resource of the kind Deployment, not a run file"]),
        ("version: 1\ncommon: {appPort: 1, appMaxConcurrency: x}\napps: [{appDirPath: orders}, {appDirPath: stock}]", ["common.appMaxConcurrency: expected a whole number"]),
        ("version: 1\napps: [{appDirPath: orders}, {appDirPath: stock, appID: orders}]", ["appID: the app id orders is taken by the app orders"]),
        ("version: 1\napps: [{appDirPath: orders, appPort: 8001}, {appDirPath: stock, daprHTTPPort: 8001}]", ["daprHTTPPort: the port 8001 is taken by the app orders"]),
        ("version: 1\napps: [{appDirPath: orders, appPort: 8001, daprGRPCPort: 8001}]", ["appPort: the port 8001 is taken by daprGRPCPort of the same app"]),
        ("version: 1\ncommon: {env: {DAPR_API_TOKEN: t}}\napps: [{appDirPath: orders}, {appDirPath: stock}]", ["env.DAPR_API_TOKEN: is the same as that of the app orders"]),
    ],
)  # fmt: skip
def test_wrong_run_files(folder, text, expected):
    """What is wrong is named with its line and field, what was expected and what was found, and nothing else is said."""
    found = problems(folder, text)
    assert len(found) == len(expected), found
    for line, part in zip(found, expected, strict=True):
        assert part in line


def test_all_errors_are_told_at_once(folder):
    """One look finds everything, each in its line."""
    assert problems(
        folder, "version: 1\napps:\n- appDirPath: orders\n  appPort: x\n- appDirPath: nope\n  appSSL: maybe\n"
    ) == [
        'document 1, line 4: apps[0].appPort: expected a whole number from -1 to 65535, found "x"',
        f"document 1, line 5: apps[1].appDirPath: the directory of the app does not exist: {folder}/nope",
        'document 1, line 6: apps[1].appSSL: expected true or false, found "maybe"',
    ]


NAMES = st.sampled_from(
    ["version", "apps", "common", "appDirPath", "appID", "command", "env", "appPort", "resourcesPath", "resourcesPaths",
     "unixDomainSocket", "configFilePath", "maxBodySize", "appProtocol", "appHealthProbeTimeout", "logLevel", "x"]
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([".", "4Mi", "http", 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheckOfHypothesis.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries({"version": st.just(1), "apps": st.lists(st.dictionaries(NAMES, VALUES))}) | VALUES)
def test_whatever_a_file_holds_is_read_or_told(tmp_path, data):
    """No file of YAML ends in another error than the one that names what is wrong."""
    (tmp_path / "dapr.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with contextlib.suppress(ResourceErrors):
        load_run_file(str(tmp_path))


def test_sockets_have_short_paths(folder):
    """A directory whose sockets' paths would be longer than the system allows is an error of its field."""
    (problem,) = problems(folder, f"version: 1\napps: [{{appDirPath: orders, unixDomainSocket: {'x' * 100}}}]")
    assert "apps[0].unixDomainSocket: makes paths of more than 107 bytes" in problem


def test_a_missing_file(tmp_path):
    """A path that leads nowhere is told as such."""
    with pytest.raises(ResourceErrors, match=r"nowhere\.yaml: does not exist: give the path of a run file"):
        load_run_file(str(tmp_path / "nowhere.yaml"))


def test_tokens_are_not_shown(folder):
    """The text form of an app does not hold its environment."""
    (app,) = read(folder, "version: 1\napps: [{appDirPath: orders, env: {DAPR_API_TOKEN: secret-1}}]").apps
    assert "secret-1" not in repr(app)
