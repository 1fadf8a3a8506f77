"""Messages of the app callbacks of dapr.proto.runtime.v1.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "dapr/proto/runtime/v1/appcallback.proto",
)
