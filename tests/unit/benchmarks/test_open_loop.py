"""Latency at fixed rates, and the chart of ratios."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.chart import svg
from benchmarks.load import percentile
from benchmarks.measure import Result
from benchmarks.open_loop import Latency, parse_log
from benchmarks.processes import BenchmarkError
from benchmarks.report import latency_table


def _result(scenario: str, deployment: str, cpu: float) -> Result:
    return Result(scenario, deployment, 3, 100, 10.0, 1.0, 2.0, cpu, cpu, cpu, 1)


def test_a_log_of_requests() -> None:
    """The rate is that of the starts, the durations are sorted."""
    rate, took = parse_log("1000\t200\t9\n2000\t204\t3\n3000\t200\t5\n", "x")
    assert rate == pytest.approx(1000)
    assert took == [3, 5, 9]


@pytest.mark.parametrize("log", ["", "1\t200\t5\n", "1\t200\t5\n2\t500\t5\n"])
def test_a_log_that_gives_no_figure(log) -> None:
    """No request, one alone, and an answer that is an error give no figure."""
    with pytest.raises(BenchmarkError):
        parse_log(log, "x")


@pytest.mark.parametrize(("percent", "expected"), [(50, 500), (99, 990), (99.9, 999), (100, 1000)])
def test_percentiles(percent, expected) -> None:
    """The nearest rank, also of a fraction of a percent."""
    assert percentile(range(1, 1001), percent) == expected


def test_latencies_as_a_table() -> None:
    """One line a rate and deployment."""
    line = latency_table([Latency("http-invoke", "daprd", 0.8, 1234.5, 1.0, 2.345, 9.876)]).splitlines()[2]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "http-invoke",
        "80%",
        "daprd",
        "1234",
        "1.00",
        "2.35",
        "9.88",
    ]


def test_the_chart_shows_ratios_and_goals() -> None:
    """Each compared scenario of our default is a bar with its figure, a missed goal in another colour; the rest is left out."""
    results = [
        _result("a<b", "dapr-shared", 5.0),
        _result("a<b", "dapr-shared aio", 50.0),
        _result("a<b", "daprd", 10.0),
        _result("slow", "dapr-shared", 90.0),
        _result("slow", "daprd", 10.0),
        _result("alone", "dapr-shared", 1.0),
    ]
    root = ET.fromstring(svg(results, {"a<b": 0.6, "slow": 1.0}, "ratios"))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a<b", "0.50", "slow", "9.00"} <= set(texts)
    assert "alone" not in texts
    bars = [each.get("fill") for each in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert len(set(bars)) == 2
