"""Small servers that play an app: HTTP/1.1 over raw streams, and HTTP/2 without TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of all kinds
            await asyncio.sleep(0.005)


@asynccontextmanager
async def raw_server(handler: StreamHandler, *, port: int = 0, ssl=None) -> AsyncIterator[int]:
    """Accept on loopback and let `handler` have each connection; yields the port. Ends every connection at the end."""
    tasks: set[asyncio.Task] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=ssl)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))
        await server.wait_closed()


@dataclass
class Seen:
    """One request as an app saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class HttpApp:
    """An HTTP/1.1 app that answers what it is told and keeps what it saw."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b"ok"
    chunks: list[bytes] | None = None
    hold: asyncio.Event | None = None
    """If set, answers wait for it."""
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    busy: int = 0
    busiest: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:] if line)]
            request = Seen(method, target, headers, b"")
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            try:
                request.body = await self._read_body(request, reader)
                self.seen.append(request)
                if self.hold is not None:
                    await self.hold.wait()
                await self._answer(request, writer)
            finally:
                self.busy -= 1

    async def _read_body(self, request: Seen, reader: asyncio.StreamReader) -> bytes:
        if request.header("transfer-encoding") == ["chunked"]:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
            return body
        length = request.header("content-length")
        return await reader.readexactly(int(length[0])) if length else b""

    async def _answer(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {self.status} x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in self.headers)
        if self.chunks is not None:
            writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            for chunk in self.chunks:
                writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(f"{head}content-length: {len(self.body)}\r\n\r\n".encode())
            if request.method != "HEAD":
                writer.write(self.body)
        await writer.drain()


@dataclass
class H2cApp:
    """An HTTP/2 app without TLS (prior knowledge): echoes bodies as they come, or answers what it is told."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None
    """`None`: the request's body, as it comes."""
    silent: bool = False
    reset: bool = False
    seen: list[Seen] = field(default_factory=list)
    resets: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: C901
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        window: dict[int, asyncio.Event] = {}
        tasks: set[asyncio.Task] = set()
        requests: dict[int, tuple[Seen, asyncio.Queue[bytes | None]]] = {}
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        fields = dict(event.headers)
                        plain = [(k, v) for k, v in event.headers if not k.startswith(":")]
                        seen = Seen(fields[":method"], fields[":path"], plain, b"")
                        self.seen.append(seen)
                        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
                        requests[event.stream_id] = (seen, queue)
                        window[event.stream_id] = asyncio.Event()
                        if self.reset:
                            connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                        elif not self.silent:
                            answer = self._answer(connection, writer, event.stream_id, queue, window[event.stream_id])
                            tasks.add(asyncio.create_task(answer))
                    elif isinstance(event, h2.events.DataReceived):
                        seen, queue = requests[event.stream_id]
                        seen.body += event.data
                        queue.put_nowait(event.data)
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        requests[event.stream_id][1].put_nowait(None)
                    elif isinstance(event, h2.events.StreamReset):
                        self.resets += 1
                    elif isinstance(event, h2.events.WindowUpdated):
                        for waiting in window.values():
                            waiting.set()
                writer.write(connection.data_to_send())
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, connection, writer, stream, queue, window) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            if self.body is not None:
                while await queue.get() is not None:
                    pass
            connection.send_headers(stream, [(":status", str(self.status)), *self.headers])
            writer.write(connection.data_to_send())
            if self.body is not None:
                await self._send(connection, writer, stream, self.body, window)
            else:
                while (piece := await queue.get()) is not None:
                    await self._send(connection, writer, stream, piece, window)
            connection.end_stream(stream)
            writer.write(connection.data_to_send())

    async def _send(self, connection, writer, stream, data: bytes, window) -> None:
        while data:
            size = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size, len(data))
            if size <= 0:
                window.clear()
                await window.wait()
                continue
            connection.send_data(stream, data[:size])
            writer.write(connection.data_to_send())
            data = data[size:]
