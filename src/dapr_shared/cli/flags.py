"""Reading flags the way daprd reads them (reference daprd-flags §1).

Before both roads: words become `Settings`. A long flag may have one dash; `--flag value` and `--flag=value` are the
same; a boolean stands alone or with `=false`; lists are separated by commas, repeated, or both.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from dapr_shared.core.durations import parse_go_duration, parse_quantity
from dapr_shared.runtime.settings import FlagKind, FlagSpec, Settings, flags

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE = frozenset({"1", "t", "true", "T", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "false", "F", "FALSE", "False"})
_MAX_PORT = 65535


class UsageError(Exception):
    """Words that are no flags of ours: usage and exit code 2."""


class ParsedFlags:
    """What a command line says."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.switches: set[str] = set()
        """Flags that do something instead of running: `help`, `version`, `build-info`, `wait`."""
        self.without_effect: list[str] = []
        """Given flags that have no effect in this version, with their dashes."""

    def settings(self, **defaults: Any) -> Settings:
        """The settings; `defaults` are for what was not given."""
        return Settings(**{**defaults, **self.values})


_SWITCHES = ("help", "version", "build-info", "wait")


def parse(words: Sequence[str]) -> ParsedFlags:
    """Read a command line. Raises `UsageError`."""
    specs = {spec.name: spec for spec in flags()}
    parsed = ParsedFlags()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-h":
            word = "--help"
        if not word.startswith("-") or word in ("-", "--"):
            raise UsageError(f"unexpected argument {word!r}: only flags are taken here")
        name, equals, value = word.lstrip("-").partition("=")
        if name in _SWITCHES:
            if not equals or _boolean(name, value):
                parsed.switches.add(name)
            continue
        spec = specs.get(name)
        if spec is None:
            near = difflib.get_close_matches(name, [*specs, *_SWITCHES], n=1)
            raise UsageError(f"unknown flag: --{name}" + (f" (did you mean --{near[0]}?)" if near else ""))
        if not equals:
            if spec.flag.kind is FlagKind.BOOLEAN:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: --{name}")
        _take(parsed, spec, value)
    return parsed


def _take(parsed: ParsedFlags, spec: FlagSpec, text: str) -> None:
    value = _convert(spec, text)
    if spec.flag.kind is FlagKind.LIST:
        value = (*parsed.values.get(spec.attribute, ()), *value)
    if spec.flag.choices and value not in spec.flag.choices:
        raise UsageError(f"--{spec.name}: {text!r} is not one of {', '.join(spec.flag.choices)}")
    parsed.values[spec.attribute] = value
    if not spec.flag.effect and f"--{spec.name}" not in parsed.without_effect:
        parsed.without_effect.append(f"--{spec.name}")


def _convert(spec: FlagSpec, text: str) -> Any:  # noqa: PLR0911 - one for each kind
    try:
        match spec.flag.kind:
            case FlagKind.TEXT:
                return text
            case FlagKind.LIST:
                return tuple(part for part in text.split(",") if part)
            case FlagKind.BOOLEAN:
                return _boolean(spec.name, text)
            case FlagKind.INTEGER:
                return int(text, 10)
            case FlagKind.PORT:
                return _port(text)
            case FlagKind.DURATION:
                return parse_go_duration(text)
            case FlagKind.QUANTITY:
                return parse_quantity(text)
    except ValueError as error:
        raise UsageError(f"invalid argument {text!r} for --{spec.name}: {error}") from error


def _port(text: str) -> int:
    if text == "":
        return 0
    port = int(text, 10)
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"a port is between 0 and {_MAX_PORT}")
    return port


def _boolean(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UsageError(f"invalid argument {text!r} for --{name}: use true or false")


def help_text(command: str) -> str:
    """The flags with their meaning and default, Dapr's first."""
    lines = [f"Usage: {command} [flags]", ""]
    for own, title in ((False, "Flags of daprd"), (True, "Flags of dapr-shared")):
        lines.append(f"{title}:")
        for spec in flags():
            if spec.flag.own != own:
                continue
            note = "" if spec.flag.effect else " (no effect in this version)"
            default = _shown_default(spec)
            lines.append(f"  --{spec.name} {spec.flag.kind.value}")
            lines.append(f"        {spec.flag.doc}{f' Default: {default}.' if default else ''}{note}")
        lines.append("")
    lines += [
        "Other:",
        "  --help        this text",
        "  --version     the version",
        "  --build-info  version and build",
        "  --wait        wait at most 60 s until the instance on --dapr-http-port is ready",
    ]
    return "\n".join(lines)


def _shown_default(spec: FlagSpec) -> str:
    if spec.default in ((), "", None):
        return ""
    if isinstance(spec.default, bool):
        return str(spec.default).lower()
    return str(spec.default)
