"""State over HTTP. Facts: reference http-api §4."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
import orjson

from dapr_shared.api.errors import JSON
from dapr_shared.api.http.call import HttpCall, json_bytes, metadata_headers, no_content
from dapr_shared.api.http.json_names import fold_names
from dapr_shared.api.http.routes import Route
from dapr_shared.blocks.pubsub.publish import Trace
from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem, is_json_text
from dapr_shared.core import errors
from dapr_shared.wire.http.messages import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.api.http.call import Mend
    from dapr_shared.blocks.state.block import StateBlock
    from dapr_shared.blocks.state.items import BulkItem
    from dapr_shared.contracts.state import StateValue

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class _Form(msgspec.Struct, forbid_unknown_fields=True):
    """An unknown name may be a known one in other letters: it sends the body through `fold_names`."""


class _Options(_Form):
    concurrency: str = ""
    consistency: str = ""


class _Item(_Form):
    key: str = ""
    value: msgspec.Raw = _NULL
    etag: str | None = None
    metadata: dict[str, str] | None = None
    options: _Options | None = None
    content_type: msgspec.Raw = msgspec.field(default=_NULL, name="contentType")
    """Of what an outbox publishes. Any other value than a text is allowed and without effect: values are JSON."""


class _BulkGet(_Form):
    keys: list[str] = []
    parallelism: int = 0
    metadata: dict[str, str] | None = None


class _Operation(_Form):
    operation: str = ""
    request: _Item = msgspec.field(default_factory=_Item)


class _Transaction(_Form):
    operations: list[_Operation] = []
    metadata: dict[str, str] | None = None


_NO_OPTIONS = _Options()
_NO_ITEMS: Sequence[_Item] = ()
_ITEMS = msgspec.json.Decoder(list[_Item] | None)
_BULK_GET = msgspec.json.Decoder(_BulkGet)
_TRANSACTION = msgspec.json.Decoder(_Transaction)
_ITEMS_SHAPE = msgspec.inspect.type_info(list[_Item])
_BULK_GET_SHAPE = msgspec.inspect.type_info(_BulkGet)
_TRANSACTION_SHAPE = msgspec.inspect.type_info(_Transaction)


class StateApi:
    """Turns HTTP requests into calls of the state block."""

    def __init__(self, block: StateBlock) -> None:
        self._block = block
        self._mend_items = self._mend(_ITEMS_SHAPE)
        self._mend_bulk_get = self._mend(_BULK_GET_SHAPE)
        self._mend_transaction = self._mend(_TRANSACTION_SHAPE)

    def routes(self) -> Sequence[Route]:
        write = ("POST", "PUT")
        return [
            Route(("GET",), "/v1.0/state/{store}/{key}", self.get, "GetState", "state"),
            Route(write, "/v1.0/state/{store}", self.save, "SaveState", "state"),
            Route(("DELETE",), "/v1.0/state/{store}/{key}", self.delete, "DeleteState", "state"),
            Route(write, "/v1.0/state/{store}/bulk", self.bulk_get, "GetBulkState", "state"),
            Route(write, "/v1.0/state/{store}/transaction", self.transact, "ExecuteStateTransaction", "state"),
            Route(write, "/v1.0-alpha1/state/{store}/query", self.query, "QueryStateAlpha1", "state", "v1alpha1"),
        ]

    async def get(self, call: HttpCall) -> Response:
        store, key = call.params
        value = await self._block.get(call.proved, store, key, call.query("consistency"), call.metadata())
        if value is None:
            return no_content()
        headers = [(b"content-type", JSON), *metadata_headers(value.metadata)]
        if value.etag:
            headers.append((b"etag", value.etag.encode()))
        if not value.data:
            return Response(204, headers[1:])
        return Response(200, headers, value.data)

    async def save(self, call: HttpCall) -> Response:
        (store,) = call.params
        caller = call.proved
        self._block.check_store(caller, store)
        body = call.request.body
        if isinstance(body, bytes):  # as most are: without the coroutine, 0.1 µs less
            given = call.decoded(body, _ITEMS, self._mend_items)
        else:
            given = await call.json(_ITEMS, self._mend_items)
        given = given or _NO_ITEMS
        self._block.check_count(store, len(given))
        overrides = call.metadata()
        items: list[SaveItem] = []
        for item in given:
            if not item.key:
                raise errors.STATE_KEY_EMPTY()  # Dapr's HTTP API calls this a body of the wrong form, its gRPC API does not
            items.append(_save_item(item, overrides))
        await self._block.save(caller, store, items)
        return no_content()

    async def delete(self, call: HttpCall) -> Response:
        store, key = call.params
        etag = call.request.header(b"if-match")
        item = DeleteItem(
            key,
            etag=etag.decode("latin-1") if etag is not None else None,
            concurrency=call.query("concurrency"),
            consistency=call.query("consistency"),
            metadata=call.metadata(),
        )
        await self._block.delete(call.proved, store, item)
        return no_content()

    async def bulk_get(self, call: HttpCall) -> Response:
        (store,) = call.params
        request = await self._read(call, _BULK_GET, self._mend_bulk_get)
        metadata = {**(request.metadata or {}), **call.metadata()}
        items = await self._block.bulk_get(call.proved, store, request.keys, request.parallelism, metadata)
        return json_bytes(orjson.dumps([_bulk_item(item) for item in items]))

    async def transact(self, call: HttpCall) -> Response:
        (store,) = call.params
        request = await self._read(call, _TRANSACTION, self._mend_transaction)
        self._block.check_count(store, len(request.operations))
        overrides = call.metadata()
        operations = [TransactionItem(o.operation, _save_item(o.request, overrides)) for o in request.operations]
        await self._block.transact(call.proved, store, operations, request.metadata or {}, Trace.carried(call.trace))
        return no_content()

    async def query(self, call: HttpCall) -> Response:
        (store,) = call.params
        result = await self._block.query(call.proved, store, await call.body(), call.metadata())
        if not result.items and not result.token:
            return no_content()
        body: dict[str, object] = {
            "results": [
                {"key": key, "data": _json_or_text(value)} | ({"etag": value.etag} if value.etag else {})
                for key, value in result.items
            ]
        }
        if result.token:
            body["token"] = result.token
        if result.metadata:
            body["metadata"] = dict(result.metadata)
        return json_bytes(orjson.dumps(body))

    async def _read(self, call: HttpCall, decoder: msgspec.json.Decoder[T], mend: Mend) -> T:
        """The body, once the store is known to be there: daprd tells of the store first."""
        (store,) = call.params
        self._block.check_store(call.proved, store)
        return await call.json(decoder, mend)

    def _mend(self, shape: msgspec.inspect.Type) -> Mend:
        """For JSON whose names are in other letters."""

        def mend(data: bytes, call: HttpCall) -> bytes:
            (store,) = call.params
            return fold_names(data, shape, lambda count: self._block.check_count(store, count))

        return mend


def _save_item(item: _Item, overrides: dict[str, str]) -> SaveItem:
    options = item.options or _NO_OPTIONS
    metadata = item.metadata or {}
    return SaveItem(
        item.key,
        bytes(item.value),
        etag=item.etag,
        concurrency=options.concurrency,
        consistency=options.consistency,
        metadata={**metadata, **overrides} if overrides else metadata,
        content_type=_text(item.content_type) if item.content_type is not _NULL else "",
    )


def _text(value: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError:
        return ""


def _bulk_item(item: BulkItem) -> dict[str, object]:
    answer: dict[str, object] = {"key": item.key}
    if item.error:
        answer["error"] = item.error
    if item.value is not None:
        if item.value.data:
            answer["data"] = _json_or_text(item.value)
        if item.value.etag:
            answer["etag"] = item.value.etag
        if item.value.metadata:
            answer["metadata"] = dict(item.value.metadata)
    return answer


def _json_or_text(value: StateValue) -> object:
    """Stored JSON as it is; bytes that are not JSON (saved over gRPC) as a base64 text, which stays valid JSON."""
    if value.is_json or is_json_text(value.data):
        return orjson.Fragment(value.data)
    return msgspec.to_builtins(value.data)
