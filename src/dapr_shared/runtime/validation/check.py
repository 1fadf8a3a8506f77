"""`dapr-shared validate`: every problem of a set of resource files, without an instance and without opening anything.

Before both roads. The files together are what an instance would be given, so that references are looked up among all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import pluggable_row
from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.resources.loader import examine, resource_files
from dapr_shared.resources.places import FieldPlaces
from dapr_shared.resources.run_file import FILE_NAME, is_run_file, load_run_file
from dapr_shared.runtime.validation.components import check_components
from dapr_shared.runtime.validation.problems import Problem, Problems, Severity
from dapr_shared.runtime.validation.references import References

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dapr_shared.resources.loader import Resources
    from dapr_shared.resources.origin import Origin


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `validate` says."""

    files: list[str]
    resources: dict[str, int]
    """How many of each kind are right by themselves."""
    ignored: dict[str, int] = {}
    """In manifests of a cluster: how many of each kind are not read."""
    problems: list[Problem]

    def count(self, severity: Severity) -> int:
        """How many problems are of this kind."""
        return sum(one.severity is severity for one in self.problems)


def validate(paths: Sequence[Path]) -> Report:
    """Check files and directories of resources, and run files with what their apps use.

    Reads files; raises nothing of what is wrong with them.
    """
    checking = _Checking()
    run_files, rest = _sorted_out(paths)
    for file in run_files:
        checking.run_file(file)
    if rest:
        checking.resources(rest)
    return Report(files=sorted(checking.files), resources=checking.counted(), problems=checking.problems.sorted())


class _Checking:
    """One run of `validate`."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.files: set[str] = set()
        self._places = FieldPlaces()
        self._catalog = Catalog(pluggable=pluggable_row)
        self._kinds: dict[Origin, str] = {}

    def run_file(self, file: Path) -> None:
        """A run file, and the resources of each of its apps: those of one app are not another's."""
        self.files.add(str(file))
        try:
            found = load_run_file(str(file))
        except ResourceErrors as errors:
            for error in errors.errors:
                self.problems.error(error.origin, error.field, error.problem)
            return
        for notice in found.notices:
            self.problems.warning(notice.origin, notice.field, notice.problem)
        app_ids = {app.app_id for app in found.apps}
        for app in found.apps:
            paths = [*app.resources_paths, *([app.configuration_path] if app.configuration_path else [])]
            if paths:
                self.resources([Path(path) for path in paths], app_ids)

    def resources(self, paths: Sequence[Path], app_ids: Collection[str] = ()) -> None:
        """Files that an instance is given together. `app_ids`: apps that have no App among them."""
        problems = self.problems
        resources, errors, files = examine(paths, environment=os.environ)
        self.files.update(str(file) for file in files)
        for error in errors:
            problems.error(error.origin, error.field, error.problem)
        for notice in resources.notices:
            problems.warning(notice.origin, notice.field, notice.problem)
        check_components(resources.components, self._catalog, self._places, problems)
        References(resources, self._places, problems, app_ids).check()
        for other in resources.others:
            problems.warning(other.origin, "kind", f"{other.kind} has no effect in this version")
        self._environment(resources)
        self._kinds |= kinds_of(resources)

    def counted(self) -> dict[str, int]:
        """How many resources of each kind are right by themselves."""
        kinds = list(self._kinds.values())
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    def _environment(self, resources: Resources) -> None:
        """Variables that are not set here. The instance may have them: a warning."""

        def look(origin: Origin, field: str, name: str) -> None:
            if name and name not in os.environ:
                text = f"the environment variable {name} is not set here; the instance needs it"
                self.problems.warning(self._places.of(origin, field), field, text)

        for app in resources.apps:
            for index, token in enumerate(app.tokens):
                look(app.origin, f"spec.tokens[{index}].envRef", token.env_ref)
        for component in resources.components:
            for index, item in enumerate(component.metadata):
                if item.value is None:
                    look(component.origin, f"spec.metadata[{index}].envRef", item.env_ref)


def _sorted_out(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The run files among these paths and their directories, and what is left."""
    run_files: list[Path] = []
    rest: list[Path] = []
    for path in paths:
        if not path.is_dir():
            (run_files if is_run_file(path) else rest).append(path)
        elif is_run_file(path / FILE_NAME):
            run_files.append(path / FILE_NAME)
            rest += (file for file in resource_files(path) if file.name != FILE_NAME)
        else:
            rest.append(path)
    return run_files, rest


def kinds_of(resources: Resources) -> dict[Origin, str]:
    """The kind of each resource."""
    named = (
        *resources.apps,
        *resources.components,
        *resources.configurations,
        *resources.http_endpoints,
        *resources.subscriptions,
        *resources.resiliencies,
    )
    kinds = {resource.origin: type(resource).__name__ for resource in named}
    return kinds | {other.origin: other.kind for other in resources.others}
