"""The command `dapr-shared`.

`run` goes its own way, with the parser that knows daprd's flags and without the libraries of the other commands: it is
what starts with every machine, and its start-up time counts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dapr_shared.cli.problem import BROKEN_PIPE, FAILED, INTERRUPTED, USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (it failed) or 2 (wrong words)."""
    rest = list(sys.argv[1:] if words is None else words)
    try:
        if rest[:1] == ["run"]:
            from dapr_shared.cli.run import run  # noqa: PLC0415 - the other commands need none of it

            return run(rest[1:])
        return _execute(rest)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
        return _ended_by(error)


def _ended_by(error: Exception) -> int:
    match error:
        case CommandError():
            _tell(error.message)
            return error.code
        case BrokenPipeError():
            # Python would flush standard output once more at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        case OSError():
            _tell(f"{error.filename or 'the system'}: {error.strerror or error}")
        case _:
            _tell(f"a defect of dapr-shared, please report it: {error!r}")
    return FAILED


def _execute(words: list[str]) -> int:
    from dapr_shared.cli.commands import execute  # noqa: PLC0415 - `run` does without

    if not words:
        execute(["--help"])
        return USAGE
    if words[0] in ("--version", "-V"):
        words[0] = "version"
    elif words[0] == "help":
        words = [*words[1:], "--help"]
    return execute(words)


def _tell(line: str) -> None:
    print("dapr-shared:", " ".join(line.split()), file=sys.stderr)
