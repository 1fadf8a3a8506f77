"""What every configuration store promises."""

from __future__ import annotations

from typing import Any

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    GetConfigurationRequest,
    SubscribeConfigurationRequest,
)
from tests.support.component_setups import until


class Told:
    """A handler that keeps the newest of each key and every call."""

    def __init__(self) -> None:
        self.newest: dict[str, ConfigurationItem] = {}
        self.calls: list[dict[str, ConfigurationItem]] = []

    def __call__(self, items: Any) -> None:
        self.calls.append(dict(items))
        self.newest.update(items)

    async def value(self, key: str, value: str) -> None:
        """Wait until the key was told with this value."""

        async def there() -> bool:
            return key in self.newest and self.newest[key].value == value

        await until(there, seconds=10)


@pytest.fixture
def write(configuration_harness, configuration):
    """Sets (a text or an item) or removes (`None`) an item as an operator does."""

    async def set_item(key: str, item: ConfigurationItem | str | None) -> None:
        made = ConfigurationItem(item) if isinstance(item, str) else item
        await configuration_harness.setup.write_item(configuration, key, made)

    return set_item


@pytest.fixture
def subscribe(configuration_harness, configuration):
    """Subscribes to these keys; what is told."""

    async def start(*keys: str) -> tuple[Told, Any]:
        told = Told()
        metadata = configuration_harness.setup.subscribe_metadata
        return told, await configuration.subscribe(SubscribeConfigurationRequest(keys, metadata), told)

    return start


async def test_get_by_keys(configuration, write):
    """The items of the keys that exist; the others are left out."""
    await write("colour", "blue")
    await write("size", "3")
    found = await configuration.get(GetConfigurationRequest(("colour", "absent")))
    assert {key: item.value for key, item in found.items()} == {"colour": "blue"}


async def test_get_all(configuration, write):
    """Without keys, everything."""
    await write("colour", "blue")
    await write("size", "3")
    found = await configuration.get(GetConfigurationRequest())
    assert {key: item.value for key, item in found.items()} == {"colour": "blue", "size": "3"}


async def test_version_and_metadata(configuration_harness, configuration, write):
    """An item comes back with its version and its metadata, as far as the store keeps them."""
    await write("colour", ConfigurationItem("blue", "7", {"owner": "shop"}))
    (item,) = (await configuration.get(GetConfigurationRequest(("colour",)))).values()
    assert item.value == "blue"
    assert not configuration_harness.setup.item_version or item.version == "7"
    assert not configuration_harness.setup.item_metadata or dict(item.metadata) == {"owner": "shop"}


async def test_texts_of_any_kind(configuration, write):
    """Keys and values are texts, also beyond ASCII and with blanks."""
    await write("größe", "weiß \n rot")
    found = await configuration.get(GetConfigurationRequest(("größe",)))
    assert found["größe"].value == "weiß \n rot"


async def test_a_change_is_told(write, subscribe):
    """Who subscribed to a key is told of its change, and of the next one."""
    await write("colour", "blue")
    told, subscription = await subscribe("colour")
    await write("colour", "red")
    await told.value("colour", "red")
    await write("colour", "green")
    await told.value("colour", "green")
    await subscription.stop()


async def test_what_is_there_is_not_told(write, subscribe):
    """Subscribing tells changes, not what was there before."""
    await write("colour", "blue")
    told, subscription = await subscribe("colour", "size")
    await write("size", "3")
    await told.value("size", "3")
    assert "colour" not in told.newest
    await subscription.stop()


async def test_other_keys_are_not_told(write, subscribe):
    """Only the keys of the subscription are told."""
    told, subscription = await subscribe("colour")
    await write("size", "3")
    await write("colour", "red")
    await told.value("colour", "red")
    assert set(told.newest) == {"colour"}
    await subscription.stop()


async def test_all_keys(write, subscribe):
    """A subscription without keys is told of all, new ones too."""
    told, subscription = await subscribe()
    await write("colour", "blue")
    await write("size", "3")
    await told.value("colour", "blue")
    await told.value("size", "3")
    await subscription.stop()


async def test_a_removed_key_is_told(write, subscribe):
    """A key that is deleted is told as an item of empty value."""
    await write("colour", "blue")
    told, subscription = await subscribe("colour")
    await write("colour", None)
    await told.value("colour", "")
    await subscription.stop()


async def test_the_last_change_wins(write, subscribe):
    """After many quick changes the last one told is what the store holds."""
    told, subscription = await subscribe("colour")
    for number in range(30):
        await write("colour", str(number))
    await told.value("colour", "29")
    values = [int(call["colour"].value) for call in told.calls]
    assert values == sorted(values)
    await subscription.stop()


async def test_a_stopped_subscription_is_told_no_more(write, subscribe):
    """After `stop` the handler is not called; a second `stop` does no harm; others go on."""
    told, subscription = await subscribe("colour")
    other, still = await subscribe("colour")
    await subscription.stop()
    await subscription.stop()
    await write("colour", "red")
    await other.value("colour", "red")
    assert told.calls == []
    await still.stop()


async def test_two_subscriptions_with_different_keys(write, subscribe):
    """Subscriptions do not mix."""
    first, one = await subscribe("colour")
    second, two = await subscribe("size")
    await write("colour", "red")
    await write("size", "3")
    await first.value("colour", "red")
    await second.value("size", "3")
    assert set(first.newest) == {"colour"}
    assert set(second.newest) == {"size"}
    await one.stop()
    await two.stop()


async def test_a_late_subscription_is_not_told_the_past(write, subscribe):
    """A second subscription is not told what changed before it, though the first one is."""
    first, one = await subscribe("colour")
    await write("colour", "red")
    await first.value("colour", "red")
    second, two = await subscribe("colour", "size")
    await write("size", "3")
    await second.value("size", "3")
    assert "colour" not in second.newest
    await one.stop()
    await two.stop()


async def test_after_the_end(configuration_harness):
    """A closed store refuses, and stopping a subscription of it does no harm."""
    setup = configuration_harness.setup
    async with configuration_harness.opened() as closed:
        subscription = await closed.subscribe(SubscribeConfigurationRequest(("k",), setup.subscribe_metadata), Told())
    await subscription.stop()
    with pytest.raises(BackendError):
        await closed.get(GetConfigurationRequest(("k",)))
    with pytest.raises(BackendError):
        await closed.subscribe(SubscribeConfigurationRequest(("k",), setup.subscribe_metadata), Told())
