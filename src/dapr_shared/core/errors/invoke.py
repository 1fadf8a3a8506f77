"""Errors of service invocation, gRPC proxying, and calls between instances.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

INVOKE_NO_TARGET = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    GrpcCode.NOT_FOUND,
    "failed getting app id either from the URL path or the header dapr-app-id",
    "Name the app in the path (/v1.0/invoke/<app>/method/<method>), in dapr-app-id, or as the user of basic authorization.",
)
INVOKE_FAILED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.INTERNAL,
    "failed to invoke, id: {app}, err: {detail}",
    "Check that the app is registered, running and reachable at its channel's address; see the detail.",
)
INVOKE_UNAVAILABLE = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.UNAVAILABLE,
    "failed to invoke, id: {app}, err: {detail}",
    "Check that the app is running and reachable at its channel's address; see the detail.",
)
INVOKE_NOT_FOUND = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.INTERNAL,
    "failed to invoke, id: {app}, err: couldn't find service: {app}",
    "Register the app with this instance (an App resource), or correct the id.",
)
INVOKE_TIMEOUT = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.DEADLINE_EXCEEDED,
    "failed to invoke, id: {app}, err: context deadline exceeded",
    "The app did not answer in time: look at it, or raise the timeout.",
)
INVOKE_BAD_METHOD = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.INTERNAL,
    "failed to invoke, id: {app}, err: invalid method name: {detail}",
    "Percent-encode the method; '#', '?', NUL and control characters are not allowed in it.",
)
INVOKE_DENIED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    403,
    GrpcCode.PERMISSION_DENIED,
    "failed to invoke, id: {app}, err: {detail}",
    "The target does not allow this call; see the detail.",
)
PROXY_NO_TARGET = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    GrpcCode.UNKNOWN,
    "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found",
    "Send the target app's id in the gRPC metadata dapr-app-id.",
)
PEER_APP_NOT_SERVED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    404,
    GrpcCode.NOT_FOUND,
    "app {app} is not served here: {detail}",
    "Check which instance serves the app, and where the caller's name resolution finds it.",
)
PEER_CALL_DENIED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    403,
    GrpcCode.PERMISSION_DENIED,
    "{detail}",
    "Without mTLS no caller of another instance is known: only accessControl.defaultAction of the app lets it in.",
)
PEER_CALL_FAILED = ErrorRow(
    "ERR_DIRECT_INVOKE",
    500,
    GrpcCode.INTERNAL,
    "error invoking app channel: {detail}",
    "Check that the app is running and reachable at its channel's address; see the detail.",
)
PEER_CALL_INVALID = ErrorRow(
    "ERR_DIRECT_INVOKE",
    400,
    GrpcCode.INVALID_ARGUMENT,
    "parsing InternalInvokeRequest error: {detail}",
    "The caller is no instance or daprd sidecar that this one understands; see the detail.",
)
