import asyncio
import gc

import pytest

from dapr_shared.resiliency.breaker import BreakerState, CircuitBreaker, CircuitOpenError
from dapr_shared.resiliency.matching import StatusMatching
from dapr_shared.resiliency.policy import NO_POLICY, Backoff, CircuitBreakerPolicy, Policy, RetryPolicy
from dapr_shared.resiliency.runner import PolicyTimeoutError, run
from tests.support.fake_clock import FakeClock


class Target:
    """Answers with these outcomes, one a call; the last one for ever."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        outcome = self.outcomes[min(self.calls, len(self.outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def is_error(outcome):
    return isinstance(outcome, BaseException)


def is_bad(outcome):
    return is_error(outcome) or outcome >= 500


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def attempt(clock):
    def attempt(policy, target, *, retryable=is_error, **options):
        return run(policy, target, retryable=retryable, clock=clock, sleep=clock.sleep, jitter=lambda: 0.5, **options)

    return attempt


ONE_SECOND = RetryPolicy(duration=1, max_retries=3)


async def test_without_a_policy_there_is_one_try(attempt, clock):
    """Results and errors pass through untouched."""
    assert await attempt(NO_POLICY, Target(1)) == 1
    target = Target(OSError("first"))
    with pytest.raises(OSError, match=r"first"):
        await attempt(NO_POLICY, target)
    assert target.calls == 1
    assert clock.slept == []


async def test_it_tries_again_until_a_success(attempt, clock):
    """After each failure it waits as the policy says; the success is the outcome."""
    target = Target(OSError(), OSError(), "done")
    heard = []
    policy = Policy(retry=ONE_SECOND)
    assert await attempt(policy, target, on_retry=lambda outcome, wait: heard.append((type(outcome), wait))) == "done"
    assert clock.slept == [1, 1]
    assert heard == [(OSError, 1), (OSError, 1)]


async def test_the_last_failure_is_the_outcome_when_the_retries_are_used_up(attempt, clock):
    """Three retries are four tries; then the error of the fourth is raised."""
    target = Target(*(OSError(str(number)) for number in range(9)))
    with pytest.raises(OSError, match=r"^3$"):
        await attempt(Policy(retry=ONE_SECOND), target)
    assert target.calls == 4
    assert clock.slept == [1, 1, 1]


async def test_what_is_not_retryable_ends_it_at_once(attempt, clock):
    """An error that another try cannot help is raised as it is."""
    target = Target(KeyError("x"))
    with pytest.raises(KeyError):
        await attempt(Policy(retry=ONE_SECOND), target, retryable=lambda outcome: isinstance(outcome, OSError))
    assert target.calls == 1
    assert clock.slept == []


async def test_a_bad_result_is_tried_again_and_the_last_one_returned(attempt):
    """A result can be worth a retry too; the dropped ones are given back to be closed."""
    discarded = []

    async def discard(result):
        discarded.append(result)

    target = Target(503, OSError(), 502, 200)
    assert await attempt(Policy(retry=ONE_SECOND), target, retryable=is_bad, discard=discard) == 200
    assert discarded == [503, 502]
    discarded.clear()
    assert (
        await attempt(Policy(retry=ONE_SECOND), Target(500, 501, 502, 503, 504), retryable=is_bad, discard=discard)
        == 503
    )
    assert discarded == [500, 501, 502]


async def test_matching_restricts_the_retries_to_its_statuses(attempt):
    """A status that is not listed is not tried again; an outcome without a status is."""
    retry = RetryPolicy(duration=1, max_retries=3, matching=StatusMatching.parse("503", ""))

    def status(outcome):
        return None if is_error(outcome) else outcome

    target = Target(OSError(), 503, 500, 200)
    assert await attempt(Policy(retry=retry), target, retryable=is_bad, status=status) == 500
    assert target.calls == 3


async def test_an_exponential_retry_gives_up_when_its_time_is_over(attempt, clock):
    """The time of the tries themselves counts too."""

    async def slow():
        clock.advance(300)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await attempt(Policy(retry=RetryPolicy(backoff=Backoff.EXPONENTIAL)), slow)
    assert clock.monotonic() > 900
    assert len(clock.slept) == 2


async def test_a_try_that_takes_too_long_is_cancelled_and_may_be_tried_again(attempt, clock):
    """The timeout is for one try; the operation is told, and the error says what Dapr says."""
    cancelled = 0

    async def hangs():
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    policy = Policy(timeout=0.001, retry=RetryPolicy(duration=1, max_retries=2))
    with pytest.raises(PolicyTimeoutError, match=r"^context deadline exceeded$"):
        await attempt(policy, hangs)
    assert cancelled == 3
    assert clock.slept == [1, 1]


async def test_a_timeout_of_the_operation_itself_is_its_own(attempt):
    """An operation's own TimeoutError is not taken for the policy's."""
    with pytest.raises(TimeoutError) as raised:
        await attempt(Policy(timeout=60), Target(TimeoutError("mine")))
    assert not isinstance(raised.value, PolicyTimeoutError)


async def test_an_open_breaker_ends_the_retries(attempt, clock):
    """Retry stands around the breaker; once it is open there are no further tries."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    target = Target(OSError())
    with pytest.raises(CircuitOpenError):
        await attempt(Policy(retry=RetryPolicy(duration=1), breaker=breaker), target)
    assert target.calls == 6
    assert len(clock.slept) == 6
    with pytest.raises(CircuitOpenError):
        await attempt(Policy(breaker=breaker), target)
    assert target.calls == 6


async def test_a_timeout_counts_as_a_failure_for_the_breaker(attempt, clock):
    """The breaker stands around the timeout."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    with pytest.raises(PolicyTimeoutError):
        await attempt(Policy(timeout=0.001, breaker=breaker), asyncio.Event().wait)
    assert breaker.counters["totalFailures"] == 1


async def test_bad_results_count_as_failures_and_failed_overrides(attempt, clock):
    """What is worth a retry is a failure for the breaker, unless the caller says what is."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    await attempt(Policy(breaker=breaker), Target(500), retryable=is_bad)
    await attempt(Policy(breaker=breaker), Target(200), retryable=is_bad)
    await attempt(Policy(breaker=breaker), Target(404), retryable=is_bad, failed=lambda outcome: outcome >= 400)
    with pytest.raises(KeyError):
        await attempt(Policy(breaker=breaker), Target(KeyError()), retryable=lambda _: False)
    with pytest.raises(KeyError):
        await attempt(Policy(breaker=breaker), Target(KeyError()), failed=lambda _: False)
    assert breaker.counters["totalFailures"] == 3
    assert breaker.counters["totalSuccesses"] == 2


async def test_cancelling_a_call_ends_it_and_is_no_failure(clock):
    """A caller that gives up is obeyed at once, in a try and in a wait, and the breaker does not hold it against the target."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    policy = Policy(timeout=60, retry=ONE_SECOND, breaker=breaker)
    started = asyncio.Event()

    async def hangs():
        started.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        task = asyncio.create_task(run(policy, hangs, retryable=lambda _: True))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert set(breaker.counters.values()) == {0}
    assert breaker.state is BreakerState.CLOSED

    waiting = asyncio.Event()
    task = asyncio.create_task(
        run(policy, Target(OSError()), retryable=is_error, on_retry=lambda _outcome, _wait: waiting.set())
    )
    async with asyncio.timeout(5):
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_judgement_that_fails_leaves_the_breaker_usable(attempt, clock):
    """A defect in a caller's own function does not keep a half-open breaker's only place for ever."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(timeout=1), clock=clock)
    for _ in range(6):
        breaker.leave(breaker.enter(), success=False)
    clock.advance(2)

    def broken(outcome):
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError):
        await attempt(Policy(breaker=breaker), Target(1), failed=broken)
    assert await attempt(Policy(breaker=breaker), Target(1)) == 1
    assert breaker.state is BreakerState.CLOSED


async def test_failed_tries_leave_no_garbage_cycles(attempt):
    """The errors of earlier tries are freed as they are dropped, not by the garbage collector."""
    tries = 0

    class RefusedError(ConnectionRefusedError):
        """Of this test alone: what other tests left is not looked at."""

    async def twice_refused():
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RefusedError
        return 1

    gc.collect()
    gc.disable()
    try:
        await attempt(Policy(retry=ONE_SECOND), twice_refused)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, RefusedError)]
    finally:
        gc.enable()
