"""Invocations as the messages of `dapr.proto.internals.v1.ServiceInvocation`, and back.

Step 6c of the request road, on both ends: `peers.py` sends them, `api/grpc/service_invocation.py` receives them. Facts:
reference internal §3. Header names travel in Go's spelling (`Content-Type`), which daprd compares in places; what Dapr
itself adds is in lower case.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from dapr_shared._proto import common_pb, internals_pb, rpc_pb
from dapr_shared.contracts.grpc_status import VERBS, status_response
from dapr_shared.contracts.invocation import ChannelError, InvokeRequest, InvokeResponse
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.core.ids import AppRef
    from dapr_shared.wire.http.messages import Body, Headers

SERVICE: Final = "dapr.proto.internals.v1.ServiceInvocation"
CALL_LOCAL: Final = f"/{SERVICE}/CallLocal"
CALL_LOCAL_STREAM: Final = f"/{SERVICE}/CallLocalStream"

DESTINATION: Final = "destination-app-id"
"""Which app is called; of no interest to the app."""
CALLEE_NAMESPACE: Final = "dapr-callee-namespace"
"""gRPC metadata beside the message, ours alone: the namespace of the app, as Dapr's messages do not have it."""

_DAPR: Final = b"dapr-"
_FIRST_HTTP_STATUS: Final = 100
_PROTOBUF: Final = b"application/x-protobuf"
_NOT_A_HEADER: Final = frozenset({b"content-type", b"content-length", DESTINATION.encode()})
_VERB_NAMES: Final = {number: name for name, number in VERBS.items()}


class ReceivedRequest:
    """A request of another instance: what it asks for, and what it says of who asks."""

    __slots__ = (
        "callee", "caller", "caller_namespace", "content_length", "content_type", "from_grpc", "headers", "method", "query", "verb",
    )  # fmt: skip

    def __init__(self, message: internals_pb.InternalInvokeRequest) -> None:
        given = message.metadata
        # In just this spelling a sidecar says it itself; it passes on `Dapr-Caller-App-Id` of its app beside it.
        self.callee = _exact(given, DESTINATION) or _exact(given, "dapr-callee-app-id")
        """The app id; empty: the one app that is there."""
        self.caller = _exact(given, "dapr-caller-app-id")
        self.caller_namespace = _exact(given, "dapr-caller-namespace")
        self.from_grpc = _exact(given, "content-type").startswith("application/grpc")
        """Whether the caller used gRPC; its body has no length to announce."""
        metadata = _lower(given)
        self.content_length = _length(metadata)
        request = message.message
        self.method = request.method
        """As it was sent: not normalised."""
        number = request.http_extension.verb if request.HasField("http_extension") else 0
        self.verb = _VERB_NAMES.get(number, "")
        """Empty: none, or one that has no name."""
        self.query = request.http_extension.querystring.encode()
        typed = request.data.type_url
        self.content_type = _PROTOBUF if typed else request.content_type.encode() or None
        self.headers = headers_of(metadata)


def request_message(
    request: InvokeRequest, callee: AppRef, forwarded: Mapping[str, str]
) -> internals_pb.InternalInvokeRequest:
    """The message of a request without its body. `forwarded`: what this hop adds to headers of a proxy."""
    message = internals_pb.InternalInvokeRequest(
        ver=internals_pb.V1,
        message=common_pb.InvokeRequest(
            method=request.method,
            content_type=_text(request.content_type or b""),
            # daprd does the same with a verb that the enumeration lacks.
            http_extension=common_pb.HTTPExtension(
                verb=VERBS.get(request.verb, VERBS["POST"]), querystring=_text(request.query)
            ),
        ),
    )
    metadata = message.metadata
    for name, value in request.headers:
        if not name.endswith(b"-bin"):
            metadata[canonical(name)].values.append(_text(value))
    for name, value in forwarded.items():
        metadata[name].values.append(value)
    metadata[DESTINATION].values[:] = [callee.app_id]
    length = len(request.body) if isinstance(request.body, bytes) else request.body.content_length
    if length is not None:
        metadata["Content-Length"].values[:] = [str(length)]
    return message


def response_message(answer: InvokeResponse) -> internals_pb.InternalInvokeResponse:
    """The message of an answer without its body."""
    message = internals_pb.InternalInvokeResponse(
        message=common_pb.InvokeResponse(content_type=_text(answer.content_type or b""))
    )
    if answer.grpc_status is None:
        message.status.code = answer.status
    else:
        code, text, details = answer.grpc_status
        message.status.code = int(code)
        message.status.message = text
        if details:
            message.status.details.extend(rpc_pb.Status.FromString(details).details)
    length = len(answer.body) if isinstance(answer.body, bytes) else getattr(answer.body, "content_length", None)
    if answer.grpc_status is None and length is not None:
        message.headers["Content-Length"].values.append(str(length))  # daprd has no use for it
    for target, headers in ((message.headers, answer.headers), (message.trailers, answer.trailers)):
        for name, value in headers:
            if not name.endswith(b"-bin"):
                target[canonical(name)].values.append(_text(value))
    return message


def received_response(message: internals_pb.InternalInvokeResponse, body: Body) -> InvokeResponse:
    """The answer that a message and its body are. Raises `ChannelError` when there is no status in it."""
    if not message.HasField("status"):
        raise ChannelError("response does not contain the required fields in the leading chunk")
    status = message.status
    headers, trailers = _lower(message.headers), _lower(message.trailers)
    answered = message.message
    content_type = answered.content_type or _first(headers, "content-type")
    if answered.data.type_url:
        content_type = _PROTOBUF.decode()
    typed = content_type.encode() or None
    if status.code >= _FIRST_HTTP_STATUS:
        return InvokeResponse(status.code, headers_of(headers), body, typed)
    code = _code(status.code)
    if code is GrpcCode.OK:
        return InvokeResponse(
            200, headers_of(headers), body, typed, grpc_status=(code, "", b""), trailers=headers_of(trailers)
        )
    details = rpc_pb.Status(code=int(code), message=status.message, details=status.details).SerializeToString()
    sent = (("grpc-status-details-bin", details),) if status.details else ()
    answer = status_response(GrpcError(code, status.message, trailers=sent))
    answer.headers, answer.trailers = headers_of(headers), headers_of(trailers)
    return answer


def announced_length(message: internals_pb.InternalInvokeResponse) -> int | None:
    """How long the body of an answer will be, where the peer says so."""
    return _length(_lower(message.headers))


def headers_of(metadata: Mapping[str, Iterable[str]]) -> Headers:
    """The headers that a map with names in lower case holds: binary ones and those with a field of their own are gone."""
    headers: Headers = []
    for key, values in metadata.items():
        name = key.encode()
        if name in _NOT_A_HEADER or name.endswith(b"-bin"):
            continue
        headers.extend((name, value.encode()) for value in values)
    return headers


@lru_cache(maxsize=1024)
def canonical(name: bytes) -> str:
    """A header's name in Go's spelling; one of Dapr's stays in lower case."""
    text = name.decode("latin-1")
    return text if name.startswith(_DAPR) else "-".join(part[:1].upper() + part[1:] for part in text.split("-"))


def _lower(metadata: Mapping[str, internals_pb.ListStringValue]) -> dict[str, list[str]]:
    lower: dict[str, list[str]] = {}
    for key in metadata:
        lower.setdefault(key.lower(), []).extend(metadata[key].values)
    return lower


def _exact(metadata: Mapping[str, internals_pb.ListStringValue], name: str) -> str:
    values = metadata[name].values if name in metadata else ()
    return values[0] if values else ""


def _first(metadata: Mapping[str, list[str]], name: str) -> str:
    values = metadata.get(name)
    return values[0] if values else ""


def _length(metadata: Mapping[str, list[str]]) -> int | None:
    length = _first(metadata, "content-length")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 16 else None


def _text(value: bytes) -> str:
    """Protobuf's texts are UTF-8; an old header in Latin-1 keeps its characters, not its bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _code(number: int) -> GrpcCode:
    try:
        return GrpcCode(number)
    except ValueError:
        return GrpcCode.UNKNOWN
