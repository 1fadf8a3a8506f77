"""The components that are open, and which app sees which.

Step 6b of the request road: blocks ask here for the component of an app. The registry owns what is open: each component
is opened once and shared by the apps that see it, or, where its metadata names the app, opened once for each of them
(design §5.4). A change is applied as a whole: the new is opened, the view is swapped, the old is closed after calls
have had time to end; where the new fails, the old stays (design §5.11).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dapr_shared.components.definition import (
    ComponentCloseError,
    ComponentError,
    ComponentStartError,
    Definition,
    OpeningKey,
    find_duplicates,
    find_shared_groups,
)
from dapr_shared.components.opening import Running, is_per_app, make_component, open_component
from dapr_shared.components.places import Place, Places
from dapr_shared.contracts.component import Component
from dapr_shared.contracts.registry import Opened
from dapr_shared.core.clock import Clock, SystemClock
from dapr_shared.core.ids import AppRef

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from dapr_shared.components.catalog import Catalog

DRAIN_SECONDS = 5.0
"""Seconds that calls on a replaced component have to end."""
OPEN_AT_ONCE = 16
"""Components that are being opened at a time."""

C = TypeVar("C", bound=Component[Any])
AnyOpened = Opened[Component[Any]]
RunningKey = tuple[OpeningKey, AppRef | None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a change did, in names of components."""

    opened: tuple[str, ...]
    closed: tuple[str, ...]
    failures: tuple[ComponentStartError, ...]
    """Those that were not opened; what they were to replace is still open."""


class ComponentRegistry:
    """Implements `contracts.registry.Components`. All methods belong to one event loop."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        single_app: AppRef | None = None,
        clock: Clock | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        on_problem: Callable[[ComponentError], None] | None = None,
        private: Path | None = None,
    ) -> None:
        """Make an empty registry.

        `single_app`: the one app of an instance in single-app mode; its id then fills templates and all components are
        opened for it. `on_problem` is told of start errors that `ignoreErrors` lets pass and of errors while closing.
        `private`: the instance's own folder, where no app's files may be.
        """
        self._catalog = catalog
        self._single_app = single_app
        self._clock = clock or SystemClock()
        self._drain_seconds = drain_seconds
        self._private = private
        self._on_problem = on_problem or _ignore
        self._definitions: tuple[Definition, ...] = ()
        self._failures: tuple[ComponentStartError, ...] = ()
        self._apps: frozenset[AppRef] = frozenset({single_app} if single_app else ())
        self._places = Places()
        self._views: dict[AppRef, dict[str, AnyOpened]] = {}
        self._found: dict[tuple[type[Component[Any]], AppRef, str], AnyOpened] = {}
        self._changing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._drains: set[asyncio.Task[None]] = set()

    # The hot path ----------------------------------------------------------------------------------------------------

    def find(self, contract: type[C], app: AppRef, name: str) -> Opened[C] | None:
        """The component of that kind and name, if this app may see it. One look-up; the cache holds only what exists."""
        key = (contract, app, name)
        opened = self._found.get(key)
        if opened is None:
            opened = self._view(app).get(name)
            if opened is None or not isinstance(opened.component, contract):
                return None
            self._found[key] = opened
        return cast("Opened[C]", opened)

    def has(self, contract: type[Component[Any]], app: AppRef) -> bool:
        """Whether this app sees any component of that kind."""
        return any(isinstance(opened.component, contract) for opened in self._view(app).values())

    def visible(self, app: AppRef) -> Sequence[AnyOpened]:
        """All components that this app sees, in order of name."""
        return tuple(self._view(app).values())

    def _view(self, app: AppRef) -> dict[str, AnyOpened]:
        view = self._views.get(app)
        if view is None:
            seen = sorted((self._as_seen(place) for place in self._places.seen_by(app)), key=_name_of)
            view = self._views[app] = {opened.name: opened for opened in seen}
        return view

    def _as_seen(self, place: Place) -> AnyOpened:
        """Who else sees it is not of what is open, which may be shared with places that say otherwise."""
        if self._single_app is not None or place.definition.names_one_app:
            return replace(place.running.opened, one_app=True, turns=None)
        return place.running.opened

    # Changes ---------------------------------------------------------------------------------------------------------

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """What is wanted now; a component of it that failed is not open."""
        return self._definitions

    @property
    def shown(self) -> tuple[Definition, ...]:
        """What apps see now, each definition once."""
        return tuple({id(place.definition): place.definition for place in self._places.all}.values())

    def shown_as(self, namespace: str, name: str) -> Sequence[Definition]:
        """What apps see now of this namespace and name, each definition once."""
        places = self._places.called((namespace, name))
        return tuple({id(place.definition): place.definition for place in places}.values())

    def all_open(self) -> Sequence[AnyOpened]:
        """Every open component, one for each app where it is opened so; for operators."""
        return tuple(running.opened for running in _runnings(self._places.all).values())

    def open_as(self, namespace: str, name: str) -> Sequence[AnyOpened]:
        """The open components of this namespace and name, one for each app where it is opened so."""
        return tuple(running.opened for running in _runnings(self._places.called((namespace, name))).values())

    def running(self) -> Sequence[Running]:
        """Every open component with its definition, and the app where it is opened once an app; for operators."""
        return tuple(_runnings(self._places.all).values())

    @property
    def failures(self) -> tuple[ComponentStartError, ...]:
        """What could not be opened when the components were last applied; for operators."""
        return self._failures

    def preview(self, definition: Definition, app: AppRef) -> AnyOpened | None:
        """The component as this app would see it, not started; `None` where it cannot be made. Opens nothing."""
        alone = self._single_app is not None or is_per_app(definition)
        try:
            return make_component(
                self._catalog,
                definition,
                app if alone else None,
                self._clock,
                single_app=self._single_app is not None,
                private=self._private,
            )
        except Exception:  # noqa: BLE001 - opening it tells the error, whatever it is
            return None

    async def open(self, definition: Definition, apps: Collection[AppRef] = ()) -> None:
        """Open one more component at the start of the instance, for the known apps.

        Raises `ComponentStartError` (`DuplicateComponentError` for a taken name) unless the resource says
        `ignoreErrors`.
        """
        async with self._changing:
            applied = await self._apply((*self._definitions, definition), {*self._apps, *apps})
            failed = [error for error in applied.failures if error.origin == definition.resource.origin]
            if failed:
                self._definitions = tuple(one for one in self._definitions if one is not definition)
            if failed and not definition.resource.ignore_errors:
                raise failed[0]

    async def apply(self, definitions: Iterable[Definition], apps: Collection[AppRef]) -> Applied:
        """Make exactly these components open, for these apps.

        What did not change stays open, also where only its scopes changed. A component that cannot be opened leaves
        all of its name as they were. Raises nothing but what cancels it; then too nothing has changed.
        """
        async with self._changing:
            return await self._apply(tuple(definitions), apps)

    async def set_apps(self, apps: Collection[AppRef]) -> Applied:
        """Open and close what is opened once an app, after apps have come or gone."""
        async with self._changing:
            return await self._apply(self._definitions, apps)

    async def close(self) -> None:
        """Close everything, also what is still being drained. Twice does no harm."""
        async with self._changing:
            self._stopping.set()
            running = list(_runnings(self._places.all).values())
            self._definitions = ()
            self._show(())
            await asyncio.gather(*(self._close(one) for one in reversed(running)), *self._drains)

    async def _apply(self, definitions: tuple[Definition, ...], apps: Collection[AppRef]) -> Applied:
        known_apps = frozenset({self._single_app}) if self._single_app else frozenset(apps)
        if known_apps == self._apps and not self._failures and _same(definitions, self._definitions):
            return Applied((), (), ())
        before = _runnings(self._places.all)
        failures: list[ComponentStartError] = list(find_duplicates(definitions, known_apps))
        if self._single_app is None:
            failures += find_shared_groups(definitions)
        kept = {(error.namespace, error.component) for error in failures}
        wanted = [
            (definition, app)
            for definition in definitions
            if (definition.resource.namespace, definition.resource.name) not in kept
            for app in self._apps_to_open_for(definition, known_apps)
        ]
        missing: dict[RunningKey, tuple[Definition, AppRef | None]] = {
            (definition.opening_key, app): (definition, app)
            for definition, app in wanted
            if (definition.opening_key, app) not in before
        }
        results = dict(zip(missing, await self._open_all(missing.values()), strict=True))
        failures += [result for result in results.values() if isinstance(result, ComponentStartError)]
        fresh = {key: result for key, result in results.items() if isinstance(result, Running)}
        places = self._new_places(wanted, {**before, **fresh}, kept)
        after = _runnings(places)
        self._definitions, self._apps, self._failures = definitions, known_apps, tuple(failures)
        self._show(places)
        for key, running in {**before, **fresh}.items():
            if key not in after:
                self._drain(running, 0.0 if key in fresh else self._drain_seconds)
        for error in failures:
            if error.ignored:
                self._on_problem(error)
        return Applied(
            opened=tuple(sorted({one.opened.name for key, one in fresh.items() if key in after})),
            closed=tuple(sorted({before[key].opened.name for key in before if key not in after})),
            failures=tuple(failures),
        )

    def _apps_to_open_for(self, definition: Definition, apps: Collection[AppRef]) -> tuple[AppRef | None, ...]:
        if self._single_app is not None:
            return (self._single_app,) if definition.seen_by(self._single_app) else ()
        if is_per_app(definition):
            return tuple(app for app in apps if definition.seen_by(app))
        return (None,)

    async def _open_all(
        self, missing: Iterable[tuple[Definition, AppRef | None]]
    ) -> list[Running | ComponentStartError]:
        at_once = asyncio.Semaphore(OPEN_AT_ONCE)

        async def open_one(definition: Definition, app: AppRef | None) -> Running | ComponentStartError:
            async with at_once:
                try:
                    return await open_component(
                        self._catalog,
                        definition,
                        app,
                        self._clock,
                        single_app=self._single_app is not None,
                        private=self._private,
                    )
                except ComponentStartError as error:
                    return error

        tasks = [asyncio.create_task(open_one(definition, app)) for definition, app in missing]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Running):
                    await self._close(result)
            raise

    def _new_places(
        self,
        wanted: Iterable[tuple[Definition, AppRef | None]],
        running: dict[RunningKey, Running],
        kept: Collection[tuple[str, str]],
    ) -> tuple[Place, ...]:
        """The next view. What could not be opened leaves the old: for all who share it, or for the one app."""
        places: dict[tuple[str, str], list[Place]] = {}
        failed: set[tuple[str, str]] = set(kept)
        for definition, app in wanted:
            name = definition.resource.namespace, definition.resource.name
            found = running.get((definition.opening_key, app))
            if found is not None:
                places.setdefault(name, []).append(Place(definition, app, found))
            elif app is None or self._single_app is not None:
                failed.add(name)
            else:
                old = (place for place in self._places.called(name) if place.seen_by(app))
                places.setdefault(name, []).extend(Place(place.definition, app, place.running) for place in old)
        for name in failed:
            places[name] = list(self._places.called(name))
        return tuple(place for same_name in places.values() for place in same_name)

    def _show(self, places: tuple[Place, ...]) -> None:
        self._places = Places(places)
        self._views.clear()
        self._found.clear()

    def _drain(self, running: Running, seconds: float) -> None:
        """Close it once its calls have had time to end; nobody finds it any more."""

        async def drain() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            await self._close(running)

        task = asyncio.create_task(drain(), name=f"drain component {running.opened.name}")
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _close(self, running: Running) -> None:
        try:
            await running.close()
        except ComponentCloseError as error:
            self._on_problem(error)


def _same(definitions: Sequence[Definition], others: Sequence[Definition]) -> bool:
    """Whether these very ones are the others, in whatever order."""
    return {id(one) for one in definitions} == {id(one) for one in others}


def _runnings(places: Iterable[Place]) -> dict[RunningKey, Running]:
    runnings = (place.running for place in places)
    return {(running.definition.opening_key, running.app): running for running in runnings}


def _name_of(opened: AnyOpened) -> str:
    return opened.name


def _ignore(problem: ComponentError) -> None:
    del problem
