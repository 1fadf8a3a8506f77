"""Errors of the configuration API.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

CONFIGURATION_NOT_CONFIGURED = ErrorRow(
    "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
    500,
    GrpcCode.FAILED_PRECONDITION,
    "configuration stores not configured",
    "Load a Component of type configuration.*, in scope of this app.",
    reason="ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
)
CONFIGURATION_NOT_FOUND = ErrorRow(
    "ERR_CONFIGURATION_STORE_NOT_FOUND",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "configuration store {store} not found",
    "Correct the name, or load the Component, in scope of this app.",
    reason="ERR_CONFIGURATION_STORE_NOT_FOUND",
)
CONFIGURATION_GET = ErrorRow(
    "ERR_CONFIGURATION_GET",
    500,
    GrpcCode.INTERNAL,
    "failed to get {keys} from Configuration store {store}: {detail}",
    "Look at the configuration store; see the detail.",
    reason="ERR_CONFIGURATION_GET",
)
CONFIGURATION_SUBSCRIBE = ErrorRow(
    "ERR_CONFIGURATION_SUBSCRIBE",
    500,
    GrpcCode.INVALID_ARGUMENT,
    "failed to subscribe {keys} from Configuration store {store}: {detail}",
    "Look at the configuration store; see the detail.",
    reason="ERR_CONFIGURATION_SUBSCRIBE",
)
CONFIGURATION_UNSUBSCRIBE = ErrorRow(
    "ERR_CONFIGURATION_UNSUBSCRIBE",
    500,
    GrpcCode.INTERNAL,
    "failed to unsubscribe to configuration request {id}: {detail}",
    "Give the id that subscribing answered, as the app that subscribed.",
)
CONFIGURATION_TOO_MANY_SUBSCRIPTIONS = ErrorRow(
    "ERR_CONFIGURATION_TOO_MANY_SUBSCRIPTIONS",
    429,
    GrpcCode.RESOURCE_EXHAUSTED,
    "app {app} has {limit} configuration subscriptions, the most there may be",
    "Unsubscribe from what is no longer needed, or name several keys in one subscription.",
    reason="ERR_CONFIGURATION_TOO_MANY_SUBSCRIPTIONS",
)
APP_CHANNEL_NIL = ErrorRow(
    "ERR_APP_CHANNEL_NIL",
    500,
    GrpcCode.INTERNAL,
    "app channel is not initialized. {detail}",
    "Give the app a channel (its port), so that it can be called.",
)
