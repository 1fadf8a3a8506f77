"""One app's subscriptions over its life: on a fake channel and the real in-memory broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dapr_shared.blocks.pubsub import app as app_module
from dapr_shared.channel.callbacks import AskedSubscription
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import AppUnreachableError
from dapr_shared.resources.model import Subscription, SubscriptionRule
from tests.support.pubsub_fakes import ORDERS, FakeHttpChannel, answer, until

ASKS = [{"pubsubname": "ps", "topic": "t", "route": "/t"}]
KEY = ("ps", "t")


def declared(topic: str = "t", pubsub: str = "ps", *, match: str = "", **fields) -> Subscription:
    """A declared subscription."""
    rules = (SubscriptionRule(path=f"/{topic}", match=match),)
    return Subscription(name=f"s-{topic}", pubsub_name=pubsub, topic=topic, rules=rules, **fields)


async def settle(app) -> None:
    await until(app.settled)


async def begin(app, channel, *resources, reachable=True) -> None:
    app.set(channel, resources, changed=False)
    if reachable:
        app.reachable_changed(reachable=True)
    await settle(app)


def ids(channel) -> list[str]:
    return [found["id"] for found in channel.events]


async def test_an_absent_app_has_its_declared_subscriptions(app, channel, publish):
    """The subscription of an app that was never seen runs, paused, with its reason and since when; messages wait."""
    await begin(app, channel, declared(), reachable=False)
    running = app.running[KEY]
    assert running.paused
    assert running.problem == "the app does not accept connections"
    assert running.since is not None
    await publish("1", "2")
    assert await running.broker.pending() == 2
    assert not channel.delivered
    app.reachable_changed(reachable=True)
    await until(lambda: sorted(ids(channel)) == ["1", "2"])
    assert (running.paused, running.problem, running.since) == (False, "", None)


async def test_an_app_without_a_channel_has_no_subscription(app, channel, publish):
    """An app that only calls leaves no group at the broker that nobody drains; with a channel it is subscribed."""
    await begin(app, None, declared())
    assert not app.running
    app.set(channel, [declared()], changed=True)
    await settle(app)
    await publish("1")
    await until(lambda: ids(channel) == ["1"])


async def test_an_app_goes_and_comes_back(app, channel, publish):
    """Messages of the time in between are delivered when it is back, once each."""
    channel.list = answer(ASKS)
    await begin(app, channel)
    await publish("1")
    await until(lambda: ids(channel) == ["1"])
    channel.present = False
    app.reachable_changed(reachable=False)
    await settle(app)
    await publish("2", "3")
    channel.present = True
    app.reachable_changed(reachable=True)
    await until(lambda: sorted(ids(channel)) == ["1", "2", "3"])
    assert channel.asked == 2


async def test_a_shared_consumer_id_keeps_apps_apart(app, channel, components, broker, publish, read):
    """With a consumerID that several apps see, each app has a group of its own; changed scopes move the subscription."""
    seen = []
    subscribe = broker.subscribe

    async def note(request, handler):
        seen.append(request.group)
        return await subscribe(request, handler)

    broker.subscribe = note
    components.opened["ps"] = replace(components.opened["ps"], runtime_metadata={"consumerid": "workers"})
    await begin(app, channel, declared())
    components.opened["ps"] = replace(components.opened["ps"], one_app=True)
    app.kick()
    await settle(app)
    app.kick()
    await settle(app)
    assert seen == ["workers-orders", "workers"]
    await publish("1")
    await until(lambda: ids(channel) == ["1"])


async def test_an_app_that_comes_back_with_another_list(app, channel, publish):
    """What it asks for no more ends, what is new begins, what stays is the same subscription; the answer is kept."""
    channel.list = answer([*ASKS, {"pubsubname": "ps", "topic": "old", "route": "/old"}])
    await begin(app, channel)
    kept = app.running[KEY].broker
    app.reachable_changed(reachable=False)
    channel.list = answer([*ASKS, {"pubsubname": "ps", "topic": "new", "route": "/new"}])
    app.reachable_changed(reachable=True)
    await until(lambda: set(app.running) == {KEY, ("ps", "new")})
    await settle(app)
    assert app.running[KEY].broker is kept
    assert [asked.topic for asked in app.memory.kept[ORDERS]] == ["t", "new"]
    await publish("1", topic="new")
    await until(lambda: channel.paths == ["new"])


async def test_a_changed_route_makes_a_new_subscription(app, channel, publish):
    """The same topic with another route: messages go there from now on."""
    channel.list = answer(ASKS)
    await begin(app, channel)
    channel.list = answer([{"pubsubname": "ps", "topic": "t", "route": "/other"}])
    app.refresh()
    await settle(app)
    await publish("1")
    await until(lambda: channel.paths == ["other"])


async def test_the_last_answer_outlives_the_instance(components, deliveries, events, clock, channel, app, publish):
    """A restarted instance has the subscriptions of a sleeping app from its memory."""
    app.memory.kept[ORDERS] = [AskedSubscription("ps", "t", (("", "/t"),))]
    restarted = app_module.AppSubscriptions(ORDERS, components, deliveries, app.memory, events, clock)
    await begin(restarted, channel, reachable=False)
    await publish("1")
    channel.list = answer(ASKS)
    restarted.reachable_changed(reachable=True)
    await until(lambda: ids(channel) == ["1"])
    assert app.memory.saved == 0
    await restarted.close(0)


@pytest.mark.parametrize("wrong", [answer(status=500), answer(b"garbage"), answer({}), answer([1]),
                                   answer([{"routes": {"rules": 7}}])], ids=lambda wrong: str(wrong.body))  # fmt: skip
async def test_a_wrong_list_leaves_the_last_good_one(app, channel, lines, wrong):
    """An app that answers its list with garbage keeps its subscriptions, and the log says so."""
    channel.list = answer(ASKS)
    await begin(app, channel)
    channel.list = wrong
    app.refresh()
    await settle(app)
    assert set(app.running) == {KEY}
    assert not app.running[KEY].paused
    assert lines.of("subscriptions not read")


async def test_an_app_that_cannot_be_asked_is_asked_again(app, channel, monkeypatch):
    """A call for the list that did not reach the app is repeated until it does."""
    app.upkeep.first = 0.02
    app.upkeep.hurry()
    channel.list = AppUnreachableError("refused")
    await begin(app, channel)
    before = channel.asked  # on a busy machine more than once
    assert before >= 1
    channel.list = answer(ASKS)
    await until(lambda: KEY in app.running)
    assert channel.asked > before


async def test_an_empty_list_ends_what_was_asked_before(app, channel):
    """404 is an answer: an app that wants nothing any more has no subscription."""
    channel.list = answer(ASKS)
    await begin(app, channel)
    channel.list = answer(status=404)
    app.refresh()
    await settle(app)
    assert not app.running


# Doubt ---------------------------------------------------------------------------------------------------------------
async def test_a_delivery_that_fails_while_the_app_is_there_changes_little(app, channel, publish):
    """A refused connection by an app that still listens: the message comes again, nothing stays paused."""
    await begin(app, channel, declared())
    failures = [AppUnreachableError("refused")]
    channel.reply = lambda _: failures.pop() if failures else b""
    await publish("1")
    await until(lambda: ids(channel) == ["1", "1"])
    await settle(app)
    assert not app.running[KEY].paused


async def test_a_delivery_that_finds_nobody_pauses(app, channel, publish, monkeypatch):
    """An app that is gone is paused at once and told to the watch; back before the watch looks, it is asked again."""
    monkeypatch.setattr(app_module, "DOUBT_CHECK", 0.02)
    suspected = []
    channel.on_unreachable = lambda: suspected.append(1)
    await begin(app, channel, declared())
    asked = channel.asked
    channel.present = False
    await publish("1")
    await until(lambda: app.running[KEY].paused)
    assert app.running[KEY].problem == "a call did not reach the app"
    assert suspected
    assert await app.running[KEY].broker.pending() == 1
    channel.present = True
    await until(lambda: ids(channel) == ["1"])
    assert channel.asked == asked + 1
    assert (await app.running[KEY].broker.pending()) == 0


async def test_an_absent_app_is_not_looked_at_again_and_again(app, channel, publish, monkeypatch):
    """Once the watch knows that the app is away, its doubted subscriptions cost no look of their own."""
    monkeypatch.setattr(app_module, "DOUBT_CHECK", 0.01)
    await begin(app, channel, declared())
    channel.present = False
    await publish("1")
    await until(lambda: app.running[KEY].paused)
    app.reachable_changed(reachable=False)
    await settle(app)
    app.doubt()  # a delivery that was still under way
    await settle(app)
    looked = channel.looked
    await asyncio.sleep(0.1)
    assert channel.looked <= looked + 1
    assert app.running[KEY].problem == "the app does not accept connections"


async def test_a_failing_health_check_pauses(app, channel, publish):
    """An app that is there but unhealthy gets nothing until it is healthy."""
    await begin(app, channel, declared())
    channel.healthy = False
    app.kick()
    await settle(app)
    assert app.running[KEY].problem == "the app's health check fails"
    await publish("1")
    assert not channel.delivered
    channel.healthy = True
    app.kick()
    await until(lambda: ids(channel) == ["1"])


# Components ----------------------------------------------------------------------------------------------------------
async def test_a_component_that_comes_later(app, channel, new_broker, publish):
    """A subscription waits for its component, says so, and starts when it is there."""
    await begin(app, channel, declared(pubsub="later"))
    running = app.running[("later", "t")]
    assert (running.broker, running.problem) == (None, "there is no pubsub component later in scope of the app")
    assert running.since is not None
    later = await new_broker("later")
    app.kick()
    await settle(app)
    await publish("1", at=later)
    await until(lambda: ids(channel) == ["1"])


async def test_a_component_that_is_replaced(app, channel, new_broker, publish, components):
    """A reloaded component is a new subscription on the new one; one that is gone is none."""
    await begin(app, channel, declared())
    new = await new_broker("ps")
    app.kick()
    await settle(app)
    await publish("1", at=new)
    await until(lambda: ids(channel) == ["1"])
    del components.opened["ps"]
    app.kick()
    await settle(app)
    assert app.running[KEY].broker is None
    assert "no pubsub component" in app.running[KEY].problem


async def test_a_broker_that_refuses_is_tried_again(app, channel, broker, monkeypatch):
    """A subscription that the broker does not take is told and repeated."""
    app.upkeep._delay = 0.02
    subscribe, failures, told = broker.subscribe, [BackendError("down")], []

    async def failing(request, handler):
        if failures:
            raise failures.pop()
        told.append(app.running[KEY].problem)  # here, as the second try comes by itself, at any time
        return await subscribe(request, handler)

    monkeypatch.setattr(broker, "subscribe", failing)
    await begin(app, channel, declared())
    await until(lambda: app.running[KEY].broker is not None and not app.running[KEY].problem)
    assert told == ["down"]


async def test_a_broker_that_fails_to_pause_is_tried_again(app, channel, monkeypatch, lines):
    """An exception of one look does not end the next ones."""
    app.upkeep._delay = 0.02
    await begin(app, channel, declared())
    member = app.running[KEY].broker
    failures = [BackendError("down")]
    pause = member.pause

    class Failing:
        def __getattr__(self, name):
            return getattr(member, name)

        async def pause(self):
            if failures:
                raise failures.pop()
            await pause()

    app.running[KEY].broker = Failing()
    app.upkeep._delay = 0.02
    app.reachable_changed(reachable=False)
    await until(lambda: app.running[KEY].paused)
    assert lines.of("defect")


async def test_a_rule_that_does_not_compile_fails_alone(app, channel):
    """The app's own wrong rule is a failed subscription with its reason; the others run."""
    wrong = {"pubsubname": "ps", "topic": "bad", "routes": {"rules": [{"match": "1 +", "path": "/x"}]}}
    channel.list = answer([wrong, *ASKS])
    await begin(app, channel)
    failed = app.running[("ps", "bad")]
    assert failed.broker is None
    assert "rule 1 (path '/x')" in failed.problem
    assert app.running[KEY].broker is not None


async def test_a_topic_outside_the_scope_fails_alone(app, channel, new_broker):
    """A topic that the component's scopes refuse is a failed subscription that names them."""
    await new_broker("ps", {"subscriptionscopes": "orders=t"})
    await begin(app, channel, declared(), declared("other"))
    assert "may not subscribe to topic other" in app.running[("ps", "other")].problem
    assert app.running[KEY].broker is not None


async def test_a_declared_subscription_of_another_app_is_none(app, channel):
    """Scopes and namespaces choose whose a declared subscription is."""
    await begin(app, channel, declared("a", scopes=("stock",)), declared("b", namespace="other"),
                declared("c", scopes=("orders", "stock")))  # fmt: skip
    assert set(app.running) == {("ps", "c")}


# Ends ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["refresh", "the app comes anew"])
async def test_stopped_by_the_shutdown_api(app, channel, publish, how):
    """Deliveries stop and messages wait, until a refresh or until the app is reachable anew."""
    await begin(app, channel, declared())
    app.stop_deliveries("stopped by the shutdown API")
    await settle(app)
    assert app.running[KEY].problem == "stopped by the shutdown API"
    await publish("1")
    assert not channel.delivered
    if how == "refresh":
        app.refresh()
    else:
        app.reachable_changed(reachable=False)
        await settle(app)
        assert app.running[KEY].problem == "stopped by the shutdown API"
        app.reachable_changed(reachable=True)
    await until(lambda: ids(channel) == ["1"])


async def test_close_waits_for_what_is_in_flight(app, channel, publish, broker):
    """A message with the app at the end is finished, not repeated; one that takes longer than the grace goes back."""
    gate = asyncio.Event()

    async def slow(_request):
        await gate.wait()
        return b""

    channel.reply = slow
    await begin(app, channel, declared())
    await publish("1")
    await until(lambda: channel.delivered)
    closing = asyncio.ensure_future(app.close(5))
    await asyncio.sleep(0.01)
    assert not closing.done()
    gate.set()
    await asyncio.wait_for(closing, 5)
    again = FakeHttpChannel()
    second = app_module.AppSubscriptions(ORDERS, app._components, app._deliveries, app.memory, app._events, app._clock)
    await begin(second, again, declared())
    await publish("2")
    await until(lambda: ids(again) == ["2"])
    again.reply = lambda _: asyncio.Event().wait()
    await publish("3")
    await until(lambda: ids(again) == ["2", "3"])
    await asyncio.wait_for(second.close(0), 5)
    third = app_module.AppSubscriptions(ORDERS, app._components, app._deliveries, app.memory, app._events, app._clock)
    last = FakeHttpChannel()
    await begin(third, last, declared())
    await until(lambda: ids(last) == ["3"])
    await third.close(0)


async def test_close_while_the_app_is_asked(app, channel):
    """An app that hangs over its list holds up no end, and nothing starts after it."""

    class Hanging(FakeHttpChannel):
        async def _send(self, request, timeout):  # noqa: ASYNC109
            self.asked += 1
            await asyncio.Event().wait()

    hanging = Hanging()
    app.set(hanging, [declared()], changed=False)
    app.reachable_changed(reachable=True)
    await until(lambda: hanging.asked)
    await asyncio.wait_for(app.close(0), 5)
    app.kick()
    assert app.upkeep._task is None
    assert not app.running


async def test_the_limit_of_the_app_bounds_what_is_with_it(app, publish):
    """An app that takes two calls at a time has two messages, and gets the rest one by one."""
    gate = asyncio.Event()

    async def slow(_request):
        await gate.wait()
        return b""

    channel = FakeHttpChannel(max_concurrency=2)
    await begin(app, channel, declared())
    channel.reply = slow
    await publish(*"12345")
    await until(lambda: len(channel.delivered) == 2)
    assert app.running[KEY].broker.in_flight == 2
    gate.set()
    await until(lambda: sorted(ids(channel)) == list("12345"))
