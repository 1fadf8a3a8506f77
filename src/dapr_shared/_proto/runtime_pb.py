"""Messages of dapr.proto.runtime.v1, without the app callbacks.

Generated from proto/ by scripts/generate_protos.py; do not edit.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import lazy_attributes

__getattr__ = lazy_attributes(
    globals(),
    "dapr/proto/runtime/v1/actors.proto",
    "dapr/proto/runtime/v1/ai.proto",
    "dapr/proto/runtime/v1/binarystore.proto",
    "dapr/proto/runtime/v1/binding.proto",
    "dapr/proto/runtime/v1/configuration.proto",
    "dapr/proto/runtime/v1/crypto.proto",
    "dapr/proto/runtime/v1/dapr.proto",
    "dapr/proto/runtime/v1/invoke.proto",
    "dapr/proto/runtime/v1/jobs.proto",
    "dapr/proto/runtime/v1/lock.proto",
    "dapr/proto/runtime/v1/metadata.proto",
    "dapr/proto/runtime/v1/pubsub.proto",
    "dapr/proto/runtime/v1/search.proto",
    "dapr/proto/runtime/v1/secret.proto",
    "dapr/proto/runtime/v1/state.proto",
    "dapr/proto/runtime/v1/vector.proto",
    "dapr/proto/runtime/v1/workflow.proto",
)
