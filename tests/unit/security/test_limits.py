import pytest

from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import AppRef
from dapr_shared.security.limits import CallLimits

ORDERS = AppRef("orders")
BILLING = AppRef("billing")


def test_calls_up_to_the_limit_enter_and_the_next_is_refused_by_name():
    """An app may have exactly its limit of calls in flight; one more gets the documented error."""
    limits = CallLimits(2)
    limits.enter(ORDERS)
    limits.enter(ORDERS)
    with pytest.raises(DaprError) as refused:
        limits.enter(ORDERS)
    assert refused.value.row.code == "ERR_TOO_MANY_CALLS"
    assert refused.value.row.http == 429
    assert refused.value.message == "app orders has 2 calls in flight, its limit"
    assert limits.in_flight == {ORDERS: 2}


def test_one_app_at_its_limit_does_not_hinder_another():
    """The limit is each app's own, also between apps of one id in two namespaces."""
    limits = CallLimits(1)
    limits.enter(ORDERS)
    limits.enter(BILLING)
    limits.enter(AppRef("orders", "staging"))
    assert sum(limits.in_flight.values()) == 3


def test_a_call_that_left_makes_room_and_idle_apps_take_no_memory():
    """After its calls have left, an app can call again and is not remembered."""
    limits = CallLimits(1)
    for number in range(1000):
        ref = AppRef(f"app{number}")
        limits.enter(ref)
        limits.leave(ref)
    limits.enter(ORDERS)
    limits.leave(ORDERS)
    assert limits.in_flight == {}
    limits.enter(ORDERS)


def test_a_refused_call_is_not_counted():
    """A refused call leaves the count as it was, so that it need not leave."""
    limits = CallLimits(1)
    limits.enter(ORDERS)
    for _ in range(3):
        with pytest.raises(DaprError):
            limits.enter(ORDERS)
    limits.leave(ORDERS)
    assert limits.in_flight == {}


def test_leaving_without_having_entered_is_a_defect():
    """A leave too many is reported instead of making a count negative."""
    with pytest.raises(KeyError):
        CallLimits(1).leave(ORDERS)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    """The bound can be raised, not lifted."""
    with pytest.raises(ValueError, match="at least 1"):
        CallLimits(limit)


def test_the_view_for_metrics_cannot_be_written():
    """Who reads the counts cannot change them."""
    with pytest.raises(TypeError):
        CallLimits(1).in_flight[ORDERS] = 5
