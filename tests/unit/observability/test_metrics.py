"""The registry counts, bounds its label sets and renders what Prometheus reads."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dapr_shared.observability.metrics import LONGEST_LABEL_VALUE, Registry
from dapr_shared.observability.process_metrics import add_process_metrics

if TYPE_CHECKING:
    from pathlib import Path


def test_counters_and_gauges_are_rendered_under_their_exact_names() -> None:
    """A counter keeps its name without `_total`, and a family without children is left out."""
    registry = Registry()
    requests = registry.counter("dapr_http_server_request_count", "HTTP requests.", ["app_id", "path"])
    requests.child("shop", "GetState").inc()
    requests.child("shop", "GetState").inc(2)
    registry.gauge("apps", "Apps.").child().set(1.5)
    registry.counter("unused", "Nothing yet.")
    assert registry.render().decode() == (
        "# HELP apps Apps.\n"
        "# TYPE apps gauge\n"
        "apps 1.5\n"
        "# HELP dapr_http_server_request_count HTTP requests.\n"
        "# TYPE dapr_http_server_request_count counter\n"
        'dapr_http_server_request_count{app_id="shop",path="GetState"} 3\n'
    )


def test_histograms_are_cumulative_and_their_bounds_inclusive() -> None:
    """An observation counts in every bucket whose bound it does not pass."""
    registry = Registry()
    latency = registry.histogram("latency", "Time.", ["app_id"], buckets=[1, 2.5, 10])
    child = latency.child("a")
    for value in (0.5, 1, 1.5, 10, 11):
        child.observe(value)
    latency.child("").observe(3)
    assert registry.render().decode() == (
        "# HELP latency Time.\n"
        "# TYPE latency histogram\n"
        'latency_bucket{app_id="a",le="1"} 2\n'
        'latency_bucket{app_id="a",le="2.5"} 3\n'
        'latency_bucket{app_id="a",le="10"} 4\n'
        'latency_bucket{app_id="a",le="+Inf"} 5\n'
        'latency_sum{app_id="a"} 24\n'
        'latency_count{app_id="a"} 5\n'
        'latency_bucket{le="1"} 0\n'
        'latency_bucket{le="2.5"} 0\n'
        'latency_bucket{le="10"} 1\n'
        'latency_bucket{le="+Inf"} 1\n'
        "latency_sum 3\n"
        "latency_count 1\n"
    )


def test_empty_label_values_are_dropped() -> None:
    """A label without a value is not in the output, as Dapr leaves it out."""
    registry = Registry()
    family = registry.counter("c", "C.", ["app_id", "status"])
    family.child("", "200").inc()
    family.child("", "").inc()
    assert registry.render().decode().splitlines()[2:] == ['c{status="200"} 1', "c 1"]


@pytest.mark.parametrize(
    "value", ['say "hi"', "back\\slash", "two\nlines", 'all\\"\n\\n', "ünï→", "a,b}{=", "half\ud800"]
)
def test_any_label_value_comes_back_from_the_parser(value: str) -> None:
    """No label value breaks the format: the Prometheus parser reads back what was counted."""
    registry = Registry()
    registry.counter("dapr_count", 'Help with \\ and\nline and "quotes".', ["path"]).child(value).inc(7)
    (family,) = text_string_to_metric_families(registry.render().decode())
    (sample,) = family.samples
    assert sample.labels == {"path": value.replace("\ud800", "?")}
    assert sample.value == 7
    assert family.documentation == 'Help with \\ and\nline and "quotes".'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (float("inf"), "+Inf"),
        (-float("inf"), "-Inf"),
        (-2, "-2"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    """Whole numbers have no decimals, the others the shortest form that reads back."""
    registry = Registry()
    registry.gauge("g", "G.").child().set(value)
    assert registry.render().decode().splitlines()[-1] == f"g {text}"


def test_not_a_number() -> None:
    """NaN is written as Prometheus writes it."""
    registry = Registry()
    registry.gauge("g", "G.").child().set(float("nan"))
    assert registry.render().decode().endswith("g NaN\n")


def test_label_sets_past_the_limit_count_as_other() -> None:
    """A family never has more label sets than its limit and one; nothing counted is lost."""
    registry = Registry(limit=2)
    family = registry.counter("c", "C.", ["app_id", "path"])
    for number in range(5):
        family.child("app", str(number)).inc()
    family.child("app", "0").inc()
    assert len(family) == 3
    assert registry.render().decode().splitlines()[2:] == [
        'c{app_id="app",path="0"} 2',
        'c{app_id="app",path="1"} 1',
        'c{app_id="_other",path="_other"} 3',
    ]


def test_forgotten_children_make_room() -> None:
    """Forgetting a label value drops its children in every family and frees their places below the limit."""
    registry = Registry(limit=1)
    family = registry.counter("c", "C.", ["app_id"])
    registry.gauge("g", "G.").child().set(1)
    family.child("gone").inc()
    registry.forget("app_id", "gone")
    family.child("new").inc()
    assert registry.render().decode().splitlines()[2:3] == ['c{app_id="new"} 1']


def test_long_label_values_are_cut() -> None:
    """A label value has a bound, and values that are equal up to it count together."""
    family = Registry().counter("c", "C.", ["path"])
    family.child("x" * 1000).inc()
    assert family.child("x" * LONGEST_LABEL_VALUE) is family.child("x" * 2000)
    assert len(family) == 1


def test_wrong_use_is_refused() -> None:
    """A name taken twice, a wrong number of labels and buckets that do not ascend are errors of the code."""
    registry = Registry()
    family = registry.counter("c", "C.", ["a"])
    with pytest.raises(ValueError, match="the metric c exists already"):
        registry.gauge("c", "C.")
    with pytest.raises(ValueError, match="c has 1 labels, not 2"):
        family.child("1", "2")
    with pytest.raises(ValueError, match="do not ascend"):
        registry.histogram("h", "H.", buckets=[1, 1])


def test_a_large_exposition_comes_in_chunks() -> None:
    """Rendering can be interrupted by other work every 64 KiB or so, and a family may grow meanwhile."""
    registry = Registry()
    family = registry.counter("c", "C.", ["n"])
    for number in range(10_000):
        family.child(str(number)).inc()
    chunks = registry.chunks()
    first = next(chunks)
    family.child("late").inc()
    sizes = [len(first), *(len(chunk) for chunk in chunks)]
    assert len(sizes) > 2
    assert max(sizes) < 66 * 1024


def test_readers_run_on_scrape() -> None:
    """What is only known when it is asked for is asked for at each rendering."""
    registry = Registry()
    gauge = registry.gauge("g", "G.")
    values = iter([1, 2])
    registry.on_scrape(lambda: gauge.child().set(next(values)))
    assert registry.render().endswith(b"g 1\n")
    assert registry.render().endswith(b"g 2\n")


def test_process_metrics() -> None:
    """The process tells its processor time and, on Linux, its memory, files, threads and start."""
    registry = Registry()
    add_process_metrics(registry)
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(registry.render().decode())
        for sample in family.samples
    }
    assert values["process_cpu_seconds_total"] > 0
    if sys.platform == "linux":
        assert 1024 * 1024 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
        assert 0 < values["process_open_fds"] <= values["process_max_fds"]
        assert values["process_threads"] >= 1
        assert abs(values["process_start_time_seconds"] - os.stat("/proc/self").st_ctime) < 5  # noqa: PTH116


def test_process_metrics_without_proc(tmp_path: Path) -> None:
    """Without the proc file system the processor time is still there, and nothing fails."""
    registry = Registry()
    add_process_metrics(registry, proc=tmp_path)
    names = [family.name for family in text_string_to_metric_families(registry.render().decode())]
    assert names == ["process_cpu_seconds"]
