"""`dapr-shared doctor`: what is wrong with this machine, an instance and its files, and what to do about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.cli.door import Door, data_directory
from dapr_shared.cli.named import check_named
from dapr_shared.cli.output import Format, as_text, coloured, write
from dapr_shared.cli.problem import FAILED, CommandError
from dapr_shared.cli.progress import working
from dapr_shared.cli.views import check_interval
from dapr_shared.observability.log_safety import one_line
from dapr_shared.runtime.embedded import SOCKET_NAME
from dapr_shared.runtime.operators import outside, places
from dapr_shared.runtime.operators.answers import Finding, Findings, InstanceInfo, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {Status.OK: "32", Status.SKIPPED: "2", Status.WARNING: "33", Status.ERROR: "1;31"}
_WIDTH = 8


def doctor(paths: Sequence[str], form: Format, *, data_dir: str, again: float | None = None) -> int:
    """Look, and say; 0: no error, 1: there are some. Raises `CommandError` for a path with nothing to look at.

    `again`: look once more after so many seconds, until Ctrl-C, which ends it with 0.
    """
    check_named(paths)
    if again is None:
        found = _look(paths, data_dir)
        write(_text(found) if form is Format.TABLE else as_text(found, form))
        return FAILED if any(one.status is Status.ERROR for one in found) else 0
    check_interval(again)
    try:
        while True:
            found = _look(paths, data_dir)
            if form is Format.TABLE:
                write(f"{time.strftime('%H:%M:%S')}, every {again:g} s, Ctrl-C ends\n\n{_text(found)}\n")
            else:
                write(("---\n" if form is Format.YAML else "") + as_text(found, form, compact=True))
            time.sleep(again)
    except KeyboardInterrupt:
        return 0


def _look(paths: Sequence[str], data_dir: str) -> list[Finding]:
    with working("looking at the machine, the instance and its backends"):
        return _findings(paths, data_directory(data_dir))


def _findings(paths: Sequence[str], data_dir: Path) -> list[Finding]:
    found = outside.machine(data_dir)
    if places.answers(data_dir / SOCKET_NAME):
        door = Door(data_dir)
        try:
            found += outside.of_instance(door.get("instance", InstanceInfo))
            found += door.get("doctor", Findings)
        except CommandError as error:
            remedy = "restart it; if that does not help, its log says more"
            found.append(Finding(check="instance", status=Status.ERROR, about=error.message, remedy=remedy))
    else:
        found += outside.without_instance(data_dir)
    if paths:
        from dapr_shared.runtime.validation.check import validate  # noqa: PLC0415 - heavy, and only where files are named

        found += outside.of_files(validate([Path(path) for path in paths]), paths)
    return found


def _text(found: Sequence[Finding]) -> str:
    lines: list[str] = []
    for one in found:
        status = f"{one.status.value:<{_WIDTH}}"
        if coloured():
            status = f"\x1b[{_COLOURS[one.status]}m{status}\x1b[0m"
        lines.append(f"{status} {one.check}: {one_line(one.about)}")
        if one.remedy:
            lines.append(f"{'':<{_WIDTH}}   -> {one_line(one.remedy)}")
    counts = {status: sum(one.status is status for one in found) for status in Status}
    lines.append("")
    lines.append(", ".join(f"{count} {status.value}" for status, count in counts.items() if count))
    return "\n".join(lines) + "\n"
