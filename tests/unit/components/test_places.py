"""The view of components: each app sees what its scopes allow, and finding that out takes no look at the rest."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from dapr_shared.components.definition import Definition
from dapr_shared.components.places import Place, Places
from dapr_shared.core.ids import AppRef
from tests.support.component_fakes import define

if TYPE_CHECKING:
    from dapr_shared.components.opening import Running

APPS = [AppRef(app, namespace) for app, namespace in product("abc", ("shop", "tools"))]
NOT_OPEN = cast("Running", SimpleNamespace())


def place(name: str, app: AppRef | None = None, audience: set[AppRef] | None = None, **resource: Any) -> Place:
    return Place(define(name, audience=audience, **resource), app, NOT_OPEN)


def every_kind() -> list[Place]:
    """A place of each kind: by namespace, scopes, audience, and opened for one app; some of one name."""
    found: list[Place] = []
    for namespace in ("shop", "tools"):
        for scopes in ((), ("a",), ("b", "c"), ("gone",)):
            found.append(place(f"{namespace}-{len(found)}", namespace=namespace, scopes=scopes))
            found.append(place("same", namespace=namespace, scopes=scopes))
            audience = {AppRef("a", namespace), AppRef("c", "tools")}
            found.append(place(f"{namespace}-{len(found)}", audience=audience, namespace=namespace, scopes=scopes))
            found += [place("own", app=app, namespace=namespace, scopes=scopes) for app in APPS]
        found.append(place("none", audience=set(), namespace=namespace))
    return found


def test_what_an_app_sees():
    """An app sees exactly the places whose definition and app allow it, in their order."""
    places = Places(every_kind())
    for app in (*APPS, AppRef("new", "shop"), AppRef("a", "elsewhere")):
        assert places.seen_by(app) == [one for one in places.all if one.seen_by(app)]
    assert all(places.seen_by(app) for app in APPS)
    for name in {one.name for one in places.all} | {("shop", "nothing")}:
        assert list(places.called(name)) == [one for one in places.all if one.name == name]


def test_a_thousand_apps_are_a_thousand_looks(monkeypatch):
    """For apps with components of their own, scopes are looked at once for each, and not once for each pair."""
    looks = 0

    def counted(definition: Definition, app: AppRef, check=Definition.seen_by) -> bool:
        nonlocal looks
        looks += 1
        return check(definition, app)

    monkeypatch.setattr(Definition, "seen_by", counted)
    names = [f"app-{number}" for number in range(1000)]
    places = Places([place("shared"), *(place(f"store-{name}", scopes=(name,)) for name in names)])
    for name in names:
        assert len(places.seen_by(AppRef(name))) == 2
    assert looks == 2000
