"""One of many instances: the holder of a lease of the API server (coordination.k8s.io/v1), with client-go's times.

Beside both roads. Clocks of machines need not agree: nobody compares times of two machines. An instance takes the lease
over when it has itself seen no renewal for the whole duration, and a holder counts its own time from before it asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dapr_shared.kube.errors import Conflict, KubeError, NotFound
from dapr_shared.kube.objects import LEASES, JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.kube.client import KubeClient

LEASE_DURATION: Final = 15.0
"""Seconds without a renewal after which others may take the lease."""
RENEW_DEADLINE: Final = 10.0
"""Seconds after its last renewal for which a holder holds it: less than the others wait."""
RETRY_PERIOD: Final = 2.0
"""Seconds between two renewals, or two looks of those who wait."""
_JITTER: Final = 1.2
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two looks at most, while the API server refuses or is away."""
_RELEASE: Final = 2.0
"""Seconds that giving the lease back at the end may take."""


class LeaseHolder:
    """Tries to hold a lease for as long as it runs. `identity` must belong to one process alone.

    `told` is called with each new `problem`, and with an empty one when there is none any more. `changed` is called soon after `held` begins or ends; `held` itself is exact at any moment, also after the whole
    machine stood still.
    """

    def __init__(
        self,
        client: KubeClient,
        name: str,
        namespace: str,
        identity: str,
        *,
        changed: Callable[[], None] | None = None,
        told: Callable[[str], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.identity = identity
        self.problem = ""
        """Why the lease cannot be asked for now, in words; empty: it can."""
        self._client = client
        self._changed = changed
        self._failed = told
        self._clock = clock or _boot_time
        self._renewed = float("-inf")
        """When the renewal that went well last was begun, by our clock."""
        self._told = False
        self._seen: tuple[object, ...] = ()
        """What the lease said when it last changed."""
        self._seen_at = float("-inf")
        self._lease: JsonObject | None = None
        """As the server gave it last."""

    @property
    def held(self) -> bool:
        """Whether this instance is the holder at this moment.

        Never true for two instances at once, unless somebody deletes the lease by hand: then for a few seconds.
        """
        return self._clock() - self._renewed < RENEW_DEADLINE

    @property
    def holder(self) -> str:
        """Who holds it as far as is known; empty: nobody, or it was never read."""
        return str(_spec(self._lease or {}).get("holderIdentity") or "")

    async def run(self) -> None:
        """Take the lease when it is free and keep it, until cancelled; then give it back."""
        failures = 0
        try:
            while True:
                try:
                    await self._try()
                    failures = 0
                    pause = RETRY_PERIOD
                    self._set_problem("")
                except Conflict:
                    self._lease = None  # somebody else was faster, or our answer was lost: look
                    pause = RETRY_PERIOD / 10
                except Exception as error:  # noqa: BLE001 - a lease that somebody has spoilt is no reason to end
                    if not isinstance(error, (KubeError, TimeoutError)) or isinstance(error, NotFound):
                        self._lease, self._renewed = None, float("-inf")
                    self._tell_problem(error)
                    wanted = min(RETRY_PERIOD * 2.0**failures, _LONGEST_PAUSE)
                    pause = RETRY_PERIOD if self.held else max(wanted, getattr(error, "retry_after", 0.0))
                    failures = min(failures + 1, 10)
                self._tell()
                await asyncio.sleep(pause * random.uniform(1.0, _JITTER))  # noqa: S311 - spreads load
        finally:
            await self._release()
            self._tell()

    def _tell_problem(self, error: Exception) -> None:
        self._set_problem(
            error.message
            if isinstance(error, KubeError)
            else f"lease {self.name} in namespace {self.namespace}: the API server did not answer in time"
            if isinstance(error, TimeoutError)
            else f"lease {self.name} in namespace {self.namespace}: what it says cannot be read ({type(error).__name__})"
        )

    def _set_problem(self, problem: str) -> None:
        before, self.problem = self.problem, problem
        if self._failed is not None and problem != before:
            self._failed(problem)

    def _tell(self) -> None:
        held = self.held
        if held != self._told:
            self._told = held
            if self._changed is not None:
                self._changed()

    async def _try(self) -> None:
        """Renew the lease or take it, where it is ours or free. Raises `KubeError`."""
        async with asyncio.timeout(None) as limit:
            if self.held:
                # An answer that comes too late is of no use: the time is over and the next look comes first.
                limit.reschedule(asyncio.get_running_loop().time() + self._renewed + RENEW_DEADLINE - self._clock())
            begun = self._clock()
            if not (self.held and self._lease is not None):
                await self._look()
            lease = self._lease
            if lease is None:
                self._take(begun, await self._client.create(LEASES, self._fresh(), self.namespace))
            elif self._free(lease):
                begun = self._clock()
                self._take(begun, await self._client.replace(LEASES, self.name, self._ours(lease), self.namespace))

    async def _look(self) -> None:
        try:
            self._observe(await self._client.get(LEASES, self.name, self.namespace))
        except NotFound:
            self._lease = None

    def _observe(self, lease: JsonObject) -> None:
        spec = _spec(lease)
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        self._lease = lease
        if spec.get("holderIdentity") != self.identity:
            self._renewed = float("-inf")

    def _free(self, lease: JsonObject) -> bool:
        spec = _spec(lease)
        if spec.get("holderIdentity") in (None, "", self.identity):
            return True
        theirs = spec.get("leaseDurationSeconds")
        duration = max(LEASE_DURATION, float(theirs) if isinstance(theirs, int) else 0.0)
        return self._clock() - self._seen_at >= duration

    def _take(self, begun: float, lease: JsonObject) -> None:
        self._observe(lease)
        self._renewed = begun

    def _fresh(self) -> JsonObject:
        now = _micro_time()
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(LEASE_DURATION),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _ours(self, lease: JsonObject) -> JsonObject:
        """The lease with us as its holder; its `resourceVersion` makes the server refuse it where somebody was faster."""
        spec, now = _spec(lease), _micro_time()
        mine = {**spec, "holderIdentity": self.identity, "leaseDurationSeconds": int(LEASE_DURATION), "renewTime": now}
        if spec.get("holderIdentity") != self.identity:
            mine["acquireTime"] = now
            mine["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        return {**lease, "spec": mine}

    async def _release(self) -> None:
        """Let the next one take it at once. What fails here mends itself when the duration is over."""
        lease, held = self._lease, self.held
        self._renewed = float("-inf")
        if not held or lease is None:
            return
        freed = {**_spec(lease), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
        with suppress(KubeError, TimeoutError):
            async with asyncio.timeout(_RELEASE):
                await self._client.replace(LEASES, self.name, {**lease, "spec": freed}, self.namespace)


def _spec(lease: JsonObject) -> dict[str, Any]:
    return lease.get("spec") or {}


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _boot_time() -> float:
    """Seconds since some start, those counted in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
