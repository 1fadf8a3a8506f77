"""YAML text to trees that know their lines, within bounds and as Dapr reads YAML.

Before both roads: the first step of loading. Built from the parser's events, without recursion, so that no input can
exhaust the stack; aliases are shared and what they would expand to is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import orjson
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DOCUMENTS = 10_000
MAX_DEPTH = 100
"""Collections inside each other, aliases expanded."""
MAX_NODES = 300_000
"""Values and collections in one file; enough for 10,000 apps."""
MAX_EXPANSION = 4 * 1024 * 1024
"""Characters that the aliases of one file may stand for, all together."""


class YamlError(ValueError):
    """The text is not YAML, or is more than the bounds allow."""

    def __init__(self, document: int, line: int, problem: str) -> None:
        super().__init__(problem)
        self.document = document
        self.line = line
        self.problem = problem


ScalarValue = str | int | float | bool | None


@dataclass(slots=True)
class ScalarNode:
    """A single value."""

    line: int
    text: str
    """As written, quotes and escapes undone."""
    value: ScalarValue
    """As YAML 1.1 reads it."""
    merges: bool = False
    """True: it is the merge key, `<<` without quotes."""
    weight: int = field(init=False)
    depth: int = 0

    def __post_init__(self) -> None:
        self.weight = len(self.text) + 1


@dataclass(slots=True)
class SequenceNode:
    """A list."""

    line: int
    items: list[Node]
    weight: int
    depth: int


@dataclass(slots=True)
class MappingNode:
    """A mapping with text keys, merge keys (`<<`) applied; of a key given twice the last counts, as in Dapr."""

    line: int
    entries: dict[str, Entry]
    repeated: list[tuple[str, int]]
    """Keys given again, with their lines."""
    weight: int
    depth: int


@dataclass(slots=True)
class Entry:
    """One key and its value."""

    line: int
    node: Node


Node = ScalarNode | SequenceNode | MappingNode


@dataclass(slots=True)
class Document:
    """One document of a file."""

    number: int
    """From 1."""
    line: int
    """Line of its first content, from 1."""
    root: Node


def documents(content: bytes) -> Iterator[Document]:
    """The documents of a file, in order. Raises `YamlError`; what came before the error has been given by then."""
    builder = _Builder()
    try:
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            document = builder.take(event)
            if document is not None:
                yield document
    except yaml.reader.ReaderError as error:
        position = cast("int", error.position)
        line = content.count(b"\n", 0, position) + 1
        raise YamlError(builder.number or 1, line, f"is not valid YAML: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, content, builder.number or 1) from error


def _syntax_error(error: yaml.MarkedYAMLError, content: bytes, document: int) -> YamlError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return YamlError(document, 0, "is not valid YAML")
    lines = content.splitlines()
    text = lines[mark.line] if mark.line < len(lines) else b""
    problem = f"is not valid YAML: {error.problem}"
    if text[: mark.column + 1].lstrip(b" ").startswith(b"\t"):
        problem = "is not valid YAML: a tab in the indentation; use spaces"
    elif error.context:
        since = error.context_mark
        problem += f", {error.context}" + (f" that began in line {since.line + 1}" if since else "")
    return YamlError(document, mark.line + 1, problem)


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "children", "is_mapping", "line")

    def __init__(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        self.is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.anchor = event.anchor
        self.line = line
        self.children: list[Node] = []


class _Builder:
    """Makes documents of the parser's events."""

    def __init__(self) -> None:
        self.number = 0
        self._nodes = 0
        self._expansion = 0
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None

    def take(self, event: yaml.Event) -> Document | None:
        """Take the next event; the end of a document gives it."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.ScalarEvent():
                self._add(_scalar(event, line), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(self._open) >= MAX_DEPTH:
                    raise self._error(line, f"is nested more than {MAX_DEPTH} levels deep")
                self._open.append(_Open(event, line))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                ended = self._open.pop()
                self._add(self._mapping(ended) if ended.is_mapping else _sequence(ended), ended.anchor)
            case yaml.AliasEvent():
                self._alias(cast("str", event.anchor), line)
            case yaml.DocumentStartEvent():
                self.number += 1
                if self.number > MAX_DOCUMENTS:
                    raise self._error(line, f"has more than {MAX_DOCUMENTS} documents")
            case yaml.DocumentEndEvent():
                root, self._root = self._root, None
                self._anchors.clear()
                return Document(self.number, root.line, root) if root is not None else None
            case _:
                pass
        return None

    def _add(self, node: Node, anchor: str | None) -> None:
        if node.depth > MAX_DEPTH:
            raise self._error(node.line, f"is nested more than {MAX_DEPTH} levels deep")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(node.line, f"has more than {MAX_NODES} values")
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node

    def _alias(self, name: str, line: int) -> None:
        node = self._anchors.get(name)
        if node is None:
            raise self._error(line, f"uses the alias *{name} before the end of what &{name} names, or without it")
        self._expansion += node.weight
        if self._expansion > MAX_EXPANSION:
            raise self._error(line, f"has aliases that stand for more than {MAX_EXPANSION} characters")
        self._add(node, None)

    def _mapping(self, ended: _Open) -> MappingNode:
        entries: dict[str, Entry] = {}
        merged: list[MappingNode] = []
        repeated: list[tuple[str, int]] = []
        for key, value in zip(ended.children[::2], ended.children[1::2], strict=True):
            if not isinstance(key, ScalarNode) or key.value is None:
                raise self._error(key.line, "has a mapping key that is not a text")
            if key.merges:
                merged += self._to_merge(key, value)
                continue
            name = key.value if isinstance(key.value, str) else json_text(key.value)
            if name in entries:
                repeated.append((name, key.line))
            entries[name] = Entry(key.line, value)
        for source in merged:
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        weight = 1 + sum(child.weight for child in ended.children)
        depth = 1 + max((child.depth for child in ended.children), default=0)
        return MappingNode(ended.line, entries, repeated, weight, depth)

    def _to_merge(self, key: ScalarNode, value: Node) -> list[MappingNode]:
        sources = value.items if isinstance(value, SequenceNode) else [value]
        mappings = [source for source in sources if isinstance(source, MappingNode)]
        if len(mappings) != len(sources):
            raise self._error(key.line, "has a merge key << whose value is not a mapping or a list of mappings")
        return mappings

    def _error(self, line: int, problem: str) -> YamlError:
        return YamlError(self.number, line, problem)


def _sequence(ended: _Open) -> SequenceNode:
    weight = 1 + sum(child.weight for child in ended.children)
    depth = 1 + max((child.depth for child in ended.children), default=0)
    return SequenceNode(ended.line, ended.children, weight, depth)


# Scalars -----------------------------------------------------------------------------------------------------------
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TYPED_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null"))
_LONGEST_INTEGER = 70


def _scalar(event: yaml.ScalarEvent, line: int) -> ScalarNode:
    plain = event.implicit[0] if event.tag is None else event.tag in _TYPED_TAGS
    return ScalarNode(
        line, event.value, plain_value(event.value) if plain else event.value, plain and event.value == "<<"
    )


def plain_value(text: str) -> ScalarValue:
    """What an unquoted scalar means.

    YAML 1.1 as Dapr's parser has it: `y`, `yes` and `on` are true, `0x1F`, `0b1`, `017` and `1_000` whole numbers;
    but dates and base 60 (`12:30`) are text. So are `.inf` and `.nan`, which JSON does not have.
    """
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "+-.0123456789":
        return text
    return _number(text if text[0] == "." else text.replace("_", ""), text)


def _number(digits: str, text: str) -> str | int | float:
    if len(digits) <= _LONGEST_INTEGER and _INTEGER.fullmatch(digits):
        unsigned = digits.lstrip("+-")
        octal = len(unsigned) > 1 and unsigned[0] == "0" and unsigned[1].isdigit()
        number = int(unsigned, 8 if octal else 0) * (-1 if digits[0] == "-" else 1)
        if -(2**63) <= number < 2**64:
            return number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        if value not in (float("inf"), float("-inf")):
            return value
    return text


def json_text(value: Any) -> str:
    """The text that Dapr makes of a YAML value: a text as it is, nothing as empty, all else its JSON text.

    Numbers are written as Go does (`1.0` → `1`, `1e-05` → `0.00001`), mappings with sorted keys.
    """
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float_text(value)
        case _:
            return orjson.dumps(_without_whole_floats(value), option=orjson.OPT_SORT_KEYS).decode()


_LARGEST_WRITTEN_OUT = 1e21
_SMALLEST_WRITTEN_OUT = 1e-6


def _float_text(value: float) -> str:
    size = abs(value)
    if value == 0 or _SMALLEST_WRITTEN_OUT <= size < _LARGEST_WRITTEN_OUT:
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0")
    return re.sub(r"e([-+])0", r"e\1", repr(value))


def _without_whole_floats(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_whole_floats(item) for key, item in cast("dict[str, Any]", value).items()}
        case list():
            return [_without_whole_floats(item) for item in cast("list[Any]", value)]
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case _:
            return value


def plain_data(node: Node) -> Any:
    """The node as plain JSON-able data. Depth and size are bounded by the reading."""
    match node:
        case ScalarNode():
            return node.value
        case SequenceNode():
            return [plain_data(item) for item in node.items]
        case MappingNode():
            return {name: plain_data(entry.node) for name, entry in node.entries.items()}


def node_of(data: Any, *, document: int = 1, depth: int = 0) -> Node:
    """The tree of plain JSON-able data, such as an object of the Kubernetes API; it has no lines.

    Raises `YamlError` if it is nested too deep. `depth` is for the recursion.
    """
    if depth > MAX_DEPTH:
        raise YamlError(document, 0, f"is nested more than {MAX_DEPTH} levels deep")

    def inner(value: Any) -> Node:
        return node_of(value, document=document, depth=depth + 1)

    match data:
        case int() if not -(2**63) <= data < 2**64:
            return ScalarNode(0, json_text(float(data)), float(data))
        case dict():
            pairs = cast("dict[Any, Any]", data).items()
            entries = {str(name): Entry(0, inner(value)) for name, value in pairs}
            return MappingNode(0, entries, [], 0, 0)
        case list() | tuple():
            return SequenceNode(0, [inner(item) for item in cast("list[Any]", data)], 0, 0)
        case _:
            return ScalarNode(0, json_text(data), data)
