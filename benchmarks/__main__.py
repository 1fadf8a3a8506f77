"""The command `python -m benchmarks`: run scenarios, print tables, write JSON.

Without names all scenarios run. The environment variable `DAPRD` or `--peer` names a daprd to compare with (all
components compiled in); without one the ratios read "not compared". The exit code is 0, 1 (a scenario failed) or 2
(wrong arguments, a missing tool).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from benchmarks.chart import svg
from benchmarks.deliveries import Delivery, deliveries
from benchmarks.deliveries import run as run_delivery
from benchmarks.deployments import PEER, Deployment, save_value, start_apps, start_ours, start_peer
from benchmarks.footprint import Footprint
from benchmarks.footprint import measure as measure_footprint
from benchmarks.load import GRPC_CONNECTIONS, GRPC_IN_FLIGHT, HTTP_CONNECTIONS, MissingToolError, check_tools
from benchmarks.measure import Result
from benchmarks.measure import run as run_scenario
from benchmarks.open_loop import OPEN_LOOP, Latency
from benchmarks.open_loop import run as run_open_loop
from benchmarks.processes import BenchmarkError
from benchmarks.report import as_json, footprint_table, latency_table, load_table
from benchmarks.scenarios import FOOTPRINT, Scenario, scenarios
from benchmarks.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import ExitStack
    from types import FrameType

DEFAULT_ROUNDS = 3
OPEN = "-open"
"""Behind the name of a scenario: at fixed rates."""
DEFAULT_SECONDS = 1.5
IDLE_SECONDS = 2.0


def main(words: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    known = [*scenarios(), *deliveries(), *(f"{name}{OPEN}" for name in OPEN_LOOP), FOOTPRINT]
    arguments = _parser(known).parse_args(words)
    wrong = [name for name in arguments.scenario if name not in known]
    if wrong:
        print(f"benchmarks: unknown scenario {wrong[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    names = arguments.scenario or known
    chosen = [scenarios()[name] for name in names if name in scenarios()]
    delivered = [deliveries()[name] for name in names if name in deliveries()]
    timed = [scenarios()[name] for name in OPEN_LOOP if f"{name}{OPEN}" in names]
    try:
        check_tools(
            sorted({"h2load" if one.grpc else "wrk" for one in chosen} | ({"h2load", "wrk"} if timed else set()))
        )
    except MissingToolError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    peer = arguments.peer or os.environ.get("DAPRD") or None
    if peer is not None and shutil.which(peer) is None:
        print(f"benchmarks: the peer {peer!r} is not an executable file", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)  # so that what was started is ended too
    with tempfile.TemporaryDirectory(prefix="dapr-shared-benchmarks-") as folder:
        try:
            return _run(chosen, delivered, timed, Path(folder), peer, arguments, footprint=FOOTPRINT in names)
        except BenchmarkError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1


def _run(
    chosen: Sequence[Scenario],
    delivered: Sequence[Delivery],
    timed: Sequence[Scenario],
    folder: Path,
    peer: str | None,
    arguments: argparse.Namespace,
    *,
    footprint: bool,
) -> int:
    footprints: list[Footprint] = []
    if footprint:
        _progress(FOOTPRINT)
        footprints = measure_footprint(folder, peer, rounds=arguments.rounds, seconds=IDLE_SECONDS)
    failed: list[str] = []
    results, latencies = _loads(chosen, timed, folder, peer, arguments, failed) if chosen or timed else ([], [])
    for delivery in delivered:
        with _told(delivery.name, failed):
            results += run_delivery(delivery, folder, peer, rounds=arguments.rounds, seconds=arguments.seconds)
    _progress("")
    goals = {row.name: row.goal for row in (*chosen, *delivered)}
    tables = [
        *([load_table(results, goals)] if results else []),
        *([latency_table(latencies)] if latencies else []),
        *([footprint_table(footprints)] if footprints else []),
    ]
    print("\n\n".join(tables))
    if arguments.svg:
        title = f"Processor time of a request, as a ratio to {PEER}"
        Path(arguments.svg).write_text(svg(results, goals, title), encoding="utf-8")
    if arguments.json:
        settings = {
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "http_connections": HTTP_CONNECTIONS,
            "grpc_connections": GRPC_CONNECTIONS,
            "grpc_in_flight": GRPC_IN_FLIGHT,
            "compared": peer is not None,
        }
        document = as_json(settings, results, footprints, goals, latencies)
        Path(arguments.json).write_text(document, encoding="utf-8")
    return 1 if failed else 0


@contextlib.contextmanager
def _told(name: str, failed: list[str]) -> Generator[None]:
    """One scenario; where it fails, that is told, and the others have their figures all the same."""
    _progress(name)
    try:
        yield
    except BenchmarkError as error:
        print(f"benchmarks: {name} has no figures: {error}", file=sys.stderr)
        failed.append(name)


def _loads(
    chosen: Sequence[Scenario],
    timed: Sequence[Scenario],
    folder: Path,
    peer: str | None,
    arguments: argparse.Namespace,
    failed: list[str],
) -> tuple[list[Result], list[Latency]]:
    """Everything that is asked of one set of deployments; `failed` gets what has no figures."""
    results: list[Result] = []
    latencies: list[Latency] = []
    with contextlib.ExitStack() as stack:
        servers = Servers()
        servers.start(stack, folder, {scenario.server for scenario in chosen})
        deployments = _start(stack, folder, peer, servers, grpc=any(scenario.grpc for scenario in chosen))
        default = [one for one in deployments if one.name in ("dapr-shared", PEER)]
        for scenario in timed:
            with _told(f"{scenario.name}{OPEN}", failed):
                latencies += run_open_loop(
                    scenario, default, folder, rounds=arguments.rounds, seconds=2 * arguments.seconds
                )
        for scenario in chosen:
            if scenario.server and scenario.server not in servers.kinds:
                print(f"{scenario.name}: not measured, there is no {scenario.server} here", file=sys.stderr)
                continue
            taking_part = [
                one for one in (deployments if scenario.grpc else default) if scenario.compared or one.name != PEER
            ]
            with _told(scenario.name, failed):
                results += run_scenario(
                    scenario, taking_part, folder, rounds=arguments.rounds, seconds=arguments.seconds
                )
    return results, latencies


def _start(stack: ExitStack, folder: Path, peer: str | None, servers: Servers, *, grpc: bool) -> list[Deployment]:
    apps = start_apps(stack, folder)
    deployments = [start_ours(stack, folder, apps, brokers=True, resources=servers.components())]
    if grpc:
        deployments.append(start_ours(stack, folder, apps, "aio", brokers=True, resources=servers.components()))
    if peer is not None:
        deployments.append(start_peer(stack, folder, apps, peer, brokers=True, resources=servers.components()))
    for deployment in deployments:
        save_value(deployment, servers.kinds)
    return deployments


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", help=f"one of {', '.join(known)}; default: all")
    parser.add_argument("--peer", metavar="PATH", help="a daprd to compare with; default: $DAPRD")
    parser.add_argument("--rounds", type=_positive(int), metavar="N", default=DEFAULT_ROUNDS, help="default 3")
    parser.add_argument(
        "--seconds", type=_positive(float), metavar="S", default=DEFAULT_SECONDS, help="of one round, default 1.5"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    parser.add_argument("--svg", metavar="FILE", help="write a chart of the ratios to this file")
    return parser


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError(text)
        return value

    return number


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
