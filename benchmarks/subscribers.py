"""Publishers and subscribers in one process, so that it is known when a message has come to all: not measured itself.

    python -m benchmarks.subscribers PORT…

Serves an HTTP app on every port; each takes events with POST and answers 200. For each line of standard input, the JSON
of a `Run`, it publishes in a closed loop (a publisher sends the next message when the last one was acknowledged and has
come to every port) and prints one line of JSON: the `Load` or {"error": …}. Ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from time import perf_counter
from typing import Any

import httptools
import msgspec
import uvloop

from benchmarks.load import Load, percentile
from benchmarks.processes import LOOPBACK, BenchmarkError

PATIENCE = 20.0
"""Seconds that a message may take to come to every port."""
_NUMBER = re.compile(rb'"n": ?(\d+)').search
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Run(msgspec.Struct, frozen=True):
    """What to publish."""

    port: int
    """Of the Dapr API."""
    path: str
    headers: tuple[str, ...]
    """Lines `name: value`."""
    publishers: int
    seconds: float


class Arrivals:
    """Which ports a message has not come to yet, by its number."""

    def __init__(self, ports: frozenset[int]) -> None:
        self._ports = ports
        self._missing: dict[int, tuple[set[int], asyncio.Future[None]]] = {}
        self._last = 0

    def expect(self) -> tuple[int, asyncio.Future[None]]:
        """The number of a new message, and what is done when every port has it."""
        self._last += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._missing[self._last] = (set(self._ports), done)
        return self._last, done

    def came(self, port: int, body: bytes) -> None:
        """An event has come to a port; one that came before, or that nobody waits for, is nothing."""
        found = _NUMBER(body)
        entry = self._missing.get(int(found[1])) if found is not None else None
        if found is None or entry is None:
            return
        missing, done = entry
        missing.discard(port)
        if not missing:
            del self._missing[int(found[1])]
            if not done.done():
                done.set_result(None)


class App(asyncio.Protocol):
    """One connection to the app on one port."""

    def __init__(self, port: int, arrivals: Arrivals) -> None:
        self._port = port
        self._arrivals = arrivals
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP closes the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """An event, or a question of the runtime, whose answer is no; `/` asks whether the app is there."""
        event = self._parser.get_method() == b"POST"
        self._transport.write(_OK if event or self._url == b"/" else _NOT_FOUND)
        if event:
            self._arrivals.came(self._port, b"".join(self._body))
        self._url = b""
        self._body.clear()


class Publisher(asyncio.Protocol):
    """One connection that publishes."""

    def __init__(self, run: Run) -> None:
        lines = [f"POST {run.path} HTTP/1.1", f"host: {LOOPBACK}", "content-type: application/json", *run.headers]
        self._head = "\r\n".join(lines).encode() + b"\r\ncontent-length: "
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Who waits for an answer waits in vain."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """The answer is there."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    async def publish(self, number: int) -> None:
        """Publish a message and wait for its acknowledgement. Raises `BenchmarkError`."""
        body = b'{"n":%d}' % number
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)
        status = await self._answer
        if status // 100 != 2:
            raise BenchmarkError(f"a publish was answered with status {status}")

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def _publish(run: Run, arrivals: Arrivals) -> Load:
    latencies: list[int] = []
    began = perf_counter()

    async def one() -> None:
        _, publisher = await asyncio.get_running_loop().create_connection(lambda: Publisher(run), LOOPBACK, run.port)
        try:
            while perf_counter() - began < run.seconds:
                number, done = arrivals.expect()
                sent = perf_counter()
                async with asyncio.timeout(PATIENCE):
                    await publisher.publish(number)
                    await done
                latencies.append(round((perf_counter() - sent) * 1e6))
        except TimeoutError as error:
            raise BenchmarkError(f"a message did not come to every app within {PATIENCE:g} s") from error
        finally:
            publisher.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(run.publishers):
            group.create_task(one())
    seconds = perf_counter() - began
    latencies.sort()
    return Load(len(latencies), seconds, percentile(latencies, 50) / 1000, percentile(latencies, 99) / 1000)


async def serve(ports: list[int]) -> None:
    """Serve and publish until the input ends."""
    loop = asyncio.get_running_loop()
    arrivals = Arrivals(frozenset(ports))
    reader = asyncio.StreamReader()
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            server = await loop.create_server(lambda port=port: App(port, arrivals), LOOPBACK, port)
            stack.callback(server.close)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            try:
                answer: Any = await _publish(msgspec.json.decode(line, type=Run), arrivals)
            except* (BenchmarkError, OSError) as errors:
                answer = {"error": str(errors.exceptions[0])}
            print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(serve([int(word) for word in sys.argv[1:]]))
