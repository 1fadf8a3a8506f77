"""Which route of a subscription an event takes: rules in CEL, compiled when the subscription is made.

Delivery road, step 4 (block). The library is imported with the first rule that has a `match`. It bounds a rule's size,
depth and iterations, so that no app's rule stops the instance. Facts: reference behaviours §1.2, resources §3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from dapr_shared.blocks.pubsub.event import CloudEvent

Match: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Whether an event, as a mapping of its attributes, matches. Raises `RouteError`."""

EVENT = "event"
"""The one variable of a rule: the CloudEvent."""

_PROBLEM = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_KEY = re.compile(r'(?:Key not found in map : |No value with name )"([^"]+)"')
_CONTAINER = " (in container '')"
_UNDECLARED = re.compile(r"undeclared reference to '([^'.]+)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_UNDECLARED = 16
_SHOWN = 200
"""Characters of a rule that a message repeats."""


class RuleError(ValueError):
    """A rule does not compile; the message says which, where and why."""


class RouteError(Exception):
    """A rule failed for an event: an attribute that it reads is missing, or its result is no boolean."""


class Routes(msgspec.Struct, frozen=True):
    """The compiled rules of one subscription."""

    rules: tuple[tuple[Match | None, str], ...]
    """(match, path) in order; `None` is always true."""

    @property
    def only_path(self) -> str | None:
        """The path of every event, where the first rule is always true."""
        return self.rules[0][1] if self.rules and self.rules[0][0] is None else None

    def path(self, event: CloudEvent) -> str | None:
        """The path of the first rule that matches; `None`: no rule does. Raises `RouteError`, `EventError`."""
        mapping: dict[str, Any] | None = None
        for match, path in self.rules:
            if match is None:
                return path
            if mapping is None:
                mapping = event.mapping()
            if match(mapping):
                return path
        return None


def compile_routes(rules: Iterable[tuple[str, str]]) -> Routes:
    """Compile (match, path) rules in their order; an empty match is always true. Raises `RuleError`."""
    compiled: list[tuple[Match | None, str]] = []
    for number, (text, path) in enumerate(rules, 1):
        try:
            compiled.append((compile_match(text) if text else None, path))
        except RuleError as error:
            raise RuleError(f"rule {number} (path {path!r}): {error}") from error
    return Routes(tuple(compiled))


def compile_match(text: str) -> Match:
    """Compile one CEL expression over the variable `event`.

    Other names are taken for variables that never have a value, as in Dapr: a rule with one fails when it needs it.
    Raises `RuleError` with line and column.
    """
    expression = _compile(text)

    def match(event: Mapping[str, Any]) -> bool:
        try:
            result = expression.eval(data={EVENT: event})
        except (RuntimeError, TypeError, ValueError) as error:  # a value that CEL has no type for
            raise RouteError(f"the rule {_shown(text)} failed: the event has a value that CEL cannot hold") from error
        kind: str = result.type().name()
        if kind == "BOOL":
            return result.value()
        if kind == "ERROR":  # an error comes back as a value
            raise RouteError(f"the rule {_shown(text)} failed: {_reason(text, str(result.value()))}")
        raise RouteError(f"the rule {_shown(text)} gave no boolean: {kind}")

    return match


def _compile(text: str) -> Any:
    unknown: set[str] = set()
    while True:
        try:
            return _environment(frozenset(unknown)).compile(text)
        except (RuntimeError, TypeError) as error:  # TypeError: a text that is not valid Unicode
            names = {name for name in _UNDECLARED.findall(str(error)) if _NAME.fullmatch(name)} - unknown
            if not names or len(unknown) + len(names) > _MOST_UNDECLARED:
                raise RuleError(f"{_shown(text)} does not compile: {_where(error)}") from error
            unknown |= names


@lru_cache(maxsize=8)
def _environment(unknown: frozenset[str]) -> Any:
    # Loaded late: 8 MB of memory that an instance without rules does not spend.
    try:
        from cel_expr_python import cel  # noqa: PLC0415
    except ImportError as error:
        raise RuleError("rules with a match need the package cel-expr-python, which this platform lacks") from error

    any_type = cel.Type.DYN
    return cel.NewEnv(variables=dict.fromkeys((EVENT, *sorted(unknown)), any_type))


def _where(error: Exception) -> str:
    """The first line of the library's message, in words."""
    if isinstance(error, TypeError):
        return "it is not valid Unicode"
    found = _PROBLEM.search(str(error))
    if found is None:
        return str(error).partition("\n")[0]
    return (
        f"line {found[1]}, column {found[2]}: {found[3].removesuffix(' [INVALID_ARGUMENT]').removesuffix(_CONTAINER)}"
    )


def _reason(text: str, problem: str) -> str:
    """What failed, without anything that only the event can have told: payloads never reach a log."""
    code = problem.partition(":")[0]
    key = _KEY.search(problem)
    if key is not None and key[1] in text:
        return f'{code}: nothing has the name "{key[1]}"'
    return code


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
