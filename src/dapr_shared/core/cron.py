"""Schedules as Dapr writes them: `@every 15m`, `@hourly`, five or six fields of cron, `TZ=` before them.

Ground. The fields are counted out by the library cronsim; what it reads differently from Dapr's own parser (reference
components §5) is written out for it here: `?`, the steps of `*/2`, that a day of the month and one of the week are
either of the two unless one of them is any.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from dapr_shared.core.durations import parse_duration

SHORTEST = 0.01
"""Seconds of an `@every` at least: less would keep a core busy."""
_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_LARGEST = (59, 59, 23, 31, 12, 6)
_SMALLEST = (0, 0, 0, 1, 1, 0)


class ScheduleError(ValueError):
    """A text that is no schedule; the message says why."""


class Schedule(Protocol):
    """When something is due."""

    def after(self, moment: datetime) -> datetime | None:
        """The first time after this one (which has a zone); `None`: never."""
        ...


def parse_schedule(text: str) -> Schedule:
    """Read a schedule. Without `TZ=` the fields are in the machine's time zone. Raises `ScheduleError`."""
    rest = text.strip()
    zone: tzinfo | None = None
    first, _, following = rest.partition(" ")
    if first.startswith(("TZ=", "CRON_TZ=")):
        zone = _zone(first.partition("=")[2])
        rest = following.strip()
    if not rest:
        raise ScheduleError("the schedule is empty")
    if rest.startswith("@every "):
        return _Every(_interval(rest.removeprefix("@every ").strip()))
    if rest.startswith("@"):
        if rest not in _DESCRIPTORS:
            raise ScheduleError(f"{rest[:40]!r} is not one of @every DURATION, {', '.join(_DESCRIPTORS)}")
        rest = _DESCRIPTORS[rest]
    fields = rest.split()
    if len(fields) not in (5, 6):
        raise ScheduleError(f"expected 5 to 6 fields, found {len(fields)}: {rest[:80]!r}")
    return _Fields(fields if len(fields) == 6 else ["0", *fields], zone)


class _Every:
    """At a fixed distance from the time before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def after(self, moment: datetime) -> datetime | None:
        return moment + timedelta(seconds=self._seconds)


class _Fields:
    """Where seconds, minutes, hours, days, months and days of the week fit."""

    def __init__(self, fields: list[str], zone: tzinfo | None) -> None:
        # Always six fields: with five, cronsim moves times that a change of the clock skips, which Dapr does not.
        self._expression = " ".join(_field(text, index) for index, text in enumerate(fields))
        self._zone = zone or _local_zone()
        try:
            CronSim(self._expression, datetime.now(self._zone))
        except CronSimError as error:
            raise ScheduleError(f"{error}: {' '.join(fields)!r}") from error

    def after(self, moment: datetime) -> datetime | None:
        try:
            return next(CronSim(self._expression, moment.astimezone(self._zone)))
        except StopIteration:
            return None


def _field(text: str, index: int) -> str:
    """One field as cronsim reads it; a list with any value in it is any value."""
    terms = [_term(term, index) for term in text.split(",") if term]
    return "*" if "*" in terms else ",".join(terms)


def _term(term: str, index: int) -> str:
    span, slash, step = term.partition("/")
    if span == "?":
        span = "*"
    if not slash:
        return span
    if span == "*":
        return "*" if step == "1" else f"{_SMALLEST[index]}-{_LARGEST[index]}/{step}"
    # `3/2` is from 3 to the last; the last day of the week is Saturday, and cronsim's is a second Sunday.
    return f"{span}/{step}" if "-" in span else f"{span}-{_LARGEST[index]}/{step}"


def _interval(text: str) -> float:
    if text[-1:].isdigit():
        raise ScheduleError(f"@every needs a duration with a unit, such as 15m or 1h30m, found {text[:40]!r}")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ScheduleError(f"@every: {error}") from error
    if seconds < SHORTEST:
        raise ScheduleError(f"@every must be at least {SHORTEST * 1000:g}ms, found {text[:40]!r}")
    return seconds


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"there is no time zone {name[:80]!r} on this machine") from error


def _local_zone() -> tzinfo:
    """The machine's zone with its changes of the clock: `TZ`, `/etc/localtime`, else UTC."""
    name = os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, "Local")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
