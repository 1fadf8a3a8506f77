"""What clients send to the state block and get from it, whatever the protocol.

Step 4 of the request road. Facts: reference http-api §4, grpc-api §1.4.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - part of public data classes

import msgspec

from dapr_shared.contracts.state import StateValue  # noqa: TC001 - part of a public data class


class SaveItem(msgspec.Struct, frozen=True):
    """One value to save, as a client sent it."""

    key: str
    value: bytes
    is_json: bool = True
    parsed: bool = True
    """False: `is_json` is the client's word alone."""
    etag: str | None = None
    concurrency: str = ""
    consistency: str = ""
    metadata: Mapping[str, str] = {}
    content_type: str = ""
    """Of what the outbox publishes; `contentType` in the metadata means the same."""


class DeleteItem(msgspec.Struct, frozen=True):
    """One key to delete, as a client sent it."""

    key: str
    etag: str | None = None
    concurrency: str = ""
    consistency: str = ""
    metadata: Mapping[str, str] = {}


class BulkItem(msgspec.Struct, frozen=True):
    """One answer of a bulk get."""

    key: str
    value: StateValue | None = None
    error: str = ""


class TransactionItem(msgspec.Struct, frozen=True):
    """One operation of a transaction, as a client sent it."""

    operation: str
    item: SaveItem


def is_json_text(data: bytes) -> bool:
    """Whether the bytes are one JSON value in UTF-8."""
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
