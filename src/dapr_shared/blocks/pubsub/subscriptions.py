"""What an app is subscribed to: what resources declare, and what the app itself asks for, as one list.

Delivery road, step 4 (block). Facts: reference resources §3, http-api §13: for one pubsub and topic the app's own entry
wins over a declared one, and of two declared ones the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence  # noqa: TC003 - read by msgspec
from datetime import datetime  # noqa: TC003 - read by msgspec
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dapr_shared.channel.callbacks import AskedSubscription
    from dapr_shared.core.ids import AppRef
    from dapr_shared.resources.model import Subscription

DEFAULT_BULK_MESSAGES = 100
DEFAULT_BULK_AWAIT = 1.0
"""Seconds, counted from the first message."""


class SubscriptionKind(StrEnum):
    """Where a subscription comes from, in the words of Dapr's metadata API."""

    DECLARATIVE = "DECLARATIVE"
    PROGRAMMATIC = "PROGRAMMATIC"
    STREAMING = "STREAMING"


class Bulk(msgspec.Struct, frozen=True):
    """Delivery of several messages in one call."""

    max_messages: int = DEFAULT_BULK_MESSAGES
    max_await: float = DEFAULT_BULK_AWAIT
    """Seconds."""


class TopicSubscription(msgspec.Struct, frozen=True):
    """One subscription of one app."""

    pubsub: str
    topic: str
    routes: tuple[tuple[str, str], ...]
    """(match, path) in order; an empty match is always true."""
    kind: SubscriptionKind
    metadata: Mapping[str, str] = {}
    dead_letter_topic: str = ""
    bulk: Bulk | None = None
    origin: str = ""
    """Where it was written: a file, or the app."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same subscription: pubsub and topic."""
        return self.pubsub, self.topic


class SubscriptionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription, as the metadata API and operators see it."""

    pubsub: str
    topic: str
    kind: str
    metadata: Mapping[str, str]
    rules: Sequence[tuple[str, str]]
    dead_letter_topic: str
    state: str
    """`active`, `paused` or `failed`."""
    reason: str
    """Why it is paused or has failed; empty when active."""
    since: datetime | None
    """Since when it is paused or failing."""
    pending: int | None
    """Messages that wait for the app, where the broker knows."""

    @classmethod
    def of(
        cls,
        wanted: TopicSubscription,
        state: str,
        *,
        reason: str = "",
        since: datetime | None = None,
        pending: int | None = None,
    ) -> SubscriptionStatus:
        """The status of this subscription."""
        return cls(
            pubsub=wanted.pubsub,
            topic=wanted.topic,
            kind=wanted.kind.value,
            metadata=wanted.metadata,
            rules=wanted.routes,
            dead_letter_topic=wanted.dead_letter_topic,
            state=state,
            reason=reason,
            since=since,
            pending=pending,
        )


class MergedSubscriptions(msgspec.Struct, frozen=True):
    """The list, and what was left out of it with the reason."""

    wanted: tuple[TopicSubscription, ...]
    ignored: tuple[str, ...] = ()


def merge(
    app: AppRef, declared: Iterable[Subscription], asked: Iterable[AskedSubscription], *, grpc: bool
) -> MergedSubscriptions:
    """The subscriptions of an app. `grpc`: the app speaks gRPC, where a subscription needs no route."""
    found: dict[tuple[str, str], TopicSubscription] = {}
    ignored: list[str] = []
    for entry in asked:
        made = _from_app(entry)
        problem = _problem(made, grpc=grpc)
        if problem is not None:
            ignored.append(f"the app's subscription to {entry.pubsub_name}/{entry.topic}: {problem}")
        else:
            found[made.key] = made
    for resource in declared:
        if resource.namespace != app.namespace or (resource.scopes and app.app_id not in resource.scopes):
            continue
        made = _from_resource(resource)
        problem = _problem(made, grpc=grpc)
        if problem is not None:
            ignored.append(f"{resource.origin}: Subscription {resource.name}: {problem}")
        else:
            found.setdefault(made.key, made)
    return MergedSubscriptions(tuple(found.values()), tuple(ignored))


def _problem(subscription: TopicSubscription, *, grpc: bool) -> str | None:
    if not subscription.pubsub:
        return "names no pubsub"
    if not subscription.topic:
        return "names no topic"
    if not subscription.routes and not grpc:
        return "has no route"
    return None


def _from_app(entry: AskedSubscription) -> TopicSubscription:
    bulk = None
    if entry.bulk_enabled:
        bulk = Bulk(
            entry.bulk_max_messages or DEFAULT_BULK_MESSAGES,
            entry.bulk_max_await_ms / 1000 if entry.bulk_max_await_ms else DEFAULT_BULK_AWAIT,
        )
    return TopicSubscription(
        entry.pubsub_name,
        entry.topic,
        entry.rules,
        SubscriptionKind.PROGRAMMATIC,
        entry.metadata,
        entry.dead_letter_topic,
        bulk,
        "the app",
    )


def _from_resource(resource: Subscription) -> TopicSubscription:
    bulk = None
    if resource.bulk_subscribe.enabled:
        bulk = Bulk(resource.bulk_subscribe.max_messages_count, resource.bulk_subscribe.max_await_duration_ms / 1000)
    return TopicSubscription(
        resource.pubsub_name,
        resource.topic,
        tuple((rule.match, rule.path) for rule in resource.rules),
        SubscriptionKind.DECLARATIVE,
        resource.metadata,
        resource.dead_letter_topic,
        bulk,
        str(resource.origin),
    )
