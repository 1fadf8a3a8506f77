"""The connection that carries the calls of all apps at once: whose reply is whose, and what is known when it breaks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from redis import exceptions as library

from dapr_shared.components.redis.pipelined import PipelinedConnection, UnsentError
from dapr_shared.components.redis.settings import RedisSettings
from dapr_shared.contracts.settings import decode_settings


class Server:
    """Answers commands with what it is told to; `+OK` to the introduction."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = asyncio.Queue[bytes]()
        self.writers: list[asyncio.StreamWriter] = []
        self.introduction = b"+OK\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await _command(reader)
            writer.write(self.introduction)
            self.writers.append(writer)
            while True:
                self.received.put_nowait(await _command(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def reply(self, data: bytes) -> None:
        """Send bytes on the newest connection."""
        self.writers[-1].write(data)

    async def commands(self, count: int) -> list[bytes]:
        """Wait for so many commands."""
        async with asyncio.timeout(10):
            return [await self.received.get() for _ in range(count)]


async def _command(reader: asyncio.StreamReader) -> bytes:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words: list[bytes] = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return b" ".join(words)


@asynccontextmanager
async def connected(**metadata: str):
    """A server and a line to it."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    settings = decode_settings(RedisSettings, {"redisHost": f"127.0.0.1:{port}", "readTimeout": "5s", **metadata})
    line = PipelinedConnection(settings, None, "test")
    try:
        yield server, line
    finally:
        await line.close()
        listening.close()
        await listening.wait_closed()


def call(line: PipelinedConnection, *words: str) -> asyncio.Task[list]:
    return asyncio.create_task(line.send([words]))


async def test_each_gets_its_own_reply():
    """Many calls are on their way at once; replies in any pieces reach the callers in order."""
    async with connected() as (server, line):
        calls = [call(line, "GET", str(number)) for number in range(100)]
        assert await server.commands(100) == [f"GET {number}".encode() for number in range(100)]
        data = b"".join(b"$%d\r\n%d\r\n" % (len(str(number)), number) for number in range(100))
        for start in range(0, len(data), 7):
            server.reply(data[start : start + 7])
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == [[str(number).encode()] for number in range(100)]
        assert server.connections == 1


async def test_a_caller_that_gives_up_shifts_no_reply():
    """The reply to a cancelled call is nobody's, and the next caller gets its own."""
    async with connected() as (server, line):
        first, second = call(line, "GET", "secret of a"), call(line, "GET", "b")
        await server.commands(2)
        first.cancel()
        await asyncio.wait([first])
        server.reply(b"$1\r\nA\r\n$1\r\nB\r\n")
        assert await second == [b"B"]


async def test_errors_are_replies():
    """An error of the server is its command's reply; the others of the same call have theirs."""
    async with connected() as (server, line):
        calling = asyncio.create_task(line.send([("A",), ("B",), ("C",)]))
        await server.commands(3)
        server.reply(b":1\r\n-NOSCRIPT none\r\n-ERR wrong\r\n")
        one, two, three = await calling
        assert one == 1
        assert isinstance(two, library.NoScriptError)
        assert (str(three), three.status_code) == ("ERR wrong", "ERR")


async def test_a_lost_connection_is_opened_anew():
    """Calls that were sent fail as such when the connection is lost; the next call connects again."""
    async with connected() as (server, line):
        sent = call(line, "INCR", "n")
        await server.commands(1)
        server.writers[-1].close()
        with pytest.raises((library.ConnectionError, OSError)):
            await sent
        again = call(line, "INCR", "n")
        await server.commands(1)
        server.reply(b":1\r\n")
        assert await again == [1]
        assert server.connections == 2


@pytest.mark.parametrize("data", [b"?what\r\n", b":1\r\n:2\r\n"])
async def test_replies_that_make_no_sense(data):
    """What is no reply, or one too many, ends the connection: nobody gets what is not theirs."""
    async with connected() as (server, line):
        calling = call(line, "GET", "a")
        await server.commands(1)
        server.reply(data)
        await asyncio.wait([calling])
        again = call(line, "GET", "b")
        await server.commands(1)
        server.reply(b"$1\r\nB\r\n")
        assert await again == [b"B"]
        assert server.connections == 2


async def test_silence_is_an_error():
    """A server that does not answer within readTimeout is an error for all who wait, and the connection is given up."""
    async with connected(readTimeout="100") as (server, line):
        calls = [call(line, "GET", str(number)) for number in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, library.TimeoutError) for result in results)
        assert len(await server.commands(3)) == 3


async def test_not_introduced():
    """A server that refuses the introduction is an error of something that was not sent."""
    async with connected(redisPassword="wrong") as (server, line):
        server.introduction = b"-WRONGPASS no\r\n+OK\r\n"
        with pytest.raises(UnsentError) as caught:
            await line.send([("GET", "a")])
        assert getattr(caught.value.cause, "status_code", "") == "WRONGPASS"


async def test_nobody_is_there():
    """Where nobody listens nothing was sent, for everybody who waits for the one try."""
    settings = decode_settings(RedisSettings, {"redisHost": "127.0.0.1:1"})
    line = PipelinedConnection(settings, None, "test")
    results = await asyncio.gather(*(line.send([("A",)]) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, UnsentError) for result in results)
    await line.close()
    with pytest.raises(UnsentError):
        await line.send([("A",)])


async def test_closing_with_calls_under_way():
    """Calls under way fail when it is closed."""
    async with connected() as (server, line):
        calling = call(line, "GET", "a")
        await server.commands(1)
        await line.close()
        with pytest.raises(library.ConnectionError):
            await calling


async def test_too_many_calls(monkeypatch):
    """Past the bound a call is an error of something that was not sent; those on their way are not disturbed."""
    monkeypatch.setattr("dapr_shared.components.redis.pipelined.MOST_WAITING", 2)
    async with connected() as (server, line):
        calls = [call(line, "GET", name) for name in "ab"]
        await server.commands(2)
        with pytest.raises(UnsentError):
            await line.send([("GET", "c")])
        server.reply(b"$1\r\nA\r\n$1\r\nB\r\n")
        assert await asyncio.gather(*calls) == [[b"A"], [b"B"]]
