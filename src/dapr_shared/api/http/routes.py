"""The route table: which path and verb is which block call. Resolved once at start into a tree.

First step of the request road. The table is data: the documentation's compatibility page reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from dapr_shared.api.http.call import HttpCall, unquote_param
from dapr_shared.core.errors import DaprError
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


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A route as it is matched: its segments, `None` for a parameter."""

    route: Route
    segments: tuple[bytes | None, ...]
    rest: bool

    def params(self, segments: list[bytes]) -> tuple[bytes, ...] | None:
        """The raw parameters of a path that fits; `None` for one that does not."""
        found: list[bytes] = []
        for wanted, given in zip(self.segments, segments, strict=False):
            if wanted is None:
                if not given:
                    return None
                found.append(given)
            elif wanted != given:
                return None
        if self.rest:
            count = len(self.segments)
            if not segments[count]:
                return None
            found.append(b"/".join(segments[count:]))
        return tuple(found)


class Target(msgspec.Struct, frozen=True):
    """A request target, understood."""

    raw_path: bytes
    """As sent, without the query."""
    path: bytes
    """Cleaned, still percent-encoded."""
    query: bytes
    """Without the question mark."""
    route: Route | None = None
    params: tuple[str, ...] = ()
    """Of the route, decoded."""
    problem: DaprError | None = None
    """What the request is answered with: a parameter cannot be decoded."""

    def known_route(self) -> Route | None:
        """The route, if there is one. Raises `problem`."""
        if self.problem is not None:
            raise self.problem
        return self.route


ANY = "*"
_KNOWN = 256
"""Targets that a table remembers, and how many bytes one may have: 100 kB at most."""
_REPEATED = frozenset(("POST", "PUT"))
"""Verbs whose targets come again: of a store, a topic, a method. A GET or DELETE names a key, mostly another one."""
_Key = tuple[str, bytes, bytes, int]
_REST = -1
"""In place of the number of segments: the route takes any further ones."""


class RouteTable:
    """Finds the route of a path and verb; literal segments win over parameters.

    One dict look-up by verb, first two segments and length leads to the few routes that may fit: all paths of Dapr
    begin with a version and an API name.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._found: dict[_Key, list[_Compiled]] = {}
        self._known: dict[tuple[str, bytes], Target] = {}
        for route in self.routes:
            self._add(route)
        for candidates in self._found.values():
            candidates.sort(key=lambda compiled: [segment is None for segment in compiled.segments])

    def _add(self, route: Route) -> None:
        names = route.path.strip("/").split("/")
        rest = names[-1].endswith("...}")
        segments = tuple(None if name.startswith("{") else name.encode() for name in (names[:-1] if rest else names))
        compiled = _Compiled(route, segments, rest)
        first, second = (*segments, b"", b"")[:2]
        if first is None or second is None:
            raise ValueError(f"a route begins with two literal segments, unlike {route.path}")
        for verb in route.verbs or (ANY,):
            candidates = self._found.setdefault((verb, first, second, _REST if rest else len(segments)), [])
            if any(other.segments == segments for other in candidates):
                raise ValueError(f"two routes for {verb} {route.path}")
            candidates.append(compiled)

    def resolve(self, verb: str, target: bytes) -> Target:
        """What a request target means. What is equal means the same, so it is understood once: 1.5 µs less a request."""
        if verb not in _REPEATED:
            return self._resolve(verb, target)
        key = (verb, target)
        known = self._known.get(key)
        if known is None:
            known = self._resolve(verb, target)
            if len(target) <= _KNOWN and known.problem is None:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[key] = known
        return known

    def _resolve(self, verb: str, target: bytes) -> Target:
        raw_path, _, query = origin_form(target).partition(b"?")
        path = clean_path(raw_path)
        try:
            found = self.match(verb, path)
        except DaprError as error:
            return Target(raw_path, path, query, problem=error)
        return Target(raw_path, path, query, *found) if found is not None else Target(raw_path, path, query)

    def match(self, verb: str, path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """The route and its decoded parameters. Raises `BAD_REQUEST` for a bad escape in a parameter."""
        segments = path[1:].split(b"/")
        found = self._find(verb, segments)
        if found is None and len(segments) > 1 and not segments[-1]:
            found = self._find(verb, segments[:-1])
        if found is None:
            return None
        route, params = found
        return route, tuple([unquote_param(param) for param in params])

    def _find(self, verb: str, segments: list[bytes]) -> tuple[Route, tuple[bytes, ...]] | None:
        count = len(segments)
        first, second = segments[0], segments[1] if count > 1 else b""
        for length in (count, _REST):
            for one in (verb, ANY):
                for compiled in self._found.get((one, first, second, length), ()):
                    if compiled.rest and count <= len(compiled.segments):
                        continue
                    params = compiled.params(segments)
                    if params is not None:
                        return compiled.route, params
        return None


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
    if path.find(b"//") < 0 and path.find(b"/.") < 0:  # `in` takes bytes for a number first: 0.1 µs for the two
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
