"""Messages of dapr.proto.internals.v1: what instances and sidecars say to each other.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "dapr/proto/internals/v1/service_invocation.proto",
)
