"""Watching apps: which ports accept connections, and when each app's health is probed.

Beside both roads. An app may come, go and come back; whoever depends on it (events, the metadata API, readiness in
single-app mode, later subscriptions) is told by the `ChannelObserver`.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from dapr_shared.channel.health import ChannelObserver, HealthProbe, NobodyObserves
from dapr_shared.channel.schedule import ProbeSchedule, Scheduled

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from dapr_shared.channel.base import AppChannel
    from dapr_shared.core.ids import AppRef

FIRST_DELAY = 0.1
"""Seconds between the first looks for an absent app; Dapr's pace at its start (reference http-api §13)."""
LONGEST_DELAY = 30.0
"""Seconds between looks for an app that has been absent for long."""
GROWTH = 1.5
"""What each delay is longer than the one before, so that an app that comes is seen within half of its absence."""
PRESENT_DELAY = 15.0
"""Seconds between looks at a reachable app without health checks. A call that does not reach it is seen at once."""
AFTER_A_HINT = 0.5
"""Seconds from the look that a hint causes to one more: an app that is ending may close its port last."""
CLOSEST = 0.1
"""Seconds between two looks that hints cause at one app at least, however many calls fail. The first comes at once: an
app that starts quickly is back within the tenth of a second."""


class _Watched:
    """What is known about one app."""

    __slots__ = ("changed", "channel", "delay", "health", "hinted", "hurried", "looked", "reachable", "scheduled")

    def __init__(self, channel: AppChannel, health: HealthProbe | None) -> None:
        self.channel = channel
        self.health = health
        self.reachable: bool | None = None
        self.delay = FIRST_DELAY
        self.hinted = False
        """Whether the next look is to be followed by one more soon."""
        self.hurried = float("-inf")
        """The loop's time of the last look that a hint caused."""
        self.looked = float("-inf")
        self.changed = 0.0
        """The loop's time when `reachable` became what it is."""
        self.scheduled: Scheduled | None = None


class AppWatch:
    """Looks after every app of an instance.

    An app without health checks is watched by TCP connects alone: the delay between two grows from 0.1 s to 30 s while
    it is absent. One with health checks is probed at its interval; while its port is closed it is looked for in the
    same way, but never less often than that interval. All delays have a jitter of ± 10 %.
    """

    def __init__(self, observer: ChannelObserver | None = None, *, schedule: ProbeSchedule | None = None) -> None:
        self._observer = observer or NobodyObserves()
        self._schedule = schedule or ProbeSchedule()
        self._watched: dict[AppRef, _Watched] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin to watch; the stack ends it."""
        await self._schedule.start(stack)

    def add(self, channel: AppChannel) -> None:
        """Watch an app, from now on; replaces the channel that was watched for the same app."""
        self.remove(channel.ref)
        health = channel.properties.health
        probe = None if health is None else HealthProbe(channel, health, self._observer)
        watched = _Watched(channel, probe)
        self._watched[channel.ref] = watched
        watched.scheduled = self._schedule.add(lambda: self._look(watched))

    def remove(self, ref: AppRef) -> None:
        """Stop watching an app. Nobody is told anything of it any more."""
        watched = self._watched.pop(ref, None)
        if watched is None:
            return
        if watched.scheduled is not None:
            self._schedule.remove(watched.scheduled)
        if watched.health is not None:
            watched.health.ended = True

    def reachable(self, ref: AppRef) -> bool | None:
        """Whether the app's port accepted a connection when somebody last looked; `None`: nobody has, or not watched."""
        watched = self._watched.get(ref)
        return None if watched is None else watched.reachable

    def known_for(self, ref: AppRef) -> float | None:
        """Seconds since `reachable` became what it is; `None` while nobody knows."""
        watched = self._watched.get(ref)
        if watched is None or watched.reachable is None:
            return None
        return asyncio.get_running_loop().time() - watched.changed

    def suspect(self, ref: AppRef) -> None:
        """Say that a call did not reach the app, or that the app closed a connection. Looks soon, unless it is absent.

        An app that closes a connection which nobody was using is mostly tidying up, but it may have ended; one that is
        back within a second would not be missed otherwise, nor asked again what it wants.
        """
        watched = self._watched.get(ref)
        if watched is not None and watched.reachable is not False:
            watched.hinted = True
            self._hurry(watched, watched.hurried)

    def expect(self, ref: AppRef) -> None:
        """Say that the app shows signs of life (it has called, it was refreshed). Looks soon, and often again."""
        watched = self._watched.get(ref)
        if watched is not None and not watched.reachable:
            watched.delay = FIRST_DELAY
            self._hurry(watched, watched.looked)

    def _hurry(self, watched: _Watched, last: float) -> None:
        if watched.scheduled is not None:
            since = asyncio.get_running_loop().time() - last
            self._schedule.hurry(watched.scheduled, max(0.0, CLOSEST - since))

    async def _look(self, watched: _Watched) -> float:
        """One look at an app; returns the seconds until the next one."""
        watched.looked = asyncio.get_running_loop().time()
        if watched.hinted:
            watched.hurried = watched.looked
        health = watched.health
        if health is None or not watched.reachable:
            reachable = await watched.channel.reachable()
            self._note(watched, reachable=reachable)
            if not reachable:
                if health is not None:
                    health.absent()
                return self._absent_delay(watched)
        hinted, watched.hinted = watched.hinted, False
        if health is None:
            return AFTER_A_HINT if hinted else _jitter(PRESENT_DELAY)
        answer = await health.probe()
        if not answer.status:
            self._note(watched, reachable=await watched.channel.reachable())
            if not watched.reachable:
                return self._absent_delay(watched)
        return min(AFTER_A_HINT, health.interval) if hinted else _jitter(health.interval)

    def _note(self, watched: _Watched, *, reachable: bool) -> None:
        if not self._current(watched) or watched.reachable is reachable:
            return
        watched.reachable = reachable
        watched.changed = asyncio.get_running_loop().time()
        watched.delay = FIRST_DELAY
        if reachable:
            watched.channel.reached()
        self._observer.reachable_changed(watched.channel, reachable=reachable)

    def _current(self, watched: _Watched) -> bool:
        """Whether the app is still watched through this channel."""
        return self._watched.get(watched.channel.ref) is watched

    def _absent_delay(self, watched: _Watched) -> float:
        delay = watched.delay
        longest = LONGEST_DELAY if watched.health is None else min(LONGEST_DELAY, watched.health.interval)
        watched.delay = min(longest, delay * GROWTH)
        return _jitter(min(delay, longest))


def _jitter(delay: float) -> float:
    return delay * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the probes of many apps
