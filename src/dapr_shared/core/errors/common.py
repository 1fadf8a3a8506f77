"""Errors of no block: wrong requests, limits, defects.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

MALFORMED_REQUEST = ErrorRow(
    "ERR_MALFORMED_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed deserializing HTTP body: {detail}",
    "Send a body of the documented form; the message says where the first error is.",
)
BAD_REQUEST = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "invalid request: {detail}",
    "Correct the part of the request that the message names.",
)
BAD_BAGGAGE = ErrorRow(
    "ERR_BAD_REQUEST",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "{detail}",
    "Send a baggage header of the W3C form, or none.",
    plain_text=True,
)
BODY_READ = ErrorRow(
    "ERR_BODY_READ",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "failed to read the request body: {detail}",
    "Keep the body within --max-body-size, or raise it; send the length that was announced.",
)
INTERNAL = ErrorRow(
    "ERR_INTERNAL",
    500,
    GrpcCode.INTERNAL,
    "internal error (trace {trace})",
    "This is a defect: report it with the log line of the same trace id.",
)
UNIMPLEMENTED = ErrorRow(
    "ERR_API_UNIMPLEMENTED",
    501,
    GrpcCode.UNIMPLEMENTED,
    "{api} is not available in this version",
    "See the compatibility table for what this version offers.",
    reason="Not Implemented",
)
TOO_MANY_CALLS = ErrorRow(
    "ERR_TOO_MANY_CALLS",
    429,
    GrpcCode.RESOURCE_EXHAUSTED,
    "app {app} has {limit} calls in flight, its limit",
    "Send fewer calls at a time, or raise --max-calls-per-app.",
)

COMPONENT_BUSY = ErrorRow(
    "ERR_COMPONENT_BUSY",
    429,
    GrpcCode.RESOURCE_EXHAUSTED,
    "component {component} carries out {total} calls at a time, and app {app} waited {seconds:g} s for its turn",
    "Send fewer or quicker calls at a time, or raise the component's connections (maxConns, poolSize).",
)
