"""The outbox, first half: what a transaction changes is announced before it, and proved by a marker inside it.

Step 4 of the request road. For each upsert an event goes to the app's internal topic, and the transaction is given one
more write: the marker, a key that is the event's id. Whether the transaction was carried out can then be seen by the
marker alone, whoever is killed when. The second half (`outbox_relay.py`) takes the events from the internal topic and
publishes those whose marker is there. Facts: reference behaviours §1.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from dapr_shared.blocks.pubsub import content_types
from dapr_shared.blocks.pubsub.envelope import EventDraft, EventError, make_event
from dapr_shared.contracts.settings import TRUE_WORDS
from dapr_shared.contracts.state import DeleteRequest, Operation, SetRequest
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import random_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dapr_shared.blocks.pubsub.publish import Trace
    from dapr_shared.blocks.state.items import SaveItem, TransactionItem
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.contracts.state import StateStore
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller

MARKER_PREFIX = "outbox-"
MARKER_VALUE = b'"0"'
PROJECTION = "outbox.projection"
"""Metadata of an operation: its value is published in place of the one that is written under the same key."""

_CONTENT_TYPE = "contentType"
_RESERVED = frozenset({"data", "id"})
_TEXT = msgspec.json.Decoder(str)


class OutboxConfig(NamedTuple):
    """What a state store's metadata says about its outbox."""

    publish_pubsub: str
    publish_topic: str
    internal_pubsub: str
    discard_when_missing: bool = False
    """Give an event up whose marker is not found in time; else it is tried again."""

    def internal_topic(self, app: AppRef) -> str:
        """The topic of this app's announcements: Dapr joins the names without anything between them."""
        return f"{app.namespace}{app.app_id}{self.publish_topic}outbox"


def outbox_config(opened: Opened[Any]) -> OutboxConfig | None:
    """The outbox of a state store; `None`: it has none, as pubsub and topic must both be given."""
    metadata = opened.runtime_metadata
    pubsub, topic = metadata.get("outboxpublishpubsub", ""), metadata.get("outboxpublishtopic", "")
    if not pubsub or not topic:
        return None
    discard = metadata.get("outboxdiscardwhenmissingstate", "")
    return OutboxConfig(pubsub, topic, metadata.get("outboxpubsub") or pubsub, _is_true(discard))


class Publisher(Protocol):
    """The publishing side of the pubsub block."""

    async def forward(self, app: AppRef, pubsub: str, topic: str, event: bytes) -> None:
        """Publish a CloudEvent as it is, in the name of the app. Raises `DaprError`."""
        ...


class Relays(Protocol):
    """The second half, as the first one sees it."""

    async def wait_for(self, app: AppRef, config: OutboxConfig) -> None:
        """Return once somebody takes events from the internal topic. Raises `PUBSUB_OUTBOX` when that takes too long."""
        ...

    def rolled_back(self, markers: Iterable[str]) -> None:
        """These transactions have certainly not been carried out: nobody has to look for their markers."""
        ...


class Planned(NamedTuple):
    """A transaction with an outbox."""

    operations: list[Operation]
    """What the store is given: the caller's operations without projections, then the markers."""
    events: list[bytes]
    markers: list[str]


class Outbox:
    """Announces transactions."""

    def __init__(self, publisher: Publisher, relays: Relays, clock: Clock) -> None:
        self._publisher = publisher
        self._relays = relays
        self._clock = clock

    def plan(
        self,
        caller: Caller,
        opened: Opened[StateStore[Any]],
        config: OutboxConfig,
        items: Sequence[TransactionItem],
        requests: Sequence[Operation],
        trace: Trace,
    ) -> Planned:
        """The operations with their markers, and the events. Nothing is sent yet. Raises `PUBSUB_OUTBOX`.

        `requests`: what `items` became, in their order; encrypted where the store is, and so is what is published.
        """
        projections: dict[str, tuple[SaveItem, SetRequest]] = {}
        kept: list[tuple[SaveItem, Operation]] = []
        for item, request in zip(items, requests, strict=True):
            if isinstance(request, SetRequest) and _is_true(item.item.metadata.get(PROJECTION, "")):
                projections[request.key] = (item.item, request)
            else:
                kept.append((item.item, request))
        planned = Planned([request for _, request in kept], [], [])
        for item, request in kept:
            if isinstance(request, DeleteRequest):
                continue
            marker = MARKER_PREFIX + random_id()
            payload_item, payload_request = projections.get(request.key, (item, request))
            data, content_type = _payload(payload_item, payload_request, encrypted=opened.encryption is not None)
            draft = EventDraft(
                caller.app_id,
                config.internal_pubsub,
                "",
                data,
                content_type,
                {**item.metadata, "cloudevent.id": marker},
                trace.parent,
                trace.state,
            )
            attributes = {name: value for name, value in item.metadata.items() if name not in _RESERVED}
            try:
                event = make_event(draft, self._clock.now(), attributes=attributes)
            except EventError as error:
                raise _failed(caller, error) from error
            planned.events.append(event)
            planned.operations.append(SetRequest(marker, MARKER_VALUE))
            planned.markers.append(marker)
        return planned

    async def announce(self, caller: Caller, config: OutboxConfig, planned: Planned) -> None:
        """Publish the events to the internal topic. When it returns, the broker has all. Raises `PUBSUB_OUTBOX`.

        After an error, or a cancellation, the transaction must not begin.
        """
        if not planned.events:
            return
        await self._relays.wait_for(caller.ref, config)
        try:
            for event in planned.events:
                await self._publisher.forward(
                    caller.ref, config.internal_pubsub, config.internal_topic(caller.ref), event
                )
        except BaseException as error:
            self._relays.rolled_back(planned.markers)
            if isinstance(error, DaprError):
                raise _failed(caller, error) from error
            raise

    def rolled_back(self, planned: Planned) -> None:
        """The store has said that it carried nothing out."""
        self._relays.rolled_back(planned.markers)


def _payload(item: SaveItem, request: SetRequest, *, encrypted: bool) -> tuple[bytes, str]:
    """What an event carries, and its content type.

    Bytes as they are. JSON of an HTTP request stays JSON under a JSON content type; under another, or none, a text is
    published without its quotes, as in Dapr, and all else as JSON text (Dapr: as Go prints it).
    """
    content_type = item.content_type or item.metadata.get(_CONTENT_TYPE, "")
    if encrypted or not item.parsed or content_types.is_json(content_type):
        return request.value, content_type
    try:
        return _TEXT.decode(request.value).encode(), content_type
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return request.value, content_type


def _failed(caller: Caller, cause: Exception) -> DaprError:
    return errors.PUBSUB_OUTBOX(detail=cause, info={"appID": caller.app_id, "error": str(cause)})


def _is_true(text: str) -> bool:
    return text.strip().lower() in TRUE_WORDS


def published_event(members: Mapping[str, msgspec.Raw], config: OutboxConfig) -> bytes:
    """The event as subscribers get it: the announced one, with the topic and pubsub that it goes to."""
    event: dict[str, object] = {**members, "topic": config.publish_topic, "pubsubname": config.publish_pubsub}
    return msgspec.json.encode(event)
