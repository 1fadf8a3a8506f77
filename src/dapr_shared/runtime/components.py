"""From Component resources to open components: values resolved, secret stores first.

Assembly. Reference resources §1 and §2, daprd-flags §5 (secret stores are opened before the rest).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from dapr_shared.components.definition import ComponentStartError, Definition
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretStore
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import Component, MetadataItem
from dapr_shared.resources.origin import Origin
from dapr_shared.resources.values import UnresolvedError, resolve
from dapr_shared.runtime.secret_readers import SecretReaders
from dapr_shared.security.secrets import KUBERNETES_STORE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dapr_shared.components.definition import ComponentError
    from dapr_shared.components.registry import Applied, ComponentRegistry
    from dapr_shared.observability.events import Events
    from dapr_shared.runtime.secret_readers import ClusterSecret

_BUILT_IN = Origin("(built in)", 1, 0)
_SECRET_STORES = "secretstores."  # noqa: S105 - a prefix


@dataclass(frozen=True, slots=True)
class Wanted:
    """What resources ask for, with their values read."""

    definitions: tuple[Definition, ...]
    failures: tuple[ComponentStartError, ...] = ()
    """The components whose values could not be read; none is opened then, unless they are left out."""


class ComponentLoader:
    """Opens what resources ask for, in the order in which they need each other."""

    def __init__(
        self,
        registry: ComponentRegistry,
        events: Events,
        denied: Sequence[str] = (),
        *,
        cluster_secret: ClusterSecret | None = None,
        built_in_store: AppRef | None = None,
    ) -> None:
        """`denied`: the Configuration's `components.deny`, types or `type/version`.

        In a cluster `cluster_secret` reads a Secret of a namespace: of the store `kubernetes`, which resources that name
        none mean. `built_in_store`: the one app that has this store as a component, as in daprd.
        """
        self.secrets = SecretReaders(registry, cluster_secret)
        """Reads what resources refer to."""
        self._built_in_store = built_in_store
        self._registry = registry
        self._events = events
        self._denied = frozenset(entry.casefold() for entry in denied)

    async def load_secret_stores(self, components: Sequence[Component], apps: Collection[AppRef]) -> None:
        """Open exactly these secret stores, what else is open stays. Raises `ComponentStartError`.

        A secret store may take its own secrets from another: those that need none are opened first.
        """
        rest = [d for d in self._registry.definitions if not _is_secret_store(d.resource)]
        wanted: list[Definition] = []
        components = self._with_built_in(components)
        stores = sorted((c for c in components if _is_secret_store(c)), key=_needs_secrets)
        for component in stores:
            if _needs_secrets(component):
                await self._apply([*rest, *wanted], apps, only_secret_stores=True)
            definition = await self._definition(component)
            if definition is not None:
                wanted.append(definition)
        await self._apply([*rest, *wanted], apps, only_secret_stores=True)

    async def define(self, components: Sequence[Component]) -> Wanted:
        """Read the values of these components; the secret stores among them are open and are taken as they are."""
        definitions = [d for d in self._registry.definitions if _is_secret_store(d.resource)]
        failures: list[ComponentStartError] = []
        for component in components:
            if not _is_secret_store(component):
                try:
                    definition = await self._definition(component)
                except ComponentStartError as error:
                    failures.append(error)
                    continue
                if definition is not None:
                    definitions.append(definition)
        return Wanted(tuple(definitions), tuple(failures))

    async def load(self, wanted: Wanted, apps: Collection[AppRef]) -> None:
        """Open exactly these components. Raises `ComponentStartError`."""
        if wanted.failures:
            raise wanted.failures[0]
        await self._apply(wanted.definitions, apps)

    # For an instance that leaves out what is wrong ------------------------------------------------------------------
    async def try_secret_stores(
        self, components: Sequence[Component], apps: Collection[AppRef]
    ) -> list[ComponentStartError]:
        """Like `load_secret_stores`; one that cannot be opened stays as it was. What is wrong."""
        rest = [d for d in self._registry.shown if not _is_secret_store(d.resource)]
        wanted: list[Definition] = []
        failures: list[ComponentStartError] = []
        for component in sorted((c for c in components if _is_secret_store(c)), key=_needs_secrets):
            if _needs_secrets(component):
                await self._change([*rest, *wanted], apps)
            try:
                definition = await self._definition(component)
            except ComponentStartError as error:
                failures.append(error)
                wanted += self.shown(component)
                continue
            if definition is not None:
                wanted.append(definition)
        applied = await self._change([*rest, *wanted], apps)
        return [*failures, *applied.failures]

    async def try_load(
        self, definitions: Sequence[Definition], apps: Collection[AppRef]
    ) -> Sequence[ComponentStartError]:
        """Open exactly these components; one that cannot be opened stays as it was. What is wrong."""
        return (await self._change(definitions, apps)).failures

    def shown(self, component: Component) -> Sequence[Definition]:
        """What is open of a component's name."""
        return self._registry.shown_as(component.namespace, component.name)

    async def refresh_secrets(self) -> None:
        """Have every secret store read its source again; one that cannot keeps what it has, and that is told."""
        for opened in self._registry.all_open():
            if isinstance(opened.component, SecretStore):
                try:
                    await opened.component.refresh()
                except BackendError as error:
                    self._events.component_warning(opened.name, opened.type, opened.namespace, str(error))

    def _with_built_in(self, components: Sequence[Component]) -> Sequence[Component]:
        """With the store that daprd adds in a cluster. An instance for many apps adds none: it would be open to all."""
        app = self._built_in_store
        if app is None or any(each.name == KUBERNETES_STORE and each.namespace == app.namespace for each in components):
            return components
        store = Component(
            name=KUBERNETES_STORE,
            namespace=app.namespace,
            type="secretstores.kubernetes",
            metadata=(MetadataItem(name="defaultNamespace", value=app.namespace),),
            origin=_BUILT_IN,
        )
        return [*components, store]

    async def _definition(self, component: Component) -> Definition | None:
        def warn(item: str, problem: str) -> None:
            self._events.component_warning(component.name, component.type, component.namespace, f"{item}: {problem}")

        kind = component.type.casefold()
        if kind in self._denied or f"{kind}/{component.version.casefold() or 'v1'}" in self._denied:
            # As daprd does: a denied type is left out, which is no failure of the component.
            self._events.component_failed(
                component.name, kind, component.namespace, "creation", "denied by components.deny of the Configuration"
            )
            return None
        try:
            values = await resolve(
                component.metadata,
                env=os.environ,
                secret=self.secrets.reader(component.namespace),
                secret_store=component.secret_store,
                warn=warn,
            )
        except UnresolvedError as error:
            failure = ComponentStartError(component, f"spec.metadata {error}")
            if component.ignore_errors:
                tell_problem(self._events, failure)
                return None
            raise failure from error
        audience = None
        if component.audience is not None:
            audience = frozenset(AppRef(app_id, component.namespace) for app_id in component.audience)
        made = Definition(component, values, audience)
        return next((shown for shown in self.shown(component) if shown == made), made)

    async def _apply(
        self, definitions: Sequence[Definition], apps: Collection[AppRef], *, only_secret_stores: bool = False
    ) -> Applied:
        """Open exactly these. `only_secret_stores`: what else fails is not fatal yet: its resource may be gone by now."""
        applied = await self._change(definitions, apps)
        fatal = [
            failure
            for failure in applied.failures
            if not failure.ignored and (not only_secret_stores or failure.type.casefold().startswith(_SECRET_STORES))
        ]
        if fatal:
            for failure in fatal[1:]:
                tell_problem(self._events, failure)
            raise fatal[0]
        return applied

    async def _change(self, definitions: Sequence[Definition], apps: Collection[AppRef]) -> Applied:
        """Open exactly these, and tell what was opened and closed."""
        started = perf_counter()
        applied = await self._registry.apply(definitions, apps)
        seconds = perf_counter() - started
        newly = frozenset(applied.opened)
        for opened in self._registry.all_open() if newly else ():
            if opened.name in newly:
                self._events.component_opened(opened.name, f"{opened.type}/{opened.version}", opened.namespace, seconds)
        for name in applied.closed:
            self._events.component_closed(name, "", "")
        return applied


def tell_problem(events: Events, error: ComponentError) -> None:
    """Told by the registry of what `ignoreErrors` lets pass, and of errors while closing."""
    events.component_failed(error.component, error.type, error.namespace, "init", error.problem)


def _is_secret_store(component: Component) -> bool:
    return component.type.casefold().startswith(_SECRET_STORES)


def _needs_secrets(component: Component) -> bool:
    return any(item.secret_key_ref is not None for item in component.metadata)
