"""Paths that were named on the command line: each must hold something that the command reads, or nothing is tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.cli.problem import USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_named(paths: Sequence[str]) -> None:
    """Raise `CommandError` (wrong words) for the first path that is absent, empty, or of another kind than resources."""
    from dapr_shared.resources.named_paths import named_path_problem  # noqa: PLC0415 - only where files are named

    for path in paths:
        problem = named_path_problem(Path(path))
        if problem:
            raise CommandError(problem, USAGE)
