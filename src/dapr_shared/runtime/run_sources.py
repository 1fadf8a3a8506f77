"""The resources of a run file's apps: each app's own are seen by that app alone.

Before both roads: a run file becomes `Resources`, at start and whenever a file that it names changes. The run file itself
is read once, at start.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dapr_shared.core.ids import DEFAULT_NAMESPACE
from dapr_shared.resources.errors import ResourceError, ResourceErrors
from dapr_shared.resources.loader import Resources, combine, load
from dapr_shared.resources.model import (
    App,
    AppChannel,
    AppSecrets,
    Component,
    Configuration,
    Listeners,
    MetadataItem,
    SecretScope,
    TokenSource,
)
from dapr_shared.resources.origin import Origin
from dapr_shared.runtime.configuration import load_configuration
from dapr_shared.runtime.embedded import BLOCKS, embedded_resources, state_directory
from dapr_shared.runtime.sources import KINDS_OF_ONE_APP, Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.resources.run_file import RunApp
    from dapr_shared.runtime.settings import Settings

_NARROWED = ("http_endpoints", "subscriptions", "resiliencies", "others")
"""Kinds with scopes, and without an audience of their own."""
_SECRET_STORES = "secretstores."  # noqa: S105 - a prefix


@dataclass(frozen=True, slots=True)
class PlacedApp:
    """An app of a run file with what was chosen for it."""

    app: RunApp
    listeners: Listeners
    """Its own, on loopback: whoever reaches them is this app."""
    token: str = field(repr=False)
    """Proves it at any listener; empty: its listeners alone prove it."""


class RunSources(Sources):
    """Reads the resources that a run file names."""

    def __init__(self, settings: Settings, placed: Sequence[PlacedApp], *, shared_listeners: bool) -> None:
        super().__init__(settings, embedded=True)
        self._placed = list(placed)
        self.shared_listeners = shared_listeners
        named = [path for one in placed for path in (*one.app.resources_paths, one.app.configuration_path) if path]
        self.paths = [Path(path) for path in dict.fromkeys(named)]

    def check(self) -> None:
        """Nothing is left to check: the run file names the apps, and each has a token of its own."""

    def read(self) -> Resources:
        """All resources now. Raises `ResourceErrors` with everything that is wrong in all files."""
        errors: list[ResourceError] = []
        parts: list[Resources] = []
        for path, app_ids in self._audiences().items():
            try:
                parts.append(self._narrowed(self._load(path), app_ids))
            except ResourceErrors as error:
                errors += error.errors
        configurations = self._configurations(errors)
        if errors:
            each_once = {str(error): error for error in errors}
            raise ResourceErrors(list(each_once.values()))
        found = combine([*parts, *self._built_in(combine(parts))])
        apps = tuple(self._app(one, found) for one in self._placed)
        return combine([found, Resources(apps=apps, configurations=configurations)])

    @property
    def _home(self) -> str:
        return self._namespace or DEFAULT_NAMESPACE

    def _load(self, path: str) -> Resources:
        return load(
            [Path(path)],
            namespace=self._namespace or None,
            as_namespace=self._home,
            kinds=KINDS_OF_ONE_APP,
            allow_empty=True,
        )

    def _audiences(self) -> dict[str, list[str]]:
        """The app ids that each path is for. One directory under two names is one."""
        found: dict[str, tuple[str, list[str]]] = {}
        for one in self._placed:
            for path in one.app.resources_paths:
                _, app_ids = found.setdefault(os.path.realpath(path), (path, []))
                if one.app.app_id not in app_ids:
                    app_ids.append(one.app.app_id)
        return dict(found.values())

    def _narrowed(self, resources: Resources, app_ids: Sequence[str]) -> Resources:
        """For these apps alone (design §5.4).

        They are the audience of components, whose written scopes also say whose a consumer group is. Of other kinds
        their ids become the scopes, or what the scopes leave of them.
        """
        if len(app_ids) == len(self._placed):
            return resources
        audience = tuple(app_ids)
        components = (
            msgspec.structs.replace(component, audience=audience)
            for component in resources.components
            if not component.scopes or not set(app_ids).isdisjoint(component.scopes)
        )
        changes: dict[str, tuple[object, ...]] = {
            kind: tuple(
                msgspec.structs.replace(resource, scopes=scopes)
                for resource in getattr(resources, kind)
                if (scopes := tuple(i for i in app_ids if not resource.scopes or i in resource.scopes))
            )
            for kind in _NARROWED
        }
        return msgspec.structs.replace(resources, components=tuple(components), **changes)

    def _configurations(self, errors: list[ResourceError]) -> tuple[Configuration, ...]:
        """Those of the apps; each is known by its path, since names may be the same or none."""
        found: list[Configuration] = []
        for path in dict.fromkeys(one.app.configuration_path for one in self._placed if one.app.configuration_path):
            try:
                configuration = load_configuration([path])
            except ResourceErrors as error:
                errors += error.errors
                continue
            if configuration is None:
                errors.append(ResourceError(Origin(path, 0, 0), "", "holds no Configuration"))
            else:
                found.append(msgspec.structs.replace(configuration, name=path, namespace=self._home))
        return tuple(found)

    def _built_in(self, given: Resources) -> list[Resources]:
        """Built-in components for the apps that name no resources; none of a block of which such an app sees others."""
        folder = state_directory(self._settings.data_dir)
        without: dict[str, list[str]] = {}
        for app_id in (one.app.app_id for one in self._placed if not one.app.resources_paths):
            has = {component.type.casefold().partition(".")[0] for component in _seen(given, app_id)}
            for block in BLOCKS - has:
                without.setdefault(block, []).append(app_id)
        return [
            self._narrowed(embedded_resources(folder, frozenset({self._home}), frozenset({block})), app_ids)
            for block, app_ids in sorted(without.items())
        ]

    def _app(self, placed: PlacedApp, resources: Resources) -> App:
        app = placed.app
        seen = _seen(resources, app.app_id)
        stores = dict.fromkeys(c.name for c in seen if c.type.casefold().startswith(_SECRET_STORES))
        token = hashlib.sha256(placed.token.encode("utf-8", "surrogateescape")).hexdigest()
        return App(
            name=app.app_id,
            namespace=self._home,
            app_id=app.app_id,
            channel=_channel(app) if app.port else None,
            tokens=(TokenSource(sha256=token),) if placed.token else (),
            listeners=placed.listeners,
            # Naming the resources of an app is what opens the stores among them to it, as in Dapr.
            secrets=AppSecrets(scopes=tuple(SecretScope(store_name=name) for name in stores)),
            configuration=app.configuration_path,
            log_level=app.log_level,
            api_logging=app.api_logging,
            origin=app.origin,
        )


def _seen(resources: Resources, app_id: str) -> list[Component]:
    """The components that the app sees."""
    return [
        component
        for component in resources.components
        if (not component.scopes or app_id in component.scopes)
        and (component.audience is None or app_id in component.audience)
    ]


def _channel(app: RunApp) -> AppChannel:
    token = app.env.get("APP_API_TOKEN", os.environ.get("APP_API_TOKEN"))
    return AppChannel(
        protocol=app.protocol,
        address=app.address,
        port=app.port,
        max_concurrency=app.max_concurrency,
        health_check=app.health_check,
        api_token=MetadataItem(name="apiToken", value=token) if token else None,
    )
