"""Log lines: structlog in two forms, one for people and one, JSON with Dapr's field names, for collectors.

Beside both roads. The runtime makes one `Logs` for a process and hands its loggers on; nothing here is global, except
that `capture_standard_logging` sends what libraries log the same way. Flags: `--log-level`, `--log-as-json`,
`--log-file` (reference daprd-flags §2).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import orjson

from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.observability.log_library import (
    Column,
    ConsoleRenderer,
    KeyValueColumnFormatter,
    LogLevelColumnFormatter,
    structlog,
)
from dapr_shared.observability.log_ring import LogRing
from dapr_shared.observability.log_safety import make_safe, safe_traceback
from dapr_shared.observability.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BytesIO, FileIO
    from types import TracebackType

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
"""The values of `--log-level`, any case."""

_LEVEL_NAMES = {"warn": "warning", "exception": "error", "critical": "fatal", "fatal": "fatal"}
_RESERVED = frozenset({"time", "level", "type", "msg", "scope", "instance", "ver"})
_STAMPED = frozenset({"time", "level"})
_LIBRARY_LEVEL = logging.WARNING
_LINES_WITH_DATA = (("grpc._cython.cygrpc", "Invalid encoding on %s"),)
"""Logger and format of what libraries write, as errors, with the bytes of a request in it: a token may be among them.
What the bytes made of the request is told by its own event."""
_BAR = "    | "
_COLOURS = {"debug": "\x1b[36m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "fatal": "\x1b[1;31m"}
_PRIVATE, _AS_USUAL = 0o600, 0o666
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class LogOfApp:
    """Where the lines about one app go, in place of the log."""

    file: str
    """Path to append to, made with the mode 0600; empty: none."""
    console: bool
    """Whether the console gets all of them; else warnings and errors alone."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the flags say about logs."""

    level: str = "info"
    as_json: bool = False
    file: str = ""
    """Path to append to instead of standard output; empty means standard output."""
    app_id: str = ""
    """The app of an instance in single-app mode; lines about another app name that one."""
    version: str = ""
    private: bool = False
    """Whether a file that is made has the mode 0600, whatever the umask; else a collector of logs may read it."""
    apps: Mapping[str, LogOfApp] = field(default_factory=dict[str, LogOfApp])
    """Where the lines about these apps go in place of the log, by app id."""
    instance: str = field(default_factory=socket.gethostname)


def parse_level(text: str) -> int:
    """The number of a level name. Raises `ValueError`."""
    level = LEVELS.get(text.strip().lower())
    if level is None:
        raise ValueError(f"{text[:100]!r} is not a log level: use debug, info, warn, error or fatal")
    return level


class Logs:
    """The log of one process. Raises `ValueError` for a wrong level and `OSError` when the file cannot be opened."""

    def __init__(
        self,
        options: LogOptions,
        *,
        stream: FileIO | BytesIO | None = None,
        copy: FileIO | BytesIO | None = None,
        copy_all: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`copy` gets the warnings and errors too, wherever the log goes; `copy_all`: every line."""
        self.level = parse_level(options.level)
        # Without buffers: a thread that is stuck in a buffered write would hold the buffer's lock at exit.
        self._file: FileIO | None = None
        if options.file and stream is None:
            self._file = log_file(options.file, _PRIVATE if options.private else _AS_USUAL)
        target = stream or self._file or _standard_output()
        render = _json_renderer(options) if options.as_json else _console_renderer(coloured=_is_terminal(target))
        prefix = "" if options.as_json else _BAR
        self.recent = LogRing()
        """The last lines, for operators."""
        self._levels = _Levels(self.level, options.app_id)
        self._render: Any = render
        self._processors: list[Processor] = [
            self._levels,
            _Stamp(options.app_id, clock or SystemClock(), prefix),
            make_safe,
            self.recent,
            render,
        ]
        self._writer = LogWriter(target, self._dropped_line)
        self._copy = LogWriter(copy, self._dropped_line) if copy is not None else None
        self._files_of_apps = [log_file(log.file, _PRIVATE) for log in options.apps.values() if log.file]
        files = iter(self._files_of_apps)
        self._writers_of_apps = {
            app_id: LogWriter(next(files), self._dropped_line) for app_id, log in options.apps.items() if log.file
        }
        sink: Any = _Sink(self._writer, self._copy, copy_all=copy_all)
        if options.apps:
            console = self._copy or self._writer
            sink = _SinkOfApps(sink, console, options.apps, self._writers_of_apps)
            self._processors[-1] = _with_app(render)
        self._root: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            sink,
            processors=self._processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # `_levels` decides
            context_class=dict,
            cache_logger_on_first_use=False,
        )
        self._captured: tuple[list[logging.Handler], int] | None = None

    def logger(self, scope: str) -> FilteringBoundLogger:
        """A logger whose lines carry this scope, such as `dapr.runtime`."""
        return self._root.bind(scope=scope)

    def set_levels_of_apps(self, levels: Mapping[str, str]) -> None:
        """Levels of the lines about apps, by app id; others have the level of the log. Raises `ValueError`."""
        self._levels.apps = {app_id: parse_level(level) for app_id, level in levels.items()}

    @property
    def dropped(self) -> int:
        """Lines dropped since the start because the queue was full or could not be written."""
        return self._writer.dropped

    def capture_standard_logging(self) -> None:
        """Send what libraries log and warn to this log: warnings and errors only.

        Below that level client libraries write what they send and receive, secrets among it.
        """
        root = logging.getLogger()
        self._captured = (root.handlers[:], root.level)
        root.handlers[:] = [_Capture(self, max(self.level, _LIBRARY_LEVEL))]
        root.setLevel(max(self.level, _LIBRARY_LEVEL))
        logging.captureWarnings(capture=True)

    def close(self) -> None:
        """Write what waits, for at most two seconds, and let go of standard logging and the file."""
        if self._captured is not None:
            root = logging.getLogger()
            root.handlers[:], level = self._captured
            root.setLevel(level)
            logging.captureWarnings(capture=False)
            self._captured = None
        for writer in (self._writer, self._copy, *self._writers_of_apps.values()):
            if writer is not None:
                writer.close()
        for file in (self._file, *self._files_of_apps):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dropped_line(self, count: int) -> bytes:
        event: Any = {"event": "log lines were dropped", "scope": "dapr.runtime", "count": count}
        for process in self._processors[1:-1]:  # whatever the level
            event = process(None, "warning", event)
        return self._render(None, "warning", event)


class _Sink:
    """What structlog calls with a finished line."""

    def __init__(self, writer: LogWriter, copy: LogWriter | None, *, copy_all: bool) -> None:
        both = writer.write if copy is None else _to_both(writer, copy)
        self.msg = self.debug = self.info = both if copy_all else writer.write
        self.warning = self.warn = self.error = self.exception = self.critical = self.fatal = both


class _SinkOfApps:
    """Stands before the sink: lines about some apps go to files of their own, or to the console."""

    def __init__(
        self, others: _Sink, console: LogWriter, apps: Mapping[str, LogOfApp], files: Mapping[str, LogWriter]
    ) -> None:
        def send(to_others: Callable[[bytes], None], *, always: bool) -> Callable[[bytes, str], None]:
            def write(line: bytes, app_id: str) -> None:
                log = apps.get(app_id)
                if log is None:
                    to_others(line)
                    return
                if log.file:
                    files[app_id].write(line)
                if log.console or always:
                    console.write(line)

            return write

        self.msg = self.debug = self.info = send(others.info, always=False)
        self.warning = self.warn = self.error = self.exception = self.critical = self.fatal = send(
            others.warning, always=True
        )


def _with_app(render: Processor) -> Processor:
    """The same, telling beside the line which app it is about."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> tuple[Any, dict[str, Any]]:
        app_id = event["app_id"]
        return (render(logger, method, event), app_id), {}

    return rendered


def log_file(path: str, mode: int) -> FileIO:
    """A file to append to; a new one has this mode. Raises `OSError`."""
    return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, mode))


def _to_both(writer: LogWriter, copy: LogWriter) -> Callable[[bytes], None]:
    def write(line: bytes) -> None:
        writer.write(line)
        copy.write(line)

    return write


class _Levels:
    """The first processor: drops lines below the level of their app, or of the log where it has none."""

    def __init__(self, level: int, app_id: str) -> None:
        self._level = level
        self._app_id = app_id
        self.apps: Mapping[str, int] = {}

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        level = self.apps.get(str(event.get("app_id", self._app_id)), self._level) if self.apps else self._level
        if LEVELS.get(_LEVEL_NAMES.get(method, method), logging.INFO) < level:
            raise structlog.DropEvent
        return event


class _Stamp:
    """Time, level, app id, and the traceback as a text."""

    def __init__(self, app_id: str, clock: Clock, prefix: str) -> None:
        self._app_id = app_id
        self._clock = clock
        self._prefix = prefix

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        for taken in event.keys() & _STAMPED:
            event[f"fields.{taken}"] = event.pop(taken)
        event["time"] = self._clock.now().replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        event["level"] = _LEVEL_NAMES.get(method, method)
        event.setdefault("app_id", self._app_id)
        found = event.pop("exc_info", None)
        error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found  # pyright: ignore[reportUnknownVariableType]
        if isinstance(error, BaseException):
            # Never with local variables: they hold tokens and payloads.
            event["exception"] = safe_traceback("".join(traceback.format_exception(error)), prefix=self._prefix)
        return event


class _Capture(logging.Handler):
    """Hands the standard library's records on."""

    def __init__(self, logs: Logs, level: int) -> None:
        super().__init__(level)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        if any(record.name == name and record.msg == form for name, form in _LINES_WITH_DATA):
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)  # a library's wrong format; its text is better than nothing
        error = record.exc_info[1] if record.exc_info else None
        level = next(known for known in (50, 40, 30, 20, 10, 0) if record.levelno >= known) or logging.DEBUG
        self._logs.logger(record.name).log(level, message, exc_info=error)


def _json_renderer(options: LogOptions) -> Processor:
    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
        line: dict[str, Any] = {
            "time": event.pop("time"),
            "level": event.pop("level"),
            "type": "log",
            "msg": event.pop("event"),
            "scope": event.pop("scope", ""),
            "app_id": event.pop("app_id"),
            "instance": options.instance,
            "ver": options.version,
        }
        for key, value in event.items():
            line[f"fields.{key}" if key in _RESERVED else key] = value
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)

    return render


def _console_renderer(*, coloured: bool) -> Processor:
    dim, bold, reset = (_DIM, _BOLD, _RESET) if coloured else ("", "", "")
    levels = _COLOURS if coloured else dict.fromkeys(_COLOURS, "")
    renderer = ConsoleRenderer(
        columns=[
            Column("time", KeyValueColumnFormatter(None, dim, reset, str)),
            Column("level", LogLevelColumnFormatter(levels, reset)),
            Column("scope", KeyValueColumnFormatter(None, dim, reset, str, postfix=":")),
            Column("event", KeyValueColumnFormatter(None, bold, reset, str)),
            Column("", KeyValueColumnFormatter(dim, "", reset, _shown)),
        ],
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        if not event["app_id"]:
            del event["app_id"]
        return renderer(logger, method, event).encode("utf-8", "replace")

    return render


def _shown(value: object) -> str:
    """A value as JSON, and a simple text without quotes."""
    if isinstance(value, str) and value and not set(value) & set(" \"'=\\,{}[]"):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _standard_output() -> FileIO:
    return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)


def _is_terminal(stream: FileIO | BytesIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ
