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
    from collections.abc import Mapping, Sequence

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
        """Flags given another value than their default that have no effect in this version, with their dashes."""
        self.run_file = ""
        """What `-f` names; only where a command line may name a run file."""
        self.command: tuple[str, ...] = ()
        """The app's command and its arguments, only where a command line may have one."""

    def settings(self, **defaults: Any) -> Settings:
        """The settings; `defaults` are for what was not given."""
        return Settings(**{**defaults, **self.values})


_SWITCHES = ("help", "version", "build-info", "wait")
RUN_FILE = "run-file"
SHORT_FLAGS = {
    "a": "app-id", "p": "app-port", "P": "app-protocol", "c": "config", "d": "resources-path", "f": RUN_FILE,
    "G": "dapr-grpc-port", "H": "dapr-http-port", "I": "dapr-internal-grpc-port", "k": "kubernetes",
    "M": "metrics-port", "u": "unix-domain-socket",
}  # fmt: skip
"""The short flags of `dapr run`."""


def _long(word: str, specs: Mapping[str, FlagSpec]) -> str:
    """The long form of a short flag: `-p 80`, `-p=80`, `-p80`. Of other words behind one dash nothing is guessed."""
    if word.startswith("--") or word[1:].partition("=")[0] in (*specs, *_SWITCHES, RUN_FILE):
        return word
    name = SHORT_FLAGS.get(word[1])
    if name is None or (word[2:] and word[2] != "=" and not word[2:].isdecimal()):
        return word
    value = word[2:].removeprefix("=")
    return f"--{name}={value}" if word[2:] else f"--{name}"


def parse(words: Sequence[str], *, as_dapr_run: bool = False) -> ParsedFlags:
    """Read a command line. Raises `UsageError`.

    `as_dapr_run`: with what `dapr run` takes beside daprd's flags: its short flags, `-f` with a run file, and behind
    the flags, or behind `--`, the command of the app.
    """
    specs = {spec.name: spec for spec in flags()}
    parsed = ParsedFlags()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-h":
            word = "--help"
        if not word.startswith("-") or word in ("-", "--"):
            if not as_dapr_run or word == "-":
                raise UsageError(f"unexpected argument {word!r}: only flags are taken here")
            parsed.command = tuple(rest) if word == "--" else (word, *rest)
            break
        if as_dapr_run:
            word = _long(word, specs)
        name, equals, value = word.lstrip("-").partition("=")
        given = value if equals else None
        if name in _SWITCHES:
            if given is None or _boolean(name, given):
                parsed.switches.add(name)
        elif not (as_dapr_run and _take_own(parsed, name, given, rest)):
            _take(parsed, name, given, rest, specs)
    return parsed


def _take_own(parsed: ParsedFlags, name: str, given: str | None, rest: list[str]) -> bool:
    """Take a flag of `dapr run` that is none of daprd's; false: it is not one of them."""
    if name == "kubernetes":
        raise UsageError(
            "-k (a run file on Kubernetes) is not supported: run without -k, or deploy the apps with App resources"
        )
    if name != RUN_FILE:
        return False
    if parsed.run_file:
        raise UsageError("-f is given twice: there is one run file, with all apps in it")
    parsed.run_file = given if given is not None else rest.pop(0) if rest else ""
    if not parsed.run_file:
        raise UsageError("-f needs the path of a run file, or of the directory that holds dapr.yaml")
    return True


def _take(parsed: ParsedFlags, name: str, given: str | None, rest: list[str], specs: Mapping[str, FlagSpec]) -> None:
    spec = specs.get(name)
    if spec is None:
        near = difflib.get_close_matches(name, [*specs, *_SWITCHES], n=1)
        raise UsageError(f"unknown flag: --{name}" + (f" (did you mean --{near[0]}?)" if near else ""))
    if given is None:
        if spec.flag.kind is FlagKind.BOOLEAN:
            given = "true"
        elif rest:
            given = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _set(parsed, spec, given)


def _set(parsed: ParsedFlags, spec: FlagSpec, text: str) -> None:
    value = _convert(spec, text)
    if spec.flag.kind is FlagKind.LIST:
        value = (*parsed.values.get(spec.attribute, ()), *value)
    if spec.flag.choices and value not in spec.flag.choices:
        raise UsageError(f"--{spec.name}: {text!r} is not one of {', '.join(spec.flag.choices)}")
    parsed.values[spec.attribute] = value
    if not spec.flag.effect and value != spec.default and f"--{spec.name}" not in parsed.without_effect:
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
                return _whole(text)
            case FlagKind.PORT:
                return _port(text)
            case FlagKind.DURATION:
                return parse_go_duration(text)
            case FlagKind.QUANTITY:
                return parse_quantity(text)
    except ValueError as error:
        raise UsageError(f"invalid argument {text!r} for --{spec.name}: {error}") from error


def _whole(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError as error:
        raise ValueError("expected a whole number") from error


def _port(text: str) -> int:
    if text == "":
        return 0
    port = _whole(text)
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
    as_dapr_run = command.endswith(" run")
    lines = [f"Usage: {command} [flags]", ""]
    extra: list[str] = []
    if as_dapr_run:
        lines[0] += " [-- COMMAND ARGUMENTS]"
        lines[1:1] = [f"       {command} -f PATH [flags]"]
        extra = [
            "Of the command line `dapr run`:",
            "  -f, --run-file text",
            "        Run file (or the directory of a dapr.yaml): start its apps and one instance for them all.",
            "  " + ", ".join(f"-{short} --{name}" for short, name in SHORT_FLAGS.items() if name != "kubernetes"),
            "        Short flags.",
            "",
        ]
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
        *extra,
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
