"""What both front doors tell of a call: metrics, trace, access log, events.

First step of the request road (pipeline, steps 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dapr_shared.observability.access_log import AccessLog
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events
    from dapr_shared.observability.spans import SpanTable
    from dapr_shared.observability.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Observed:
    """Where a front door reports."""

    metrics: DaprMetrics
    tracing: Tracing
    access_log: AccessLog
    events: Events
    spans: SpanTable
