"""Blocking clients for tests of the real process: HTTP/1.1 over a bare socket, gRPC with bytes.

The HTTP client sends exactly what it is given: also what no client library would send.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

import grpc

PATIENCE = 10.0
"""Seconds that one answer may take."""
DAPR = "/dapr.proto.runtime.v1.Dapr/"

Header = tuple[str | bytes, str | bytes]


@dataclass
class Answer:
    """One answer. `status` is 0 when the connection was closed without one."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header; values of several with one name are joined."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The `errorCode` of an error, or empty."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return ""
        return found.get("errorCode", "") if isinstance(found, dict) else ""


def connect(address: str) -> socket.socket:
    """A connection to `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(PATIENCE)
        try:
            made.connect(address.removeprefix("unix:"))
        except OSError:
            made.close()
            raise
        return made
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def request_bytes(
    method: str, target: str | bytes, body: bytes | None = None, headers: Iterable[Header] = (), *, close: bool = True
) -> bytes:
    """A request as it stands on the wire. A `host` or `content-length` among the headers replaces the usual one."""
    lines = [(_bytes(name), _bytes(value)) for name, value in headers]
    given = {name.lower() for name, _ in lines}
    if b"host" not in given:
        lines.insert(0, (b"host", b"localhost"))
    if body is not None and not given & {b"content-length", b"transfer-encoding"}:
        lines.append((b"content-length", b"%d" % len(body)))
    if close and b"connection" not in given:
        lines.append((b"connection", b"close"))
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method.encode(), _bytes(target), head, body or b"")


def ask(
    address: str,
    method: str,
    target: str | bytes,
    body: bytes | None = None,
    *,
    headers: Iterable[Header] = (),
) -> Answer:
    """One request on a connection of its own."""
    return exchange(address, request_bytes(method, target, body, headers), method)


def exchange(address: str, data: bytes, method: str = "GET") -> Answer:
    """Send these bytes and read one answer."""
    with connect(address) as made:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused while it was sent: the answer is there
            made.sendall(data)
        return read_answer(made, method)


def read_answer(made: socket.socket, method: str = "GET") -> Answer:
    """Read one answer from a connection."""
    response = HTTPResponse(made, method=method)
    try:
        response.begin()
        body = response.read()
    except (HTTPException, ConnectionError):
        return Answer(0, [], b"")
    return Answer(response.status, response.getheaders(), body)


class KeptConnection:
    """One connection for several requests."""

    def __init__(self, address: str) -> None:
        self.socket = connect(address)

    def ask(
        self, method: str, target: str | bytes, body: bytes | None = None, *, headers: Iterable[Header] = ()
    ) -> Answer:
        """One request; `ConnectionError` if the connection ended before the answer."""
        self.socket.sendall(request_bytes(method, target, body, headers, close=False))
        answer = read_answer(self.socket, method)
        if not answer.status:
            raise ConnectionResetError("closed without an answer")
        return answer

    def close(self) -> None:
        """End it."""
        self.socket.close()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


# gRPC --------------------------------------------------------------------------------------------------------------
Metadata = Sequence[tuple[str, str | bytes]]


@dataclass
class GrpcAnswer:
    """How a unary call ended."""

    code: grpc.StatusCode
    details: str
    data: bytes
    initial: list[tuple[str, str | bytes]]
    trailers: list[tuple[str, str | bytes]]


@contextmanager
def grpc_channel(address: str) -> Iterator[grpc.Channel]:
    """A channel that retries nothing and takes messages of any size."""
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, request: Any = b"", metadata: Metadata = ()) -> GrpcAnswer:
    """One unary call; a name without a slash is one of Dapr's methods, a message is serialised."""
    path = method if method.startswith("/") else DAPR + method
    data = request if isinstance(request, bytes) else request.SerializeToString()
    made = channel.unary_unary(path)
    try:
        answer, ended = made.with_call(data, metadata=tuple(metadata), timeout=PATIENCE)
    except grpc.RpcError as error:
        return GrpcAnswer(
            error.code(), error.details(), b"", _pairs(error.initial_metadata()), _pairs(error.trailing_metadata())
        )
    return GrpcAnswer(
        grpc.StatusCode.OK, "", answer, _pairs(ended.initial_metadata()), _pairs(ended.trailing_metadata())
    )


def _pairs(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or ()]
