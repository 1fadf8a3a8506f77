"""The other end of the HTTP wire in tests: a raw client for our server, and a raw origin for our client.

They share no code with what they test.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from dapr_shared.wire.http.messages import Request, Response

PATIENCE = 5.0
"""Seconds after which a test gives up waiting for something that should have happened."""


@dataclass
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)


async def read_answer(reader: asyncio.StreamReader, *, head: bool = False) -> Answer:
    """Read one answer; `head`: it is one to a HEAD request."""
    async with asyncio.timeout(PATIENCE):
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = lines[0].split(" ")
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} came twice"
            headers[name] = value
        answer = Answer(int(status), headers, b"")
        assert not ("content-length" in headers and "transfer-encoding" in headers)
        if head or answer.status in {204, 304} or answer.status < 200:
            return answer
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = await reader.readexactly(size + 2)
                assert chunk.endswith(b"\r\n")
                if not size:
                    break
                answer.chunks.append(chunk[:-2])
            answer.body = b"".join(answer.chunks)
        elif "content-length" in headers:
            answer.body = await reader.readexactly(int(headers["content-length"]))
        else:
            answer.body = await reader.read()
        return answer


class Peer:
    """A client made of nothing but a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        return await read_answer(self.reader, head=head)

    async def ask(self, data: bytes, *, head: bool = False) -> Answer:
        self.send(data)
        return await self.answer(head=head)

    async def rest(self) -> bytes:
        """Everything until the server closes. A reset counts as closing."""
        pieces = []
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    pieces.append(piece)
        return b"".join(pieces)

    async def answers(self) -> list[Answer]:
        """All answers until the server closes."""
        found = []
        whole = asyncio.StreamReader()
        whole.feed_data(await self.rest())
        whole.feed_eof()
        while not whole.at_eof():
            found.append(await read_answer(whole))
        return found

    async def closed(self) -> bool:
        """Whether the server closes without another byte."""
        return await self.rest() == b""

    def abort(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def connected(address: str, *, ssl=None, receive_buffer: int | None = None) -> AsyncIterator[Peer]:
    """A connection to `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    elif receive_buffer is not None:
        host, _, port = address.rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    else:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(
            host.strip("[]"), int(port), ssl=ssl, server_hostname="localhost" if ssl else None
        )
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


class Recorder:
    """A handler that notes what it is asked and answers with the body that it got."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.requests: list[Request] = []
        self.defects: list[BaseException] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        body = request.body if isinstance(request.body, bytes) else b"".join([piece async for piece in request.body])
        self.seen.append((request.method, request.target, body))
        return Response(200, [(b"content-type", b"text/plain")], body)

    def on_defect(self, request: Request, error: BaseException) -> None:
        self.defects.append(error)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - any condition, also one that nobody signals
            await asyncio.sleep(0.002)


@dataclass
class Origin:
    """What an origin has seen."""

    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    """Request line and body of each request."""
    heads: list[bytes] = field(default_factory=list)
    lost: int = 0
    """Connections that the client closed."""


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader, seen: Origin) -> bytes:
    """Read one request with its body, and note it. Returns its head."""
    raw = await reader.readuntil(b"\r\n\r\n")
    seen.heads.append(raw)
    lines = raw[:-4].decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readexactly(2) == b"\r\n"
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    seen.requests.append((lines[0], body))
    return raw


@asynccontextmanager
async def origin(
    answer: bytes | Script, *, close: bool = False, ssl=None, unix: str | None = None, port: int = 0
) -> AsyncIterator[Origin]:
    """An app: gives `answer` to every request (`close`: and then closes), or runs `answer` on each connection."""
    seen = Origin()
    tasks: set[asyncio.Task] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        seen.open += 1
        try:
            if callable(answer):
                await answer(reader, writer)
                return
            while True:
                await read_request(reader, seen)
                writer.write(answer)
                if close:
                    await writer.drain()
                    writer.write_eof()
                    await reader.read()
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            seen.lost += 1
        finally:
            seen.open -= 1
            tasks.discard(task)
            writer.transport.abort()

    if unix is not None:
        server = await asyncio.start_unix_server(accept, unix)
    else:
        server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=ssl)
        seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))
        await server.wait_closed()
