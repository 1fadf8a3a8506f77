"""What operators see of a running instance: its parts as the rows of `answers.py`.

Assembly, beside both roads. It only looks: nothing here changes the instance, and nothing tells a token, a secret or a
payload. Asking a backend or a broker is bounded in time, so that one that hangs costs one row and not the answer.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.contracts.component import BackendError
from dapr_shared.identity.caller import Evidence
from dapr_shared.observability.metrics import Histogram
from dapr_shared.runtime.operators.answers import (
    MOST_METRIC_ROWS,
    AppRow,
    ComponentRow,
    InstanceInfo,
    MetricRow,
    Metrics,
    SubscriptionRow,
)
from dapr_shared.runtime.operators.backend_clocks import backend_clocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dapr_shared.components.opening import Running
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.observability.metrics import Registry
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.operators.answers import Finding

PING_TIMEOUT = 2.0
"""Seconds that a backend may take to say that it is there."""
PENDING_TIMEOUT = 2.0
"""Seconds that the brokers of one app may take to say how many messages wait."""
AT_ONCE = 16
"""Backends that are asked at a time."""


class Views:
    """The rows of one instance."""

    def __init__(self, parts: Parts, registry: Registry, clock: Clock, *, data_dir: str) -> None:
        self.parts = parts
        self._registry = registry
        self._clock = clock
        self._data_dir = data_dir
        self._started = clock.now()
        self._begun = perf_counter()
        self._errors: dict[tuple[str, str, str], tuple[str, datetime]] = {}
        """The last error of each component that was asked, kept while it is open."""

    def instance(self) -> InstanceInfo:
        """Which instance this is."""
        listeners = self.parts.listeners
        return InstanceInfo(
            version=dapr_shared.__version__,
            pid=os.getpid(),
            started=self._started,
            uptime=round(perf_counter() - self._begun, 1),
            mode="one app" if self.parts.apps.single else "many apps",
            data_dir=self._data_dir,
            listeners=[
                *(f"http {address}" for address in listeners.http_addresses),
                *(f"grpc {address}" for address in listeners.grpc_addresses),
            ],
        )

    def clock_jump(self) -> float:
        """Seconds by which the time of day has moved against the time that has passed, since the start."""
        return (self._clock.now() - self._started).total_seconds() - (perf_counter() - self._begun)

    async def backend_clocks(self) -> list[Finding]:
        """Whether the backends that have a clock of their own show this machine's time."""
        return await backend_clocks(self.parts.registry.running(), self._clock)

    def apps(self) -> list[AppRow]:
        """All apps, by namespace and id."""
        return [self._app(record) for record in sorted(self.parts.apps.apps(), key=lambda r: (r.ref.namespace, r.ref))]

    def _app(self, record: RegisteredApp) -> AppRow:
        parts, ref = self.parts, record.ref
        channel = parts.channels.get(ref)
        known_for = parts.watch.known_for(ref)
        listeners = parts.listeners.of_app(ref)
        owned: list[str] = []
        if listeners is not None:
            owned = [
                *([f"http 127.0.0.1:{listeners.http_port}"] if listeners.http_port else []),
                *([f"grpc 127.0.0.1:{listeners.grpc_port}"] if listeners.grpc_port else []),
                *([f"http unix:{listeners.unix_socket}"] if listeners.unix_socket else []),
                *([f"grpc unix:{listeners.grpc_unix_socket}"] if listeners.grpc_unix_socket else []),
            ]
        return AppRow(
            id=ref.app_id,
            namespace=ref.namespace,
            channel=f"{channel.properties.protocol}://{channel.properties.where}" if channel else "",
            reachable=parts.watch.reachable(ref) if channel else None,
            healthy=channel.healthy if channel and channel.properties.health else None,
            since=self._clock.now() - timedelta(seconds=known_for) if known_for is not None else None,
            calls=parts.limits.in_flight.get(ref, 0),
            deliveries=channel.concurrency if channel else 0,
            waiting=channel.waiting if channel else 0,
            listeners=owned,
            evidence=_evidence(record, listening=bool(owned), single=parts.apps.single is record),
        )

    async def components(self) -> list[ComponentRow]:
        """All components, open or failed, by namespace and name; the open ones are asked whether their backend answers."""
        running = list(self.parts.registry.running())
        rows = [*(await asyncio.gather(*self._asked(running))), *self._failed()]
        known = {(row.namespace, row.name, row.app) for row in rows}
        self._errors = {key: value for key, value in self._errors.items() if key in known}
        return sorted(rows, key=lambda row: (row.namespace, row.name, row.app))

    def _apps_of(self, one: Running) -> list[str]:
        """The app ids that alone may use it; several definitions that say the same are one open component."""
        key = one.definition.opening_key
        named = [d.named_apps for d in self.parts.registry.definitions if d.opening_key == key]
        return sorted({app for apps in named for app in apps}) if all(named) else []

    def _asked(self, running: Iterable[Running]) -> list[asyncio.Task[ComponentRow]]:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def ask(one: Running) -> ComponentRow:
            async with at_once:
                problem = await _ping(one)
            key = (one.opened.namespace, one.opened.name, str(one.app or ""))
            if problem:
                self._errors[key] = (problem, self._clock.now())
            error, when = self._errors.get(key, ("", None))
            return ComponentRow(
                name=one.opened.name,
                type=one.opened.type,
                version=one.opened.version,
                namespace=one.opened.namespace,
                app=str(one.app or ""),
                scopes=self._apps_of(one),
                capabilities=sorted(one.opened.capabilities),
                health="failing" if problem else "ok",
                last_error=error,
                last_error_at=when,
            )

        return [asyncio.create_task(ask(one), name=f"ping {one.opened.name}") for one in running]

    def _failed(self) -> list[ComponentRow]:
        return [
            ComponentRow(
                name=error.component,
                type=error.type,
                version="",
                namespace=error.namespace,
                health="failed",
                last_error=error.problem,
            )
            for error in self.parts.registry.failures
        ]

    async def subscriptions(self, app: AppRef | None = None) -> list[SubscriptionRow]:
        """The subscriptions of all apps, or of one."""
        refs = [app] if app else sorted(record.ref for record in self.parts.apps.apps())
        rows = await asyncio.gather(*(self._subscriptions_of(ref) for ref in refs))
        return [row for some in rows for row in some]

    async def _subscriptions_of(self, ref: AppRef) -> list[SubscriptionRow]:
        try:
            async with asyncio.timeout(PENDING_TIMEOUT):
                found = await self.parts.subscriptions.status(ref)
        except (TimeoutError, BackendError):
            found = await self.parts.subscriptions.status(ref, count=False)
        return [
            SubscriptionRow(
                app=ref.app_id,
                namespace=ref.namespace,
                pubsub=one.pubsub,
                topic=one.topic,
                kind=one.kind.lower(),
                state=one.state,
                reason=one.reason,
                since=one.since,
                pending=one.pending,
                dead_letter=one.dead_letter_topic,
            )
            for one in found
        ]

    def metrics(self, names: Iterable[str] = (), app: str = "") -> Metrics:
        """Rows of the registry: of the families whose name begins with one of these (none: all), of one app or of all."""
        prefixes = tuple(names)
        self._registry.read()
        rows: list[MetricRow] = []
        left_out = 0
        for family in self._registry.families():
            if prefixes and not family.name.startswith(prefixes):
                continue
            for labels, child in family.samples():
                if app and labels.get("app_id") != app:
                    continue
                if len(rows) >= MOST_METRIC_ROWS:
                    left_out += 1
                elif isinstance(child, Histogram):
                    rows.append(MetricRow(name=f"{family.name}_count", labels=labels, value=sum(child.counts)))
                    rows.append(MetricRow(name=f"{family.name}_sum", labels=labels, value=child.sum))
                else:
                    rows.append(MetricRow(name=family.name, labels=labels, value=child.value))
        return Metrics(rows=rows, left_out=left_out)


def _evidence(record: RegisteredApp, *, listening: bool, single: bool) -> list[str]:
    if single:
        return [Evidence.SINGLE_APP.value]
    count = len(record.token_digests)
    tokens = [] if not count else [Evidence.TOKEN.value if count == 1 else f"{Evidence.TOKEN.value} ({count})"]
    certificates = [Evidence.CERTIFICATE.value] if record.app.certificates else []
    return [*tokens, *([Evidence.LISTENER.value] if listening else []), *certificates]


async def _ping(one: Running) -> str:
    """What is wrong with a component's backend; empty: it answers."""
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            await one.opened.component.ping()
    except TimeoutError:
        return f"no answer within {PING_TIMEOUT:g} s"
    except BackendError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - an adapter that breaks its contract is a row, not the end of the answer
        return f"{type(error).__name__}: {error}"
    return ""
