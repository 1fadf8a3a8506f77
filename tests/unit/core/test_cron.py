from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dapr_shared.core.cron import ScheduleError, parse_schedule

START = datetime(2026, 11, 28, 18, 12, 44, tzinfo=UTC)  # a Saturday


def times(text: str, count: int = 3) -> list[str]:
    schedule = parse_schedule(text)
    found, moment = [], START
    for _ in range(count):
        moment = schedule.after(moment)
        found.append(moment.astimezone(UTC).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TZ=UTC 15 * * * *", ["11-28 18:15:00", "11-28 19:15:00", "11-28 20:15:00"]),
        ("TZ=UTC 15 * * * * *", ["11-28 18:13:15", "11-28 18:14:15", "11-28 18:15:15"]),
        ("TZ=UTC */20 * * * * *", ["11-28 18:13:00", "11-28 18:13:20", "11-28 18:13:40"]),
        ("TZ=UTC 0 0 ? * ?", ["11-29 00:00:00", "11-30 00:00:00", "12-01 00:00:00"]),
        ("CRON_TZ=UTC @hourly", ["11-28 19:00:00", "11-28 20:00:00", "11-28 21:00:00"]),
        ("TZ=UTC @weekly", ["11-29 00:00:00", "12-06 00:00:00", "12-13 00:00:00"]),
        ("TZ=UTC 0 9 * * mon-wed", ["11-30 09:00:00", "12-01 09:00:00", "12-02 09:00:00"]),
        ("TZ=Europe/Berlin 0 9 * * *", ["11-29 08:00:00", "11-30 08:00:00", "12-01 08:00:00"]),
        ("TZ=UTC 0 0 1 * 1", ["11-30 00:00:00", "12-01 00:00:00", "12-07 00:00:00"]),
        ("TZ=UTC 0 0 */10 * 1", ["11-30 00:00:00", "12-01 00:00:00", "12-07 00:00:00"]),
        ("TZ=UTC 0 0 * * 5/1", ["12-04 00:00:00", "12-05 00:00:00", "12-11 00:00:00"]),
        ("@every 1h30m", ["11-28 19:42:44", "11-28 21:12:44", "11-28 22:42:44"]),
    ],
)
def test_when(text, expected):
    """Fields with and without seconds, names, steps, `?`, zones, descriptors, intervals: as Dapr counts them."""
    assert times(text) == expected


def test_shorter_than_a_second():
    """`@every` takes parts of a second."""
    assert parse_schedule("@every 20ms").after(START) == START + timedelta(milliseconds=20)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "TZ=UTC",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "@often",
        "@every 5",
        "@every soon",
        "@every 1ms",
        "TZ=Mars/Base 0 * * * *",
        "0 0 30 2 *",
        "a * * * *",
    ],
)
def test_what_is_no_schedule(text):
    """What cannot be read, or never comes, is an error that says so."""
    with pytest.raises(ScheduleError):
        parse_schedule(text)
