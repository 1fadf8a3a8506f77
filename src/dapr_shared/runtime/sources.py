"""Where an instance's resources come from, in either mode.

Before both roads: settings become `Resources`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dapr_shared.core.ids import DEFAULT_NAMESPACE, AppRef, app_id_problem
from dapr_shared.identity.caller import RegisteredApp
from dapr_shared.resources.loader import Resources, combine, load
from dapr_shared.resources.model import App, AppChannel, ChannelProtocol, HealthCheck, MetadataItem, TokenSource
from dapr_shared.resources.origin import Origin
from dapr_shared.resources.watch import changes
from dapr_shared.runtime.apps import given_namespace
from dapr_shared.runtime.embedded import BLOCKS, embedded_resources, state_directory
from dapr_shared.runtime.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AsyncExitStack

    from dapr_shared.resources.model import Configuration
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.refusals import Refusal, Refusals

API_TOKEN = "DAPR_API_TOKEN"  # noqa: S105 - the name of a variable
Background = Callable[[Coroutine[None, None, None], str], None]
"""Runs work under a name for as long as the instance runs; the instance ends when the work fails."""
_FLAGS = Origin("(flags)", 1, 0)


class ClusterError(Exception):
    """The API server does not give what the start needs."""


class Sources:
    """Reads all resources of one instance, at start and on reload."""

    shared_listeners: bool = True
    """Whether the instance listens where all apps may come, beside the listeners of each app."""
    tolerant: bool = False
    """Whether what is wrong is left out, so that one app cannot stop another; else a wrong set is refused as a whole."""
    refused: Sequence[Refusal] = ()
    """What was left out when the resources were last read."""

    def __init__(self, settings: Settings, *, embedded: bool) -> None:
        """`embedded`: add the built-in state store where no resources path is given and no state store is there."""
        self._settings = settings
        self._namespace = os.environ.get("NAMESPACE", "")
        self._embedded = embedded and not settings.resources_path
        self.paths = [Path(path) for path in (*settings.apps, *settings.resources_path)]
        """The files and directories to watch."""

    @property
    def multi_app(self) -> bool:
        """Whether the instance serves many apps."""
        return not self._settings.single_app

    remote: bool = False
    """Whether resources come over a network, and may be long in coming."""
    away: bool = False
    """Whether the source cannot be asked now; what is known is served."""

    async def start(self, stack: AsyncExitStack, background: Background) -> None:
        """Begin to follow what is followed, until the stack ends it."""

    async def wait_known(self, waiting: Callable[[str], None]) -> None:
        """Wait until there is something to read; `waiting` is told what for. Raises what ends the start."""

    def status(self, parts: Parts, refusals: Refusals) -> Coroutine[None, None, None] | None:  # noqa: ARG002 - of a cluster
        """Work that tells, where resources come from, what became of them; `None`: nobody there wants to know."""
        return None

    def changes(self, *, hot_reload: bool) -> AsyncIterator[None] | None:
        """Tells each time that the resources should be read again; `None`: never. Nothing after this call is missed.

        `hot_reload`: the feature of the instance's Configuration.
        """
        return changes(self.paths) if self.paths and hot_reload else None

    def pod(self, namespace: str, name: str) -> Mapping[str, Any] | None:  # noqa: ARG002 - a cluster knows pods
        """The metadata of a pod that describes an app, where pods are followed."""
        return None

    def given_namespace(self, namespace: str) -> str:
        """A namespace as `keyPrefix: namespace` takes it."""
        return given_namespace(namespace)

    async def read_now(self) -> Resources:
        """Like `read`, without holding up the event loop: files may be many, or far away."""
        return await asyncio.to_thread(self.read)

    def read(self) -> Resources:
        """All resources now. Raises `ResourceErrors`."""
        if self.multi_app:
            resources = load(self.paths, environment=os.environ, allow_empty=True)
            if self._settings.app_id:
                resources = combine([Resources(apps=(self.app_of_flags(),)), resources])
        else:
            resources = load(
                self.paths,
                namespace=self._namespace or None,
                as_namespace=self._namespace or DEFAULT_NAMESPACE,
                kinds=KINDS_OF_ONE_APP,
                allow_empty=True,
            )
            resources = msgspec.structs.replace(resources, apps=(self.app_of_flags(),))
        given = {component.type.casefold().partition(".")[0] for component in resources.components}
        missing = BLOCKS - given
        if self._embedded and missing:
            namespaces = frozenset(app.namespace for app in resources.apps) or frozenset({DEFAULT_NAMESPACE})
            built_in = embedded_resources(state_directory(self._settings.data_dir), namespaces, missing)
            resources = combine([resources, built_in])
        return resources

    def check(self) -> None:
        """Raise `SettingsError` where the flags name no app at all."""
        settings = self._settings
        if settings.app_id:
            problem = app_id_problem(settings.app_id)
            if problem is not None:
                raise SettingsError(f"--app-id: {problem}")
        elif not self.paths and not settings.multi_app and not settings.in_cluster:
            raise SettingsError(
                "no app is given: --app-id ID for one app, or --apps PATH for the App resources of many"
            )
        if self.multi_app and not settings.app_id and os.environ.get(API_TOKEN):
            raise SettingsError(
                "DAPR_API_TOKEN is set, but on an instance for many apps each app has tokens of its own "
                "(spec.tokens of its App): unset DAPR_API_TOKEN, or name the app that it proves with --app-id and --multi-app"
            )

    def app_of_flags(self) -> App:
        """The app of `--app-id`. On an instance for many apps DAPR_API_TOKEN proves it; without that nothing does."""
        settings = self._settings
        channel = None
        if settings.app_port:
            token = os.environ.get("APP_API_TOKEN")
            channel = AppChannel(
                protocol=ChannelProtocol(settings.app_protocol),
                address=settings.app_channel_address or "127.0.0.1",
                port=settings.app_port,
                max_concurrency=max(settings.app_max_concurrency, 0),
                health_check=HealthCheck(
                    enabled=settings.enable_app_health_check,
                    path=settings.app_health_check_path,
                    interval=float(settings.app_health_probe_interval),
                    timeout=settings.app_health_probe_timeout / 1000,
                    threshold=settings.app_health_threshold,
                ),
                api_token=MetadataItem(name="apiToken", value=token) if token else None,
            )
        return App(
            name=settings.app_id,
            app_id=settings.app_id,
            namespace=self._namespace or DEFAULT_NAMESPACE,
            channel=channel,
            tokens=_token_of_environment() if self.multi_app else (),
            origin=_FLAGS,
        )

    def single_record(self, configuration: Configuration | None) -> RegisteredApp | None:
        """What identity knows of the app of single-app mode; `None` in multi-app mode."""
        if self.multi_app:
            return None
        app = self.app_of_flags()
        return RegisteredApp(AppRef(app.app_id, app.namespace), app, configuration, given_namespace=self._namespace)


def _token_of_environment() -> tuple[TokenSource, ...]:
    return (TokenSource(env_ref=API_TOKEN),) if os.environ.get(API_TOKEN) else ()


KINDS_OF_ONE_APP = frozenset(
    {"Component", "HTTPEndpoint", "Subscription", "Resiliency", "MCPServer", "WorkflowAccessPolicy"}
)
"""In single-app mode the Configuration is the one of `--config` (reference daprd-flags §2), and the app is the flags'."""
