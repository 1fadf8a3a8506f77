"""What a run is made of: ports, tokens and environments for its apps, and where everything is written.

Before both roads: a run file, or the flags and a command, become a `Run`. The environment of an app is that of
`dapr run` (reference run-file), with its own `env` over it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.core.ids import app_id_problem
from dapr_shared.observability.logs import LogOfApp
from dapr_shared.resources.model import Listeners
from dapr_shared.resources.run_file import LogDestination
from dapr_shared.resources.run_file_conflicts import API_TOKEN
from dapr_shared.runtime.app_processes import AppCommand, AppProcesses
from dapr_shared.runtime.ports import PortTakenError, holder_of
from dapr_shared.runtime.run_sources import PlacedApp, RunSources
from dapr_shared.runtime.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from dapr_shared.resources.run_file import RunApp, RunFile
    from dapr_shared.runtime.sources import Sources

LOOPBACK = "127.0.0.1"
LOGS = ".dapr/logs"
_OURS = (
    "APP_CHANNEL_ADDRESS", "APP_ID", "APP_PORT", "APP_PROTOCOL", API_TOKEN, "DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT",
    "DAPR_HTTP_ENDPOINT", "DAPR_HTTP_PORT", "DAPR_METRICS_PORT",
)  # fmt: skip
"""Variables that say where an app finds its Dapr: those of an outer run must not get through."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, ready to start."""

    settings: Settings
    processes: AppProcesses
    sources: Sources | None = None
    """`None`: those of the flags."""
    log: LogDestination = LogDestination.CONSOLE
    log_file: str = ""
    app_logs: Mapping[str, LogOfApp] = field(default_factory=dict[str, LogOfApp])
    """Where the instance's lines about these apps go, by app id; the others go where `log` says."""


def plan_run_file(run_file: RunFile, settings: Settings, given: Iterable[str]) -> Run:
    """A run of many apps. `given`: the settings that flags name. Raises `PortTakenError`."""
    given = set(given)
    shared = not given.isdisjoint({"dapr_http_port", "dapr_grpc_port"})
    settings = _instance_settings(run_file, settings, given)
    _refuse_taken_ports(run_file.apps)
    named = {port for app in run_file.apps for port in (app.port, app.http_port, app.grpc_port)}
    ports = iter(free_ports(2 * len(run_file.apps) + 1, named))
    if not settings.metrics_port:
        settings = msgspec.structs.replace(settings, metrics_port=next(ports))
    placed = [_placed(app, ports) for app in run_file.apps]
    stamp = time.strftime("%Y%m%d%H%M%S")
    notices = [str(notice) for notice in run_file.notices]
    if os.environ.get(API_TOKEN):
        notices.append(f"{API_TOKEN} of the environment has no effect: each app is given a token of its own")
    log_file = ""
    if run_file.log is not LogDestination.CONSOLE and not settings.log_file:
        log_file = str(Path(run_file.path).resolve().parent / LOGS / f"dapr-shared_daprd_{stamp}.log")
    greeting = [line for one in placed for line in _greeting(one)]
    greeting += [f"log of the instance: {log_file or settings.log_file}"] if log_file or settings.log_file else []
    app_logs = {app.app_id: log for app in run_file.apps if (log := _log_of_app(app, stamp)) is not None}
    greeting += [f"log of the instance about app {app_id}: {log.file}" for app_id, log in app_logs.items() if log.file]
    return Run(
        settings=settings,
        processes=AppProcesses(
            [_command(one, settings.metrics_port, stamp) for one in placed],
            grace=float(settings.dapr_graceful_shutdown_seconds) or GRACE_WITHOUT_LIMIT,
            greeting=[*notices, *greeting],
        ),
        sources=RunSources(settings, placed, shared_listeners=shared),
        log=run_file.log,
        log_file=log_file,
        app_logs=app_logs,
    )


def plan_command(settings: Settings, given: Iterable[str], command: Sequence[str]) -> Run:
    """A run of one app, whose instance serves it alone. Raises `SettingsError`."""
    given = set(given)
    problem = app_id_problem(settings.app_id)
    if problem is not None:
        raise SettingsError(f"--app-id: {problem}")
    if settings.app_port and settings.app_channel_address in ("127.0.0.1", "localhost", ""):
        _refuse_taken_port(settings.app_port, f"app {settings.app_id}: --app-port")
    names = [name for name in ("dapr_http_port", "dapr_grpc_port", "metrics_port") if name not in given]
    ports = free_ports(len(names), {settings.app_port, settings.dapr_http_port, settings.dapr_grpc_port})
    settings = msgspec.structs.replace(settings, **dict(zip(names, ports, strict=True)))
    protocol = settings.app_protocol.lower() + ("s" if settings.app_ssl and settings.app_protocol[-1:] != "s" else "")
    ours = {
        "APP_ID": settings.app_id,
        "APP_PROTOCOL": protocol,
        "APP_CHANNEL_ADDRESS": settings.app_channel_address or LOOPBACK,
        **({"APP_PORT": str(settings.app_port)} if settings.app_port else {}),
        "DAPR_METRICS_PORT": str(settings.metrics_port),
        **_endpoints(_single_listeners(settings)),
    }
    token = os.environ.get(API_TOKEN)
    app = AppCommand(
        name=settings.app_id,
        command=tuple(command),
        folder=str(Path.cwd()),
        env=_environment(ours | ({API_TOKEN: token} if token else {}), {}),
    )
    where = _where(_single_listeners(settings))
    grace = float(settings.dapr_graceful_shutdown_seconds) or GRACE_WITHOUT_LIMIT
    return Run(
        settings=settings,
        processes=AppProcesses([app], grace=grace, greeting=[f"app {settings.app_id}: {where}"]),
    )


GRACE_WITHOUT_LIMIT = 60.0
"""Seconds that apps have to end where the instance itself would wait for ever."""


def _instance_settings(run_file: RunFile, settings: Settings, given: set[str]) -> Settings:
    """A flag goes before the run file's `common`."""
    changes: dict[str, object] = {}
    if run_file.log_level and "log_level" not in given:
        changes["log_level"] = run_file.log_level
    if run_file.api_logging is not None and "enable_api_logging" not in given:
        changes["enable_api_logging"] = run_file.api_logging
    if "metrics_port" not in given:
        changes["metrics_port"] = run_file.metrics_port
    if run_file.configuration_path and "config" not in given:
        changes["config"] = (run_file.configuration_path,)
    bodies = [app.body_bytes for app in run_file.apps if app.body_bytes is not None]
    if bodies and "max_body_size" not in given:
        # Each app's own listeners keep to its own limit; this is what the instance takes at all.
        changes["max_body_size"] = 0 if 0 in bodies else max(*bodies, settings.max_body_size)
    return msgspec.structs.replace(settings, **changes)


# Ports -------------------------------------------------------------------------------------------------------------
def free_ports(count: int, but_not: Container[int] = ()) -> list[int]:
    """Different ports of loopback that nobody listens on now."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
            if port not in but_not:
                found.append(port)
    return found


def _refuse_taken_ports(apps: Sequence[RunApp]) -> None:
    for app in apps:
        for name, port in (("daprHTTPPort", app.http_port), ("daprGRPCPort", app.grpc_port)):
            if port:
                _refuse_taken_port(port, f"{app.origin}: app {app.app_id}: {name}")
        if app.command and app.port and app.address in (LOOPBACK, "localhost"):
            _refuse_taken_port(app.port, f"{app.origin}: app {app.app_id}: appPort")


def _refuse_taken_port(port: int, what: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                raise PortTakenError(f"{what} {port} may not be bound by this user: choose one above 1023") from error
            holder = holder_of(port)
            by = f" by {holder}" if holder else ""
            raise PortTakenError(f"{what} {port} is taken{by}: end that process, or choose another port") from error


# Apps --------------------------------------------------------------------------------------------------------------
def _placed(app: RunApp, ports: Iterable[int]) -> PlacedApp:
    free = iter(ports)
    listeners = Listeners(body_bytes=app.body_bytes, header_bytes=app.header_bytes)
    if app.socket_folder:
        Path(app.socket_folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        base = f"{app.socket_folder}/dapr-{app.app_id}"
        listeners = msgspec.structs.replace(
            listeners, unix_socket=f"{base}-http.socket", grpc_unix_socket=f"{base}-grpc.socket"
        )
    else:
        listeners = msgspec.structs.replace(
            listeners, http_port=app.http_port or next(free), grpc_port=app.grpc_port or next(free)
        )
    return PlacedApp(app, listeners, app.env.get(API_TOKEN) or secrets.token_urlsafe(32))


def _command(placed: PlacedApp, metrics_port: int, stamp: str) -> AppCommand:
    app = placed.app
    ours = {
        "APP_ID": app.app_id,
        "APP_PROTOCOL": app.protocol.value,
        "APP_CHANNEL_ADDRESS": app.address,
        **({"APP_PORT": str(app.port)} if app.port else {}),
        "DAPR_METRICS_PORT": str(metrics_port),
        API_TOKEN: placed.token,
        "PWD": app.folder,
        **_endpoints(placed.listeners),
    }
    to_file = app.log is not LogDestination.CONSOLE and app.command
    return AppCommand(
        name=app.app_id,
        command=app.command,
        folder=app.folder,
        env=_environment(ours, app.env),
        console=app.log is not LogDestination.FILE,
        file=_log_path(app, f"app_{stamp}") if to_file else "",
    )


def _log_of_app(app: RunApp, stamp: str) -> LogOfApp | None:
    if app.daprd_log is None:
        return None
    file = "" if app.daprd_log is LogDestination.CONSOLE else _log_path(app, f"daprd_{stamp}")
    return LogOfApp(file, console=app.daprd_log is not LogDestination.FILE)


def _log_path(app: RunApp, ending: str) -> str:
    return str(Path(app.folder) / LOGS / f"{app.app_id}_{ending}.log")


def _endpoints(listeners: Listeners) -> dict[str, str]:
    found: dict[str, str] = {}
    if listeners.http_port:
        found["DAPR_HTTP_PORT"] = str(listeners.http_port)
        found["DAPR_HTTP_ENDPOINT"] = f"http://{LOOPBACK}:{listeners.http_port}"
    if listeners.grpc_port:
        found["DAPR_GRPC_PORT"] = str(listeners.grpc_port)
        found["DAPR_GRPC_ENDPOINT"] = f"{LOOPBACK}:{listeners.grpc_port}"
    if listeners.grpc_unix_socket:
        found["DAPR_GRPC_ENDPOINT"] = f"unix://{listeners.grpc_unix_socket}"
    return found


def _environment(ours: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process without an outer run's, then ours, then the app's own."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    # Python keeps what a program prints to a pipe until there is a lot: nobody would see anything.
    return {"PYTHONUNBUFFERED": "1", **inherited, **ours, **own}


def _single_listeners(settings: Settings) -> Listeners:
    if settings.unix_domain_socket:
        base = f"{settings.unix_domain_socket}/dapr-{settings.app_id}"
        return Listeners(unix_socket=f"{base}-http.socket", grpc_unix_socket=f"{base}-grpc.socket")
    return Listeners(http_port=settings.dapr_http_port or None, grpc_port=settings.dapr_grpc_port or None)


def _greeting(placed: PlacedApp) -> list[str]:
    app = placed.app
    port = f", app port {app.port}" if app.port else ""
    nothing = "" if app.command else " (no command: start it yourself)"
    return [f"app {app.app_id}: {_where(placed.listeners)}{port}{nothing}"]


def _where(listeners: Listeners) -> str:
    if listeners.unix_socket:
        return f"HTTP {listeners.unix_socket}, gRPC {listeners.grpc_unix_socket}"
    return f"HTTP {LOOPBACK}:{listeners.http_port}, gRPC {LOOPBACK}:{listeners.grpc_port}"
