"""Topic scopes: exactly Dapr's evaluation, for every app of a component that many share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dapr_shared.blocks.pubsub.topics import TopicScopes, consumer_group, scopes_of, topic_at_broker, topic_of_app
from dapr_shared.contracts.registry import Opened
from dapr_shared.core.ids import AppRef


def opened(**metadata: str) -> Opened:
    return Opened("ps", "pubsub.fake", "v1", "default", frozenset(), metadata, None)


@pytest.mark.parametrize(
    ("metadata", "app", "topic", "allowed"),
    [
        ({}, "a", "t", True),
        ({"allowedtopics": "t, u"}, "a", "t", True),
        ({"allowedtopics": "t, u"}, "a", "u", True),
        ({"allowedtopics": "t"}, "a", "v", False),
        ({"allowedtopics": " "}, "a", "t", False),
        ({"allowedtopics": ""}, "a", "t", True),
        ({"protectedtopics": "t"}, "a", "t", False),
        ({"protectedtopics": "t"}, "a", "u", True),
        ({"protectedtopics": "t", "scopes": "a=t"}, "a", "t", True),
        ({"protectedtopics": "t", "scopes": "a=u"}, "a", "t", False),
        ({"protectedtopics": "t", "scopes": "b=t"}, "a", "t", False),
        ({"scopes": "a=t"}, "a", "t", True),
        ({"scopes": "a=t"}, "a", "u", False),
        ({"scopes": "a=t"}, "b", "u", True),
        ({"scopes": " a = t , u ; b = v "}, "a", "u", True),
        ({"scopes": " a = t , u ; b = v "}, "b", "u", False),
        ({"scopes": "a="}, "a", "t", False),
        ({"scopes": "a"}, "a", "t", True),
        ({"scopes": "a=t;a=u"}, "a", "u", True),
        ({"scopes": "a=t=u"}, "a", "u", False),
        ({"scopes": "A=t"}, "a", "u", True),
        ({"scopes": "a=T"}, "a", "t", False),
        ({"allowedtopics": "u", "scopes": "a=t"}, "a", "t", False),
        ({"allowedtopics": "t", "protectedtopics": "t", "scopes": "a=t"}, "a", "t", True),
    ],
)
@pytest.mark.parametrize("kind", ["publishing", "subscription"])
def test_scopes(metadata: dict[str, str], app: str, topic: str, kind: str, *, allowed: bool) -> None:
    """Allowed topics first, then protected ones and the app's entry; an app without one is free."""
    given = {name if name != "scopes" else f"{kind}scopes": value for name, value in metadata.items()}
    scopes = scopes_of(opened(**given))
    assert (scopes.may_publish if kind == "publishing" else scopes.may_subscribe)(app, topic) is allowed


def test_publishing_and_subscribing_are_apart() -> None:
    """An entry for the one says nothing about the other."""
    scopes = scopes_of(opened(publishingscopes="a=t", subscriptionscopes="a=u"))
    assert [scopes.may_publish("a", "t"), scopes.may_publish("a", "u")] == [True, False]
    assert [scopes.may_subscribe("a", "t"), scopes.may_subscribe("a", "u")] == [False, True]


def test_scopes_are_read_once() -> None:
    """The same metadata gives the same object."""
    assert scopes_of(opened(allowedtopics="t")) is scopes_of(opened(allowedtopics="t"))
    assert scopes_of(opened()) == TopicScopes()


def test_topics_of_a_namespaced_component_have_a_prefix() -> None:
    """The namespace stands before the topic at the broker, without a separator, and apps never see it."""
    app = AppRef("a", "prod")
    plain, scoped = opened(), replace(opened(), namespace_scoped=True)
    assert topic_at_broker(plain, app, "t") == topic_of_app(plain, app, "t") == "t"
    assert topic_at_broker(scoped, app, "t") == "prodt"
    assert topic_of_app(scoped, app, "prodt") == "t"


@pytest.mark.parametrize(
    ("given", "marks", "groups"),
    [
        ({}, {}, ["a", "b"]),
        ({"consumerid": " "}, {}, ["a", "b"]),
        ({"consumerid": "g"}, {}, ["g-a", "g-b"]),
        ({"consumerid": " g "}, {"one_app": True}, ["g", "g"]),
        ({"consumerid": "g.a"}, {"naming_app": frozenset({"consumerid"})}, ["g.a", "g.a"]),
        ({"consumerid": "g"}, {"naming_app": frozenset({"url"})}, ["g-a", "g-b"]),
        ({}, {"one_app": True}, ["a", "b"]),
    ],
)
def test_consumer_groups(given, marks, groups):
    """A consumerID that several apps would share is kept apart by app id; what is one app's stays as it was given."""
    component = replace(opened(**given), **marks)
    assert [consumer_group(component, AppRef(name, "default")) for name in "ab"] == groups
