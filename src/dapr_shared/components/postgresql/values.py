"""Values of SQL and of JSON: what an app gives as parameters, and what it gets as rows.

Last step of the request road, for `bindings.postgresql`. JSON has few types: a text stands for whatever type the
parameter has, in PostgreSQL's or ISO's form, and in a row what JSON has no type for is a text as daprd writes it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgspec

from dapr_shared.contracts.component import BackendError

_TRUE = frozenset({"t", "true", "y", "yes", "on", "1"})
_FALSE = frozenset({"f", "false", "n", "no", "off", "0"})
_JSON_TYPES = frozenset({"json", "jsonb"})


def parameter(value: object, type_name: str, name: str) -> object:
    """A JSON value as asyncpg wants it for a parameter of this type. Raises `BackendError`, without the value."""
    if value is None:
        return None
    if type_name.endswith("[]") or type_name.startswith("_"):
        if not isinstance(value, list):
            raise BackendError(f"{name} must be an array: the parameter is of type {type_name}")
        of = type_name.removesuffix("[]").removeprefix("_")
        return [parameter(each, of, name) for each in cast("list[object]", value)]
    convert = _FROM_JSON.get(type_name, _text)
    try:
        return convert(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BackendError(f"{name} cannot be a {type_name}") from error


def json_of(value: Any, type_name: str = "") -> Any:
    """A value of a row as JSON."""
    found: Any
    match value:
        case None | bool() | int() | float():
            found = value
        case str():
            found = msgspec.Raw(value.encode()) if type_name in _JSON_TYPES else value
        case Decimal():
            found = msgspec.Raw(str(value).encode()) if value.is_finite() else str(value)
        case bytes():
            found = b64encode(value).decode()
        case datetime():
            found = _rfc3339(value)
        case date():
            found = f"{value.isoformat()}T00:00:00Z"
        case list() | tuple():
            found = [json_of(each) for each in cast("list[object]", value)]
        case _:
            found = str(value)
    return found


def _rfc3339(moment: datetime) -> str:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.microsecond:06}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        raise TypeError("no text")
    return msgspec.json.encode(value).decode()


def _integer(value: object) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("not whole")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("no number")
    return int(value)


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no number")
    return float(value)


def _decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no number")
    return Decimal(str(value))


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise TypeError("neither true nor false")


def _json(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _bytes(value: object) -> bytes:
    text = _text(value)
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _local_moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _date(value: object) -> date:
    return datetime.fromisoformat(_text(value)).date()


def _time(value: object) -> time:
    return time.fromisoformat(_text(value))


def _uuid(value: object) -> UUID:
    return UUID(_text(value))


_FROM_JSON: Mapping[str, Callable[[object], object]] = {
    "int2": _integer, "int4": _integer, "int8": _integer, "oid": _integer,
    "float4": _float, "float8": _float, "numeric": _decimal, "bool": _boolean,
    "json": _json, "jsonb": _json, "bytea": _bytes, "uuid": _uuid,
    "timestamptz": _moment, "timestamp": _local_moment, "date": _date, "time": _time,
}  # fmt: skip
