"""One subscription of an app: what has changed and is not taken yet, and the subscription at the store behind it.

Delivery road, step 4 (block). The store tells changes at any time; the app takes them when it can. In between only the
newest item of each key is kept, so that an app that is slow or away costs no more than its keys.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import (
    ConfigurationItem,
    GetConfigurationRequest,
    Items,
    SubscribeConfigurationRequest,
)
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dapr_shared.contracts.configuration import ConfigurationStore, ConfigurationSubscription
    from dapr_shared.core.ids import AppRef

MAX_PENDING = 10_000
"""Keys whose changes wait for one subscription at most; past it the change that waits longest is let go, and told."""


class Listener:
    """One subscription. Its id is random: knowing one's own says nothing about those of others."""

    def __init__(
        self,
        ref: AppRef,
        store: str,
        keys: tuple[str, ...],
        metadata: Mapping[str, str],
        overflow: Callable[[Listener], None],
        *,
        id: str = "",  # noqa: A002 - its name
    ) -> None:
        """`id`: that of a subscription that was kept."""
        self.id = id or random_id()
        self.ref = ref
        self.store = store
        self.keys = keys
        self.metadata = metadata
        self.component: ConfigurationStore[Any] | None = None
        """Where it is subscribed now; `None` while it is not."""
        self.task: asyncio.Task[None] | None = None
        """What brings the changes to the app; `None` for a stream, which takes them itself."""
        self.ended = False
        self._overflow = overflow
        self._subscription: ConfigurationSubscription | None = None
        self._binding = asyncio.Lock()
        """Of two that bind it, as a reload does while the app subscribes, the second would forget the first's."""
        self._pending: dict[str, ConfigurationItem] = {}
        self._wake = asyncio.Event()

    def same(self, store: str, keys: tuple[str, ...], metadata: Mapping[str, str]) -> bool:
        """Whether it is for just this."""
        return (self.store, self.keys, self.metadata) == (store, keys, metadata)

    # The store's side ------------------------------------------------------------------------------------------------

    async def bind(self, component: ConfigurationStore[Any], *, catch_up: bool) -> None:
        """Subscribe at this store instead of where it was. Raises `BackendError`; then it is subscribed nowhere.

        `catch_up`: tell what is there now as well, because changes may have been missed.
        """
        async with self._binding:
            if self.component is not component:
                await self._bind(component, catch_up=catch_up)

    async def _bind(self, component: ConfigurationStore[Any], *, catch_up: bool) -> None:
        await self._unbind()
        request = SubscribeConfigurationRequest(self.keys, self.metadata)
        subscription = await component.subscribe(request, self.changed)
        if self.ended:  # meanwhile
            await subscription.stop()
            return
        self._subscription, self.component = subscription, component
        if catch_up:
            self.changed(await component.get(GetConfigurationRequest(self.keys, self.metadata)))

    async def unbind(self) -> None:
        """End the subscription at the store."""
        async with self._binding:
            await self._unbind()

    async def _unbind(self) -> None:
        subscription, self._subscription, self.component = self._subscription, None, None
        if subscription is not None:
            with suppress(BackendError):  # its component may be closed: then it has ended with it
                await subscription.stop()

    def changed(self, items: Items) -> None:
        """Told by the store."""
        if self.ended:
            return
        for key, item in items.items():
            self._pending.pop(key, None)  # the newest goes to the end
            self._pending[key] = item
        self._bound()
        if self._pending:
            self._wake.set()

    # The app's side --------------------------------------------------------------------------------------------------

    async def wait(self) -> bool:
        """Wait until something has changed; false when there will be nothing more."""
        await self._wake.wait()
        return not self.ended

    def take(self) -> dict[str, ConfigurationItem]:
        """All that has changed and was not taken."""
        taken, self._pending = self._pending, {}
        if not self.ended:
            self._wake.clear()
        return taken

    def put_back(self, items: Items) -> None:
        """These were not brought to the app after all; what has changed meanwhile is newer."""
        self._pending = {**items, **self._pending}
        self._bound()
        self._wake.set()

    def end(self) -> None:
        """Nothing more comes; who waits is told."""
        self.ended = True
        self._pending.clear()
        self._wake.set()

    def _bound(self) -> None:
        while len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
            self._overflow(self)
