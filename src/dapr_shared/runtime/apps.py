"""From App resources to apps that can prove themselves: tokens read, configurations found.

Assembly. Everything that is wrong is collected and told at once; nothing here keeps a token in readable form longer
than it takes to hash it, but the one that is sent to the app.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dapr_shared.blocks.state.keys import key_prefix
from dapr_shared.channel.table import ChannelSpec
from dapr_shared.components.catalog import block_of
from dapr_shared.contracts.component import UNKNOWN_LOCATION
from dapr_shared.contracts.settings import TRUE_WORDS
from dapr_shared.identity.caller import RegisteredApp
from dapr_shared.resources.model import MetadataItem
from dapr_shared.resources.values import ReadSecret, UnresolvedError, resolve_item
from dapr_shared.security.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dapr_shared.components.definition import Definition
    from dapr_shared.contracts.component import Component as OpenedComponent
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import App, Configuration

_DEFAULT = "default"


class AppsError(Exception):
    """Apps that cannot be served; one line each, naming file, app and field."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ResolvedApp:
    """One app, ready to serve."""

    record: RegisteredApp
    channel: ChannelSpec | None = None
    digests: frozenset[bytes] = frozenset()
    """Of every token that came from a secret store or the environment, that for the app too."""


@dataclass(frozen=True, slots=True)
class ResolvedApps:
    """The apps of one set of resources, ready to serve."""

    apps: tuple[ResolvedApp, ...] = ()

    @property
    def records(self) -> tuple[RegisteredApp, ...]:
        """What identity knows of them."""
        return tuple(app.record for app in self.apps)

    @property
    def channels(self) -> dict[AppRef, ChannelSpec]:
        """How those that are called are reached."""
        return {app.record.ref: app.channel for app in self.apps if app.channel is not None}

    @property
    def digests(self) -> frozenset[bytes]:
        """Of all their tokens."""
        return frozenset[bytes]().union(*(app.digests for app in self.apps))


def given_namespace(namespace: str) -> str:
    """The namespace as Dapr's `keyPrefix: namespace` takes it: empty for the default one."""
    return "" if namespace == _DEFAULT else namespace


@dataclass(frozen=True, slots=True)
class AppResolver:
    """Reads what apps refer to."""

    configurations: Mapping[tuple[str, str], Configuration]
    """By namespace and name."""
    default_configuration: Configuration | None
    read_secret: Callable[[str], ReadSecret]
    """Gives the reader of a namespace."""
    given_namespace: Callable[[str], str] = given_namespace

    def configuration(self, app: App) -> Configuration | None:
        """The Configuration of an app. Raises `AppsError` where the one that it names is not there."""
        if not app.configuration:
            return self.default_configuration
        found = self.configurations.get((app.namespace, app.configuration))
        if found is None:
            where = f"in namespace {app.namespace}"
            raise AppsError(
                [f"{app.origin}: spec.configuration: there is no Configuration {app.configuration!r} {where}"]
            )
        return found

    async def resolve(self, app: App) -> ResolvedApp:
        """The app with what it refers to. Raises `AppsError`."""
        problems: list[str] = []
        configuration = None
        try:
            configuration = self.configuration(app)
        except AppsError as error:
            problems += error.problems
        reader = self.read_secret(app.namespace)
        digests = tokens = await _token_digests(app, reader, problems)
        channel = None
        if app.channel is not None:
            api_token = None
            if app.channel.api_token is not None:
                api_token = await _value(app, app.channel.api_token, "spec.channel.apiToken", reader, problems)
                if api_token:
                    digests = tokens | {digest(api_token)}
            channel = ChannelSpec(app.channel, api_token)
        if problems:
            raise AppsError(problems)
        record = RegisteredApp(
            app.ref,
            app,
            configuration,
            given_namespace=self.given_namespace(app.namespace),
            token_digests=frozenset(tokens),
        )
        return ResolvedApp(record, channel, frozenset(digests))


async def resolve_apps(apps: Sequence[App], resolver: AppResolver) -> ResolvedApps:
    """Read what the apps refer to. Raises `AppsError` with everything that is wrong."""
    found: list[ResolvedApp] = []
    problems: list[str] = []
    for app in apps:
        try:
            found.append(await resolver.resolve(app))
        except AppsError as error:
            problems += error.problems
    if problems:
        raise AppsError(problems)
    return ResolvedApps(tuple(found))


async def _token_digests(app: App, reader: ReadSecret, problems: list[str]) -> set[bytes]:
    found: set[bytes] = set()
    for index, source in enumerate(app.tokens):
        if source.sha256:
            found.add(bytes.fromhex(source.sha256))
            continue
        item = MetadataItem(name="token", secret_key_ref=source.secret_key_ref, env_ref=source.env_ref)
        value = await _value(app, item, f"spec.tokens[{index}]", reader, problems)
        if value:
            found.add(digest(value))
    return found


async def _value(app: App, item: MetadataItem, where: str, reader: ReadSecret, problems: list[str]) -> str | None:
    if item.env_ref and item.env_ref not in os.environ:
        problems.append(f"{app.origin}: {where}.envRef: the environment variable {item.env_ref} is not set")
        return None
    try:
        value = await resolve_item(
            item, env=os.environ, secret=reader, secret_store=app.secret_store, any_variable=True
        )
    except UnresolvedError as error:
        problems.append(f"{app.origin}: {where}: {error.problem}")
        return None
    if not value:
        problems.append(f"{app.origin}: {where}: the token is empty")
    elif not value.isprintable() or not value.isascii() or value != value.strip():
        problems.append(
            f"{app.origin}: {where}: the token has a line end, a space at an end, or another character that no header "
            "can carry; store it without"
        )
    return value


Preview = Callable[["Definition", "AppRef"], "Opened[OpenedComponent[Any]] | None"]
"""A component as an app would see it, not started; `None` where it cannot be made."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one app keeps its data of one kind."""

    app: AppRef
    definition: Definition
    location: str
    """`UNKNOWN_LOCATION`: anywhere."""
    prefix: str | None
    """Of its keys; `None`: nothing tells its data from that of the same app id in another namespace."""

    def meets(self, other: _Place) -> bool:
        """Whether the two may be one place."""
        if self.prefix is not None and other.prefix is not None and self.prefix != other.prefix:
            return False
        return UNKNOWN_LOCATION in {self.location, other.location} or self.location == other.location


@dataclass(frozen=True, slots=True)
class NamespaceConflict:
    """Two components that may keep the data of one app id of two namespaces in one place."""

    app: AppRef
    other: AppRef
    definition: Definition
    """What the first app sees; it stands after the other's."""
    other_definition: Definition
    problem: str

    def __str__(self) -> str:
        return f"{self.definition.resource.origin}: {self.problem}"


def namespace_conflicts(
    apps: Sequence[App],
    definitions: Sequence[Definition],
    preview: Preview,
    given: Callable[[str], str] = given_namespace,
) -> list[NamespaceConflict]:
    """One app id in two namespaces is accepted only where the two keep their data apart (design §5.3).

    Components belong to one namespace and are seen from there alone, so what is left to refuse is two components of a
    kind that reach one place, or may do so as far as their adapters can tell. State is apart also where the keys of
    the two have prefixes of their own, as with `keyPrefix: namespace`; not that of actors, whose keys have Dapr's own
    prefix whatever `keyPrefix` says.
    """
    by_id: dict[str, list[AppRef]] = {}
    for app in apps:
        by_id.setdefault(app.app_id, []).append(app.ref)
    problems: list[NamespaceConflict] = []
    for app_id, refs in by_id.items():
        if len({ref.namespace for ref in refs}) == 1:
            continue
        seen: dict[str, list[_Place]] = {}
        for definition in definitions:
            kind = block_of(definition.resource.type)
            if kind in _WITHOUT_DATA:
                continue
            for ref in refs:
                place = _place(definition, ref, kind, preview, given) if definition.seen_by(ref) else None
                if place is None:
                    continue
                others = seen.setdefault(kind, [])
                other = next((o for o in others if o.app.namespace != ref.namespace and o.meets(place)), None)
                others.append(place)
                if other is not None:
                    problems.append(_conflict(app_id, place, other))
    return problems


def _place(
    definition: Definition, app: AppRef, kind: str, preview: Preview, given: Callable[[str], str]
) -> _Place | None:
    """`None`: the component's data is nobody else's."""
    opened = preview(definition, app)
    if opened is None:  # it will not open either; its former self, which stays then, may be anywhere
        return _Place(app, definition, UNKNOWN_LOCATION, None)
    location = opened.component.data_location()
    if location is None:
        return None
    metadata = opened.runtime_metadata
    prefix = None
    if kind == "state" and metadata.get("actorstatestore", "").strip().lower() not in TRUE_WORDS:
        prefix = key_prefix(metadata, opened.name, app.app_id, given(app.namespace))
    return _Place(app, definition, location, prefix)


def _conflict(app_id: str, place: _Place, other: _Place) -> NamespaceConflict:
    resource, first = place.definition.resource, other.definition.resource
    may = "may keep" if UNKNOWN_LOCATION in {place.location, other.location} else "keeps"
    problem = (
        f"app id {app_id} is served in the namespaces {other.app.namespace} and {place.app.namespace}, "
        f"and component {resource.name} {may} their data in one place with {first.name} of {first.origin}: "
        "give each namespace a place of its own, or each state store keyPrefix: namespace"
    )
    return NamespaceConflict(place.app, other.app, place.definition, other.definition, problem)


_WITHOUT_DATA = frozenset({"configuration", "secretstores", "middleware.http"})
"""Kinds that keep nothing of apps."""
