"""What becomes of a run file: ports, environments, settings, and resources that are each app's own."""

from __future__ import annotations

import pytest

from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.run_file import load_run_file
from dapr_shared.runtime.run_plan import free_ports, plan_command, plan_run_file
from dapr_shared.runtime.settings import Settings, SettingsError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
    monkeypatch.delenv("NAMESPACE", raising=False)
    for name in ("orders", "stock", "res"):
        (tmp_path / name).mkdir()
    return tmp_path


def planned(folder, text, given=(), **settings):
    (folder / "dapr.yaml").write_text(text, encoding="utf-8")
    made = Settings(data_dir=str(folder / "state"), **settings)
    return plan_run_file(load_run_file(str(folder)), made, given)


TWO = "apps: [{appDirPath: orders, resourcesPath: res, logLevel: error, enableApiLogging: true}, {appDirPath: stock}]"


def test_the_environment_of_an_app(folder, monkeypatch):
    """An outer run's variables do not get through; what is inherited comes first, then Dapr's, then the app's own."""
    monkeypatch.setenv("DAPR_HTTP_PORT", "1")
    monkeypatch.setenv("APP_PORT", "2")
    monkeypatch.setenv("COLOUR", "outer")
    monkeypatch.setenv("PYTHONUNBUFFERED", "0")
    run = planned(folder, "version: 1\napps: [{appDirPath: orders, env: {COLOUR: own, APP_ID: other}}]")
    (app,) = run.processes._apps
    assert app.env["DAPR_HTTP_PORT"] not in ("", "1")
    assert "APP_PORT" not in app.env
    assert (app.env["COLOUR"], app.env["APP_ID"], app.env["PYTHONUNBUFFERED"]) == ("own", "other", "0")


def test_a_flag_goes_before_common(folder):
    """Settings of the instance come from `common`, and a flag that was given goes before it."""
    text = f"version: 1\ncommon: {{logLevel: warn, metricsPort: 9191, enableApiLogging: true}}\n{TWO}"
    run = planned(folder, text)
    assert (run.settings.log_level, run.settings.metrics_port) == ("warn", 9191)
    assert run.settings.enable_api_logging is True
    run = planned(folder, text, given=["log_level", "metrics_port"], log_level="debug", metrics_port=7)
    assert (run.settings.log_level, run.settings.metrics_port) == ("debug", 7)


def test_the_instance_takes_what_any_app_may_send(folder):
    """The instance's limit is the largest of its apps; no limit for one is none for the instance."""
    apps = "version: 1\napps: [{appDirPath: orders, maxBodySize: 9Mi}, {appDirPath: stock%s}]"
    assert planned(folder, apps % "").settings.max_body_size == 9 * 1024 * 1024
    assert planned(folder, apps % ", maxBodySize: 0").settings.max_body_size == 0


def test_free_ports_avoid_named_ones():
    """A port that the run file names for later is not given to somebody else."""
    (port,) = free_ports(1)
    assert port not in free_ports(20, {port})


def test_resources_have_an_audience(folder):
    """A path of one app is seen by that app alone; the built-in components by the apps without any path."""
    (folder / "res" / "a.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.in-memory}\n---\n"
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: b}\nspec: {type: state.in-memory}\nscopes: [stock]\n---\n"
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: s}\nspec: {pubsubname: p, topic: t, routes: {default: /t}}\n---\n"
        "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: intruder}\nspec: {}\n"
    )
    resources = planned(folder, f"version: 1\n{TWO}").sources.read()
    assert {c.name: (c.audience, c.scopes) for c in resources.components} == {
        "a": (("orders",), ()),
        **dict.fromkeys(("statestore", "pubsub", "lockstore", "configstore"), (("stock",), ())),
    }
    assert [s.scopes for s in resources.subscriptions] == [("orders",)]
    assert [app.app_id for app in resources.apps] == ["orders", "stock"]


def test_a_path_of_all_apps_needs_no_scopes(folder):
    """What every app sees stays as it is written, also under two names of one directory."""
    (folder / "link").symlink_to(folder / "res")
    (folder / "res" / "a.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.in-memory}\n"
    )
    text = "version: 1\napps: [{appDirPath: orders, resourcesPath: link}, {appDirPath: stock, resourcesPath: res}]"
    assert [(c.name, c.audience) for c in planned(folder, text).sources.read().components] == [("a", None)]


def test_errors_of_all_paths_are_told_together(folder):
    """One look finds what is wrong in every app's resources and Configurations."""
    (folder / "res" / "a.yaml").write_text("apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {}\nspec: {}\n")
    (folder / "orders" / "c.yaml").write_text("kind: Nothing\n")
    text = "version: 1\napps: [{appDirPath: orders, resourcesPath: res, configFilePath: orders/c.yaml}]"
    with pytest.raises(ResourceErrors) as raised:
        planned(folder, text).sources.read()
    text = str(raised.value)
    assert "metadata.name: is required" in text
    assert "c.yaml: holds no Configuration" in text


def test_an_app_has_its_token_and_its_secret_stores(folder):
    """The token that its environment has is the one that proves it; the stores in its own files are open to it."""
    (folder / "res" / "v.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: vault}\nspec: {type: secretstores.local.env}\n"
    )
    run = planned(folder, f"version: 1\n{TWO}")
    orders, stock = run.sources.read().apps
    import hashlib

    token = run.processes._apps[0].env["DAPR_API_TOKEN"]
    assert orders.tokens[0].sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert [scope.store_name for scope in orders.secrets.scopes] == ["vault"]
    assert stock.secrets.scopes == ()
    assert (orders.log_level, stock.log_level) == ("error", "")
    assert (orders.api_logging, stock.api_logging) == (True, None)
    assert token not in repr(run.processes._apps[0])


def test_a_command_needs_a_right_app_id():
    """A wrong app id is told before anything is opened."""
    with pytest.raises(SettingsError, match="--app-id: 'a b' is not an app id"):
        plan_command(Settings(app_id="a b"), {"app_id"}, ["true"])


def test_a_namespace_is_that_of_all_apps(folder, monkeypatch):
    """With NAMESPACE the apps, and what is read for them, are in it, as with a daprd that has it."""
    monkeypatch.setenv("NAMESPACE", "shop")
    (folder / "res" / "a.yaml").write_text(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec: {type: state.in-memory}\n---\n"
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: b, namespace: other}\nspec: {type: state.in-memory}\n"
    )
    resources = planned(folder, f"version: 1\n{TWO}").sources.read()
    assert {app.namespace for app in resources.apps} == {"shop"}
    assert {(c.name, c.namespace) for c in resources.components} == {
        (name, "shop") for name in ("a", "statestore", "pubsub", "lockstore", "configstore")
    }
