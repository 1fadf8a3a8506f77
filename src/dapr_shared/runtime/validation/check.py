"""`dapr-shared validate`: every problem of a set of resource files, without an instance and without opening anything.

Before both roads. The files together are what an instance would be given, so that references are looked up among all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.components.catalog import Catalog
from dapr_shared.resources.loader import examine
from dapr_shared.resources.places import FieldPlaces
from dapr_shared.runtime.validation.components import check_components
from dapr_shared.runtime.validation.problems import Problem, Problems, Severity
from dapr_shared.runtime.validation.references import References

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.origin import Origin


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `validate` says."""

    files: list[str]
    resources: dict[str, int]
    """How many of each kind are right by themselves."""
    problems: list[Problem]

    def count(self, severity: Severity) -> int:
        """How many problems are of this kind."""
        return sum(one.severity is severity for one in self.problems)


def validate(paths: Sequence[Path]) -> Report:
    """Check files and directories of resources. Reads files; raises nothing of what is wrong with them."""
    problems, places = Problems(), FieldPlaces()
    resources, errors, files = examine(paths, environment=os.environ)
    for error in errors:
        problems.error(error.origin, error.field, error.problem)
    for notice in resources.notices:
        problems.warning(notice.origin, notice.field, notice.problem)
    check_components(resources.components, Catalog(), places, problems)
    References(resources, places, problems).check()
    for other in resources.others:
        problems.warning(other.origin, "kind", f"{other.kind} has no effect in this version")
    _environment(resources, places, problems)
    return Report(files=[str(file) for file in files], resources=_counted(resources), problems=problems.sorted())


def _environment(resources: Resources, places: FieldPlaces, problems: Problems) -> None:
    """Variables that are not set here. The instance may have them: a warning."""

    def look(origin: Origin, field: str, name: str) -> None:
        if name and name not in os.environ:
            text = f"the environment variable {name} is not set here; the instance needs it"
            problems.warning(places.of(origin, field), field, text)

    for app in resources.apps:
        for index, token in enumerate(app.tokens):
            look(app.origin, f"spec.tokens[{index}].envRef", token.env_ref)
    for component in resources.components:
        for index, item in enumerate(component.metadata):
            if item.value is None:
                look(component.origin, f"spec.metadata[{index}].envRef", item.env_ref)


def _counted(resources: Resources) -> dict[str, int]:
    counts = {
        "App": len(resources.apps),
        "Component": len(resources.components),
        "Configuration": len(resources.configurations),
        "HTTPEndpoint": len(resources.http_endpoints),
        "Subscription": len(resources.subscriptions),
        "Resiliency": len(resources.resiliencies),
    }
    for other in resources.others:
        counts[other.kind] = counts.get(other.kind, 0) + 1
    return {kind: count for kind, count in counts.items() if count}
