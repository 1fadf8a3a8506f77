"""Accounts of what a backend in trouble was given and gave back: acknowledged, delivered, duplicated, lost.

A load runs while a test disturbs the backend; then each acknowledged message must have been delivered, and each
acknowledged write must be there. What the backend itself may forget by its set-up is excused, and counted all the same.
All accounts are printed at the end of a test run (`tests/conftest.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Message, Outcome
from dapr_shared.contracts.state import Consistency, EtagMismatchError, GetRequest, SetRequest
from tests.support.component_pubsub import Inbox, ask, publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

PATIENCE = 30.0
"""Seconds in which what was acknowledged must come, after the last disturbance."""
PROPERTY = "account"
ENOUGH = 150
"""Calls that are load: so many go well before a fault and after it."""


@dataclass
class Account:
    """What became of what was acknowledged."""

    acknowledged: int = 0
    delivered: int = 0
    """Messages that reached the app, writes that are there; repeats count each time."""
    duplicated: int = 0
    lost: int = 0
    """Acknowledged and gone."""
    excused: int = 0
    """Of the lost: what the server itself forgot, as it may in its set-up."""
    refused: int = 0
    """Calls that were answered with an error: nothing was promised."""

    def __str__(self) -> str:
        excused = f" (of these {self.excused} with what the server itself forgot)" if self.excused else ""
        return (
            f"acknowledged {self.acknowledged}, delivered {self.delivered}, duplicated {self.duplicated}, "
            f"lost {self.lost}{excused}, refused {self.refused}"
        )

    def settle(self, request: pytest.FixtureRequest, *, least: int = 100, duplicates: bool = True) -> None:
        """Put it into the report, and fail where something was lost, or the load was none.

        `duplicates`: whether the backend may deliver again what it has delivered.
        """
        request.node.user_properties.append((PROPERTY, str(self)))
        assert self.acknowledged >= least, self
        assert self.lost == self.excused, self
        assert duplicates or not self.duplicated, self


@dataclass
class Disturbance:
    """What a disturbance tells of itself."""

    forgets_from: float = 0.0
    forgets_until: float = 0.0
    """What was acknowledged between these (of `monotonic`) the server may have forgotten."""


@dataclass
class Load:
    """What a disturbance sees of the load that it disturbs."""

    account: Account
    acknowledged: int = 0

    async def goes_on(self) -> None:
        """Wait until `ENOUGH` more calls were acknowledged."""
        before = self.acknowledged
        await self._until(lambda: self.acknowledged >= before + ENOUGH, "the load does not go on")

    async def is_refused(self) -> None:
        """Wait until one more call was answered with an error."""
        before = self.account.refused
        await self._until(lambda: self.account.refused > before, "no call was refused")

    async def _until(self, condition: Callable[[], bool], problem: str) -> None:
        end = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < end, problem
            await asyncio.sleep(0.01)


Disturb: TypeAlias = "Callable[[Load], Awaitable[Disturbance | None]]"
"""Does something to the backend while it has load."""


async def messages_under(broker: Any, disturb: Disturb) -> Account:
    """Four publishers and a subscriber, while `disturb` does what it does, and some load after it."""
    acknowledged: dict[str, float] = {}
    delivered: Counter[str] = Counter()
    account = Account()
    load = Load(account)
    stop = asyncio.Event()

    def take(message: Message) -> Outcome:
        delivered[message.data.decode()] += 1
        return Outcome.ACCEPTED

    async def publisher(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            text = f"{name}-{number}"
            try:
                await publish(broker, text)
            except BackendError:
                account.refused += 1
                await asyncio.sleep(0.01)
            else:
                acknowledged[text] = monotonic()
                load.acknowledged += 1
                await asyncio.sleep(0.001)

    inbox = Inbox(take)
    subscription = await broker.subscribe(ask(), inbox)
    publishers = [asyncio.create_task(publisher(name)) for name in range(4)]
    try:
        told = await disturb(load) or Disturbance()
        await load.goes_on()
    finally:
        stop.set()
        await asyncio.gather(*publishers)

    def forgotten(text: str) -> bool:
        return told.forgets_from <= acknowledged[text] <= told.forgets_until

    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while any(not delivered[text] and not forgotten(text) for text in acknowledged):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await subscription.stop(1.0)
    gone = [text for text in acknowledged if not delivered[text]]
    account.acknowledged = len(acknowledged)
    account.delivered = delivered.total()
    account.duplicated = account.delivered - len(delivered)
    account.lost = len(gone)
    account.excused = sum(forgotten(text) for text in gone)
    return account


@dataclass
class Counting:
    """One key that one writer counts up with etags, so that a lost or a doubled write shows."""

    key: str
    acknowledged: int = 0
    unknown: int = 0
    """Writes without an answer: they may have happened."""
    excused: bool = False
    found: int = field(default=0)


async def writes_under(store: Any, disturb: Disturb, *, strong: bool = False) -> Account:
    """Eight writers that count with etags, while `disturb` does what it does, and after it. `strong`: the consistency."""
    account = Account()
    load = Load(account)
    counted: list[Counting] = []
    stop = asyncio.Event()
    consistency = Consistency.STRONG if strong else Consistency.UNSPECIFIED

    async def writer(name: int) -> None:
        mine = Counting(f"app||{name}-{len(counted)}")
        counted.append(mine)
        while not stop.is_set():
            try:
                found = await store.get(GetRequest(mine.key, Consistency.STRONG))
                if found is None and mine.acknowledged:  # the server has forgotten it
                    mine.excused = True
                    mine = Counting(f"app||{name}-{len(counted)}")
                    counted.append(mine)
                    continue
                before = int(found.data) if found else 0
                etag = found.etag if found else None
            except BackendError:
                account.refused += 1
                await asyncio.sleep(0.01)
                continue
            try:
                await store.set(SetRequest(mine.key, str(before + 1).encode(), etag=etag, consistency=consistency))
            except EtagMismatchError:  # an earlier one whose answer did not come has happened after all
                assert mine.unknown, f"{mine.key}: its own write was taken for another's"
                account.refused += 1
            except BackendError:
                account.refused += 1
                mine.unknown += 1
                await asyncio.sleep(0.01)
            else:
                mine.acknowledged += 1
                load.acknowledged += 1
            await asyncio.sleep(0)

    writers = [asyncio.create_task(writer(name)) for name in range(8)]
    try:
        told = await disturb(load) or Disturbance()
        await load.goes_on()
    finally:
        stop.set()
        await asyncio.gather(*writers)
    for one in counted:
        await _add(account, one, store, told)
    return account


async def _add(account: Account, one: Counting, store: Any, told: Disturbance) -> None:
    found = await _eventually(store, one.key)
    one.found = int(found.data) if found else 0
    lost = max(one.acknowledged - one.found, 0)
    account.acknowledged += one.acknowledged
    account.delivered += one.found
    account.duplicated += max(one.found - one.acknowledged - one.unknown, 0)
    account.lost += lost
    account.excused += lost if one.excused and told.forgets_until else 0


async def _eventually(store: Any, key: str) -> Any:
    end = monotonic() + PATIENCE
    while True:
        try:
            return await store.get(GetRequest(key, Consistency.STRONG))
        except BackendError:
            assert monotonic() < end, "the store does not come back"
            await asyncio.sleep(0.05)
