"""The command `dapr-shared`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.cli.daprd import run_flags
from dapr_shared.cli.operators import refresh

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
Usage: dapr-shared COMMAND [flags]

Dapr's building blocks for many applications from one process.

Commands:
  run        start an instance: for many apps (--apps PATH) or for one (--app-id ID)
  refresh    ask an app of a running instance again for its subscriptions
  version    print the version

`dapr-shared run --help` lists the flags. All flags of daprd are accepted."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (it failed) or 2 (wrong words)."""
    rest = list(sys.argv[1:] if words is None else words)
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if rest else 2
    command = rest.pop(0)
    if command in ("version", "--version"):
        print(f"dapr-shared {dapr_shared.__version__}")
        return 0
    if command == "refresh":
        return refresh(rest)
    if command == "run":
        return run_flags("dapr-shared run", rest, embedded=True)
    print(f"dapr-shared: unknown command {command!r}; `dapr-shared --help` lists the commands", file=sys.stderr)
    return 2
