"""What one instance knows of apps that others may not, as text of bounded size; and what all of them know, as one report.

Beside both roads. A part has what resources do not say: streams and answers of apps, whether an app can be called, what has
failed. `status_leases.py` carries parts from one instance to another, `status.py` writes what comes of them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from dapr_shared.kubernetes.status import MOST_SUBSCRIPTIONS, SubscriptionReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.kubernetes.status import AppReport

MOST_BYTES: Final = 128 * 1024
"""Of the text of a part. All annotations of an object may have 256 KiB, an object at etcd 1.5 MiB."""
LONGEST_ERROR: Final = 256
"""Characters of an error in a part."""
_SHORTER: Final = (MOST_SUBSCRIPTIONS, 20, 5, 1)
"""Subscriptions of one app in a part, tried in this order until the text is short enough."""
_STATES: Final = ("failed", "paused", "active")
"""Of two instances that say something else of one subscription, the later in this list is right."""

AppName: TypeAlias = tuple[str, str]
"""Namespace and name of an App."""


class AppPart(NamedTuple):
    """What one instance knows of an app."""

    reached: bool = False
    """Whether the app can be called from there."""
    error: str = ""
    """What is wrong there now."""
    subscriptions: tuple[SubscriptionReport, ...] = ()
    """Those that no resource declares."""
    more: int = 0
    """How many more of them there are."""


class _App(msgspec.Struct, omit_defaults=True):
    """An app in the text. Its name is beside it, so that only what differs from an app that is away costs something."""

    r: bool = False
    e: str = ""
    s: tuple[tuple[str, str, str], ...] = ()
    n: int = 0


class _Text(msgspec.Struct, omit_defaults=True):
    apps: dict[str, dict[str, _App]] = {}
    more: int = 0
    """How many more apps there are something to say of."""


_DECODER: Final = msgspec.json.Decoder(_Text)


def part_of(report: AppReport) -> AppPart:
    """What of this only the instance that made the report may know."""
    own = tuple(each for each in report.subscriptions if not each.declared)
    return AppPart(report.ready and bool(report.address), report.last_error, own)


def encode(parts: Mapping[AppName, AppPart], most: int = MOST_BYTES) -> tuple[str, int]:
    """The text of a part, and how many apps were left out of it because it would be longer than `most` bytes.

    Errors come first, then subscriptions, then who can be called; the same apps are left out each time. Empty: there is
    nothing to tell.
    """
    told = {name: part for name, part in parts.items() if part != AppPart()}
    order = sorted(told, key=lambda name: (not told[name].error, not told[name].subscriptions, name))
    apps: dict[str, dict[str, _App]] = {}
    left = len(order)
    for subscriptions in _SHORTER:
        apps, left = _fitting(order, told, subscriptions, most, last=subscriptions == _SHORTER[-1])
        if not left:
            break
    if not order:
        return "", 0
    return msgspec.json.encode(_Text(apps, left)).decode(), left


def _fitting(
    order: Iterable[AppName], told: Mapping[AppName, AppPart], subscriptions: int, most: int, *, last: bool
) -> tuple[dict[str, dict[str, _App]], int]:
    """As many apps as fit, and how many do not; counted for the `last` try alone."""
    found: dict[str, dict[str, _App]] = {}
    size, left = len('{"apps":{},"more":1000000}'), 0
    for namespace, name in order:
        part = told[namespace, name]
        listed = part.subscriptions[:subscriptions]
        app = _App(
            part.reached,
            part.error[:LONGEST_ERROR],
            tuple((each.pubsub, each.topic, each.state) for each in listed),
            len(part.subscriptions) - len(listed) + part.more,
        )
        size += len(msgspec.json.encode({name: app})) + 1
        if namespace not in found:
            size += len(msgspec.json.encode({namespace: 0})) + 2
        if size > most:
            left += 1
            if not last:
                break
        else:
            found.setdefault(namespace, {})[name] = app
    return found, left


def decode(text: str, shared: dict[AppPart, AppPart] | None = None) -> dict[AppName, AppPart]:
    """A part from its text. What another version writes and this one does not know is passed over; raises `ValueError`.

    What is equal to something in `shared` is that object: a hundred instances say the same of a thousand apps.
    """
    shared = {} if shared is None else shared
    if len(text) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES} bytes")
    found: dict[AppName, AppPart] = {}
    for namespace, apps in _DECODER.decode(text).apps.items():
        for name, app in apps.items():
            subscriptions = tuple(
                SubscriptionReport(pubsub, topic, state) for pubsub, topic, state in app.s if state in _STATES
            )
            part = AppPart(app.r, app.e, subscriptions, max(app.n, 0))
            found[sys.intern(namespace), sys.intern(name)] = shared.setdefault(part, part)
    return found


def joined(own: AppReport, others: Iterable[tuple[str, AppPart]]) -> AppReport:
    """The report of all instances: this one's, and what others know more, each given with the name of its pod."""
    others = sorted(others, key=lambda other: other[0])
    rows = {(each.pubsub, each.topic): each for each in own.subscriptions}
    for _, part in others:
        for each in part.subscriptions:
            known = rows.setdefault((each.pubsub, each.topic), each)
            if _STATES.index(each.state) > _STATES.index(known.state):
                rows[each.pubsub, each.topic] = each
    more = max((part.more for _, part in others), default=0)
    # An app whose streams alone are elsewhere has none of its own: the order must not depend on who writes.
    report = own._replace(subscriptions=tuple(sorted(rows.values())), more=more)
    errors = [(pod, part.error) for pod, part in others if part.error]
    if errors and not own.last_error:
        report = report._replace(elsewhere="at {}: {}".format(*errors[0]))
    reaching = next((pod for pod, part in others if part.reached), "")
    if reaching and not own.ready:
        report = report._replace(ready=True, reason="Reachable", message=f"the app accepts connections of {reaching}")
    return report
