"""The multi-app run file (`dapr.yaml`), from YAML to data: apps to start, and what the instance is told about each.

Before both roads: a step of loading. Fields, names and rules of merging are Dapr's (reference run-file); the newer
names `maxBodySize` and `readBufferSize` are read beside the older ones. Field names are exact, as Dapr's command line
reads them, and an unknown one is a notice.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from dapr_shared.core.ids import app_id_problem
from dapr_shared.resources import run_file_fields as read_fields
from dapr_shared.resources.app_kind import LONGEST_SOCKET_PATH
from dapr_shared.resources.documents import MappingNode, ScalarNode, YamlError, documents
from dapr_shared.resources.errors import Notice, ResourceError, ResourceErrors
from dapr_shared.resources.fields import Fields, Report
from dapr_shared.resources.loader import KINDS, read_text
from dapr_shared.resources.model import ChannelProtocol, Frozen, HealthCheck
from dapr_shared.resources.origin import NOWHERE, Origin
from dapr_shared.resources.run_file_conflicts import run_file_conflicts

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "dapr.yaml"
"""What a directory given in place of a file is searched for."""
CONVENTION_RESOURCES = ".dapr/resources"
CONVENTION_CONFIGURATION = ".dapr/config.yaml"
_MIB, _KIB = 1024 * 1024, 1024
_WITHOUT_EFFECT = (
    "apiListenAddresses",
    "daprInternalGRPCPort",
    "enableProfiling",
    "placementHostAddress",
    "profilePort",
    "runtimePath",
    "schedulerHostAddress",
)
"""Fields that name a sidecar's own process or Dapr's control plane."""
_OF_THE_INSTANCE = ("metricsPort",)
"""Fields that count in `common`, for the one instance there is; in an app they have no effect."""
_KUBERNETES = ("containerImage", "createService")
_SHARED = (
    "appHealthCheckPath", "appHealthProbeInterval", "appHealthProbeTimeout", "appHealthThreshold", "appLogDestination",
    "appMaxConcurrency", "appProtocol", "appSSL", "configFilePath", "daprHTTPMaxRequestSize", "daprHTTPReadBufferSize",
    "enableAppHealthCheck", "env", "maxBodySize", "readBufferSize", "resourcesPath", "resourcesPaths",
)  # fmt: skip
"""Fields that an app has from `common` where it does not say otherwise."""


class LogDestination(StrEnum):
    """Where lines go."""

    FILE = "file"
    CONSOLE = "console"
    BOTH = "fileAndConsole"


class RunApp(Frozen, frozen=True, kw_only=True):
    """One app of a run file, `common` merged in. Paths are absolute."""

    hidden: ClassVar[frozenset[str]] = frozenset({"env"})

    app_id: str
    folder: str
    """Where its command is started."""
    command: tuple[str, ...] = ()
    """Empty: nothing is started, only its endpoints are offered."""
    resources_paths: tuple[str, ...] = ()
    """Empty: the built-in components."""
    configuration_path: str = ""
    """Empty: none of its own."""
    port: int = 0
    """Where it listens; 0: it is not called."""
    protocol: ChannelProtocol = ChannelProtocol.HTTP
    address: str = "127.0.0.1"
    http_port: int = 0
    """Of the API it uses; 0: a free one."""
    grpc_port: int = 0
    socket_folder: str = ""
    """Directory for Unix sockets in place of the two ports."""
    health_check: HealthCheck = HealthCheck()
    max_concurrency: int = 0
    """Calls in flight to it at most; 0: no limit."""
    body_bytes: int | None = None
    """Largest request body that it may send; `None`: the instance's limit, 0: no limit."""
    header_bytes: int | None = None
    log: LogDestination = LogDestination.BOTH
    daprd_log: LogDestination | None = None
    """Where the instance's log lines about it go; `None`: with the others."""
    log_level: str = ""
    """Of the instance's log lines about it; empty: the instance's."""
    api_logging: bool | None = None
    """Whether its API calls are logged; `None`: as `common` and its Configuration say."""
    env: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    origin: Origin = NOWHERE


class RunFile(Frozen, frozen=True, kw_only=True):
    """A run file."""

    path: str
    apps: tuple[RunApp, ...]
    configuration_path: str = ""
    """The Configuration of `common`: it is the instance's too."""
    log_level: str = ""
    api_logging: bool | None = None
    metrics_port: int = 0
    log: LogDestination = LogDestination.FILE
    """Of the instance's own log."""
    notices: tuple[Notice, ...] = ()


class WrongFileError(ResourceError):
    """The path leads to no run file at all: nothing is there, it cannot be read, it is empty or of another kind."""


def is_run_file(path: Path) -> bool:
    """Whether a file looks like a run file, right or wrong, and not like resources: `apps` and no `kind`."""
    try:
        first = next(iter(documents(read_text(path))), None)
    except (ResourceError, YamlError):
        return False
    return (
        first is not None
        and isinstance(first.root, MappingNode)
        and "apps" in first.root.entries
        and "kind" not in first.root.entries
    )


def load_run_file(path: str) -> RunFile:
    """Read a run file, or the `dapr.yaml` of a directory. Raises `ResourceErrors` with everything that is wrong."""
    try:
        file = _file(Path(path))
        found = list(documents(read_text(file)))
    except ResourceError as error:
        raise ResourceErrors([WrongFileError(error.origin, error.field, error.problem)]) from error
    except OSError as error:  # a directory on the way that is closed to us
        problem = f"cannot be read: {error.strerror}; give the path of a run file that this user may read"
        raise ResourceErrors([WrongFileError(Origin(path, 0, 0), "", problem)]) from error
    except YamlError as error:
        where = Origin(str(_file(Path(path))), error.document, error.line)
        raise ResourceErrors([ResourceError(where, "", error.problem)]) from error
    if not found:
        raise ResourceErrors([WrongFileError(Origin(str(file), 0, 0), "", "is empty: a run file has version and apps")])
    report = Report(str(file), 1)
    if len(found) > 1:
        report.error(found[1].line, "", "is a second document: a run file has one")
    root = found[0].root
    if not isinstance(root, MappingNode):
        problem = "is not a run file: expected a mapping with version and apps"
        raise ResourceErrors([WrongFileError(report.origin(found[0].line), "", problem)])
    if "kind" in root.entries and "apps" not in root.entries:
        raise ResourceErrors([WrongFileError(report.origin(root.line), "kind", _another_kind(root))])
    result = _Reading(file, report).read(root)
    if not report.errors:
        return result
    # A wrong value of `common` was found once for each app that has it from there.
    each_once = {str(error): error for error in sorted(report.errors, key=lambda error: error.origin.line)}
    raise ResourceErrors(list(each_once.values()))


def _file(path: Path) -> Path:
    where = Origin(str(path), 0, 0)
    if path.is_dir():
        file = path / FILE_NAME
        if not file.is_file():
            raise ResourceError(where, "", f"is a directory without {FILE_NAME}: give the run file's own path")
        return file
    if not path.exists():
        raise ResourceError(where, "", "does not exist: give the path of a run file, or its directory")
    return path


def _another_kind(root: MappingNode) -> str:
    node = root.entries["kind"].node
    kind = node.text[:60] if isinstance(node, ScalarNode) else "something else"
    flag = "--apps" if kind == "App" else "--config" if kind == "Configuration" else "--resources-path"
    hint = f"; give it with {flag}" if kind in KINDS else ": name a file with version and apps"
    return f"this is a resource of the kind {kind}, not a run file{hint}"


class _Reading:
    """One run file while it is read."""

    def __init__(self, file: Path, report: Report) -> None:
        self._file = file
        self._base = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - links are not resolved
        self._report = report
        self._told: set[str] = set()

    def read(self, root: MappingNode) -> RunFile:
        """What the file says; what is wrong is in the report."""
        top = Fields(self._report, root, lenient=True, exact=True)
        if not top.has("version"):
            top.wrong("version", "is required: 1")
        elif top.integer("version", 1, minimum=-(2**31)) != 1:
            top.wrong("version", "expected 1, the only version of run files there is")
        common = top.section("common")
        common_environment = read_fields.environment(common)
        self._shared(common, common)
        log = common.choice("daprdLogDestination", list(LogDestination), LogDestination.FILE)
        level = read_fields.log_level(common)
        logging = common.boolean("enableApiLogging") if common.has("enableApiLogging") else None
        metrics_port = read_fields.port(common, "metricsPort")
        self._without_effect(common, _WITHOUT_EFFECT, "has no effect: there is one instance and no control plane")
        apps = [self._app(app, common, common_environment) for app in top.sections("apps")]
        if not apps and not self._report.errors:
            top.wrong("apps", "is required: a list of apps, each with appDirPath")
        common.finish()
        top.finish()
        for conflict in run_file_conflicts(apps):
            self._report.errors.append(conflict)
        return RunFile(
            path=str(self._file),
            apps=tuple(apps),
            configuration_path=self._file_of(common, "configFilePath"),
            log_level=level,
            api_logging=logging,
            metrics_port=metrics_port,
            log=LogDestination(log),
            notices=tuple(self._report.notices),
        )

    def _app(self, app: Fields, common: Fields, common_environment: Mapping[str, str]) -> RunApp:
        folder = self._folder(app)
        app_id = app.text("appID") or os.path.basename(folder)  # noqa: PTH119 - of a text
        problem = app_id_problem(app_id)
        if problem is not None and (app.has("appID") or app.has("appDirPath")):
            hint = "" if app.has("appID") else " (the last part of appDirPath: give appID)"
            app.wrong("appID", problem + hint)
        shared = self._shared(app, common)
        result = msgspec.structs.replace(
            shared,
            app_id=app_id,
            folder=folder,
            command=read_fields.command(app),
            resources_paths=self._resources(app, common, folder),
            configuration_path=self._configuration(app, common, folder),
            port=read_fields.port(app, "appPort"),
            address=app.text("appChannelAddress") or "127.0.0.1",
            http_port=read_fields.port(app, "daprHTTPPort"),
            grpc_port=read_fields.port(app, "daprGRPCPort"),
            socket_folder=self._socket_folder(app, app_id),
            daprd_log=self._daprd_log(app),
            log_level=read_fields.log_level(app),
            api_logging=app.boolean("enableApiLogging") if app.has("enableApiLogging") else None,
            env={**common_environment, **read_fields.environment(app)},
            origin=self._report.origin(app.line),
        )
        self._without_effect(app, _WITHOUT_EFFECT, "has no effect: there is one instance and no control plane")
        self._without_effect(
            app, _OF_THE_INSTANCE, "has no effect in an app: all apps have one instance; give it in common"
        )
        self._without_effect(app, _KUBERNETES, "has no effect: it is for `dapr run -k`, which is not there")
        app.finish()
        return result

    def _shared(self, app: Fields, common: Fields) -> RunApp:
        """What an app may have from `common`."""

        def of(name: str) -> Fields:
            return app if app.has(name) else common

        common.known(*_SHARED)
        return RunApp(
            app_id="",
            folder="",
            protocol=read_fields.protocol(of("appProtocol"), of("appSSL")),
            health_check=read_fields.health_check(of),
            max_concurrency=max(of("appMaxConcurrency").integer("appMaxConcurrency", 0, minimum=-(2**31)), 0),
            body_bytes=read_fields.size(
                of("maxBodySize"), "maxBodySize", of("daprHTTPMaxRequestSize"), "daprHTTPMaxRequestSize", _MIB
            ),
            header_bytes=read_fields.size(
                of("readBufferSize"), "readBufferSize", of("daprHTTPReadBufferSize"), "daprHTTPReadBufferSize", _KIB
            ),
            log=LogDestination(
                of("appLogDestination").choice("appLogDestination", list(LogDestination), LogDestination.BOTH)
            ),
        )

    def _daprd_log(self, app: Fields) -> LogDestination | None:
        if not app.has("daprdLogDestination"):
            return None
        return LogDestination(app.choice("daprdLogDestination", list(LogDestination), LogDestination.FILE))

    # Paths ---------------------------------------------------------------------------------------------------------
    def _folder(self, app: Fields) -> str:
        given = app.text("appDirPath", required=True)
        folder = self._absolute(given)
        if given and not os.path.isdir(folder):  # noqa: PTH112 - of a text
            state = "is not a directory" if os.path.exists(folder) else "does not exist"  # noqa: PTH110
            app.wrong("appDirPath", f"the directory of the app {state}: {folder}")
        return folder

    def _resources(self, app: Fields, common: Fields, folder: str) -> tuple[str, ...]:
        """Dapr's order: the app's own, its `.dapr/resources`, those of `common`."""
        own = self._paths(app)
        if own:
            return own
        convention = os.path.join(folder, CONVENTION_RESOURCES)  # noqa: PTH118 - text in, text out
        if os.path.isdir(convention):  # noqa: PTH112
            return (convention,)
        return self._paths(common)

    def _paths(self, fields: Fields) -> tuple[str, ...]:
        # Dapr's own examples also write the list as one text with commas.
        several = fields.text("resourcesPaths").split(",") if fields.is_text("resourcesPaths") else []
        several = several or list(fields.texts("resourcesPaths"))
        given = [path.strip() for path in (*several, fields.text("resourcesPath")) if path.strip()]
        paths = tuple(dict.fromkeys(self._absolute(path) for path in given))
        for path in paths:
            if not os.path.exists(path):  # noqa: PTH110
                name = "resourcesPaths" if fields.has("resourcesPaths") else "resourcesPath"
                fields.wrong(name, f"does not exist: {path}")
        return paths

    def _configuration(self, app: Fields, common: Fields, folder: str) -> str:
        if app.has("configFilePath"):
            return self._file_of(app, "configFilePath")
        convention = os.path.join(folder, CONVENTION_CONFIGURATION)  # noqa: PTH118
        if os.path.isfile(convention):  # noqa: PTH113
            return convention
        return self._file_of(common, "configFilePath")

    def _file_of(self, fields: Fields, name: str) -> str:
        path = self._absolute(fields.text(name))
        if path and not os.path.isfile(path):  # noqa: PTH113
            fields.wrong(name, f"there is no such file: {path}")
        return path

    def _socket_folder(self, app: Fields, app_id: str) -> str:
        folder = self._absolute(app.text("unixDomainSocket"))
        if "\0" in folder:
            app.wrong("unixDomainSocket", "holds a NUL character")
        elif folder and len(os.fsencode(f"{folder}/dapr-{app_id}-http.socket")) > LONGEST_SOCKET_PATH:
            app.wrong(
                "unixDomainSocket", f"makes paths of more than {LONGEST_SOCKET_PATH} bytes; sockets cannot have them"
            )
        return folder

    def _absolute(self, path: str) -> str:
        if not path:
            return ""
        return os.path.normpath(os.path.join(self._base, os.path.expanduser(path)))  # noqa: PTH111, PTH118

    # Telling -------------------------------------------------------------------------------------------------------
    def _without_effect(self, fields: Fields, names: tuple[str, ...], why: str) -> None:
        """One notice a field, wherever else it stands too."""
        fields.known(*names)
        for name in names:
            if fields.has(name) and name not in self._told:
                self._told.add(name)
                fields.notice(name, why)
