"""Dapr's protocol as message classes and service tables; below both roads, the lowest layer of the house.

The messages are in one module a package, written as in `from dapr_shared._proto import runtime_pb`:

- `runtime_pb`: dapr.proto.runtime.v1 but for the callbacks: what apps send to the API and get back;
- `appcallback_pb`: the callbacks of dapr.proto.runtime.v1: what apps are sent;
- `common_pb`: dapr.proto.common.v1;
- `components_pb`: dapr.proto.components.v1: pluggable components;
- `internals_pb`: dapr.proto.internals.v1: what instances and sidecars say to each other;
- `rpc_pb`: google.rpc, the status of an error and its details;
- `wellknown_pb`: google.protobuf: `Any`, `Empty`, `Struct`, `Duration`, `Timestamp`, the wrappers;
- `reflection_pb`, `reflection_alpha_pb`: grpc.reflection.v1 and v1alpha.

`scripts/generate_protos.py` writes those modules, their stubs and `descriptors.binpb` from `proto/`; only this file,
`descriptors.py` and `services.py` are written by hand.
"""

from __future__ import annotations

from dapr_shared._proto.descriptors import file_containing, file_descriptors, message_class, pool
from dapr_shared._proto.services import SERVICES, MethodKind, MethodRow, ServiceTable

__all__ = [
    "SERVICES",
    "MethodKind",
    "MethodRow",
    "ServiceTable",
    "file_containing",
    "file_descriptors",
    "message_class",
    "pool",
]
