"""Processor time of one unary gRPC call through `wire/grpc`, for both engines.

    python benchmarks/wire_grpc.py [--calls 40000] [--connections 8] [--in-flight 8] [--size 20]

Needs `h2load` (apt-get install nghttp2-client). Prints calls a second and the processor time a call of the process
under test, which unlike the rate does not depend on what else the machine does: `unary` is a method of the table,
`unknown` one that goes to the handler of unknown methods, `proxy` one that is relayed to a second process.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection

    from dapr_shared.wire.grpc.interface import Call

METHOD = "/bench.Echo/Unary"


async def _serve(engine_name: str, kind: str, upstream: str, pipe: Connection) -> None:
    # grpc is imported in the child: a process that has imported it must not be forked.
    from dapr_shared.wire.grpc.client import GrpcClient  # noqa: PLC0415
    from dapr_shared.wire.grpc.engines import engine  # noqa: PLC0415
    from dapr_shared.wire.grpc.interface import Kind, Method  # noqa: PLC0415
    from dapr_shared.wire.grpc.proxy import relay  # noqa: PLC0415

    client = GrpcClient(upstream or "127.0.0.1:1")

    async def echo(_: Call, data: bytes) -> bytes:
        return data

    async def unknown(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        answers = relay(call, messages, client, call.method, call.metadata) if kind == "proxy" else messages
        async for message in answers:
            yield message

    methods = [Method(METHOD, Kind.UNARY, echo)] if kind == "unary" else []
    server = await engine(engine_name, print).serve("127.0.0.1:0", methods, unknown)
    pipe.send(server.address)
    while await asyncio.to_thread(pipe.recv):
        times = os.times()
        pipe.send(times.user + times.system)
    await client.aclose()
    await server.stop(0)


def _child(engine_name: str, kind: str, upstream: str, pipe: Connection) -> None:
    uvloop.run(_serve(engine_name, kind, upstream, pipe))


class Process:
    """A server in a process of its own."""

    def __init__(self, engine_name: str, kind: str, upstream: str = "") -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(engine_name, kind, upstream, theirs))
        self._process.start()
        self.address: str = self._pipe.recv()

    def processor_seconds(self) -> float:
        """Processor time used until now."""
        self._pipe.send("measure")
        return self._pipe.recv()

    def stop(self) -> None:
        """Let it end."""
        self._pipe.send("")
        self._process.join()


def _load(address: str, calls: int, arguments: argparse.Namespace) -> float:
    """Make calls; answers calls a second."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(b"\0" + struct.pack(">I", arguments.size) + b"x" * arguments.size)
        command = ["h2load", "-n", str(calls), "-c", str(arguments.connections), "-m", str(arguments.in_flight)]
        command += ["-H", "te: trailers", "-H", "content-type: application/grpc", "-d", str(body)]
        command.append(f"http://{address}{METHOD}")
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"([\d.]+) req/s", output)
    done = re.search(r"(\d+) succeeded", output)
    if rate is None or done is None or int(done[1]) != calls:
        sys.exit(f"h2load failed:\n{output}")
    return float(rate[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--size", type=int, default=20)
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    print(f"{'engine':8}{'calls':10}{'calls/s':>10}{'µs CPU/call':>14}")
    upstream = Process("http2", "unary")
    for engine_name in ("http2", "aio"):
        for kind in ("unary", "unknown", "proxy"):
            process = Process(engine_name, kind, upstream.address)
            _load(process.address, max(1, arguments.calls // 10), arguments)
            before = process.processor_seconds()
            rate = _load(process.address, arguments.calls, arguments)
            used = process.processor_seconds() - before
            print(f"{engine_name:8}{kind:10}{rate:10.0f}{used / arguments.calls * 1e6:14.1f}")
            process.stop()
    upstream.stop()


if __name__ == "__main__":
    main()
