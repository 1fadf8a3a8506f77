"""The reference pages of the chart: its values, from the comments of its values.yaml, and the rights that its roles give.

A comment that begins with `# --` says what the key below it means; further comment lines go on with it. A key without one
of its own must be a mapping whose keys have theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from reference_tables import table

from dapr_shared.core.rights import RIGHTS, ChartRole, Right

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


_ROLES = {
    ChartRole.WATCHED: "A Role in each namespace of `shared.watchNamespaces`, by default the release's own. It is called as the "
    "release's objects are (`my-dapr-shared-chart`), in other namespaces `my-dapr-shared-chart:shop:watch`, with the release's "
    'namespace in the middle. With `["*"]` it is a ClusterRole of that name. For one app it has the verbs on Dapr\'s resources '
    "alone, without Configurations.",
    ChartRole.SECRETS: "A Role in each namespace of `shared.secrets.namespaces`, by default those that are watched: "
    "`my-dapr-shared-chart-secrets`, elsewhere `my-dapr-shared-chart:shop:secrets`. With `shared.secrets.names` it is for these "
    "alone, and for those that `apps` name; without, for any Secret whose name the runtime knows.",
    ChartRole.OWN: "A Role in the release's namespace, `my-dapr-shared-chart-own`, where one of its rows is needed.",
    ChartRole.TOKENS: "A ClusterRole, `my-dapr-shared-chart:shop:tokens`, with `shared.identity.serviceAccountAudience` alone.",
}


_RIGHTS = (
    "# Rights of the runtime\n\n"
    "Every verb that the chart's roles give the runtime's service account, and what does not work without it; everything else "
    "goes on. A row is there where its values ask for it: the roles of a release have only what it needs, which a test proves "
    "at a real API server, verb by verb. What is told of a missing one, and when it is tried again: "
    "[a verb is missing](troubleshooting.md#a-verb-is-missing). Names are those of a release `my` in the namespace `shop`.\n"
)


def rights_page() -> str:
    """Every verb of every role."""
    parts = [_RIGHTS]
    for role, text in _ROLES.items():
        rows = [_row(right) for right in RIGHTS if right.role is role]
        head = ("verb", "resource", "what needs it", "without it", "values")
        parts.append(f"\n## Role {role}\n\n{text}\n\n{table(head, rows)}")
    return "".join(parts)


def _row(right: Right) -> Sequence[str]:
    group = f".{right.group}" if right.group else ""
    names = (plural + group + "".join(more) for plural, *more in map(_split, right.resources))
    return right.verb, _code(names), right.use, right.without, _code(right.values)


def _split(resource: str) -> Sequence[str]:
    """`apps/status` is written `apps.shared.dapr.io/status`; a path stays one."""
    plural, slash, subresource = resource.partition("/")
    return (plural, slash, subresource) if plural else (resource,)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


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
