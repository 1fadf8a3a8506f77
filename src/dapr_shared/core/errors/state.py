"""Errors of the state API.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

STATE_NOT_CONFIGURED = ErrorRow(
    "ERR_STATE_STORE_NOT_CONFIGURED",
    500,
    GrpcCode.FAILED_PRECONDITION,
    "state store {store} is not configured",
    "Load a Component of type state.*, in scope of this app.",
    reason="DAPR_STATE_NOT_CONFIGURED",
)
STATE_NOT_FOUND = ErrorRow(
    "ERR_STATE_STORE_NOT_FOUND",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "state store {store} is not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="DAPR_STATE_NOT_FOUND",
)
STATE_ILLEGAL_KEY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "input key/keyPrefix '{key}' can't contain '||'",
    "Choose a key without '||'.",
    reason="DAPR_STATE_ILLEGAL_KEY",
)
STATE_KEY_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    '"key" is a required field',
    "Give each item a key.",
)
STATE_SAVE_KEY_EMPTY = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "state key cannot be empty",
    "Give each item a key.",
    reason="ERR_STATE_SAVE",
)
STATE_TOO_MANY_ITEMS = ErrorRow(
    "ERR_STATE_TOO_MANY_ITEMS",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "the request for state store {store} has {count} items, more than {limit}",
    "Send the items in several requests.",
    reason="ERR_STATE_TOO_MANY_ITEMS",
)
STATE_BULK_GET_TOO_LARGE = ErrorRow(
    "ERR_STATE_BULK_GET_TOO_LARGE",
    400,
    GrpcCode.RESOURCE_EXHAUSTED,
    "the values of these keys in state store {store} are more than {limit} bytes together",
    "Ask for fewer keys at a time.",
    reason="ERR_STATE_BULK_GET_TOO_LARGE",
)
STATE_GET = ErrorRow(
    "ERR_STATE_GET",
    500,
    GrpcCode.INTERNAL,
    "failed to get {key} from state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_GET",
)
STATE_SAVE = ErrorRow(
    "ERR_STATE_SAVE",
    500,
    GrpcCode.INTERNAL,
    "failed saving state in state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_SAVE",
    409,
    GrpcCode.ABORTED,
    "failed saving state in state store {store}: possible etag mismatch: {detail}",
    "Read the value again and save it with its present etag.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed saving state in state store {store}: invalid etag: {detail}",
    "Send the etag as this store gave it.",
    reason="ERR_STATE_SAVE",
)
STATE_SAVE_INVALID = ErrorRow(
    "ERR_STATE_SAVE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed saving state in state store {store}: {detail}",
    "Correct the item that the message names.",
    reason="ERR_STATE_SAVE",
)
STATE_DELETE = ErrorRow(
    "ERR_STATE_DELETE",
    500,
    GrpcCode.INTERNAL,
    "failed deleting state with key {key}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_DELETE",
)
STATE_DELETE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_DELETE",
    409,
    GrpcCode.ABORTED,
    "failed deleting state with key {key}: possible etag mismatch: {detail}",
    "Read the value again and delete it with its present etag.",
    reason="ERR_STATE_DELETE",
)
STATE_DELETE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_DELETE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed deleting state with key {key}: invalid etag: {detail}",
    "Send the etag as this store gave it.",
    reason="ERR_STATE_DELETE",
)
STATE_BULK_DELETE = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    500,
    GrpcCode.INTERNAL,
    "failed deleting state in state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_DELETE_ETAG_MISMATCH = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    409,
    GrpcCode.ABORTED,
    "failed deleting state in state store {store}: possible etag mismatch: {detail}",
    "Read the values again and delete them with their present etags; what had its etag is deleted.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_DELETE_ETAG_INVALID = ErrorRow(
    "ERR_STATE_BULK_DELETE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed deleting state in state store {store}: invalid etag: {detail}",
    "Send each etag as this store gave it.",
    reason="ERR_STATE_BULK_DELETE",
)
STATE_BULK_GET = ErrorRow(
    "ERR_STATE_BULK_GET",
    500,
    GrpcCode.INTERNAL,
    "failed to get the keys from state store {store}: {detail}",
    "Look at the state store; see the detail.",
    reason="ERR_STATE_BULK_GET",
)
STATE_TRANSACTION = ErrorRow(
    "ERR_STATE_TRANSACTION",
    500,
    GrpcCode.INTERNAL,
    "error while executing state transaction: {detail}",
    "Nothing of the transaction was written. Look at the detail, correct it and send the transaction again.",
    reason="ERR_STATE_TRANSACTION",
)
STATE_OPERATION_NOT_SUPPORTED = ErrorRow(
    "ERR_NOT_SUPPORTED_STATE_OPERATION",
    400,
    GrpcCode.UNIMPLEMENTED,
    "operation type {operation} not supported",
    "Use upsert or delete.",
    reason="ERR_NOT_SUPPORTED_STATE_OPERATION",
)
STATE_TRANSACTIONS_NOT_SUPPORTED = ErrorRow(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    500,
    GrpcCode.UNIMPLEMENTED,
    "state store {store} doesn't support transactions",
    "Use a store with the TRANSACTIONAL capability.",
    reason="DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
)
STATE_TOO_MANY_TRANSACTIONS = ErrorRow(
    "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "the transaction contains {count} operations, more than what the state store {store} supports: {limit}",
    "Split the transaction.",
    reason="DAPR_STATE_TOO_MANY_TRANSACTIONS",
)
STATE_QUERY_NOT_SUPPORTED = ErrorRow(
    "ERR_STATE_STORE_NOT_SUPPORTED",
    500,
    GrpcCode.INTERNAL,
    "state store does not support querying",
    "Use a store with the QUERY_API capability.",
    reason="DAPR_STATE_QUERYING_NOT_SUPPORTED",
)
STATE_QUERY = ErrorRow(
    "ERR_STATE_QUERY",
    500,
    GrpcCode.INTERNAL,
    "failed query in state store {store}: {detail}",
    "Look at the query and the detail.",
    reason="DAPR_STATE_QUERY_FAILED",
)
