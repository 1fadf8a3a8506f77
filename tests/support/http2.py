"""A gRPC client made of HTTP/2 frames, for what no gRPC library sends."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events

from tests.support.calls import connect

CONNECTION_ENDED = -1
STREAM_RESET = -2


def grpc_status_of(address: str, path: str, message: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Call a unary method with exactly these headers; its gRPC status and the bytes of its answer.

    The status is `STREAM_RESET` or `CONNECTION_ENDED` where the server refused without one.
    """
    config = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    with connect(address) as made:
        connection.initiate_connection()
        connection.send_headers(
            1,
            [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", path.encode()),
                (b":authority", b"localhost"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                *headers,
            ],
        )
        connection.send_data(1, struct.pack(">BI", 0, len(message)) + message, end_stream=True)
        made.sendall(connection.data_to_send())
        data, status = b"", CONNECTION_ENDED
        while piece := _receive(made):
            for event in connection.receive_data(piece):
                if isinstance(event, h2.events.DataReceived):
                    data += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found = dict(event.headers).get(b"grpc-status")
                    status = int(found) if found is not None else status
                elif isinstance(event, h2.events.StreamReset):
                    return STREAM_RESET, data
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return CONNECTION_ENDED, data
                if isinstance(event, h2.events.StreamEnded):
                    return status, data
            made.sendall(connection.data_to_send())
    return CONNECTION_ENDED, data


def _receive(made) -> bytes:
    try:
        return made.recv(65536)
    except ConnectionResetError:
        return b""
