"""What `validate` finds: one problem each, with its place.

Before both roads. An error keeps an instance from starting with these files, or a reload from taking them; a warning is
taken and probably not meant: it has no effect, or fails later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dapr_shared.resources.origin import Origin


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem."""

    severity: Severity
    file: str
    document: int = 0
    """From 1; 0: the file as a whole."""
    line: int = 0
    """From 1; 0: not known."""
    object: str = ""
    """In manifests of a cluster: `App shop/orders`; empty: none, or a resource file."""
    field: str = ""
    """Path such as `spec.tokens[0]`; empty: the document as a whole."""
    problem: str
    """What was found and what was expected. Never a secret value."""


class Problems:
    """Collects problems, each once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def error(self, origin: Origin, field: str, problem: str) -> None:
        """An instance would not take it."""
        self._add(Severity.ERROR, origin, field, problem)

    def warning(self, origin: Origin, field: str, problem: str) -> None:
        """An instance would take it, and it is probably not meant."""
        self._add(Severity.WARNING, origin, field, problem)

    def sorted(self) -> list[Problem]:
        """All, in the order of files and lines."""
        return sorted(self._found, key=lambda one: (one.file, one.document, one.line, one.field, one.problem))

    def _add(self, severity: Severity, origin: Origin, field: str, problem: str) -> None:
        found = Problem(
            severity=severity,
            file=origin.file,
            document=origin.document,
            line=origin.line,
            field=field,
            problem=" ".join(problem.split()),
        )
        self._found.setdefault(found)
