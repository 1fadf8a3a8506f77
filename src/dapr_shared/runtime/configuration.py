"""The instance's own Configuration: `--config` files, merged in order (reference daprd-flags §2).

Before both roads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dapr_shared.observability.dapr_metrics import LATENCY_BUCKETS, MetricsOptions
from dapr_shared.resources.loader import load, load_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.resources.model import Configuration


def load_configuration(paths: Sequence[str]) -> Configuration | None:
    """The Configuration of all files, a later one's fields over an earlier one's. Raises `ResourceErrors`."""
    found: list[Configuration] = []
    for path in paths:
        found += load([Path(path)], kinds={"Configuration"}, environment=os.environ).configurations
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    spec: dict[str, Any] = {}
    for configuration in found:
        spec.update(configuration.spec)
    merged = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Configuration",
        "metadata": {"name": found[-1].name},
        "spec": spec,
    }
    return load_objects([merged], source=", ".join(paths)).configurations[0]


def metrics_options(configuration: Configuration | None) -> MetricsOptions:
    """What a Configuration says about metrics."""
    if configuration is None:
        return MetricsOptions()
    metrics = configuration.metrics
    buckets = tuple(float(bucket) for bucket in metrics.latency_distribution_buckets)
    return MetricsOptions(
        latency_buckets=buckets or LATENCY_BUCKETS,
        increased_cardinality=metrics.increased_cardinality and "metrics" in configuration.spec,
        exclude_verbs=metrics.exclude_verbs,
        record_error_codes=metrics.record_error_codes,
    )
