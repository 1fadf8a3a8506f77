from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapr_shared.contracts.invocation import AppNotHealthyError, AppTimeoutError, AppUnreachableError, InvokeResponse
from dapr_shared.core import errors
from dapr_shared.core.errors import GrpcCode
from dapr_shared.resiliency.builtin import BUILT_IN_RETRIES, builtin_service_retry, connection_failed
from dapr_shared.resiliency.policy import NO_POLICY, Backoff, Policy, RetryPolicy


def waits(policy, *, random=0.5, elapsed=lambda: 0.0):
    return policy.waits(elapsed, lambda: random)


def test_a_constant_retry_waits_five_seconds_for_ever_by_default():
    """The defaults are Dapr's: 5 s, no limit."""
    assert list(islice(waits(RetryPolicy()), 1000)) == [5.0] * 1000


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (3, 3)])
def test_max_retries_are_the_tries_after_the_first(limit, count):
    """0 means none at all."""
    for backoff in Backoff:
        assert len(list(waits(RetryPolicy(backoff=backoff, max_retries=limit)))) == count


def test_an_exponential_retry_grows_by_half_up_to_its_longest():
    """500 ms, times 1.5, at most `max_interval`."""
    policy = RetryPolicy(backoff=Backoff.EXPONENTIAL, max_interval=2.0)
    assert list(islice(waits(policy), 6)) == [0.5, 0.75, 1.125, 1.6875, 2.0, 2.0]


@given(random=st.floats(0, 1), retry=st.integers(0, 30))
def test_jitter_keeps_within_half_of_the_interval(random, retry):
    """A wait is between half and one and a half times its interval."""
    policy = RetryPolicy(backoff=Backoff.EXPONENTIAL)
    interval = min(0.5 * 1.5**retry, 60.0)
    wait = next(islice(waits(policy, random=random), retry, None))
    assert interval * 0.5 <= wait <= interval * 1.5 + 1e-9


def test_an_exponential_retry_ends_when_its_time_is_over():
    """No retry begins after 15 minutes."""
    slept = list(_sleeping(RetryPolicy(backoff=Backoff.EXPONENTIAL)))
    assert 900 - 60 < sum(slept) <= 900
    assert len(slept) > 15


def _sleeping(policy):
    """The waits of a policy whose tries take no time."""
    passed = [0.0]
    for wait in waits(policy, elapsed=lambda: passed[0]):
        passed[0] += wait
        yield wait


def test_time_does_not_end_a_constant_retry():
    """The limit of time is for exponential waits only, as in Dapr."""
    assert next(waits(RetryPolicy(max_retries=1), elapsed=lambda: 1e9)) == 5.0


def test_the_built_in_service_retry_is_three_times_one_second():
    """What holds for service invocation without a Resiliency resource."""
    retry = builtin_service_retry().retry
    assert retry is not None
    assert list(waits(retry)) == [1.0, 1.0, 1.0]
    assert builtin_service_retry().retries


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DaprBuiltInServiceRetries", [1.0] * 3),
        ("DaprBuiltInActorRetries", [1.0] * 3),
        ("DaprBuiltInActorNotFoundRetries", [1.0] * 5),
        ("DaprBuiltInInitializationRetries", [0.5, 0.75, 1.0]),
        ("DaprBuiltInActorReminderRetries", [0.5, 0.75, 1.125]),
    ],
)
def test_the_built_in_retries_are_daprs(name, expected):
    """Names, waits and counts as Dapr has them."""
    assert list(islice(waits(BUILT_IN_RETRIES[name]), len(expected))) == pytest.approx(expected)
    if "Reminder" not in name:
        assert len(list(waits(BUILT_IN_RETRIES[name]))) == len(expected)


@pytest.mark.parametrize(
    ("outcome", "worth"),
    [
        (AppUnreachableError("refused"), True),
        (errors.INVOKE_UNAVAILABLE(app="a", detail="refused"), True),
        (errors.INVALID_API_TOKEN(), True),
        (AppTimeoutError("late"), False),
        (AppNotHealthyError("ill"), False),
        (errors.INVOKE_FAILED(app="a", detail="broken"), False),
        (ValueError("defect"), False),
        (InvokeResponse(503, [], b""), False),
        (InvokeResponse(503, [], b"", grpc_status=(GrpcCode.UNAVAILABLE, "busy", b"")), False),
    ],
)
def test_the_built_in_service_retry_is_for_failed_connections_only(outcome, worth):
    """What the app itself answered is never tried again, whatever its status."""
    assert connection_failed(outcome) is worth


def test_a_policy_says_whether_it_ever_tries_twice():
    """Who keeps a body for a retry asks first."""
    assert not NO_POLICY.retries
    assert not Policy(retry=RetryPolicy(max_retries=0)).retries
    assert Policy(retry=RetryPolicy()).retries
