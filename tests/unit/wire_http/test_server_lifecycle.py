"""Listening, draining and closing."""
# ruff: noqa: SIM117 - what runs inside what is clearer nested

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time

import pytest

from dapr_shared.wire.http.listener import split_address
from dapr_shared.wire.http.messages import Response
from dapr_shared.wire.http.server import serve
from tests.support.http_peers import connected, until
from tests.support.required import has_ipv6_loopback, need

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def ok(_):
    return Response(200, [], b"ok")


# Addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "parts"),
    [("a:1", ("a", 1)), ("[::1]:65535", ("::1", 65535)), (":0", ("", 0)), ("127.0.0.1:80", ("127.0.0.1", 80))],
)
def test_addresses(address, parts):
    """Addresses are host:port, with IPv6 in brackets."""
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["a", "a:", "a:b", "a:-1", "a:65536", "::1:80", "", "a:²"])
async def test_what_is_no_address_is_said(address):
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match="is not an address"):
        await serve(address, ok)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_the_address_has_the_real_port(address, running):
    """Port 0 becomes a real one, and the address can be connected to."""
    need("::1" not in address or has_ipv6_loopback(), "the loopback address ::1 (IPv6 in the kernel)")
    async with running(ok, address=address) as server, connected(server.address) as peer:
        assert not server.address.endswith(":0")
        assert (await peer.ask(GET)).body == b"ok"


async def test_every_interface(running):
    """An empty host listens on every interface."""
    async with running(ok, address=":0") as server:
        async with connected("127.0.0.1:" + server.address.rpartition(":")[2]) as peer:
            assert (await peer.ask(GET)).body == b"ok"


async def test_a_busy_port_is_an_error(running):
    """Two servers on one port are an error, unless both ask to share it."""
    async with running(ok) as server:
        with pytest.raises(OSError, match="in use"):
            await serve(server.address, ok)
    async with running(ok, reuse_port=True) as server, running(ok, address=server.address, reuse_port=True) as second:
        assert second.address == server.address


async def test_a_unix_socket_is_private_and_removed(running, tmp_path):
    """A Unix socket has mode 0600, works, tells no peer address, and its file goes with the server."""
    path = tmp_path / "http.socket"
    peers = []

    async def handler(request):
        peers.append(request.peer)
        return Response(200, [], b"ok")

    async with running(handler, address=f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with connected(server.address) as peer:
            assert (await peer.ask(GET)).body == b"ok"
    assert peers == [""]
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced(running, tmp_path):
    """The file of a process that has ended does not stand in the way."""
    path = tmp_path / "http.socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with running(ok, address=f"unix:{path}") as server, connected(server.address) as peer:
        assert (await peer.ask(GET)).body == b"ok"


async def test_a_live_unix_socket_is_an_error(running, tmp_path):
    """A socket that somebody listens on is not taken over, nor is a file that is no socket."""
    path = tmp_path / "http.socket"
    async with running(ok, address=f"unix:{path}") as server:
        with pytest.raises(OSError, match="another process listens"):
            await serve(server.address, ok)
        async with connected(server.address) as peer:
            assert (await peer.ask(GET)).body == b"ok"
    path.write_text("data")
    with pytest.raises(OSError, match="not a socket"):
        await serve(f"unix:{path}", ok)
    assert path.read_text() == "data"


async def test_a_replaced_unix_socket_is_left_alone(running, tmp_path):
    """A server that closes does not remove the file that another one has put in its place."""
    path = tmp_path / "http.socket"
    async with running(ok, address=f"unix:{path}"):
        path.unlink()
        path.write_text("data")
        os.utime(path)
    assert path.exists()


# Ending --------------------------------------------------------------------------------------------------------------


async def test_close_ends_everything_at_once(running):
    """`close` aborts connections and cancels handlers; a second one does nothing."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(_):
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(GET)
        await asyncio.wait_for(begun.wait(), 5)
        server.close()
        server.close()
        await asyncio.wait_for(ended.wait(), 5)
        assert await peer.closed()
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
            async with connected(server.address):
                pass


async def test_drain_lets_requests_finish(running):
    """A request in progress is answered, says `connection: close`, and then the drain is over."""
    release = asyncio.Event()

    async def handler(_):
        await release.wait()
        return Response(200, [], b"late")

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(GET)
        await until(lambda: server.connections)
        draining = asyncio.create_task(server.drain(None))
        await asyncio.sleep(0.35)
        assert not draining.done()
        release.set()
        answer = await peer.answer()
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert await peer.closed()
        await asyncio.wait_for(draining, 5)


async def test_drain_answers_idle_connections_for_a_while(running):
    """A request that a kept connection sends while the drain begins is answered; later the connection is closed."""
    async with running(ok) as server, connected(server.address) as one, connected(server.address) as other:
        await one.ask(GET)
        await other.ask(GET)
        draining = asyncio.create_task(server.drain(5))
        await until(lambda: server._state.draining)
        answer = await one.ask(GET)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await other.closed()
        await asyncio.wait_for(draining, 5)


async def test_drain_answers_pipelined_requests(running):
    """Requests that were pipelined before the drain are all answered; only the last one says close."""

    async def handler(request):
        await asyncio.sleep(0.02)
        return Response(200, [], request.target)

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(5)))
        await until(lambda: server.connections)
        draining = asyncio.create_task(server.drain(5))
        answers = await peer.answers()
        await draining
    assert [answer.body for answer in answers] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert [answer.headers.get("connection") for answer in answers] == [None] * 4 + ["close"]


async def test_drain_aborts_after_its_grace(running):
    """What has not ended after `grace` seconds is aborted and its handler cancelled."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_):
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with running(handler) as server, connected(server.address) as peer:
        peer.send(GET)
        await asyncio.wait_for(begun.wait(), 5)
        begin = time.monotonic()
        await server.drain(0.1)
        assert 0.05 < time.monotonic() - begin < 2
        assert cancelled.is_set()
        assert await peer.closed()


async def test_drain_without_connections_is_immediate(running):
    """Nothing to wait for, nothing waited for."""
    async with running(ok) as server:
        begin = time.monotonic()
        await server.drain(None)
        assert time.monotonic() - begin < 0.2


async def test_drain_takes_what_waits_in_the_backlog(running):
    """A connection that the kernel has accepted, with its request sent, is answered although accepting has stopped."""
    async with running(ok) as server:
        host, _, port = server.address.rpartition(":")
        waiting = [socket.create_connection((host, int(port))) for _ in range(20)]  # the loop has no turn to accept
        for sock in waiting:
            sock.sendall(GET)
        draining = asyncio.create_task(server.drain(5))
        loop = asyncio.get_running_loop()
        for sock in waiting:
            sock.settimeout(5)
            data = await loop.run_in_executor(None, sock.recv, 65536)
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")
            sock.close()
        await draining


async def test_drain_loses_no_request_under_load(running):
    """Clients that keep asking while the server drains get an answer to each request that they sent."""
    answered = 0

    async def handler(_):
        await asyncio.sleep(0.001)
        return Response(200, [], b"ok")

    async with running(handler) as server:

        async def ask_on():
            nonlocal answered
            async with connected(server.address) as peer:
                while True:
                    answer = await peer.ask(GET)
                    assert answer.body == b"ok"
                    answered += 1
                    if "connection" in answer.headers:
                        return

        asking = [asyncio.create_task(ask_on()) for _ in range(30)]
        await until(lambda: answered > 100)
        await server.drain(5)
        await asyncio.gather(*asking)


async def test_a_cancelled_drain_closes(running):
    """Cancelling the drain does not leave the server half open."""
    async with running(ok) as server, connected(server.address) as peer:
        await peer.ask(GET)
        draining = asyncio.create_task(server.drain(None))
        await until(lambda: server._state.draining)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert await peer.closed()
