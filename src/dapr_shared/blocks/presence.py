"""Which apps can be called now, for the blocks that call them of their own accord: bindings and configuration.

Delivery road, step 4 (block). An app that is away answers nothing, so nothing is counted against it: who has something
for it waits here until it is back (design §5.14). Told by the runtime, which watches the apps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from dapr_shared.blocks.attendance import DOUBT_CHECK, Attendance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.channel.base import AppChannel
    from dapr_shared.core.ids import AppRef


class PresenceFollower(Protocol):
    """Who wants to know. Called on the event loop; returns at once and does not raise."""

    def app_changed(self, presence: Presence, *, came: bool) -> None:
        """Something about the app is another; `came`: it is back, or it is another app now: ask it what it wants."""
        ...

    def app_gone(self, presence: Presence) -> None:
        """The instance serves the app no more."""
        ...


class Presence(Attendance):
    """One app: its channel, and whether it can be called."""

    def __init__(self, ref: AppRef, followers: list[PresenceFollower]) -> None:
        super().__init__()
        self.ref = ref
        self._followers = followers
        self._present = asyncio.Event()
        self._look: asyncio.Task[None] | None = None

    async def wait(self) -> AppChannel:
        """Wait until the app can be called; its channel."""
        while True:
            if self.absent() is None and self.channel is not None:
                return self.channel
            self._present.clear()
            await self._present.wait()

    def doubt(self) -> None:
        """A call did not reach the app: it counts as absent until it has been looked at."""
        if not self._begin_doubt():
            return
        self.tell()
        if self._look is None:
            name = f"look at {self.ref}"
            self._look = asyncio.get_running_loop().create_task(self._look_at_it(), name=name)

    def set(self, channel: AppChannel | None, *, changed: bool) -> None:
        """The app's channel now; `changed`: its App is another."""
        came = changed or (channel is not None and self.channel is None)
        self.channel = channel
        self.tell(came=came)

    def reachable_changed(self, *, reachable: bool) -> None:
        """The app's port has begun or ceased to accept connections."""
        self._looked_at(reachable=reachable)
        self.tell(came=reachable)

    def stop(self, why: str) -> None:
        """Call it no more until it comes anew or `refresh`."""
        self._stopped = why
        self.tell()

    def refresh(self) -> None:
        """Ask it again what it wants, and forget that it was stopped."""
        self._stopped = ""
        self.tell(came=True)

    def tell(self, *, came: bool = False) -> None:
        """Tell who follows, and wake who waits."""
        if self.absent() is None:
            self._present.set()
        for follower in self._followers:
            follower.app_changed(self, came=came)

    async def close(self) -> None:
        """End the look, if one is under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _look_at_it(self) -> None:
        try:
            while self._doubted:
                channel = self.channel
                if channel is not None and await channel.reachable():
                    self._doubted = False
                    self.tell()
                    return
                if channel is not None:
                    channel.on_unreachable()  # whoever watches it looks at once, and says so
                await asyncio.sleep(DOUBT_CHECK)
        finally:
            self._look = None


class Presences:
    """All apps of the instance."""

    def __init__(self) -> None:
        self._followers: list[PresenceFollower] = []
        self._apps: dict[AppRef, Presence] = {}
        self._reachable: set[AppRef] = set()

    def follow(self, follower: PresenceFollower) -> None:
        """Tell this one too, from now on."""
        self._followers.append(follower)

    def get(self, ref: AppRef) -> Presence | None:
        """One app, if the instance serves it."""
        return self._apps.get(ref)

    async def set_apps(self, apps: Mapping[AppRef, AppChannel | None], changed: frozenset[AppRef]) -> None:
        """Serve exactly these apps. `changed`: those whose App is another now."""
        gone = [self._apps.pop(ref) for ref in list(self._apps) if ref not in apps]
        for presence in gone:
            for follower in self._followers:
                follower.app_gone(presence)
        await asyncio.gather(*(presence.close() for presence in gone))
        for ref, channel in apps.items():
            presence = self._apps.get(ref)
            if presence is None:
                presence = self._apps[ref] = Presence(ref, self._followers)
                if ref in self._reachable:
                    presence.reachable_changed(reachable=True)
            presence.set(channel, changed=ref in changed)
        self._reachable &= set(apps)

    def reachable_changed(self, ref: AppRef, *, reachable: bool) -> None:
        """Told by the watch."""
        (self._reachable.add if reachable else self._reachable.discard)(ref)
        presence = self._apps.get(ref)
        if presence is not None:
            presence.reachable_changed(reachable=reachable)

    def health_changed(self, ref: AppRef) -> None:
        """Told by the watch; the channel says whether the app is healthy."""
        presence = self._apps.get(ref)
        if presence is not None:
            presence.tell()

    def refresh(self, ref: AppRef) -> None:
        """Ask an app again what it wants."""
        presence = self._apps.get(ref)
        if presence is not None:
            presence.refresh()

    def stop_deliveries(self, ref: AppRef) -> None:
        """The app asked for its shutdown on a shared instance (design §5.6)."""
        presence = self._apps.get(ref)
        if presence is not None:
            presence.stop("stopped by the shutdown API")

    async def close(self) -> None:
        """End what is under way."""
        apps, self._apps = list(self._apps.values()), {}
        await asyncio.gather(*(presence.close() for presence in apps))
