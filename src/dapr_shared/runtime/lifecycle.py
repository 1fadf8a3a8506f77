"""The life of the process: event loop, signals, exit codes.

Facts: reference daprd-flags §6. SIGINT and SIGTERM end it with 0, a second one at once; SIGHUP reads the resources
again; what cannot start ends it with 1. Flags that make no instance end daprd with 1 and a line of its log;
`dapr-shared run` ends with 2 and a line on standard error, as its other commands do for wrong words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.components.catalog import CatalogError
from dapr_shared.kube.errors import KubeConfigError
from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.resources.errors import one_line
from dapr_shared.resources.run_file import LogDestination
from dapr_shared.runtime.configuration import load_configuration, metrics_options
from dapr_shared.runtime.extra_listeners import ExtraListeners
from dapr_shared.runtime.instance import Instance, StartGivenUpError
from dapr_shared.runtime.reload import WRONG_RESOURCES
from dapr_shared.runtime.settings import Settings, SettingsError, check
from dapr_shared.runtime.sources import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from io import FileIO

    from dapr_shared.resources.model import Configuration
    from dapr_shared.runtime.run_plan import Run

START_ERRORS = (SettingsError, CatalogError, ClusterError, KubeConfigError, *WRONG_RESOURCES, OSError)
"""What a user can mend: said in words, without a traceback."""
WRONG_WORDS = 2
"""The exit code of `dapr-shared run` for flags that make no instance."""
FORCED_EXIT_DELAY = 0.1
"""Seconds until `dapr-force-shutdown` ends the process (reference http-api §11)."""


def run_apps(run_: Run, *, command: str, without_effect: Sequence[str]) -> int:
    """Run an instance and the apps of a run, until a signal ends them or they have all ended; the exit code."""
    try:
        settings = check(run_.settings)
        for file in (run_.log_file, *(log.file for log in run_.app_logs.values())):
            if file:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
    except (SettingsError, OSError) as error:
        return _not_started(command, error, embedded=True)
    try:
        console = run_.processes.open()
    except OSError as error:
        sys.stderr.write(f"{command}: no process can be started: {error.strerror or error}\n")
        return 1
    try:
        code = run(settings, command=command, embedded=True, without_effect=without_effect, apps=run_, console=console)
    finally:
        run_.processes.close()
    return code or int(run_.processes.failed)


def run(
    settings: Settings,
    *,
    command: str,
    embedded: bool,
    without_effect: Sequence[str],
    apps: Run | None = None,
    console: FileIO | None = None,
) -> int:
    """Run an instance until a signal or a shutdown call ends it; the exit code.

    `apps`: the run that it belongs to; `console`: where its lines go then.
    """
    try:
        settings = check(settings)
        file = settings.log_file or (apps.log_file if apps else "")
        options = LogOptions(
            level=settings.log_level,
            as_json=settings.log_as_json,
            file=file,
            app_id=settings.app_id if settings.single_app else "",
            version=dapr_shared.__version__,
            private=not settings.log_file,
            apps=apps.app_logs if apps else {},
        )
        if console is not None and file:
            logs = Logs(options, copy=console, copy_all=apps is not None and apps.log is LogDestination.BOTH)
        else:
            logs = Logs(options, stream=console)
    except (SettingsError, OSError, ValueError) as error:
        return _not_started(command, error, embedded=embedded)
    _raise_file_limit()
    with logs:
        logs.capture_standard_logging()
        try:
            return _run_loop(_Life(settings, logs, without_effect, embedded=embedded, apps=apps).live())
        except START_ERRORS as error:
            if embedded and isinstance(error, SettingsError):
                return _not_started(command, error, embedded=True)
            logs.logger("dapr.runtime").fatal("cannot start", problem=one_line(error))
            return 1
        except Exception as error:  # noqa: BLE001 - the last line: a defect ends the process with a log line, not a traceback
            logs.logger("dapr.runtime").fatal("ended by a defect", problem=repr(error), exc_info=error)
            return 1


def _not_started(command: str, error: Exception, *, embedded: bool) -> int:
    """Say in one line on standard error why nothing was started; the exit code."""
    sys.stderr.write(f"{command}: {one_line(error)}\n")
    return WRONG_WORDS if embedded and isinstance(error, SettingsError) else 1


def _raise_file_limit() -> None:
    """Let this process open as many files as it may: each connection is one, and the usual soft limit is 1,024."""
    try:
        import resource  # noqa: PLC0415 - absent on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_loop(main: Coroutine[None, None, int]) -> int:
    try:
        import uvloop  # noqa: PLC0415 - absent on Windows
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


class _Life:
    """One run from start to exit."""

    def __init__(
        self,
        settings: Settings,
        logs: Logs,
        without_effect: Sequence[str],
        *,
        embedded: bool,
        apps: Run | None,
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._events = Events(DaprMetrics(version=dapr_shared.__version__), logs.logger)
        """Until the Configuration is known, which says what metrics there are."""
        self._without_effect = without_effect
        self._embedded = embedded
        self._sources = apps.sources if apps else None
        self._processes = apps.processes if apps else None
        self._stop = asyncio.Event()
        self._by_signal = False
        self._give_up_start: Callable[[], None] = self._stop.set
        self._instance: Instance | None = None
        self._exit_code = 0

    async def live(self) -> int:
        """Start, serve until told to stop, drain, close."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        extra = ExtraListeners(self._settings, self._events)
        try:
            with contextlib.suppress(StartGivenUpError):
                await self._serve(self._make(await self._configuration(extra), extra))
        finally:
            extra.close()
        return self._exit_code

    async def _configuration(self, extra: ExtraListeners) -> Configuration | None:
        """The instance's own Configuration: of the files, or of the cluster, for which only probes are answered meanwhile."""
        settings = self._settings
        if not settings.in_cluster:
            return load_configuration(settings.config)
        if not settings.config:
            return None
        from dapr_shared.runtime.cluster_configuration import (  # noqa: PLC0415 - for clusters alone
            read_cluster_configuration,
        )

        def waiting(problem: str) -> None:
            extra.health.wait_for(
                "runtime", f"the Configuration of the instance is not known yet: {problem}", outbound=True
            )
            self._events.configuration_awaited(problem)

        extra.health.wait_for("runtime", "the Configuration of the instance is not known yet", outbound=True)
        await extra.open()
        reading = asyncio.ensure_future(read_cluster_configuration(settings, waiting))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                raise StartGivenUpError
            return reading.result()
        finally:
            reading.cancel()
            stopped.cancel()
            await asyncio.gather(reading, stopped, return_exceptions=True)

    def _make(self, configuration: Configuration | None, extra: ExtraListeners) -> Instance:
        metrics = DaprMetrics(metrics_options(configuration), version=dapr_shared.__version__)
        metrics.read_dropped_log_lines(lambda: self._logs.dropped)
        self._events = Events(metrics, self._logs.logger)
        for flag in self._without_effect:
            self._events.setting_without_effect(flag)
        self._instance = Instance(
            self._settings,
            configuration,
            self._events,
            self._logs,
            embedded=self._embedded,
            stop=self._shutdown,
            sources=self._sources,
            extra=extra,
        )
        self._give_up_start = self._instance.give_up_start
        return self._instance

    async def _serve(self, instance: Instance) -> None:
        async with instance.running():
            try:
                await self._run_until_stop(instance)
            except Exception:
                # Background work has failed: what is in flight still finishes before the process ends.
                await instance.drain(float(self._settings.dapr_graceful_shutdown_seconds) or None)
                raise
            if self._exit_code == 0:
                grace = float(self._settings.dapr_graceful_shutdown_seconds) or None
                if not await instance.drain(grace):
                    self._events.drain_timed_out("the instance", 0)
                    self._exit_code = 1

    async def _run_until_stop(self, instance: Instance) -> None:
        """With the apps of the run, where there are any: they start when the instance is ready and end before it."""
        if self._processes is None:
            await self._wait_for_stop(instance)
            return
        self._processes.start(self._events)
        try:
            await self._wait_for_stop(instance, self._processes.over)
        finally:
            await self._processes.stop()

    async def _wait_for_stop(self, instance: Instance, over: asyncio.Event | None = None) -> None:
        failed = asyncio.ensure_future(instance.failed())
        stopped = asyncio.ensure_future(self._stop.wait())
        ended = asyncio.ensure_future((over or asyncio.Event()).wait())
        try:
            await asyncio.wait({failed, stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            if ended.done():
                self._events.stopping("the apps of the run have ended")
            if self._by_signal and self._settings.dapr_block_shutdown_duration > 0:
                await instance.block_shutdown(self._settings.dapr_block_shutdown_duration)
        finally:
            failed.cancel()
            stopped.cancel()
            ended.cancel()

    def _hung_up(self) -> None:
        """SIGHUP: read the resources again; but a run whose terminal was closed ends, as nobody could end it."""
        if self._processes is not None and self._processes.terminal_gone():
            self._signalled(signal.SIGHUP)
        elif self._instance is not None:
            self._instance.request_reload()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            if self._processes is not None:
                self._processes.kill()
            self._logs.close()
            os._exit(0 if number == signal.SIGINT else 1)  # the second signal: at once (daprd-flags §6)
        self._by_signal = True
        self._events.stopping(number.name)
        self._stop.set()
        self._give_up_start()

    def _shutdown(self, force: bool) -> None:  # noqa: FBT001 - the shutdown block's callback
        self._events.stopping("the shutdown API")
        if force:
            self._exit_code = 1
            asyncio.get_running_loop().call_later(FORCED_EXIT_DELAY, self._stop.set)
        else:
            self._stop.set()
