"""From the items of clients to the requests of a store: keys, options, time to live.

Step 4 of the request road. Facts: reference http-api §4, grpc-api §1.4, behaviours §2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from dapr_shared.blocks.state.encryption import encrypted
from dapr_shared.blocks.state.items import is_json_text
from dapr_shared.blocks.state.keys import full_key
from dapr_shared.contracts.state import Concurrency, Consistency, DeleteRequest, Operation, SetRequest
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.contracts.state import StateStore
    from dapr_shared.core.errors import ErrorRow
    from dapr_shared.identity.caller import Caller

TTL_KEY = "ttlInSeconds"
MAX_TTL = 2**31 - 1
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}").fullmatch

_CONCURRENCY = {c.value: c for c in Concurrency}
CONSISTENCY = {c.value: c for c in Consistency}


def _ttl(metadata: Mapping[str, str], store: str, row: ErrorRow) -> int | None:
    """Seconds; zero and below mean no expiry (daprd's stores differ below -1; its memory store takes any)."""
    text = metadata.get(TTL_KEY)
    if text is None or text == "":
        return None
    if not _WHOLE_NUMBER(text):  # int() takes more than Go does: spaces, underscores, the digits of other scripts
        raise row(store=store, key="", detail=f"{TTL_KEY} must be a whole number of seconds, found {text[:40]!r}")
    seconds = int(text)
    if seconds > MAX_TTL:
        raise row(store=store, key="", detail=f"{TTL_KEY} must be at most {MAX_TTL}, found {seconds}")
    return seconds


def _options(item: SaveItem | DeleteItem, store: str, row: ErrorRow) -> tuple[Concurrency, Consistency]:
    concurrency = _CONCURRENCY.get(item.concurrency)
    consistency = CONSISTENCY.get(item.consistency)
    if concurrency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized concurrency model '{item.concurrency}'")
    if consistency is None:
        raise row(store=store, key=item.key, detail=f"unrecognized consistency model '{item.consistency}'")
    return concurrency, consistency


def save_request(opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem) -> SetRequest:
    """The write of one item, which must have a key and, where it says so, JSON.

    A value that is declared as JSON and is none is `STATE_SAVE_INVALID`: daprd answers the gRPC code UNKNOWN there,
    which would say that the server is broken.
    """
    if not item.key:
        raise errors.STATE_SAVE_KEY_EMPTY()
    if item.is_json and not item.parsed and not is_json_text(item.value):
        raise errors.STATE_SAVE_INVALID(store=store, detail=f"the value of {item.key} is declared as JSON and is none")
    return _set_request(opened, caller, store, item, errors.STATE_SAVE)


def _set_request(
    opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem, row: ErrorRow
) -> SetRequest:
    concurrency, consistency = _options(item, store, row)
    request = SetRequest(
        full_key(opened, caller, item.key),
        item.value,
        is_json=item.is_json,
        etag=item.etag or None,
        concurrency=concurrency,
        consistency=consistency,
        ttl=_ttl(item.metadata, store, row) if item.metadata else None,
        metadata=item.metadata,
    )
    return request if opened.encryption is None else encrypted(opened.encryption, request)


def delete_request(
    opened: Opened[StateStore[Any]], caller: Caller, store: str, item: SaveItem | DeleteItem, row: ErrorRow
) -> DeleteRequest:
    """The deletion of one item's key. Raises `row` for options that are none."""
    concurrency, consistency = _options(item, store, row)
    return DeleteRequest(
        full_key(opened, caller, item.key),
        etag=item.etag or None,
        concurrency=concurrency,
        consistency=consistency,
        metadata=item.metadata,
    )


def operation_of(opened: Opened[StateStore[Any]], caller: Caller, store: str, operation: TransactionItem) -> Operation:
    """As in daprd, an operation may have an empty key, and a value that is declared as JSON and is none stays bytes."""
    item = operation.item
    if operation.operation == "upsert":
        if item.is_json and not item.parsed and not is_json_text(item.value):
            item = msgspec.structs.replace(item, is_json=False)
        return _set_request(opened, caller, store, item, errors.STATE_TRANSACTION)
    if operation.operation == "delete":
        return delete_request(opened, caller, store, item, errors.STATE_TRANSACTION)
    raise errors.STATE_OPERATION_NOT_SUPPORTED(operation=operation.operation)
