"""Addresses, start and stop of servers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat

import pytest

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.engines import engine
from dapr_shared.wire.grpc.interface import Kind, Method, ServerOptions
from tests.support.grpc_calls import ALL_KINDS, CHAT, ECHO, collect, fail, open_ended, refuse_unknown, stream_of, until


def test_the_factory_names_its_choices(engine_name) -> None:
    """The factory makes each engine by name, and an unknown name's error lists them."""
    assert engine(engine_name, print).name == engine_name
    with pytest.raises(ValueError, match=r"'grpclib'.*http2, aio"):
        engine("grpclib", print)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0"])
async def test_a_free_port(desk, address) -> None:
    """Port 0 is answered with the real port, which serves."""
    server = await desk.serve(ALL_KINDS, address=address)
    port = server.address.rpartition(":")[2]
    assert int(port) > 0
    assert (await desk.client(f"127.0.0.1:{port}").unary(ECHO, b"x")).data == b"x"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
async def test_a_busy_port(desk, host) -> None:
    """A port that another server of the same engine holds is an `OSError` that names the address."""
    server = await desk.serve(address=f"{host}:0")
    with pytest.raises(OSError, match=r":\d+") as caught:
        await desk.serve(address=server.address)
    assert caught.value.errno == errno.EADDRINUSE
    assert server.address.rpartition(":")[2] in str(caught.value)


async def test_a_port_busy_on_one_of_two_addresses(desk) -> None:
    """A name that stands for several addresses fails when one of them is taken, and keeps none of the others."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            await desk.serve(address=f"localhost:{port}")
    await desk.serve(address=f"localhost:{port}")


async def test_a_foreign_address(desk) -> None:
    """An address that is not this machine's is an `OSError` that says so."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0") as caught:
        await desk.serve(address="192.0.2.1:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_a_shared_port(desk) -> None:
    """With `reuse_port` two servers share a port, as workers do."""
    options = ServerOptions(reuse_port=True)
    server = await desk.serve(options=options)
    assert (await desk.serve(address=server.address, options=options)).address == server.address


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x", "host:65536", "::1:80"])
async def test_malformed_addresses(desk, address) -> None:
    """A malformed address is a `ValueError` that quotes it."""
    with pytest.raises(ValueError, match="no gRPC address"):
        await desk.serve(address=address)


async def test_a_method_twice(desk) -> None:
    """A table with one method twice is refused."""
    with pytest.raises(ValueError, match=ECHO):
        await desk.serve([*ALL_KINDS, ALL_KINDS[0]])


async def test_a_unix_socket(desk, tmp_path) -> None:
    """A Unix socket serves, is closed to other users, and its file goes with the server."""
    path = tmp_path / "grpc.socket"
    server = await desk.serve(ALL_KINDS, address=f"unix:{path}")
    assert server.address == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await desk.client(server).unary(ECHO, b"x")).data == b"x"
    await server.stop(0)
    assert not path.exists()


async def test_a_unix_socket_in_use(desk, tmp_path) -> None:
    """A live server's socket is not taken over; a dead one's is."""
    path = tmp_path / "grpc.socket"
    server = await desk.serve(ALL_KINDS, address=f"unix:{path}")
    with pytest.raises(OSError, match=str(path)) as caught:
        await desk.serve(address=f"unix:{path}")
    assert caught.value.errno == errno.EADDRINUSE
    assert (await desk.client(server).unary(ECHO, b"x")).data == b"x"
    await server.stop(0)

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    again = await desk.serve(ALL_KINDS, address=f"unix:{path}")
    assert (await desk.client(again).unary(ECHO, b"x")).data == b"x"


async def test_a_file_is_not_a_socket(desk, tmp_path) -> None:
    """A file in the place of the socket is left alone."""
    path = tmp_path / "grpc.socket"
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        await desk.serve(address=f"unix:{path}")
    assert path.read_text() == "precious"


async def test_a_socket_without_a_directory(desk, tmp_path) -> None:
    """A socket in a directory that is not there, or with a path too long, is an `OSError`."""
    with pytest.raises(OSError, match="nowhere"):
        await desk.serve(address=f"unix:{tmp_path}/nowhere/grpc.socket")
    with pytest.raises(OSError, match="too long"):
        await desk.serve(address=f"unix:{tmp_path}/{'x' * 120}")


async def test_the_umask_is_kept(desk, tmp_path) -> None:
    """Binding a Unix socket leaves the process's umask as it was, also when it fails."""
    before = os.umask(0o027)
    try:
        await desk.serve(address=f"unix:{tmp_path}/grpc.socket")
        with pytest.raises(OSError, match="nowhere"):
            await desk.serve(address=f"unix:{tmp_path}/nowhere/grpc.socket")
    finally:
        after = os.umask(before)
    assert after == 0o027


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.BIDI])
async def test_stop_lets_calls_finish(desk, kind) -> None:
    """Within the grace a call in flight gets its answer, and stop returns as soon as it has."""
    started, go = asyncio.Event(), asyncio.Event()

    async def one(call, data):
        started.set()
        await go.wait()
        return b"done"

    async def many(call, data):
        yield await one(call, data)

    server = await desk.serve([Method(ECHO, kind, one if kind is Kind.UNARY else many)])
    client = desk.client(server)
    async with asyncio.timeout(10):
        answer = asyncio.create_task(client.unary(ECHO, b""))
        await started.wait()
        stopping = asyncio.create_task(server.stop(30))
        await _refused(desk, server)
        go.set()
        assert (await answer).data == b"done"
        await stopping


async def test_a_second_stop_may_be_shorter(desk) -> None:
    """A stop without grace ends the calls that an earlier stop still waits for, also when that one was given up."""
    for give_up in (False, True):
        started = asyncio.Event()

        async def handler(call, data, started=started):
            started.set()
            await asyncio.Event().wait()

        server = await desk.serve([Method(ECHO, Kind.UNARY, handler)])
        client = desk.client(server)
        async with asyncio.timeout(10):
            call = asyncio.create_task(fail(client.unary(ECHO, b"")))
            await started.wait()
            stopping = asyncio.create_task(server.stop(None))
            await _refused(desk, server)
            if give_up:
                stopping.cancel()
            await server.stop(0)
            assert (await call).code in {GrpcCode.UNAVAILABLE, GrpcCode.CANCELLED}
            await asyncio.wait({stopping})


async def _refused(desk, server):
    """Call over new connections until one call is refused."""
    code = None
    while code is not GrpcCode.UNAVAILABLE:
        code = (await fail(desk.client(server).unary("/test.Echo/Other", b""))).code


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.BIDI])
async def test_stop_cancels_after_the_grace(desk, kind) -> None:
    """After the grace, calls in flight are cancelled; their handlers have cleaned up when stop returns."""
    started = asyncio.Event()
    ended = []

    async def one(call, data):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    async def many(call, data):
        await one(call, data)
        yield b""

    server = await desk.serve([Method(ECHO, kind, one if kind is Kind.UNARY else many)])
    client = desk.client(server)
    async with asyncio.timeout(10):
        call = asyncio.create_task(fail(client.unary(ECHO, b"")))
        await started.wait()
        await server.stop(0.1)
        assert ended == [1]
        assert (await call).code in {GrpcCode.UNAVAILABLE, GrpcCode.CANCELLED}


async def test_stop_without_grace_ends_streams(desk) -> None:
    """A grace of 0 cancels streams at once."""
    server = await desk.serve(ALL_KINDS)
    call = desk.client(server).stream(CHAT, open_ended(b"x"))
    answers = call.messages()
    async with asyncio.timeout(5):
        assert await anext(answers) == b"x"
        await server.stop(0)
        assert (await fail(anext(answers))).code in {GrpcCode.UNAVAILABLE, GrpcCode.CANCELLED}


async def test_stop_for_ever(desk) -> None:
    """A grace of `None` waits for the calls in flight."""
    started, go = asyncio.Event(), asyncio.Event()

    async def handler(call, data):
        started.set()
        await go.wait()
        return b"done"

    server = await desk.serve([Method(ECHO, Kind.UNARY, handler)])
    answer = asyncio.create_task(desk.client(server).unary(ECHO, b""))
    async with asyncio.timeout(5):
        await started.wait()
        stopping = asyncio.create_task(server.stop(None))
        done, _ = await asyncio.wait({stopping}, timeout=0.2)
        assert not done
        go.set()
        assert (await answer).data == b"done"
        await stopping


async def test_stop_twice_and_start_again(desk) -> None:
    """Stop may be called again, and the address is free afterwards."""
    server = await desk.serve(ALL_KINDS)
    await asyncio.gather(server.stop(1), server.stop(1))
    await server.stop(None)
    again = await desk.serve(ALL_KINDS, address=server.address)
    assert (await desk.client(again).unary(ECHO, b"x")).data == b"x"


async def test_two_listeners(desk) -> None:
    """Two servers of one engine on two ports keep their listeners apart."""

    async def handler(call, data):
        return str(call.listener).encode()

    row = Method(ECHO, Kind.UNARY, handler)
    first = await desk.serve([row], listener="first")
    second = await desk.serve([row], listener="second")
    assert (await desk.client(first).unary(ECHO, b"")).data == b"first"
    assert (await desk.client(second).unary(ECHO, b"")).data == b"second"


async def test_nothing_is_left_running(engine_name) -> None:
    """A server and a client that were used and closed leave no task behind."""
    before = asyncio.all_tasks()
    made = engine(engine_name, print)
    server = await made.serve("127.0.0.1:0", ALL_KINDS, refuse_unknown)
    from dapr_shared.wire.grpc.client import GrpcClient

    client = GrpcClient(server.address)
    assert await collect(client.stream(CHAT, stream_of([b"x"])).messages()) == [b"x"]
    await client.aclose()
    await server.stop(0)
    await until(lambda: asyncio.all_tasks() == before)
