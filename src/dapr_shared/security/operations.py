"""Operations of an access control policy, and the one that a call matches.

Step 3 of the request road. A trie over the segments of paths: how long a search takes depends on the policy, never on
what a caller sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(slots=True)
class Operation:
    """What a policy says about one operation."""

    action: bool
    """For apps that speak gRPC, where verbs have no meaning. True: allow."""
    verbs: dict[str, bool]
    """For HTTP apps, by the verb in capitals, or `*` for every other one. True: allow."""

    def merge(self, verbs: Mapping[str, bool]) -> None:
        """Add the verbs of a second entry for the same operation; what was said first stays."""
        for verb, action in verbs.items():
            self.verbs.setdefault(verb, action)


@dataclass(slots=True)
class _Node:
    operation: Operation | None = None
    """Of the path that ends here."""
    exact: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    patterns: list[tuple[str, _Node]] = field(default_factory=list[tuple[str, "_Node"]])
    """Segments with a `*` inside, the one with the most other characters first."""
    one: _Node | None = None
    """Segment `*`."""
    rest: Operation | None = None
    """Last segment `**`."""


class Operations:
    """The operations of one policy (reference behaviours §5, after daprd's `pkg/config/acl_trie.go`).

    `/a/b` is this path and everything below it; `/a/*` is `/a` and one segment more; `/a/**` is `/a` and everything
    below; a `*` within a segment stands for any characters of that segment. Empty segments do not count, so that
    `a//b`, `/a/b/` and `a/b` are one operation.

    Where several operations match, the most specific one decides, segment by segment from the left: the same text,
    then a `*` inside a segment, then `*`, then `**`, then the path of which this one is below. daprd takes, of the
    matching ones, the first in the file, and misses some that stand behind another; a policy in which no two operations
    match the same call means the same in both.
    """

    __slots__ = ("_fold_case", "_root")

    def __init__(self, *, fold_case: bool) -> None:
        """`fold_case`: upper and lower case are the same (apps that speak HTTP)."""
        self._fold_case = fold_case
        self._root = _Node()

    def add(self, name: str, action: bool, verbs: Iterable[str]) -> None:  # noqa: FBT001 the action is the rule
        """Add an operation. Raises `ValueError` for `**` anywhere but at the end, and for `.` and `..`."""
        segments = self._segments(name)
        if segments is None:
            raise ValueError("'.' and '..' do not occur in the path of a call; write the path that is meant")
        if "**" in segments[:-1]:
            raise ValueError("'**' stands for the rest of a path: it can only be the last segment")
        by_verb = {verb.upper(): action for verb in verbs}
        node = self._root
        if segments and segments[-1] == "**":
            node = self._node(segments[:-1])
            if node.rest is None:
                node.rest = Operation(action, {})
            node.rest.merge(by_verb)
            return
        node = self._node(segments)
        if node.operation is None:
            node.operation = Operation(action, {})
        node.operation.merge(by_verb)

    def find(self, path: str) -> Operation | None:
        """What the policy says about a decoded, normalised path; `None`: nothing."""
        segments = self._segments(path)
        return None if segments is None else _find(self._root, segments, 0)

    def _segments(self, path: str) -> list[str] | None:
        if self._fold_case:
            path = path.lower()
        segments = [segment for segment in path.split("/") if segment]
        return None if "." in segments or ".." in segments else segments

    def _node(self, segments: list[str]) -> _Node:
        """The node of a path, made where it is missing."""
        node = self._root
        for segment in segments:
            if segment == "*":
                node.one = node.one or _Node()
                node = node.one
            elif "*" in segment:
                known = next((child for pattern, child in node.patterns if pattern == segment), None)
                if known is None:
                    known = _Node()
                    node.patterns.append((segment, known))
                    node.patterns.sort(key=lambda entry: -len(entry[0].replace("*", "")))
                node = known
            else:
                node = node.exact.setdefault(segment, _Node())
        return node


def _find(node: _Node, segments: list[str], index: int, *, covers: bool = False) -> Operation | None:
    """The most specific operation from this node on. `covers`: an operation that ends here is also for what is below."""
    if index == len(segments):
        return node.operation or (node.one.operation if node.one else None) or node.rest
    segment = segments[index]
    child = node.exact.get(segment)
    if child is not None:
        found = _find(child, segments, index + 1, covers=True)
        if found is not None:
            return found
    for pattern, child in node.patterns:
        if _matches(pattern, segment):
            found = _find(child, segments, index + 1, covers=True)
            if found is not None:
                return found
    if node.one is not None:
        found = _find(node.one, segments, index + 1)
        if found is not None:
            return found
    return node.rest or (node.operation if covers else None)


def _matches(pattern: str, text: str) -> bool:
    """Whether `text` fits a pattern with at least one `*`. One pass: a caller's text cannot make it slow."""
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True
