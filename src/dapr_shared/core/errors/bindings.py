"""Errors of bindings.

Rows of the error table: `core/errors/__init__.py`.
"""

from __future__ import annotations

from dapr_shared.core.errors.rows import ErrorRow, GrpcCode

BINDING_INVOKE = ErrorRow(
    "ERR_INVOKE_OUTPUT_BINDING",
    500,
    GrpcCode.INTERNAL,
    "error invoking output binding {name}: {detail}",
    "Name a bindings component in scope of this app and one of its operations; else look at the external system.",
    reason="ERR_INVOKE_OUTPUT_BINDING",
)
