"""One instance from start to end, without a process of its own."""

from __future__ import annotations

import asyncio
import io
import socket
from contextlib import asynccontextmanager

import pytest

from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.loader import load_objects
from dapr_shared.runtime.instance import Instance
from dapr_shared.runtime.lifecycle import run
from dapr_shared.runtime.ports import PortTakenError
from dapr_shared.runtime.settings import Settings, SettingsError, check
from dapr_shared.wire.http.messages import Request
from tests.support.http_peers import connected, until

APP = "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {}\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("NAMESPACE", "DAPR_API_TOKEN", "APP_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.yaml").write_text(APP % "a")
    return tmp_path


@asynccontextmanager
async def made(folder, *, configuration=None, **settings):
    """An instance that has not been started."""
    given = {"apps": (str(folder),), "dapr_http_port": 0, "dapr_grpc_port": 0, "metrics_port": 0, **settings}
    log = io.BytesIO()
    with Logs(LogOptions(), stream=log) as logs:
        events = Events(DaprMetrics(), logs.logger)
        listen = {"dapr_listen_addresses": ("127.0.0.1",)}
        checked = check(Settings(**{**listen, **given}))
        yield Instance(checked, configuration, events, logs, embedded=False, stop=lambda _force: None)


async def health(address: str) -> int:
    async with connected(address) as peer:
        return (await peer.ask(b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\n\r\n")).status


async def test_start_and_end(folder):
    """A running instance serves both APIs; afterwards nothing listens any more."""
    async with made(folder) as instance:
        async with instance.running():
            listeners = instance.parts.listeners
            addresses = [*listeners.http_addresses, *listeners.grpc_addresses]
            assert len(addresses) == 2
            assert await health(addresses[0]) == 204
        for address in addresses:
            with pytest.raises(OSError, match=r"."):
                async with connected(address):
                    pass


async def test_a_taken_port_at_start(folder):
    """The start fails with the flag to change, and what was opened before is closed again."""
    (folder / "a.yaml").write_text(
        (APP % "a").replace("spec: {}", f"spec: {{listeners: {{unixSocket: {folder}/a.sock}}}}")
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with made(folder, dapr_grpc_port=taken.getsockname()[1]) as instance:
            with pytest.raises(PortTakenError, match="--dapr-grpc-port"):
                async with instance.running():
                    raise AssertionError("it started")
            with pytest.raises(OSError, match=r"."):
                async with connected(f"unix:{folder}/a.sock"):
                    pass


async def test_wrong_resources_at_start(folder):
    """Resources that cannot be read are the error of the start."""
    (folder / "a.yaml").write_text("kind: [")
    async with made(folder) as instance:
        with pytest.raises(ResourceErrors, match=r"a\.yaml"):
            async with instance.running():
                raise AssertionError("it started")


async def test_reload_on_change(folder):
    """A file that comes or goes is in force without being asked for."""
    async with made(folder) as instance, instance.running():
        apps = instance.parts.apps
        (folder / "b.yaml").write_text(APP % "b")
        await until(lambda: len(list(apps.apps())) == 2)
        (folder / "b.yaml").unlink()
        await until(lambda: len(list(apps.apps())) == 1)


async def test_reload_on_request(folder):
    """With hot reload off the resources are read again when that is asked for, and only then."""
    off = {"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "c"}}
    off["spec"] = {"features": [{"name": "HotReload", "enabled": False}]}
    configuration = load_objects([off], source="test").configurations[0]
    async with made(folder, configuration=configuration) as instance, instance.running():
        assert not instance._hot_reload()
        (folder / "b.yaml").write_text(APP % "b")
        instance.request_reload()
        await until(lambda: len(list(instance.parts.apps.apps())) == 2)


async def test_background_work_that_fails_is_heard_of(folder, monkeypatch):
    """A defect in background work ends `failed()` with its exception; the instance does not go on without it."""
    async with made(folder) as instance, instance.running():

        async def broken(*, quiet: bool = False) -> bool:
            raise RuntimeError("broken")

        monkeypatch.setattr(instance._reloader, "reload", broken)
        instance.request_reload()
        async with asyncio.timeout(5):
            with pytest.raises(RuntimeError, match="broken"):
                await instance.failed()


async def test_draining_says_whether_the_grace_was_enough(folder):
    """Nothing in flight is drained well within the grace, with a limit and without."""
    async with made(folder) as instance, instance.running():
        assert await instance.drain(5)
        assert await instance.drain(None)


async def test_blocked_shutdown_ends_in_time(tmp_path):
    """Shutdown is blocked for the time that was given, and no longer than the app is healthy."""
    settings = {"apps": (), "app_id": "a", "app_port": 1}
    async with made(tmp_path, **settings) as instance, instance.running():
        loop = asyncio.get_running_loop()
        started = loop.time()
        await instance.block_shutdown(0.15)
        assert loop.time() - started >= 0.15
        (channel,) = instance.parts.channels.channels()
        channel.healthy = False
        async with asyncio.timeout(5):
            await instance.block_shutdown(60)


async def test_health_waits_for_the_app_in_single_app_mode(tmp_path):
    """In single-app mode health is not ready until the app's port accepts; outbound health does not wait for it."""
    app = socket.socket()
    app.bind(("127.0.0.1", 0))
    async with made(tmp_path, apps=(), app_id="a", app_port=app.getsockname()[1]) as instance, instance.running():
        (address,) = instance.parts.listeners.http_addresses
        assert await health(address) == 500
        instance.parts.health.check_outbound()
        app.listen()
        async with asyncio.timeout(10):
            while await health(address) != 204:  # noqa: ASYNC110 - another socket is asked
                await asyncio.sleep(0.02)
    app.close()


async def test_probes_of_a_cluster(folder):
    """On the public port `/livez` is 200 whatever is missing, and `/readyz` says what is, in words; apps never count."""
    async with made(folder) as instance:

        async def probe(path: bytes) -> tuple[int, bytes]:
            answer = await instance.parts.public(Request("GET", path, [(b"host", b"x")], b""))
            return answer.status, answer.body

        instance.parts.health.wait_for("runtime", "reading", outbound=True)
        instance.parts.health.wait_for("app", "it sleeps", outbound=False)
        assert (await probe(b"/livez"))[0] == 200
        status, why = await probe(b"/readyz")
        assert status == 503
        assert b"runtime: reading" in why
        instance.parts.health.ready("runtime")
        assert await probe(b"/readyz") == (200, b"ok\n")


async def test_a_shared_instance_is_ready_without_its_apps(folder):
    """The health of a shared instance does not depend on any app."""
    (folder / "a.yaml").write_text((APP % "a").replace("spec: {}", "spec: {channel: {port: 1}}"))
    async with made(folder) as instance, instance.running():
        assert await health(instance.parts.listeners.http_addresses[0]) == 204


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (Settings(app_id="a", apps=("x",)), "exclude each other"),
        (Settings(app_id="a", log_level="loud"), "--log-level"),
        (Settings(app_id="a", app_protocol="smtp"), "--app-protocol"),
        (Settings(app_id="a", app_port=3500), "--app-port 3500"),
        (Settings(app_id="a", disable_init_endpoints=("x",)), "--disable-init-endpoints"),
        (Settings(app_id="a", app_health_probe_timeout=6000), "--app-health-probe-timeout"),
    ],
)
def test_settings_that_make_no_instance(settings, problem, capsys):
    """Settings that contradict each other end the process with 1 and one line that names the flag."""
    with pytest.raises(SettingsError, match=problem):
        check(settings)
    assert run(settings, command="dapr-shared", embedded=False, without_effect=()) == 1
    told = capsys.readouterr().err
    assert problem in told
    assert told.startswith("dapr-shared: ")


def test_deprecated_flags_count_where_the_new_ones_are_not_given():
    """A deprecated flag does what it did, unless the new one says something else."""
    old = {"components_path": "c", "dapr_http_max_request_size": 8, "dapr_http_read_buffer_size": 16}
    made_of_old = check(Settings(app_id="a", **old))
    assert (made_of_old.resources_path, made_of_old.max_body_size, made_of_old.read_buffer_size) == (
        ("c",),
        8 * 1024**2,
        16 * 1024,
    )
    both = check(Settings(app_id="a", **old, resources_path=("r",), max_body_size=5, read_buffer_size=6))
    assert (both.resources_path, both.max_body_size, both.read_buffer_size) == (("r",), 5, 6)


def test_what_cannot_start_ends_with_one(tmp_path, capsys):
    """Resources that are not there end the process with 1, in words."""
    settings = Settings(apps=(str(tmp_path / "nowhere"),), metrics_port=0, log_file=str(tmp_path / "log"))
    assert run(settings, command="dapr-shared", embedded=False, without_effect=()) == 1
    told = (tmp_path / "log").read_text()
    assert "nowhere" in told
    assert "Traceback" not in told
