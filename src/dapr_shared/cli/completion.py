"""`dapr-shared completion SHELL`: a script that completes commands and flags, those of `run` among them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from dapr_shared.runtime.settings import FlagKind, flags

if TYPE_CHECKING:
    from dapr_shared.runtime.settings import FlagSpec


def script(commands: App, shell: Literal["bash", "zsh", "fish"]) -> str:
    """The script. `run` has a parser of its own: a command with its flags stands in for it."""
    whole = App(name="dapr-shared", version_flags=[], default_parameter=Parameter(negative=()))
    for name in commands:
        if not name.startswith("-") and name != "run":
            whole.command(commands[name], name=name)
    whole.command(_run(), name="run")
    return whole.generate_completion(shell=shell)


def _run() -> Any:
    def run(**given: Any) -> None:
        del given

    parameters = [_parameter(spec) for spec in flags()]
    run_file = Annotated[str, Parameter(name=["--run-file", "-f"], help="Run file, or the directory of a dapr.yaml")]
    parameters.append(inspect.Parameter("run_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=run_file))
    run.__doc__ = "Start an instance."
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(spec: FlagSpec) -> inspect.Parameter:
    choices = spec.flag.choices
    kind: Any = bool if spec.flag.kind is FlagKind.BOOLEAN else Literal[choices] if choices else str
    annotation = Annotated[kind, Parameter(name=f"--{spec.name}", help=spec.flag.doc.partition(".")[0])]
    return inspect.Parameter(spec.attribute, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
