"""Calls over TLS: one HTTP request, one gRPC call, and what the server's certificate is."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING

import grpc

from dapr_shared._proto import runtime_pb

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.tls_certificates import Pair

SECONDS = 10.0
METADATA = "/dapr.proto.runtime.v1.Dapr/GetMetadata"
SAVE = "/dapr.proto.runtime.v1.Dapr/SaveState"


def get(
    port: int, target: str, context: ssl.SSLContext, headers: Mapping[str, str] | None = None, method: str = "GET",
    body: bytes | None = None,
) -> tuple[int, bytes]:  # fmt: skip
    """One request; status and body. Raises `OSError` where the handshake fails."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=context)
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.RemoteDisconnected as error:
        raise ConnectionResetError("the server closed the connection") from error
    finally:
        connection.close()


def served_serial(port: int, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that the port serves now."""
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return str((secured.getpeercert() or {})["serialNumber"])


def grpc_metadata(
    port: int, authority: Path, pair: Pair | None = None, metadata: Mapping[str, str] | None = None, *, wait: bool = False
) -> tuple[grpc.StatusCode, str]:  # fmt: skip
    """`GetMetadata` over TLS: the status, and the app id or the message."""
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(), pair.key.read_bytes() if pair else None, pair.cert.read_bytes() if pair else None
    )
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.unary_unary(METADATA)
        try:
            answer = call(b"", timeout=SECONDS, metadata=list((metadata or {}).items()), wait_for_ready=wait)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, runtime_pb.GetMetadataResponse.FromString(answer).id
