"""Typed settings of components: one annotated field feeds decoding, the error for a wrong value and the documentation.

The conversions are Dapr's (reference components §0): names ignore case, values are strings in the end, a boolean that
is not one of Dapr's words for true is false, a bare number of a duration means seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from dapr_shared.core.durations import parse_duration, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TRUE_WORDS = frozenset({"y", "yes", "true", "t", "on", "1"})


class Kind(Enum):
    """How the text of a value is read."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DURATION = "duration"
    """Seconds as `float`, from a Go duration or a bare number of seconds."""
    MILLISECONDS = "milliseconds"
    """Seconds as `float`, from a Go duration or a bare number of milliseconds; as Redis components read most times."""
    BYTES = "bytes"
    """Bytes as `int`, from a Kubernetes quantity such as `100Mi`."""
    LIST = "list"
    """Texts between commas, not trimmed, as `tuple[str, ...]`."""
    ALL = "all"
    """The whole metadata as it was given, as `dict[str, str]`, whatever the field's name: for who passes it on."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The annotation of one field."""

    doc: str
    kind: Kind = Kind.TEXT
    name: str = ""
    """Name in the component's metadata; by default the field's name in camelCase."""
    aliases: tuple[str, ...] = ()
    """Other names, used when the main one is absent; the first present one wins."""
    secret: bool = False
    """True: the value never appears in a log, an error or an answer."""
    unit: str = ""
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    example: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all settings. Each field is `Annotated[type, Setting(...)]`; one without a default is required.

    The text form shows no secret.
    """

    def __repr__(self) -> str:
        shown = (
            f"{spec.attribute}={'…' if spec.setting.secret else repr(getattr(self, spec.attribute))}"
            for spec in fields_of(type(self))
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class SettingError(ValueError):
    """A wrong or missing value. The message names the field and what was expected, never a secret value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a settings class, as decoding and the documentation read it."""

    attribute: str
    name: str
    setting: Setting
    required: bool
    default: Any


T = TypeVar("T", bound=Settings)


def fields_of(settings_type: type[Settings]) -> list[FieldSpec]:
    """The fields of a settings class, in order. Raises `TypeError` for a field without a `Setting`."""
    hints = get_type_hints(settings_type, include_extras=True)
    specs: list[FieldSpec] = []
    for info in msgspec.structs.fields(settings_type):
        hint = hints[info.name]
        annotation = (
            next((a for a in get_args(hint) if isinstance(a, Setting)), None) if get_origin(hint) is Annotated else None
        )
        if annotation is None:
            raise TypeError(f"{settings_type.__name__}.{info.name} has no Setting annotation")
        head, *rest = info.name.split("_")
        name = annotation.name or head + "".join(part.capitalize() for part in rest)
        default = info.default if info.default is not msgspec.NODEFAULT else None
        specs.append(FieldSpec(info.name, name, annotation, info.required, default))
    return specs


def decode_settings(settings_type: type[T], metadata: Mapping[str, str]) -> T:
    """Make settings from a component's metadata.

    Raises `SettingError` for a wrong or missing value and for two names that differ only in case. Names that no field
    has are ignored, as Dapr ignores them; `unknown_names` lists them for `validate`.
    """
    by_name: dict[str, tuple[str, str]] = {}
    for name, value in metadata.items():
        folded = name.casefold()
        if folded in by_name:
            raise SettingError(name, f"given twice: also as {by_name[folded][0]!r} (names ignore case)")
        by_name[folded] = (name, value)
    values: dict[str, Any] = {}
    for spec in fields_of(settings_type):
        if spec.setting.kind is Kind.ALL:
            values[spec.attribute] = dict(metadata)
            continue
        given = next(
            (by_name[n.casefold()] for n in (spec.name, *spec.setting.aliases) if n.casefold() in by_name), None
        )
        if given is None:
            if spec.required:
                raise SettingError(spec.name, f"is required: {spec.setting.doc}")
            continue
        values[spec.attribute] = _convert(spec.setting, given[0], given[1])
    return settings_type(**values)


def setting_problems(
    settings_type: type[Settings], metadata: Mapping[str, str], withheld: Collection[str] = ()
) -> list[SettingError]:
    """Everything that `decode_settings` would refuse, not the first alone: for `validate`.

    `withheld`: names whose values are not known here (a secret, a variable); they count as given and right.
    """
    problems: list[SettingError] = []
    by_name: dict[str, tuple[str, str]] = {}
    for name, value in metadata.items():
        folded = name.casefold()
        if folded in by_name:
            problems.append(SettingError(name, f"given twice: also as {by_name[folded][0]!r} (names ignore case)"))
        by_name.setdefault(folded, (name, value))
    unknown = {name.casefold() for name in withheld}
    for spec in fields_of(settings_type):
        names = [name.casefold() for name in (spec.name, *spec.setting.aliases)]
        if not unknown.isdisjoint(names):
            continue
        given = next((by_name[name] for name in names if name in by_name), None)
        if given is None:
            if spec.required:
                problems.append(SettingError(spec.name, f"is required: {spec.setting.doc}"))
            continue
        try:
            _convert(spec.setting, given[0], given[1])
        except SettingError as error:
            problems.append(error)
    return problems


def unknown_names(settings_type: type[Settings], metadata: Mapping[str, str]) -> list[str]:
    """The names in `metadata` that the settings class does not know, in order."""
    if any(spec.setting.kind is Kind.ALL for spec in fields_of(settings_type)):
        return []
    known = {n.casefold() for spec in fields_of(settings_type) for n in (spec.name, *spec.setting.aliases)}
    return [name for name in metadata if name.casefold() not in known]


def _convert(setting: Setting, name: str, text: str) -> object:  # noqa: C901 - a case for each kind
    shown = "a value (not shown: secret)" if setting.secret else repr(text)
    value: object = text
    try:
        match setting.kind:
            case Kind.TEXT | Kind.ALL:
                pass
            case Kind.BOOLEAN:
                value = text.strip().lower() in TRUE_WORDS
            case Kind.INTEGER:
                value = int(text.strip(), 10)
            case Kind.DURATION:
                value = parse_duration(text.strip())
            case Kind.MILLISECONDS:
                value = _milliseconds(text.strip())
            case Kind.BYTES:
                value = parse_quantity(text.strip())
            case Kind.LIST:
                value = tuple(text.split(",")) if text else ()
    except ValueError as error:
        raise SettingError(name, f"expected {_EXPECTED[setting.kind]}, found {shown}") from error
    if setting.minimum is not None and isinstance(value, int | float) and value < setting.minimum:
        raise SettingError(name, f"must be at least {setting.minimum:g}, found {shown}")
    if setting.choices and value not in setting.choices:
        raise SettingError(name, f"must be one of {', '.join(setting.choices)}, found {shown}")
    return value


def _milliseconds(text: str) -> float:
    """Seconds; a bare number is one of milliseconds. Raises `ValueError`."""
    return parse_duration(text) / (1000 if text.lstrip("+-").isdecimal() else 1)


_EXPECTED = {
    Kind.TEXT: "a text",
    Kind.BOOLEAN: "true or false",
    Kind.INTEGER: "a whole number",
    Kind.DURATION: "a duration such as 30s, 1m30s or a number of seconds",
    Kind.MILLISECONDS: "a duration such as 30s, 1m30s or a number of milliseconds",
    Kind.BYTES: "a size such as 512Ki or 4Mi",
    Kind.LIST: "texts between commas",
    Kind.ALL: "names and texts",
}
