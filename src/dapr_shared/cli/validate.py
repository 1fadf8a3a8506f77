"""`dapr-shared validate PATH…`: problems of resource files as lines for people and editors, or as data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.cli.named import check_named
from dapr_shared.cli.output import Format, as_text, coloured, write
from dapr_shared.cli.problem import FAILED, USAGE, CommandError
from dapr_shared.cli.progress import working
from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.observability.log_safety import one_line
from dapr_shared.runtime.validation.check import Report, validate
from dapr_shared.runtime.validation.problems import Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[33m"}
_RESET = "\x1b[0m"


class Mode(StrEnum):
    """For which instances."""

    STANDALONE = "standalone"
    KUBERNETES = "kubernetes"


def validate_files(
    paths: Sequence[str], form: Format, *, strict: bool, mode: Mode = Mode.STANDALONE, namespace: str = ""
) -> int:
    """Check files; 0: no error (with `strict`: and no warning), 1: there are some.

    `namespace`: of objects of a cluster that name none. Raises `CommandError` without a file, and where there is nothing to
    check.
    """
    if not paths:
        raise CommandError("name the files or directories to check: dapr-shared validate PATH…", USAGE)
    unknown = next((path for path in paths if path.startswith("-") and path != "-" and not Path(path).exists()), "")
    if unknown:
        raise CommandError(f"unknown option: {unknown}; `dapr-shared validate --help` says what is taken", USAGE)
    if mode is Mode.STANDALONE and (namespace or "-" in paths):
        what = "--namespace" if namespace else "standard input"
        raise CommandError(f"{what} is for manifests of a cluster: add --mode kubernetes", USAGE)
    if mode is Mode.STANDALONE:
        check_named(paths)
    with working(f"checking {len(paths)} paths" if len(paths) > 1 else f"checking {paths[0]}"):
        report = validate([Path(path) for path in paths]) if mode is Mode.STANDALONE else _cluster(paths, namespace)
    write(_text(report) if form is Format.TABLE else as_text(report, form))
    wrong = report.count(Severity.ERROR) + (report.count(Severity.WARNING) if strict else 0)
    return FAILED if wrong else 0


def _cluster(paths: Sequence[str], namespace: str) -> Report:
    """Check manifests. Raises `CommandError` where nothing of them is read in a cluster."""
    from dapr_shared.runtime.validation.cluster import namespace_problem, validate_cluster  # noqa: PLC0415 - heavy
    from dapr_shared.runtime.validation.manifests import manifests_problem  # noqa: PLC0415

    given = [Path(path) for path in paths]
    problems = [namespace_problem(namespace) if namespace else "", *map(manifests_problem, given)]
    for problem in filter(None, problems):
        raise CommandError(problem, USAGE)
    report = validate_cluster(given, namespace or DEFAULT_NAMESPACE)
    if not report.resources and not report.problems:
        found = f" (found: {next(iter(report.ignored))})" if report.ignored else ""
        raise CommandError(
            f"{' '.join(paths)} hold{'s' if len(paths) == 1 else ''} nothing that is read in a cluster{found}: name files with"
            " resources such as Component or App, or with annotated Services or Pods", USAGE,
        )  # fmt: skip
    return report


def _text(report: Report) -> str:
    lines = [_line(problem, colour=coloured()) for problem in report.problems]
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.resources.items()) or "no resource"
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    lines.append(
        f"{_many(len(report.files), 'file')} ({kinds}): {_many(errors, 'error')}, {_many(warnings, 'warning')}"
    )
    if report.ignored:
        others = ", ".join(f"{count} {kind}" for kind, count in report.ignored.items())
        lines.append(f"not read: {_many(sum(report.ignored.values()), 'other object')} ({others})")
    return "\n".join(lines) + "\n"


def _line(problem: Problem, *, colour: bool) -> str:
    where = f"{problem.file}:{problem.line}" if problem.line else problem.file
    document = f" document {problem.document}:" if problem.document > 1 else ""
    severity = f"{_COLOURS[problem.severity]}{problem.severity}{_RESET}" if colour else problem.severity.value
    named = f" {one_line(problem.object)}:" if problem.object else ""
    field = f" {one_line(problem.field)}:" if problem.field else ""
    return f"{one_line(where)}:{document} {severity}:{named}{field} {one_line(problem.problem)}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
