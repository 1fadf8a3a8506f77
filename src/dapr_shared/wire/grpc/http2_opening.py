"""What the headers of a gRPC request say, understood once for equal headers of a connection.

First step of the request road: between the frames (`wire/http2`) and the call (`http2_call.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.http2_messages import decoded_metadata, parse_timeout
from dapr_shared.wire.grpc.interface import GrpcError, Method
from dapr_shared.wire.http2 import frames
from dapr_shared.wire.http2.hpack import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.wire.grpc.metadata import Pairs
    from dapr_shared.wire.http2.hpack import HeaderBlock

_NOT_GRPC: Final = encode(":status", "415")


class Opening:
    """A request without its messages."""

    __slots__ = ("encoding", "error", "is_grpc", "metadata", "method", "row", "timeout")

    def __init__(self, block: HeaderBlock, rows: Mapping[str, Method], unknown: Method) -> None:
        """Raises nothing: what is wrong is `error`, or that it is no gRPC. `unknown`: the row of all other methods."""
        known = dict(block.headers)
        self.method = known.get(":path", "")
        self.encoding = known.get("grpc-encoding", "")
        """How the client's messages may be compressed."""
        self.timeout: float | None = None
        """Seconds that the client waits."""
        self.metadata: Pairs = ()
        self.error: GrpcError | None = None
        try:
            if "grpc-timeout" in known:
                self.timeout = parse_timeout(known["grpc-timeout"])
            self.metadata = decoded_metadata(block.headers)
            _check(self.metadata)
        except GrpcError as error:
            self.error = error
        if block.too_large:
            self.error = GrpcError(GrpcCode.RESOURCE_EXHAUSTED, "received metadata size exceeds the limit")
        media = known.get("content-type", "").partition(";")[0].strip()
        is_media = media == "application/grpc" or media.startswith("application/grpc+")
        self.is_grpc = known.get(":method") == "POST" and is_media
        self.row = rows.get(self.method, unknown)


def not_grpc(stream: int) -> bytes:
    """The answer to a request that is no gRPC."""
    return frames.frame(frames.HEADERS, frames.END_STREAM | frames.END_HEADERS, stream, _NOT_GRPC)


def _check(metadata: Pairs) -> None:
    for key, value in metadata:
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise GrpcError(GrpcCode.INTERNAL, f"the metadata {key[:100]} has characters that gRPC refuses")
