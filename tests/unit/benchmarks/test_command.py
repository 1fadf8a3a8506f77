"""The arguments of `python -m benchmarks`."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.deliveries import deliveries
from benchmarks.measure import Result
from benchmarks.processes import BenchmarkError
from benchmarks.scenarios import scenarios


def test_unknown_scenario(capsys):
    """A scenario that is not there ends the command with 2 and names those that are."""
    assert main(["http-invoke", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert "'nonsense'" in error
    assert "http-invoke" in error


@pytest.mark.parametrize(("scenario", "package"), [("http-invoke", "wrk"), ("grpc-proxy-unary", "nghttp2-client")])
def test_missing_tool(monkeypatch, capsys, scenario, package):
    """A load generator that is not installed ends the command with 2 and the package's name, before anything starts."""
    monkeypatch.setenv("PATH", "")
    assert main([scenario]) == 2
    assert f"apt-get install {package}" in capsys.readouterr().err


def test_missing_peer(monkeypatch, capsys, tmp_path):
    """A peer that is no executable file ends the command with 2."""
    monkeypatch.delenv("DAPRD", raising=False)
    assert main(["footprint", "--peer", str(tmp_path / "daprd")]) == 2
    assert "is not an executable file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--rounds", "x"], ["--seconds", "-1"], ["--seconds", "nan"]])
def test_wrong_numbers(words):
    """Rounds and seconds are positive numbers; anything else ends the command with 2."""
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_names():
    """Each scenario is found by the name that it has."""
    for rows in (scenarios(), deliveries()):
        assert {name: row.name for name, row in rows.items()} == {name: name for name in rows}
    assert not set(scenarios()) & set(deliveries())


def test_a_scenario_that_fails_takes_no_others_figures(monkeypatch, capsys, tmp_path):
    """What fails is told and ends the command with 1; what was measured before and after it is printed and kept."""

    def run(delivery, folder, peer, *, rounds, seconds):
        if delivery.name == "deliver-sqlite-1":
            raise BenchmarkError("a request failed")
        return [Result(delivery.name, "dapr-shared", rounds, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1)]

    monkeypatch.setattr("benchmarks.__main__.run_delivery", run)
    monkeypatch.delenv("DAPRD", raising=False)
    names = ["deliver-memory-1", "deliver-sqlite-1", "deliver-redis-1"]
    assert main([*names, "--json", str(tmp_path / "figures.json")]) == 1
    told = capsys.readouterr()
    assert "deliver-sqlite-1 has no figures: a request failed" in told.err
    document = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert [row["scenario"] for row in document["load"]] == ["deliver-memory-1", "deliver-redis-1"]
