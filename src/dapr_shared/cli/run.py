"""The command `dapr-shared run`: a run file, one app with its command, or an instance alone.

Before both roads. Flags are daprd's, and with them the short flags, `-f` and the command of `dapr run`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dapr_shared.cli.daprd import ON_LOOPBACK, run_instance, switches
from dapr_shared.cli.flags import ParsedFlags, UsageError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.runtime.run_plan import Run

COMMAND = "dapr-shared run"
_INTERRUPTED = 130
_OF_ONE_APP = ("app_", "enable_app_", "apps", "resources_path", "components_path", "unix_domain_socket")
"""How the settings begin that a run file gives for each app."""
_OF_ALL_APPS = ("app_binding_options_timeout", "app_delivery_timeout")
"""Settings that begin so and are the instance's."""


def run(words: Sequence[str]) -> int:
    """Run; the exit code is 0, 1 (it or an app has failed) or 2 (wrong words)."""
    try:
        parsed = parse(words, as_dapr_run=True)
        _check(parsed)
    except UsageError as error:
        print(f"{COMMAND}: {error}\nTry `{COMMAND} --help`.", file=sys.stderr)
        return 2
    done = switches(COMMAND, parsed)
    if done is not None:
        return done
    if not parsed.run_file and not parsed.command:
        return run_instance(COMMAND, parsed, embedded=True)
    # Before gRPC is loaded: its own lines on standard error are no log of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        planned = _plan(parsed)
        if planned is None:
            return 1
        from dapr_shared.runtime.lifecycle import run_apps  # noqa: PLC0415 - heavy; wrong input is told before

        return run_apps(planned, command=COMMAND, without_effect=parsed.without_effect)
    except KeyboardInterrupt:  # before the instance listens for signals
        return _INTERRUPTED


def _plan(parsed: ParsedFlags) -> Run | None:
    """The run; `None`: what is wrong has been printed."""
    from dapr_shared.resources.errors import ResourceErrors  # noqa: PLC0415 - --version and --help need none of it
    from dapr_shared.resources.run_file import load_run_file  # noqa: PLC0415
    from dapr_shared.runtime.run_plan import plan_command, plan_run_file  # noqa: PLC0415
    from dapr_shared.runtime.settings import SettingsError  # noqa: PLC0415

    settings = parsed.settings(**ON_LOOPBACK)
    try:
        if parsed.run_file:
            return plan_run_file(load_run_file(parsed.run_file), settings, parsed.values)
        return plan_command(settings, parsed.values, parsed.command)
    except ResourceErrors as error:
        for line in error.errors:
            print(f"{COMMAND}: {line}", file=sys.stderr)
    except (SettingsError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
    return None


def _check(parsed: ParsedFlags) -> None:
    if parsed.run_file:
        if parsed.command:
            raise UsageError(f"-f and a command exclude each other: {parsed.command[0]!r} belongs into the run file")
        wrong = [name for name in parsed.values if name.startswith(_OF_ONE_APP) and name not in _OF_ALL_APPS]
        if wrong:
            flag = wrong[0].replace("_", "-")
            raise UsageError(f"--{flag} does not go with -f: give it to each app in the run file")
    elif parsed.command and not parsed.values.get("app_id"):
        word = parsed.command[0]
        if word.endswith((".yaml", ".yml")):
            raise UsageError(f"unexpected argument {word!r}: a run file is given with -f {word}")
        raise UsageError(f"the command {word!r} needs the id of its app: --app-id ID -- {word} …")
