"""The client's own promises; the server is grpc.aio's."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time

import grpc.aio
import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.aio import AioEngine
from dapr_shared.wire.grpc.client import ClientOptions, GrpcClient, TlsOptions
from dapr_shared.wire.grpc.interface import GrpcError, Kind, Method
from dapr_shared.wire.grpc.serving import Service
from tests.support.grpc_calls import (
    ALL_KINDS,
    CHAT,
    ECHO,
    Desk,
    collect,
    fail,
    open_ended,
    refuse_unknown,
    stream_of,
    until,
)
from tests.support.required import need_command


@pytest.fixture
async def desk():
    desk = Desk(AioEngine(lambda *defect: desk.defects.append(defect)), [])
    yield desk
    await desk.close()
    assert not desk.defects


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_refused_connection_fails_at_once(desk, closed_port) -> None:
    """A server that is not there is UNAVAILABLE at once and unreachable, for unary calls and streams."""
    client = desk.client(f"127.0.0.1:{closed_port}")
    start = time.monotonic()
    for error in (
        await fail(client.unary(ECHO, b"")),
        await fail(collect(client.stream(CHAT, stream_of([b""])).messages())),
        await fail(client.stream(CHAT, stream_of([b""])).initial_metadata()),
    ):
        assert error.code is GrpcCode.UNAVAILABLE
        assert error.unreachable
    assert time.monotonic() - start < 2


async def test_a_missing_socket_is_unreachable(desk, tmp_path) -> None:
    """A Unix socket that is not there is unreachable."""
    assert (await fail(desk.client(f"unix:{tmp_path}/none").unary(ECHO, b""))).unreachable


async def test_an_unknown_name_is_unreachable(desk) -> None:
    """A name that does not resolve is unreachable."""
    assert (await fail(desk.client("name.invalid:1").unary(ECHO, b"", timeout=20))).unreachable


async def test_it_reconnects(desk, closed_port) -> None:
    """A client finds a server that comes later by itself, and at once after `reconnect`."""
    client = desk.client(f"127.0.0.1:{closed_port}")
    assert (await fail(client.unary(ECHO, b""))).unreachable
    await desk.serve(ALL_KINDS, address=f"127.0.0.1:{closed_port}")
    client.reconnect()
    assert (await client.unary(ECHO, b"x")).data == b"x"


async def test_a_connection_that_is_lost_without_a_call_is_told(desk) -> None:
    """When the server goes while no call is in flight, whoever asked is told; the client's own end is not told."""
    lost = asyncio.Event()
    server = await desk.serve(ALL_KINDS)
    client = GrpcClient(server.address, on_lost=lost.set)
    try:
        assert (await client.unary(ECHO, b"x")).data == b"x"
        client.reconnect()
        assert (await client.unary(ECHO, b"x")).data == b"x"
        assert not lost.is_set()
        await desk.close()
        await asyncio.wait_for(lost.wait(), 20)
    finally:
        await client.aclose()


async def test_a_lost_connection_is_unreachable(desk) -> None:
    """A call whose server dies is UNAVAILABLE and unreachable."""
    started = asyncio.Event()

    async def hang_up(reader, writer):
        await reader.read(100)
        started.set()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await fail(desk.client(f"127.0.0.1:{port}").unary(ECHO, b"", timeout=20))
    assert started.is_set()
    assert error.code is GrpcCode.UNAVAILABLE
    assert error.unreachable
    server.close()
    await server.wait_closed()


def _dropping(answer: bytes = b""):
    """A server that takes one call, answers these bytes and is gone."""

    async def hang_up(reader, writer):
        await reader.read(10)
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # SETTINGS: the connection counts as made
        received = b""
        while b"Echo" not in received and (data := await reader.read(1000)):
            received += data
        writer.write(answer)
        writer.close()

    return asyncio.start_server(hang_up, "127.0.0.1", 0)


@pytest.mark.parametrize("goaway", [b"", b"\x00\x00\x08\x07" + bytes(8) + b"\x01" + bytes(4)], ids=["", "goaway"])
async def test_a_connection_lost_with_a_call_on_it_is_unreachable(desk, goaway) -> None:
    """However soon after the loss one looks, a call that a connection took with it is unreachable."""
    async with await _dropping(goaway) as server:
        for _ in range(20):
            client = desk.client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            error = await fail(client.unary(ECHO, bytes(500), timeout=20))
            assert (error.code, error.unreachable) == (GrpcCode.UNAVAILABLE, True), error.message


async def test_a_refusal_with_metadata_is_an_answer(desk) -> None:
    """A server that answers UNAVAILABLE in gRPC's own words, but with metadata, has been reached."""

    async def handler(call, data):
        raise GrpcError(GrpcCode.UNAVAILABLE, "Socket closed", trailers=[("t", "1")])

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    error = await fail(client.unary(ECHO, b""))
    assert (error.code, error.unreachable) == (GrpcCode.UNAVAILABLE, False)


async def test_connections_are_renewed(desk) -> None:
    """After their life, new calls use a new connection, while a stream stays on the old one, which then closes."""
    peers = []

    async def handler(call, data):
        peers.append(call.peer)
        return data

    server = await desk.serve([Method(ECHO, Kind.UNARY, handler), *ALL_KINDS[1:]])
    client = desk.client(server, ClientOptions(life=100))
    start = asyncio.get_running_loop().time()
    await client.unary(ECHO, b"")
    await client.unary(ECHO, b"")
    assert len(set(peers)) == 1
    first = client._connection
    assert first is not None
    assert 90 <= first.expires - start <= 110 + 20  # 20: a busy machine
    go = asyncio.Event()

    async def questions():
        yield b"first"
        await go.wait()
        yield b"second"

    stream = client.stream(CHAT, questions())
    answers = stream.messages()
    assert await anext(answers) == b"first"
    client._expire(first)
    await client.unary(ECHO, b"")
    assert len(set(peers)) == 2
    assert len(client._connections) == 2
    go.set()
    assert await collect(answers) == [b"second"]
    await until(lambda: len(client._connections) == 1)


async def test_close_ends_calls_in_flight(desk) -> None:
    """`aclose` fails calls in flight with CANCELLED, not with an `asyncio` cancellation, and refuses new ones."""
    started = asyncio.Event()

    async def handler(call, data):
        started.set()
        await asyncio.Event().wait()

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler), *ALL_KINDS[1:])
    stream = client.stream(CHAT, open_ended(b"x"))
    answers = stream.messages()
    assert await anext(answers) == b"x"
    unary = asyncio.create_task(fail(client.unary(ECHO, b"")))
    await started.wait()
    await client.aclose()
    assert (await unary).code is GrpcCode.CANCELLED
    assert (await fail(anext(answers))).code is GrpcCode.CANCELLED
    assert (await fail(client.unary(ECHO, b""))).code is GrpcCode.CANCELLED
    with pytest.raises(GrpcError):
        client.stream(CHAT, stream_of([]))


async def test_cancel_ends_a_stream(desk) -> None:
    """`cancel` ends a stream with CANCELLED for its reader and closes its iterator of requests."""
    closed = []

    async def questions():
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.append(1)

    client = await desk.pair(*ALL_KINDS)
    call = client.stream(CHAT, questions())
    answers = call.messages()
    assert await anext(answers) == b"x"
    call.cancel()
    assert (await fail(anext(answers))).code is GrpcCode.CANCELLED
    assert closed == [1]


async def test_a_call_that_ends_early_ends_its_requests(desk) -> None:
    """When the server answers before the requests end, their iterator is closed by the time the answers have ended."""
    closed = []

    async def questions():
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.append(1)

    async def handler(call, messages):
        yield b"enough"

    client = await desk.pair(Method(CHAT, Kind.BIDI, handler))
    assert await collect(client.stream(CHAT, questions()).messages()) == [b"enough"]
    assert closed == [1]


async def _flood():
    while True:
        yield bytes(100)


async def test_an_answer_while_requests_are_written(desk) -> None:
    """A server that ends the call while its client goes on sending is heard: its answers, and its status."""
    refusal = GrpcError(GrpcCode.NOT_FOUND, "none")

    async def handler(call, messages):
        async for _ in messages:
            break
        if ("fail", "1") in call.metadata:
            raise refusal
        yield b"enough"

    client = await desk.pair(Method(CHAT, Kind.BIDI, handler))
    for _ in range(20):
        assert await collect(client.stream(CHAT, _flood()).messages()) == [b"enough"]
        error = await fail(collect(client.stream(CHAT, _flood(), [("fail", "1")]).messages()))
        assert (error.code, error.message) == (GrpcCode.NOT_FOUND, "none")


async def test_a_connection_lost_while_requests_are_written(desk) -> None:
    """A stream that loses its connection while its client sends is UNAVAILABLE and unreachable, not INTERNAL."""
    async with await _dropping() as server:
        for _ in range(20):
            client = desk.client(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            error = await fail(collect(client.stream(ECHO, _flood(), timeout=20).messages()))
            assert (error.code, error.unreachable) == (GrpcCode.UNAVAILABLE, True), error.message


async def test_a_failing_iterator_of_requests(desk) -> None:
    """An exception of the iterator of requests cancels the call on the server and is raised to the reader."""
    answered, complete, ended = asyncio.Event(), [], []

    async def handler(call, messages):
        try:
            async for message in messages:
                yield message
            complete.append(1)
        finally:
            ended.append(1)

    async def questions():
        yield b"x"
        await answered.wait()
        raise ValueError("mine")

    client = await desk.pair(Method(CHAT, Kind.BIDI, handler))
    answers = client.stream(CHAT, questions()).messages()
    assert await anext(answers) == b"x"
    answered.set()
    with pytest.raises(ValueError, match="mine"):
        await collect(answers)
    await until(lambda: ended)
    assert not complete


async def test_reserved_metadata_are_dropped(desk) -> None:
    """Reserved keys do not reach the wire, where `grpc-timeout` would set a deadline; the trace context does."""
    seen = {}

    async def handler(call, data):
        seen.update(call.metadata)
        seen["deadline"] = call.time_remaining()
        return data

    client = await desk.pair(Method(ECHO, Kind.UNARY, handler))
    await client.unary(
        ECHO,
        b"",
        [
            (":path", "/x"),
            ("grpc-timeout", "1S"),
            ("grpc-encoding", "gzip"),
            ("TE", "trailers"),
            ("content-type", "text/plain"),
            ("user-agent", "mine"),
            ("connection", "close"),
            ("traceparent", "00-1-2-01"),
            ("dapr-app-id", "x"),
        ],
    )
    assert seen.pop("user-agent").startswith("grpc-python")
    assert seen == {"traceparent": "00-1-2-01", "dapr-app-id": "x", "deadline": None}


async def test_illegal_metadata_are_refused(desk) -> None:
    """Metadata that gRPC cannot carry fail the call with INTERNAL, as a Go client answers."""
    client = await desk.pair(*ALL_KINDS)
    assert (await fail(client.unary(ECHO, b"", [("x", "ü")]))).code is GrpcCode.INTERNAL
    with pytest.raises(GrpcError, match="'a b'"):
        client.stream(CHAT, stream_of([]), [("a b", "x")])


async def test_the_user_agent(desk) -> None:
    """The option is put before gRPC's own user agent."""
    seen = {}

    async def handler(call, data):
        seen.update(call.metadata)
        return data

    server = await desk.serve([Method(ECHO, Kind.UNARY, handler)])
    await desk.client(server, ClientOptions(user_agent="dapr-shared/1")).unary(ECHO, b"")
    assert seen["user-agent"].startswith("dapr-shared/1 grpc-python")


async def test_a_proxy_in_the_environment_is_not_used(desk, monkeypatch, closed_port) -> None:
    """An HTTP proxy named in the environment is not asked for the way to an app."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    client = await desk.pair(*ALL_KINDS)
    assert (await client.unary(ECHO, b"x")).data == b"x"


@pytest.mark.parametrize("life", [300.0, 0.05])
async def test_a_server_that_closes_connections(life) -> None:
    """A server that closes connections in turn, as Go servers are told to, fails no call."""

    async def handler(call, data):
        return data

    service = Service([Method(ECHO, Kind.UNARY, handler)], refuse_unknown, None, print)
    options = [("grpc.max_connection_age_ms", 20), ("grpc.max_connection_age_grace_ms", 5000)]
    server = grpc.aio.server(handlers=[service.generic()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = GrpcClient(f"127.0.0.1:{port}", ClientOptions(life=life))
    end = time.monotonic() + 0.4

    async def work():
        while time.monotonic() < end:
            assert (await client.unary(ECHO, b"x")).data == b"x"

    await asyncio.gather(*(work() for _ in range(8)))
    await client.aclose()
    await server.stop(None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[bytes, bytes]:
    """A certificate of "app.internal" and its key, made for this run."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        need_command("openssl", "openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=app.internal", "-addext", "subjectAltName=DNS:app.internal"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "certificate").read_bytes(), (folder / "key").read_bytes()


async def test_tls(certificate) -> None:
    """With TLS the server's name is checked, an override is honoured, and a client certificate is sent."""
    chain, key = certificate
    names = []

    async def handler(data, context):
        names.append(context.auth_context().get("x509_common_name"))
        return data

    server = grpc.aio.server(
        handlers=[grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(handler)})]
    )
    credentials = grpc.ssl_server_credentials([(key, chain)], root_certificates=chain, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    target = f"127.0.0.1:{port}"
    tls = TlsOptions(chain, chain, key, server_name="app.internal")
    good = GrpcClient(target, ClientOptions(tls=tls))
    wrong_name = GrpcClient(target, ClientOptions(tls=TlsOptions(chain, chain, key)))
    no_certificate = GrpcClient(target, ClientOptions(tls=TlsOptions(chain, server_name="app.internal")))
    plain = GrpcClient(target)
    assert (await good.unary("/a.B/C", b"x")).data == b"x"
    assert names == [[b"app.internal"]]
    for client in (wrong_name, no_certificate, plain):
        assert (await fail(client.unary("/a.B/C", b"x", timeout=10))).code is GrpcCode.UNAVAILABLE
    for client in (good, wrong_name, no_certificate, plain):
        await client.aclose()
    await server.stop(None)
