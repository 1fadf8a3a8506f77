"""What each app may do, as one object that a reload replaces as a whole."""

from __future__ import annotations

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.identity.caller import Caller, Evidence, RegisteredApp
from dapr_shared.resources.loader import load_objects
from dapr_shared.runtime.rules import Rules, SecretPolicyOfRules
from dapr_shared.security.errors import SecurityConfigurationError
from dapr_shared.security.secrets import digest


def record(name: str, spec: dict | None = None, configuration: dict | None = None) -> RegisteredApp:
    app = {"apiVersion": "shared.dapr.io/v1alpha1", "kind": "App", "metadata": {"name": name}, "spec": spec or {}}
    rules = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": "c"},
        "spec": configuration,
    }
    loaded = load_objects([app, *([rules] if configuration else [])], source="test")
    of_app = loaded.configurations[0] if loaded.configurations else None
    return RegisteredApp(loaded.apps[0].ref, loaded.apps[0], of_app)


def caller(made: RegisteredApp) -> Caller:
    return Caller(made, (Evidence.TOKEN,))


def rules_of(*records: RegisteredApp, multi_app: bool = True, digests=()) -> Rules:
    rules = Rules(multi_app=multi_app)
    rules.adopt(rules.compile(records, digests))
    return rules


def test_an_app_that_is_not_served_may_do_nothing():
    """Before the first resources, and for an app that was removed, every question is answered with no."""
    a = caller(record("a"))
    rules = Rules(multi_app=True)
    assert not rules.allowed(a, "http", "state", "v1")
    assert not rules.allowed(a, "grpc", "state", "v1")
    assert not rules.secret_allowed(a, "vault", "x")
    assert not rules.decide(a, AppRef("b"), "/x", "GET").allowed
    of_b = rules_of(record("b"))
    assert not of_b.decide(a, AppRef("b"), "/x", "GET").allowed


def test_stores_are_closed_on_a_shared_instance_only():
    """Without a scope a secret store is closed to an app of many, and open to the app of single-app mode, as in Dapr."""
    a = record("a")
    assert not rules_of(a).secret_allowed(caller(a), "vault", "x")
    assert rules_of(a, multi_app=False).secret_allowed(caller(a), "vault", "x")


def test_compiling_changes_nothing_until_it_is_adopted():
    """A reload that fails later has changed no rule."""
    scopes = {"secrets": {"scopes": [{"storeName": "vault"}]}}
    closed, opened = record("a"), record("a", scopes)
    rules = rules_of(closed)
    made = rules.compile([opened], [digest("t")])
    assert not rules.secret_allowed(caller(closed), "vault", "x")
    assert not SecretPolicyOfRules(rules).value_protected(["t"])
    rules.adopt(made)
    assert rules.secret_allowed(caller(closed), "vault", "x")
    assert SecretPolicyOfRules(rules).value_protected(["t"])


def test_tokens_are_protected_by_name_and_value():
    """Names and values that any app's token comes from are protected, also with other case or space around."""
    a = record("a", {"tokens": [{"envRef": "A_TOKEN"}]})
    policy = SecretPolicyOfRules(rules_of(a, digests=[digest("value")]))
    assert policy.name_protected(["a_token"])
    assert policy.name_protected(["x", "A_TOKEN "])
    assert not policy.name_protected(["other"])
    assert policy.value_protected(["x", " value\n"])
    assert not policy.value_protected(["values"])


def test_access_control_is_the_callees():
    """The Configuration of the app that is called decides, with its own trust domain for the caller's."""
    deny = {"accessControl": {"defaultAction": "deny", "trustDomain": "public"}}
    a, b = record("a"), record("b", configuration=deny)
    rules = rules_of(a, b)
    assert not rules.decide(caller(a), b.ref, "/x", "GET").allowed
    assert rules.decide(caller(b), a.ref, "/x", "GET").allowed


def test_wrong_rules_name_their_place():
    """A policy that cannot be what it seems to say is an error at load."""
    wrong = {"accessControl": {"defaultAction": "perhaps"}}
    with pytest.raises(SecurityConfigurationError, match="perhaps"):
        rules_of(record("a", configuration=wrong))


def test_a_caller_that_nothing_proves_gets_the_default_action():
    """For a call of another instance no policy counts, whatever app it is said to be from."""
    policy = {"appId": "a", "namespace": "default", "trustDomain": "public", "defaultAction": "allow"}
    closed = {"accessControl": {"policies": [policy]}}
    rules = rules_of(record("a"), record("b", configuration=closed), record("c"))
    assert rules.decide(caller(record("a")), AppRef("b"), "/x", "GET").allowed
    assert not rules.decide_unproved(AppRef("b"), "/x", "GET").allowed
    assert rules.decide_unproved(AppRef("c"), "/x", "GET").allowed
    assert not rules.decide_unproved(AppRef("removed"), "/x", "GET").allowed
