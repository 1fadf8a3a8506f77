"""Reading typed fields from a tree, so that every wrong one is reported with its line, and reading goes on.

Before both roads: between the YAML tree and the decoding of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from dapr_shared.resources.documents import Entry, MappingNode, Node, ScalarNode, SequenceNode, json_text, plain_data
from dapr_shared.resources.errors import Notice, ResourceError, did_you_mean
from dapr_shared.resources.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 60
_MOST_A_DOCUMENT = 100


@dataclass(slots=True)
class Report:
    """What was found wrong while one document is read."""

    file: str
    document: int
    errors: list[ResourceError] = field(default_factory=list[ResourceError])
    notices: list[Notice] = field(default_factory=list[Notice])

    def origin(self, line: int) -> Origin:
        """A line of this document."""
        return Origin(self.file, self.document, line)

    def error(self, line: int, path: str, problem: str) -> None:
        """Report an error. After a hundred of one document, more are dropped."""
        if len(self.errors) < _MOST_A_DOCUMENT:
            self.errors.append(ResourceError(self.origin(line), path, problem))

    def notice(self, line: int, path: str, problem: str) -> None:
        """Report something that stops nothing. After a hundred of one document, more are dropped."""
        if len(self.notices) < _MOST_A_DOCUMENT:
            self.notices.append(Notice(self.origin(line), path, problem))


class Fields:
    """The fields of one mapping.

    Every method reads one field, reports what is wrong with it and answers with the default then, so that one look
    finds all errors. `null` is the same as absent. `finish` reports the fields that nobody asked for.

    Two manners. Strict, for our own kind: names and types are exact, an unknown field is an error. Lenient, for Dapr's
    kinds, as Go's decoder reads them: names ignore case, a number or a truth value in place of a text is its text, an
    unknown field is a notice. `exact`: lenient, but names keep their case, as in files that Dapr's command line reads.
    """

    __slots__ = ("_entries", "_exact", "_known", "_lenient", "_present", "line", "path", "report")

    def __init__(
        self,
        report: Report,
        node: Node | None,
        path: str = "",
        *,
        lenient: bool,
        exact: bool = False,
        line: int = 0,
    ) -> None:
        self.report = report
        self.path = path
        self.line = line or (node.line if node is not None else 0)
        self._lenient = lenient
        self._exact = exact or not lenient
        self._known: list[str] = []
        self._entries: dict[str, tuple[str, Entry]] = {}
        self._present = isinstance(node, MappingNode)
        if isinstance(node, MappingNode):
            for name, line_again in node.repeated:
                self._tell(line_again, self._at(name), "is given twice in one mapping", error=not lenient)
            self._entries = {self._key(name): (name, e) for name, e in node.entries.items()}
        elif not _absent(node):
            report.error(self.line, path, f"expected a mapping, found {_kind(node)}")

    def __bool__(self) -> bool:
        return self._present

    # Reading ---------------------------------------------------------------------------------------------------
    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._get(name) is not None

    def is_text(self, name: str) -> bool:
        """Whether the field is a single value that is a text."""
        node = self._get(name)
        return isinstance(node, ScalarNode) and isinstance(node.value, str)

    def line_of(self, name: str) -> int:
        """The line of the field, or of the mapping where it would be."""
        found = self._entries.get(self._key(name))
        return found[1].line if found else self.line

    def text(self, name: str, default: str = "", *, required: bool = False, secret: bool = False) -> str:
        """A text. `secret`: its value is not shown in errors."""
        node = self._get(name)
        if node is None:
            if required:
                self.wrong(name, "is required: a text")
            return default
        if not isinstance(node, ScalarNode) or not (isinstance(node.value, str) or self._lenient):
            hint = "; put it in quotes" if isinstance(node, ScalarNode) else ""
            self.wrong(name, f"expected a text, found {_found(node, secret=secret)}{hint}")
            return default
        text = json_text(node.value)
        if required and not text:
            self.wrong(name, "is required: a text that is not empty")
        return text

    def any_value(self, name: str) -> str | None:
        """Any value as text, by Dapr's rule for metadata values (`documents.json_text`); `None`: absent."""
        node = self._get(name)
        return None if node is None else json_text(plain_data(node))

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """`true` or `false`."""
        node = self._get(name)
        if node is None:
            return default
        if not isinstance(node, ScalarNode) or not isinstance(node.value, bool):
            self.wrong(name, f"expected true or false, found {_found(node)}")
            return default
        return node.value

    def integer(self, name: str, default: int = 0, *, minimum: int, maximum: int = 2**31 - 1) -> int:
        """A whole number within the bounds."""
        node = self._get(name)
        if node is None:
            return default
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            self.wrong(name, f"expected a whole number from {minimum} to {maximum}, found {_found(node)}")
            return default
        return value

    def number(self, name: str, default: float, *, above: float, maximum: float) -> float:
        """A number greater than `above` and not greater than `maximum`."""
        node = self._get(name)
        if node is None:
            return default
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not above < value <= maximum:
            self.wrong(name, f"expected a number above {above:g}, at most {maximum:g}, found {_found(node)}")
            return default
        return float(value)

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """One of some texts; lenient: in any case of letters."""
        text = self.text(name, default)
        known = list(choices)
        found = next((choice for choice in known if self._folded(choice) == self._folded(text)), None)
        if found is not None:
            return found
        self.wrong(name, f"expected one of {', '.join(known)}, found {_quoted(text)}{did_you_mean(text, known)}")
        return default

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        result: list[str] = []
        for index, node in enumerate(self._items(name)):
            value = node.value if isinstance(node, ScalarNode) else None
            if isinstance(value, str):
                result.append(value)
            elif self._lenient and value is not None:
                result.append(json_text(value))
            else:
                self.report.error(node.line, f"{self._at(name)}[{index}]", f"expected a text, found {_found(node)}")
        return tuple(result)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        result: list[int] = []
        for index, node in enumerate(self._items(name)):
            value = node.value if isinstance(node, ScalarNode) else None
            if isinstance(value, int) and not isinstance(value, bool):
                result.append(value)
            else:
                place = f"{self._at(name)}[{index}]"
                self.report.error(node.line, place, f"expected a whole number, found {_found(node)}")
        return tuple(result)

    def text_map(self, name: str) -> dict[str, str]:
        """A mapping of texts to texts; its keys are data and keep their case."""
        node = self._get(name)
        if not isinstance(node, MappingNode):
            self.raw(name)
            return {}
        texts: dict[str, str] = {}
        for key, entry in node.entries.items():
            if isinstance(entry.node, ScalarNode) and (self._lenient or isinstance(entry.node.value, str)):
                texts[key] = json_text(entry.node.value)
            else:
                place = f"{self._at(name)}.{key[:_SHOWN]}"
                self.report.error(entry.line, place, f"expected a text, found {_kind(entry.node)}")
        return texts

    def words(self, name: str) -> tuple[str, ...]:
        """A list of single values, each as it is written: `8080` and `1.10` stay what they are."""
        result: list[str] = []
        for index, node in enumerate(self._items(name)):
            if isinstance(node, ScalarNode) and node.value is not None:
                result.append(node.text)
            else:
                self.report.error(node.line, f"{self._at(name)}[{index}]", f"expected a text, found {_found(node)}")
        return tuple(result)

    def words_by_name(self, name: str) -> dict[str, str]:
        """A mapping of names to single values, each as it is written; nothing is an empty text."""
        node = self._get(name)
        if not isinstance(node, MappingNode):
            self.raw(name)
            return {}
        result: dict[str, str] = {}
        for key, entry in node.entries.items():
            if isinstance(entry.node, ScalarNode):
                result[key] = "" if entry.node.value is None else entry.node.text
            else:
                place = f"{self._at(name)}.{key[:_SHOWN]}"
                self.report.error(entry.line, place, f"expected a text, found {_kind(entry.node)}")
        return result

    def section(self, name: str) -> Fields:
        """The mapping under a name; without fields if it is absent."""
        node = self._get(name)
        line = self.line_of(name)
        return Fields(self.report, node, self._at(name), lenient=self._lenient, exact=self._exact, line=line)

    def sections(self, name: str) -> list[Fields]:
        """A list of mappings."""
        result: list[Fields] = []
        for index, node in enumerate(self._items(name)):
            place = f"{self._at(name)}[{index}]"
            if isinstance(node, MappingNode):
                result.append(Fields(self.report, node, place, lenient=self._lenient, exact=self._exact))
            else:
                self.report.error(node.line, place, f"expected a mapping, found {_kind(node)}")
        return result

    def raw(self, name: str) -> dict[str, Any]:
        """The mapping under a name as plain data; its own fields are not looked at."""
        node = self._get(name)
        if isinstance(node, MappingNode):
            data: dict[str, Any] = plain_data(node)
            return data
        if node is not None:
            self.wrong(name, f"expected a mapping, found {_kind(node)}")
        return {}

    # Telling ---------------------------------------------------------------------------------------------------
    def wrong(self, name: str, problem: str) -> None:
        """Report an error of a field; an empty name means the mapping itself."""
        if name:
            self.report.error(self.line_of(name), self._at(name), problem)
        else:
            self.report.error(self.line, self.path, problem)

    def notice(self, name: str, problem: str) -> None:
        """Report something that stops nothing."""
        self.report.notice(self.line_of(name), self._at(name), problem)

    def known(self, *names: str) -> None:
        """Say that these fields are known though nobody reads them."""
        self._known += names

    def finish(self) -> None:
        """Report the fields that no method was asked for. The last call on this object."""
        known = {self._key(name) for name in self._known}
        unknown = (found for key, found in self._entries.items() if key not in known)
        for name, entry in islice(unknown, _MOST_A_DOCUMENT):
            problem = f"unknown field{did_you_mean(name, self._known)}"
            self._tell(entry.line, self._at(name), problem, error=not self._lenient)

    def _tell(self, line: int, path: str, problem: str, *, error: bool) -> None:
        (self.report.error if error else self.report.notice)(line, path, problem)

    # Looking ---------------------------------------------------------------------------------------------------
    def _key(self, name: str) -> str:
        return name if self._exact else name.casefold()

    def _folded(self, text: str) -> str:
        return text.casefold() if self._lenient else text

    def _at(self, name: str) -> str:
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
        return f"{self.path}.{shown}" if self.path else shown

    def _get(self, name: str) -> Node | None:
        if name not in self._known:
            self._known.append(name)
        found = self._entries.get(self._key(name))
        return None if found is None or _absent(found[1].node) else found[1].node

    def _items(self, name: str) -> list[Node]:
        node = self._get(name)
        if isinstance(node, SequenceNode):
            return node.items
        if node is not None:
            self.wrong(name, f"expected a list, found {_kind(node)}")
        return []


def _absent(node: Node | None) -> bool:
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


def _kind(node: Node | None) -> str:
    """What a node is, without its value: that might be a secret in the wrong place."""
    match node:
        case MappingNode():
            return "a mapping"
        case SequenceNode():
            return "a list"
        case ScalarNode(value=str()):
            return "a text"
        case ScalarNode(value=bool()):
            return "true or false"
        case ScalarNode(value=int() | float()):
            return "a number"
        case _:
            return "nothing"


def _found(node: Node, *, secret: bool = False) -> str:
    if secret or not isinstance(node, ScalarNode) or node.value is None:
        return _kind(node)
    if isinstance(node.value, str):
        return _quoted(node.value)
    if isinstance(node.value, bool):
        meaning = "true" if node.value else "false"
        return meaning if node.text == meaning else f"{node.text}, which means {meaning} in YAML"
    return f"the number {node.text[:_SHOWN]}"


def _quoted(text: str) -> str:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return '"' + shown.encode("unicode_escape").decode("ascii") + '"' if not shown.isprintable() else f'"{shown}"'
