"""The one translation of errors: a row of the table becomes an HTTP answer or a gRPC status.

Last step of the request road, on the way up. Facts: reference http-api §2, grpc-api §1.3.
"""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING, Any

import orjson

from dapr_shared._proto import rpc_pb
from dapr_shared.core.errors import DaprError, GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from dapr_shared.wire.http.messages import Response

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOMAIN = "dapr.io"
_TYPE_PREFIX = "type.googleapis.com/"
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
STATUS_DETAILS = "grpc-status-details-bin"

HTTP_TO_GRPC: dict[int, GrpcCode] = {
    400: GrpcCode.INTERNAL,
    401: GrpcCode.UNAUTHENTICATED,
    403: GrpcCode.PERMISSION_DENIED,
    404: GrpcCode.NOT_FOUND,
    408: GrpcCode.CANCELLED,
    409: GrpcCode.ALREADY_EXISTS,
    429: GrpcCode.RESOURCE_EXHAUSTED,
    500: GrpcCode.UNKNOWN,
    501: GrpcCode.UNIMPLEMENTED,
    503: GrpcCode.UNAVAILABLE,
    504: GrpcCode.DEADLINE_EXCEEDED,
}
"""What an app's HTTP status is to a gRPC client (reference grpc-api §1.3); 2xx is OK, all others are UNKNOWN."""


def http_response(error: DaprError) -> Response:
    """The HTTP answer: rich form (with `details`) for a row with a reason of its own, else the legacy form."""
    row = error.row
    if row.plain_text:
        return Response(row.http, [(b"content-type", TEXT)], error.message.encode())
    body: dict[str, Any] = {"errorCode": row.code, "message": error.message}
    if row.reason and row.reason != row.code:
        body["details"] = _json_details(error)
    return Response(row.http, [(b"content-type", JSON)], orjson.dumps(body))


def grpc_error(error: DaprError) -> GrpcError:
    """The gRPC status, with details where the row has a reason."""
    row = error.row
    if not row.reason:
        return GrpcError(row.grpc, error.message)
    return with_details(row.grpc, error.message, _proto_details(error))


def grpc_error_of_http(status: int, body: bytes) -> GrpcError:
    """The gRPC status for the answer of an HTTP app that is not 2xx (reference grpc-api §1.3)."""
    text = responses.get(status) or f"HTTP status {status}"  # `in HTTPStatus` raises TypeError before Python 3.12
    info = rpc_pb.ErrorInfo(
        reason=text,
        domain=DOMAIN,
        metadata={"http.code": str(status), "http.error_message": body[:63].decode("utf-8", "replace")},
    )
    return with_details(HTTP_TO_GRPC.get(status, GrpcCode.UNKNOWN), text, [info])


def with_details(code: GrpcCode, message: str, details: list[Message]) -> GrpcError:
    """A gRPC status that carries a google.rpc.Status."""
    status = rpc_pb.Status(code=int(code), message=message)
    for detail in details:
        packed = status.details.add()
        packed.type_url = _TYPE_PREFIX + detail.DESCRIPTOR.full_name
        packed.value = detail.SerializeToString()
    return GrpcError(code, message, trailers=((STATUS_DETAILS, status.SerializeToString()),))


def _json_details(error: DaprError) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if error.violations:
        violations = [{"field": v.field, "description": v.description} for v in error.violations]
        details.append({"@type": _TYPE_PREFIX + "google.rpc.BadRequest", "field_violations": violations})
    if error.resource:
        details.append(
            {
                "@type": _TYPE_PREFIX + "google.rpc.ResourceInfo",
                "resource_type": error.resource.type,
                "resource_name": error.resource.name,
                "owner": error.resource.owner,
                "description": error.resource.description,
            }
        )
    details.append(
        {
            "@type": _TYPE_PREFIX + "google.rpc.ErrorInfo",
            "domain": DOMAIN,
            "reason": error.row.reason,
            "metadata": dict(error.info) or None,
        }
    )
    return details


def _proto_details(error: DaprError) -> list[Message]:
    details: list[Message] = []
    if error.violations:
        bad = rpc_pb.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        details.append(bad)
    if error.resource:
        details.append(
            rpc_pb.ResourceInfo(
                resource_type=error.resource.type,
                resource_name=error.resource.name,
                owner=error.resource.owner,
                description=error.resource.description,
            )
        )
    details.append(rpc_pb.ErrorInfo(reason=error.row.reason, domain=DOMAIN, metadata=dict(error.info)))
    return details
