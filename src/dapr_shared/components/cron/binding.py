"""`bindings.cron`: calls apps by a schedule. Input only.

First step of the delivery road. Each app that wants it is called at each time of the schedule, by every instance that
serves the app, as with one daprd for each replica. A clock keeps nothing: what is due while an app is away, or while it
still works on as many events as it may, is dropped, and so is what was due while the machine slept. What the app answers
changes nothing, as in Dapr: the next time comes anyway. Facts: reference components §5.
"""
# ruff: noqa: D102 - the contract says what its methods promise

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, ClassVar

from dapr_shared.contracts.bindings import BindingCapability, BindingEvent, EventHandler, InputBinding, ReadRequest
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Subscription
from dapr_shared.contracts.settings import Setting, SettingError, Settings
from dapr_shared.core.cron import ScheduleError, parse_schedule

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from dapr_shared.contracts.bindings import Reading
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.cron import Schedule

LONGEST_SLEEP = 30.0
"""Seconds: then the clock is looked at again, because it may have been set."""
CANCEL_TIMEOUT = 5.0
"""Seconds that a cancelled handler has to end."""


class CronSettings(Settings, frozen=True, kw_only=True):
    """The settings of `bindings.cron`."""

    schedule: Annotated[
        str,
        Setting(
            "When: five fields of cron, or six with seconds first; @every DURATION, @hourly, @daily, …; TZ=ZONE before "
            "them, else the machine's time zone.",
            example="@every 15m",
        ),
    ]

    def __post_init__(self) -> None:
        """Check what no annotation says. Raises `SettingError`."""
        try:
            parse_schedule(self.schedule)
        except ScheduleError as error:
            raise SettingError("schedule", str(error)) from error


class CronBinding(InputBinding[CronSettings]):
    """A clock."""

    settings_type = CronSettings
    capabilities: ClassVar[frozenset[str]] = frozenset({BindingCapability.INPUT_BINDING})

    _readings: set[_Reading] | None = None
    """`None` before the start and after the end."""

    def data_location(self) -> str | None:
        return None

    async def start(self, stack: AsyncExitStack) -> None:
        self._readings = set()
        stack.push_async_callback(self._close)

    async def read(self, request: ReadRequest, handler: EventHandler) -> Reading:
        if self._readings is None:
            raise BackendError(f"binding {self.context.name} is not open")
        reading = _Reading(parse_schedule(self.settings.schedule), self.context.clock, request, handler, self._readings)
        reading.start(f"{self.context.name} for {request.reader}")
        return reading

    async def _close(self) -> None:
        readings, self._readings = self._readings or set(), None
        await asyncio.gather(*(reading.stop(0) for reading in tuple(readings)))


class _Reading(Subscription):
    """One app's clock."""

    def __init__(
        self, schedule: Schedule, clock: Clock, request: ReadRequest, handler: EventHandler, running: set[_Reading]
    ) -> None:
        self._schedule = schedule
        self._clock = clock
        self._limit = request.max_in_flight
        self._handler = handler
        self._running = running
        self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def start(self, name: str) -> None:
        """Begin."""
        self._running.add(self)
        self._task = asyncio.create_task(self._run(), name=name)

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False

    async def stop(self, grace: float) -> None:
        self._running.discard(self)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._calls:
            await asyncio.wait(self._calls, timeout=max(grace, 0.0))
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=CANCEL_TIMEOUT)

    async def _run(self) -> None:
        due = self._schedule.after(self._clock.now())
        while due is not None:
            left = (due - self._clock.now()).total_seconds()
            if left > 0:
                await asyncio.sleep(min(left, LONGEST_SLEEP))
                continue
            if not self._paused and len(self._calls) < self._limit:
                call = asyncio.create_task(self._call())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            due = self._schedule.after(due)
            now = self._clock.now()
            if due is not None and due < now:  # late: what was due in between is dropped
                due = self._schedule.after(now)

    async def _call(self) -> None:
        moment = self._clock.now().astimezone(UTC)
        metadata = {"timeZone": "Local", "readTimeUTC": f"{moment:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"}
        with suppress(Exception):  # it promised not to; the next time comes anyway
            await self._handler(BindingEvent(b"", metadata))
