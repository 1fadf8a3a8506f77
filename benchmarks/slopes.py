"""What one more costs: an app, a subscription. `python -m benchmarks.slopes` measures, prints, and writes nothing.

Memory is the difference of two deployments' proportional share, divided by the difference of their numbers; so is the
processor time of an idle second. Start-up is waited for until the processor time of a second no longer falls.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.deployments import App, Deployment, start_apps, start_ours
from benchmarks.processes import free_ports
from benchmarks.report import table

APPS = 1000
SUBSCRIPTIONS = 1000
_SETTLE, _IDLE = 8.0, 5.0


@dataclass(frozen=True)
class Look:
    """One deployment at rest."""

    pss_bytes: int
    idle_us: float
    """Processor time of a second, in microseconds."""


def main() -> int:
    """Measure and print."""
    rows = [("one more", "PSS KB", "idle µs/s")]
    with tempfile.TemporaryDirectory(prefix="dapr-shared-slopes-") as name:
        folder = Path(name)
        with ExitStack() as stack:
            present = start_apps(stack, folder, APPS)[-APPS:]
            few, many = _look(folder, present[:1]), _look(folder, present)
            rows.append(_row("app that is there", few, many, APPS - 1))
            absent = [App(f"absent-{number}", port) for number, port in enumerate(free_ports(APPS))]
            rows.append(_row("app that is absent", few, _look(folder, [present[0], *absent[1:]]), APPS - 1))
            for broker in ("memory", "sqlite"):
                one = _look(folder, present[:1], _subscriptions(broker, 1))
                rows.append(
                    _row(
                        f"subscription, {broker}",
                        one,
                        _look(folder, present[:1], _subscriptions(broker, SUBSCRIPTIONS)),
                        SUBSCRIPTIONS - 1,
                    )
                )
    print(table(rows))
    return 0


def _look(folder: Path, apps: list[App], resources: str = "") -> Look:
    with ExitStack() as stack:
        deployment: Deployment = start_ours(stack, folder, apps, brokers=True, resources=resources)
        (process,) = deployment.serving(app.app_id for app in apps)
        time.sleep(_SETTLE)
        before = process.exact_cpu_seconds()
        time.sleep(_IDLE)
        return Look(process.pss_bytes(), (process.exact_cpu_seconds() - before) / _IDLE * 1e6)


def _row(what: str, few: Look, many: Look, more: int) -> tuple[str, str, str]:
    return (
        what,
        f"{(many.pss_bytes - few.pss_bytes) / more / 1000:.1f}",
        f"{(many.idle_us - few.idle_us) / more:.2f}",
    )


def _subscriptions(broker: str, count: int) -> str:
    return "---\n".join(
        "apiVersion: dapr.io/v2alpha1\n"
        "kind: Subscription\n"
        f"metadata: {{name: s{number}}}\n"
        f"spec: {{pubsubname: bus-{broker}, topic: t{number}, routes: {{default: /t}}}}\n"
        "scopes: [app-1]\n"
        for number in range(count)
    )


if __name__ == "__main__":
    sys.exit(main())
