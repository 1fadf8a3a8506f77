"""The model of a large cluster."""

from __future__ import annotations

import pytest

from benchmarks.scale import Cluster, Costs, main, simulate

COSTS = Costs(request_us=(("state", 0.5, 50.0, 100.0), ("invocation", 0.5, 50.0, 300.0)))


def test_the_bills_of_a_small_cluster() -> None:
    """What can be worked out by hand is what the model says."""
    cluster = Cluster(apps=100, nodes=10, replicas=2, asleep=0.0, requests=10_000)
    sidecars, node, _, few = simulate(cluster, COSTS, seed=1)
    assert sidecars.processes == 200
    assert sidecars.memory == pytest.approx(200 * 29e6)
    assert (sidecars.cores, node.cores) == (pytest.approx(2.0), pytest.approx(0.5))
    assert (sidecars.hops, node.hops) == (pytest.approx(1.5), 1.0)
    assert node.processes == 10
    assert node.memory == pytest.approx(10 * (67e6 + 100 * (32e3 + 9.5e3)))
    assert few.processes == 3


def test_the_same_seed_gives_the_same_bills() -> None:
    """The model is repeatable, and another seed places apps elsewhere."""
    cluster = Cluster(apps=500, nodes=50)
    assert simulate(cluster, COSTS, 7) == simulate(cluster, COSTS, 7)
    assert simulate(cluster, COSTS, 7)[0] != simulate(cluster, COSTS, 8)[0]


def test_the_command_prints_a_table(capsys) -> None:
    """One line a way of running."""
    assert main(["--apps", "100", "--nodes", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
