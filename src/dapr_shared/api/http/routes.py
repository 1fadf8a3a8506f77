"""The route table: which path and verb is which block call. Resolved once at start into a tree.

First step of the request road. The table is data: the documentation's compatibility page reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from dapr_shared.api.http.call import HttpCall, unquote_param
from dapr_shared.wire.http.messages import Response

Handler: TypeAlias = Callable[[HttpCall], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table."""

    verbs: tuple[str, ...]
    """Empty: any verb."""
    path: str
    """Literal segments, `{name}` for one segment, `{name...}` for the rest."""
    handler: Handler
    name: str
    """Endpoint name: the `path` label of metrics in the low-cardinality form."""
    api: str
    """Name in the Configuration's `api` lists."""
    version: str = "v1"
    open: bool = False
    """True: needs no caller."""
    public: bool = False
    """True: also served on the public port."""


@dataclass(slots=True)
class _Node:
    literal: dict[bytes, _Node] = field(default_factory=dict[bytes, "_Node"])
    one: _Node | None = None
    rest: dict[str, Route] | None = None
    routes: dict[str, Route] | None = None


ANY = "*"


class RouteTable:
    """Finds the route of a path and verb; literal segments win over parameters."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        rest = False
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{") and segment.endswith("...}"):
                rest = True
            elif segment.startswith("{"):
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literal.setdefault(segment.encode(), _Node())
        table = node.rest if rest else node.routes
        if table is None:
            table = {}
            if rest:
                node.rest = table
            else:
                node.routes = table
        for verb in route.verbs or (ANY,):
            if verb in table:
                raise ValueError(f"two routes for {verb} {route.path}")
            table[verb] = route

    def match(self, verb: str, path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """The route and its decoded parameters. Raises `BAD_REQUEST` for a bad escape in a parameter."""
        segments = path[1:].split(b"/")
        found = self._walk(self._root, verb, segments, 0, ())
        if found is None and len(segments) > 1 and segments[-1] == b"":
            found = self._walk(self._root, verb, segments[:-1], 0, ())
        if found is None:
            return None
        route, params = found
        return route, tuple(unquote_param(param) for param in params)

    def _walk(
        self, node: _Node, verb: str, segments: list[bytes], index: int, params: tuple[bytes, ...]
    ) -> tuple[Route, tuple[bytes, ...]] | None:
        if index == len(segments):
            route = _pick(node.routes, verb)
            return (route, params) if route else None
        segment = segments[index]
        child = node.literal.get(segment)
        if child is not None:
            found = self._walk(child, verb, segments, index + 1, params)
            if found is not None:
                return found
        if node.one is not None and segment:
            found = self._walk(node.one, verb, segments, index + 1, (*params, segment))
            if found is not None:
                return found
        route = _pick(node.rest, verb)
        return (route, (*params, b"/".join(segments[index:]))) if route and segment else None


def _pick(table: dict[str, Route] | None, verb: str) -> Route | None:
    if table is None:
        return None
    return table.get(verb) or table.get(ANY)


def origin_form(target: bytes) -> bytes:
    """A request target without scheme and authority: servers take the absolute form too (RFC 9112 §3.2.2)."""
    if target[:1] == b"/" or target[:7].lower() != b"http://":
        return target
    rest = target[7:]
    ends = [end for end in (rest.find(b"/"), rest.find(b"?")) if end >= 0]
    rest = rest[min(ends) :] if ends else b""
    return rest if rest[:1] == b"/" else b"/" + rest


def clean_path(path: bytes) -> bytes:
    """The path with `//`, `.` and `..` segments resolved, as Dapr's first middleware does; a trailing slash stays."""
    if b"//" not in path and b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment in (b"", b"."):
            continue
        if segment == b"..":
            if kept:
                kept.pop()
        else:
            kept.append(segment)
    slash = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + slash
