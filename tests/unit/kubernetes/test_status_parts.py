from __future__ import annotations

import msgspec
import pytest

from dapr_shared.kubernetes.status import AppReport, SubscriptionReport, status_of, turns
from dapr_shared.kubernetes.status_parts import LONGEST_ERROR, MOST_BYTES, AppPart, decode, encode, joined, part_of

READY = AppReport(ready=True, reason="Reachable", message="the app accepts connections", address="http://tea:80")
AWAY = READY._replace(ready=False, reason="NotReachable", message="the app does not accept connections")
STREAM = SubscriptionReport("broker", "orders", "active")
DECLARED = SubscriptionReport("broker", "stock", "paused", declared=True)
NOW = "2026-01-01T00:00:00Z"
APP = {"metadata": {"name": "tea", "namespace": "shop", "uid": "u", "generation": 1}}


def test_what_an_instance_tells():
    """A part has what resources do not say: whether the app can be called, its streams, what has failed."""
    failed = SubscriptionReport("broker", "stock", "failed", "no such topic", declared=True)
    assert part_of(READY) == AppPart(reached=True)
    assert part_of(AWAY._replace(subscriptions=(STREAM, DECLARED))) == AppPart(subscriptions=(STREAM,))
    assert part_of(AWAY._replace(subscriptions=(failed,))) == AppPart(error="broker/stock: no such topic")
    assert part_of(AWAY._replace(problem="no port")) == AppPart(error="no port")
    silent = AppReport(ready=True, reason="NoChannel", message="the app calls, and is not called")
    assert part_of(silent) == AppPart(), "that an app is never called is known to all"


def test_there_and_back():
    """A text gives the part that it was made of; apps of which there is nothing to say cost nothing."""
    parts = {
        ("shop", "tea"): AppPart(reached=True, error="x", subscriptions=(STREAM,), more=2),
        ("shop", "coffee"): AppPart(reached=True),
        ("other", "tea"): AppPart(subscriptions=(STREAM._replace(topic='"\n ü'),)),
        ("other", "away"): AppPart(),
    }
    text, left_out = encode(parts)
    del parts["other", "away"]
    assert (decode(text), left_out) == (parts, 0)
    assert "away" not in text
    assert encode({("shop", "away"): AppPart()}) == ("", 0)


def test_another_version():
    """What a newer version says more is passed over; what is no part is an error, also when it is too long."""
    text = '{"new":1,"apps":{"shop":{"tea":{"r":true,"x":[1],"s":[["b","t","active"],["b","u","unheard"]]}}}}'
    part = AppPart(reached=True, subscriptions=(SubscriptionReport("b", "t", "active"),))
    assert decode(text) == {("shop", "tea"): part}
    assert decode("{}") == {}
    for spoilt in ("", "[]", '{"apps":{"shop":{"tea":{"s":[[1]]}}}}', "{" + " " * MOST_BYTES + "}"):
        with pytest.raises(ValueError, match=r".+"):
            decode(spoilt)


def test_the_bound():
    """Many apps with many streams stay below the bound: first fewer subscriptions an app, then fewer apps, both counted."""
    streams = tuple(SubscriptionReport("broker", f"topic-{number}", "active") for number in range(150))
    one = {("shop", "tea"): AppPart(subscriptions=streams)}
    (found,) = decode(encode(one)[0]).values()
    assert (len(found.subscriptions), found.more) == (100, 50)
    many = {("shop", f"app-{number}"): AppPart(reached=True, subscriptions=streams) for number in range(1000)}
    text, left_out = encode(many)
    found = decode(text)
    assert (len(found), left_out) == (1000, 0)
    assert {(len(part.subscriptions), part.more) for part in found.values()} == {(1, 149)}
    more = {("shop", f"app-{number:05}"): AppPart(reached=True, subscriptions=streams) for number in range(5000)}
    more["shop", "zz-wrong"] = AppPart(error="é" * 5000)
    text, left_out = encode(more)
    assert MOST_BYTES * 0.9 < len(text.encode()) <= MOST_BYTES
    found = decode(text)
    assert left_out == 5001 - len(found) == msgspec.json.decode(text)["more"]
    assert found["shop", "zz-wrong"].error == "é" * LONGEST_ERROR, "errors come first"
    assert encode(dict(reversed(more.items()))) == (text, left_out), "the same apps are left out each time"


def test_an_app_that_another_instance_reaches():
    """An app is ready where any instance can call it, and the status says which; the holder's own view comes first."""
    others = [("pod-c", AppPart(reached=True)), ("pod-b", AppPart(reached=True)), ("pod-a", AppPart())]
    report = joined(AWAY, others)
    assert (report.ready, report.reason, report.address) == (True, "Reachable", AWAY.address)
    assert report.message == "the app accepts connections of pod-b"
    assert joined(READY, others) == READY
    assert joined(AWAY, [("pod-a", AppPart())]) == AWAY


def test_streams_of_other_instances():
    """Subscriptions of all instances are listed once each; an active one is active, and none depends on who writes."""
    here = AWAY._replace(subscriptions=(DECLARED, STREAM._replace(state="paused")))
    there = AppPart(subscriptions=(STREAM, SubscriptionReport("broker", "beans", "active")), more=7)
    report = joined(here, [("pod-b", there), ("pod-c", AppPart(more=3))])
    assert [(each.topic, each.state) for each in report.subscriptions] == [
        ("beans", "active"), ("orders", "active"), ("stock", "paused"),
    ]  # fmt: skip
    assert status_of(report, APP, NOW)["subscriptionCount"] == 3 + 7
    assert joined(AWAY._replace(subscriptions=(STREAM,)), []).subscriptions == (STREAM,)


def test_errors_of_other_instances():
    """What is wrong at another instance is the last error where nothing is wrong here, with its pod, and an Event."""
    wrong = [("pod-c", AppPart(error="no port")), ("pod-b", AppPart(error="no such topic"))]
    status = status_of(joined(READY, wrong), APP, NOW)
    assert status["lastError"] == "at pod-b: no such topic"
    assert status["conditions"][0]["status"] == "True", "it is in force here"
    found = turns({**APP, "status": status_of(READY, APP, NOW)}, status, joined(READY, wrong).elsewhere)
    assert [(turn.reason, turn.message) for turn in found] == [("FailedElsewhere", status["lastError"])]
    own = READY._replace(problem="refused")
    assert status_of(joined(own, wrong), APP, NOW)["lastError"] == "refused"


def test_memory_of_many_apps():
    """What many instances say of an app is one object."""
    text, shared = encode({("shop", "tea"): AppPart(reached=True, subscriptions=(STREAM,))})[0], {}
    first, second = decode(text, shared), decode(text, shared)
    assert first["shop", "tea"] is second["shop", "tea"]
