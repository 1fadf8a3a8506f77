"""Named events: what operators are told, each one structured log line and one metric.

Beside both roads. The runtime makes one `Events` and passes it on; blocks and adapters have no loggers of their own.
Parameters take names, reasons and addresses: never a token, a payload or a secret. A reason is one of a few fixed words,
because it becomes a label; what is particular goes into `problem`.
"""

from __future__ import annotations

from dapr_shared.observability.events_apps import AppEvents
from dapr_shared.observability.events_base import RepeatLimiter
from dapr_shared.observability.events_callers import CallerEvents
from dapr_shared.observability.events_cluster import ClusterEvents
from dapr_shared.observability.events_deliveries import DeliveryEvents
from dapr_shared.observability.events_instance import InstanceEvents
from dapr_shared.observability.events_resources import ResourceEvents

__all__ = ["Events", "RepeatLimiter"]


class Events(InstanceEvents, AppEvents, DeliveryEvents, ResourceEvents, ClusterEvents, CallerEvents):
    """All events of one instance. `logger` makes the logger of a scope (`Logs.logger`)."""
