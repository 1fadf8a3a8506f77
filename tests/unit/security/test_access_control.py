import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import Configuration
from dapr_shared.resources.origin import Origin
from dapr_shared.security.access_control import AccessPolicy, Decision
from dapr_shared.security.errors import SecurityConfigurationError

CALLEE = AppRef("callee")
CALLER = AppRef("caller")

BY_APP = Decision(allowed=True, policy="app")
BY_APP_DENIED = Decision(allowed=False, policy="app")
BY_DEFAULT = Decision(allowed=True, policy="global")
BY_DEFAULT_DENIED = Decision(allowed=False, policy="global")
UNRESTRICTED = Decision(allowed=True, policy=None)


def access(spec, *, http=True):
    configuration = Configuration(name="config", access_control=spec, origin=Origin("config.yaml", 1, 4))
    return AccessPolicy(CALLEE, configuration, http=http)


def for_caller(*operations, default=None, overall=None, http=True, **fields):
    policy = {
        "appId": "caller",
        "trustDomain": "public",
        "namespace": "default",
        "operations": list(operations),
        **fields,
    }
    if default:
        policy["defaultAction"] = default
    spec = {"policies": [policy]}
    if overall:
        spec["defaultAction"] = overall
    return access(spec, http=http)


def operation(name, action, *verbs):
    return {"name": name, "httpVerb": list(verbs), "action": action}


@pytest.mark.parametrize(
    "spec", [None, {}, {"trustDomain": "td"}, {"policies": []}, {"policies": None, "defaultAction": ""}]
)
def test_without_rules_every_call_is_allowed_and_no_rule_is_counted(spec):
    """No access control, or one that says nothing, restricts nothing."""
    assert access(spec).decide(CALLER, "public", "orders", "GET") == UNRESTRICTED
    assert access(spec).decide(None, "", "orders", "GET") == UNRESTRICTED
    assert AccessPolicy(CALLEE, None, http=True).decide(CALLER, "public", "orders", "GET") == UNRESTRICTED


def test_the_trust_domain_of_an_app_is_public_unless_its_configuration_says_so():
    """Callers are matched by the trust domain that their own Configuration gives them."""
    assert AccessPolicy(CALLEE, None, http=True).trust_domain == "public"
    assert access({"trustDomain": ""}).trust_domain == "public"
    assert access({"trustDomain": "shop"}).trust_domain == "shop"


@pytest.mark.parametrize(
    ("action", "decision"), [("allow", BY_DEFAULT), ("deny", BY_DEFAULT_DENIED), ("Deny", BY_DEFAULT_DENIED)]
)
def test_the_global_default_holds_for_callers_without_a_policy(action, decision):
    """Without a policy for the caller, or without a proved caller, the global default decides."""
    policy = access({"defaultAction": action})
    assert policy.decide(CALLER, "public", "orders", "GET") == decision
    assert policy.decide(None, "", "orders", "GET") == decision


def test_without_a_global_default_policies_close_the_app_to_others():
    """As soon as there is a policy, who has none is denied."""
    policy = for_caller(default="allow")
    assert policy.decide(AppRef("stranger"), "public", "orders", "GET") == BY_DEFAULT_DENIED
    assert policy.decide(CALLER, "public", "orders", "GET") == BY_APP


@pytest.mark.parametrize(
    ("caller", "trust_domain"),
    [
        (AppRef("caller", "staging"), "public"),
        (CALLER, "other"),
        (CALLER, ""),
        (AppRef("Caller"), "public"),
        (None, "public"),
    ],
)
def test_a_policy_is_for_exactly_one_app_namespace_and_trust_domain(caller, trust_domain):
    """Who differs in one of the three gets the global default."""
    assert for_caller(default="allow", overall="deny").decide(caller, trust_domain, "a", "GET") == BY_DEFAULT_DENIED
    assert for_caller(default="deny", overall="allow").decide(caller, trust_domain, "a", "GET") == BY_DEFAULT


@pytest.mark.parametrize(
    ("method", "verb", "decision"),
    [
        ("orders", "GET", BY_APP),
        ("orders", "POST", BY_APP_DENIED),
        ("orders", "DELETE", BY_APP_DENIED),
        ("orders/7", "GET", BY_APP),
        ("Orders", "GET", BY_APP),
        ("any/thing", "PATCH", BY_APP),
        ("any/secret", "PATCH", BY_APP_DENIED),
        ("any/secret", "GET", BY_APP),
        ("unlisted", "GET", BY_APP_DENIED),
        ("orders", "", BY_APP_DENIED),
        ("any/thing", "NONE", BY_APP_DENIED),
    ],
)
def test_the_operation_decides_by_verb_then_star_then_the_policys_default(method, verb, decision):
    """HTTP apps: the exact verb, else `*`, else the default action of the caller's policy."""
    policy = for_caller(
        operation("/orders", "allow", "get"),
        operation("/orders", "deny", "POST"),
        operation("/any/*", "allow", "*"),
        operation("/any/secret", "deny", "*"),
        operation("/any/secret", "allow", "GET"),
        default="deny",
        overall="allow",
    )
    assert policy.decide(CALLER, "public", method, verb) == decision


def test_what_a_policy_leaves_open_is_decided_by_the_global_default():
    """A policy without a default action says nothing about other operations and verbs."""
    policy = for_caller(operation("/orders", "deny", "POST"), overall="allow")
    assert policy.decide(CALLER, "public", "orders", "POST") == BY_APP_DENIED
    assert policy.decide(CALLER, "public", "orders", "GET") == BY_DEFAULT
    assert policy.decide(CALLER, "public", "other", "GET") == BY_DEFAULT
    assert for_caller(operation("/o", "allow", "GET")).decide(CALLER, "public", "x", "GET") == BY_DEFAULT_DENIED


def test_grpc_apps_have_no_verbs_and_case_counts():
    """The action of the operation decides, whatever the verb; names differ by case."""
    policy = for_caller(
        {"name": "/shop.Orders/Get", "action": "allow"},
        operation("shop.Orders/*", "deny", "GET"),
        default="deny",
        http=False,
    )
    assert policy.decide(CALLER, "public", "/shop.Orders/Get") == BY_APP
    assert policy.decide(CALLER, "public", "shop.Orders/Get", "POST") == BY_APP
    assert policy.decide(CALLER, "public", "/shop.Orders/get") == BY_APP_DENIED
    assert policy.decide(CALLER, "public", "/shop.Orders/List") == BY_APP_DENIED


@pytest.mark.parametrize("method", ["admin/../orders", "..", "orders/./x", "../orders", "/orders/.."])
def test_a_path_with_dots_left_in_it_is_refused(method):
    """A path that an app might read as another one is not let through, whatever the defaults say."""
    for policy in (for_caller(default="allow", overall="allow"), access({"defaultAction": "allow"})):
        assert not policy.decide(CALLER, "public", method, "GET").allowed


@pytest.mark.parametrize("method", ["admin", "/admin", "admin/", "//admin", "ADMIN", "admin//x", "aDmin/x/"])
def test_no_spelling_of_a_path_slips_past_a_denial(method):
    """Slashes and case do not make another operation of an HTTP app's path."""
    policy = for_caller(operation("/admin", "deny", "*"), default="allow")
    assert policy.decide(CALLER, "public", method, "GET") == BY_APP_DENIED


def test_an_app_may_always_call_itself():
    """Policies are for others: the same app id, namespace and trust domain."""
    policy = access({"defaultAction": "deny"})
    assert policy.decide(CALLEE, "public", "orders", "GET") == UNRESTRICTED
    assert not policy.decide(CALLEE, "elsewhere", "orders", "GET").allowed
    assert not policy.decide(AppRef("callee", "staging"), "public", "orders", "GET").allowed


def test_a_refusal_is_answered_as_permission_denied():
    """The error of a denied call names who, what and how."""
    error = access({"defaultAction": "deny"}).refusal(CALLER, "orders", "GET")
    assert error.row.http == 403
    assert error.message == (
        "failed to invoke, id: callee, err: access control policy has denied access to "
        "id: caller operation: orders verb: GET"
    )
    assert access(None).refusal(None, "/p.S/M").message.endswith("id:  operation: /p.S/M verb: NONE")


POLICY = {"appId": "a", "trustDomain": "public", "namespace": "default"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"defaultAction": "permit"}, ".defaultAction: expected allow or deny, found 'permit'"),
        ({"defaultaction": "deny"}, ": Object contains unknown field `defaultaction`"),
        ({"policies": [{**POLICY, "appId": ""}]}, ".policies[0].appId: is required"),
        ({"policies": [POLICY, {"appId": "b", "namespace": "default"}]}, ".policies[1].trustDomain: is required"),
        ({"policies": [{"appId": "b", "trustDomain": "public"}]}, ".policies[0].namespace: is required"),
        ({"policies": [POLICY, POLICY]}, ".policies[1].appId: a second policy for a; merge the two"),
        ({"policies": {"a": 1}}, ".policies: Expected `array | null`, got `object`"),
        ({"policies": [{**POLICY, "appId": 5}]}, ".policies[0].appId: Expected `str | null`, got `int`"),
        ({"policies": [{**POLICY, "defaultAction": "x"}]}, ".policies[0].defaultAction: expected allow or deny, found 'x'"),
        (
            {"policies": [{**POLICY, "operations": [{"name": "/a", "httpVerb": ["GET"]}]}]},
            ".policies[0].operations[0].action: expected allow or deny, found None",
        ),
        (
            {"policies": [{**POLICY, "operations": [{"httpVerb": ["GET"], "action": "deny"}]}]},
            ".policies[0].operations[0].name: is required, such as /orders or /orders/*",
        ),
        (
            {"policies": [{**POLICY, "operations": [{"name": "/a", "action": "deny"}]}]},
            ".policies[0].operations[0].httpVerb: is required for an HTTP app (callee.default): list verbs, or '*'",
        ),
        (
            {"policies": [{**POLICY, "operations": [operation("/a/**/b", "deny", "*")]}]},
            ".policies[0].operations[0].name: '**' stands for the rest of a path: it can only be the last segment",
        ),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_enforced_is_an_error_that_names_the_place(spec, message):
    """Wrong access control stops the load with file, resource and field, instead of leaving a hole."""
    with pytest.raises(SecurityConfigurationError) as wrong:
        access(spec)
    assert str(wrong.value) == f"config.yaml, document 1, line 4: Configuration config: spec.accessControl{message}"
