"""Errors of locks.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

LOCK_NOT_CONFIGURED = ErrorRow(
    "ERR_LOCK_STORE_NOT_CONFIGURED",
    500,
    GrpcCode.FAILED_PRECONDITION,
    "lock store is not configured",
    "Load a Component of type lock.*, in scope of this app.",
)
LOCK_NOT_FOUND = ErrorRow(
    "ERR_LOCK_STORE_NOT_FOUND",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "lock store {store} not found",
    "Correct the name, or load the Component, in scope of this app.",
)
LOCK_RESOURCE_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "ResourceId is empty in lock store {store}",
    "Name the resource to lock.",
)
LOCK_OWNER_EMPTY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "LockOwner is empty in lock store {store}",
    "Name who holds the lock.",
)
LOCK_EXPIRY = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "ExpiryInSeconds is not positive in lock store {store}",
    "Give the lock at least one second.",
)
LOCK_TRY = ErrorRow(
    "ERR_TRY_LOCK",
    500,
    GrpcCode.INTERNAL,
    "failed to try acquiring lock: {detail}",
    "Look at the lock store; see the detail.",
)
LOCK_UNLOCK = ErrorRow(
    "ERR_UNLOCK",
    500,
    GrpcCode.INTERNAL,
    "failed to release lock: {detail}",
    "Look at the lock store; see the detail.",
)
