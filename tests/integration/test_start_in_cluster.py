"""The real process in cluster mode while nobody answers at the API server's address: probes, signals, and what comes then."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from dapr_shared.kubernetes.resources import APPS, COMPONENTS, CONFIGURATIONS
from tests.support.calls import ask
from tests.support.fake_kube import TOKEN, FakeKube
from tests.support.instance import component, digest_of, start, write_resources
from tests.support.kubernetes_secrets import kubeconfig
from tests.support.ports import free_ports

SETTINGS = {
    "metrics": {"latencyDistributionBuckets": [7, 77]},
    "logging": {"apiLogging": {"enabled": True}},
    "features": [{"name": "OfTheConfiguration", "enabled": True}],
}


@pytest.fixture
async def server():
    """An API server that is not there yet; its port refuses connections."""
    made = FakeKube()
    (made.port,) = free_ports(1)
    yield made
    await made.down()


@asynccontextmanager
async def waiting(server: FakeKube, folder, *flags: str):
    """A process that has said that it waits for its Configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    file = kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{server.port}", "shop", TOKEN)
    env = {"KUBECONFIG": str(file), "NAMESPACE": "shop", "POD_NAME": "instance-0"}
    (internal,) = free_ports(1)
    words = ("--mode=kubernetes", "--config=settings", f"--dapr-internal-grpc-port={internal}", *flags)
    begin = partial(start, folder, *words, env=env, entry="daprd", ready="")
    instance = await asyncio.to_thread(begin)
    try:
        await asyncio.to_thread(instance.wait_for_line, "waiting for the Configuration")
        yield instance
        await asyncio.to_thread(instance.close)
    finally:
        if instance.process.poll() is None:
            instance.process.kill()
            instance.process.wait()


async def asked(address: str, path: str) -> tuple[int, str]:
    answer = await asyncio.to_thread(ask, address, "GET", path)
    return answer.status, answer.body.decode()


async def until_ready(instance, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while (await asked(instance.public, "/readyz"))[0] != 200:
        assert time.monotonic() < end, instance.output()
        await asyncio.sleep(0.05)


async def test_probes_are_answered_before_the_configuration_is_known(server, tmp_path):
    """It lives and is not ready, and says why; when the API server comes it goes on, with the Configuration in force."""
    async with waiting(server, tmp_path / "instance") as instance:
        assert await asked(instance.public, "/livez") == (200, "ok\n")
        status, why = await asked(instance.public, "/readyz")
        assert status == 503
        assert "the Configuration of the instance is not known yet" in why
        assert "cannot be reached" in why
        assert (await asked(instance.public, "/v1.0/healthz"))[0] == 500
        assert (await asked(instance.public, "/v1.0/metadata"))[0] == 404
        assert "dapr_shared_cluster_reachable 0" in (await asked(instance.metrics_address, "/metrics"))[1]
        with pytest.raises(OSError, match="refused"):
            await asked(instance.http, "/v1.0/metadata")
        server.put(CONFIGURATIONS, "settings", spec=SETTINGS)
        server.put(APPS, "orders", spec={"tokens": [{"sha256": digest_of("orders")}]})
        await server.up()
        await until_ready(instance)
        answer = await asyncio.to_thread(instance.ask, "GET", "/v1.0/metadata", app="orders")
        assert answer.json()["id"] == "orders"
        assert "OfTheConfiguration" in answer.json()["enabledFeatures"]
        metrics = (await asked(instance.metrics_address, "/metrics"))[1]
        assert 'le="77"' in metrics
        assert "dapr_shared_cluster_reachable 1" in metrics
        opened = [line["listener"] for line in instance.log() if line["msg"] == "listening"]
        assert opened.count("public") == opened.count("metrics") == 1, "the listeners stay"
        assert any(line["msg"] == "HTTP API Called" for line in instance.log())


async def test_it_ends_at_once_while_it_waits_for_the_configuration(server, tmp_path):
    """Told to stop, it does not wait for an API server that may never come; SIGHUP is passed over."""
    async with waiting(server, tmp_path / "instance") as instance:
        instance.signal(1)
        assert await asked(instance.public, "/livez") == (200, "ok\n")
        begun = time.monotonic()
        assert await asyncio.to_thread(instance.stop) == 0
        assert time.monotonic() - begun < 5


async def test_probes_of_one_app(server, tmp_path):
    """An instance of one app lives too while it waits, and shows nothing of the app meanwhile."""
    async with waiting(server, tmp_path / "instance", "--app-id=orders") as instance:
        assert await asked(instance.public, "/livez") == (200, "ok\n")
        assert (await asked(instance.public, "/v1.0/healthz/outbound"))[0] == 500
        server.put(CONFIGURATIONS, "settings", spec=SETTINGS)
        await server.up()
        await until_ready(instance)
        assert "OfTheConfiguration" in (await asked(instance.public, "/v1.0/metadata"))[1]


async def test_files_of_one_app(server, tmp_path):
    """That they have no effect is told, once, and the app is served without them."""
    files = tmp_path / "files"
    files.mkdir()
    write_resources(files / "all.yaml", [component("of-a-file", "state.in-memory")])
    async with waiting(server, tmp_path / "instance", "--app-id=orders", f"--resources-path={files}") as instance:
        server.put(CONFIGURATIONS, "settings", spec=SETTINGS)
        server.put(COMPONENTS, "of-the-cluster", spec={"type": "state.in-memory", "version": "v1", "metadata": []})
        await server.up()
        await until_ready(instance)
        metadata = (await asyncio.to_thread(instance.ask, "GET", "/v1.0/metadata")).json()
        assert {one["name"] for one in metadata["components"]} >= {"of-the-cluster"}
        assert "of-a-file" not in {one["name"] for one in metadata["components"]}
        (line,) = [one for one in instance.log() if one.get("setting") == "--resources-path"]
        assert line["msg"] == "setting without effect"
        assert "one app has the resources of its namespace, and no files" in line["why"]


async def test_a_configuration_that_is_not_there(server, tmp_path):
    """The API server's answer that there is none ends the start, as in daprd, also after a time of waiting."""
    async with waiting(server, tmp_path / "instance") as instance:
        server.install(CONFIGURATIONS)
        await server.up()
        assert await asyncio.to_thread(instance.wait) == 1
        assert "there is no Configuration 'settings' in namespace shop" in instance.output()
