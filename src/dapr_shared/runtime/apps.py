"""From App resources to apps that can prove themselves: tokens read, configurations found.

Assembly. Everything that is wrong is collected and told at once; nothing here keeps a token in readable form longer
than it takes to hash it, but the one that is sent to the app.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dapr_shared.channel.table import ChannelSpec
from dapr_shared.identity.caller import RegisteredApp
from dapr_shared.resources.model import MetadataItem
from dapr_shared.resources.values import ReadSecret, UnresolvedError, resolve_item
from dapr_shared.security.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import App, Component, Configuration

_DEFAULT = "default"


class AppsError(Exception):
    """Apps that cannot be served; one line each, naming file, app and field."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ResolvedApps:
    """The apps of one set of resources, ready to serve."""

    records: tuple[RegisteredApp, ...] = ()
    channels: Mapping[AppRef, ChannelSpec] = field(default_factory=dict["AppRef", ChannelSpec])
    digests: frozenset[bytes] = frozenset()
    """Of every token that came from a secret store or the environment, those for apps too."""


async def resolve_apps(
    apps: Sequence[App],
    configurations: Sequence[Configuration],
    default_configuration: Configuration | None,
    read_secret: Callable[[str], ReadSecret],
) -> ResolvedApps:
    """Read what the apps refer to. `read_secret` gives the reader of a namespace. Raises `AppsError`."""
    by_name = {(c.namespace, c.name): c for c in configurations}
    records: list[RegisteredApp] = []
    channels: dict[AppRef, ChannelSpec] = {}
    digests: set[bytes] = set()
    problems: list[str] = []
    for app in apps:
        configuration = default_configuration
        if app.configuration:
            configuration = by_name.get((app.namespace, app.configuration))
            if configuration is None:
                problems.append(
                    f"{app.origin}: spec.configuration: there is no Configuration {app.configuration!r} "
                    f"in namespace {app.namespace}"
                )
        reader = read_secret(app.namespace)
        tokens = await _token_digests(app, reader, problems)
        digests |= tokens
        records.append(
            RegisteredApp(
                app.ref,
                app,
                configuration,
                given_namespace="" if app.namespace == _DEFAULT else app.namespace,
                token_digests=frozenset(tokens),
            )
        )
        if app.channel is not None:
            api_token = None
            if app.channel.api_token is not None:
                api_token = await _value(app, app.channel.api_token, "spec.channel.apiToken", reader, problems)
                if api_token:
                    digests.add(digest(api_token))
            channels[app.ref] = ChannelSpec(app.channel, api_token)
    if problems:
        raise AppsError(problems)
    return ResolvedApps(tuple(records), channels, frozenset(digests))


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
    return value


def namespace_conflicts(apps: Sequence[App], components: Sequence[Component]) -> list[str]:
    """One app id in two namespaces is accepted only where no component is seen from both (design §5.3).

    Components belong to one namespace and are seen from there alone, so what is left to refuse is one connection
    string in two namespaces.
    """
    twice: dict[str, set[str]] = {}
    for app in apps:
        twice.setdefault(app.app_id, set()).add(app.namespace)
    problems: list[str] = []
    for app_id, namespaces in twice.items():
        if len(namespaces) == 1:
            continue
        seen: dict[tuple[object, ...], Component] = {}
        for component in components:
            if component.namespace not in namespaces or (component.scopes and app_id not in component.scopes):
                continue
            if component.type.casefold().startswith(("secretstores.", "middleware.")):
                continue
            key = (
                component.type.casefold(),
                tuple(sorted((i.name.casefold(), i.value or "") for i in component.metadata)),
            )
            other = seen.setdefault(key, component)
            if other.namespace != component.namespace and component.type.casefold() not in _IN_PROCESS:
                problems.append(
                    f"{component.origin}: app id {app_id} is served in the namespaces {' and '.join(sorted(namespaces))}, "
                    f"and component {component.name} keeps their data in one place with {other.name} of {other.origin}: "
                    "give each namespace a component of its own settings"
                )
    return problems


_IN_PROCESS = frozenset({"state.in-memory", "pubsub.in-memory"})
"""Each opened component of these types has data of its own."""
