"""Who else may read or write what an instance keeps or reads.

Assembly, beside both roads: for `doctor`, inside an instance and without one. It looks at modes and owners alone, never
into a file.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dapr_shared.runtime.operators.answers import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CHECK = "file permissions"


def private(paths: Iterable[Path], what: str) -> list[Finding]:
    """A finding for each of these that users other than the owner can read or write."""
    found: list[Finding] = []
    for path in paths:
        status = _status(path)
        if status is None:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & (_OTHERS_READ | _OTHERS_WRITE):
            wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
            about = f"{what} {path} has mode {mode:03o}: other users of this machine can read it"
            found.append(_warning(about, f"chmod {wanted} {path}"))
        found += _owner(path, status, what)
    return found


def not_writable(paths: Iterable[Path], what: str) -> list[Finding]:
    """A finding for each of these that everybody may change: it decides who is which app."""
    found: list[Finding] = []
    for path in paths:
        status = _status(path)
        if status is not None and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            about = f"{what} {path} can be written by every user of this machine"
            found.append(Finding(check=_CHECK, status=Status.ERROR, about=about, remedy=f"chmod o-w {path}"))
    return found


def _owner(path: Path, status: os.stat_result, what: str) -> list[Finding]:
    if status.st_uid == os.geteuid() or os.geteuid() == 0:
        return []
    return [_warning(f"{what} {path} belongs to another user (id {status.st_uid})", "run this as the instance's user")]


def _warning(about: str, remedy: str) -> Finding:
    return Finding(check=_CHECK, status=Status.WARNING, about=about, remedy=remedy)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
