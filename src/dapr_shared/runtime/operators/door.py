"""The operators' door: a Unix socket in the data directory that only this user can open (design §5.19).

Assembly. Never a port that apps reach. It is plain HTTP with JSON, so that `curl --unix-socket` will do; the command
line uses it. What it answers is in `answers.py`. Calls that the operator makes as an app go through the HTTP front door
like the app's own, with the app's rights and limits, after an audit event.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import msgspec

from dapr_shared.api.http.routes import clean_path
from dapr_shared.core.clock import SystemClock
from dapr_shared.core.ids import DEFAULT_NAMESPACE, AppRef
from dapr_shared.identity.caller import OperatorIdentity
from dapr_shared.observability.log_ring import LEVEL_RANKS
from dapr_shared.runtime.embedded import SOCKET_NAME
from dapr_shared.runtime.operators import places
from dapr_shared.runtime.operators.answers import (
    ACTED_HEADER,
    API_VERSION,
    MOST_LOG_LINES,
    PREFIX,
    VERSION_HEADER,
    Answer,
    Message,
)
from dapr_shared.runtime.operators.inside import findings
from dapr_shared.runtime.operators.log_stream import stream
from dapr_shared.runtime.operators.views import Views
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.messages import Request, Response
from dapr_shared.wire.http.server import serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack
    from pathlib import Path

    from dapr_shared.observability.events import Events
    from dapr_shared.observability.logs import Logs
    from dapr_shared.runtime.assembly import Parts

DEFAULT_LOG_LINES = 100
_JSON = (b"content-type", b"application/json")
_LINES = (b"content-type", b"application/x-ndjson")
_VERSION = (VERSION_HEADER.encode(), str(API_VERSION).encode())
_ACTIONS = {"publish": b"/v1.0/publish/", "invoke": b"/v1.0/invoke/"}
"""What an operator may do as an app, and the API that it is."""
_NOT_PASSED_ON = frozenset({b"dapr-api-token", b"dapr-app-id", b"authorization", b"host"})
_LIMITS = ServerLimits(header_bytes=64 * 1024, connections=64)


class OperatorsDoor:
    """Answers operators."""

    def __init__(self, views: Views, parts: Parts, events: Events, logs: Logs) -> None:
        self._views = views
        self._parts = parts
        self._events = events
        self._logs = logs

    async def __call__(self, request: Request) -> Response:
        """Answer one request; every answer says which version of the door it is."""
        response = await self._answer(request)
        response.headers.append(_VERSION)
        return response

    async def _answer(self, request: Request) -> Response:
        raw_path, _, query = request.target.partition(b"?")
        path = raw_path.decode("latin-1")
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        words = path.removeprefix(f"{PREFIX}/").split("/") if path.startswith(f"{PREFIX}/") else []
        match (request.method, words):
            case ("GET", [what]):
                found = await self._look(what, given)
                if found is not None:
                    return found
            case ("POST", ["apps", app, "refresh"]):
                return self._refresh(self._ref(app))
            case (_, ["apps", app, action, *rest]) if action in _ACTIONS and rest:
                return await self._act(self._ref(app), action, "/".join(rest).encode("latin-1"), query, request)
            case _:
                pass
        return _message(404, f"this instance has no {request.method} {path[:200]}")

    async def _look(self, what: str, given: dict[str, str]) -> Response | None:
        views = self._views
        match what:
            case "instance" | "apps":
                found = views.instance() if what == "instance" else views.apps()
            case "components":
                found = await views.components()
            case "subscriptions":
                ref = self._ref(given["app"]) if given.get("app") else None
                if ref is not None and self._parts.apps.get(ref) is None:
                    return _message(404, f"this instance serves no app {ref}")
                found = await views.subscriptions(ref)
            case "metrics":
                names = [name for name in given.get("names", "").split(",") if name]
                found = views.metrics(names, given.get("app", ""))
            case "doctor":
                found = await findings(views, self._events.metrics, self._logs.recent)
            case _:
                return self._log(given) if what == "logs" else None
        return _json(found)

    def _ref(self, text: str) -> AppRef:
        """The app that `APP` or `APP.NAMESPACE` means: without a namespace the default one, else the only one of that id."""
        app_id, _, namespace = unquote(text).partition(".")
        ref = AppRef(app_id, namespace or DEFAULT_NAMESPACE)
        if namespace or self._parts.apps.get(ref) is not None:
            return ref
        others = [record.ref for record in self._parts.apps.apps() if record.ref.app_id == app_id]
        return others[0] if len(others) == 1 else ref

    def _log(self, given: dict[str, str]) -> Response:
        level, lines = given.get("level") or "debug", given.get("lines") or str(DEFAULT_LOG_LINES)
        if level not in LEVEL_RANKS:
            return _message(400, f"{level[:50]!r} is not a level: debug, info, warn, error or fatal")
        if not lines.isdecimal() or int(lines) > MOST_LOG_LINES:
            return _message(400, f"lines is a number from 0 to {MOST_LOG_LINES}")
        body = stream(
            self._logs.recent,
            app=given.get("app", "").partition(".")[0],
            rank=LEVEL_RANKS[level],
            lines=int(lines),
            follow=given.get("follow") == "true",
        )
        return Response(200, [_LINES], body)

    def _refresh(self, ref: AppRef) -> Response:
        if not self._parts.subscriptions.refresh(ref):
            return _message(404, f"this instance serves no app {ref}")
        self._parts.presences.refresh(ref)
        self._parts.watch.expect(ref)
        return _message(202, f"app {ref} is asked again for its subscriptions")

    async def _act(self, ref: AppRef, action: str, rest: bytes, query: bytes, request: Request) -> Response:
        """One call of the API as this app."""
        prefix = _ACTIONS[action]
        target = prefix + rest
        if self._parts.apps.get(ref) is None:
            return _message(404, f"this instance serves no app {ref}")
        if not clean_path(target).startswith(prefix):  # `..` would lead to another API
            return _message(400, f"the path of {action} leaves it")
        self._events.operator_acted(ref, action, unquote(rest.decode("latin-1"))[:200])
        headers = [header for header in request.headers if header[0] not in _NOT_PASSED_ON]
        response = await self._parts.http(
            Request(
                request.method,
                target + (b"?" + query if query else b""),
                headers,
                request.body,
                version=request.version,
                peer="operator",
                listener=OperatorIdentity(ref),
            )
        )
        response.headers.append((ACTED_HEADER.encode(), b"true"))
        return response


async def open_door(folder: Path, parts: Parts, events: Events, logs: Logs, stack: AsyncExitStack) -> Views | None:
    """Open the door in the data directory; the stack closes it.

    `None`, and an event, where another instance has it or it cannot be made: the instance serves its apps all the same.
    """
    views = Views(parts, events.metrics.registry, SystemClock(), data_dir=str(folder))
    door = OperatorsDoor(views, parts, events, logs)
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        server = await serve(
            f"unix:{folder / SOCKET_NAME}",
            door,
            limits=_LIMITS,
            on_defect=lambda request, error: _tell(events, request, error),
        )
    except OSError as error:
        events.listener_failed(f"the operators' socket {folder / SOCKET_NAME}: {error.strerror or error}")
        return None
    stack.callback(server.close)
    file = await asyncio.to_thread(places.note, folder)
    stack.callback(places.forget, file)
    return views


def _tell(events: Events, request: Request, error: BaseException) -> None:
    events.defect(f"operators {request.method} {request.target[:100]!r}", error)


def _json(answer: Answer | Sequence[Answer]) -> Response:
    return Response(200, [_JSON], msgspec.json.encode(answer))


def _message(status: int, text: str) -> Response:
    return Response(status, [_JSON], msgspec.json.encode(Message(message=text)))
