"""Which of the open components an app may see, found without looking at all of them.

Step 6b of the request road, beside `registry.py`. A thousand apps with a component each are a thousand short looks; the
scopes themselves are checked by the definition alone (design §5.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dapr_shared.core.ids import AppRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dapr_shared.components.definition import Definition
    from dapr_shared.components.opening import Running


@dataclass(frozen=True, slots=True)
class Place:
    """One component in the view: for the apps that its definition lets see it, or for one of them alone."""

    definition: Definition
    app: AppRef | None
    """Set where the component is opened once an app."""
    running: Running

    @property
    def name(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.definition.resource.namespace, self.definition.resource.name

    def seen_by(self, app: AppRef) -> bool:
        """Whether this app may use it."""
        return (self.app is None or self.app == app) and self.definition.seen_by(app)

    def named_apps(self) -> Iterable[AppRef] | None:
        """No others can see it; `None`: any app of its namespace may."""
        if self.app is not None:
            return (self.app,)
        if self.definition.audience is not None:
            return self.definition.audience
        resource = self.definition.resource
        return {AppRef(app_id, resource.namespace) for app_id in resource.scopes} if resource.scopes else None


class Places:
    """A view: all places in their order."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self.all = tuple(places)
        self._by_name: dict[tuple[str, str], list[Place]] = {}
        self._of_apps: dict[AppRef, list[int]] = {}
        self._of_namespaces: dict[str, list[int]] = {}
        for number, place in enumerate(self.all):
            self._by_name.setdefault(place.name, []).append(place)
            apps = place.named_apps()
            if apps is None:
                self._of_namespaces.setdefault(place.definition.resource.namespace, []).append(number)
            else:
                for app in apps:
                    self._of_apps.setdefault(app, []).append(number)

    def seen_by(self, app: AppRef) -> list[Place]:
        """Those that this app sees."""
        possible = sorted((*self._of_apps.get(app, ()), *self._of_namespaces.get(app.namespace, ())))
        return [self.all[number] for number in possible if self.all[number].seen_by(app)]

    def called(self, name: tuple[str, str]) -> Sequence[Place]:
        """Those of a namespace and name."""
        return self._by_name.get(name, ())
