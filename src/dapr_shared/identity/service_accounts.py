"""Service account tokens of Kubernetes as evidence: verified once, then found by their SHA-256.

Step 2 of the request road. What a token proves is a service account and, mostly, one pod; which app that is
`identity/apps.py` decides. Verifying may ask the API server, so it is the one asynchronous part of identity, and only
for a token that is in none of the dictionaries.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dapr_shared.core import errors
from dapr_shared.identity.claims import TokenRefusedError, looks_like_token, read_token
from dapr_shared.identity.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from dapr_shared.core.clock import Clock
    from dapr_shared.identity.caller import Caller
    from dapr_shared.identity.claims import Claims, UnverifiedToken
    from dapr_shared.identity.review_limit import ReviewLimit

PROVED_SECONDS = 300.0
"""How long a verified token is taken without asking again, at most; never beyond its own end."""
REFUSED_SECONDS = 10.0
"""How long a refusal stands. Short: a pod may not be known yet."""
PROVED_TOKENS, REFUSED_TOKENS = 10_000, 2_000
"""Tokens that are remembered; the one that was used longest ago is forgotten first. Two books, so that invented tokens
push out no real ones."""
REVIEWS_IN_FLIGHT = 64
REVIEW_TIMEOUT = 10.0
"""Seconds."""


class NotVerifiableError(Exception):
    """Nobody can say now whether a token is good: the API server does not answer, or refuses us. To be tried again."""


class PodFact(NamedTuple):
    """What identity needs to know of a pod."""

    uid: str
    app_id: str
    """The annotation `dapr.io/app-id`; empty: none."""


class Pods(Protocol):
    """The pods of the namespaces that the instance watches."""

    def peek(self, namespace: str, name: str) -> PodFact | None:
        """What is known without asking anybody."""
        ...

    async def find(self, namespace: str, name: str) -> PodFact | None:
        """What the API server knows; `None`: there is no such pod. Raises `NotVerifiableError`."""
        ...


class TokenVerifier(Protocol):
    """Says whether what a token claims is true."""

    asks_api_server: bool
    """Whether each call is a request to the API server, so that they are bounded."""

    async def verify(self, token: UnverifiedToken) -> Claims:
        """The claims, proved. Raises `TokenRefusedError` and `NotVerifiableError`."""
        ...


class ReviewNeededError(Exception):
    """A token that has to be verified before anything can be said; then the request is looked at again."""

    def __init__(self, digest: bytes, token: UnverifiedToken) -> None:
        super().__init__("a service account token has to be verified")
        self.digest = digest
        self.token = token


class Proof:
    """What a verified token stands for, until its time is over."""

    __slots__ = ("caller", "claims", "generation", "pod", "until", "watched")

    def __init__(self, claims: Claims, pod: PodFact | None, until: float) -> None:
        self.claims = claims
        self.pod = pod
        self.until = until
        """By the monotonic clock."""
        self.watched = False
        """Whether the pod was once among the watched ones: then its absence means that it is gone."""
        self.caller: Caller | None = None
        """What `identity/apps.py` made of it."""
        self.generation = -1
        """The apps' state for which that is so; -1: none."""


class _Refusal(NamedTuple):
    reason: str
    problem: str
    until: float


class ServiceAccounts:
    """Verified tokens and the way to verify others."""

    def __init__(
        self,
        *,
        audience: str,
        watched: Callable[[str], bool],
        verifier: TokenVerifier,
        pods: Pods,
        limit: ReviewLimit,
        clock: Clock,
        reviewed: Callable[[str, str], None],
    ) -> None:
        """`watched`: whether a namespace is one of the instance's.

        `reviewed` hears the outcome of each review (proved, refused, unavailable, limited) and, where nobody could say,
        why: that is for operators, callers are told less.
        """
        self._audience = audience
        self._watched = watched
        self._verifier = verifier
        self._pods = pods
        self._limit = limit
        self._clock = clock
        self._reviewed = reviewed
        self._proved: OrderedDict[bytes, Proof] = OrderedDict()
        self._refused: OrderedDict[bytes, _Refusal] = OrderedDict()
        self._reviews: dict[bytes, asyncio.Task[RefusedError | None]] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        """Put the end of reviews in flight on the stack."""
        stack.push_async_callback(self._close)

    def find(self, token: bytes, digest: bytes) -> Proof | None:
        """The proof of a token that no app has as its own; `None`: it is in no form of a service account token.

        Raises `RefusedError`, and `ReviewNeededError` where nobody has verified it yet.
        """
        proof = self._proved.get(digest)
        if proof is not None and self._holds(digest, proof):
            return proof
        refusal = self._refused.get(digest)
        if refusal is not None:
            if refusal.until > self._clock.monotonic():
                raise _refused(refusal.reason, refusal.problem)
            del self._refused[digest]
        if not looks_like_token(token):
            return None
        try:
            read = read_token(token, audience=self._audience, now=self._clock.now().timestamp())
        except TokenRefusedError as error:
            raise _refused(error.reason, str(error)) from None
        if not self._watched(read.claims.namespace):
            raise _refused("namespace_not_watched", "it is of a namespace that this instance does not watch")
        raise ReviewNeededError(digest, read)

    async def review(self, needed: ReviewNeededError, sender: str) -> None:
        """Have the token verified; then `find` knows the answer. Raises `RefusedError` where that cannot be done now.

        Requests that wait for one token wait for one review, which goes on when some of them leave.
        """
        task = self._reviews.get(needed.digest)
        if task is None:
            if self._verifier.asks_api_server and not (
                len(self._reviews) < REVIEWS_IN_FLIGHT and self._limit.take(sender)
            ):
                self._reviewed("limited", "")
                raise _unavailable("review_limit", "too many unknown tokens are sent at once")
            task = asyncio.create_task(self._review(needed), name="review of a service account token")
            self._reviews[needed.digest] = task
            task.add_done_callback(lambda _: self._reviews.pop(needed.digest, None))
        try:
            refused = await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is None or waiting.cancelling():
                raise
            raise _unavailable("review_unavailable", "the instance stops") from None
        if refused is not None:
            raise refused

    def _holds(self, digest: bytes, proof: Proof) -> bool:
        """Whether a proof still counts: its time is not over, and its pod is there and says what it said."""
        if self._clock.monotonic() >= proof.until or self._clock.now().timestamp() >= proof.claims.exp:
            del self._proved[digest]
            return False
        if proof.pod is not None:
            claims = proof.claims
            now = self._pods.peek(claims.namespace, claims.pod_name)
            if now is None and not proof.watched:
                pass  # it is not watched, or not yet
            elif now is None or now.uid != proof.pod.uid:
                del self._proved[digest]
                self._refuse(digest, *_POD_GONE)
                return False
            else:
                proof.watched = True
                if now.app_id != proof.pod.app_id:
                    proof.pod, proof.generation = now, -1
        self._proved.move_to_end(digest)
        return True

    async def _review(self, needed: ReviewNeededError) -> RefusedError | None:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(REVIEW_TIMEOUT):
                proof = await self._prove(needed.token, started)
        except TokenRefusedError as error:
            self._reviewed("refused", "")
            self._refuse(needed.digest, error.reason, str(error))
            return _refused(error.reason, str(error))
        except NotVerifiableError as error:
            self._reviewed("unavailable", str(error))
            return _unavailable("review_unavailable", _NOBODY)
        except TimeoutError:
            self._reviewed("unavailable", f"the API server has not answered within {REVIEW_TIMEOUT:g} s")
            return _unavailable("review_unavailable", _NOBODY)
        self._reviewed("proved", "")
        self._proved[needed.digest] = proof
        if len(self._proved) > PROVED_TOKENS:
            self._proved.popitem(last=False)
        return None

    async def _prove(self, token: UnverifiedToken, started: float) -> Proof:
        claims = await self._verifier.verify(token)
        pod = None
        if claims.pod_name:
            pod = self._pods.peek(claims.namespace, claims.pod_name)
            if pod is None or pod.uid != claims.pod_uid:  # what is watched may come late
                pod = await self._pods.find(claims.namespace, claims.pod_name)
            if pod is None or pod.uid != claims.pod_uid:
                raise TokenRefusedError(*_POD_GONE)
        left = claims.exp - self._clock.now().timestamp()
        return Proof(claims, pod, min(started + PROVED_SECONDS, self._clock.monotonic() + left))

    def _refuse(self, digest: bytes, reason: str, problem: str) -> None:
        self._refused[digest] = _Refusal(reason, problem, self._clock.monotonic() + REFUSED_SECONDS)
        self._refused.move_to_end(digest)
        if len(self._refused) > REFUSED_TOKENS:
            self._refused.popitem(last=False)

    async def _close(self) -> None:
        tasks = list(self._reviews.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_NOBODY = "the API server does not answer, or not to this instance"
_POD_GONE = ("pod_gone", "the pod that it is bound to is gone")


def _refused(reason: str, problem: str) -> RefusedError:
    if reason in {"token_malformed", "token_too_large"}:
        return RefusedError(reason, errors.UNKNOWN_TOKEN())
    return RefusedError(reason, errors.SERVICE_ACCOUNT_TOKEN(problem=problem))


def _unavailable(reason: str, problem: str) -> RefusedError:
    return RefusedError(reason, errors.IDENTITY_UNAVAILABLE(problem=problem))
