"""Metadata, health and shutdown: each app sees itself, and none stops another."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.health import HealthBlock
from dapr_shared.blocks.metadata import MAX_ENTRIES, MAX_ENTRY_BYTES, RUNTIME_VERSION_KEY, MetadataBlock
from dapr_shared.blocks.shutdown import ShutdownBlock
from dapr_shared.channel.base import ChannelProperties
from dapr_shared.contracts.component import Component, ComponentContext
from dapr_shared.contracts.settings import Settings
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import AppRef


async def no_subscriptions(ref):
    """No app is subscribed to anything."""
    return ()


@pytest.fixture
def metadata(components) -> MetadataBlock:
    properties = {AppRef("orders"): ChannelProperties("http", "127.0.0.1", 8000)}
    return MetadataBlock(
        components,
        properties.get,
        version="1.2.3",
        features=["F"],
        http_endpoints=lambda ref: [f"of-{ref.app_id}"],
        subscriptions=no_subscriptions,
    )


def entry_error(block, caller, key, value):
    with pytest.raises(DaprError) as caught:
        block.set(caller, key, value)
    return caught.value.row


class Plain(Component[Settings]):
    """A component of no kind."""

    settings_type = Settings
    capabilities = frozenset({"Z", "A"})

    async def start(self, stack) -> None:
        """Nothing to open."""


async def test_an_app_sees_itself(metadata, components, caller, caller_of):
    """Id, version, features, components, endpoints and channel are those of the caller's app alone."""
    components.add(Plain(Settings(), ComponentContext("plain", "fake")), "plain")
    seen = await metadata.get(caller)
    assert (seen.id, seen.runtime_version, seen.enabled_features) == ("orders", "1.2.3", ["F"])
    assert [(one.name, one.version, list(one.capabilities)) for one in seen.components] == [("plain", "v1", ["A", "Z"])]
    assert (seen.http_endpoints, seen.app.port) == (["of-orders"], 8000)
    other = await metadata.get(caller_of("blind"))
    assert (other.components, other.app, other.http_endpoints) == ([], None, ["of-blind"])


async def test_entries_belong_to_their_app(metadata, caller, caller_of):
    """What an app sets, it alone sees; an app of the same id in another namespace is another app."""
    metadata.set(caller, "k", "mine")
    assert (await metadata.get(caller)).extended == {"k": "mine", RUNTIME_VERSION_KEY: "1.2.3"}
    for other in (caller_of("stock"), caller_of(namespace="shop")):
        assert "k" not in (await metadata.get(other)).extended
    metadata.forget(AppRef("orders"))
    metadata.forget(AppRef("nobody"))
    assert "k" not in (await metadata.get(caller)).extended


async def test_the_version_cannot_be_forged(metadata, caller):
    """An entry of the version's name does not change the version that is told."""
    metadata.set(caller, RUNTIME_VERSION_KEY, "99")
    assert (await metadata.get(caller)).extended[RUNTIME_VERSION_KEY] == "1.2.3"


async def test_entries_are_bounded(metadata, caller, caller_of):
    """One app has so many entries of such a size, in bytes; it may still change those it has, and others have theirs."""
    for number in range(MAX_ENTRIES):
        metadata.set(caller, str(number), "")
    assert entry_error(metadata, caller, "more", "") is errors.METADATA_TOO_LARGE
    metadata.set(caller, "0", "changed")
    metadata.set(caller_of("stock"), "more", "")
    assert entry_error(metadata, caller, "0", "x" * MAX_ENTRY_BYTES) is errors.METADATA_TOO_LARGE
    assert entry_error(metadata, caller, "0", "\U0001f40d" * (MAX_ENTRY_BYTES // 4)) is errors.METADATA_TOO_LARGE
    assert (await metadata.get(caller)).extended["0"] == "changed"


def row_of(call, *arguments):
    try:
        call(*arguments)
    except DaprError as error:
        return error.row
    return None


def test_health_of_conditions():
    """Not ready until every condition holds; outbound health waits only for those that concern it."""
    health = HealthBlock(app_id=None)
    assert row_of(health.check) is row_of(health.check_outbound) is None
    health.wait_for("runtime", "starting", outbound=True)
    health.wait_for("app", "no port", outbound=False)
    assert row_of(health.check) is errors.HEALTH_NOT_READY
    assert row_of(health.check_outbound) is errors.OUTBOUND_HEALTH_NOT_READY
    with pytest.raises(DaprError, match=r"\[runtime: starting; app: no port\]"):
        health.check()
    health.ready("runtime")
    assert row_of(health.check) is errors.HEALTH_NOT_READY
    assert row_of(health.check_outbound) is None
    health.ready("app")
    health.ready("app")
    health.ready("unknown")
    assert row_of(health.check) is None


def test_health_of_an_app_id():
    """In single-app mode another app id does not match; a shared instance answers for all and names none."""
    single = HealthBlock(app_id="orders")
    assert row_of(single.check, "orders") is row_of(single.check, None) is None
    assert row_of(single.check, "stock") is errors.HEALTH_APPID_NOT_MATCH
    assert row_of(HealthBlock(app_id=None).check, "anything") is None


@pytest.mark.parametrize("force", [True, False])
def test_shutdown(caller, force):
    """In single-app mode the instance ends; on a shared one only the deliveries to the calling app do."""
    stopped: list[bool] = []
    ended: list[AppRef] = []
    ShutdownBlock(single_app=True, stop=stopped.append, stop_deliveries=ended.append).shutdown(caller, force=force)
    assert (stopped, ended) == ([force], [])
    ShutdownBlock(single_app=False, stop=stopped.append, stop_deliveries=ended.append).shutdown(caller, force=force)
    assert (stopped, ended) == ([force], [AppRef("orders")])
