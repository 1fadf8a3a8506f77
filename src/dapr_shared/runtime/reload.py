"""Putting resources in force, at start and whenever they change.

A set of resources is applied as a whole or not at all, with two exceptions that are told: what became of the secret
stores stays (the rest is read through them), and a component that cannot be opened leaves its old self open. What has
not changed is not touched, so that no request in flight of another app notices (design §5.11). In a cluster what is
wrong is left out instead (`runtime/tolerance.py`), and the rest is applied.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from dapr_shared.channel.table import ChannelTableError
from dapr_shared.components.definition import ComponentStartError
from dapr_shared.identity.apps import IdentityConfigurationError
from dapr_shared.resources.diff import diff
from dapr_shared.resources.errors import ResourceErrors, one_line
from dapr_shared.resources.loader import Resources
from dapr_shared.resources.model import Listeners
from dapr_shared.runtime.apps import AppResolver, AppsError, ResolvedApps
from dapr_shared.runtime.ports import PortTakenError
from dapr_shared.runtime.prepared import Prepared, prepare
from dapr_shared.runtime.refusals import APPLYING, READING, Refusals
from dapr_shared.runtime.tolerance import Attempt, Tolerance
from dapr_shared.runtime.tracing import TracingConfigurationError
from dapr_shared.security.errors import SecurityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.diff import Plan
    from dapr_shared.resources.model import Component, Configuration
    from dapr_shared.runtime.assembly import Parts
    from dapr_shared.runtime.secret_readers import SecretPlace
    from dapr_shared.runtime.sources import Sources
    from dapr_shared.runtime.tokens import Token

LISTENER_GRACE = 5.0
"""Seconds that calls in flight may take on a listener that is closed."""
_PARTLY = " (apps, rules and the other components are in force as the files say; this component is as it was)"
_LOST = " (but tokens that their secret stores hold no more prove nobody)"
WRONG_RESOURCES = (
    ResourceErrors,
    AppsError,
    ComponentStartError,
    IdentityConfigurationError,
    SecurityConfigurationError,
    ChannelTableError,
    PortTakenError,
    TracingConfigurationError,
)
"""What resources can get wrong: fatal at start; on reload the former ones stay in force."""


class _AppPortTakenError(PortTakenError):
    """A listener of an app could not be bound."""

    def __init__(self, ref: AppRef, problem: str) -> None:
        super().__init__(problem)
        self.ref = ref


class _ListenerChange(NamedTuple):
    """What was done to the listeners of apps, to be undone."""

    closed: dict[AppRef, Listeners]
    opened: list[AppRef]


class Reloader:
    """Knows the resources in force and how to get to others."""

    def __init__(self, parts: Parts, sources: Sources, configuration: Configuration | None, events: Events) -> None:
        self._parts = parts
        self._sources = sources
        self._configuration = configuration
        self._events = events
        self.resources = Resources()
        """Those in force."""
        self._wanted = self.resources
        """What was read last: more than what is in force, where some of it was left out."""
        self._incomplete = False
        """Whether the last attempt failed and may have left something behind: the next one does all steps."""
        self._read_again = False
        self._tolerance = Tolerance(parts) if sources.tolerant else None
        self._changing = asyncio.Lock()
        self.refusals = Refusals(events)
        """What was left out."""
        self.on_tokens: list[Callable[[], None]] = []
        """Called when `token_secrets` may be others."""
        self._resolved = ResolvedApps()
        """The apps in force."""
        self._warned: frozenset[tuple[str, str]] = frozenset()
        """What `_warn` has told of them."""

    async def start(self, resources: Resources) -> None:
        """Put the first resources in force. Raises one of `WRONG_RESOURCES`; where what is wrong is left out, none."""
        async with self._changing:
            self.refusals.replace(READING, self._sources.refused)
            await self._apply(resources)

    async def refresh(self, *, quiet: bool = False) -> bool:
        """Like `reload`, with everything read again that resources refer to: secrets that were rotated take effect."""
        await self._parts.loader.refresh_secrets()
        self._incomplete = self._read_again = True
        return await self.reload(quiet=quiet)

    async def open_missing(self, *, quiet: bool = False) -> bool:
        """Like `reload`, with another try for what could not be put in force before."""
        self._incomplete = True
        return await self.reload(quiet=quiet)

    @property
    def token_secrets(self) -> Mapping[SecretPlace, Sequence[tuple[AppRef, Token]]]:
        """The secrets that tokens of apps are read from, where what is wrong is left out."""
        return self._tolerance.token_secrets if self._tolerance is not None else {}

    async def read_tokens(self, apps: Collection[AppRef]) -> bool:
        """Like `reload`, with the secrets of these apps read again."""
        async with self._changing:
            if self._tolerance is not None:
                self._tolerance.look_again(apps)
            return await self._reload(quiet=True, unchanged_too=True)

    async def reload(self, *, quiet: bool = False) -> bool:
        """Read the resources again and put them in force; whether that went well. Raises nothing of what can go wrong.

        `quiet`: nobody asked for it, so that it went well is told only where something has changed.
        """
        async with self._changing:
            return await self._reload(quiet=quiet)

    async def _reload(self, *, quiet: bool, unchanged_too: bool = False) -> bool:
        started = perf_counter()
        before = self.resources
        try:
            resources = await self._sources.read_now()
            self.refusals.replace(READING, self._sources.refused)
            plan = diff(self._wanted, resources)
            if not plan and not self._incomplete and not unchanged_too:
                return True
            await self._apply(resources)
        except WRONG_RESOURCES as error:
            applied = self.resources is not before
            lost = False if applied else await self._drop_tokens()
            self._events.reload_failed(one_line(error) + (_PARTLY if applied else _LOST if lost else ""))
            return False
        except Exception as error:  # noqa: BLE001 - a defect here must not end an instance that serves many apps
            self._events.defect("reload", error)
            self._events.reload_failed(f"a defect of dapr-shared: {error!r}")
            return False
        if plan or not quiet:
            added, changed, removed = _count(plan)
            self._events.reload_done(perf_counter() - started, added=added, changed=changed, removed=removed)
        return True

    async def _drop_tokens(self) -> bool:
        """What is in force stays, but for this: a token proves nobody whose store holds none there. Whether there was one.

        One that was replaced is no reason: which of the two counts is for a set that is right to say.
        """
        if not self._sources.multi_app or self._tolerance is not None:
            return False
        resolver = self._resolver(self.resources)
        before = self._resolved.apps
        left = [app.without_lost(await resolver.with_tokens_of_now(app)) for app in before]
        lost = any(old is not new for old, new in zip(before, left, strict=True))
        if lost:
            self._resolved = ResolvedApps(tuple(left))
            self._parts.apps.replace(self._resolved.records)
        return lost

    def _resolver(self, resources: Resources) -> AppResolver:
        return AppResolver(
            {(each.namespace, each.name): each for each in resources.configurations},
            self._configuration,
            self._parts.loader.secrets.once(),
            self._sources.given_namespace,
        )

    async def _apply(self, resources: Resources) -> None:
        open_again, self._incomplete = self._incomplete, True
        resolver = self._resolver(resources)
        if self._tolerance is None:
            prepared = await prepare(self._parts, resources, resolver)
            await self._put_in_force(prepared, partial(self._parts.loader.load, prepared.wanted))
        else:
            attempt = Attempt(resources, self.resources, resolver, self._read_again, open_again)
            await self._apply_what_is_right(self._tolerance, attempt)
        self._wanted = resources
        self._incomplete = self._read_again = False

    async def _apply_what_is_right(self, tolerance: Tolerance, attempt: Attempt) -> None:
        """Leave out what is wrong. Apps that fail late are left out in another attempt."""
        while True:
            prepared = await tolerance.prepare(attempt)
            try:
                await self._put_in_force(prepared, partial(tolerance.open, attempt, prepared))
            except ChannelTableError as error:
                failed = dict(error.problems)
            except _AppPortTakenError as error:
                failed = {error.ref: str(error)}
            else:
                break
            if not failed.keys() - attempt.excluded.keys():
                raise AppsError([f"app {ref}: {problem}" for ref, problem in failed.items()])
            attempt = replace(attempt, excluded={**attempt.excluded, **failed}, refused=[], read_again=False)
        tolerance.adopt(prepared)
        for listener in self.on_tokens:
            listener()
        self.refusals.replace(APPLYING, attempt.refused)

    async def _put_in_force(
        self, prepared: Prepared, open_components: Callable[[Collection[AppRef]], Awaitable[None]]
    ) -> None:
        """Swap, and drain what is gone. Raises what listeners and channels raise; then all is as it was."""
        parts, resources, resolved = self._parts, prepared.resources, prepared.resolved
        listening = await self._open_listeners(resources)
        try:
            await parts.channels.apply(resolved.channels)
        except BaseException:
            await self._undo(listening)
            raise
        parts.rules.adopt(prepared.rules)
        parts.targets.adopt(prepared.targets)
        parts.tracing.adopt(prepared.traced)
        parts.app_logs.adopt(resolved.records)
        if self._sources.multi_app:
            parts.apps.replace(resolved.records)
        self._resolved = resolved
        plan = diff(self.resources, resources)
        self.resources = self._wanted = resources
        await self._close_listeners(resources)
        self._tell(plan, resolved)
        self._warn(resources)
        try:
            await open_components([app.ref for app in resources.apps])
        finally:  # also where one component failed: what is open now is what subscriptions run on
            await self._subscribe(plan, resources)

    async def _subscribe(self, plan: Plan, resources: Resources) -> None:
        """Bring the subscriptions in step with apps, channels, components and declared subscriptions."""
        parts = self._parts
        changed = frozenset(change.new.ref for change in plan.apps.changed)
        channels = {app.ref: parts.channels.get(app.ref) for app in resources.apps}
        parts.outbox.set_apps(channels)  # first: it closes its topics to subscriptions
        await parts.subscriptions.set_apps(channels, resources.subscriptions, changed, LISTENER_GRACE)
        parts.subscriptions.components_changed()
        parts.configuration.set_configured(partial(_gives, resources.components))
        await parts.presences.set_apps(channels, changed)
        parts.inputs.components_changed()
        parts.configuration.components_changed()

    async def _open_listeners(self, resources: Resources) -> _ListenerChange:
        """Open what new and changed apps listen on. Raises `PortTakenError`; then all listeners are as they were.

        Old listeners of changed apps close first, and those whose port or socket another app takes over.
        """
        listeners = self._parts.listeners
        before = {ref: found for ref in listeners.apps() if (found := listeners.of_app(ref)) is not None}
        wanted = {app.ref: app.listeners for app in resources.apps if app.listeners != Listeners()}
        changed = {ref: new for ref, new in wanted.items() if before.get(ref) != new}
        needed = {address for new in changed.values() for address in _addresses(new)}
        closed = {
            ref: old
            for ref, old in before.items()
            if ref in changed or (ref not in wanted and not needed.isdisjoint(_addresses(old)))
        }
        change = _ListenerChange(closed, [])
        try:
            await asyncio.gather(*(listeners.close_of_app(ref, LISTENER_GRACE) for ref in closed))
            for ref, new in changed.items():
                try:
                    await listeners.open_of_app(ref, new)
                except PortTakenError as error:
                    raise _AppPortTakenError(ref, str(error)) from error
                change.opened.append(ref)
        except BaseException:
            await self._undo(change)
            raise
        return change

    async def _undo(self, change: _ListenerChange) -> None:
        listeners = self._parts.listeners
        for ref in change.opened:
            await listeners.close_of_app(ref, 0)
        for ref, old in change.closed.items():
            try:
                await listeners.open_of_app(ref, old)
            except PortTakenError as error:  # somebody else was quicker; the app's token still proves it
                self._events.listener_failed(str(error))

    async def _close_listeners(self, resources: Resources) -> None:
        wanted = {app.ref for app in resources.apps if app.listeners != Listeners()}
        for ref in self._parts.listeners.apps():
            if ref not in wanted:
                await self._parts.listeners.close_of_app(ref, LISTENER_GRACE)

    def _tell(self, plan: Plan, resolved: ResolvedApps) -> None:
        for app in plan.apps.removed:
            self._parts.metadata.forget(app.ref)
            self._events.app_removed(app.ref)
        for app in plan.apps.added:
            spec = resolved.channels.get(app.ref)
            channel = spec.channel if spec else None
            where = f"{channel.protocol.value}://{channel.address}:{channel.port}" if channel else ""
            self._events.app_added(app.ref, channel=where)
        for change in plan.apps.changed:
            self._events.app_changed(change.new.ref)

    def _warn(self, resources: Resources) -> None:
        """Tell what has no effect or is in dispute: once, and again only when it was otherwise in between."""
        events = self._events
        found: dict[tuple[str, str], Callable[[], None]] = {}
        without_effect = [(other.kind, str(other.origin)) for other in resources.others]
        without_effect += [("Resiliency", str(resiliency.origin)) for resiliency in resources.resiliencies]
        for kind, origin in without_effect:
            found[kind, origin] = partial(events.kind_without_effect, kind, origin)
        if any(app.certificates for app in resources.apps) and not self._parts.asks_for_certificates:
            setting, why = "spec.certificates", "no client is asked for one without --tls-client-ca"
            found[setting, why] = partial(events.setting_without_effect, setting, why)
        for conflict in self._parts.apps.account_conflicts:
            account = str(conflict.account)
            found[account, str(conflict)] = partial(events.service_account_disputed, account, conflict.apps)
        for notice in resources.notices:
            found["notice", str(notice)] = partial(events.resource_notice, str(notice))
        for key in found.keys() - self._warned:
            found[key]()
        self._warned = frozenset(found)


def _gives(components: Sequence[Component], app: AppRef, name: str) -> bool:
    """Whether these resources give the app a component of this name."""
    return any(
        (component.name, component.namespace) == (name, app.namespace)
        and (not component.scopes or app.app_id in component.scopes)
        and (component.audience is None or app.app_id in component.audience)
        for component in components
    )


def _addresses(listeners: Listeners) -> set[int | str]:
    every = (listeners.http_port, listeners.grpc_port, listeners.unix_socket, listeners.grpc_unix_socket)
    return {address for address in every if address}


def _count(plan: Plan) -> tuple[int, int, int]:
    kinds = [getattr(plan, name) for name in plan.__struct_fields__]
    return (
        sum(len(kind.added) for kind in kinds),
        sum(len(kind.changed) for kind in kinds),
        sum(len(kind.removed) for kind in kinds),
    )
