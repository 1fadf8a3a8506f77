"""How far the clocks of the backends stand from this machine's, for `doctor`.

Assembly, beside both roads. Expiry of state and locks goes by the backend's clock, expiry of messages and tokens by ours:
where they differ, something ends too early or too late.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from dapr_shared.contracts.component import BackendError
from dapr_shared.runtime.operators.answers import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.components.opening import Running
    from dapr_shared.core.clock import Clock

LARGEST_SKEW = 2.0
"""Seconds that a backend's clock may stand from ours without a word."""
LIMIT = 2.0
"""Seconds that a backend may take to say what time it is; one that does not answer is another check's to tell."""
AT_ONCE = 16
"""Backends that are asked at a time."""


async def backend_clocks(running: Sequence[Running], clock: Clock) -> list[Finding]:
    """A finding for each component whose backend shows another time, or one that says how many show ours."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def ask(one: Running) -> float | None:
        async with at_once:
            return await _skew(one, clock)

    skews = await asyncio.gather(*(ask(one) for one in running))
    told = [(one, skew) for one, skew in zip(running, skews, strict=True) if skew is not None]
    found = [
        Finding(
            check="clocks of backends",
            status=Status.WARNING,
            about=f"the backend of component {one.opened.name} ({one.opened.type}) of namespace {one.opened.namespace} "
            f"is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine",
            remedy="let NTP keep both: expiry of state, messages and locks goes by these clocks",
        )
        for one, skew in told
        if abs(skew) > LARGEST_SKEW
    ]
    if found:
        return found
    about = (
        f"{len(told)} backend{'' if len(told) == 1 else 's'} with a clock of {'its' if len(told) == 1 else 'their'} own"
    )
    return [Finding(check="clocks of backends", status=Status.OK, about=f"{about}, none differs from this machine's")]


async def _skew(one: Running, clock: Clock) -> float | None:
    """Seconds that the backend is ahead, as far as the time that its answer took can not explain it."""
    started, before = perf_counter(), clock.now().timestamp()
    try:
        async with asyncio.timeout(LIMIT):
            told = await one.opened.component.backend_time()
    except (TimeoutError, BackendError):
        return None
    except Exception:  # noqa: BLE001 - an adapter that breaks its contract: `components` tells it
        return None
    if told is None:
        return None
    after = before + perf_counter() - started
    return told - after if told > after else min(told - before, 0.0)
