"""How many tokens may be taken to the API server: in all, and of one sender.

Step 2 of the request road. A share for each sender, so that one that invents tokens does not use up the reviews that a
new pod of another app needs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.core.clock import Clock

REVIEWS_PER_SECOND, REVIEWS_AT_ONCE = 50.0, 200.0
"""Of the whole instance. A thousand pods that start together with a token each are through in 16 s."""
SENDER_PER_SECOND, SENDER_AT_ONCE = 5.0, 30.0
"""Of one address. Several pods may have one (SNAT); a pod needs one review in five minutes."""
SENDERS = 4096
"""Addresses that are remembered; the one that was seen longest ago is forgotten first."""


class _Bucket:
    """So many at once, refilled by the second."""

    __slots__ = ("_at_once", "_left", "_per_second", "_seen")

    def __init__(self, per_second: float, at_once: float, now: float) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left = at_once
        self._seen = now

    def has(self, now: float) -> bool:
        self._left = min(self._at_once, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        return self._left >= 1

    def take(self) -> None:
        self._left -= 1


class ReviewLimit:
    """Says whether one more review may be made for a sender."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all = _Bucket(REVIEWS_PER_SECOND, REVIEWS_AT_ONCE, clock.monotonic())
        self._senders: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, sender: str) -> bool:
        """Count one in; false where the sender or the instance is at its bound. What is refused uses up nothing."""
        now = self._clock.monotonic()
        bucket = self._senders.get(sender)
        if bucket is None:
            bucket = self._senders[sender] = _Bucket(SENDER_PER_SECOND, SENDER_AT_ONCE, now)
            if len(self._senders) > SENDERS:
                self._senders.popitem(last=False)
        self._senders.move_to_end(sender)
        if not (bucket.has(now) and self._all.has(now)):
            return False
        bucket.take()
        self._all.take()
        return True
