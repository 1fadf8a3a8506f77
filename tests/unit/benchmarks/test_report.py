"""Medians, ratios, tables and JSON of the benchmarks."""

import json

import pytest

from benchmarks.footprint import Footprint
from benchmarks.load import Load
from benchmarks.measure import Result, Round, summarize
from benchmarks.report import as_json, footprint_table, load_table, ratio, table

GOALS = {"get": 0.7, "save": 0.0}


def result(deployment: str, cpu_us: float, scenario: str = "get") -> Result:
    return Result(scenario, deployment, 3, 3000, 1000.0, 1.0, 9.5, cpu_us, cpu_us, cpu_us, 40_000_000)


def test_medians():
    """A result is the median of its rounds, figure by figure, with the extremes of the processor time."""
    rounds = [Round(Load(n, 2.0, n / 100, n / 10), cpu) for n, cpu in ((100, 30.0), (400, 10.0), (200, 20.0))]
    found = summarize("get", "daprd", rounds, 5)
    assert (found.rounds, found.requests, found.rate, found.p50_ms, found.p99_ms) == (3, 700, 100.0, 2.0, 20.0)
    assert (found.cpu_us, found.cpu_us_lowest, found.cpu_us_highest) == (20.0, 10.0, 30.0)


def test_ratio():
    """The ratio is ours by the peer's of the same scenario."""
    results = [result("dapr-shared aio", 35.0), result("daprd", 99.0, "save"), result("daprd", 70.0)]
    assert ratio(results[0], results) == pytest.approx(0.5)
    assert ratio(results[2], results) is None


def test_no_peer():
    """Without a peer the table says so."""
    (line,) = load_table([result("dapr-shared aio", 35.0)], GOALS).splitlines()[2:]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "get", "dapr-shared aio", "1000", "1.00", "9.50", "35.0", "not compared", "0.7", "40",
    ]  # fmt: skip


def test_peer():
    """With a peer our line has the ratio and the goal, the peer's has neither."""
    ours, peer = load_table([result("dapr-shared aio", 35.0), result("daprd", 70.0)], GOALS).splitlines()[2:]
    assert [cell.strip() for cell in ours.strip("|").split("|")][6:8] == ["0.50", "0.7"]
    assert [cell.strip() for cell in peer.strip("|").split("|")][6:8] == ["", ""]


def test_table():
    """Columns are as wide as their widest cell, and columns of figures stand to the right."""
    assert table([("name", "µs"), ("a", "1.5"), ("long name", "20")]) == (
        "| name      |  µs |\n| --------- | --: |\n| a         | 1.5 |\n| long name |  20 |"
    )


def test_footprints():
    """Footprints are shown in megabytes and percent."""
    line = footprint_table([Footprint("daprd", 20, 0, 20, 2.345, 10, 250_400_000, 1.239)]).splitlines()[2]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "20",
        "0",
        "10",
        "daprd",
        "20",
        "2.35",
        "250",
        "1.24",
    ]


def test_json():
    """The JSON has the settings and the same figures, with null where nothing was compared."""
    document = json.loads(
        as_json(
            {"rounds": 3},
            [result("dapr-shared aio", 35.0), result("daprd", 70.0), result("dapr-shared aio", 1.0, "save")],
            [Footprint("daprd", 1, 0, 1, 0.5, 10, 80, 0.1)],
            GOALS,
        )
    )
    assert document["settings"] == {"rounds": 3}
    assert [(row["scenario"], row["ratio"], row["goal"]) for row in document["load"]] == [
        ("get", 0.5, 0.7),
        ("get", None, 0.7),
        ("save", None, None),
    ]
    assert document["footprint"][0]["pss_bytes"] == 80
