"""The operators' door: a Unix socket in the data directory that only this user can open (design §5.19).

Assembly. Never a port that apps reach. It is plain HTTP, so that `curl --unix-socket` will do; the command line uses it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from dapr_shared.core.ids import DEFAULT_NAMESPACE, AppRef
from dapr_shared.runtime.embedded import SOCKET_NAME
from dapr_shared.wire.http.messages import Response
from dapr_shared.wire.http.server import serve

if TYPE_CHECKING:
    from pathlib import Path

    from dapr_shared.blocks.pubsub.manager import SubscriptionManager
    from dapr_shared.observability.events import Events
    from dapr_shared.wire.http.messages import Request
    from dapr_shared.wire.http.server import HttpServer

_REFRESH = "/refresh/"


class OperatorsDoor:
    """Answers operators."""

    def __init__(self, subscriptions: SubscriptionManager) -> None:
        self._subscriptions = subscriptions

    async def __call__(self, request: Request) -> Response:
        """`POST /refresh/<app>[.<namespace>]`: ask the app again for its subscriptions."""
        path = request.target.decode("latin-1")
        if request.method == "POST" and path.startswith(_REFRESH):
            app_id, _, namespace = path.removeprefix(_REFRESH).partition(".")
            ref = AppRef(app_id, namespace or DEFAULT_NAMESPACE)
            if self._subscriptions.refresh(ref):
                return _answer(202, f"app {ref} is asked again for its subscriptions")
            return _answer(404, f"this instance serves no app {ref}")
        return _answer(404, f"there is no {request.method} {path}")


async def open_door(folder: Path, subscriptions: SubscriptionManager, events: Events) -> HttpServer | None:
    """Open the door in the data directory; `None`, and an event, where another instance has it or it cannot be made."""
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        return await serve(f"unix:{folder / SOCKET_NAME}", OperatorsDoor(subscriptions))
    except OSError as error:
        events.listener_failed(f"the operators' socket {folder / SOCKET_NAME}: {error.strerror or error}")
        return None


def _answer(status: int, message: str) -> Response:
    return Response(status, [(b"content-type", b"application/json")], orjson.dumps({"message": message}))
