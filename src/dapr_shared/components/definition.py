"""A component as it is wanted: its resource, its resolved metadata, and the apps that see it.

Before both roads: the runtime makes definitions from resources, the registry opens them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dapr_shared.components.catalog import block_of
from dapr_shared.contracts.encryption import KEY_NAMES, EncryptionKeys, read_keys
from dapr_shared.contracts.settings import SettingError
from dapr_shared.resources.values import needs_app

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import Component as ComponentResource
    from dapr_shared.resources.origin import Origin

_RUNTIME_METADATA: Mapping[str, frozenset[str]] = {
    "state": frozenset(
        {
            "actorstatestore",
            "keyprefix",
            "outboxpublishpubsub",
            "outboxpublishtopic",
            "outboxpubsub",
            "outboxdiscardwhenmissingstate",
        },
    ),
    "lock": frozenset({"keyprefix"}),
    "pubsub": frozenset({"consumerid", "allowedtopics", "protectedtopics", "publishingscopes", "subscriptionscopes"}),
    "bindings": frozenset({"direction", "route"}),
    "middleware.http": frozenset({"strictsandbox"}),
}
"""What the runtime reads of a component's metadata, by block (reference resources §2)."""

_KEY_PREFIX = "keyprefix"
_SEPARATOR = "||"
"""Between prefix and key. One prefix that has it could be the beginning of another's keys."""
_STRATEGIES = frozenset({"appid", "name", "namespace", "none"})
"""Values of `keyPrefix` that are no prefix but say how to make one."""

_ENCRYPTION = frozenset({"primaryencryptionkey", "secondaryencryptionkey"})


def runtime_names(component_type: str) -> frozenset[str]:
    """The names of metadata, in lower case, that the runtime reads of a component of this type beside its adapter."""
    block = block_of(component_type)
    known = _RUNTIME_METADATA.get(block, frozenset[str]())
    return known | _ENCRYPTION if block == "state" else known


OpeningKey = tuple[str, str, str, str, frozenset[tuple[str, str]]]
"""Two definitions with one key are served by one open component."""


class ComponentError(Exception):
    """Something that is wrong with one component; the message names it, its file and its field, and no secret."""

    def __init__(self, resource: ComponentResource, problem: str) -> None:
        super().__init__(f"component {resource.name} ({resource.type}) in {resource.origin}: {problem}")
        self.component = resource.name
        self.namespace = resource.namespace
        self.type = resource.type
        self.ignored = resource.ignore_errors
        """Whether the resource says `ignoreErrors`."""
        self.origin: Origin = resource.origin
        self.problem = problem


class ComponentStartError(ComponentError):
    """A component could not be opened; its cause is chained."""


class DuplicateComponentError(ComponentStartError):
    """Two components of one name that an app would both see."""


class ComponentCloseError(ComponentError):
    """A component did not close cleanly; nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A component as it is wanted."""

    resource: ComponentResource
    values: Mapping[str, str] = field(repr=False)
    """Its metadata with secrets and variables filled in, templates not yet."""
    audience: frozenset[AppRef] | None = None
    """The apps that may see it, beside its scopes; `None`: all of its namespace. A run file's `resourcesPath` of one
    app makes it that app."""
    opening_key: OpeningKey = field(init=False, repr=False, compare=False)
    """What an open component depends on; who sees it is not part of it."""

    def __post_init__(self) -> None:
        resource = self.resource
        key = (
            resource.namespace,
            resource.name,
            resource.type.casefold(),
            resource.version.casefold(),
            frozenset((*self.values.items(), *self._key_secrets().items())),
        )
        object.__setattr__(self, "opening_key", key)

    def seen_by(self, app: AppRef) -> bool:
        """Whether the app may use it: the one place where scopes are checked (design §5.3)."""
        resource = self.resource
        return (
            resource.namespace == app.namespace
            and (not resource.scopes or app.app_id in resource.scopes)
            and (self.audience is None or app in self.audience)
        )

    @property
    def named_apps(self) -> tuple[str, ...]:
        """The app ids that scopes and audience leave; empty: every app of the namespace."""
        scopes = self.resource.scopes
        if self.audience is None:
            return scopes
        return tuple(sorted(app.app_id for app in self.audience if not scopes or app.app_id in scopes))

    @property
    def names_one_app(self) -> bool:
        """Whether its scopes make it one app's, whatever apps come.

        A place that is one app's (`audience`) does not: the same file may lie in the places of several apps.
        """
        return len(set(self.resource.scopes)) == 1

    def encryption_keys(self, rendered: Mapping[str, str]) -> EncryptionKeys | None:
        """The keys of a state store that encrypts. `rendered`: the values. Raises `SettingError`."""
        if block_of(self.resource.type) != "state":
            return None
        return read_keys({name.lower(): value for name, value in rendered.items()}, self._key_secrets())

    def _key_secrets(self) -> dict[str, str]:
        """The names of the secrets that hold encryption keys, by the item's name in lower case."""
        return {
            item.name.lower(): item.secret_key_ref.name
            for item in self.resource.metadata
            if item.secret_key_ref is not None and item.name.lower() in KEY_NAMES
        }

    def runtime_metadata(self, rendered: Mapping[str, str]) -> dict[str, str]:
        """The metadata that blocks read, names in lower case. `rendered`: the values with their templates filled in.

        A `keyPrefix` is in lower case, as in daprd, unless it names the app: two apps whose ids differ in case alone
        must not meet. Raises `SettingError` where it becomes the name of a strategy by what an app is called.
        """
        known = _RUNTIME_METADATA.get(block_of(self.resource.type), frozenset())
        found: dict[str, str] = {}
        for name, value in rendered.items():
            folded = name.lower()
            if folded not in known:
                continue
            found[folded] = value
            if folded == _KEY_PREFIX:
                if _SEPARATOR in value:
                    raise SettingError(name, f"{value} has {_SEPARATOR} in it, which ends a prefix: leave it out")
                if not needs_app(self.values[name]):
                    found[folded] = value.lower()
                elif value.lower() in _STRATEGIES:
                    raise SettingError(name, f"becomes {value}, which is no prefix but a strategy: add a text to it")
        return found


def find_duplicates(definitions: Sequence[Definition], apps: Collection[AppRef]) -> list[DuplicateComponentError]:
    """An error for each component whose name an earlier one has, where some app would see both."""
    errors: list[DuplicateComponentError] = []
    by_name: dict[tuple[str, str], list[Definition]] = {}
    for definition in definitions:
        resource = definition.resource
        same = by_name.setdefault((resource.namespace, resource.name), [])
        first = next((one for one in same if _meet(one, definition, apps)), None)
        if first is not None:
            errors.append(
                DuplicateComponentError(
                    resource, f"the name is taken by {first.resource.origin}, and some app would see both: use scopes"
                ),
            )
        same.append(definition)
    return errors


def find_shared_groups(definitions: Sequence[Definition]) -> list[ComponentStartError]:
    """An error for each pubsub component that would put its one app into the consumer group of another one's.

    That is: one broker, one `consumerID` that names no app, and scopes of two different apps. Each would take the
    other's messages (design §5.3). Two brokers are told apart by their metadata alone.
    """
    errors: list[ComponentStartError] = []
    seen: dict[tuple[str, frozenset[tuple[str, str]]], Definition] = {}
    for definition in definitions:
        group = {name.lower(): value for name, value in definition.values.items()}.get("consumerid", "").strip()
        if block_of(definition.resource.type) != "pubsub" or not definition.names_one_app or not group:
            continue
        if needs_app(group) or "{uuid}" in group:
            continue
        key = (definition.resource.type.casefold(), frozenset(definition.values.items()))
        first = seen.setdefault(key, definition)
        if (first.resource.namespace, *first.resource.scopes) != (
            definition.resource.namespace,
            *definition.resource.scopes,
        ):
            problem = f"consumerID {group} is that of app {first.resource.scopes[0]} in {first.resource.origin}: give each app its own"
            errors.append(ComponentStartError(definition.resource, problem))
    return errors


def _meet(one: Definition, other: Definition, apps: Collection[AppRef]) -> bool:
    """Whether some app sees both: one that is there, or one that may come."""
    if one.audience is not None and other.audience is not None:
        possible: Collection[AppRef] = one.audience & other.audience
    elif one.audience is not None or other.audience is not None:
        possible = one.audience or other.audience or ()
    else:
        scopes, others = one.resource.scopes, other.resource.scopes
        return not scopes or not others or not set(scopes).isdisjoint(others)
    return any(one.seen_by(app) and other.seen_by(app) for app in {*possible, *apps})
