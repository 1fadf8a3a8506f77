"""`dapr-shared validate PATH…`: problems of resource files as lines for people and editors, or as data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.cli.named import check_named
from dapr_shared.cli.output import Format, as_text, coloured, write
from dapr_shared.cli.problem import FAILED, USAGE, CommandError
from dapr_shared.cli.progress import working
from dapr_shared.observability.log_safety import one_line
from dapr_shared.runtime.validation.check import Report, validate
from dapr_shared.runtime.validation.problems import Problem, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[33m"}
_RESET = "\x1b[0m"


def validate_files(paths: Sequence[str], form: Format, *, strict: bool) -> int:
    """Check files; 0: no error (with `strict`: and no warning), 1: there are some.

    Raises `CommandError` without a file, and for one that holds nothing to check.
    """
    if not paths:
        raise CommandError("name the files or directories to check: dapr-shared validate PATH…", USAGE)
    check_named(paths)
    with working(f"checking {len(paths)} paths" if len(paths) > 1 else f"checking {paths[0]}"):
        report = validate([Path(path) for path in paths])
    write(_text(report) if form is Format.TABLE else as_text(report, form))
    wrong = report.count(Severity.ERROR) + (report.count(Severity.WARNING) if strict else 0)
    return FAILED if wrong else 0


def _text(report: Report) -> str:
    lines = [_line(problem, colour=coloured()) for problem in report.problems]
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.resources.items()) or "no resource"
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    lines.append(
        f"{_many(len(report.files), 'file')} ({kinds}): {_many(errors, 'error')}, {_many(warnings, 'warning')}"
    )
    return "\n".join(lines) + "\n"


def _line(problem: Problem, *, colour: bool) -> str:
    where = f"{problem.file}:{problem.line}" if problem.line else problem.file
    document = f" document {problem.document}:" if problem.document > 1 else ""
    severity = f"{_COLOURS[problem.severity]}{problem.severity}{_RESET}" if colour else problem.severity.value
    field = f" {one_line(problem.field)}:" if problem.field else ""
    return f"{one_line(where)}:{document} {severity}:{field} {one_line(problem.problem)}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
