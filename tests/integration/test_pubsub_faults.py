"""Publish and subscribe through the real process when an app, a message, a rule or a file is not as it should be."""

from __future__ import annotations

import base64
import json
import threading
from signal import Signals
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared._proto import appcallback_pb, runtime_pb
from tests.support.apps import until
from tests.support.calls import DAPR, PATIENCE, call, grpc_channel
from tests.support.instance import StartError, app, component, free_ports, running, start, token_of, write_resources
from tests.support.topic_apps import GrpcTopicApp, TopicApp, grpc_topic_app, route, stream, topic_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.instance import Instance

MEMORY = component("pubsub", "pubsub.in-memory", redeliverInterval="20ms")
LIMIT = "--app-delivery-timeout=300ms"
JSON = [("content-type", "application/json")]
DROP = (200, {"status": "DROP"})
GOOD = (200, {"status": "SUCCESS"})


def publish(instance: Instance, *data: Any, topic: str = "orders", query: str = "") -> None:
    """Publish payloads of `shop` one after another; each must be taken."""
    for one in data:
        body = one if isinstance(one, bytes) else json.dumps(one).encode()
        answer = instance.ask("POST", f"/v1.0/publish/pubsub/{topic}{query}", body, app="shop", headers=JSON)
        assert answer.status == 204, answer.body


def listed(instance: Instance, who: str = "mail") -> list[dict[str, Any]]:
    """The app's subscriptions in the metadata API."""
    return instance.ask("GET", "/v1.0/metadata", app=who).json().get("subscriptions", [])


def all_active(instance: Instance) -> None:
    until(lambda: (found := listed(instance)) and all(one["state"] == "active" for one in found))


def nothing_pending(instance: Instance) -> None:
    until(lambda: all(one["pending"] == 0 for one in listed(instance)))


# Apps that answer what they should not -------------------------------------------------------------------------------
@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging apps wait for; open at the end of the test, so that they end."""
    made = threading.Event()
    yield made
    made.set()


def test_an_http_app_that_misbehaves(tmp_path, gate):
    """Hanging, answering late, closing in the middle and garbage each fail one delivery: it comes again, others go on.

    An answer that comes after its time is nobody's: it says DROP, and nothing is dropped.
    """
    late = threading.Event()
    first: dict[str, Any] = {
        "hangs": lambda: DROP if gate.wait(PATIENCE) else GOOD,
        "late": lambda: DROP if late.wait(PATIENCE) else GOOD,
        "closes": lambda: b"",
        "half a head": lambda: b"HTTP/1.1 200 OK\r\ncontent-le",
        "half a body": lambda: b'HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"status"',
        "garbage": lambda: b"\x00\xff not HTTP at all\r\n\r\n",
        "other status": lambda: (299, {"status": "what?"}),
        "error": lambda: (503, {}),
    }

    def reply(_path: str, event: Any) -> Any:
        misbehave = first.pop(event["data"], None)
        return misbehave() if misbehave is not None else GOOD

    names = list(first)
    mail = TopicApp([route("orders")], reply=reply)
    with topic_app(mail), running(tmp_path, LIMIT, resources=[app("shop"), app("mail", mail.port), MEMORY]) as instance:
        all_active(instance)
        publish(instance, *names)
        until(lambda: all(mail.data().count(name) == 2 for name in names))
        late.set()
        publish(instance, *range(20))
        until(lambda: sorted(one for one in mail.data() if isinstance(one, int)) == list(range(20)))
        nothing_pending(instance)
        assert all(mail.data().count(name) == 2 for name in names)
        assert instance.metric("dapr_component_pubsub_ingress_count", process_status="drop") == 0


def test_a_grpc_app_that_misbehaves(tmp_path, gate):
    """The same over gRPC: hanging and garbage fail one delivery; a late answer is nobody's."""
    late = threading.Event()
    drop = appcallback_pb.TopicEventResponse(status=2).SerializeToString()
    first: dict[str, Any] = {
        "hangs": lambda: drop if gate.wait(PATIENCE) else b"",
        "late": lambda: drop if late.wait(PATIENCE) else b"",
        "garbage": lambda: b"\xff\xff garbage",
        "unknown": lambda: appcallback_pb.TopicEventResponse(status=9).SerializeToString(),
    }

    def reply(event: Any) -> bytes | None:
        misbehave = first.pop(json.loads(event.data), None)
        return misbehave() if misbehave is not None else None

    names = list(first)
    mail = GrpcTopicApp([("orders", "")], reply=reply)

    def data() -> list[Any]:
        return [json.loads(event.data) for event in list(mail.got)]

    with grpc_topic_app(mail):
        resources = [app("shop"), app("mail", mail.port, protocol="grpc"), MEMORY]
        with running(tmp_path, LIMIT, resources=resources) as instance:
            all_active(instance)
            publish(instance, *names)
            until(lambda: all(data().count(name) == 2 for name in names))
            late.set()
            publish(instance, "after")
            until(lambda: "after" in data())
            nothing_pending(instance)
            assert len(data()) == 2 * len(names) + 1
        gate.set()


def test_a_grpc_app_that_breaks_off(tmp_path, gate):
    """A gRPC app that goes in the middle of a delivery gets the message again when it is back."""
    (port,) = free_ports(1)
    mail = GrpcTopicApp([("orders", "")], reply=lambda _event: b"" if gate.wait(PATIENCE) else None)
    with running(tmp_path, resources=[app("shop"), app("mail", port, protocol="grpc"), MEMORY]) as instance:
        with grpc_topic_app(mail, port):
            all_active(instance)
            publish(instance, "kept")
            until(lambda: mail.got)
            threading.Timer(0.2, gate.set).start()  # the handler itself ends when its connection has
        second = GrpcTopicApp([("orders", "")])
        with grpc_topic_app(second, port):
            until(lambda: second.got)
            assert [json.loads(event.data) for event in second.got] == ["kept"]
            nothing_pending(instance)


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_a_stream_that_does_not_reply(tmp_path, engine):
    """An event without a reply in time fails and comes again on the same stream."""
    resources = [app("shop"), app("mail"), MEMORY]
    with (
        running(tmp_path, LIMIT, f"--grpc-engine={engine}", resources=resources) as instance,
        stream(instance.grpc, "mail", "orders", status=None) as silent,
    ):
        publish(instance, "a")
        until(lambda: silent.data() == ["a", "a"])
        silent.status = 0
        publish(instance, "b")
        nothing_pending(instance)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_app_whose_health_check_fails(tmp_path, protocol):
    """Its subscriptions pause with the reason, its messages wait uncounted, and come once each when it is well again."""
    if protocol == "http":
        mail: Any = TopicApp([route("orders")])
        serving: Any = topic_app(mail)
    else:
        mail = GrpcTopicApp([("orders", "")])
        serving = grpc_topic_app(mail)
    with serving:
        check = {"enabled": True, "intervalSeconds": 1, "timeoutMs": 500, "threshold": 1}
        resources = [app("shop"), app("mail", mail.port, protocol=protocol, channel={"healthCheck": check}), MEMORY]
        with running(tmp_path, resources=resources) as instance:
            all_active(instance)
            mail.healthy = False
            until(lambda: listed(instance)[0]["state"] == "paused")
            assert listed(instance)[0]["reason"] == "the app's health check fails"
            publish(instance, 1, 2)
            assert (listed(instance)[0]["pending"], len(mail.got)) == (2, 0)
            mail.healthy = True
            until(lambda: len(mail.got) == 2)
            nothing_pending(instance)
            assert instance.metric("dapr_component_pubsub_ingress_count", process_status="retry") == 0


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_sigterm_lets_a_stream_reply(tmp_path, engine):
    """While the instance ends, events with a stream may still be answered; what is not begun waits for the next one."""
    resources = [app("shop"), app("mail")]
    flags = (f"--grpc-engine={engine}", "--data-dir", str(tmp_path / "data"))
    with running(tmp_path / "one", *flags, resources=resources) as instance:
        with stream(instance.grpc, "mail", "orders", status=None) as slow:
            publish(instance, "in hand")
            until(lambda: slow.got)
            instance.signal(Signals.SIGTERM)
            instance.wait_for_line("subscription stopped")
            slow.reply(slow.got[0].id)
            until(lambda: slow.error)
            assert slow.error.code().name == "UNAVAILABLE"
        assert instance.wait() == 0
    with running(tmp_path / "two", *flags, resources=resources) as instance:
        publish(instance, "next")
        with stream(instance.grpc, "mail", "orders") as after:
            until(lambda: after.got)
            nothing_pending(instance)
            assert after.data() == ["next"]


# Messages and rules --------------------------------------------------------------------------------------------------
def test_messages_that_are_no_events_and_rules_that_fail(tmp_path):
    """What is no JSON, and an event that a rule fails for, go to the dead-letter topic as they were; others are delivered."""
    rules = {"rules": [{"match": "event.data.amount > 10", "path": "/many"}], "default": "/few"}
    wants = [
        {"pubsubname": "pubsub", "topic": "orders", "routes": rules, "deadLetterTopic": "dead"},
        route("dead", metadata={"rawPayload": "true"}),
    ]
    mail = TopicApp(wants)

    def raw(event: Any) -> bytes:
        return base64.b64decode(event["data_base64"])

    with topic_app(mail), running(tmp_path, resources=[app("shop"), app("mail", mail.port), MEMORY]) as instance:
        all_active(instance)
        publish(instance, b"no json \xff", query="?metadata.rawPayload=true")
        publish(instance, {"amount": 11}, {"amount": 1}, {"other": 1})
        until(lambda: len(mail.got) == 4)
        found = {path: [event for where, event in mail.got if where == path] for path in ("/many", "/few", "/dead")}
        assert [[event["data"] for event in found[path]] for path in ("/many", "/few")] == [
            [{"amount": 11}],
            [{"amount": 1}],
        ]
        letters = [raw(event) for event in found["/dead"]]
        assert b"no json \xff" in letters
        assert [json.loads(one)["data"] for one in letters if one.startswith(b"{")] == [{"other": 1}]
        nothing_pending(instance)


def test_topics_outside_the_scope_over_grpc(tmp_path):
    """Publishing to a topic outside the scope is PERMISSION_DENIED, one by one and in bulk; in scope it is done."""
    scoped = component("pubsub", "pubsub.in-memory", publishingScopes="shop=orders")
    with (
        running(tmp_path, resources=[app("shop"), scoped]) as instance,
        grpc_channel(instance.grpc) as channel,
    ):
        token = (("dapr-api-token", token_of("shop")),)
        for topic, code in (("orders", "OK"), ("other", "PERMISSION_DENIED")):
            one = runtime_pb.PublishEventRequest(pubsub_name="pubsub", topic=topic, data=b"1")
            assert call(channel, DAPR + "PublishEvent", one, token).code.name == code
            many = runtime_pb.BulkPublishRequest(pubsub_name="pubsub", topic=topic)
            many.entries.add(entry_id="1", event=b"1", content_type="text/plain")
            assert call(channel, DAPR + "BulkPublishEvent", many, token).code.name == code


# Consumer groups -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["pubsub.in-memory", "pubsub.sqlite"])
def test_a_consumer_id_keeps_apps_apart(tmp_path, kind):
    """With a consumerID that several apps see, each app gets every message, and the streams of one app still share."""
    file = {"connectionString": str(tmp_path / "b.db")} if kind == "pubsub.sqlite" else {}
    shared = component("pubsub", kind, consumerID="workers", **file)
    mail, stock = TopicApp([route("orders")]), TopicApp([route("orders")])
    with topic_app(mail), topic_app(stock):
        resources = [app("shop"), app("mail", mail.port), app("stock", stock.port), app("reader"), shared]
        with (
            running(tmp_path, resources=resources) as instance,
            stream(instance.grpc, "reader", "orders") as one,
            stream(instance.grpc, "reader", "orders") as two,
        ):
            all_active(instance)
            until(lambda: [found["state"] for found in listed(instance, "stock")] == ["active"])
            publish(instance, *range(20))
            until(lambda: sorted(mail.data()) == sorted(stock.data()) == list(range(20)))
            until(lambda: sorted(one.data() + two.data()) == list(range(20)))


def test_two_components_that_put_two_apps_into_one_group(tmp_path):
    """Two components, each scoped to one app, with one consumerID at one broker are refused, naming both files."""
    file = str(tmp_path / "b.db")
    made = [
        component(name, "pubsub.sqlite", scopes=[who], consumerID="g", connectionString=file)
        for name, who in (("one", "mail"), ("two", "stock"))
    ]
    with pytest.raises(StartError) as refused:
        start(tmp_path, resources=[app("mail"), app("stock"), *made])
    assert "consumerID g is that of app mail" in refused.value.log


# Streams in the metadata and the metrics -----------------------------------------------------------------------------
@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_streams_are_told(tmp_path, engine):
    """The metadata of an app lists its open streams with the type STREAMING, over HTTP and gRPC; the metric counts them."""
    with running(tmp_path, f"--grpc-engine={engine}", resources=[app("shop"), app("mail"), MEMORY]) as instance:
        with stream(instance.grpc, "mail", "orders", status=None) as silent, grpc_channel(instance.grpc) as channel:
            publish(instance, 1)
            until(lambda: silent.got)
            (found,) = listed(instance)
            assert (found["type"], found["topic"], found["state"], found["pending"]) == (
                "STREAMING",
                "orders",
                "active",
                1,
            )
            token = (("dapr-api-token", token_of("mail")),)
            answer = call(channel, DAPR + "GetMetadata", runtime_pb.GetMetadataRequest(), token)
            (told,) = runtime_pb.GetMetadataResponse.FromString(answer.data).subscriptions
            assert (told.topic, told.type) == ("orders", runtime_pb.PubsubSubscriptionType.Value("STREAMING"))
            assert listed(instance, "shop") == []
            assert instance.metric("dapr_shared_subscriptions", app_id="mail", state="active") == 1
        until(lambda: listed(instance) == [])
        assert instance.metric("dapr_shared_subscriptions", app_id="mail", state="active") == 0


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_a_reload_ends_streams_of_a_changed_component(tmp_path, engine):
    """The stream ends with UNAVAILABLE, so that the client opens it anew; a reload of other things leaves it alone."""
    with running(tmp_path, f"--grpc-engine={engine}", resources=[app("shop"), app("mail"), MEMORY]) as instance:

        def reload(*resources: Any) -> None:
            lines = len(instance.log())
            write_resources(tmp_path / "resources" / "all.yaml", resources)
            instance.wait_for_line("resources reloaded", after=lines)

        with stream(instance.grpc, "mail", "orders") as first:
            reload(app("shop"), app("mail"), app("more"), MEMORY)
            publish(instance, "still")
            until(lambda: first.data() == ["still"])
            other = component("pubsub", "pubsub.in-memory", redeliverInterval="30ms")
            reload(app("shop"), app("mail"), app("more"), other)
            error = until(lambda: first.error)
            assert error.code().name == "UNAVAILABLE"
        with stream(instance.grpc, "mail", "orders") as second:
            publish(instance, 1)
            until(lambda: second.data() == [1])


# Files ---------------------------------------------------------------------------------------------------------------
def test_a_damaged_file_is_refused(tmp_path):
    """An instance whose broker's file is no database ends with an error that names it, and leaves it."""
    file = tmp_path / "b.db"
    file.write_bytes(b"this was a broker once" * 500)
    before = file.read_bytes()
    with pytest.raises(StartError) as refused:
        start(tmp_path, resources=[app("shop"), component("pubsub", "pubsub.sqlite", connectionString=str(file))])
    assert "b.db" in refused.value.log
    assert file.read_bytes() == before


def test_a_broker_that_is_full(tmp_path):
    """Past maxSize publishing is refused and says so, over HTTP and gRPC; when the app has taken its messages it goes on."""
    broker = component("pubsub", "pubsub.sqlite", connectionString=str(tmp_path / "b.db"), maxSize="4Ki")
    (port,) = free_ports(1)
    with running(tmp_path, resources=[app("shop"), app("mail", port), broker]) as instance:
        with topic_app(TopicApp([route("orders")]), port):
            all_active(instance)
        taken = 0
        while True:
            body = json.dumps("x" * 500).encode()
            answer = instance.ask("POST", "/v1.0/publish/pubsub/orders", body, app="shop", headers=JSON)
            if answer.status != 204:
                break
            taken += 1
        assert (answer.status, answer.code) == (500, "ERR_PUBSUB_PUBLISH_MESSAGE")
        assert "maxSize" in answer.body.decode()
        with grpc_channel(instance.grpc) as channel:
            one = runtime_pb.PublishEventRequest(pubsub_name="pubsub", topic="orders", data=body)
            refused = call(channel, DAPR + "PublishEvent", one, (("dapr-api-token", token_of("shop")),))
            assert refused.code.name == "INTERNAL"
        with topic_app(TopicApp([route("orders")]), port) as back:
            until(lambda: len(back.got) == taken)
            nothing_pending(instance)
            publish(instance, "more")
            until(lambda: "more" in back.data())
