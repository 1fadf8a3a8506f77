"""Component resources held against the settings of their adapters, without opening anything.

Before both roads, for `validate`. A value that only the instance has (a secret, a variable) is taken for right: whether it
is, is seen when it starts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dapr_shared.components.catalog import (
    CatalogError,
    MissingDependencyError,
    UnknownVersionError,
)
from dapr_shared.components.definition import Definition, find_duplicates, runtime_names
from dapr_shared.components.opening import make_component
from dapr_shared.contracts.settings import SettingError, fields_of, setting_problems, unknown_names
from dapr_shared.core.clock import SystemClock
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.errors import did_you_mean
from dapr_shared.resources.values import needs_app
from dapr_shared.runtime.embedded import state_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.components.catalog import Catalog
    from dapr_shared.contracts.component import Component as Adapter
    from dapr_shared.resources.model import Component
    from dapr_shared.resources.places import FieldPlaces
    from dapr_shared.runtime.validation.problems import Problems

_EXAMPLE_APP = AppRef("app")
_TEMPLATE = re.compile(r"\{(?:uuid|podName|namespace|appID)\}")


def check_components(
    components: Sequence[Component], catalog: Catalog, places: FieldPlaces, problems: Problems
) -> None:
    """Report what is wrong with each component, and which of them take one another's name."""
    definitions: list[Definition] = []
    for component in components:
        definitions.append(Definition(component, {item.name: item.value or "" for item in component.metadata}))
        adapter = _adapter(component, catalog, places, problems)
        if adapter is not None:
            _settings(component, adapter, catalog, places, problems)
    for duplicate in find_duplicates(definitions, ()):
        problems.error(places.of(duplicate.origin, "metadata.name"), "metadata.name", duplicate.problem)


def _adapter(
    component: Component, catalog: Catalog, places: FieldPlaces, problems: Problems
) -> type[Adapter[Any]] | None:
    def tell(field: str, error: CatalogError, *, severe: bool) -> None:
        (problems.error if severe else problems.warning)(places.of(component.origin, field), field, str(error))

    severe = not component.ignore_errors
    try:
        return catalog.load(catalog.find(component.type, component.version))
    except UnknownVersionError as error:
        tell("spec.version", error, severe=severe)
    except MissingDependencyError as error:  # installed elsewhere it is right
        tell("spec.type", error, severe=False)
    except CatalogError as error:
        tell("spec.type", error, severe=severe)
    return None


def _settings(
    component: Component, adapter: type[Adapter[Any]], catalog: Catalog, places: FieldPlaces, problems: Problems
) -> None:
    withheld = [item.name for item in component.metadata if item.secret_key_ref is not None or item.env_ref]
    values = {
        item.name: item.value or "" for item in component.metadata if item.secret_key_ref is None and not item.env_ref
    }
    plain = {name: value for name, value in values.items() if not _TEMPLATE.search(value)}
    found = setting_problems(adapter.settings_type, plain, [*withheld, *(values.keys() - plain.keys())])
    for error in found:
        _tell(component, error, places, problems)
    if not found and not withheld:
        _made(component, catalog, places, problems)
    own = [name for spec in fields_of(adapter.settings_type) for name in (spec.name, *spec.setting.aliases)]
    known = runtime_names(component.type)
    for name in unknown_names(adapter.settings_type, {item.name: "" for item in component.metadata}):
        if name.casefold() not in known:
            path = places.item(component.origin, name)[0].removesuffix(".value") + ".name"
            text = f"{component.type} has no setting {name!r}: it is ignored{did_you_mean(name, own)}"
            problems.warning(places.of(component.origin, path), path, text)


def _made(component: Component, catalog: Catalog, places: FieldPlaces, problems: Problems) -> None:
    """Settings that are each right may not go together: only the adapter knows, and says it when it is made."""
    definition = Definition(component, {item.name: item.value or "" for item in component.metadata})
    app = _EXAMPLE_APP if any(needs_app(value) for value in definition.values.values()) else None
    try:
        make_component(catalog, definition, app, SystemClock(), private=state_directory(""))
    except SettingError as error:
        _tell(component, error, places, problems)
    except Exception as error:  # noqa: BLE001 - whatever it is, opening it would fail with it
        problems.error(component.origin, "spec", f"{type(error).__name__}: {error}")


def _tell(component: Component, error: SettingError, places: FieldPlaces, problems: Problems) -> None:
    path, place = places.item(component.origin, error.field)
    text = f"{error.field}: {error.problem}"
    (problems.warning if component.ignore_errors else problems.error)(place, path, text)
