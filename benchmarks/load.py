"""The load generators, wrk (HTTP) and h2load (gRPC), and what they print.

Both are closed loops: a connection (or one of the calls in flight on it) sends the next request when the answer is
there. What they print is read strictly: a line that is missing or an answer that is an error is a `BenchmarkError`,
never a figure.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

HTTP_CONNECTIONS = 32
GRPC_CONNECTIONS = 8
GRPC_IN_FLIGHT = 8
"""Calls in flight on each gRPC connection."""
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""Debian's package of each tool."""
_TIMEOUT = 120.0
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class MissingToolError(BenchmarkError):
    """A load generator is not installed; the message names the package."""


@dataclass(frozen=True)
class Load:
    """What one run of a load generator saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def check_tools(names: Iterable[str]) -> None:
    """Raise `MissingToolError` for the first that is not on the path."""
    for name in names:
        if shutil.which(name) is None:
            raise MissingToolError(f"{name} is not installed: apt-get install {PACKAGES[name]}")


def wrk(
    folder: Path,
    url: str,
    seconds: float,
    *,
    method: str,
    body: bytes | None,
    headers: Sequence[str],
    connections: int = HTTP_CONNECTIONS,
) -> Load:
    """Send one request again and again over so many connections for about so many seconds."""
    script = folder / "request.lua"
    script.write_text(lua(method, body), encoding="ascii")
    # wrk takes whole seconds only: a fraction is a duration in which it is ended by SIGINT, after which it reports.
    command = ["wrk", "-t1", f"-c{connections}", "-d60", "--latency", "-s", str(script)]
    for header in headers:
        command += ["-H", header]
    return parse_wrk(_interrupted_after(seconds, [*command, url]))


def _interrupted_after(seconds: float, command: Sequence[str]) -> str:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(2)
            try:
                output, _ = process.communicate(timeout=_TIMEOUT)
            except BaseException:
                process.kill()
                raise
        except BaseException:
            process.kill()
            raise
    return output


def lua(method: str, body: bytes | None) -> str:
    """The script that makes wrk send another method or a body."""
    lines = [f'wrk.method = "{method}"']
    if body is not None:
        if len(set(body)) == 1:
            value = f'string.rep("\\{body[0]:03d}", {len(body)})'
        else:
            value = '"' + "".join(f"\\{byte:03d}" for byte in body) + '"'
        lines += [f"wrk.body = {value}", 'wrk.headers["Content-Type"] = "application/json"']
    return "\n".join(lines) + "\n"


def parse_wrk(output: str) -> Load:
    """Read what `wrk --latency` prints. Raises `BenchmarkError` for any failed request."""
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if bad:
        raise BenchmarkError(f"{bad[1]} answers were errors (neither 2xx nor 3xx)")
    socket_errors = re.search(r"Socket errors: (.*)", output)
    if socket_errors:
        raise BenchmarkError(f"socket errors: {socket_errors[1]}")
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", output)
    if total is None or int(total[1]) == 0:
        raise BenchmarkError(f"wrk made no request:\n{output}")
    seconds = float(total[2]) * _MILLISECONDS[total[3]] / 1000
    return Load(int(total[1]), seconds, _wrk_percentile(output, 50), _wrk_percentile(output, 99))


def _wrk_percentile(output: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"wrk printed no {percent}% line:\n{output}")
    return float(found[1]) * _MILLISECONDS[found[2]]


FRAME_BYTES = 5
"""In front of each gRPC message."""


def frame(message: bytes) -> bytes:
    """A gRPC message with its five bytes in front, uncompressed."""
    return struct.pack(">BI", 0, len(message)) + message


def h2load(
    folder: Path,
    url: str,
    calls: int,
    *,
    body: bytes,
    headers: Sequence[str],
    answer_bytes: int,
    connections: int = GRPC_CONNECTIONS,
    in_flight: int = GRPC_IN_FLIGHT,
) -> Load:
    """Make `calls` gRPC calls with these framed messages; each answer must have at least `answer_bytes` bytes.

    h2load knows nothing of gRPC, whose errors are 200 without a message: the sum of the answers' bytes shows them.
    """
    data, log = folder / "request.grpc", folder / "h2load.log"
    data.write_bytes(body)
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", "-n", str(calls), "-c", str(connections), "-m", str(in_flight)]
    command += ["-d", str(data), "--log-file", str(log), "-H", "te: trailers", "-H", "content-type: application/grpc"]
    for header in headers:
        command += ["-H", header]
    try:
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{calls} gRPC calls took more than {_TIMEOUT:g} s") from error
    return parse_h2load(done.stdout + done.stderr, log.read_text(encoding="ascii"), answer_bytes)


def parse_h2load(output: str, log: str, frame_bytes: int) -> Load:
    """Read what h2load prints and the log of its requests (start in µs, status, duration in µs).

    Raises `BenchmarkError` for any failed request, and when the answers together are shorter than `frame_bytes` each.
    """
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded", output)
    seconds = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", output)
    received = re.search(r"\((\d+)\) data", output)
    if counts is None or seconds is None or received is None:
        raise BenchmarkError(f"h2load failed:\n{output}")
    total, succeeded = int(counts[1]), int(counts[2])
    if succeeded != total or total == 0:
        raise BenchmarkError(f"{total - succeeded} of {total} gRPC calls failed")
    if int(received[1]) < total * frame_bytes:
        raise BenchmarkError(
            f"{total} answers have {received[1]} bytes, {total * frame_bytes} were expected: some calls failed"
        )
    durations = sorted(int(line.rsplit("\t", 1)[1]) for line in log.splitlines())
    if not durations:
        raise BenchmarkError("h2load logged no request")
    return Load(
        total,
        float(seconds[1]) * _MILLISECONDS[seconds[2]] / 1000,
        percentile(durations, 50) / 1000,
        percentile(durations, 99) / 1000,
    )


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile of values in ascending order."""
    return ordered[max(0, math.ceil(round(len(ordered) * percent / 100, 6)) - 1)]
