"""Run an operation under a policy: retry around circuit breaker around timeout, as in Dapr.

Step 5 of both roads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.resiliency.breaker import CircuitBreakerError

if TYPE_CHECKING:
    from dapr_shared.resiliency.policy import Policy, RetryPolicy

T = TypeVar("T")
Sleep: TypeAlias = Callable[[float], Awaitable[object]]

_CLOCK = SystemClock()


class PolicyTimeoutError(TimeoutError):
    """A try took longer than the policy's timeout; it was cancelled."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


class _Judgement(Generic[T]):
    """What outcomes mean."""

    __slots__ = ("failed", "retryable", "status")

    def __init__(
        self,
        retryable: Callable[[T | BaseException], bool],
        failed: Callable[[T | BaseException], bool] | None,
        status: Callable[[T | BaseException], int | None] | None,
    ) -> None:
        self.retryable = retryable
        self.failed = failed
        self.status = status

    def failure(self, outcome: T | BaseException) -> bool:
        """Whether it counts as a failure for a breaker."""
        if self.failed is not None:
            return self.failed(outcome)
        return isinstance(outcome, BaseException) or self.retryable(outcome)

    def worth_retry(self, outcome: T | BaseException, retry: RetryPolicy) -> bool:
        """Whether it is worth another try."""
        if not self.retryable(outcome):
            return False
        if retry.matching is None or self.status is None:
            return True
        status = self.status(outcome)
        return status is None or retry.matching.worth_retry(status)


async def run(
    policy: Policy,
    operation: Callable[[], Awaitable[T]],
    *,
    retryable: Callable[[T | BaseException], bool],
    failed: Callable[[T | BaseException], bool] | None = None,
    status: Callable[[T | BaseException], int | None] | None = None,
    discard: Callable[[T], Awaitable[None]] | None = None,
    on_retry: Callable[[T | BaseException, float], None] | None = None,
    clock: Clock = _CLOCK,
    sleep: Sleep = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Run `operation` until it succeeds or the policy gives up; the outcome of the last try is the outcome.

    An outcome is a result or an exception. `retryable` says whether an outcome is worth another try; `status` gives its
    gRPC code or HTTP status for the policy's `matching`, or `None` where it has none. `failed` says whether it counts as
    a failure for the circuit breaker: by default every exception, and every result that is worth another try. A result
    that is dropped for another try is given to `discard`. `on_retry` hears the outcome and the seconds until the next.

    Raises what the operation raises, `PolicyTimeoutError`, `CircuitOpenError` and `TooManyRequestsError`; the latter two
    are never tried again. A cancellation ends it at once and does not count as a failure.
    """
    judgement: _Judgement[T] = _Judgement(retryable, failed, status)
    retry = policy.retry
    if retry is None:
        return await _try_once(policy, operation, judgement)
    started = clock.monotonic()
    waits = retry.waits(lambda: clock.monotonic() - started, jitter)
    while True:
        outcome: T | BaseException
        try:
            outcome = result = await _try_once(policy, operation, judgement)
        except CircuitBreakerError:
            raise
        except Exception as error:
            outcome = error
            wait = next(waits, None) if judgement.worth_retry(error, retry) else None
            if wait is None:
                raise
        else:
            wait = next(waits, None) if judgement.worth_retry(result, retry) else None
            if wait is None:
                return result
            if discard is not None:
                await discard(result)
        if on_retry is not None:
            on_retry(outcome, wait)
        del outcome  # an exception and this frame would keep each other alive
        await sleep(wait)


async def _try_once(policy: Policy, operation: Callable[[], Awaitable[T]], judgement: _Judgement[T]) -> T:
    breaker = policy.breaker
    if breaker is None:
        return await (_within(policy.timeout, operation) if policy.timeout > 0 else operation())
    generation = breaker.enter()
    success: bool | None = None  # a cancellation leaves it so
    try:
        try:
            result = await (_within(policy.timeout, operation) if policy.timeout > 0 else operation())
        except Exception as error:
            success = not judgement.failure(error)
            raise
        success = not judgement.failure(result)
        return result
    finally:
        breaker.leave(generation, success=success)


async def _within(seconds: float, operation: Callable[[], Awaitable[T]]) -> T:
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await operation()
    except TimeoutError as error:
        if scope.expired():
            raise PolicyTimeoutError from error
        raise
