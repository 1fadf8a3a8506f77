"""Which resources an instance has: by mode, by namespace, and by default."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.definition import ComponentStartError
from dapr_shared.components.registry import ComponentRegistry
from dapr_shared.core.ids import AppRef
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.loader import load_objects
from dapr_shared.runtime.components import ComponentLoader
from dapr_shared.runtime.embedded import COMPONENTS, STORE_NAME, embedded_resources, state_directory
from dapr_shared.runtime.settings import Settings, SettingsError, check
from dapr_shared.runtime.sources import Sources

COMPONENT = """
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{type: state.in-memory, version: v1, metadata: []}}
"""
APP = "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: orders, namespace: shop}\nspec: {}\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("NAMESPACE", "DAPR_API_TOKEN", "APP_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path):
    """Resources of two namespaces, and an App."""
    for namespace in ("default", "shop"):
        (tmp_path / f"{namespace}.yaml").write_text(COMPONENT.format(name=f"in-{namespace}", namespace=namespace))
    (tmp_path / "app.yaml").write_text(APP)
    return tmp_path


def names(resources) -> set[str]:
    return {component.name for component in resources.components}


def single(**settings) -> Sources:
    return Sources(check(Settings(app_id="orders", **settings)), embedded=False)


def many(folder, **settings) -> Sources:
    return Sources(check(Settings(apps=(str(folder),), **settings)), embedded=False)


def test_single_mode_takes_every_namespace_without_one(folder):
    """A daprd without NAMESPACE reads every component, as its own; App resources are not for it."""
    resources = single(resources_path=(str(folder),)).read()
    assert names(resources) == {"in-default", "in-shop"}
    assert [app.ref for app in resources.apps] == [AppRef("orders", "default")]
    assert {component.namespace for component in resources.components} == {"default"}


def test_single_mode_keeps_to_its_namespace(folder, monkeypatch):
    """With NAMESPACE only its resources count, and the app is in it."""
    monkeypatch.setenv("NAMESPACE", "shop")
    sources = single(resources_path=(str(folder),))
    assert names(sources.read()) == {"in-shop"}
    record = sources.single_record(None)
    assert (record.ref, record.given_namespace) == (AppRef("orders", "shop"), "shop")


def test_multi_mode_reads_apps_of_all_namespaces(folder, monkeypatch):
    """An instance for many apps serves all namespaces; NAMESPACE means nothing to it, and there is no single app."""
    monkeypatch.setenv("NAMESPACE", "nowhere")
    sources = many(folder)
    resources = sources.read()
    assert names(resources) == {"in-default", "in-shop"}
    assert [app.ref for app in resources.apps] == [AppRef("orders", "shop")]
    assert sources.multi_app
    assert sources.single_record(None) is None


def test_apps_and_resources_are_read_together(tmp_path):
    """The paths of --apps and --resources-path are one set, in this order."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a.yaml").write_text(APP)
    (tmp_path / "two" / "b.yaml").write_text(COMPONENT.format(name="x", namespace="shop"))
    sources = many(tmp_path / "one", resources_path=(str(tmp_path / "two"),))
    assert [path.name for path in sources.paths] == ["one", "two"]
    assert (len(sources.read().apps), names(sources.read())) == (1, {"x"})


def test_an_empty_folder_is_no_error(tmp_path):
    """An instance may start before the first App exists."""
    assert many(tmp_path).read().apps == ()


def test_a_missing_path_is_told(tmp_path):
    """A path that does not exist is an error that names it."""
    with pytest.raises(ResourceErrors, match="nowhere"):
        many(tmp_path / "nowhere").read()


def test_the_app_of_the_flags(monkeypatch):
    """The flags make the app's channel: protocol, address, limits, health check and the token sent to it."""
    monkeypatch.setenv("APP_API_TOKEN", "to-the-app")
    app = single(
        app_port=8000,
        app_protocol="grpc",
        app_ssl=True,
        app_max_concurrency=-1,
        enable_app_health_check=True,
        app_health_probe_interval=7,
        app_health_probe_timeout=300,
        app_health_threshold=0,
    ).app_of_flags()
    channel = app.channel
    assert (channel.protocol.value, channel.address, channel.port) == ("grpcs", "127.0.0.1", 8000)
    assert channel.max_concurrency == 0
    assert channel.api_token.value == "to-the-app"
    health = channel.health_check
    assert (health.enabled, health.interval, health.timeout, health.threshold) == (True, 7.0, 0.3, 3)
    assert single().app_of_flags().channel is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "--app-id ID for one app, or --apps PATH"),
        ({"app_id": "a.b"}, "--app-id"),
        ({"app_id": "a||b"}, "--app-id"),
        ({"app_id": "a/b"}, "--app-id"),
    ],
)
def test_flags_that_name_no_app(settings, problem):
    """Without an app, or with an app id that could forge keys or paths, the start is refused."""
    with pytest.raises(SettingsError, match=problem):
        Sources(check(Settings(**settings)), embedded=True).check()


def test_one_token_for_many_apps(folder, monkeypatch):
    """DAPR_API_TOKEN on an instance for many apps is a start error; in single-app mode it is the instance's token."""
    monkeypatch.setenv("DAPR_API_TOKEN", "x")
    with pytest.raises(SettingsError, match="DAPR_API_TOKEN"):
        many(folder).check()
    single().check()


def test_the_app_of_the_flags_may_be_one_of_many(folder, monkeypatch):
    """With --multi-app the app of the flags stands beside the others, and only DAPR_API_TOKEN, where given, proves it."""
    sources = many(folder, app_id="mine", multi_app=True)
    sources.check()
    mine, other = sources.read().apps
    assert (mine.ref, mine.tokens, other.ref) == (AppRef("mine", "default"), (), AppRef("orders", "shop"))
    monkeypatch.setenv("DAPR_API_TOKEN", "x")
    sources.check()
    assert [token.env_ref for token in sources.read().apps[0].tokens] == ["DAPR_API_TOKEN"]
    assert sources.multi_app
    assert sources.single_record(None) is None


# The built-in store --------------------------------------------------------------------------------------------------


def test_where_the_state_directory_is(monkeypatch, tmp_path):
    """The flag, else XDG_STATE_HOME, else below the home directory; there is one without any of these too."""
    assert state_directory(str(tmp_path)) == tmp_path
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_directory("") == tmp_path / "xdg" / "dapr-shared"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert state_directory("") == tmp_path / "home" / ".local" / "state" / "dapr-shared"

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    assert str(os.getuid()) in str(state_directory(""))


BUILT_IN = {name for name, _, _ in COMPONENTS}


def test_the_store_is_built_in_only_where_there_is_none(tmp_path, folder):
    """A state store of one's own, or a resources path, takes the place of the built-in one; so does not asking for it."""
    empty = tmp_path / "empty"
    empty.mkdir()
    data = str(tmp_path / "data")
    assert names(Sources(Settings(apps=(str(empty),), data_dir=data), embedded=True).read()) == BUILT_IN
    assert names(Sources(Settings(app_id="a", data_dir=data), embedded=True).read()) == BUILT_IN
    assert names(Sources(Settings(app_id="a", data_dir=data), embedded=False).read()) == set()
    assert names(Sources(Settings(apps=(str(folder),), data_dir=data), embedded=True).read()) == {
        "in-default",
        "in-shop",
        *BUILT_IN - {STORE_NAME},
    }
    with_path = Settings(app_id="a", resources_path=(str(empty),), data_dir=data)
    assert names(Sources(with_path, embedded=True).read()) == set()


def test_the_built_in_store_stays_beside_other_components(tmp_path):
    """A component that is no state store does not take its place."""
    text = COMPONENT.format(name="env", namespace="default").replace("state.in-memory", "secretstores.local.env")
    (tmp_path / "env.yaml").write_text(text)
    settings = Settings(apps=(str(tmp_path),), data_dir=str(tmp_path / "data"))
    assert names(Sources(settings, embedded=True).read()) == {"env", *BUILT_IN}


def test_each_namespace_has_a_file(tmp_path):
    """The built-in stores of two namespaces never share a file."""
    components = embedded_resources(tmp_path, frozenset({"default", "shop"}), STATE).components
    files = {component.namespace: component.metadata[0].value for component in components}
    assert files == {"default": str(tmp_path / "state.db"), "shop": str(tmp_path / "state-shop.db")}


STATE = frozenset({"state"})


def loader_of() -> tuple[ComponentRegistry, ComponentLoader]:
    class Silent:
        def __getattr__(self, name):
            return lambda *_, **__: None

    events = Events(DaprMetrics(), lambda _: Silent())
    registry = ComponentRegistry(Catalog())
    return registry, ComponentLoader(registry, events)


_HOLD = """
import sys
from pathlib import Path
from dapr_shared.components.sqlite.location import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks between processes on Windows")
async def test_the_built_in_file_belongs_to_one_instance(tmp_path):
    """A second process is told which one holds the store; once that has ended, it can be opened."""
    components = embedded_resources(tmp_path, frozenset({"default"}), STATE).components
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLD, tmp_path / "state.db", stdin=PIPE, stdout=PIPE
    )
    registry, loader = loader_of()
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"held\n"
        with pytest.raises(ComponentStartError, match=f"{process.pid}") as caught:
            await loader.load(await loader.define(components), [AppRef("a")])
        assert STORE_NAME in str(caught.value)
        assert not registry.all_open()
    finally:
        process.stdin.close()
        await process.wait()
    await loader.load(await loader.define(components), [AppRef("a")])
    assert registry.all_open()
    await registry.close()


async def test_the_built_in_directory_is_private(tmp_path):
    """The data directory is made when it is missing, for this user alone."""
    directory = tmp_path / "new" / "data"
    registry, loader = loader_of()
    components = embedded_resources(directory, frozenset({"default"}), STATE).components
    await loader.load(await loader.define(components), [AppRef("a")])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await registry.close()


async def test_secrets_for_secret_stores_come_from_stores_opened_before(tmp_path, monkeypatch):
    """A secret store may take its settings from another one, in whatever order they are written."""
    monkeypatch.setenv("FUZZ_FILE", str(tmp_path / "s.json"))
    (tmp_path / "s.json").write_text('{"a": "b"}')
    head = {"apiVersion": "dapr.io/v1alpha1", "kind": "Component"}
    reference = {"name": "secretsFile", "secretKeyRef": {"name": "FUZZ_FILE", "key": "FUZZ_FILE"}}
    objects = [
        {
            **head,
            "metadata": {"name": "file"},
            "spec": {"type": "secretstores.local.file", "version": "v1", "metadata": [reference]},
            "auth": {"secretStore": "env"},
        },
        {**head, "metadata": {"name": "env"}, "spec": {"type": "secretstores.local.env", "version": "v1"}},
    ]
    registry, loader = loader_of()
    components = load_objects(objects, source="test").components
    await loader.load_secret_stores(components, [AppRef("a")])
    assert {opened.name for opened in registry.all_open()} == {"file", "env"}
    assert await loader.secrets.reader("default")("file", "a", "a") == "b"
    assert await loader.secrets.reader("default")("file", "none", "none") is None
    await registry.close()
