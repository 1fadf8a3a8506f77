"""The query API on version v1 of `state.postgresql`: a query becomes one SELECT.

Last step of the request road. The filters, `sort` and `page` are Dapr's (reference http-api §4). Names of fields and all
values are bound parameters. As in daprd a text is compared with the text form of a field, `page.token` is the number of
results to pass over, and a field that is not there matches nothing, `NEQ` included. Unlike in daprd numbers are compared
and sorted as numbers, and only what the caller may read is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.state import QueryResult, StateValue

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from dapr_shared.components.postgresql.client import Client, Connection

MAX_RESULTS = 10_000
"""Most results of one query; more are an error that says to use `page.limit`."""
MAX_BYTES = 64 * 1024 * 1024
"""Most bytes of values in one answer."""
MAX_FILTERS = 1_000
MAX_DEPTH = 32
MAX_OFFSET = 2**31 - 1
FETCH = 256
"""Rows that are fetched in one go."""

_COMPARE = {"GT": ">", "GTE": ">=", "LT": "<", "LTE": "<="}
_JOIN = {"AND": " AND ", "OR": " OR "}
_LEAST_OPERANDS = 2


@dataclass(slots=True)
class _Statement:
    values: list[object]
    """The parameters; the first is the prefix of the keys."""
    filters: int = field(default=0)

    def bind(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def path(self, key: object) -> str:
        """The parameter that names a field: its parts between dots."""
        if not isinstance(key, str) or not key:
            raise BackendError("the name of a field must be a text such as person.name")
        return f"{self.bind(key.split('.'))}::text[]"

    def condition(self, given: object, depth: int = 0) -> str:
        operator, operand = _pair(given, "a filter")
        self.filters += 1
        if depth > MAX_DEPTH or self.filters > MAX_FILTERS:
            raise BackendError(
                f"the query has more than {MAX_FILTERS} filters, or more than {MAX_DEPTH} inside each other"
            )
        if operator in _JOIN:
            parts = _list(operand, operator)
            if len(parts) < _LEAST_OPERANDS:
                raise BackendError(f"{operator} filter must contain at least two entries")
            return f"({_JOIN[operator].join(self.condition(part, depth + 1) for part in parts)})"
        if operator == "EQ":
            key, value = _pair(operand, "EQ")
            return self.equal(key, value, "=")
        if operator == "NEQ":
            key, value = _pair(operand, "NEQ")
            return self.equal(key, value, "<>")
        if operator in _COMPARE:
            key, value = _pair(operand, operator)
            return self.compare(key, value, operator)
        if operator == "IN":
            key, value = _pair(operand, "IN")
            options = _list(value, "IN")
            self.filters += len(options)
            if not options or self.filters > MAX_FILTERS:
                raise BackendError(f"IN must have from one to {MAX_FILTERS} values")
            return f"({' OR '.join(self.equal(key, option, '=') for option in options)})"
        raise BackendError(f"unsupported filter {operator!r}: use EQ, NEQ, GT, GTE, LT, LTE, IN, AND or OR")

    def equal(self, key: object, value: object, operator: str) -> str:
        if isinstance(value, str):
            return f"value #>> {self.path(key)} {operator} {self.bind(value)}::text"
        return f"value #> {self.path(key)} {operator} {self.bind(_json(value))}::text::jsonb"

    def compare(self, key: object, value: object, operator: str) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BackendError(f"{operator} compares with numbers alone")
        path = self.path(key)
        return (
            f"(jsonb_typeof(value #> {path}) = 'number' AND "
            f"value #> {path} {_COMPARE[operator]} {self.bind(_json(value))}::text::jsonb)"
        )

    def order(self, sort: object) -> str:
        terms: list[str] = []
        for item in _list(sort, "sort") if sort is not None else ():
            if not isinstance(item, Mapping):
                raise BackendError("each entry of sort is an object with key and order")
            entry = cast("Mapping[str, object]", item)
            order = entry.get("order") or "ASC"
            if not isinstance(order, str) or order.upper() not in {"ASC", "DESC"}:
                raise BackendError("the order of a sort is ASC or DESC")
            terms.append(f"value #> {self.path(entry.get('key'))} {order.upper()}")
            if len(terms) > MAX_DEPTH:
                raise BackendError(f"sort has more than {MAX_DEPTH} entries")
        return ", ".join([*terms, "row_id"])  # so that pages neither overlap nor leave anything out


async def run_query(
    client: Client,
    select: str,
    query: Mapping[str, Any],
    key_prefix: str,
    value_of: Callable[[asyncpg.Record], StateValue],
) -> QueryResult:
    """Answer a query. Raises `BackendError`. `select`: a SELECT with a condition on `$1`, the prefix of the keys."""
    statement = _Statement([key_prefix])
    sql = select
    if query.get("filter") not in (None, {}):
        sql += f" AND {statement.condition(query['filter'])}"
    sql += f" ORDER BY {statement.order(query.get('sort'))}"
    limit, offset = _page(query.get("page"))
    wanted = min(limit or MAX_RESULTS, MAX_RESULTS)
    sql += f" LIMIT {wanted + (0 if limit == wanted else 1)} OFFSET {offset}"

    async def read(connection: Connection) -> list[tuple[str, StateValue]]:
        items: list[tuple[str, StateValue]] = []
        size = 0
        async for row in connection.cursor(sql, *statement.values, prefetch=FETCH):
            value = value_of(row)
            size += len(value.data)
            items.append((row[0], value))
            if len(items) > wanted or size > MAX_BYTES:
                raise BackendError(
                    f"the query has more than {MAX_RESULTS} results or {MAX_BYTES} bytes: give a smaller page.limit"
                )
        return items

    items = await client.transaction(read, "BEGIN READ ONLY")
    return QueryResult(items, str(offset + len(items)) if limit and items else "")


def _page(page: object) -> tuple[int, int]:
    """The most results (0: as many as there are) and how many to pass over."""
    if page is None:
        return 0, 0
    if not isinstance(page, Mapping):
        raise BackendError("page is an object with limit and token")
    given = cast("Mapping[str, object]", page)
    limit, token = given.get("limit") or 0, given.get("token") or "0"
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_OFFSET:
        raise BackendError("page.limit must be a whole number, at least 0")
    # Looked at by its length first: Python refuses to read a number of thousands of digits.
    digits = token if isinstance(token, str) and len(token) <= len(str(MAX_OFFSET)) else ""
    if not isinstance(token, str) or not digits.isascii() or not digits.isdecimal() or int(digits) > MAX_OFFSET:
        raise BackendError("page.token is not one of this store's")
    return limit, int(token)


def _pair(given: object, what: str) -> tuple[str, object]:
    if not isinstance(given, Mapping):
        raise BackendError(f"{what} must be an object with a single entry")
    pairs = list(cast("Mapping[str, object]", given).items())
    if len(pairs) != 1:
        raise BackendError(f"{what} must be an object with a single entry")
    return pairs[0]


def _list(given: object, what: str) -> Sequence[object]:
    if not isinstance(given, list):
        raise BackendError(f"{what} must be an array")
    return cast("list[object]", given)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
