"""The answer of a gRPC app as an invocation's response: for HTTP callers a status and JSON, for gRPC callers the status.

Beside both roads: the channel to a gRPC app makes it of what the app answered, the mesh of what another instance passes
on from one (reference grpc-api §1.3).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf import json_format

from dapr_shared._proto import common_pb, pool, rpc_pb
from dapr_shared.contracts.invocation import InvokeResponse
from dapr_shared.core.errors import GrpcCode

if TYPE_CHECKING:
    from dapr_shared._proto import wellknown_pb
    from dapr_shared.wire.grpc.interface import GrpcError, Metadata
    from dapr_shared.wire.http.messages import Headers

VERBS = {
    name: common_pb.HTTPExtension.Verb.Value(name)
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}
"""HTTP verbs as `InvokeRequest` numbers them; 0 is none."""

HTTP_STATUS = {
    GrpcCode.OK: 200,
    GrpcCode.CANCELLED: 408,
    GrpcCode.UNKNOWN: 500,
    GrpcCode.INVALID_ARGUMENT: 400,
    GrpcCode.DEADLINE_EXCEEDED: 504,
    GrpcCode.NOT_FOUND: 404,
    GrpcCode.ALREADY_EXISTS: 409,
    GrpcCode.PERMISSION_DENIED: 403,
    GrpcCode.RESOURCE_EXHAUSTED: 429,
    GrpcCode.FAILED_PRECONDITION: 400,
    GrpcCode.ABORTED: 409,
    GrpcCode.OUT_OF_RANGE: 400,
    GrpcCode.UNIMPLEMENTED: 501,
    GrpcCode.INTERNAL: 500,
    GrpcCode.UNAVAILABLE: 503,
    GrpcCode.DATA_LOSS: 500,
    GrpcCode.UNAUTHENTICATED: 401,
}
"""The HTTP status that an HTTP caller sees for an app's gRPC status (reference grpc-api §1.3)."""


def as_headers(metadata: Metadata) -> Headers:
    """Metadata as headers; the bytes of `-bin` keys as they are."""
    return [(key.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for key, value in metadata]


def status_response(error: GrpcError) -> InvokeResponse:
    """An app's status other than OK, as HTTP callers and gRPC callers want it."""
    details = b""
    for key, value in error.trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = value
    return InvokeResponse(
        HTTP_STATUS[error.code],
        as_headers(error.initial),
        msgspec.json.encode(_status_json(error, details)),
        b"application/json",
        grpc_status=(error.code, error.message, details),
        trailers=as_headers([(key, value) for key, value in error.trailers if key != "grpc-status-details-bin"]),
    )


def _status_json(error: GrpcError, details: bytes) -> dict[str, Any]:
    """The google.rpc.Status in the JSON form of protobuf; fields without a value are left out, as Go does."""
    status: dict[str, Any] = {"code": int(error.code)}
    if error.message:
        status["message"] = error.message
    if details:
        try:
            parsed = rpc_pb.Status.FromString(details)
        except Exception:  # noqa: BLE001 - protobuf's DecodeError; without its details the status is still true
            return status
        listed = [_detail_json(detail) for detail in parsed.details]
        if listed:
            status["details"] = listed
    return status


def _detail_json(detail: wellknown_pb.Any) -> dict[str, Any]:
    """One detail; of a type that is the app's own, the bytes."""
    try:
        return json_format.MessageToDict(detail, descriptor_pool=pool())
    except (TypeError, json_format.Error, ValueError):
        return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode("ascii")}
