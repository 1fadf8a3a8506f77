"""What to do to get from one set of resources to another: pure data, nothing is done here.

Before both roads: reload builds what was added or changed, swaps, and drains what was removed (design §5.11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from dapr_shared.resources.model import (
    App,
    Component,
    Configuration,
    HTTPEndpoint,
    Other,
    Resiliency,
    Resource,
    Subscription,
)
from dapr_shared.resources.origin import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.resources.loader import Resources

R = TypeVar("R", bound=Resource)


class Change(msgspec.Struct, Generic[R], frozen=True):
    """One resource before and after."""

    old: R
    new: R


class Changes(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """What became of the resources of one kind. What is equal apart from its origin is in none of the lists."""

    added: tuple[R, ...] = ()
    changed: tuple[Change[R], ...] = ()
    removed: tuple[R, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two sets of resources, by kind. It is false when there is none."""

    apps: Changes[App] = Changes()
    components: Changes[Component] = Changes()
    configurations: Changes[Configuration] = Changes()
    http_endpoints: Changes[HTTPEndpoint] = Changes()
    subscriptions: Changes[Subscription] = Changes()
    resiliencies: Changes[Resiliency] = Changes()
    others: Changes[Other] = Changes()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


def diff(old: Resources, new: Resources) -> Plan:
    """The plan that leads from `old` to `new`.

    A resource is recognised by namespace and name. Where several have the same (components for different apps), equal
    ones belong together and the rest in their order.
    """
    return Plan(
        apps=_changes(old.apps, new.apps),
        components=_changes(old.components, new.components),
        configurations=_changes(old.configurations, new.configurations),
        http_endpoints=_changes(old.http_endpoints, new.http_endpoints),
        subscriptions=_changes(old.subscriptions, new.subscriptions),
        resiliencies=_changes(old.resiliencies, new.resiliencies),
        others=_changes(old.others, new.others),
    )


def same(one: Resource, other: Resource) -> bool:
    """Whether two resources say the same, wherever they stand."""
    return one is other or (type(one) is type(other) and _bare(one) == _bare(other))


def _bare(resource: R) -> R:
    return msgspec.structs.replace(resource, origin=NOWHERE)


def _changes(old: Sequence[R], new: Sequence[R]) -> Changes[R]:
    before, after = _by_key(old), _by_key(new)
    added: list[R] = []
    changed: list[Change[R]] = []
    removed: list[R] = []
    for key in dict.fromkeys((*before, *after)):
        gone, come = _without_equal(before.get(key, []), after.get(key, []))
        changed += [Change(one, other) for one, other in zip(gone, come, strict=False)]
        removed += gone[len(come) :]
        added += come[len(gone) :]
    return Changes(added=tuple(added), changed=tuple(changed), removed=tuple(removed))


def _by_key(resources: Sequence[R]) -> dict[tuple[str, str, str], list[R]]:
    result: dict[tuple[str, str, str], list[R]] = {}
    for resource in resources:
        kind = resource.kind if isinstance(resource, Other) else ""
        result.setdefault((kind, resource.namespace, resource.name), []).append(resource)
    return result


def _without_equal(old: list[R], new: list[R]) -> tuple[list[R], list[R]]:
    rest = list(new)
    gone: list[R] = []
    for one in old:
        index = next((i for i, other in enumerate(rest) if same(one, other)), None)
        if index is None:
            gone.append(one)
        else:
            del rest[index]
    return gone, rest
