"""Durations and sizes are read as Go, Kubernetes and ISO 8601 mean them."""

from __future__ import annotations

import contextlib
import datetime as dt
from fractions import Fraction

import isodate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.core.durations import (
    IsoDuration,
    format_go_duration,
    parse_duration,
    parse_go_duration,
    parse_iso_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("5s", 5.0),
        ("+5s", 5.0),
        ("-1.5h", -5400.0),
        ("1h2m3.5s", 3723.5),
        ("1m1m", 120.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("300ms", 0.3),
        ("2us", 2e-6),
        ("2µs", 2e-6),
        ("2\u03bcs", 2e-6),
        ("7ns", 7e-9),
        ("0.9ns", 0.0),
        ("2562047h47m16.854775807s", 9223372036.854775807),
    ],
)
def test_go_durations(text: str, seconds: float) -> None:
    """Every form that Go's ParseDuration takes gives the same number of seconds."""
    assert parse_go_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "5",
        "s",
        ".s",
        "5 s",
        " 5s",
        "5S",
        "1d",
        "1h-1m",
        "--1s",
        "1e3s",
        "٣s",
        "2562048h",
        "9" * 200 + "s",
        "1s\n",
    ],
)
def test_wrong_go_durations(text: str) -> None:
    """What Go refuses is refused with a text that shows how to write it."""
    with pytest.raises(ValueError, match="is not a duration: write it like"):
        parse_go_duration(text)


def test_long_wrong_text_is_shortened_in_the_error() -> None:
    """An endless wrong value does not become an endless error."""
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_go_duration("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_bare_number_means_seconds_in_components() -> None:
    """A component's duration may be a bare whole number of seconds; a flag's may not."""
    assert parse_duration("30") == 30.0
    assert parse_duration("-1") == -1.0
    assert parse_duration("1m30s") == 90.0
    for wrong in ("", "1.5", "1_0", "abc", "9" * 30):
        with pytest.raises(ValueError, match="whole number of seconds"):
            parse_duration(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (3600.5, "1h0m0.5s"),
        (0.0015, "1.5ms"),
        (0.1, "100ms"),
        (2e-6, "2µs"),
        (7e-9, "7ns"),
        (1e-10, "0s"),
        (-1.5, "-1.5s"),
        (100 * 3600, "100h0m0s"),
    ],
)
def test_durations_are_printed_as_go_prints_them(seconds: float, text: str) -> None:
    """The printed form is that of Go's Duration.String."""
    assert format_go_duration(seconds) == text


@pytest.mark.parametrize("seconds", [1e10, -1e10, float("inf"), float("nan")])
def test_what_does_not_fit_is_not_printed(seconds: float) -> None:
    """A number that no Go duration holds is refused."""
    with pytest.raises(ValueError, match="do not fit a duration"):
        format_go_duration(seconds)


@given(st.integers(-(2**52), 2**52))
def test_what_was_printed_is_read_back(nanoseconds: int) -> None:
    """Printing and reading give the same duration, to the nanosecond."""
    seconds = nanoseconds / 1e9
    read = parse_go_duration(format_go_duration(seconds))
    assert round(Fraction(read) * 10**9) == nanoseconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4Mi", 4 * 1024 * 1024),
        ("512Ki", 512 * 1024),
        ("1M", 1_000_000),
        ("1G", 1_000_000_000),
        ("1k", 1000),
        ("1E", 10**18),
        ("1E3", 1000),
        ("12e6", 12_000_000),
        ("1e-3", 1),
        ("1.5Gi", 1536 * 1024 * 1024),
        (".5Ki", 512),
        ("1.", 1),
        ("0.1", 1),
        ("100m", 1),
        ("1500m", 2),
        ("-1500m", -2),
        ("+7", 7),
        ("1048576", 1048576),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_quantities(text: str, value: int) -> None:
    """Kubernetes quantities give whole numbers, fractions rounded away from zero."""
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Mi", ".", "4MB", "4 Mi", "4mi", "1K", "--4", "1e", "0x10", "1_000", "4Mi\n"])
def test_wrong_quantities(text: str) -> None:
    """What is no quantity is refused with a text that shows how to write one."""
    with pytest.raises(ValueError, match="is not a quantity: write it like"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["8Ei", "1e999", "9223372036854775808"])
def test_quantities_past_64_bits(text: str) -> None:
    """A quantity that 64 bits do not hold is refused."""
    with pytest.raises(ValueError, match="too large"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("P1Y2M3W4DT5H6M7S", IsoDuration(1, 2, 25, 5 * 3600 + 6 * 60 + 7)),
        ("PT10S", IsoDuration(seconds=10)),
        ("P2W", IsoDuration(days=14)),
        ("R5/PT10S", IsoDuration(seconds=10, repetitions=5)),
        ("R3/", IsoDuration(repetitions=3)),
        ("PT0S", IsoDuration()),
    ],
)
def test_iso_durations(text: str, value: IsoDuration) -> None:
    """ISO 8601 durations of whole numbers are read, with weeks and repetitions."""
    assert parse_iso_duration(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1YT",
        "R3/P",
        "R/PT1S",
        "R-1/PT1S",
        "PT1.5S",
        "P1S",
        "PT1Y",
        "p1d",
        "P-1D",
        "P1D ",
        "10s",
        "R3",
        "1D",
    ],
)
def test_wrong_iso_durations(text: str) -> None:
    """What is no ISO 8601 duration of whole numbers is refused."""
    with pytest.raises(ValueError, match="is not an ISO 8601 duration"):
        parse_iso_duration(text)


def test_no_repetition_and_too_long() -> None:
    """Zero repetitions and a time beyond Go's type are refused, each with its own words."""
    with pytest.raises(ValueError, match="repeats zero times"):
        parse_iso_duration("R0/PT1S")
    with pytest.raises(ValueError, match="too long for a duration"):
        parse_iso_duration("PT9999999999H")


_number = st.integers(0, 999)


@given(_number, _number, _number, _number, _number, _number, _number)
def test_iso_durations_agree_with_isodate(y: int, mo: int, w: int, d: int, h: int, mi: int, s: int) -> None:
    """Any ISO 8601 duration means what the isodate library says it means."""
    text = f"P{y}Y{mo}M{w}W{d}DT{h}H{mi}M{s}S"
    ours = parse_iso_duration(text)
    theirs = isodate.parse_duration(text, as_timedelta_if_possible=False)
    assert (ours.years, ours.months) == (theirs.years, theirs.months)
    assert dt.timedelta(days=ours.days, seconds=ours.seconds) == theirs.tdelta


@given(st.text(alphabet="PTRYMWDHS/0123456789.-", max_size=20))
def test_any_text_gives_a_duration_or_a_value_error(text: str) -> None:
    """No text makes a parser fail with anything but ValueError."""
    for parse in (parse_go_duration, parse_duration, parse_quantity, parse_iso_duration):
        with contextlib.suppress(ValueError):
            parse(text)
