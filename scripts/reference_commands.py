"""The reference page of the commands: what `dapr-shared COMMAND --help` says, as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_tables import table

from dapr_shared.cli.commands import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App

_ALL = {"--output", "--watch", "--interval", "--data-dir"}
"""Flags that many commands share: their meaning stands once, at the top."""


def commands_page() -> str:
    """All commands but `run`, whose flags have a page of their own."""
    head = (
        "# Commands\n\n"
        "What each command of `dapr-shared` takes. How they are used stands in [The command line](../command-line.md); "
        "the flags of `dapr-shared run` in [Flags](flags.md).\n"
    )
    parts = [head]
    shared: dict[str, tuple[str, str, str]] = {}
    for words, command in _commands(app, "dapr-shared"):
        rows: list[tuple[str, str, str]] = []
        for argument in command.assemble_argument_collection():
            row = _row(argument)
            if _ALL.isdisjoint(argument.names):
                rows.append(row)
            else:
                shared.setdefault(argument.names[0], row)
        flags = sorted({name for argument in command.assemble_argument_collection() for name in argument.names} & _ALL)
        parts.append(f"\n## {words}\n\n{command.help}\n")
        if rows:
            parts.append("\n" + table(("argument", "default", "meaning"), rows))
        if flags:
            parts.append(f"\nAlso {', '.join(f'`{flag}`' for flag in flags)}.\n")
    common = table(("flag", "default", "meaning"), [shared[name] for name in sorted(shared)])
    parts.insert(1, f"\n## Flags of many commands\n\n{common}")
    return "".join(parts)


def _commands(of: App, words: str) -> Iterator[tuple[str, App]]:
    named = [(name, of[name]) for name in of if not name.startswith("-") and name != "run"]
    for name, command in sorted(named, key=lambda one: (one[1].sort_key or 0, one[0])):
        below = [one for one in command if not one.startswith("-")]
        if below:
            yield from _commands(command, f"{words} {name}")
        else:
            yield f"{words} {name}", command


def _row(argument: Any) -> tuple[str, str, str]:
    flags = [name for name in argument.names if name.startswith("-") and not name.startswith("--no-")]
    positional = argument.field_info.kind.name != "KEYWORD_ONLY"
    word = argument.field_info.name.upper().replace("_", "-")
    names = ([word] if positional else []) + [f"`{name}`" for name in flags]
    default = argument.field_info.default
    if argument.required:
        shown = "required"
    elif default in ("", (), None) or default is argument.field_info.empty or default is False:
        shown = ""
    else:
        shown = f"`{default}`"
    return ", ".join(names), shown, argument.parameter.help or ""
