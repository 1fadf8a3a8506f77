"""Publishing over HTTP. Facts: reference http-api §5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from dapr_shared.api.http.call import HttpCall, json_bytes, metadata_headers, no_content
from dapr_shared.api.http.routes import Route
from dapr_shared.api.spans import traces_of_events
from dapr_shared.blocks.pubsub.publish import PublishEntry, Trace, entries_unreadable, publish_failed
from dapr_shared.core.errors import DaprError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.blocks.pubsub.publish import PublishBlock
    from dapr_shared.contracts.pubsub import BulkFailure
    from dapr_shared.wire.http.messages import Response

LONGEST_HEADER = 2048
"""Bytes of an error told in a header; it stands whole in the body. Clients bound the headers that they read."""

_NULL = msgspec.Raw(b"null")


class _Entry(msgspec.Struct, rename="camel"):
    entry_id: str = ""
    event: msgspec.Raw = _NULL
    content_type: str = ""
    metadata: dict[str, str] | None = None


_ENTRIES = msgspec.json.Decoder(list[_Entry] | None)
_LOOSE_ENTRIES = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NAMES = {"entryid": "entryId", "event": "event", "contenttype": "contentType", "metadata": "metadata"}


class PubSubApi:
    """Turns HTTP requests into calls of the publishing side of the pubsub block."""

    def __init__(self, block: PublishBlock) -> None:
        self._block = block

    def routes(self) -> Sequence[Route]:
        write = ("POST", "PUT")
        return [
            Route(write, "/v1.0/publish/{pubsub}/{topic...}", self.publish, "PublishEvent", "publish"),
            Route(write, "/v1.0/publish/{pubsub}", self.publish_to_none, "PublishEvent", "publish"),
            Route(write, "/v1.0/publish/bulk/{pubsub}/{topic...}", self.bulk_publish, "BulkPublishEvent", "publish"),
            Route(
                write,
                "/v1.0-alpha1/publish/bulk/{pubsub}/{topic...}",
                self.bulk_publish,
                "BulkPublishEvent",
                "publish",
                "v1alpha1",
            ),
        ]

    async def publish(self, call: HttpCall) -> Response:
        pubsub, topic = call.params
        metadata = call.metadata()
        data = call.request.body
        if not isinstance(data, bytes):
            try:
                data = await call.body()
            except DaprError as error:
                self._block.check(call.proved, pubsub, topic, metadata)
                raise publish_failed(pubsub, topic, error) from error
        content_type = (call.request.header(b"content-type") or b"").decode("latin-1")
        trace = Trace.carried(call.trace)
        await self._block.publish(call.proved, pubsub, topic, data, content_type, metadata, trace)
        return no_content()

    async def publish_to_none(self, call: HttpCall) -> Response:
        """A path that ends before the topic: the block says what is missing."""
        await self._block.publish(call.proved, call.params[0], "", b"", metadata=call.metadata())
        return no_content()

    async def bulk_publish(self, call: HttpCall) -> Response:
        pubsub, topic = call.params
        metadata = call.metadata()
        self._block.check(call.proved, pubsub, topic, metadata)
        try:
            given = _entries(await call.body())
        except (DaprError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise entries_unreadable(call.proved, pubsub, topic, error) from error
        traces = traces_of_events(call.span, call.trace)
        failures = await self._block.bulk_publish(call.proved, pubsub, topic, given, metadata, traces)
        return _failed(pubsub, topic, failures) if failures else no_content()


def _entries(body: bytes) -> list[PublishEntry]:
    body.decode()  # msgspec does not look into the strings of values that pass through
    entries: list[_Entry] = _ENTRIES.decode(body) or []
    if any(not entry.entry_id or entry.event is _NULL for entry in entries):
        entries = _ENTRIES.decode(_with_known_names(body)) or []
    return [
        PublishEntry(entry.entry_id, bytes(entry.event), entry.content_type, entry.metadata, is_json=True)
        for entry in entries
    ]


def _with_known_names(body: bytes) -> bytes:
    """The same with names in our letters: Go takes `entryID`, which the JavaScript SDK sends, for `entryId`."""
    return orjson.dumps(
        [
            {_NAMES.get(name.lower(), name): orjson.Fragment(bytes(value)) for name, value in entry.items()}
            for entry in _LOOSE_ENTRIES.decode(body)
        ]
    )


def _failed(pubsub: str, topic: str, failures: Sequence[BulkFailure]) -> Response:
    error = publish_failed(pubsub, topic, failures[0].error)
    body = orjson.dumps(
        {
            "failedEntries": [{"entryId": failure.entry_id, "error": str(failure.error)} for failure in failures],
            "errorCode": error.row.code,
        }
    )
    told = {"error": f"api error: code = Internal desc = {error.message}"}
    if len(body) <= LONGEST_HEADER:
        told["responseData"] = body.decode()
    return json_bytes(body, error.row.http, metadata_headers({name: _line(text) for name, text in told.items()}))


def _line(text: str) -> str:
    """A text that can stand in a header: without line ends, and not too long."""
    return "".join(character if character.isprintable() else " " for character in text[:LONGEST_HEADER])
