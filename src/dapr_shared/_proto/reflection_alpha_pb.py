"""Messages of grpc.reflection.v1alpha.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "grpc/reflection/v1alpha/reflection.proto",
)
