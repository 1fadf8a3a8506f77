"""Messages of dapr.proto.components.v1: pluggable components.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "dapr/proto/components/v1/bindings.proto",
    "dapr/proto/components/v1/common.proto",
    "dapr/proto/components/v1/pubsub.proto",
    "dapr/proto/components/v1/secretstore.proto",
    "dapr/proto/components/v1/state.proto",
)
