"""From App resources to apps that can prove themselves: tokens read, configurations found.

Assembly. Everything that is wrong is collected and told at once; nothing here keeps a token in readable form longer
than it takes to hash it, but the one that is sent to the app.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dapr_shared.blocks.state.keys import key_prefix
from dapr_shared.channel.table import ChannelSpec
from dapr_shared.components.catalog import block_of
from dapr_shared.contracts.component import UNKNOWN_LOCATION
from dapr_shared.contracts.settings import TRUE_WORDS
from dapr_shared.identity.caller import RegisteredApp
from dapr_shared.runtime.tokens import UnusableValueError, digests_of, problems_of, read_tokens, read_value
from dapr_shared.security.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dapr_shared.components.definition import Definition
    from dapr_shared.contracts.component import Component as OpenedComponent
    from dapr_shared.contracts.registry import Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import App, Configuration
    from dapr_shared.resources.values import ReadSecret
    from dapr_shared.runtime.tokens import Token

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
    tokens: tuple[Token, ...] = ()
    """What the sources of its tokens held when they were last read."""

    @property
    def digests(self) -> frozenset[bytes]:
        """Of every token, that for the app too."""
        sent = self.channel.api_token if self.channel is not None else None
        return self.record.token_digests | ({digest(sent)} if sent else frozenset[bytes]())

    @property
    def problems(self) -> list[str]:
        """What is wrong with single tokens; the app is served all the same."""
        return problems_of(self.tokens)

    def with_tokens(self, tokens: Sequence[Token]) -> ResolvedApp:
        """The same app, proved by these tokens."""
        return replace(self, record=replace(self.record, token_digests=digests_of(tokens)), tokens=tuple(tokens))

    def without_lost(self, now: ResolvedApp) -> ResolvedApp:
        """The same app without the tokens that are not there now; the same object where none is lost."""
        pairs = list(zip(self.tokens, now.tokens, strict=True))
        if all(new.digest is not None or old.digest is None for old, new in pairs):
            return self
        return self.with_tokens([old if new.digest is not None else new for old, new in pairs])

    def without_tokens(self, taken: Collection[bytes], problem: str) -> ResolvedApp:
        """The same app, not proved by these tokens."""
        return self.with_tokens(
            [replace(one, problem=problem, refused=True) if one.digest in taken else one for one in self.tokens]
        )


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
        """The app with everything that it refers to. Raises `AppsError`."""
        found = await self.resolve_served(app)
        wrong = [token for token in found.tokens if token.problem]
        if wrong:
            raise AppsError([f"{app.origin}: {token.where}: {token.problem}" for token in wrong])
        return found

    async def resolve_served(self, app: App, before: Sequence[Token] = ()) -> ResolvedApp:
        """The app with what it refers to; a token whose source says that there is none proves nobody.

        `before`: what its tokens were when they were last read. Raises `AppsError`, also where nothing is known of a token.
        """
        problems: list[str] = []
        configuration = None
        try:
            configuration = self.configuration(app)
        except AppsError as error:
            problems += error.problems
        reader = self.read_secret(app.namespace)
        tokens, unknown = await read_tokens(app, reader, before)
        problems += [f"{app.origin}: {problem}" for problem in unknown]
        channel = None
        if app.channel is not None:
            api_token = None
            if app.channel.api_token is not None:
                try:
                    api_token = await read_value(app, app.channel.api_token, reader)
                except UnusableValueError as error:
                    problems.append(f"{app.origin}: spec.channel.apiToken{error.field}: {error}")
            channel = ChannelSpec(app.channel, api_token)
        if problems:
            problems += [f"{app.origin}: {token.where}: {token.problem}" for token in tokens if token.problem]
            raise AppsError(problems)
        record = RegisteredApp(
            app.ref,
            app,
            configuration,
            given_namespace=self.given_namespace(app.namespace),
            token_digests=digests_of(tokens),
        )
        return ResolvedApp(record, channel, tuple(tokens))

    async def with_tokens_of_now(self, served: ResolvedApp) -> ResolvedApp:
        """An app as it is served, but for what the sources of its tokens hold now; the same object where that is the same."""
        app = served.record.app
        tokens, _ = await read_tokens(app, self.read_secret(app.namespace), served.tokens)
        return served if tuple(tokens) == served.tokens else served.with_tokens(tokens)


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
