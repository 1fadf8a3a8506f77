"""A gRPC client and an app made of HTTP/2 frames, for what no gRPC library sends or shows."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events

from tests.support.calls import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def grpc_listener() -> Iterator[tuple[int, list[dict[bytes, bytes]]]]:
    """A gRPC app that refuses every call as UNIMPLEMENTED; yields its port and the headers as they came over the wire.

    grpcio's own servers hide some of them, such as `grpc-trace-bin`.
    """
    calls: list[dict[bytes, bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()
        peers: list[threading.Thread] = []

        def accept() -> None:
            while not ended.is_set():
                try:
                    made, _ = server.accept()
                except TimeoutError:
                    continue
                peers.append(threading.Thread(target=_answer_calls, args=(made, calls, ended)))
                peers[-1].start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], calls
        finally:
            ended.set()
            thread.join()
            for peer in peers:
                peer.join()


def _answer_calls(made: socket.socket, calls: list[dict[bytes, bytes]], ended: threading.Event) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    with made:
        made.settimeout(0.05)
        connection.initiate_connection()
        made.sendall(connection.data_to_send())
        while not ended.is_set():
            try:
                piece = made.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return
            if not piece:
                return
            for event in connection.receive_data(piece):
                if isinstance(event, h2.events.RequestReceived):
                    calls.append(dict(event.headers))
                elif isinstance(event, h2.events.StreamEnded):
                    head = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"12")]
                    connection.send_headers(event.stream_id, head, end_stream=True)
            made.sendall(connection.data_to_send())
