"""Single entries of a Resiliency resource, from plain data to policies and targets.

Step 5 of both roads, when resources are loaded (reference resources §5, behaviours §4). Every function raises
`ValueError` with what is wrong, `msgspec.ValidationError` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, TypeAlias, TypeVar, cast

import msgspec

from dapr_shared.core.durations import parse_go_duration
from dapr_shared.resiliency.matching import StatusMatching
from dapr_shared.resiliency.policy import INFINITE, Backoff, CircuitBreakerPolicy, RetryPolicy, Trip

CompileExpression: TypeAlias = Callable[[str], Trip]
"""Compiles a CEL expression over a breaker's counters (`policy.COUNTERS`); raises `ValueError` with what is wrong."""

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Duration: TypeAlias = str | int


class PolicyNames(msgspec.Struct, frozen=True, rename="camel"):
    """Which policies hold for a target; empty: none of that kind."""

    timeout: str = ""
    retry: str = ""
    circuit_breaker: str = ""


class AppTarget(PolicyNames, frozen=True, rename="camel"):
    """`targets.apps.<app id>`."""

    circuit_breaker_cache_size: _Count = 0
    """How many breakers, one for each method, are kept; 0: the default."""


class ActorTarget(PolicyNames, frozen=True, rename="camel"):
    """`targets.actors.<type>`."""

    circuit_breaker_scope: str = ""
    """One breaker for the `type`, or for each `id` (`both` is the same)."""
    circuit_breaker_cache_size: _Count = 0


class ComponentTarget(msgspec.Struct, frozen=True, rename="camel"):
    """`targets.components.<name>`."""

    outbound: PolicyNames = PolicyNames()
    inbound: PolicyNames = PolicyNames()


class _Matching(msgspec.Struct, frozen=True):
    http: str = msgspec.field(default="", name="httpStatusCodes")
    grpc: str = msgspec.field(default="", name="gRPCStatusCodes")


class _Retry(msgspec.Struct, frozen=True, rename="camel"):
    policy: str = "constant"
    duration: _Duration = "5s"
    max_interval: _Duration = "60s"
    max_retries: int = INFINITE
    matching: _Matching = _Matching()


class _Breaker(msgspec.Struct, frozen=True, rename="camel"):
    max_requests: _Count = 1
    interval: _Duration = 0
    timeout: _Duration = "60s"
    trip: str = ""


def read_timeout(raw: object) -> float:
    """Seconds of `policies.timeouts.<name>`."""
    return _duration("", msgspec.convert(raw, _Duration))


def read_retry(raw: object) -> RetryPolicy:
    """`policies.retries.<name>`."""
    entry = _convert(raw, _Retry)
    kind = entry.policy.lower()
    if kind not in {"constant", "exponential"}:
        raise ValueError(f"policy: expected constant or exponential, found {entry.policy!r}")
    try:
        matching = StatusMatching.parse(entry.matching.http, entry.matching.grpc)
    except ValueError as error:
        raise ValueError(f"matching: {error}") from error
    return RetryPolicy(
        backoff=Backoff(kind),
        duration=_duration("duration: ", entry.duration),
        max_retries=max(entry.max_retries, INFINITE),
        max_interval=_duration("maxInterval: ", entry.max_interval),
        matching=None if matching == StatusMatching() else matching,
    )


def read_breaker(raw: object, compile_expression: CompileExpression | None) -> CircuitBreakerPolicy:
    """`policies.circuitBreakers.<name>`. Without a compiler, a `trip` expression is an error."""
    entry = _convert(raw, _Breaker)
    trip: Trip | None = None
    if entry.trip:
        if compile_expression is None:
            raise ValueError(
                "trip: expressions are not available; leave it out for the default, consecutiveFailures > 5"
            )
        try:
            trip = compile_expression(entry.trip)
        except ValueError as error:
            raise ValueError(f"trip: {error}") from error
    return CircuitBreakerPolicy(
        max_requests=entry.max_requests,
        interval=_duration("interval: ", entry.interval),
        timeout=_duration("timeout: ", entry.timeout),
        trip=trip,
    )


def read_app(raw: object) -> AppTarget:
    """`targets.apps.<app id>`."""
    return _convert(raw, AppTarget)


def read_actor(raw: object) -> ActorTarget:
    """`targets.actors.<type>`."""
    target = _convert(raw, ActorTarget)
    if target.circuit_breaker and target.circuit_breaker_scope not in {"type", "id", "both"}:
        found = f", found {target.circuit_breaker_scope!r}" if target.circuit_breaker_scope else ""
        raise ValueError(f"circuitBreakerScope: a circuit breaker needs it: type, id or both{found}")
    return target


def read_component(raw: object) -> ComponentTarget:
    """`targets.components.<name>`."""
    return _convert(raw, ComponentTarget)


def _convert(raw: object, struct: type[_Struct]) -> _Struct:
    return msgspec.convert(_without_nulls(raw or {}), struct)


def _without_nulls(raw: object) -> object:
    """A field without a value is an absent one, as in Go."""
    if isinstance(raw, Mapping):
        fields = cast("Mapping[str, object]", raw)
        return {name: _without_nulls(value) for name, value in fields.items() if value is not None}
    return raw


def _duration(field: str, value: _Duration) -> float:
    """Seconds of a Go duration; a bare whole number means milliseconds."""
    text = str(value).strip()
    number = text.removeprefix("-").removeprefix("+")
    try:
        if number.isascii() and number.isdigit() and len(number) <= 15:
            seconds = int(text) / 1000
        else:
            seconds = parse_go_duration(text)
    except ValueError as error:
        raise ValueError(f"{field}{error}; a whole number means milliseconds") from error
    if seconds < 0:
        raise ValueError(f"{field}a duration cannot be negative, found {text!r}")
    return seconds
