"""Where the process listens: ports that are taken, loopback, Unix sockets."""

from __future__ import annotations

import os
import socket

import pytest

from tests.support.calls import ask, call, grpc_channel
from tests.support.instance import StartError, app, component, free_ports, run_to_end, running, start, token_of

MEMORY = component("memory", "state.in-memory")


@pytest.mark.parametrize("flag", ["--dapr-http-port", "--dapr-grpc-port", "--metrics-port", "--dapr-public-port"])
@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_a_port_that_is_taken(tmp_path, flag, engine):
    """It is a start error that names the port, the process that has it, and the flag that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = [f for f in ("--dapr-http-port", "--dapr-grpc-port", "--metrics-port") if f != flag]
        words = [f"{name}={free}" for name, free in zip(others, free_ports(3), strict=False)]
        code, output = run_to_end(
            tmp_path, "run", "--app-id=orders", f"{flag}={port}", f"--grpc-engine={engine}",
            "--metrics-listen-address=127.0.0.1", "--dapr-public-listen-address=127.0.0.1", *words,
        )  # fmt: skip
    assert code == 1, output
    assert f"127.0.0.1:{port} is taken by" in output
    assert f"(process {os.getpid()})" in output
    assert flag in output
    assert "Traceback" not in output


def test_only_loopback_by_default(tmp_path):
    """`dapr-shared run` listens on 127.0.0.1 and on no other address."""
    with running(tmp_path, resources=[app("orders")]) as made:
        listening: set[str] = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table) as lines:  # noqa: PTH123 - a kernel table
                for line in lines:
                    fields = line.split()
                    if len(fields) > 3 and fields[3] == "0A":
                        address, _, port = fields[1].rpartition(":")
                        if int(port, 16) in (made.http_port, made.grpc_port, made.metrics_port, made.public_port):
                            listening.add(address)
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening


def test_unix_domain_sockets(tmp_path):
    """With --unix-domain-socket the APIs are on sockets named after the app, mode 0600, and on no port."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    with running(tmp_path, f"--unix-domain-socket={folder}", app_id="orders", resources=[MEMORY]) as made:
        http, grpc = folder / "dapr-orders-http.socket", folder / "dapr-orders-grpc.socket"
        assert ask(f"unix:{http}", "GET", "/v1.0/metadata").json()["id"] == "orders"
        with grpc_channel(f"unix:{grpc}") as channel:
            assert call(channel, "GetMetadata").code.value[0] == 0
        for path in (http, grpc):
            assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConnectionRefusedError):
            ask(made.http, "GET", "/v1.0/healthz")
    assert not http.exists()
    assert not grpc.exists()


def test_sockets_left_behind(tmp_path):
    """Sockets that a killed instance left behind are taken over; those of a living one are not."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    flag = f"--unix-domain-socket={folder}"
    first = start(tmp_path, flag, app_id="orders", resources=[MEMORY])
    first.process.kill()
    first.wait()
    assert (folder / "dapr-orders-http.socket").exists()
    with running(tmp_path, flag, app_id="orders", resources=[MEMORY]):
        with pytest.raises(StartError) as ended:
            start(tmp_path / "second", flag, app_id="orders")
        assert ended.value.code == 1
        assert "--unix-domain-socket" in ended.value.log
        assert ask(f"unix:{folder / 'dapr-orders-http.socket'}", "GET", "/v1.0/metadata").status == 200


def test_a_shared_instance_on_sockets(tmp_path):
    """A shared instance's sockets are named `shared`, and there too each request must prove its app."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    with running(tmp_path, f"--unix-domain-socket={folder}", resources=[app("orders")]):
        where = f"unix:{folder / 'dapr-shared-http.socket'}"
        assert ask(where, "GET", "/v1.0/metadata").status == 401
        header = [("dapr-api-token", token_of("orders"))]
        assert ask(where, "GET", "/v1.0/metadata", headers=header).json()["id"] == "orders"


def test_an_idle_instance_is_small(tmp_path):
    """An idle instance takes less than 100 MB of resident memory."""
    with running(tmp_path, resources=[app("orders")]) as made:
        assert made.memory() < 100 * 10**6
