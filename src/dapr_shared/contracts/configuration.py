"""The promise of a configuration store.

Last step of the request road (get, subscribe) and first of the delivery road (changes). An adapter knows nothing of
apps: whose a subscription is, and how a change reaches the app, is the block's. Facts: reference http-api §6,
components §2 and §7.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from dapr_shared.contracts.component import Component, S


class ConfigurationItem(msgspec.Struct, frozen=True):
    """What is configured under one key. A key that was deleted is told as an item of empty value and version."""

    value: str
    version: str = ""
    """The store's own word for this state of the item; empty where it has none."""
    metadata: Mapping[str, str] = {}


Items: TypeAlias = Mapping[str, ConfigurationItem]
"""Items by key."""


class GetConfigurationRequest(msgspec.Struct, frozen=True):
    """Read items."""

    keys: tuple[str, ...] = ()
    """Empty: all of the store."""
    metadata: Mapping[str, str] = {}


class SubscribeConfigurationRequest(msgspec.Struct, frozen=True):
    """Be told of changes."""

    keys: tuple[str, ...] = ()
    """Empty: all of the store. The block gives them sorted, each once."""
    metadata: Mapping[str, str] = {}


Handler: TypeAlias = Callable[[Items], None]
"""Takes items that have changed. It is called on the event loop, returns at once and does not raise: what a slow or
absent app has not taken is kept by the block, the newest item of each key."""


class ConfigurationSubscription(ABC):
    """One running subscription."""

    @abstractmethod
    async def stop(self) -> None:
        """End it: when this returns, the handler is not called again. Twice does no harm."""


class ConfigurationStore(Component[S]):
    """A store of configuration items, read by apps and written by operators.

    Every method raises `BackendError`.
    """

    @abstractmethod
    async def get(self, request: GetConfigurationRequest) -> Items:
        """The items under the keys, or all; a key that does not exist is left out."""

    @abstractmethod
    async def subscribe(self, request: SubscribeConfigurationRequest, handler: Handler) -> ConfigurationSubscription:
        """Begin to tell changes of these keys.

        - A change that is made after this has returned is told, soon and without a poll that keeps a core busy. What
          is there already is not told.
        - Changes of one key come in order and may be merged: the last one told is what the store holds.
        - A deleted key is told as `ConfigurationItem("")`.
        - While the backend is lost the subscription lives on. When it is back, what has changed meanwhile is told
          (told again does no harm; not told is a defect).

        Cancelled midway, nothing is left running. The component's own stack stops what is still running.
        """
