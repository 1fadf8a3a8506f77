import pytest

from dapr_shared.resiliency.breaker import BreakerState, CircuitBreaker, CircuitOpenError, TooManyRequestsError
from dapr_shared.resiliency.policy import COUNTERS, CircuitBreakerPolicy
from tests.support.fake_clock import FakeClock

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN


@pytest.fixture
def clock():
    return FakeClock()


def call(breaker, *, success):
    breaker.leave(breaker.enter(), success=success)


def fail(breaker, times=1):
    for _ in range(times):
        call(breaker, success=False)


def opened(clock, **policy):
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(**policy), clock=clock)
    fail(breaker, 6)
    assert breaker.state is OPEN
    return breaker


def test_it_opens_after_more_than_five_failures_in_a_row(clock):
    """The default of Dapr: `consecutiveFailures > 5`; a success starts the count again."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    fail(breaker, 5)
    call(breaker, success=True)
    fail(breaker, 5)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN
    with pytest.raises(CircuitOpenError, match=r"^circuit breaker is open$"):
        breaker.enter()


def test_it_becomes_half_open_after_its_timeout(clock):
    """It stays open for 60 s unless told otherwise, and 0 means 60."""
    for policy in ({}, {"timeout": 0}):
        breaker = opened(clock, **policy)
        clock.advance(60)
        assert breaker.state is OPEN
        clock.advance(0.001)
        assert breaker.state is HALF_OPEN


def test_half_open_lets_one_call_through_and_its_success_closes(clock):
    """One call decides by default; a second one meanwhile is refused."""
    breaker = opened(clock)
    clock.advance(61)
    generation = breaker.enter()
    with pytest.raises(TooManyRequestsError, match=r"^too many requests$"):
        breaker.enter()
    breaker.leave(generation, success=True)
    assert breaker.state is CLOSED
    assert set(breaker.counters.values()) == {0}


def test_half_open_needs_as_many_successes_as_it_lets_calls_through(clock):
    """`max_requests` calls must succeed one after the other."""
    breaker = opened(clock, max_requests=2)
    clock.advance(61)
    call(breaker, success=True)
    assert breaker.state is HALF_OPEN
    call(breaker, success=True)
    assert breaker.state is CLOSED


def test_a_failure_when_half_open_opens_again_for_the_whole_timeout(clock):
    """One failure is enough then."""
    breaker = opened(clock, timeout=10)
    clock.advance(11)
    fail(breaker)
    assert breaker.state is OPEN
    clock.advance(10)
    assert breaker.state is OPEN
    clock.advance(1)
    assert breaker.state is HALF_OPEN


def test_the_interval_makes_a_closed_breaker_forget(clock):
    """Counts are cleared every interval; without one never."""
    forgetful = CircuitBreaker("b", CircuitBreakerPolicy(interval=30), clock=clock)
    lasting = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    for breaker in (forgetful, lasting):
        fail(breaker, 5)
    clock.advance(31)
    for breaker in (forgetful, lasting):
        fail(breaker)
    assert forgetful.state is CLOSED
    assert forgetful.counters["totalFailures"] == 1
    assert lasting.state is OPEN


def test_calls_from_before_a_change_of_state_count_no_more(clock):
    """A late answer says nothing about the state that it did not start in."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(timeout=1), clock=clock)
    late = breaker.enter()
    fail(breaker, 6)
    breaker.leave(late, success=False)
    clock.advance(2)
    assert breaker.state is HALF_OPEN
    breaker.leave(late, success=True)
    assert breaker.state is HALF_OPEN


def test_a_call_given_up_by_its_caller_is_neither_and_frees_its_place(clock):
    """Callers that hang up do not open a breaker, and do not keep it half-open for ever."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(), clock=clock)
    for _ in range(20):
        call(breaker, success=None)
    assert breaker.state is CLOSED
    assert breaker.counters["requests"] == 0
    fail(breaker, 6)
    clock.advance(61)
    call(breaker, success=None)
    call(breaker, success=True)
    assert breaker.state is CLOSED


def test_a_trip_expression_sees_daprs_counters(clock):
    """A compiled expression decides instead of the default, on the five counters of Dapr."""
    seen = []
    policy = CircuitBreakerPolicy(trip=lambda counters: seen.append(dict(counters)) or counters["totalFailures"] >= 2)
    breaker = CircuitBreaker("b", policy, clock=clock)
    fail(breaker)
    call(breaker, success=True)
    fail(breaker)
    assert breaker.state is OPEN
    assert tuple(seen[0]) == COUNTERS
    assert seen[-1] == {
        "requests": 3,
        "totalSuccesses": 1,
        "totalFailures": 2,
        "consecutiveSuccesses": 0,
        "consecutiveFailures": 1,
    }


@pytest.mark.parametrize(
    "trip", [lambda counters: 1 / 0, lambda counters: counters["unknown"], lambda counters: "true", lambda counters: 1]
)
def test_an_expression_that_fails_or_is_no_boolean_does_not_trip(clock, trip):
    """An error in an expression is no reason to leave a target alone."""
    breaker = CircuitBreaker("b", CircuitBreakerPolicy(trip=trip), clock=clock)
    fail(breaker, 20)
    assert breaker.state is CLOSED


def test_changes_of_state_are_told(clock):
    """Whoever counts and logs hears of each change, with the state before."""
    changes = []
    breaker = CircuitBreaker(
        "b", CircuitBreakerPolicy(), clock=clock, on_change=lambda it, before: changes.append((before, it.state))
    )
    fail(breaker, 6)
    clock.advance(61)
    call(breaker, success=True)
    assert changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
