"""Processor time of one request through `wire/http`: the server alone, and the server with the client behind it.

    python benchmarks/wire_http.py [--seconds 5] [--connections 32] [--size 20]

Needs `wrk` (apt-get install wrk). Prints requests a second and the processor time a request of the process under test,
which unlike the rate does not depend on what else the machine does. `proxy` forwards every request through the client
to a second process: what an invocation costs on the wire alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import uvloop

from dapr_shared.wire.http.client import HttpClient
from dapr_shared.wire.http.messages import Request, Response
from dapr_shared.wire.http.server import serve

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from dapr_shared.wire.http.messages import Handler


def _answering(size: int) -> Handler:
    body = b"x" * size
    headers = [(b"content-type", b"application/json")]

    async def handler(_: Request) -> Response:
        return Response(200, headers, body)

    return handler


def _forwarding(port: int) -> Handler:
    client = HttpClient("http", "127.0.0.1", port)

    async def handler(request: Request) -> Response:
        answer = await client.request(request.method, request.target, request.headers, request.body)
        return Response(answer.status, answer.headers, answer.body)

    return handler


async def _serve(upstream: int | None, size: int, pipe: Connection) -> None:
    handler = _answering(size) if upstream is None else _forwarding(upstream)
    server = await serve("127.0.0.1:0", handler)
    pipe.send(int(server.address.rpartition(":")[2]))
    while True:
        await asyncio.to_thread(pipe.recv)
        times = os.times()
        pipe.send(times.user + times.system)


def _process(upstream: int | None, size: int, pipe: Connection) -> None:
    uvloop.run(_serve(upstream, size, pipe))


def _start(upstream: int | None, size: int) -> tuple[multiprocessing.Process, Connection, int]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_process, args=(upstream, size, theirs), daemon=True)
    process.start()
    return process, ours, ours.recv()


def _spent(pipe: Connection) -> float:
    pipe.send(None)
    return pipe.recv()


def _measure(name: str, pipe: Connection, port: int, arguments: argparse.Namespace) -> None:
    command = [
        "wrk",
        "-t1",
        f"-c{arguments.connections}",
        f"-d{arguments.seconds}",
        f"http://127.0.0.1:{port}/v1.0/state/store/key",
    ]
    for header in ("user-agent: benchmark", "accept: */*", "dapr-api-token: 0123456789"):
        command += ["-H", header]
    before = _spent(pipe)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = _spent(pipe) - before
    found = re.search(r"(\d+) requests in", output)
    requests = int(found[1]) if found else 0
    rate = requests / arguments.seconds
    print(f"{name:8} {rate:9.0f} requests/s   {used / max(1, requests) * 1e6:6.1f} µs of processor time a request")


def main() -> None:
    """Run both scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=20)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    multiprocessing.set_start_method("spawn")
    server, server_pipe, server_port = _start(None, arguments.size)
    proxy, proxy_pipe, proxy_port = _start(server_port, arguments.size)
    try:
        _measure("server", server_pipe, server_port, arguments)
        _measure("proxy", proxy_pipe, proxy_port, arguments)
    finally:
        for process in (proxy, server):
            process.terminate()
            process.join()


if __name__ == "__main__":
    main()
