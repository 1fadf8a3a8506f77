"""Latency at a fixed rate: requests leave by the clock, whether or not the ones before are answered.

A closed loop shows what a request costs; it says little of the latency at a normal load, as a slow server is asked less.
Here h2load sends so many requests a second, half and 80 % of what the peer (without one: we) can take, over so many
connections that one is nearly always free. Of a server that stalls for long even they run out: h2load then sends late, and
the figures are a little too good.
"""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.deployments import PEER
from benchmarks.load import frame, percentile
from benchmarks.measure import headers_of, saturation
from benchmarks.processes import LOOPBACK, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.deployments import Deployment
    from benchmarks.scenarios import Scenario

OPEN_LOOP = (
    "http-state-get-memory",
    "http-invoke",
    "http-publish-memory",
    "grpc-state-get-memory",
    "grpc-invoke-service",
)
"""The scenarios that are measured so."""
SHARES = (0.5, 0.8)
"""Of the peer's saturation."""
CONNECTIONS = 64
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Latency:
    """Latencies of one scenario at one rate: medians of the rounds."""

    scenario: str
    deployment: str
    share: float
    """Of the peer's saturation."""
    rate: float
    """Requests a second that were sent."""
    p50_ms: float
    p99_ms: float
    p999_ms: float


def run(
    scenario: Scenario, deployments: Sequence[Deployment], folder: Path, *, rounds: int, seconds: float
) -> list[Latency]:
    """Find the peer's saturation, then measure all at the same rates in turn. Raises `BenchmarkError`."""
    reference = next((one for one in deployments if one.name == PEER), deployments[0])
    most = saturation(scenario, reference, folder, seconds)
    found: list[Latency] = []
    for share in SHARES:
        rounds_of: list[list[tuple[float, list[int]]]] = [[] for _ in deployments]
        for _ in range(rounds):
            for deployment, into in zip(deployments, rounds_of, strict=True):
                into.append(_send(scenario, deployment, folder, most * share, seconds))
        for deployment, done in zip(deployments, rounds_of, strict=True):
            found.append(
                Latency(
                    scenario.name,
                    deployment.name,
                    share,
                    statistics.median(rate for rate, _ in done),
                    *(statistics.median(_milliseconds(took, share_) for _, took in done) for share_ in (50, 99, 99.9)),
                )
            )
    return found


def _send(
    scenario: Scenario, deployment: Deployment, folder: Path, rate: float, seconds: float
) -> tuple[float, list[int]]:
    """The rate that was reached, and all durations in microseconds in ascending order."""
    data, log = folder / "open.body", folder / "open.log"
    log.unlink(missing_ok=True)
    headers = headers_of(scenario, deployment)
    port = deployment.grpc_port if scenario.grpc else deployment.http_port
    command = [
        "h2load",
        "-t1",
        "-c",
        str(CONNECTIONS),
        "-m",
        "1",
        "--rps",
        f"{rate / CONNECTIONS:.3f}",
        "-D",
        f"{seconds:g}",
    ]
    command += ["--log-file", str(log)]
    if scenario.grpc:
        data.write_bytes(frame(scenario.body or b""))
        headers = (*headers, "te: trailers", "content-type: application/grpc")
    else:
        command.append("--h1")
        headers = (*headers, "content-type: application/json")
        data.write_bytes(scenario.body or b"")
    if scenario.body is not None:
        command += ["-d", str(data)]
    for header in headers:
        command += ["-H", header]
    command.append(f"http://{LOOPBACK}:{port}{scenario.path}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT + seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{scenario.name} on {deployment.name}: h2load did not end") from error
    if done.returncode or not log.exists():
        raise BenchmarkError(f"{scenario.name} on {deployment.name}: h2load failed:\n{done.stdout}{done.stderr}")
    return parse_log(log.read_text(encoding="ascii"), f"{scenario.name} on {deployment.name}")


def parse_log(log: str, what: str) -> tuple[float, list[int]]:
    """Read h2load's log: start in µs, status, duration in µs. Raises `BenchmarkError` for an answer that is none."""
    rows = [tuple(map(int, line.split("\t"))) for line in log.splitlines()]
    if len(rows) < 2:
        raise BenchmarkError(f"{what}: h2load logged no request")
    bad = next((status for _, status, _ in rows if status // 100 != 2), None)
    if bad is not None:
        raise BenchmarkError(f"{what}: an answer had the status {bad}")
    starts = [start for start, _, _ in rows]
    return (len(rows) - 1) / max(max(starts) - min(starts), 1) * 1e6, sorted(took for _, _, took in rows)


def _milliseconds(took: Sequence[int], percent: float) -> float:
    return percentile(took, percent) / 1000
