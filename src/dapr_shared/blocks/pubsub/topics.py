"""Which app may publish and subscribe to which topic of a pubsub component, and what topics and groups are at the broker.

Both roads, step 4 (block). Facts: reference resources §1 (`{namespace}`) and §2 (topic scopes, `consumerID`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dapr_shared.contracts.registry import Opened
    from dapr_shared.core.ids import AppRef

_CONSUMER_ID = "consumerid"
_MOST_KNOWN = 1024
_KEYS = ("allowedtopics", "protectedtopics", "publishingscopes", "subscriptionscopes")


class TopicScopes(msgspec.Struct, frozen=True):
    """What a component's metadata says about topics, read once."""

    allowed: frozenset[str] = frozenset()
    """The only topics there are; empty: any."""
    protected: frozenset[str] = frozenset()
    """Topics that only apps with an entry for them may use."""
    publishing: Mapping[str, frozenset[str]] = {}
    """By app id; an app without an entry may publish to all that is not protected."""
    subscription: Mapping[str, frozenset[str]] = {}
    """The same for subscribing."""

    def may_publish(self, app_id: str, topic: str) -> bool:
        """Whether the app may publish to the topic, by the name without a namespace's prefix."""
        return self._may(self.publishing, app_id, topic)

    def may_subscribe(self, app_id: str, topic: str) -> bool:
        """Whether the app may subscribe to the topic, by the name without a namespace's prefix."""
        return self._may(self.subscription, app_id, topic)

    def _may(self, scopes: Mapping[str, frozenset[str]], app_id: str, topic: str) -> bool:
        if self.allowed and topic not in self.allowed:
            return False
        granted = scopes.get(app_id)
        if granted is None:
            return topic not in self.protected
        return topic in granted


class InternalTopics:
    """Topics that no app may publish to, subscribe to or dead-letter into: the outbox's own, of all apps.

    Dapr gives them plain names that anybody can work out. An app that subscribed to another's would read what it writes,
    before it is committed; one that published there could put its own data in place of it. Names are those at the broker,
    of any component: two components may lead to one broker.
    """

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()

    def replace(self, names: Iterable[str]) -> None:
        """Hold exactly these from now on."""
        self._names = frozenset(names)

    def hold(self, component: Opened[Any], app: AppRef, topic: str) -> bool:
        """Whether the topic of this app is one of them."""
        return bool(self._names) and topic_at_broker(component, app, topic) in self._names


_known: dict[int, tuple[Mapping[str, str], TopicScopes]] = {}
"""By the identity of an open component's metadata, which never changes and is kept, so that its id is no other's."""


def scopes_of(component: Opened[Any]) -> TopicScopes:
    """The topic scopes of an open component."""
    metadata = component.runtime_metadata
    known = _known.get(id(metadata))  # 9 calls fewer for each message than by its values
    if known is not None and known[0] is metadata:
        return known[1]
    scopes = _read(*(metadata.get(key, "") for key in _KEYS))
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[id(metadata)] = metadata, scopes
    return scopes


def topic_at_broker(component: Opened[Any], app: AppRef, topic: str) -> str:
    """The topic's name at the broker: prefixed, without a separator, where the component's metadata has `{namespace}`."""
    return app.namespace + topic if component.namespace_scoped else topic


def topic_of_app(component: Opened[Any], app: AppRef, topic: str) -> str:
    """The opposite of `topic_at_broker`: the name that the app knows."""
    return topic.removeprefix(app.namespace) if component.namespace_scoped else topic


def consumer_group(component: Opened[Any], app: AppRef) -> str:
    """The consumer group of an app: all its replicas, streams and instances share it, and no other app is in it.

    Without a `consumerID` it is the app id, as in Dapr. A `consumerID` holds as it is given where it is one app's: it
    names the app by a template, the component is scoped to one app, or the instance serves one. Else every app that
    sees the component would be in one group and take the others' messages, so the app id is added. Only what the
    resource says counts, not which apps are there: a group keeps its name while apps come and go (design §5.3).
    """
    given = component.runtime_metadata.get(_CONSUMER_ID, "").strip()
    if not given:
        return app.app_id
    if component.one_app or _CONSUMER_ID in component.naming_app:
        return given
    return f"{given}-{app.app_id}"


@lru_cache(maxsize=1024)
def _read(allowed: str, protected: str, publishing: str, subscription: str) -> TopicScopes:
    return TopicScopes(_topics(allowed), _topics(protected), _scopes(publishing), _scopes(subscription))


def _topics(text: str) -> frozenset[str]:
    # A text of nothing but blanks is one topic without a name, as in Dapr: it closes rather than opens.
    return frozenset(text.replace(" ", "").split(",")) if text else frozenset()


def _scopes(text: str) -> dict[str, frozenset[str]]:
    """`app1=topicA,topicB;app2=`; of two entries for one app both count, one without `=` does not."""
    found: dict[str, frozenset[str]] = {}
    for entry in text.replace(" ", "").split(";"):
        parts = entry.split("=")
        if len(parts) > 1:
            found[parts[0]] = found.get(parts[0], frozenset()) | frozenset(parts[1].split(","))
    return found
