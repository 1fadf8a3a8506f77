"""`dapr-shared apps`, `components`, `subscriptions`, `metrics`: what a running instance has, once or again and again."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from dapr_shared.cli.output import Column, Format, as_text, console, plain_table, show, span, table, write, yes_no
from dapr_shared.cli.problem import USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dapr_shared.runtime.operators.answers import AppRow, ComponentRow, MetricRow, SubscriptionRow

SHORTEST_INTERVAL = 0.5
"""Seconds between two looks of `--watch` at least."""
R = TypeVar("R")

APPS: tuple[Column[AppRow], ...] = (
    Column("APP", lambda row: row.id, least=12),
    Column("NAMESPACE", lambda row: row.namespace, rank=4),
    Column("CHANNEL", lambda row: row.channel or "-", rank=1, least=16),
    Column("REACHABLE", lambda row: yes_no(row.reachable)),
    Column("HEALTHY", lambda row: yes_no(row.healthy), rank=2),
    Column("SINCE", lambda row: span(row.since) or "-", rank=3, least=5),
    Column("CALLS", lambda row: str(row.calls), rank=5, right=True),
    Column("DELIVERIES", lambda row: str(row.deliveries), rank=6, right=True),
    Column("EVIDENCE", lambda row: ", ".join(row.evidence) or "none", rank=7, least=10),
    Column("LISTENERS", lambda row: ", ".join(row.listeners) or "-", rank=8, least=16),
)
COMPONENTS: tuple[Column[ComponentRow], ...] = (
    Column("COMPONENT", lambda row: row.name, least=12),
    Column("TYPE", lambda row: row.type + (f"/{row.version}" if row.version else ""), rank=1, least=12),
    Column("NAMESPACE", lambda row: row.namespace, rank=5),
    Column("HEALTH", lambda row: row.health),
    Column("APP", lambda row: row.app or "all", rank=6, least=5),
    Column("SCOPES", lambda row: ", ".join(row.scopes) or "-", rank=4, least=8),
    Column("LAST ERROR", lambda row: row.last_error or "-", rank=2, least=20),
    Column("CAPABILITIES", lambda row: ", ".join(row.capabilities) or "-", rank=7, least=16),
)
SUBSCRIPTIONS: tuple[Column[SubscriptionRow], ...] = (
    Column("APP", lambda row: row.app, least=10),
    Column("NAMESPACE", lambda row: row.namespace, rank=6),
    Column("PUBSUB", lambda row: row.pubsub, rank=2),
    Column("TOPIC", lambda row: row.topic, least=10),
    Column("STATE", lambda row: row.state),
    Column("PENDING", lambda row: "-" if row.pending is None else str(row.pending), rank=1, right=True),
    Column("SINCE", lambda row: span(row.since) or "-", rank=4, least=5),
    Column("REASON", lambda row: row.reason or "-", rank=3, least=20),
    Column("KIND", lambda row: row.kind, rank=5),
    Column("DEAD LETTER", lambda row: row.dead_letter or "-", rank=7),
)
METRICS: tuple[Column[MetricRow], ...] = (
    Column("METRIC", lambda row: row.name, least=30),
    Column("LABELS", lambda row: " ".join(f"{name}={value}" for name, value in row.labels.items()), least=20),
    Column("VALUE", lambda row: f"{row.value:.10g}", right=True),
)
CHOSEN_METRICS = (
    "dapr_component_pubsub_egress_count",
    "dapr_component_pubsub_ingress_count",
    "dapr_component_secret_count",
    "dapr_component_state_count",
    "dapr_grpc_io_server_completed_rpcs",
    "dapr_http_server_request_count",
    "dapr_runtime_service_invocation_req_sent_total",
    "dapr_shared_",
)
"""What `dapr-shared metrics` shows unless told otherwise: the beginnings of names."""


def check_interval(seconds: float) -> None:
    """Raise `CommandError` for what is no time between two looks."""
    if not SHORTEST_INTERVAL <= seconds < threading.TIMEOUT_MAX:
        raise CommandError(f"--interval is a number of seconds, at least {SHORTEST_INTERVAL:g}", USAGE)


def look(
    read: Callable[[], Sequence[R]],
    columns: Sequence[Column[R]],
    form: Format,
    *,
    nothing: str,
    watch: bool,
    interval: float,
) -> int:
    """Show rows once, or again every `interval` seconds until Ctrl-C; the exit code. Raises `CommandError`."""
    if not watch:
        show(read(), columns, form, nothing=nothing)
        return 0
    check_interval(interval)
    try:
        if form is Format.TABLE and sys.stdout.isatty():
            _live(read, columns, nothing, interval)
        while True:
            rows = read()
            if form is Format.TABLE:
                write(plain_table(rows, columns) + "\n")
            else:
                write(("---\n" if form is Format.YAML else "") + as_text(rows, form, compact=True))
            time.sleep(interval)
    except KeyboardInterrupt:
        return 0


def _live(read: Callable[[], Sequence[R]], columns: Sequence[Column[R]], nothing: str, interval: float) -> None:
    """One table that changes in its place; as many rows as the screen has."""
    from rich.console import Group  # noqa: PLC0415 - only to watch
    from rich.live import Live  # noqa: PLC0415 - only to watch
    from rich.text import Text  # noqa: PLC0415 - only to watch

    screen = console()
    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            rows = list(read())
            room = max(screen.height - 6, 3)
            parts = [table(rows[:room], columns, screen.width)] if rows else [Text(nothing)]
            rest = f", {len(rows) - room} more rows below" if len(rows) > room else ""
            stamp = time.strftime("%H:%M:%S")
            live.update(
                Group(*parts, Text(f"{stamp}, every {interval:g} s, Ctrl-C ends{rest}", style="dim")), refresh=True
            )
            time.sleep(interval)
