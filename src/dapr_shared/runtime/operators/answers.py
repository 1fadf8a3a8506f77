"""What the operators' door answers, as data that both sides share: the instance writes it, the command line reads it.

Assembly, beside both roads. Light on purpose: the command line imports it and little else of the runtime. A change that
an older command line would misread raises `API_VERSION`; a new field with a default does not. No answer holds a token, a
secret or a payload.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - read by msgspec
from enum import StrEnum
from typing import TypeAlias

import msgspec

API_VERSION = 1
VERSION_HEADER = "dapr-shared-operators"
"""Header of every answer of the door: the version of what it speaks. An instance without it is older than this API."""
ACTED_HEADER = "dapr-shared-acted"
"""Header of an answer that is the API's, of a call as an app, and not the door's own."""
PREFIX = f"/v{API_VERSION}"
MOST_METRIC_ROWS = 5000
"""Metric rows in one answer; what is left out is counted."""
MOST_LOG_LINES = 2000
"""Lines of the past that `logs` may ask for."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Message(Answer, frozen=True, kw_only=True):
    """A sentence: what was done, or why not."""

    message: str


class InstanceInfo(Answer, frozen=True, kw_only=True):
    """Which instance answers."""

    version: str
    pid: int
    started: datetime
    uptime: float
    """Seconds."""
    mode: str
    """`many apps` or `one app`."""
    data_dir: str
    listeners: list[str] = []
    """What it listens on: `http 127.0.0.1:3500`."""


class AppRow(Answer, frozen=True, kw_only=True):
    """One app."""

    id: str
    namespace: str
    channel: str = ""
    """Where the instance reaches it, as a URL; empty: it only calls."""
    reachable: bool | None = None
    """Whether its port accepted a connection when somebody last looked; absent: nobody has looked, or it has no channel."""
    healthy: bool | None = None
    """Whether its health check passes; absent: it has none."""
    since: datetime | None = None
    """Since when it is reachable, or is not."""
    calls: int = 0
    """API calls of the app in flight."""
    deliveries: int = 0
    """Calls to the app in flight: invocations, messages."""
    waiting: int = 0
    """Calls that wait for a place, where the app has `maxConcurrency`."""
    listeners: list[str] = []
    """Ports and sockets that belong to the app."""
    evidence: list[str] = []
    """What can prove it: `token (2)`, `listener`, `certificate`, `single-app`. Never the evidence itself."""


class ComponentRow(Answer, frozen=True, kw_only=True):
    """One component."""

    name: str
    type: str
    version: str
    namespace: str
    app: str = ""
    """The one app it is opened for; empty: shared."""
    scopes: list[str] = []
    """App ids that may use it; empty: all of its namespace."""
    capabilities: list[str] = []
    health: str = "unknown"
    """`ok`, `failing` (its backend does not answer) or `failed` (not open)."""
    last_error: str = ""
    last_error_at: datetime | None = None


class SubscriptionRow(Answer, frozen=True, kw_only=True):
    """One subscription of one app."""

    app: str
    namespace: str
    pubsub: str
    topic: str
    kind: str
    state: str
    """`active`, `paused` or `failed`."""
    reason: str = ""
    since: datetime | None = None
    pending: int | None = None
    """Messages that wait for the app, where the broker knows."""
    dead_letter: str = ""


class MetricRow(Answer, frozen=True, kw_only=True):
    """One number. A histogram gives two rows: `…_count` and `…_sum`."""

    name: str
    labels: dict[str, str]
    value: float


class Metrics(Answer, frozen=True, kw_only=True):
    """Rows of the metrics registry."""

    rows: list[MetricRow]
    left_out: int = 0
    """Rows past `MOST_METRIC_ROWS`."""


class Status(StrEnum):
    """How a check of `doctor` ended."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


class Finding(Answer, frozen=True, kw_only=True):
    """One thing that `doctor` looked at."""

    check: str
    """What was looked at, in a word or two: `ports`, `tokens`."""
    status: Status
    about: str
    """What was found."""
    remedy: str = ""
    """What to do; empty where there is nothing to do."""


Apps: TypeAlias = list[AppRow]
Components: TypeAlias = list[ComponentRow]
Subscriptions: TypeAlias = list[SubscriptionRow]
Findings: TypeAlias = list[Finding]
