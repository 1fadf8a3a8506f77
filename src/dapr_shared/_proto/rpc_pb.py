"""Messages of google.rpc: a status and its details.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
