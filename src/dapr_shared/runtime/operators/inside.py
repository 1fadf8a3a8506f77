"""What `doctor` can tell only from inside an instance: apps, backends, subscriptions, tokens, clock.

Assembly, beside both roads. Each check gives at least one finding, so that a reader sees what was looked at; a finding
that is not `ok` says what to do. Tokens are judged by their digests (`weak_tokens.py`) and never told.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.observability.log_ring import LEVEL_RANKS
from dapr_shared.runtime.operators import file_modes
from dapr_shared.runtime.operators.answers import Finding, Status
from dapr_shared.runtime.operators.weak_tokens import SHORTEST, is_weak

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dapr_shared.identity.caller import RegisteredApp
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.log_ring import LogRing
    from dapr_shared.runtime.operators.answers import AppRow, ComponentRow, SubscriptionRow
    from dapr_shared.runtime.operators.views import Views

LARGEST_JUMP = 2.0
"""Seconds that the time of day may move against the time that has passed, without a word."""
MANY_PENDING = 10_000
"""Waiting messages of one subscription that are worth a word."""
FEW_APPS = 10
"""Apps that are named one by one where something is wrong with many."""
FEW_FILES = 4096
"""Open files that an instance may need easily: each connection is one."""


async def findings(views: Views, metrics: DaprMetrics, ring: LogRing) -> list[Finding]:
    """All findings, in the order in which a reader would look."""
    records = list(views.parts.apps.apps())
    components, subscriptions, clocks = await asyncio.gather(
        views.components(), views.subscriptions(), views.backend_clocks()
    )
    files = await asyncio.to_thread(_files, views, records)
    return [
        *_group("apps", _apps(views.apps()), f"{_count(len(records), 'app')} reachable as far as they have a channel"),
        *_group("tokens", _tokens(records), "no weak token, and every app can prove who it is"),
        *_group("components", _components(components), f"{_count(len(components), 'backend')} answer"),
        *_group("subscriptions", _subscriptions(subscriptions), f"{_count(len(subscriptions), 'subscription')} active"),
        *_group("file permissions", files, "secrets files, key files and resource files are closed to others"),
        *_group("clock", _clock(views.clock_jump()), "has not jumped since the instance started"),
        *clocks,
        *_group("log", _log(metrics, ring), "no defect since the start, no error among the recent lines"),
        *_group("open files", _open_files(), f"the limit is at least {FEW_FILES}"),
    ]


def _group(check: str, found: Iterable[Finding], fine: str) -> list[Finding]:
    listed = list(found)
    return listed or [Finding(check=check, status=Status.OK, about=fine)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _apps(rows: Sequence[AppRow]) -> Iterable[Finding]:
    away = [row for row in rows if row.channel and row.reachable is False]
    for row in away[:FEW_APPS]:
        since = f" since {row.since:%Y-%m-%d %H:%M:%S} UTC" if row.since else ""
        yield Finding(
            check="apps",
            status=Status.WARNING,
            about=f"app {row.id}.{row.namespace} does not accept connections at {row.channel}{since}",
            remedy="start the app, or correct spec.channel of its App (--app-port); its messages wait until then",
        )
    if len(away) > FEW_APPS:
        yield Finding(
            check="apps",
            status=Status.WARNING,
            about=f"{_count(len(away) - FEW_APPS, 'more app')} do not accept connections",
            remedy="`dapr-shared apps` lists all",
        )
    for row in rows:
        if row.healthy is False and not (row.channel and row.reachable is False):
            yield Finding(
                check="apps",
                status=Status.WARNING,
                about=f"app {row.id}.{row.namespace} fails its health check",
                remedy="see what the app answers at its healthCheck path; until then it gets no calls and no messages",
            )


def _tokens(records: Iterable[RegisteredApp]) -> Iterable[Finding]:
    for record in records:
        ref, app = record.ref, record.app
        if any(is_weak(digest, ref.app_id) for digest in record.token_digests):
            yield Finding(
                check="tokens",
                status=Status.ERROR,
                about=f"app {ref} has a token that is easy to guess",
                remedy=f"make a new one: dapr-shared token new {ref.app_id}",
            )
        for source in app.tokens:
            if source.env_ref and 0 < len(os.environ.get(source.env_ref, "")) < SHORTEST:
                yield _short(f"the token of app {ref} in the variable {source.env_ref}", ref.app_id)
        listeners = app.listeners
        owned = listeners.http_port or listeners.grpc_port or listeners.unix_socket
        if app.origin.file != "(flags)" and not (record.token_digests or owned or app.certificates):
            yield Finding(
                check="tokens",
                status=Status.WARNING,
                about=f"app {ref} has no token, no listener of its own and no certificate: it cannot call the API",
                remedy=f"dapr-shared token new {ref.app_id} prints a token and the line for its App",
            )
    instance_token = os.environ.get("DAPR_API_TOKEN", "")
    if 0 < len(instance_token) < SHORTEST:
        yield _short("DAPR_API_TOKEN of the instance", "APP")


def _short(what: str, app_id: str) -> Finding:
    return Finding(
        check="tokens",
        status=Status.WARNING,
        about=f"{what} has fewer than {SHORTEST} characters",
        remedy=f"make a longer one: dapr-shared token new {app_id}",
    )


def _components(rows: Iterable[ComponentRow]) -> Iterable[Finding]:
    for row in rows:
        name = f"component {row.name} ({row.type}) of namespace {row.namespace}"
        if row.health == "failed":
            yield Finding(
                check="components",
                status=Status.ERROR,
                about=f"{name} is not open: {row.last_error}",
                remedy="correct its resource; it is tried again when the resources are read again (SIGHUP, or a change)",
            )
        elif row.health != "ok":
            yield Finding(
                check="components",
                status=Status.ERROR,
                about=f"the backend of {name} does not answer: {row.last_error}",
                remedy="see whether the server runs and this machine reaches it",
            )


def _subscriptions(rows: Iterable[SubscriptionRow]) -> Iterable[Finding]:
    for row in rows:
        name = f"{row.app}.{row.namespace} to {row.pubsub}/{row.topic}"
        waiting = f"; {row.pending} messages wait" if row.pending else ""
        if row.state == "failed":
            yield Finding(
                check="subscriptions",
                status=Status.ERROR,
                about=f"the subscription of {name} does not run: {row.reason}",
                remedy="correct the component or the subscription; dapr-shared validate PATH checks the files",
            )
        elif row.state == "paused":
            yield Finding(
                check="subscriptions",
                status=Status.WARNING,
                about=f"the subscription of {name} is paused: {row.reason}{waiting}",
                remedy="it goes on by itself as soon as the reason is gone; nothing is lost meanwhile",
            )
        elif (row.pending or 0) > MANY_PENDING:
            yield Finding(
                check="subscriptions",
                status=Status.WARNING,
                about=f"{row.pending} messages wait for {name}",
                remedy="the app is slower than its publishers: see `dapr-shared metrics`, its log, maxConcurrency",
            )


def _files(views: Views, records: Iterable[RegisteredApp]) -> list[Finding]:
    secrets: list[Path] = []
    tls = views.parts.tls
    keys = [tls.served.files.key] if tls is not None else []
    resources: set[Path] = set()
    for one in views.parts.registry.running():
        resources.add(Path(one.definition.resource.origin.file))
        for name, value in one.definition.values.items():
            if name.casefold() == "secretsfile":
                secrets.append(Path(value))
    for record in records:
        channel = record.app.channel
        if channel is not None and channel.tls is not None and channel.tls.key_file:
            keys.append(Path(channel.tls.key_file))
        if record.app.origin.file != "(flags)":
            resources.add(Path(record.app.origin.file))
    return [
        *file_modes.private(secrets, "the secrets file"),
        *file_modes.private(keys, "the key file"),
        *file_modes.not_writable(sorted(resources), "the resource file"),
    ]


def _clock(jump: float) -> Iterable[Finding]:
    if abs(jump) > LARGEST_JUMP:
        yield Finding(
            check="clock",
            status=Status.WARNING,
            about=f"the clock was moved by {jump:+.1f} s since the instance started",
            remedy="let NTP keep it: expiry of state and messages goes by it; restart the instance if much was moved",
        )


def _log(metrics: DaprMetrics, ring: LogRing) -> Iterable[Finding]:
    defects = sum(child.value for _, child in metrics.defects.samples())
    if defects:
        yield Finding(
            check="log",
            status=Status.ERROR,
            about=f"{defects:g} defects since the start",
            remedy="dapr-shared logs --level error shows them: please report them",
        )
    _, lines = ring.after(0)
    ranks = Counter(line.rank for line in lines)
    errors = ranks[LEVEL_RANKS["error"]] + ranks[LEVEL_RANKS["fatal"]]
    if errors and not defects:
        yield Finding(
            check="log",
            status=Status.WARNING,
            about=f"{_count(errors, 'error')} among the last {len(lines)} log lines",
            remedy="dapr-shared logs --level error",
        )


def _open_files() -> Iterable[Finding]:
    try:
        import resource  # noqa: PLC0415 - absent on Windows
    except ImportError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        yield Finding(
            check="open files",
            status=Status.WARNING,
            about=f"the instance may open {soft} files at a time; each connection is one",
            remedy=f"raise the limit (ulimit -n {FEW_FILES}, LimitNOFILE= of a systemd unit)",
        )
