"""Bringing changes to an app that subscribed over HTTP: `POST /configuration/<store>/<key>`.

Delivery road, from the block to the app channel. One call for each changed key, with the whole change as its body;
exactly 200 means taken (reference http-api §13). An answer that is another one is told and not repeated, as in Dapr. An
app that cannot be reached has answered nothing: its changes wait, and when it is back it gets the newest of each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from dapr_shared.channel.callbacks import whole_answer
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    InvokeRequest,
    NoSlotError,
)

if TYPE_CHECKING:
    from dapr_shared.blocks.configuration.listener import Listener
    from dapr_shared.blocks.presence import Presence
    from dapr_shared.contracts.configuration import ConfigurationItem, Items
    from dapr_shared.observability.events import Events

JSON = b"application/json"


class ConfigurationDelivery:
    """Brings the changes of each subscription to its app, in order."""

    def __init__(self, events: Events, *, timeout: float | None = None) -> None:
        """`timeout`: seconds that an app may work on one change; `None` or 0: without limit."""
        self._events = events
        self._timeout = timeout or None

    async def run(self, listener: Listener, presence: Presence) -> None:
        """Go on until the subscription ends. Never raises but when cancelled."""
        while await listener.wait():
            await presence.wait()
            items = listener.take()
            try:
                left = await self._bring(listener, presence, items)
            except Exception as error:  # noqa: BLE001 - a defect with one change is not the end of the subscription
                self._events.defect(f"configuration for {listener.ref}", error)
                continue
            if left:
                listener.put_back(left)
                presence.doubt()

    async def _bring(self, listener: Listener, presence: Presence, items: Items) -> dict[str, ConfigurationItem]:
        """Call the app for each key; those for which it was not reached."""
        body = orjson.dumps({"id": listener.id, "items": {key: item_json(item) for key, item in items.items()}})
        left = dict(items)
        for key in items:
            if not _fits_a_path(key):
                problem = f"the key {key[:100]!r} makes no path"
            else:
                try:
                    problem = await self._call(presence, f"configuration/{listener.store}/{key}", body)
                except (AppUnreachableError, AppNotHealthyError, ChannelBusyError, NoSlotError):
                    return left
                except AppTimeoutError as error:
                    problem = str(error)
                except ChannelError as error:
                    if presence.channel is None or not await presence.channel.reachable():
                        return left  # it broke off and is gone: it crashed or was stopped
                    problem = str(error)
            if problem:
                self._events.configuration_not_delivered(listener.ref, listener.store, problem)
            del left[key]
        return left

    async def _call(self, presence: Presence, path: str, body: bytes) -> str:
        """What was wrong with the app's answer; empty when it took the change. Raises `ChannelError`."""
        channel = await presence.wait()
        answer = await channel.invoke(InvokeRequest(path, "POST", b"", [], body, JSON), timeout=self._timeout)
        await whole_answer(answer.body, self._timeout)
        return "" if answer.status == 200 else f"status {answer.status}"


def item_json(item: ConfigurationItem) -> dict[str, object]:
    """An item as JSON shows it: what is empty is left out, as daprd does."""
    shown: dict[str, object] = {"value": item.value, "version": item.version, "metadata": dict(item.metadata)}
    return {name: value for name, value in shown.items() if value}


def _fits_a_path(key: str) -> bool:
    """Whether the key stands in a path as itself: `.` and `..` would lead elsewhere in the app."""
    return bool(key) and key.isprintable() and not {".", ".."} & set(key.split("/"))
