from hashlib import sha256

import pytest

from dapr_shared.resources.model import (
    App,
    AppChannel,
    AppSecrets,
    Configuration,
    MetadataItem,
    SecretKeyRef,
    SecretScope,
    TokenSource,
)
from dapr_shared.resources.origin import Origin
from dapr_shared.security.errors import SecurityConfigurationError
from dapr_shared.security.secrets import KUBERNETES_STORE, ProtectedSecrets, SecretRules, digest


def scope(store="local", *, allow=True, allowed=(), denied=()):
    return SecretScope(store_name=store, default_allow=allow, allowed_secrets=allowed, denied_secrets=denied)


def app(*scopes, **fields):
    return App(name="orders", app_id="orders", secrets=AppSecrets(scopes=scopes), **fields)


def configuration(*scopes):
    return Configuration(name="config", secret_scopes=scopes, origin=Origin("config.yaml", 2, 7))


def multi(of_app, of_configuration=None, protected=frozenset()):
    return SecretRules(multi_app=True, app=of_app, configuration=of_configuration, protected=protected)


def single(of_configuration=None, of_app=None):
    return SecretRules(multi_app=False, app=of_app, configuration=of_configuration)


def test_a_store_without_a_scope_is_closed_on_a_multi_app_instance():
    """No app of a shared instance reads a store that its App does not open."""
    rules = multi(app(scope("local")))
    assert rules.store_open("local")
    assert not rules.store_open("other")
    assert not rules.allowed("other", "anything")


def test_a_scope_of_the_configuration_alone_opens_no_store_on_a_multi_app_instance():
    """Only the App opens a store: the Configuration restricts."""
    rules = multi(app(), configuration(scope("local")))
    assert not rules.store_open("local")
    assert not rules.allowed("local", "a")


def test_a_store_without_a_scope_is_open_in_single_app_mode():
    """With one app everything is as in Dapr: no scope, no restriction."""
    rules = single()
    assert rules.store_open("local")
    assert rules.allowed("local", "a")


@pytest.mark.parametrize(
    ("of_store", "allowed", "refused"),
    [
        (scope(), {"a", "b", ""}, set()),
        (scope(allow=False), set(), {"a", "b"}),
        (scope(allow=False, allowed=("a",)), {"a"}, {"b"}),
        (scope(allowed=("a",)), {"a"}, {"b", "A", " a", "a "}),
        (scope(denied=("a",)), {"b", "A"}, {"a"}),
        (scope(allowed=("a",), denied=("a",)), {"a"}, {"b"}),
        (scope(allow=False, denied=("a",)), set(), {"a", "b"}),
    ],
)
def test_the_allow_list_wins_then_the_deny_list_then_the_default(of_store, allowed, refused):
    """A scope is read the same way in an App, in its Configuration and in single-app mode."""
    for rules in (multi(app(of_store)), multi(app(scope()), configuration(of_store)), single(configuration(of_store))):
        assert {name for name in allowed | refused if rules.allowed("local", name)} == allowed


def test_app_and_configuration_must_both_allow_a_name():
    """The Configuration takes away from what the App opens, and the other way round."""
    rules = multi(app(scope(allowed=("a", "b"))), configuration(scope(allowed=("b", "c"))))
    assert [name for name in "abc" if rules.allowed("local", name)] == ["b"]


def test_the_built_in_kubernetes_store_is_closed_on_a_multi_app_instance():
    """Not even a scope opens the store that reads all secrets of the namespace."""
    rules = multi(app(scope(KUBERNETES_STORE)))
    assert not rules.store_open(KUBERNETES_STORE)
    assert not rules.allowed(KUBERNETES_STORE, "a")
    assert single().store_open(KUBERNETES_STORE)


def test_protected_names_are_refused_in_every_store_and_spelling():
    """A scope cannot open a token's name, whatever its case, surrounding space or Unicode spelling."""
    rules = multi(app(scope()), protected=frozenset({"ORDERS_TOKEN"}))
    for name in ("ORDERS_TOKEN", "orders_token", " ORDERS_TOKEN\n", "\uff2frders_token"):
        assert not rules.allowed("local", name)
    assert rules.allowed("local", "ORDERS_TOKENS")


def test_two_scopes_for_one_store_are_an_error_that_names_the_place():
    """A store has one scope in a resource; a second one says where it stands."""
    with pytest.raises(SecurityConfigurationError) as wrong:
        single(configuration(scope("a"), scope("local"), scope("a")))
    assert str(wrong.value) == (
        "config.yaml, document 2, line 7: Configuration config: spec.secrets.scopes[2].storeName: "
        "a second scope for the store 'a'; merge the two"
    )
    with pytest.raises(SecurityConfigurationError, match="App orders"):
        multi(app(scope("a"), scope("a")))


def some_apps():
    token_sources = (
        TokenSource(env_ref="ORDERS_TOKEN"),
        TokenSource(secret_key_ref=SecretKeyRef(name="orders", key="token")),
        TokenSource(sha256=sha256(b"by digest").hexdigest()),
    )
    api_token = MetadataItem(name="apiToken", secret_key_ref=SecretKeyRef(name="app-token"))
    return [
        app(tokens=token_sources, channel=AppChannel(port=1, api_token=api_token)),
        App(name="b", app_id="b", channel=AppChannel(port=2, api_token=MetadataItem(name="apiToken", value="plain"))),
        App(name="c", app_id="c", channel=AppChannel(port=3, api_token=MetadataItem(name="apiToken", env_ref="C_APP"))),
        App(name="d", app_id="d"),
    ]


@pytest.mark.parametrize("name", ["ORDERS_TOKEN", "orders", "C_APP", "c_app", " Orders "])
def test_every_name_that_a_token_comes_from_is_protected(name):
    """Names of variables and secrets, of tokens and of apiToken, over all apps; keys alone name nothing."""
    protected = ProtectedSecrets.collect(some_apps())
    assert protected.name_protected([name])
    assert protected.name_protected(["harmless", name])


def test_other_names_are_not_protected():
    """What no token comes from stays readable, the empty name too."""
    protected = ProtectedSecrets.collect(some_apps())
    assert not protected.name_protected(["harmless", "", "ORDERS_TOKEN_2"])
    assert not ProtectedSecrets().name_protected(["anything", ""])


def test_a_token_is_protected_under_any_name_by_its_value():
    """A second component over the same source cannot show a token: resolved, written out, or known by digest only."""
    protected = ProtectedSecrets.collect(some_apps(), [digest("resolved")])
    for value in ("resolved", "plain", "by digest", "resolved\n", "  plain "):
        assert protected.value_protected(["harmless", value])
    assert not protected.value_protected(["harmless", "", "Resolved"])


def test_empty_values_are_no_tokens():
    """A token that resolved to nothing does not make every empty secret unreadable."""
    protected = ProtectedSecrets.collect([], [digest("")])
    assert not protected.value_protected(["", " "])


def test_protection_keeps_no_token_in_readable_form():
    """What is written out in a resource is not kept in the object."""
    protected = ProtectedSecrets.collect(some_apps())
    kept = repr([getattr(protected, name) for name in ProtectedSecrets.__slots__])
    assert "plain" not in kept


def test_values_that_are_not_text_in_utf8_can_be_checked():
    """Variables may hold any bytes and JSON a lone surrogate; neither is an error."""
    assert digest("\udcff") == sha256(b"\xff").digest()
    assert not ProtectedSecrets.collect([], [digest("x")]).value_protected(["\udcff", "\ud800"])
