"""Service account tokens as evidence: what proves an app, what does not, and what it costs the API server."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.identity.apps import AppRegistry
from dapr_shared.identity.caller import Evidence, ListenerIdentity, RegisteredApp
from dapr_shared.identity.claims import Claims, TokenRefusedError, UnverifiedToken
from dapr_shared.identity.cluster_keys import UNKNOWN_KEY_SECONDS, ClusterKeys
from dapr_shared.identity.refusal import RefusedError
from dapr_shared.identity.review_limit import REVIEWS_AT_ONCE, SENDER_AT_ONCE, ReviewLimit
from dapr_shared.identity.service_accounts import (
    PROVED_SECONDS,
    REFUSED_SECONDS,
    NotVerifiableError,
    PodFact,
    ReviewNeededError,
    ServiceAccounts,
)
from dapr_shared.resources.model import App
from tests.support.cluster_tokens import (
    AUDIENCE,
    FakePods,
    claims,
    ec_key,
    hmac_signed,
    published,
    rsa_key,
    signed,
    unsigned,
)

A, B = AppRef("a"), AppRef("b")
SHARED = ListenerIdentity("http")
KEY = rsa_key("cluster")


class Clock:
    """The time of day as it is, and later as a test says."""

    def __init__(self) -> None:
        self._later = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._later, UTC)

    def monotonic(self) -> float:
        return 1000.0 + self._later

    def advance(self, seconds: float) -> None:
        self._later += seconds


class Reviewer:
    """Stands for the API server: knows one key, counts what it is asked, and can be away."""

    asks_api_server = True

    def __init__(self, keys: ClusterKeys) -> None:
        self._keys = keys
        self.asked = 0
        self.away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def verify(self, token: UnverifiedToken) -> Claims:
        self.asked += 1
        await self.may_answer.wait()
        if self.away:
            raise NotVerifiableError("the API server does not answer")
        return await self._keys.verify(token)


class Instance:
    """A registry of two apps that takes tokens of one cluster."""

    def __init__(self, *, api_token: str | None = None, single: RegisteredApp | None = None) -> None:
        self.clock = Clock()
        self.pods = FakePods()
        self.outcomes: list[str] = []
        self.document = published(KEY)
        self.fetched = 0
        self.reviewer = Reviewer(ClusterKeys(self.fetch, AUDIENCE, self.clock))
        self.accounts = ServiceAccounts(
            audience=AUDIENCE,
            watched=lambda namespace: namespace in {"default", "shop"},
            verifier=self.reviewer,
            pods=self.pods,
            limit=ReviewLimit(self.clock),
            clock=self.clock,
            reviewed=lambda outcome, _why: self.outcomes.append(outcome),
        )
        self.registry = AppRegistry(single=single, api_token=api_token, service_accounts=self.accounts)

    async def fetch(self):
        self.fetched += 1
        return self.document

    def serve(self, *apps: RegisteredApp) -> Instance:
        self.registry.replace(apps)
        return self

    async def identify(self, token: bytes, listener: object = SHARED, sender: str = "10.0.0.1"):
        """As the pipeline does."""
        try:
            return self.registry.identify([token], listener)
        except ReviewNeededError as needed:
            await self.registry.review(needed, sender)
            return self.registry.identify([token], listener)

    async def refusal(self, token: bytes, listener: object = SHARED, sender: str = "10.0.0.1") -> tuple[str, int]:
        with pytest.raises(RefusedError) as refused:
            await self.identify(token, listener, sender)
        return refused.value.reason, refused.value.error.row.http


def record(ref: AppRef, account: str = "") -> RegisteredApp:
    app = App(name=ref.app_id, app_id=ref.app_id, namespace=ref.namespace, service_account=account)
    return RegisteredApp(ref, app)


@pytest.fixture
def instance() -> Instance:
    return Instance().serve(record(A), record(B, "default:b-account"), record(AppRef("a", "shop")))


async def test_the_annotation_of_the_bound_pod_names_the_app(instance):
    """A token bound to a pod proves the app of the pod's annotation, in the pod's namespace."""
    instance.pods.asked["default", "p"] = PodFact("u-1", "a")
    caller = await instance.identify(signed(claims(pod="p"), KEY))
    assert (caller.ref, caller.evidence) == (A, (Evidence.POD,))


async def test_the_app_names_its_service_account(instance):
    """A token of the service account that an App names proves it, bound to a pod or not."""
    caller = await instance.identify(signed(claims(account="b-account"), KEY))
    assert (caller.ref, caller.evidence) == (B, (Evidence.SERVICE_ACCOUNT,))
    instance.pods.asked["default", "p"] = PodFact("u-1", "b")
    caller = await instance.identify(signed(claims(account="b-account", pod="p"), KEY))
    assert (caller.ref, caller.evidence) == (B, (Evidence.POD, Evidence.SERVICE_ACCOUNT))


@pytest.mark.parametrize(
    ("account", "annotation", "reason"),
    [
        ("b-account", "a", "evidence_disagrees"),  # the account is b's
        ("other", "b", "evidence_disagrees"),  # b has another account
        ("other", "absent", "app_not_served"),
        ("b-account", "absent", "evidence_disagrees"),
        ("other", "", "service_account_of_no_app"),
    ],
)
async def test_pod_and_service_account_that_disagree(instance, account, annotation, reason):
    """Annotation and service account must be of one app, and that one served here."""
    instance.pods.asked["default", "p"] = PodFact("u-1", annotation)
    assert await instance.refusal(signed(claims(account=account, pod="p"), KEY)) == (reason, 401)


async def test_a_listener_of_another_app_and_a_token_that_disagree(instance):
    """A token is refused at the listener of another app, and counts beside its own."""
    token = signed(claims(account="b-account"), KEY)
    assert await instance.refusal(token, ListenerIdentity("a", A)) == ("evidence_disagrees", 401)
    caller = await instance.identify(token, ListenerIdentity("b", B))
    assert caller.evidence == (Evidence.LISTENER, Evidence.SERVICE_ACCOUNT)


async def test_an_app_cannot_claim_the_pods_of_another_namespace():
    """A claim on a service account of another namespace is heard only where that namespace says nothing itself."""
    instance = Instance().serve(record(A, "shop:till"), record(AppRef("till", "shop")))
    instance.pods.asked["shop", "p"] = PodFact("u-1", "till")
    instance.pods.asked["shop", "bare"] = PodFact("u-1", "")
    caller = await instance.identify(signed(claims(namespace="shop", account="till", pod="p"), KEY))
    assert (caller.ref, caller.evidence) == (AppRef("till", "shop"), (Evidence.POD,))
    caller = await instance.identify(signed(claims(namespace="shop", account="till", pod="bare"), KEY))
    assert caller.ref == A
    instance.serve(record(A, "shop:till"), record(AppRef("till", "shop"), "shop:till"))
    caller = await instance.identify(signed(claims(namespace="shop", account="till", pod="bare"), KEY))
    assert caller.ref == AppRef("till", "shop")
    (conflict,) = instance.registry.account_conflicts
    assert conflict.proves == AppRef("till", "shop")
    assert str(conflict).endswith("which proves till.shop alone, the app of its namespace")


async def test_two_apps_with_one_service_account():
    """It proves neither, both are told, and the annotation of a pod still does."""
    instance = Instance().serve(record(A, "default:same"), record(B, "default:same"))
    assert await instance.refusal(signed(claims(account="same"), KEY)) == ("service_account_of_several", 401)
    (conflict,) = instance.registry.account_conflicts
    assert str(conflict) == (
        "apps a.default and b.default claim the service account default:same, which proves none of them"
    )
    instance.pods.asked["default", "p"] = PodFact("u-1", "b")
    caller = await instance.identify(signed(claims(account="same", pod="p"), KEY))
    assert (caller.ref, caller.evidence) == (B, (Evidence.POD,))


def _other_audience() -> bytes:
    return signed(claims(account="b-account", aud=["https://kubernetes.default.svc"]), KEY)


def _public_key_as_secret() -> bytes:
    """Signed by HMAC with the text of the public key, which everybody has."""
    return hmac_signed(claims(account="b-account"), KEY.as_pem(private=False), "cluster")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (_other_audience, "token_other_audience"),
        (lambda: signed(claims(account="b-account", aud=[]), KEY), "token_other_audience"),
        (lambda: signed(claims(account="b-account", exp=int(time.time()) - 1), KEY), "token_expired"),
        (lambda: signed(claims(account="b-account", nbf=int(time.time()) + 3600), KEY), "token_not_yet"),
        (lambda: signed(claims(account="b-account", iss="https://other"), KEY), "token_issuer"),
        (lambda: signed(claims(account="b-account"), rsa_key("other")), "token_not_verified"),
        (lambda: signed(claims(account="b-account"), rsa_key("other"), kid="cluster"), "token_not_verified"),
        (lambda: signed(claims(account="b-account"), KEY, kid="../../etc/passwd"), "token_not_verified"),
        (lambda: signed(claims(account="b-account"), KEY, kid=""), "token_not_verified"),
        (
            lambda: signed(
                claims(account="b-account"), rsa_key("other"), jwk=rsa_key("other").as_dict(private=False), kid="other"
            ),
            "token_not_verified",
        ),
        (lambda: signed(claims(account="b-account"), ec_key("cluster"), "ES256"), "token_not_verified"),
        (lambda: unsigned(claims(account="b-account"), {"alg": "none"}), "token_algorithm"),
        (lambda: unsigned(claims(account="b-account"), {"alg": "none"}, b"x"), "token_algorithm"),
        (lambda: unsigned(claims(account="b-account"), {"alg": "RS256", "kid": "cluster"}), "token_algorithm"),
        (
            lambda: unsigned(claims(account="b-account"), {"alg": "RS256", "kid": "cluster", "crit": ["b64"]}, b"x"),
            "token_algorithm",
        ),
        (_public_key_as_secret, "token_algorithm"),
        (lambda: unsigned(claims(account="b-account"), {"alg": "PS256", "kid": "cluster"}, b"x"), "token_algorithm"),
        (lambda: signed(claims(account="b-account"), KEY)[:-8], "token_not_verified"),
        (lambda: signed(claims(account="b-account", filler="x" * 8192), KEY), "token_too_large"),
        (lambda: signed(claims(account="b-account", sub="system:serviceaccount:default:a"), KEY), "token_malformed"),
        (lambda: signed({**claims(), "kubernetes.io": {}}, KEY), "token_malformed"),
        (lambda: signed(claims(pod="p", uid=""), KEY), "token_malformed"),
        (lambda: b"eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "token_malformed"),
        (lambda: b"ey\xff.a.b", "token_malformed"),
        (lambda: b"not-a-token", "unknown_token"),
        (lambda: signed(claims(namespace="elsewhere", account="b-account"), KEY), "namespace_not_watched"),
        (lambda: signed(claims(pod="gone"), KEY), "pod_gone"),
    ],
)
async def test_tokens_that_prove_nothing(instance, token, reason):
    """Whatever is wrong with a token, it is refused with 401 and the reason, and no claim of it is repeated."""
    given = token()
    assert await instance.refusal(given) == (reason, 401)
    assert await instance.refusal(given) == (reason, 401)


async def test_a_token_of_a_pod_that_was_made_again(instance):
    """A pod of the same name is another pod: the uid is compared, where it is watched and where it is asked for."""
    instance.pods.asked["default", "p"] = PodFact("u-2", "a")
    assert await instance.refusal(signed(claims(pod="p", uid="u-1"), KEY)) == ("pod_gone", 401)
    instance.pods.watched["default", "q"] = PodFact("u-2", "a")
    assert await instance.refusal(signed(claims(pod="q", uid="u-1"), KEY)) == ("pod_gone", 401)


async def test_the_annotation_of_a_pod_in_another_namespace(instance):
    """A pod proves an app of its own namespace, never one of that name elsewhere."""
    instance.pods.asked["shop", "p"] = PodFact("u-1", "b")  # b is an app of default
    assert await instance.refusal(signed(claims(namespace="shop", pod="p"), KEY)) == ("app_not_served", 401)
    instance.pods.asked["shop", "q"] = PodFact("u-1", "a")
    caller = await instance.identify(signed(claims(namespace="shop", pod="q"), KEY))
    assert caller.ref == AppRef("a", "shop")


async def test_a_known_token_is_not_verified_again(instance):
    """For five minutes a verified token is found without asking anybody; then it is verified anew."""
    token = signed(claims(account="b-account"), KEY)
    first = await instance.identify(token)
    instance.clock.advance(PROVED_SECONDS - 1)
    assert instance.registry.identify([token], SHARED) is first
    instance.clock.advance(1)
    with pytest.raises(ReviewNeededError):
        instance.registry.identify([token], SHARED)
    await instance.identify(token)
    assert instance.reviewer.asked == 2


async def test_a_known_token_ends_with_its_own_time(instance):
    """What is remembered of a token is never good beyond its `exp`."""
    token = signed(claims(account="b-account", exp=int(time.time()) + 60), KEY)
    await instance.identify(token)
    instance.clock.advance(61)
    assert await instance.refusal(token) == ("token_expired", 401)


async def test_a_refused_token_is_asked_for_again_soon(instance):
    """A refusal stands for seconds: a pod that was not known yet is found then."""
    token = signed(claims(pod="p"), KEY)
    assert await instance.refusal(token) == ("pod_gone", 401)
    instance.pods.asked["default", "p"] = PodFact("u-1", "a")
    assert await instance.refusal(token) == ("pod_gone", 401)
    assert instance.reviewer.asked == 1
    instance.clock.advance(REFUSED_SECONDS)
    assert (await instance.identify(token)).ref == A


async def test_a_watched_pod_that_goes_takes_its_token_with_it(instance):
    """Where pods are watched, a token ends with its pod, and a changed annotation counts at once."""
    token = signed(claims(pod="p"), KEY)
    instance.pods.asked["default", "p"] = PodFact("u-1", "a")
    await instance.identify(token)
    await instance.identify(token)  # not watched yet: still good
    instance.pods.watched["default", "p"] = PodFact("u-1", "a")
    assert (await instance.identify(token)).ref == A
    instance.pods.watched["default", "p"] = PodFact("u-1", "absent")
    assert await instance.refusal(token) == ("app_not_served", 401)
    del instance.pods.watched["default", "p"]
    assert await instance.refusal(token) == ("pod_gone", 401)


async def test_what_tokens_prove_follows_the_apps(instance):
    """A token that is remembered proves another app, or none, as soon as the Apps say so."""
    token = signed(claims(account="b-account"), KEY)
    assert (await instance.identify(token)).ref == B
    instance.serve(record(A, "default:b-account"))
    assert (await instance.identify(token)).ref == A
    instance.serve(record(A))
    assert await instance.refusal(token) == ("service_account_of_no_app", 401)
    assert instance.reviewer.asked == 1


async def test_requests_with_one_token_make_one_review(instance):
    """Concurrent requests wait for one review, also when the first of them goes away."""
    token = signed(claims(account="b-account"), KEY)
    instance.reviewer.may_answer.clear()
    tasks = [asyncio.create_task(instance.identify(token)) for _ in range(20)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    instance.reviewer.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {caller.ref for caller in found[1:]} == {B}
    assert (instance.reviewer.asked, instance.outcomes) == (1, ["proved"])


async def test_the_api_server_is_away(instance):
    """Known tokens go on until their time is over; others are answered 503, which is not remembered, and never let in."""
    known, other = signed(claims(account="b-account"), KEY), signed(claims(account="b-account", pod="p"), KEY)
    await instance.identify(known)
    instance.reviewer.away = True
    assert (await instance.identify(known)).ref == B
    assert await instance.refusal(other) == ("review_unavailable", 503)
    instance.clock.advance(PROVED_SECONDS)
    assert await instance.refusal(known) == ("review_unavailable", 503)
    instance.reviewer.away = False
    assert (await instance.identify(known)).ref == B
    instance.pods.problem = NotVerifiableError("pods is forbidden")
    assert await instance.refusal(other) == ("review_unavailable", 503)


async def test_a_flood_of_tokens_is_bounded_for_its_sender_first(instance):
    """Who invents tokens is answered 503 at a bound of their own; another sender's new token is still verified."""
    for number in range(int(SENDER_AT_ONCE) + 50):
        await instance.refusal(signed(claims(account=f"none-{number}"), KEY), sender="10.0.0.66")
    assert instance.reviewer.asked == SENDER_AT_ONCE
    assert instance.outcomes.count("limited") == 50
    assert (await instance.identify(signed(claims(account="b-account"), KEY))).ref == B
    instance.clock.advance(1)
    assert (await instance.refusal(signed(claims(account="later"), KEY), sender="10.0.0.66"))[1] == 401


async def test_a_flood_from_everywhere_is_bounded_too(instance):
    """However many senders there are, the API server sees a bounded number of reviews."""
    for number in range(int(REVIEWS_AT_ONCE) + 20):
        await instance.refusal(signed(claims(account=f"none-{number}"), KEY), sender=f"10.0.1.{number}")
    assert instance.reviewer.asked == REVIEWS_AT_ONCE
    assert instance.outcomes.count("limited") == 20


async def test_what_no_signature_could_save_costs_no_review(instance):
    """Malformed, expired, foreign and unsigned tokens never reach the API server."""
    for token in (b"ey.a.b", b"eyJ9.e30.AA", _other_audience(), unsigned(claims(), {"alg": "none"})):
        await instance.refusal(token)
    assert instance.reviewer.asked == 0


async def test_stopping_answers_who_waits(instance):
    """When the instance stops, requests that wait for a review are answered and nothing goes on."""
    instance.reviewer.may_answer.clear()
    async with AsyncExitStack() as stack:
        await instance.accounts.start(stack)
        waiting = asyncio.create_task(instance.refusal(signed(claims(account="b-account"), KEY)))
        await asyncio.sleep(0)
    assert await waiting == ("review_unavailable", 503)


async def test_single_app_mode_takes_tokens_of_its_own_pods():
    """Beside DAPR_API_TOKEN a token counts if it is of the one app; any other account of the cluster proves nothing."""
    instance = Instance(single=record(A), api_token="secret")
    instance.pods.asked["default", "p"] = PodFact("u-1", "a")
    instance.pods.asked["default", "q"] = PodFact("u-1", "b")
    caller = await instance.identify(signed(claims(pod="p"), KEY))
    assert (caller.ref, caller.evidence) == (A, (Evidence.SINGLE_APP, Evidence.POD))
    assert instance.registry.identify([b"secret"], SHARED).ref == A
    assert await instance.refusal(signed(claims(pod="q"), KEY)) == ("app_not_served", 401)
    assert await instance.refusal(signed(claims(account="b-account"), KEY)) == ("service_account_of_no_app", 401)
    assert await instance.refusal(b"wrong") == ("wrong_api_token", 401)


def test_without_an_audience_a_token_is_any_unknown_token():
    """Nothing about clusters is asked where no audience is given."""
    registry = AppRegistry()
    registry.replace([record(B, "default:b-account")])
    with pytest.raises(RefusedError) as refused:
        registry.identify([signed(claims(account="b-account"), KEY)], SHARED)
    assert refused.value.reason == "unknown_token"


# The keys of the cluster -------------------------------------------------------------------------------------------
async def test_both_kinds_of_keys():
    """RS256 and ES256 are verified, each by its own kind of key."""
    other = ec_key("curve")
    instance = Instance().serve(record(B, "default:b-account"))
    instance.document = published(KEY, other)
    assert (await instance.identify(signed(claims(account="b-account"), other, "ES256"))).ref == B
    assert (await instance.identify(signed(claims(account="b-account"), KEY))).ref == B


async def test_unknown_keys_are_looked_for_at_a_bounded_pace():
    """A key that is new in the cluster is found; invented names of keys cause one reading in half a minute."""
    instance = Instance().serve(record(B, "default:b-account"))
    await instance.identify(signed(claims(account="b-account"), KEY))
    for number in range(5):
        token = signed(claims(account="b-account"), rsa_key("other"), kid=f"invented-{number}")
        assert await instance.refusal(token) == ("token_not_verified", 401)
    assert instance.fetched == 1
    instance.document = published(KEY, rsa_key("other"))
    instance.clock.advance(UNKNOWN_KEY_SECONDS)
    assert (await instance.identify(signed(claims(account="b-account"), rsa_key("other")))).ref == B
    assert instance.fetched == 2


async def test_a_key_that_is_withdrawn_verifies_no_more():
    """Keys are read again as they age; known ones go on while they cannot be."""
    instance = Instance().serve(record(B, "default:b-account"))
    token = signed(claims(account="b-account"), KEY)
    await instance.identify(token)
    instance.document = published(rsa_key("other"))
    instance.clock.advance(601)
    assert await instance.refusal(token) == ("token_not_verified", 401)


async def test_keys_that_cannot_be_read():
    """Without keys nothing is verified, and that is told as such; with keys of before, they count."""
    clock = Clock()
    away = False

    async def fetch():
        if away:
            raise NotVerifiableError("connection refused")
        return published(KEY)

    keys = ClusterKeys(fetch, AUDIENCE, clock)
    token = signed(claims(), KEY)
    instance = Instance().serve(record(B, "default:orders"))
    with pytest.raises(ReviewNeededError) as needed:
        instance.registry.identify([token], SHARED)
    away = True
    for _ in range(2):
        with pytest.raises(NotVerifiableError, match="connection refused"):
            await keys.verify(needed.value.token)
    away = False
    clock.advance(1)
    await keys.verify(needed.value.token)
    away = True
    clock.advance(601)
    await keys.verify(needed.value.token)


@pytest.mark.parametrize(
    "changed",
    [{"use": "enc"}, {"kid": None}, {"kty": "oct", "k": "c2VjcmV0"}, {"alg": "RS512"}, {"n": "AQAB"}, {"n": 3}],
)
async def test_keys_that_do_not_fit_are_left_out(changed):
    """A key for another use, without a name, secret, weak or broken verifies nothing, and harms no other key."""
    document = published(KEY, rsa_key("other"))
    broken = {**document.keys[0], **changed}

    async def fetch():
        return document._replace(keys=[broken, document.keys[1]])

    instance = Instance().serve(record(B, "default:orders"))
    keys = ClusterKeys(fetch, AUDIENCE, instance.clock)
    for key, good in ((KEY, False), (rsa_key("other"), True)):
        with pytest.raises(ReviewNeededError) as needed:
            instance.registry.identify([signed(claims(), key)], SHARED)
        if good:
            assert (await keys.verify(needed.value.token)).service_account == "orders"
        else:
            with pytest.raises(TokenRefusedError):
                await keys.verify(needed.value.token)
