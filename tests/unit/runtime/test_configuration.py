"""The instance's own Configuration: files in order, later fields over earlier ones."""

from __future__ import annotations

import pytest

from dapr_shared.observability.dapr_metrics import LATENCY_BUCKETS
from dapr_shared.resources.errors import ResourceErrors
from dapr_shared.runtime.configuration import load_configuration, metrics_options

HEAD = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec:\n"


def load(folder, *specs: str):
    paths = []
    for number, spec in enumerate(specs):
        path = folder / f"{number}.yaml"
        path.write_text(HEAD + spec)
        paths.append(str(path))
    return load_configuration(paths)


def test_no_file_is_no_configuration():
    """Without --config there is none, and metrics are as they are by default."""
    assert load_configuration([]) is None
    assert metrics_options(None).latency_buckets == LATENCY_BUCKETS


def test_one_file(tmp_path):
    """One file is the Configuration as it stands."""
    found = load(tmp_path, "  tracing: {samplingRate: '0.25'}\n  features: [{name: X, enabled: true}]\n")
    assert found.tracing.sampling_rate == 0.25
    assert found.features == {"X": True}


def test_later_files_win_field_by_field(tmp_path):
    """A field of a later file replaces the earlier one whole; what it does not say stays."""
    found = load(
        tmp_path,
        "  tracing: {samplingRate: '1'}\n  api: {allowed: [{name: state, version: v1, protocol: http}]}\n",
        "  tracing: {samplingRate: '0'}\n",
    )
    assert found.tracing.sampling_rate == 0
    assert [rule.name for rule in found.api_allowed] == ["state"]


def test_variables_of_the_environment(tmp_path, monkeypatch):
    """Variables in a Configuration are those of the instance."""
    monkeypatch.setenv("RATE", "0.5")
    assert load(tmp_path, "  tracing: {samplingRate: '${RATE}'}\n").tracing.sampling_rate == 0.5


@pytest.mark.parametrize("spec", ["  features: 5\n", "  tracing: [\n"])
def test_a_wrong_file_is_named(tmp_path, spec):
    """What cannot be read names its file."""
    with pytest.raises(ResourceErrors, match=r"0\.yaml"):
        load(tmp_path, spec)


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is an error that names it."""
    with pytest.raises(ResourceErrors, match=r"nowhere\.yaml"):
        load_configuration([str(tmp_path / "nowhere.yaml")])


def test_metrics_of_a_configuration(tmp_path):
    """Buckets, verbs and error codes are taken over; high cardinality only where the file asks for it."""
    spec = "  metrics: {latencyDistributionBuckets: [1, 5], recordErrorCodes: true, http: {excludeVerbs: true}}\n"
    options = metrics_options(load(tmp_path, spec))
    assert options.latency_buckets == (1.0, 5.0)
    assert options.exclude_verbs
    assert options.record_error_codes
    assert not metrics_options(load(tmp_path, "  tracing: {}\n")).increased_cardinality
    assert metrics_options(load(tmp_path, "  metrics: {http: {increasedCardinality: true}}\n")).increased_cardinality
