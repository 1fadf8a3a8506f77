"""Durations and sizes, as Go, Kubernetes and ISO 8601 write them.

No step of a road: settings, flags, time-outs, jobs and reminders are read with it wherever they enter. Sums are made in
whole nanoseconds, so that a text gives the same value as in Go.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SECOND = 1_000_000_000
_MAXIMUM = 2**63 - 1
"""Largest 64-bit integer: the bound of Go's `time.Duration` (in nanoseconds, about 292 years) and of a quantity."""

_GO_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "\u03bcs": 1_000,  # the Greek letter: Go takes both
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_GO_PART = re.compile("([0-9]*)(?:\\.([0-9]*))?(ns|us|µs|\u03bcs|ms|s|m|h)")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_QUANTITY = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?")
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_ISO = re.compile(
    r"(?:R([0-9]{1,9})/)?"
    r"(?:P(?:([0-9]{1,9})Y)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(T(?:([0-9]{1,10})H)?(?:([0-9]{1,10})M)?(?:([0-9]{1,10})S)?)?)?"
)
_LONGEST = 100
"""Characters; a longer text is none of these, and is not worth a number of that many digits."""


class IsoDuration(NamedTuple):
    """An ISO 8601 duration. Years and months are kept apart: how long they are depends on when they start."""

    years: int = 0
    months: int = 0
    days: int = 0
    """Days and weeks, in days."""
    seconds: int = 0
    """Hours, minutes and seconds, in seconds."""
    repetitions: int | None = None
    """The `n` of an `R<n>/` prefix: how often in all, the first time included. `None` without a prefix."""


def parse_go_duration(text: str) -> float:
    """Seconds from a duration in Go's syntax: `1h2m3.5s`, `-1.5h`, `300ms`, `2us`, `0`.

    Units: ns, us (µs), ms, s, m, h. A bare number other than 0 is wrong. Raises `ValueError`.
    """
    nanoseconds = _go_nanoseconds(text)
    if nanoseconds is None:
        raise ValueError(f"{_shown(text)} is not a duration: write it like 30s, 1m30s or 500ms")
    return nanoseconds / _SECOND


def parse_duration(text: str) -> float:
    """Seconds from a Go duration or a bare whole number, which means seconds (reference components §0).

    Raises `ValueError`.
    """
    nanoseconds = _go_nanoseconds(text)
    if nanoseconds is not None:
        return nanoseconds / _SECOND
    if len(text) <= _LONGEST and _INTEGER.fullmatch(text) and abs(int(text)) * _SECOND <= _MAXIMUM:
        return float(int(text))
    raise ValueError(f"{_shown(text)} is not a duration: write it like 30s, 1m30s, or as a whole number of seconds")


def format_go_duration(seconds: float) -> str:
    """The duration as Go prints it: `1h0m0.5s`, `1.5ms`, `0s`; whole nanoseconds, the rest rounded.

    Raises `ValueError` for what does not fit Go's type (about 292 years) or is not a number.
    """
    if not abs(seconds) * _SECOND <= _MAXIMUM:
        raise ValueError(f"{seconds} seconds do not fit a duration")
    numerator, denominator = abs(seconds).as_integer_ratio()
    rest = (2 * numerator * _SECOND + denominator) // (2 * denominator)
    if rest == 0:
        return "0s"
    sign = "-" if seconds < 0 else ""
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if rest < size * 1_000:
            return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, rest = divmod(rest, 60 * _SECOND)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, _SECOND)}s"


def parse_quantity(text: str) -> int:
    """A whole number from a Kubernetes quantity: `4Mi`, `1.5G`, `512Ki`, `1e3`, `0`; a fraction is rounded up.

    Rounded away from zero, as Kubernetes does. Raises `ValueError`, also for what does not fit 64 bits.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"{_shown(text)} is not a quantity: write it like 512Ki, 4Mi, 1G or 1048576")
    sign, whole, fraction, binary, decimal, exponent = match.groups(default="")
    power = (_DECIMAL[decimal] if decimal else int(exponent or 0)) - len(fraction)
    numerator = int(whole + fraction) * (_BINARY[binary] if binary else 1)
    value = numerator * 10**power if power >= 0 else -(-numerator // 10**-power)
    if value > _MAXIMUM:
        raise ValueError(f"{_shown(text)} is too large for a quantity")
    return -value if sign == "-" else value


def parse_iso_duration(text: str) -> IsoDuration:
    """An ISO 8601 duration of whole numbers, such as `P1Y2M3W4DT5H6M7S`, `R5/PT10S` or `R3/` alone.

    Raises `ValueError`, also for `R0/` (reference behaviours §3) and for more than Go's type holds.
    """
    match = _ISO.fullmatch(text)
    if not text or match is None or text.endswith(("P", "T")):
        raise ValueError(f"{_shown(text)} is not an ISO 8601 duration of whole numbers, such as P1DT12H or R5/PT10S")
    repetitions = None if match[1] is None else int(match[1])
    if repetitions == 0:
        raise ValueError(f"{_shown(text)} repeats zero times: write a count of at least 1")
    years, months, weeks, days = (int(match[group] or 0) for group in (2, 3, 4, 5))
    hours, minutes, seconds = (int(match[group] or 0) for group in (7, 8, 9))
    total = hours * 3600 + minutes * 60 + seconds
    if total * _SECOND > _MAXIMUM:
        raise ValueError(f"{_shown(text)} is too long for a duration")
    return IsoDuration(years, months, weeks * 7 + days, total, repetitions)


def _go_nanoseconds(text: str) -> int | None:
    """Whole nanoseconds, what is below one cut off as Go does; `None` if it is not a Go duration."""
    if len(text) > _LONGEST:
        return None
    negative = text.startswith("-")
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    position = total = 0
    while position < len(body):
        part = _GO_PART.match(body, position)
        if part is None or not (part[1] or part[2]):
            return None
        unit = _GO_UNITS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = part.end()
    # Go's type reaches one further below zero than above.
    if not body or total > _MAXIMUM + negative:
        return None
    return -total if negative else total


def _decimal(value: int, unit: int) -> str:
    """`value / unit` in decimal, without trailing zeros; `unit` is a power of ten."""
    whole, rest = divmod(value, unit)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
