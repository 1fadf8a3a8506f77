"""Opening one component: from a definition to a started adapter, or an error that says what to correct.

Before both roads. Used by the registry alone.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dapr_shared.components.catalog import Catalog, CatalogError, UnknownVersionError
from dapr_shared.components.definition import ComponentCloseError, ComponentStartError, Definition
from dapr_shared.contracts.component import BackendError, Component, ComponentContext
from dapr_shared.contracts.registry import Opened
from dapr_shared.contracts.settings import SettingError, decode_settings
from dapr_shared.contracts.turns import Turns
from dapr_shared.resources.values import needs_app, render_templates

if TYPE_CHECKING:
    from pathlib import Path

    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef

CLOSE_TIMEOUT = 10.0
"""Seconds that closing one component may take."""


@dataclass(slots=True)
class Running:
    """An open component and what closes it."""

    definition: Definition
    app: AppRef | None
    """The one app that it is for; `None`: it is shared."""
    opened: Opened[Component[Any]]
    stack: AsyncExitStack

    async def close(self) -> None:
        """Close it. Raises `ComponentCloseError`, after everything that can be closed is."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.stack.aclose()
        except TimeoutError as error:
            raise ComponentCloseError(self.definition.resource, f"not closed within {CLOSE_TIMEOUT:g} s") from error
        except Exception as error:
            raise ComponentCloseError(self.definition.resource, f"closing failed: {error}") from error


def is_per_app(definition: Definition) -> bool:
    """Whether each app needs one of its own: some value names the app (design §5.4)."""
    return any(needs_app(value) for value in definition.values.values())


def make_component(
    catalog: Catalog,
    definition: Definition,
    app: AppRef | None,
    clock: Clock,
    *,
    single_app: bool = False,
    private: Path | None = None,
) -> Opened[Component[Any]]:
    """Make the component, for one app or for all, without opening anything.

    `single_app`: the instance serves that app alone. `private`: the instance's own folder.
    Raises `CatalogError`, `SettingError`, and what the adapter's module or constructor raises.
    """
    resource = definition.resource
    row = catalog.find(resource.type, resource.version)
    adapter = catalog.load(row)
    version = catalog.version_of(row, resource.version)
    values = _rendered(definition, app)
    settings = decode_settings(adapter.settings_type, values)
    context = ComponentContext(
        name=resource.name,
        type=resource.type,
        version=version,
        namespace=resource.namespace,
        app_id=app.app_id if app else None,
        single_app=single_app,
        clock=clock,
        private=private,
    )
    component: Component[Any] = adapter(settings, context)
    return Opened(
        name=resource.name,
        type=resource.type,
        version=version,
        namespace=resource.namespace,
        capabilities=component.effective_capabilities(),
        runtime_metadata=definition.runtime_metadata(values),
        component=component,
        namespace_scoped=any("{namespace}" in value for value in definition.values.values()),
        encryption=definition.encryption_keys(values),
        naming_app=frozenset(name.lower() for name, value in definition.values.items() if needs_app(value)),
    )


async def open_component(
    catalog: Catalog,
    definition: Definition,
    app: AppRef | None,
    clock: Clock,
    *,
    single_app: bool = False,
    private: Path | None = None,
) -> Running:
    """Open the component, for one app or for all. Raises `ComponentStartError`; then, as when cancelled, nothing is open."""
    resource = definition.resource
    stack = AsyncExitStack()
    opened: Opened[Component[Any]] | None = None
    try:
        opened = make_component(catalog, definition, app, clock, single_app=single_app, private=private)
        async with asyncio.timeout(resource.init_timeout):
            await opened.component.start(stack)
        # What another program can do is known only now.
        few = opened.component.calls_at_a_time if app is None else 0
        opened = replace(
            opened, capabilities=opened.component.effective_capabilities(), turns=Turns(few) if few else None
        )
    except BaseException as error:
        with suppress(Exception):  # the error of the start is the one to tell
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await stack.aclose()
        problem = _problem(error, resource.init_timeout, opened.component.waits_for if opened else "")
        if problem is None:
            raise
        raise ComponentStartError(resource, problem if app is None else f"for the app {app}: {problem}") from error
    return Running(definition, app, opened, stack)


def _rendered(definition: Definition, app: AppRef | None) -> dict[str, str]:
    """The values with `{uuid}`, `{podName}`, `{appID}` and `{namespace}` filled in. Raises `SettingError`."""
    return {name: _render(name, value, app) for name, value in definition.values.items()}


def _render(name: str, value: str, app: AppRef | None) -> str:
    try:
        return render_templates(
            value,
            app_id=app.app_id if app else "",
            namespace=app.namespace if app else "",
            pod_name=os.environ.get("POD_NAME", ""),
        )
    except ValueError as error:
        raise SettingError(name, str(error)) from error


def _problem(error: BaseException, init_timeout: float, waits_for: str) -> str | None:
    """What to tell the user; `None` for what is no failure of the component (cancellation, the end of the program)."""
    match error:
        case SettingError():
            text = f"spec.metadata {error.field}: {error.problem}"
        case UnknownVersionError():
            text = f"spec.version: {error}"
        case CatalogError():
            text = f"spec.type: {error}"
        case TimeoutError():
            text = f"not started within spec.initTimeout ({init_timeout:g} s){f': {waits_for}' if waits_for else ''}"
        case BackendError():
            text = str(error)
        case Exception():
            text = f"{type(error).__name__}: {error}"
        case _:
            text = None
    return text
