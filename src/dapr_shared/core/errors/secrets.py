"""Errors of the secrets API.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

SECRET_STORES_NOT_CONFIGURED = ErrorRow(
    "ERR_SECRET_STORES_NOT_CONFIGURED",
    500,
    GrpcCode.FAILED_PRECONDITION,
    "secret store is not configured",
    "Load a Component of type secretstores.*, in scope of this app.",
)
SECRET_STORE_NOT_FOUND = ErrorRow(
    "ERR_SECRET_STORE_NOT_FOUND",
    401,
    GrpcCode.INVALID_ARGUMENT,
    "failed finding secret store with key {store}",
    "Correct the name, or load the Component, in scope of this app.",
)
SECRET_DENIED = ErrorRow(
    "ERR_PERMISSION_DENIED",
    403,
    GrpcCode.PERMISSION_DENIED,
    "access denied by policy to get {key} from {store}",
    "On a shared instance, open the secret in spec.secrets of the App; elsewhere in the Configuration's secrets scopes.",
)
SECRET_GET = ErrorRow(
    "ERR_SECRET_GET",
    500,
    GrpcCode.INTERNAL,
    "failed getting secret with key {key} from secret store {store}: {detail}",
    "Check that the secret exists and the store is reachable; see the detail.",
)
