"""Rounds of load: the same scenario on every deployment in alternation, and the medians."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.deployments import PEER
from benchmarks.load import (
    FRAME_BYTES,
    GRPC_CONNECTIONS,
    GRPC_IN_FLIGHT,
    HTTP_CONNECTIONS,
    Load,
    frame,
    h2load,
    wrk,
)
from benchmarks.processes import LOOPBACK, BenchmarkError, status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.deployments import Deployment
    from benchmarks.scenarios import Scenario

WARM_UP_SECONDS = 0.4
WARM_UP_CALLS = 1500


@dataclass(frozen=True)
class Round:
    """One run of the load generator on one deployment."""

    load: Load
    cpu_us: float
    """Processor time of the measured processes for one request, in microseconds."""


@dataclass(frozen=True)
class Result:
    """A scenario on a deployment: medians of its rounds."""

    scenario: str
    deployment: str
    rounds: int
    requests: int
    """Of all rounds together."""
    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    cpu_us_lowest: float
    cpu_us_highest: float
    pss_bytes: int
    """Memory of the measured processes after the last round."""


def run(
    scenario: Scenario, deployments: Sequence[Deployment], folder: Path, *, rounds: int, seconds: float
) -> list[Result]:
    """Warm every deployment up, then measure them in turn. Raises `BenchmarkError` at the first failed request."""
    calls = [_warm_up(scenario, deployment, folder, seconds) for deployment in deployments]
    measured: list[list[Round]] = [[] for _ in deployments]
    for _ in range(rounds):
        for deployment, count, into in zip(deployments, calls, measured, strict=True):
            into.append(_round(scenario, deployment, folder, count, seconds))
    return [
        summarize(
            scenario.name,
            deployment.name,
            done,
            sum(process.pss_bytes() for process in deployment.serving(scenario.apps)),
        )
        for deployment, done in zip(deployments, measured, strict=True)
    ]


def summarize(scenario: str, deployment: str, rounds: Sequence[Round], pss_bytes: int) -> Result:
    """The medians of the rounds."""
    cpu = [one.cpu_us for one in rounds]
    return Result(
        scenario,
        deployment,
        rounds=len(rounds),
        requests=sum(one.load.requests for one in rounds),
        rate=statistics.median(one.load.rate for one in rounds),
        p50_ms=statistics.median(one.load.p50_ms for one in rounds),
        p99_ms=statistics.median(one.load.p99_ms for one in rounds),
        cpu_us=statistics.median(cpu),
        cpu_us_lowest=min(cpu),
        cpu_us_highest=max(cpu),
        pss_bytes=pss_bytes,
    )


def _warm_up(scenario: Scenario, deployment: Deployment, folder: Path, seconds: float) -> int:
    """Connect, fill caches, and find how many gRPC calls fill a round (0 for HTTP, which is run by the clock)."""
    if scenario.grpc:
        return max(WARM_UP_CALLS, round(_load(scenario, deployment, folder, WARM_UP_CALLS, 0).rate * seconds))
    answer = status(
        deployment.http_port, scenario.method, scenario.path, scenario.body, headers_of(scenario, deployment)
    )
    if answer // 100 != 2:
        raise BenchmarkError(f"{scenario.name} on {deployment.name}: answered with status {answer}")
    _load(scenario, deployment, folder, 0, WARM_UP_SECONDS)
    return 0


def _round(scenario: Scenario, deployment: Deployment, folder: Path, calls: int, seconds: float) -> Round:
    processes = deployment.serving(scenario.apps)
    before = sum(process.cpu_seconds() for process in processes)
    load = _load(scenario, deployment, folder, calls, seconds)
    for process in processes:
        process.check_alive()
    used = sum(process.cpu_seconds() for process in processes) - before
    return Round(load, used / load.requests * 1e6)


def _load(scenario: Scenario, deployment: Deployment, folder: Path, calls: int, seconds: float) -> Load:
    headers = headers_of(scenario, deployment)
    port = deployment.grpc_port if scenario.grpc else deployment.http_port
    url = f"http://{LOOPBACK}:{port}{scenario.path}"
    try:
        if scenario.grpc:
            message = scenario.body or b""
            answer = scenario.answer_bytes
            return h2load(
                folder,
                url,
                calls,
                body=frame(message) * scenario.messages,
                headers=headers,
                answer_bytes=scenario.messages * (answer + FRAME_BYTES),
                connections=scenario.connections or GRPC_CONNECTIONS,
                in_flight=1 if scenario.connections else GRPC_IN_FLIGHT,
            )
        return wrk(
            folder,
            url,
            seconds,
            method=scenario.method,
            body=scenario.body,
            headers=headers,
            connections=scenario.connections or HTTP_CONNECTIONS,
        )
    except BenchmarkError as error:
        raise BenchmarkError(f"{scenario.name} on {deployment.name}: {error}") from error


def saturation(scenario: Scenario, deployment: Deployment, folder: Path, seconds: float) -> float:
    """Requests a second in a closed loop, warmed up. Raises `BenchmarkError`."""
    calls = _warm_up(scenario, deployment, folder, seconds)
    return _load(scenario, deployment, folder, calls, seconds).rate


def headers_of(scenario: Scenario, deployment: Deployment) -> tuple[str, ...]:
    """Header lines of a request."""
    return (
        *deployment.headers,
        *scenario.headers,
        *(scenario.peer_headers if deployment.name == PEER else ()),
    )
