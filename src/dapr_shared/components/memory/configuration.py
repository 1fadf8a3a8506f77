"""`configuration.in-memory`: the items that stand in the component's own resource.

Last step of the request road. To change an item, change the resource: the component is opened anew, and subscriptions
are told what it holds then.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    ConfigurationStore,
    ConfigurationSubscription,
    GetConfigurationRequest,
    Handler,
    Items,
    SubscribeConfigurationRequest,
)
from dapr_shared.contracts.settings import Setting, SettingError, Settings

if TYPE_CHECKING:
    from contextlib import AsyncExitStack


class MemoryConfigurationSettings(Settings, frozen=True, kw_only=True):
    """The settings of `configuration.in-memory`."""

    items: Annotated[
        str,
        Setting(
            "JSON object: a text, or an object with value, version and metadata, under each key.",
            example='{"colour": "blue", "size": {"value": "3", "version": "7"}}',
        ),
    ] = "{}"

    def __post_init__(self) -> None:
        """Check what no annotation says. Raises `SettingError`."""
        self.decoded()

    def decoded(self) -> dict[str, ConfigurationItem]:
        """The items. Raises `SettingError`."""
        try:
            given = msgspec.json.decode(self.items, type=dict[str, str | ConfigurationItem])
        except msgspec.MsgspecError as error:
            raise SettingError("items", f"must be a JSON object of configuration items: {error}") from error
        return {key: ConfigurationItem(item) if isinstance(item, str) else item for key, item in given.items()}


class MemoryConfigurationStore(ConfigurationStore[MemoryConfigurationSettings]):
    """A dictionary of items."""

    settings_type = MemoryConfigurationSettings

    _items: dict[str, ConfigurationItem] | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return None

    async def start(self, stack: AsyncExitStack) -> None:
        self._items = self.settings.decoded()
        self._subscriptions: set[_Subscription] = set()
        stack.callback(self._forget)

    async def get(self, request: GetConfigurationRequest) -> Items:
        items = self._open()
        if not request.keys:
            return dict(items)
        return {key: items[key] for key in request.keys if key in items}

    async def subscribe(self, request: SubscribeConfigurationRequest, handler: Handler) -> ConfigurationSubscription:
        self._open()
        return _Subscription(frozenset(request.keys), handler, self._subscriptions)

    def put(self, key: str, item: ConfigurationItem | None) -> None:
        """Set or (`None`) remove one item, and tell."""
        items = self._open()
        if item is None:
            items.pop(key, None)
        else:
            items[key] = item
        for subscription in tuple(self._subscriptions):
            subscription.tell(key, item or ConfigurationItem(""))

    def _open(self) -> dict[str, ConfigurationItem]:
        if self._items is None:
            raise BackendError(f"configuration store {self.context.name} is not open")
        return self._items

    def _forget(self) -> None:
        self._items = None
        self._subscriptions.clear()


class _Subscription(ConfigurationSubscription):
    """One handler and its keys."""

    def __init__(self, keys: frozenset[str], handler: Handler, running: set[_Subscription]) -> None:
        self._keys = keys
        self._handler = handler
        self._running = running
        running.add(self)

    def tell(self, key: str, item: ConfigurationItem) -> None:
        """Tell it, where it is about this key."""
        if not self._keys or key in self._keys:
            self._handler({key: item})

    async def stop(self) -> None:
        self._running.discard(self)
