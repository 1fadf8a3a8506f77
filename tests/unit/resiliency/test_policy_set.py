import pytest

from dapr_shared.resiliency.matching import StatusMatching
from dapr_shared.resiliency.policy import Backoff, Policy, RetryPolicy
from dapr_shared.resiliency.policy_set import ComponentKind, PolicySet, ResiliencyError
from dapr_shared.resources.model import Resiliency
from dapr_shared.resources.origin import Origin
from tests.support.fake_clock import FakeClock


def resource(policies=None, targets=None, name="r", scopes=()):
    return Resiliency(
        name=name, policies=policies or {}, targets=targets or {}, scopes=scopes, origin=Origin("r.yaml", 1, 2)
    )


def policy_set(policies=None, targets=None, **options):
    return PolicySet.from_resource(resource(policies, targets), **options)


def problems(policies=None, targets=None, **options):
    with pytest.raises(ResiliencyError) as wrong:
        policy_set(policies, targets, **options)
    start = "r.yaml, document 1, line 2: Resiliency r: spec."
    assert all(problem.startswith(start) for problem in wrong.value.problems)
    assert str(wrong.value) == "\n".join(wrong.value.problems)
    return [problem.removeprefix(start) for problem in wrong.value.problems]


SAMPLE = resource(
    {
        "timeouts": {"general": "5s", "important": "60s"},
        "retries": {
            "pubsubRetry": {"policy": "constant", "duration": "5s", "maxRetries": 10},
            "retryForever": {"policy": "exponential", "maxInterval": "15s", "maxRetries": -1},
            "matched": {"matching": {"httpStatusCodes": "429,500-599", "gRPCStatusCodes": "14"}},
        },
        "circuitBreakers": {"simpleCB": {"maxRequests": 1, "timeout": "30s"}},
    },
    {
        "apps": {"appB": {"timeout": "general", "retry": "retryForever", "circuitBreaker": "simpleCB"}},
        "actors": {
            "cart": {
                "timeout": "general", "retry": "pubsubRetry", "circuitBreaker": "simpleCB",
                "circuitBreakerScope": "both", "circuitBreakerCacheSize": 5000,
            }
        },
        "components": {
            "statestore1": {"outbound": {"timeout": "general", "circuitBreaker": "simpleCB"}},
            "pubsub1": {"inbound": {"retry": "pubsubRetry", "timeout": "important"}, "outbound": None},
        },
    },
)  # fmt: skip


def test_a_resource_in_daprs_form_gives_each_target_its_policies():
    """The sample of Dapr's documentation is read as Dapr reads it."""
    policies = PolicySet.from_resource(SAMPLE)
    app = policies.app("appB", "orders")
    assert (app.timeout, app.retry) == (
        5.0,
        RetryPolicy(backoff=Backoff.EXPONENTIAL, max_interval=15.0),
    )
    assert app.breaker is not None
    store = policies.component_outbound("statestore1", ComponentKind.STATESTORE)
    assert (store.timeout, store.retry, store.breaker is None) == (5.0, None, False)
    pubsub = policies.component_inbound("pubsub1", ComponentKind.PUBSUB)
    assert (pubsub.timeout, pubsub.retry) == (60.0, RetryPolicy(duration=5.0, max_retries=10))
    assert policies.component_outbound("pubsub1", ComponentKind.PUBSUB) == Policy("component[pubsub1] output")
    before, after = policies.actor_before_lock("cart", "1"), policies.actor_after_lock("cart", "1")
    assert (before.timeout, before.retry, before.breaker is None) == (0.0, pubsub.retry, False)
    assert (after.timeout, after.retry, after.breaker) == (5.0, None, None)


def test_a_target_without_policies_has_none():
    """Whatever nobody mentions is tried once, without limits."""
    policies = PolicySet()
    assert policies.app("x", "m") == Policy("endpoint[x, m]")
    assert policies.component_inbound("x", ComponentKind.BINDING) == Policy("component[x] input")
    assert policies.actor_before_lock("t", "1") == policies.actor_after_lock("t", "1") == Policy("actor[t, 1]")
    assert not policies.defines_app("x")
    assert PolicySet.from_resource(SAMPLE).defines_app("appB")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5s", 5), ("500", 0.5), (500, 0.5), ("1m30s", 90), ("250ms", 0.25), ("0", 0), (" 7 ", 0.007)],
)
def test_a_bare_number_means_milliseconds(written, seconds):
    """Durations are Go's, or whole milliseconds."""
    assert policy_set({"timeouts": {"DefaultTimeoutPolicy": written}}).app("x").timeout == seconds


def test_the_defaults_of_a_retry_are_daprs():
    """An entry without fields is a constant 5 s, without end."""
    policies = policy_set({"retries": {"DefaultRetryPolicy": None, "DefaultAppRetryPolicy": {"maxRetries": -7}}})
    assert policies.actor_before_lock("t", "1").retry == RetryPolicy()
    assert policies.app("x").retry == RetryPolicy(max_retries=-1)


def test_matching_lists_are_read():
    """The two lists go to the retry policy."""
    raw = {"matching": {"httpStatusCodes": "429,500-502", "gRPCStatusCodes": ""}, "policy": "Exponential"}
    retry = policy_set({"retries": {"DefaultRetryPolicy": raw}}).app("x").retry
    assert retry is not None
    assert retry.matching == StatusMatching(http=frozenset({429, 500, 501, 502}))
    assert retry.backoff is Backoff.EXPONENTIAL


def test_default_policies_go_from_the_most_specific_name_to_the_least():
    """Each kind of policy takes the most specific default that is defined, by itself."""
    names = [
        "DefaultPubsubComponentInboundRetryPolicy",
        "DefaultComponentInboundRetryPolicy",
        "DefaultComponentRetryPolicy",
        "DefaultRetryPolicy",
    ]
    for index in range(len(names)):
        defined = {name: {"maxRetries": number} for number, name in enumerate(names) if number >= index}
        policies = policy_set(
            {"retries": defined, "timeouts": {"DefaultTimeoutPolicy": "1s", "DefaultAppTimeoutPolicy": "2s"}}
        )
        inbound = policies.component_inbound("p", ComponentKind.PUBSUB)
        assert inbound.retry is not None
        assert (inbound.retry.max_retries, inbound.timeout) == (index, 1.0)
        assert policies.app("a").timeout == 2.0
        outbound = policies.component_outbound("p", ComponentKind.PUBSUB)
        assert outbound.retry is not None
        assert outbound.retry.max_retries == max(index, 2)


def test_a_target_gets_no_defaults_for_the_parts_it_leaves_out():
    """Who is listed has exactly what is listed, as in Dapr."""
    policies = policy_set(
        {"retries": {"DefaultRetryPolicy": {}}, "timeouts": {"t": "1s", "DefaultTimeoutPolicy": "2s"}},
        {"apps": {"a": {"timeout": "t"}}, "components": {"c": {"outbound": {"timeout": "t"}}}},
    )
    assert policies.app("a").retry is None
    assert policies.component_inbound("c", ComponentKind.LOCK) == Policy("component[c] input")
    assert policies.app("b").retry == RetryPolicy()


def test_each_method_of_an_app_has_its_own_breaker_that_lasts():
    """A breaker is found again by app and method, until others have taken its place."""
    policies = policy_set(
        {"circuitBreakers": {"cb": {}, "DefaultAppCircuitBreakerPolicy": {}}},
        {"apps": {"a": {"circuitBreaker": "cb", "circuitBreakerCacheSize": 2}}},
    )
    first = policies.app("a", "one").breaker
    assert policies.app("a", "one").breaker is first
    assert policies.app("a", "two").breaker is not first
    assert policies.app("a", "one").breaker is first
    policies.app("a", "three")
    assert policies.app("a", "one").breaker is first
    policies.app("a", "four")
    policies.app("a", "five")
    assert policies.app("a", "one").breaker is not first
    assert policies.app("b", "one").breaker is policies.app("b", "one").breaker
    assert policies.app("b", "one").breaker is not policies.app("c", "one").breaker


def test_a_component_has_one_breaker_for_both_directions():
    """Failing deliveries and failing calls of one component open the same breaker."""
    cb = {"circuitBreaker": "cb"}
    policies = policy_set({"circuitBreakers": {"cb": {}}}, {"components": {"c": {"inbound": cb, "outbound": cb}}})
    inbound, outbound = (
        find("c", ComponentKind.PUBSUB) for find in (policies.component_inbound, policies.component_outbound)
    )
    assert inbound.breaker is not None
    assert inbound.breaker is outbound.breaker


@pytest.mark.parametrize(("scope", "shared"), [("type", True), ("id", False), ("both", False)])
def test_actors_share_a_breaker_by_type_or_have_one_each(scope, shared):
    """`circuitBreakerScope` decides."""
    target = {"circuitBreaker": "cb", "circuitBreakerScope": scope}
    policies = policy_set({"circuitBreakers": {"cb": {}}}, {"actors": {"t": target}})
    assert (policies.actor_before_lock("t", "1").breaker is policies.actor_before_lock("t", "2").breaker) is shared


def test_later_resources_replace_what_earlier_ones_define_and_scopes_leave_out_others():
    """All resources in scope are merged into one."""
    one = resource({"timeouts": {"t": "1s"}}, {"apps": {"a": {"timeout": "t"}}})
    two = resource({"timeouts": {"t": "2s"}}, name="two", scopes=("caller",))
    assert PolicySet.from_resource(one, two, app_id="caller").app("a").timeout == 2.0
    assert PolicySet.from_resource(one, two, app_id="other").app("a").timeout == 1.0
    assert PolicySet.from_resource(one, two).app("a").timeout == 2.0


def test_a_target_may_use_a_policy_of_another_resource():
    """Names are looked up when everything is read."""
    policies = PolicySet.from_resource(
        resource(None, {"apps": {"a": {"timeout": "t"}}}), resource({"timeouts": {"t": "3s"}}, name="two")
    )
    assert policies.app("a").timeout == 3.0


def test_built_in_policies_can_be_replaced_with_at_least_three_retries():
    """A resource may change a built-in retry, not below 3, and one of them not at all."""
    policies = policy_set(
        {
            "retries": {
                "DaprBuiltInServiceRetries": {"duration": "2s", "maxRetries": 1},
                "DaprBuiltInActorRetries": {"maxRetries": 9},
                "DaprBuiltInActorNotFoundRetries": {"maxRetries": 50},
            }
        }
    )
    service = policies.built_in("DaprBuiltInServiceRetries")
    assert service.retry == RetryPolicy(duration=2.0, max_retries=3)
    actor = policies.built_in("DaprBuiltInActorRetries").retry
    assert actor == RetryPolicy(max_retries=9)
    assert policies.built_in("DaprBuiltInActorNotFoundRetries").retry == RetryPolicy(duration=1.0, max_retries=5)
    assert len(policies.warnings) == 2
    with pytest.raises(KeyError):
        policies.built_in("mine")


def test_a_trip_expression_needs_a_compiler():
    """Without one an expression is an error, with one it decides."""
    raw = {"circuitBreakers": {"DefaultAppCircuitBreakerPolicy": {"trip": "totalFailures > 1"}}}
    assert problems(raw) == [
        (
            "policies.circuitBreakers.DefaultAppCircuitBreakerPolicy: trip: expressions are not available; "
            "leave it out for the default, consecutiveFailures > 5"
        )
    ]

    def refuse(expression):
        raise ValueError(f"cannot read {expression!r}")

    assert problems(raw, compile_expression=refuse) == [
        "policies.circuitBreakers.DefaultAppCircuitBreakerPolicy: trip: cannot read 'totalFailures > 1'"
    ]
    clock = FakeClock()
    policies = policy_set(raw, compile_expression=lambda _: lambda counters: counters["totalFailures"] > 1, clock=clock)
    breaker = policies.app("a", "m").breaker
    assert breaker is not None
    for state in ("closed", "open"):
        breaker.leave(breaker.enter(), success=False)
        assert breaker.state == state


def test_every_mistake_is_reported_with_its_place():
    """One load shows all mistakes, each with file, resource and field."""
    assert problems(
        {
            "timeouts": {"a": "5 seconds", "b": "-1s", "c": 1.5},
            "retries": {
                "a": {"policy": "linear"},
                "b": {"maxRetries": "three"},
                "c": {"matching": {"httpStatusCodes": "5xx"}},
                "d": {"duration": "soon"},
                "e": {"maxInterval": "9" * 20},
            },
            "circuitBreakers": {"a": {"maxRequests": -1}, "b": [1]},
        },
        {
            "apps": {"x": {"timeout": "t", "retry": "r", "circuitBreaker": "c"}},
            "actors": {"y": {"circuitBreaker": "c"}, "z": {"circuitBreaker": "c", "circuitBreakerScope": "all"}},
            "components": {"c": {"inbound": {"retry": "r"}}, "d": 5},
        },
    ) == [
        (
            "policies.timeouts.a: '5 seconds' is not a duration: write it like 30s, 1m30s or 500ms; "
            "a whole number means milliseconds"
        ),
        "policies.timeouts.b: a duration cannot be negative, found '-1s'",
        "policies.timeouts.c: Expected `int | str`, got `float`",
        "policies.retries.a: policy: expected constant or exponential, found 'linear'",
        "policies.retries.b.maxRetries: Expected `int`, got `str`",
        "policies.retries.c: matching: '5xx' is not an HTTP status or a range of them, such as 100-599",
        (
            "policies.retries.d: duration: 'soon' is not a duration: write it like 30s, 1m30s or 500ms; "
            "a whole number means milliseconds"
        ),
        (
            "policies.retries.e: maxInterval: '99999999999999999999' is not a duration: write it like 30s, 1m30s or 500ms; "
            "a whole number means milliseconds"
        ),
        "policies.circuitBreakers.a.maxRequests: Expected `int` >= 0",
        "policies.circuitBreakers.b: Expected `object`, got `array`",
        "targets.actors.y: circuitBreakerScope: a circuit breaker needs it: type, id or both",
        "targets.actors.z: circuitBreakerScope: a circuit breaker needs it: type, id or both, found 'all'",
        "targets.components.d: Expected `object`, got `int`",
        "targets.apps.x.timeout: no policy is called 't'",
        "targets.apps.x.retry: no policy is called 'r'",
        "targets.apps.x.circuitBreaker: no policy is called 'c'",
        "targets.components.c.inbound.retry: no policy is called 'r'",
    ]


@pytest.mark.parametrize("raw", [[], "text", [1, 2], 5])
def test_a_section_that_is_no_mapping_is_reported(raw):
    """A list or a text where names belong is a mistake, not a crash; an empty one is no section."""
    if raw:
        assert len(problems({"timeouts": raw}, {"apps": raw})) == 2
    else:
        assert policy_set({"timeouts": raw}).app("x") == Policy("endpoint[x, ]")
