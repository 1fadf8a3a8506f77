"""The input bindings of all apps of an instance.

Delivery road, step 4 (block). Told by the presences of apps that come, go and change; each app's own state is in
`app.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dapr_shared.blocks.bindings.app import STOP_GRACE, AppBindings

if TYPE_CHECKING:
    from dapr_shared.blocks.bindings.delivery import BindingDeliveries
    from dapr_shared.blocks.presence import Presence, Presences
    from dapr_shared.contracts.registry import Components
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events


class InputBindings:
    """Owns every reading of the instance."""

    def __init__(
        self, components: Components, presences: Presences, deliveries: BindingDeliveries, events: Events
    ) -> None:
        self._components = components
        self._deliveries = deliveries
        self._events = events
        self._apps: dict[AppRef, AppBindings] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        presences.follow(self)

    def app_changed(self, presence: Presence, *, came: bool) -> None:
        """See `PresenceFollower`."""
        if self._closed:
            return
        bindings = self._apps.get(presence.ref)
        if bindings is None:
            bindings = AppBindings(presence, self._components, self._deliveries, self._events)
            self._apps[presence.ref] = bindings
        bindings.kick(ask=came)

    def app_gone(self, presence: Presence) -> None:
        """See `PresenceFollower`."""
        bindings = self._apps.pop(presence.ref, None)
        if bindings is not None:
            task = asyncio.get_running_loop().create_task(
                bindings.close(STOP_GRACE), name=f"end the input bindings of {presence.ref}"
            )
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def components_changed(self) -> None:
        """Components were opened or closed: what waits for one may start, what has lost one stops."""
        for bindings in self._apps.values():
            bindings.kick()

    async def close(self, grace: float) -> None:
        """End every reading; what is in flight may take `grace` seconds, then it goes back."""
        self._closed = True
        apps, self._apps = list(self._apps.values()), {}
        await asyncio.gather(*(bindings.close(grace) for bindings in apps), *self._ending)

    def reads(self, ref: AppRef) -> list[str]:
        """The bindings that the app reads now, in order of name."""
        bindings = self._apps.get(ref)
        return sorted(bindings.running) if bindings is not None else []
