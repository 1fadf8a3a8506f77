"""The registry of apps: every combination of evidence, and what is refused."""

from __future__ import annotations

from hashlib import sha256

import pytest

from dapr_shared.core.ids import AppRef, app_id_problem
from dapr_shared.identity.apps import AppRegistry, IdentityConfigurationError, RefusedError
from dapr_shared.identity.caller import Evidence, ListenerIdentity, OperatorIdentity, RegisteredApp
from dapr_shared.resources.model import App, CertificateName
from dapr_shared.wire.tls import PeerCertificate

A, B = AppRef("a"), AppRef("b")
SHARED = ListenerIdentity("http")


def record(ref: AppRef, *tokens: bytes) -> RegisteredApp:
    app = App(name=ref.app_id, app_id=ref.app_id, namespace=ref.namespace)
    return RegisteredApp(ref, app, token_digests=frozenset(sha256(token).digest() for token in tokens))


@pytest.fixture
def registry() -> AppRegistry:
    made = AppRegistry()
    made.replace([record(A, b"token-a", b"second-a"), record(B, b"token-b")])
    return made


@pytest.mark.parametrize(
    ("tokens", "listener", "app", "evidence"),
    [
        ([b"token-a"], SHARED, A, (Evidence.TOKEN,)),
        ([b"second-a"], SHARED, A, (Evidence.TOKEN,)),
        ([b"token-b"], None, B, (Evidence.TOKEN,)),
        ([], ListenerIdentity("a", A), A, (Evidence.LISTENER,)),
        ([b""], ListenerIdentity("a", A), A, (Evidence.LISTENER,)),
        ([b"token-a"], ListenerIdentity("a", A), A, (Evidence.LISTENER, Evidence.TOKEN)),
    ],
)
def test_evidence_proves_its_app(registry, tokens, listener, app, evidence):
    """A token, a listener, or both that agree prove the app that they belong to."""
    caller = registry.identify(tokens, listener)
    assert (caller.ref, caller.evidence) == (app, evidence)


@pytest.mark.parametrize(
    ("tokens", "listener", "reason"),
    [
        ([], SHARED, "no_evidence"),
        ([b""], SHARED, "no_evidence"),
        ([], None, "no_evidence"),
        ([], "http", "no_evidence"),
        ([b"token-c"], SHARED, "unknown_token"),
        ([b"token-a "], SHARED, "unknown_token"),
        ([b"TOKEN-A"], SHARED, "unknown_token"),
        ([sha256(b"token-a").hexdigest().encode()], SHARED, "unknown_token"),
        ([sha256(b"token-a").digest()], SHARED, "unknown_token"),
        ([b"token-b"], ListenerIdentity("a", A), "evidence_disagrees"),
        ([b"token-c"], ListenerIdentity("a", A), "unknown_token"),
        ([b"token-a", b"token-a"], SHARED, "several_tokens"),
        ([b"token-a", b"token-b"], ListenerIdentity("a", A), "several_tokens"),
        ([], ListenerIdentity("gone", AppRef("gone")), "app_removed"),
    ],
)
def test_what_proves_no_app_is_refused(registry, tokens, listener, reason):
    """A request that proves no app, or proves two, is refused with 401 and its reason; nothing is guessed."""
    with pytest.raises(RefusedError) as refused:
        registry.identify(tokens, listener)
    assert refused.value.reason == reason
    assert refused.value.error.row.http == 401


def test_one_remaining_app_still_has_to_prove_itself(registry):
    """Removing apps down to one does not open the instance: single-app mode is chosen at start only."""
    registry.replace([record(A, b"token-a")])
    with pytest.raises(RefusedError):
        registry.identify([], SHARED)


def test_two_apps_with_one_token_are_refused_and_nothing_changes(registry):
    """One token for two apps is a configuration error that names both; the former apps stay."""
    with pytest.raises(IdentityConfigurationError, match=r"a\.default and c\.default have the same token"):
        registry.replace([record(A, b"same"), record(AppRef("c"), b"same")])
    assert registry.identify([b"token-b"], SHARED).ref == B


def test_an_app_twice_is_refused(registry):
    """The same app id in the same namespace twice is an error."""
    with pytest.raises(IdentityConfigurationError, match=r"app a\.default is defined twice"):
        registry.replace([record(A, b"x"), record(A, b"y")])


def test_a_removed_app_is_unknown_at_once(registry):
    """The tokens of an app that is removed prove nothing from then on."""
    registry.replace([record(A, b"token-a")])
    with pytest.raises(RefusedError, match="no app of this instance has the token"):
        registry.identify([b"token-b"], SHARED)


def test_single_app_mode_needs_no_evidence():
    """In single-app mode every request is the app's, whatever it carries."""
    single = AppRegistry(single=record(A))
    assert single.identify([], SHARED).ref == A
    assert single.identify([b"anything"], SHARED).evidence == (Evidence.SINGLE_APP,)
    with pytest.raises(IdentityConfigurationError):
        single.replace([record(B)])


@pytest.mark.parametrize("tokens", [[], [b""], [b"wrong"], [b"secret "], [b"secret", b"secret"]])
def test_single_app_mode_with_an_api_token_demands_it(tokens):
    """DAPR_API_TOKEN is demanded of every request, exactly and once."""
    single = AppRegistry(single=record(A), api_token="secret")
    assert single.identify([b"secret"], SHARED).ref == A
    with pytest.raises(RefusedError):
        single.identify(tokens, SHARED)


@pytest.mark.parametrize("good", ["a", "orders", "My-App_2", "0", "a" * 63])
def test_app_ids_that_are_allowed(good):
    """Letters, digits, dash and underscore make an app id."""
    assert app_id_problem(good) is None


@pytest.mark.parametrize("bad", ["", "a.b", "a||b", "a|b", "a/b", "-a", "a-", "a b", "ä", "a\n", "a" * 64, "a\x00"])
def test_app_ids_that_could_forge_a_key_or_path_are_refused(bad):
    """A separator, a dot, a path or a control character is no part of an app id."""
    assert app_id_problem(bad)


def test_the_operator_acts_as_an_app_of_the_instance_alone(registry):
    """What comes from the operators' socket proves the app that it names, with its own evidence, and no other app."""
    caller = registry.identify([], OperatorIdentity(B))
    assert (caller.ref, caller.evidence) == (B, (Evidence.OPERATOR,))
    with pytest.raises(RefusedError) as refused:
        registry.identify([b"token-a"], OperatorIdentity(AppRef("c")))
    assert refused.value.reason == "app_removed"
    single = AppRegistry(single=record(A), api_token="needed")
    assert single.identify([], OperatorIdentity(A)).evidence == (Evidence.OPERATOR,)


URI, FINGERPRINT = "spiffe://test/a", "ab" * 32


def certified(ref: AppRef, *names: CertificateName, token: bytes = b"") -> RegisteredApp:
    app = App(name=ref.app_id, app_id=ref.app_id, namespace=ref.namespace, certificates=names)
    digests = frozenset({sha256(token).digest()}) if token else frozenset[bytes]()
    return RegisteredApp(ref, app, token_digests=digests)


@pytest.fixture
def with_certificates() -> AppRegistry:
    made = AppRegistry()
    a = (CertificateName(spiffe_id=URI), CertificateName(sha256=FINGERPRINT))
    made.replace([
        certified(A, *a, token=b"token-a"), certified(B, CertificateName(dns_name="b.test"), token=b"token-b")
    ])  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("certificate", "tokens", "app", "evidence"),
    [
        (PeerCertificate("00", uris=(URI,)), [], A, (Evidence.CERTIFICATE,)),
        (PeerCertificate("00", uris=("urn:x", URI)), [b""], A, (Evidence.CERTIFICATE,)),
        (PeerCertificate(FINGERPRINT), [], A, (Evidence.CERTIFICATE,)),
        (PeerCertificate("00", dns_names=("b.test",)), [], B, (Evidence.CERTIFICATE,)),
        (PeerCertificate("00", uris=(URI,)), [b"token-a"], A, (Evidence.CERTIFICATE, Evidence.TOKEN)),
        (PeerCertificate("00"), [b"token-b"], B, (Evidence.TOKEN,)),
    ],
)
def test_a_certificate_proves_its_app(with_certificates, certificate, tokens, app, evidence):
    """Any of its names or its fingerprint proves the app, alone and with its token; one of no app leaves it to the token."""
    caller = with_certificates.identify(tokens, SHARED, certificate)
    assert (caller.ref, caller.evidence) == (app, evidence)


@pytest.mark.parametrize(
    ("certificate", "tokens", "reason"),
    [
        (PeerCertificate("00"), [], "unknown_certificate"),
        (PeerCertificate("00", dns_names=(URI, FINGERPRINT), uris=("b.test",)), [], "unknown_certificate"),
        (PeerCertificate("00", uris=(URI,)), [b"token-b"], "evidence_disagrees"),
        (PeerCertificate("00", uris=(URI,)), [b"none"], "unknown_token"),
        (PeerCertificate("00", uris=(URI,), dns_names=("b.test",)), [], "evidence_disagrees"),
        (PeerCertificate("00", uris=(URI,), not_after=1.0), [], "certificate_expired"),
        (PeerCertificate("00", uris=(URI,), not_after=1.0), [b"token-a"], "certificate_expired"),
        (PeerCertificate("00", uris=(URI,)), [b"token-a", b"token-a"], "several_tokens"),
    ],
)
def test_a_certificate_that_does_not_prove_one_app_is_refused(with_certificates, certificate, tokens, reason):
    """Of two apps, of another than the token's, expired, of none, or a name in the place of another kind."""
    with pytest.raises(RefusedError) as caught:
        with_certificates.identify(tokens, SHARED, certificate)
    assert caught.value.reason == reason


def test_two_apps_cannot_claim_one_certificate(with_certificates):
    """It is an error that names both and the certificate, and what was in force stays."""
    with pytest.raises(IdentityConfigurationError, match=r"a.* and .*b.* both claim the certificate spiffe://test/a"):
        with_certificates.replace([
            certified(A, CertificateName(spiffe_id=URI)), certified(B, CertificateName(spiffe_id=URI))
        ])  # fmt: skip
    assert with_certificates.identify([b"token-b"], SHARED).ref == B
