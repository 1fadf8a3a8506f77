"""Errors of health, metadata and shutdown.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

HEALTH_NOT_READY = ErrorRow(
    "ERR_HEALTH_NOT_READY",
    500,
    GrpcCode.UNAVAILABLE,
    "dapr is not ready: {detail}",
    "Wait, or look at what the message lists as unhealthy.",
)
OUTBOUND_HEALTH_NOT_READY = ErrorRow(
    "ERR_OUTBOUND_HEALTH_NOT_READY",
    500,
    GrpcCode.UNAVAILABLE,
    "dapr outbound is not ready: {detail}",
    "Wait, or look at what the message lists as not ready.",
)
HEALTH_APPID_NOT_MATCH = ErrorRow(
    "ERR_HEALTH_APPID_NOT_MATCH",
    500,
    GrpcCode.INVALID_ARGUMENT,
    "dapr app-id does not match",
    "Ask for the app id that this instance serves.",
)
METADATA_TOO_LARGE = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "metadata of app {app}: {detail}",
    "Remove entries or shorten the value.",
)
