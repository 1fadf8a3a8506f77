"""What is wrong with single resources, where one wrong resource does not stop the others.

Assembly of cluster mode. Each is told once, again when its problem changes, and once more when it is mended; App status
and Events are written from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dapr_shared.observability.events import Events
    from dapr_shared.resources.origin import Origin

READING, APPLYING = "reading", "applying"
"""Where a refusal comes from: what is wrong in itself, and what could not be put in force (tried again)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One resource that is not in force as it is written."""

    kind: str
    """`App`, `Component`, `Service`, `Pod`, or `File`."""
    origin: Origin
    """Where it stands: `App shop/orders` for an object of the cluster, else file and document."""
    problem: str
    kept: bool = False
    """Whether its former version is in force."""
    partly: bool = False
    """Whether it is in force but for what the problem names."""

    @property
    def text(self) -> str:
        """The problem, and what is in force instead."""
        if self.partly:
            return f"{self.problem} (the rest of it is in force)"
        return f"{self.problem} ({'its former version stays in force' if self.kept else 'it is left out'})"


class Refusals:
    """Everything that is refused now."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._stages: dict[str, dict[Origin, Refusal]] = {READING: {}, APPLYING: {}}
        self.on_change: list[Callable[[], None]] = []
        """Called when something was refused, mended, or has another problem."""

    @property
    def now(self) -> Mapping[Origin, Refusal]:
        """By where the resource stands."""
        return {**self._stages[APPLYING], **self._stages[READING]}

    @property
    def to_try_again(self) -> frozenset[tuple[Origin, str]]:
        """What may be mended by trying again alone; it differs when something else is refused."""
        return frozenset(
            (origin, refusal.problem) for origin, refusal in self._stages[APPLYING].items() if not refusal.partly
        )

    def replace(self, stage: str, found: Iterable[Refusal]) -> None:
        """Exactly these are refused at a stage from now on."""
        before = self.now
        joined: dict[Origin, Refusal] = {}
        for refusal in found:
            first = joined.setdefault(refusal.origin, refusal)
            if refusal.problem not in first.problem:
                both = f"{first.problem}; {refusal.problem}"
                joined[refusal.origin] = Refusal(
                    first.kind, first.origin, both, first.kept, first.partly and refusal.partly
                )
        self._stages[stage] = joined
        after = self.now
        if after == before:
            return
        for origin, refusal in after.items():
            if before.get(origin) != refusal:
                self._events.resource_refused(refusal.kind, str(origin), refusal.text)
        for origin in before.keys() - after.keys():
            self._events.resource_mended(before[origin].kind, str(origin))
        for listener in self.on_change:
            listener()
