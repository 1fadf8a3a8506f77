"""The acceptor of TLS connections: its bounds, its words for what goes wrong, its end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.messages import Response
from dapr_shared.wire.http.server import serve
from dapr_shared.wire.tls import ServerTls, TlsError, TlsFiles
from tests.support.tls_certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
async def served(authority):
    """A server with small bounds; the troubles it tells."""
    pair = authority.issue("server", server=True)
    tls = ServerTls(TlsFiles(pair.cert, pair.key, authority.file, client_required=False))
    troubles: list[tuple[str, str]] = []
    certificates: list[object] = []

    async def handler(request):
        certificates.append(request.certificate)
        return Response(200, [], b"here")

    server = await serve(
        "127.0.0.1:0",
        handler,
        limits=ServerLimits(header_timeout=0.3, handshakes=2),
        ssl=lambda: tls.context,
        on_trouble=lambda reason, peer, problem: troubles.append((reason, peer)),
    )
    server.tls, server.troubles, server.certificates = tls, troubles, certificates
    server.port = int(server.address.rpartition(":")[2])
    yield server
    server.close()
    await asyncio.sleep(0)


async def _get(server, context) -> bytes:
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def _until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.01)


async def test_a_request_knows_the_certificate_of_its_connection(served, authority):
    """With a client certificate a request has its names in it; without one it has none."""
    pair = authority.issue("client", uris=["spiffe://test/a"], dns=["A.test"])
    assert (await _get(served, authority.client(pair))).endswith(b"here")
    assert (await _get(served, authority.client())).endswith(b"here")
    first, second = served.certificates
    assert (first.uris, first.dns_names, first.fingerprint) == (("spiffe://test/a",), ("a.test",), pair.fingerprint)
    assert second is None


async def test_a_slow_handshake_ends(served, authority):
    """A client that says nothing, and one that stops midway, are closed after the time limit, and told apart by nothing."""
    silent = await asyncio.open_connection("127.0.0.1", served.port)
    midway = await asyncio.open_connection("127.0.0.1", served.port)
    midway[1].write(b"\x16\x03\x01")
    async with asyncio.timeout(5):
        assert await silent[0].read() == b""
        with contextlib.suppress(ConnectionResetError):
            await midway[0].read()
    await _until(lambda: len(served.troubles) == 2)
    assert {reason for reason, _ in served.troubles} == {"timeout"}
    for _, writer in (silent, midway):
        writer.close()
    assert (await _get(served, authority.client())).endswith(b"here")


async def test_one_handshake_too_many_ends_the_oldest(served, authority):
    """At the bound of two the third connection is served, and the oldest that is not done goes."""
    writers = []
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"\x16\x03\x01")
        writers.append(writer)
    assert (await _get(served, authority.client())).endswith(b"here")
    assert ("too_many", "127.0.0.1") in served.troubles
    for writer in writers:
        writer.close()


async def test_a_probe_of_the_port_is_no_trouble(served):
    """A client that connects and goes without a word is not told of."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert served.troubles == []


async def test_garbage_in_place_of_a_handshake(served, authority):
    """What begins like TLS and is none ends that connection alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"\x16" + b"\xff" * 200)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    await _until(lambda: served.troubles)
    assert served.troubles == [("handshake", "127.0.0.1")]
    assert (await _get(served, authority.client())).endswith(b"here")


async def test_drain_serves_what_was_sent_and_ends_what_was_not(served, authority):
    """A drain waits a moment for handshakes, then ends those that are not done."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"\x16")
    await _until(lambda: served._tls.shaking == 1)
    async with asyncio.timeout(2):
        await served.drain(None)
    writer.close()
    await _until(lambda: served._tls.shaking == 0)
    assert served.troubles == []


async def test_a_session_is_not_resumed(served, authority):
    """Each connection shows its certificate again: there are no tickets, with TLS 1.2 neither."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.client(maximum_version=version)
        reader, writer = await asyncio.open_connection("localhost", served.port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await reader.read()
        session = writer.get_extra_info("ssl_object").session
        assert session is None or not session.has_ticket
        writer.close()


def test_files_that_change_while_they_are_read_change_nothing(authority):
    """A reload with wrong files raises, and both wires go on with what they had."""
    pair = authority.issue("server", server=True)
    tls = ServerTls(TlsFiles(pair.cert, pair.key))
    context, material = tls.context, tls.material
    assert tls.reload() is False
    pair.key.write_text("nothing")
    with pytest.raises(TlsError, match="--tls-key"):
        tls.reload()
    assert (tls.context, tls.material) == (context, material)
    assert "PRIVATE" not in repr(tls.material)
