"""What is wrong with resources: one error each place, all of them raised together; and notices, which stop nothing.

Before both roads: raised while resources are loaded.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dapr_shared.resources.origin import Origin

_SHOWN_AT_ONCE = 100


class ResourceError(Exception):
    """One thing that is wrong: where, in which field, what was found and what was expected. Never holds a secret value."""

    def __init__(self, origin: Origin, field: str, problem: str) -> None:
        super().__init__(origin, field, problem)
        self.origin = origin
        self.field = field
        """Path of the field such as `spec.tokens[0].sha256`; empty: the document or the file as a whole."""
        self.problem = problem

    def __str__(self) -> str:
        return _line(self.origin, self.field, self.problem)


class ResourceErrors(Exception):  # noqa: N818 - many errors in one
    """Everything that is wrong with a set of resources."""

    def __init__(self, errors: Sequence[ResourceError]) -> None:
        super().__init__(tuple(errors))
        self.errors = tuple(errors)

    def __str__(self) -> str:
        count = len(self.errors)
        lines = [f"the resources have {count} error{'' if count == 1 else 's'}:"]
        lines += [f"  {error}" for error in self.errors[:_SHOWN_AT_ONCE]]
        if count > _SHOWN_AT_ONCE:
            lines.append(f"  and {count - _SHOWN_AT_ONCE} more")
        return "\n".join(lines)


def one_line(error: Exception) -> str:
    """An error's text for a line of the log: what stands on lines of its own there is joined by semicolons."""
    head, *rest = (line.strip() for line in str(error).splitlines() or [""])
    return " ".join([head, "; ".join(rest)]) if rest else head


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that Dapr ignores too and that is probably not meant: an unknown field, a document that was skipped."""

    origin: Origin
    field: str
    problem: str

    def __str__(self) -> str:
        return _line(self.origin, self.field, self.problem)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the most similar of the known names, or nothing. Case is ignored."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold()[:100], by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def _line(origin: Origin, field: str, problem: str) -> str:
    return f"{origin}: {field}: {problem}" if field else f"{origin}: {problem}"
