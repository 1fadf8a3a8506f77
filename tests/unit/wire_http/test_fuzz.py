"""Random bytes against whole servers and clients: never a hang, never two answers for one request, never an escape."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dapr_shared.wire.http.client import HttpClient, HttpClientError
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.messages import BodyError
from dapr_shared.wire.http.server import serve
from tests.support.http_peers import Recorder, connected, origin, read_request, until

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
LIMITS = ServerLimits(header_bytes=512, body_bytes=2000, header_timeout=0.05, body_timeout=0.05, idle_timeout=0.05)

REQUESTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000,
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ]
)
SCRAPS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b":", b"0", b"\x00", b"GET", b"HTTP/1.1", b"Content-Length: 1\r\n", b"\xff"]
)
NOISE = st.lists(st.one_of(REQUESTS, SCRAPS, st.binary(max_size=30)), max_size=8).map(b"".join)
PLACES = st.lists(st.integers(0, 10_000), max_size=6)


def pieces_of(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


async def exchange(stream: bytes, places: list[int]) -> tuple[list[int], list[tuple[str, bytes, bytes]]]:
    """Send a stream in pieces: the statuses that came back, and what the handler saw."""
    recorder = Recorder()
    server = await serve("127.0.0.1:0", recorder, limits=LIMITS, on_defect=recorder.on_defect)
    async with connected(server.address) as peer:
        with suppress(ConnectionError):
            for piece in pieces_of(stream, places):
                peer.send(piece)
                await peer.writer.drain()
                await asyncio.sleep(0)
        raw = await peer.rest()
    server.close()
    await until(lambda: not server.connections)
    assert recorder.defects == []
    statuses = [int(part[1:4]) for part in raw.split(b"HTTP/1.1")[1:]]
    return [status for status in statuses if status != 100], recorder.seen


@SETTINGS
@given(NOISE, PLACES)
def test_the_server_survives_anything(stream, places):
    """Any bytes, cut anywhere: every request has one answer, a refusal is the last, and the connection ends."""
    statuses, seen = uvloop.run(exchange(stream, places))
    assert len(seen) <= len(statuses) <= len(seen) + 1
    assert all(status == 200 for status in statuses[:-1])


@SETTINGS
@given(st.lists(REQUESTS, max_size=5).map(b"".join), PLACES)
def test_the_network_makes_no_difference_to_the_server(stream, places):
    """A stream of requests gives the same answers and the same calls, however it is cut."""
    assert uvloop.run(exchange(stream, places)) == uvloop.run(exchange(stream, []))


ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000,
    ]
)


async def ask(stream: bytes, places: list[int]) -> list[object]:
    """Ask twice an origin that sends a stream in pieces and closes: what comes back."""

    async def script(reader, writer):
        from tests.support.http_peers import Origin

        await read_request(reader, Origin())
        for piece in pieces_of(stream, places):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        await reader.read()

    found: list[object] = []
    async with origin(script) as app:
        client = HttpClient("http", "127.0.0.1", app.port)
        for _ in range(2):
            try:
                answer = await client.request("POST", b"/", [], b"x", timeout=5)
                body = answer.body if isinstance(answer.body, bytes) else await answer.body.read(10**6)
                found.append((answer.status, answer.headers, body))
            except (HttpClientError, BodyError) as error:
                found.append(type(error))
            await until(lambda: app.open <= client.connections)
            await until(lambda: not client.connections)
        await client.aclose()
    return found


@SETTINGS
@given(st.lists(st.one_of(ANSWERS, SCRAPS, st.binary(max_size=30)), max_size=4).map(b"".join), PLACES)
def test_the_client_survives_anything(stream, places):
    """Any bytes for an answer, cut anywhere: an answer or one of our errors, and never the rest of another's answer."""
    first, second = uvloop.run(ask(stream, places))
    assert first == second


@SETTINGS
@given(ANSWERS, PLACES)
def test_the_network_makes_no_difference_to_the_client(stream, places):
    """An answer is the same however it is cut."""
    assert uvloop.run(ask(stream, places)) == uvloop.run(ask(stream, []))
