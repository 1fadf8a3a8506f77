"""Fixtures of the conformance suites: each test runs once for every way to run every type of the catalog."""

from __future__ import annotations

import pytest

from tests.support import kubernetes_secrets, redis_server
from tests.support.component_setups import Harness, cases


@pytest.fixture(scope="session", autouse=True)
def servers():
    """Ends the servers that the tests have started."""
    yield
    redis_server.stop_shared()
    kubernetes_secrets.stop()


@pytest.fixture(params=cases("state"))
def state_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def state(state_harness):
    async with state_harness.opened() as store:
        yield store


@pytest.fixture(params=cases("secretstores"))
def secret_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def secret_store(secret_harness):
    async with secret_harness.opened() as store:
        yield store


@pytest.fixture(params=cases("pubsub"))
def broker_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def broker(broker_harness):
    async with broker_harness.opened() as opened:
        yield opened


@pytest.fixture(params=cases("configuration"))
def configuration_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def configuration(configuration_harness):
    async with configuration_harness.opened() as opened:
        yield opened


@pytest.fixture(params=cases("lock"))
def locks_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def locks(locks_harness):
    async with locks_harness.opened() as opened:
        yield opened


@pytest.fixture(params=cases("bindings"))
def binding_harness(request, tmp_path, monkeypatch) -> Harness:
    component_type, function = request.param
    return Harness(component_type, function(tmp_path, monkeypatch))


@pytest.fixture
async def binding(binding_harness):
    async with binding_harness.opened() as opened:
        yield opened
