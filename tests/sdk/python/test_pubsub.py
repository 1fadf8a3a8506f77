"""Publish and subscribe by the official Python SDK: publish, bulk, streams, and its callback app; both gRPC engines."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from dapr.clients.grpc._response import TopicEventResponse
from dapr.ext.grpc import SubscriptionMessage  # noqa: TC002 - the SDK reads the annotation

from tests.support.apps import until
from tests.support.instance import Instance, app, component, free_ports, running, token_of
from tests.support.topic_apps import TopicApp, route, topic_app

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBSUB = "pubsub"


@dataclass
class Callbacks:
    """What the SDK's own callback app got: (handler, payload, attributes)."""

    got: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)

    def of(self, handler: str) -> list[Any]:
        """The payloads of one handler."""
        return [data for name, data, _ in list(self.got) if name == handler]


@dataclass
class Topics:
    """The instance, an HTTP subscriber and the SDK's callback app."""

    instance: Instance
    mail: TopicApp
    callbacks: Callbacks
    own_port: int
    """The gRPC listener of `reader`."""


def callback_app(callbacks: Callbacks) -> Any:
    """An app made with `dapr.ext.grpc.App`."""
    from dapr.ext.grpc import App, Rule

    made = App()

    def keep(handler: str, event: SubscriptionMessage) -> None:
        told = {"id": event.id(), "source": event.source(), "type": event.type(), "topic": event.topic()}
        callbacks.got.append((handler, event.data(), told))

    # Only so does the SDK name a default route; without one, Dapr drops what no rule matches.
    @made.subscribe(PUBSUB, "callback", dead_letter_topic="callback-dead", disable_topic_validation=True)
    def plain(event: SubscriptionMessage) -> TopicEventResponse:
        keep("plain", event)
        return TopicEventResponse("drop" if event.data() == {"n": "drop"} else "success")

    @made.subscribe(PUBSUB, "callback", dead_letter_topic="callback-dead", rule=Rule("event.data.n == 2", 1))
    def two(event: SubscriptionMessage) -> None:
        keep("two", event)

    @made.subscribe(PUBSUB, "callback-dead")
    def dead(event: SubscriptionMessage) -> None:
        keep("dead", event)

    return made


@pytest.fixture(scope="module", params=["http2", "aio"])
def topics(request, tmp_path_factory) -> Iterator[Topics]:
    """`shop` publishes; `mail` speaks HTTP, `callback` is the SDK's app, `reader` receives over streams."""
    folder = tmp_path_factory.mktemp(f"sdk-pubsub-{request.param}")
    callbacks, (port, own) = Callbacks(), free_ports(2)
    made = callback_app(callbacks)
    thread = threading.Thread(target=made.run, args=(port, "127.0.0.1"), name="callback app")
    thread.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(10)
        with topic_app(TopicApp([route("mail")])) as mail:
            resources = [
                app("shop"), app("mail", mail.port), app("callback", port, protocol="grpc"), app("reader", listeners={"grpcPort": own}),
                component(PUBSUB, "pubsub.in-memory", redeliverInterval="20ms"),
            ]  # fmt: skip
            with running(folder, f"--grpc-engine={request.param}", resources=resources) as instance:
                started = [("mail", 1), ("callback", 2)]
                for who, count in started:
                    until(lambda who=who, count=count: _active(instance, who) == count)
                yield Topics(instance, mail, callbacks, own)
    finally:
        made.stop()
        thread.join(10)


def _active(instance: Instance, who: str) -> int:
    listed = instance.ask("GET", "/v1.0/metadata", app=who).json().get("subscriptions", [])
    return len([found for found in listed if found["state"] == "active"])


@pytest.fixture
def act_as(topics, monkeypatch):
    """Says which app the clients that are made next are."""

    def act(app_id: str) -> None:
        monkeypatch.setenv("DAPR_HTTP_ENDPOINT", f"http://{topics.instance.http}")
        monkeypatch.setenv("DAPR_GRPC_ENDPOINT", topics.instance.grpc)
        monkeypatch.setenv("DAPR_API_TOKEN", token_of(app_id))
        monkeypatch.setenv("DAPR_HEALTH_TIMEOUT", "5")

    return act


@pytest.fixture
def shop(act_as):
    """A blocking client of `shop`."""
    from dapr.clients import DaprClient

    act_as("shop")
    with DaprClient() as client:
        yield client


@pytest.fixture
def reader(act_as, shop):
    """A blocking client of `reader`."""
    from dapr.clients import DaprClient

    act_as("reader")
    with DaprClient() as client:
        yield client


def make(client: Any, topic: str, *numbers: Any) -> None:
    """Publish JSON payloads."""
    for number in numbers:
        client.publish_event(PUBSUB, topic, json.dumps({"n": number}), data_content_type="application/json")


def test_publish_event(shop, topics):
    """JSON, text and metadata of one event, as an HTTP app gets them."""
    topics.mail.got.clear()
    make(shop, "mail", 1)
    shop.publish_event(PUBSUB, "mail", "text", publish_metadata={"cloudevent.type": "mine"})
    until(lambda: len(topics.mail.got) == 2)
    events = {json.dumps(event["data"]): event for _, event in topics.mail.got}
    assert events['{"n": 1}']["source"] == "shop"
    assert events['{"n": 1}']["datacontenttype"] == "application/json"
    assert events['"text"']["type"] == "mine"


def test_publish_events(shop, topics):
    """Bulk: plain payloads and entries of their own; none fails."""
    from dapr.clients.grpc._request import BulkPublishEntry

    topics.mail.got.clear()
    answer = shop.publish_events(PUBSUB, "mail", ["a", BulkPublishEntry("b", {"cloudevent.type": "mine"}, "text/plain")],
                                 data_content_type="text/plain")  # fmt: skip
    assert answer.failed_entries == []
    until(lambda: sorted(topics.mail.data()) == ["a", "b"])
    assert {event["data"]: event["type"] for _, event in topics.mail.got}["b"] == "mine"


async def test_the_asynchronous_client_publishes(act_as, topics):
    """One event and a bulk by the asynchronous client."""
    from dapr.aio.clients import DaprClient

    topics.mail.got.clear()
    act_as("shop")
    async with DaprClient() as client:
        await client.publish_event(PUBSUB, "mail", "a", data_content_type="text/plain")
        answer = await client.publish_events(PUBSUB, "mail", ["b", "c"], data_content_type="text/plain")
        assert answer.failed_entries == []
    async with asyncio.timeout(10):
        while sorted(topics.mail.data()) != ["a", "b", "c"]:  # noqa: ASYNC110 - filled by another thread
            await asyncio.sleep(0.01)


def test_a_topic_that_nobody_may_use(shop):
    """A pubsub that does not exist is an error of the SDK with our code."""
    with pytest.raises(Exception, match="pubsub") as refused:
        shop.publish_event("absent", "t", "x")
    assert "NOT_FOUND" in str(refused.value) or "not found" in str(refused.value)


def test_the_callback_app(shop, topics):
    """Handlers by topic and rule; what one drops goes to the dead-letter topic's handler."""
    topics.callbacks.got.clear()
    make(shop, "callback", 1, 2, "drop")
    until(lambda: len(topics.callbacks.got) == 4)
    assert sorted(str(data["n"]) for data in topics.callbacks.of("plain")) == ["1", "drop"]
    assert topics.callbacks.of("two") == [{"n": 2}]
    assert topics.callbacks.of("dead") == [{"n": "drop"}]
    told = next(told for name, _, told in topics.callbacks.got if name == "two")
    assert (told["source"], told["topic"], told["type"]) == ("shop", "callback", "com.dapr.event.sent")


def test_a_stream(shop, reader):
    """Messages come in order; success ends one, retry brings it again, drop does not."""
    subscription = reader.subscribe(PUBSUB, "stream")
    try:
        make(shop, "stream", 1, 2, 3)
        first, second, third = (subscription.next_message() for _ in range(3))
        assert [found.data()["n"] for found in (first, second, third)] == [1, 2, 3]
        assert (first.topic(), first.pubsub_name(), first.source()) == ("stream", PUBSUB, "shop")
        subscription.respond_success(first)
        subscription.respond_drop(second)
        subscription.respond_retry(third)
        again = subscription.next_message()
        assert again.data()["n"] == 3
        subscription.respond_success(again)
    finally:
        subscription.close()


def test_a_stream_with_a_handler(shop, reader):
    """The SDK's thread takes messages; what the handler drops is in the stream's dead-letter topic."""
    got: list[Any] = []
    dead: list[Any] = []

    def take(message: Any) -> TopicEventResponse:
        got.append(message.data()["n"])
        return TopicEventResponse("drop" if got[-1] == 2 else "success")

    def bury(message: Any) -> TopicEventResponse:
        dead.append(message.data()["n"])
        return TopicEventResponse("success")

    close_dead = reader.subscribe_with_handler(PUBSUB, "handled-dead", bury)
    close = reader.subscribe_with_handler(PUBSUB, "handled", take, dead_letter_topic="handled-dead")
    try:
        make(shop, "handled", 1, 2, 3)
        until(lambda: got == [1, 2, 3])
        until(lambda: dead == [2])
    finally:
        close()
        close_dead()


def test_what_a_closed_stream_left_goes_to_the_next(shop, reader):
    """An unanswered message of a closed stream comes to the app's next one."""
    first = reader.subscribe(PUBSUB, "left")
    make(shop, "left", 1)
    assert first.next_message().data() == {"n": 1}
    first.close()
    second = reader.subscribe(PUBSUB, "left")
    try:
        found = second.next_message()
        assert found.data() == {"n": 1}
        second.respond_success(found)
    finally:
        second.close()


async def test_an_asynchronous_stream(act_as, shop, topics):
    """Stream and handler of the asynchronous client.

    It sends no token on a stream (grpc.aio takes its interceptor for unary calls only), so the app has its own listener.
    """
    from dapr.aio.clients import DaprClient

    act_as("reader")
    got: list[Any] = []

    async def take(message: Any) -> TopicEventResponse:
        got.append(message.data()["n"])
        return TopicEventResponse("success")

    async with DaprClient(f"127.0.0.1:{topics.own_port}") as client, asyncio.timeout(10):
        subscription = await client.subscribe(PUBSUB, "aio")
        close = await client.subscribe_with_handler(PUBSUB, "aio-handled", take)
        await asyncio.to_thread(make, shop, "aio", 1)
        await asyncio.to_thread(make, shop, "aio-handled", 1, 2)
        found = await subscription.next_message()
        assert found.data() == {"n": 1}
        await subscription.respond_success(found)
        while got != [1, 2]:  # noqa: ASYNC110 - filled by the SDK's task
            await asyncio.sleep(0.01)
        await close()
        await subscription.close()
