"""The figures as tables to read and as JSON to keep."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.deployments import PEER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.footprint import Footprint
    from benchmarks.measure import Result
    from benchmarks.open_loop import Latency

NOT_COMPARED = "not compared"
_MB = 1_000_000


def ratio(result: Result, results: Sequence[Result]) -> float | None:
    """Our processor time for a request divided by the peer's in the same scenario; none for the peer or without one."""
    if result.deployment == PEER:
        return None
    peer = next((one for one in results if one.deployment == PEER and one.scenario == result.scenario), None)
    return result.cpu_us / peer.cpu_us if peer is not None and peer.cpu_us else None


def load_table(results: Sequence[Result], goals: Mapping[str, float]) -> str:
    """One line a scenario and deployment; `goals` are ratios by scenario, 0: none."""
    rows = [("scenario", "on", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "ratio", "goal", "PSS MB")]
    for result in results:
        goal = goals.get(result.scenario, 0)
        own = result.deployment != PEER
        rows.append(
            (
                result.scenario,
                result.deployment,
                f"{result.rate:.0f}",
                f"{result.p50_ms:.2f}",
                f"{result.p99_ms:.2f}",
                f"{result.cpu_us:.1f}",
                _ratio_text(result, results),
                f"{goal:g}" if own and goal else "",
                f"{result.pss_bytes / _MB:.0f}",
            )
        )
    return table(rows)


def footprint_table(footprints: Sequence[Footprint]) -> str:
    """One line a deployment and number of apps."""
    rows = [("apps", "absent", "components", "on", "processes", "start to ready s", "PSS MB", "idle CPU %")]
    rows += [
        (
            str(one.apps),
            str(one.absent),
            str(one.components),
            one.deployment,
            str(one.processes),
            f"{one.start_seconds:.2f}",
            f"{one.pss_bytes / _MB:.0f}",
            f"{one.idle_percent:.2f}",
        )
        for one in footprints
    ]
    return table(rows)


def latency_table(latencies: Sequence[Latency]) -> str:
    """One line a scenario, rate and deployment."""
    rows = [("scenario", "of saturation", "on", "requests/s", "p50 ms", "p99 ms", "p99.9 ms")]
    rows += [
        (
            one.scenario,
            f"{one.share:.0%}",
            one.deployment,
            f"{one.rate:.0f}",
            f"{one.p50_ms:.2f}",
            f"{one.p99_ms:.2f}",
            f"{one.p999_ms:.2f}",
        )
        for one in latencies
    ]
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first row is the head; columns of figures stand to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = [all(_is_figure(row[column]) for row in rows[1:]) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if figures else cell.ljust(width)
            for cell, width, figures in zip(row, widths, right, strict=True)
        )
        return f"| {' | '.join(cells)} |"

    rule = ("-" * (width - 1) + ":" if figures else "-" * width for width, figures in zip(widths, right, strict=True))
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])


def as_json(
    settings: Mapping[str, Any],
    results: Sequence[Result],
    footprints: Sequence[Footprint],
    goals: Mapping[str, float],
    latencies: Sequence[Latency] = (),
) -> str:
    """The same figures as JSON, unrounded; `ratio` is null where nothing was compared."""
    document = {
        "settings": dict(settings),
        "load": [
            {**asdict(result), "ratio": ratio(result, results), "goal": goals.get(result.scenario) or None}
            for result in results
        ],
        "footprint": [asdict(one) for one in footprints],
        "open_loop": [asdict(one) for one in latencies],
    }
    return json.dumps(document, indent=2) + "\n"


def _ratio_text(result: Result, results: Sequence[Result]) -> str:
    if result.deployment == PEER:
        return ""
    found = ratio(result, results)
    return NOT_COMPARED if found is None else f"{found:.2f}"


def _is_figure(cell: str) -> bool:
    return cell in ("", NOT_COMPARED) or cell.replace(".", "", 1).isdigit()
