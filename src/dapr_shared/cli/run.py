"""The command `dapr-shared run`: a run file, one app with its command, or an instance alone.

Before both roads. Flags are daprd's, and with them the short flags, `-f` and the command of `dapr run`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.cli.daprd import ON_LOOPBACK, run_instance, switches, wrong_words
from dapr_shared.cli.flags import ParsedFlags, UsageError, parse
from dapr_shared.cli.problem import FAILED, INTERRUPTED, USAGE
from dapr_shared.observability.log_safety import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.runtime.run_plan import Run

COMMAND = "dapr-shared run"
_OF_ONE_APP = ("app_", "enable_app_", "apps", "resources_path", "components_path", "unix_domain_socket")
"""How the settings begin that a run file gives for each app."""
_LISTS = ("apps", "resources_path", "config")
"""Settings that are lists of paths to read."""
_OF_ALL_APPS = ("app_binding_options_timeout", "app_delivery_timeout")
"""Settings that begin so and are the instance's."""


def run(words: Sequence[str]) -> int:
    """Run; the exit code is 0, 1 (it or an app has failed) or 2 (wrong words)."""
    try:
        parsed = parse(words, as_dapr_run=True)
        _check(parsed)
        done = switches(COMMAND, parsed)
        if done is None:
            _check_named_paths(parsed)
    except UsageError as error:
        return wrong_words(COMMAND, error)
    if done is not None:
        return done
    if not parsed.run_file and not parsed.command:
        return run_instance(COMMAND, parsed, embedded=True)
    # Before gRPC is loaded: its own lines on standard error are no log of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        planned = _plan(parsed)
        if isinstance(planned, int):
            return planned
        from dapr_shared.runtime.lifecycle import run_apps  # noqa: PLC0415 - heavy; wrong input is told before

        return run_apps(planned, command=COMMAND, without_effect=parsed.without_effect)
    except KeyboardInterrupt:  # before the instance listens for signals
        return INTERRUPTED


def _check_named_paths(parsed: ParsedFlags) -> None:
    """Raise `UsageError` for the first path that does not lead to what its flag wants.

    A directory may be empty: its apps and components come later. Its files are looked at when they are loaded.
    """
    named = [(f"--{name.replace('_', '-')}", path) for name in _LISTS for path in parsed.values.get(name, ())]
    if parsed.values.get("components_path"):
        named.append(("--components-path", parsed.values["components_path"]))
    if parsed.values.get("mode") == "kubernetes":  # there, --config names a resource of the cluster
        named = [(flag, path) for flag, path in named if flag != "--config"]
    if not named:
        return
    from dapr_shared.resources.named_paths import named_file_problem  # noqa: PLC0415 - only where paths are named

    for flag, name in named:
        path = Path(name)
        problem = named_file_problem(path, ("Configuration",)) if flag == "--config" else named_file_problem(path)
        if problem:
            raise UsageError(f"{flag} {problem}")


def _plan(parsed: ParsedFlags) -> Run | int:
    """The run; or the exit code, when what is wrong has been printed."""
    from dapr_shared.resources.errors import ResourceErrors  # noqa: PLC0415 - --version and --help need none of it
    from dapr_shared.resources.run_file import WrongFileError, load_run_file  # noqa: PLC0415
    from dapr_shared.runtime.ports import PortTakenError  # noqa: PLC0415
    from dapr_shared.runtime.run_plan import plan_command, plan_run_file  # noqa: PLC0415
    from dapr_shared.runtime.settings import SettingsError  # noqa: PLC0415

    settings = parsed.settings(**ON_LOOPBACK)
    try:
        if parsed.run_file:
            return plan_run_file(load_run_file(parsed.run_file), settings, parsed.values)
        return plan_command(settings, parsed.values, parsed.command)
    except ResourceErrors as error:
        for line in error.errors:
            _told(str(line), FAILED)
        return USAGE if any(isinstance(one, WrongFileError) for one in error.errors) else FAILED
    except SettingsError as error:
        return _told(str(error), USAGE)
    except (PortTakenError, OSError) as error:
        return _told(str(error), FAILED)


def _told(problem: str, code: int) -> int:
    print(f"{COMMAND}: {one_line(problem)}", file=sys.stderr)
    return code


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
