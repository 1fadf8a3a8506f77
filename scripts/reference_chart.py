"""The reference page of the chart's values, from the comments of its values.yaml.

A comment that begins with `# --` says what the key below it means; further comment lines go on with it. A key without one
of its own must be a mapping whose keys have theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from reference_tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VALUES = Path(__file__).resolve().parent.parent / "chart" / "dapr-shared" / "values.yaml"
_MARK = "# -- "
_LONGEST_DEFAULT = 60


class UndocumentedValueError(Exception):
    """A key of values.yaml says nowhere what it means."""


def values_page() -> str:
    """All values of the chart."""
    rows = list(_rows(VALUES.read_text(encoding="utf-8")))
    return (
        "# Values of the chart\n\n"
        "What `helm install` takes, from the comments of `chart/dapr-shared/values.yaml`. The names below `shared`, and "
        "those above it, are those of the existing chart where it has them; what differs in defaults is on "
        "[from the existing chart](from-the-existing-chart.md).\n\n"
        f"{table(('value', 'default', 'meaning'), rows)}"
    )


def _rows(text: str) -> Iterator[Sequence[str]]:
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        raise TypeError("values.yaml is not a mapping")
    yield from _below(document, "", text.splitlines())


def _below(node: yaml.MappingNode, place: str, lines: Sequence[str]) -> Iterator[Sequence[str]]:
    for key, value in node.value:
        name = f"{place}{key.value}"
        meaning = _meaning(lines, key.start_mark.line)
        if meaning:
            yield f"`{name}`", _default(value), meaning
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _below(value, f"{name}.", lines)
        else:
            raise UndocumentedValueError(f"{VALUES.name}, line {key.start_mark.line + 1}: {name} lacks its `{_MARK}`")


def _meaning(lines: Sequence[str], line: int) -> str:
    """The comment just above a line, if it has the mark."""
    said: list[str] = []
    for above in reversed(lines[:line]):
        text = above.strip()
        if text.startswith(_MARK):
            return " ".join([text.removeprefix(_MARK), *said])
        if not text.startswith("#"):
            break
        said.insert(0, text.removeprefix("#").strip())
    return ""


def _default(node: yaml.Node) -> str:
    value = yaml.SafeLoader("").construct_object(node, deep=True)
    if value in ("", [], {}, None):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see values.yaml"
