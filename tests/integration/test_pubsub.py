"""Publish and subscribe through the real process, with apps that come, go, crash and move."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import recording_app
from tests.support.apps import until
from tests.support.instance import StartError, app, component, free_ports, run_to_end, running, start, write_resources
from tests.support.topic_apps import GrpcTopicApp, TopicApp, grpc_topic_app, route, stream, topic_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.instance import Instance

MEMORY = component("pubsub", "pubsub.in-memory", redeliverInterval="50ms")
BROKER = pytest.mark.parametrize("broker", [[], [MEMORY]], ids=["sqlite", "memory"])
"""The embedded default, which is durable, and the bus in memory."""
JSON = [("content-type", "application/json")]


def publish(instance: Instance, *data: Any, topic: str = "orders", who: str = "shop", pubsub: str = "pubsub") -> None:
    """Publish payloads one after another; each must be taken."""
    for one in data:
        answer = instance.ask(
            "POST", f"/v1.0/publish/{pubsub}/{topic}", json.dumps(one).encode(), app=who, headers=JSON
        )
        assert answer.status == 204, answer.body


def subscriptions(instance: Instance, who: str) -> dict[str, dict[str, Any]]:
    """The app's subscriptions in the metadata API, by topic."""
    listed = instance.ask("GET", "/v1.0/metadata", app=who).json().get("subscriptions", [])
    return {found["topic"]: found for found in listed}


def state(instance: Instance, who: str, topic: str = "orders") -> str:
    """`active`, `paused`, `failed`, or empty where there is none."""
    return subscriptions(instance, who).get(topic, {}).get("state", "")


def active(instance: Instance, who: str, topic: str = "orders") -> None:
    until(lambda: state(instance, who, topic) == "active")


def paused(instance: Instance, who: str, topic: str = "orders") -> None:
    until(lambda: state(instance, who, topic) == "paused")


def declared(name: str, topic: str, *, version: str = "v2alpha1", scopes: Any = (), **spec: Any) -> dict[str, Any]:
    """A Subscription resource."""
    routes = {"route": f"/{topic}"} if version == "v1alpha1" else {"routes": {"default": f"/{topic}"}}
    made = {
        "apiVersion": f"dapr.io/{version}",
        "kind": "Subscription",
        "metadata": {"name": name},
        "spec": {"pubsubname": "pubsub", "topic": topic, **routes, **spec},
    }
    return {**made, "scopes": list(scopes)} if scopes else made


def files(instance: Instance) -> Path:
    """The resource file."""
    return instance.folder / "resources" / "all.yaml"


def reload(instance: Instance, *resources: Any) -> None:
    """Put other resources in force."""
    lines = len(instance.log())
    write_resources(files(instance), resources)
    instance.wait_for_line("resources reloaded", after=lines)


# Apps that come and go -----------------------------------------------------------------------------------------------
@BROKER
def test_an_app_that_starts_after_its_messages(tmp_path, broker):
    """A subscription that is declared collects messages before its app was ever there: it gets all, once, in order."""
    (port,) = free_ports(1)
    mail = [app("mail", port, channel={"maxConcurrency": 1}), app("shop"), *broker, declared("s", "orders")]
    with running(tmp_path, resources=mail) as instance:
        paused(instance, "mail")
        publish(instance, *range(20))
        waiting = subscriptions(instance, "mail")["orders"]
        assert waiting["reason"] == "the app does not accept connections"
        assert waiting["pending"] == 20
        assert waiting["since"]
        assert (waiting["type"], waiting["rules"]) == ("DECLARATIVE", [{"path": "/orders"}])
        with topic_app(TopicApp(), port) as late:
            until(lambda: len(late.got) == 20)
            assert late.data() == list(range(20))
            active(instance, "mail")
            until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)
            assert "reason" not in subscriptions(instance, "mail")["orders"]


def test_a_group_that_is_new_begins_at_the_oldest_message(tmp_path):
    """With the embedded broker, an app that nobody knew when the messages were published gets them all."""
    (port,) = free_ports(1)
    with running(tmp_path, resources=[app("shop"), app("mail", port)]) as instance:
        publish(instance, "first", "second")
        with topic_app(TopicApp([route("orders")]), port) as late:
            until(lambda: sorted(late.data()) == ["first", "second"])


@BROKER
def test_an_app_that_stops_and_starts(tmp_path, broker):
    """While it is away its messages wait, uncounted; back, it is asked anew and gets each once."""
    (port,) = free_ports(1)
    mail = TopicApp([route("orders")])
    with running(tmp_path, resources=[app("shop"), app("mail", port), *broker]) as instance:
        with topic_app(mail, port):
            active(instance, "mail")
            publish(instance, 1)
            until(lambda: mail.data() == [1])
        publish(instance, 2, 3)
        paused(instance, "mail")
        assert mail.data() == [1]
        with topic_app(mail, port):
            until(lambda: sorted(mail.data()) == [1, 2, 3])
            until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)
            assert mail.asked == 2
        assert instance.metric("dapr_component_pubsub_ingress_count", app_id="mail", process_status="retry") == 0


@BROKER
def test_an_app_that_is_killed_while_it_works(tmp_path, broker):
    """The message that it held comes again when it is back, and is not counted as its failure."""
    (port,) = free_ports(1)
    mail = TopicApp([route("orders", deadLetterTopic="dead"), route("dead")])
    with running(tmp_path, resources=[app("shop"), app("mail", port), *broker]) as instance:
        with topic_app(mail, port):
            active(instance, "mail")
            mail.gate.clear()
            publish(instance, "held")
            until(lambda: mail.data("/orders") == ["held"])
        paused(instance, "mail")
        with topic_app(mail, port):
            until(lambda: mail.data("/orders") == ["held", "held"])
            until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)
        assert mail.data("/dead") == []


def test_an_app_that_moves_to_another_port(tmp_path):
    """A changed App resource takes effect at once: deliveries go on at the new port."""
    mail, shop = TopicApp([route("orders")]), app("shop")
    with topic_app(mail) as first, running(tmp_path, resources=[shop, app("mail", first.port)]) as instance:
        active(instance, "mail")
        publish(instance, 1)
        until(lambda: mail.data() == [1])
        moved = TopicApp([route("orders")])
        with topic_app(moved):
            reload(instance, shop, app("mail", moved.port))
            until(lambda: moved.asked)
            publish(instance, 2)
            until(lambda: moved.data() == [2])
            assert mail.data() == [1]


def test_an_instance_restarted_while_the_app_sleeps(tmp_path):
    """It remembers what the app asked for: messages from before and after the restart come when the app wakes."""
    (port,) = free_ports(1)
    resources = [app("shop"), app("mail", port)]
    mail = TopicApp([route("orders")])
    with running(tmp_path, resources=resources) as instance:
        with topic_app(mail, port):
            active(instance, "mail")
        publish(instance, "before")
        paused(instance, "mail")
    with running(tmp_path, resources=resources) as instance:
        asleep = subscriptions(instance, "mail")["orders"]
        assert (asleep["state"], asleep["type"], asleep["pending"]) == ("paused", "PROGRAMMATIC", 1)
        publish(instance, "after")
        assert mail.got == []
        with topic_app(mail, port):
            until(lambda: sorted(mail.data()) == ["after", "before"])


def test_sigterm_with_messages_in_flight_loses_none(tmp_path):
    """What the app works on is finished, what it has not begun waits for the next instance; nothing comes twice."""
    (port,) = free_ports(1)
    resources = [app("shop"), app("mail", port, channel={"maxConcurrency": 2})]
    mail = TopicApp([route("orders")])
    with topic_app(mail, port):
        first = start(tmp_path, resources=resources)
        active(first, "mail")
        mail.gate.clear()
        publish(first, *range(10))
        until(lambda: len(mail.got) == 2)
        first.process.terminate()
        first.wait_for_line("stopping")
        mail.gate.set()
        first.wait()
        first.close()
        with running(tmp_path, resources=resources):
            until(lambda: len(mail.got) >= 10)
        assert sorted(mail.data()) == list(range(10))


@contextmanager
def recording(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """A subscriber as a process of its own, which is killed at the end."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, recording_app.__file__, str(port), str(folder)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_processes_kill_9(tmp_path):
    """The instance and the app die by SIGKILL with messages under way; each message that was taken is accepted."""
    (port,) = free_ports(1)
    resources = [app("shop"), app("mail", port)]
    accepted = tmp_path / "app" / "accepted"
    topic = recording_app.TOPICS[0]
    with recording(tmp_path / "app", port):
        first = start(tmp_path / "i", resources=resources)
        active(first, "mail", topic)
        publish(first, *({"id": f"a-{n}"} for n in range(1, 21)), topic=topic)
        first.process.kill()
        first.wait()
    with running(tmp_path / "i", resources=resources) as second:
        publish(second, *({"id": f"b-{n}"} for n in range(1, 6)), topic=topic)
        with recording(tmp_path / "app", port):
            wanted = {f"a-{n}" for n in range(1, 21)} | {f"b-{n}" for n in range(1, 6)}
            until(lambda: set(accepted.read_text().split()) == wanted)


# Declared subscriptions ----------------------------------------------------------------------------------------------
def test_declared_subscriptions_of_both_versions_change_live(tmp_path):
    """Scopes choose the apps; a file that adds, changes and removes subscriptions takes effect without a restart."""
    mail, stock = TopicApp(), TopicApp()
    with topic_app(mail), topic_app(stock):
        base = [app("shop"), app("mail", mail.port), app("stock", stock.port)]
        old = declared("one", "orders", version="v1alpha1", scopes=["mail"])
        rules = {"routes": {"rules": [{"match": "event.data.n > 5", "path": "/many"}], "default": "/few"}}
        new = declared("two", "orders", scopes=["stock"], **rules)
        with running(tmp_path, resources=[*base, old, new]) as instance:
            active(instance, "mail")
            active(instance, "stock")
            assert list(subscriptions(instance, "shop")) == []
            publish(instance, {"n": 1}, {"n": 9})
            until(lambda: len(mail.got) == len(stock.got) == 2)
            assert (stock.data("/few"), stock.data("/many")) == ([{"n": 1}], [{"n": 9}])
            reload(instance, *base, declared("three", "bills"), new)
            until(lambda: list(subscriptions(instance, "mail")) == ["bills"])
            active(instance, "mail", "bills")
            publish(instance, {"n": 2}, topic="bills")
            until(lambda: mail.data("/bills") == stock.data("/bills") == [{"n": 2}])
            publish(instance, {"n": 3})
            until(lambda: {"n": 3} in stock.data("/few"))
            assert {"n": 3} not in mail.data()


WRONG_RULE = declared("wrong", "orders", routes={"rules": [{"match": "event.type == ", "path": "/x"}]})


def test_a_rule_that_does_not_compile_is_an_error_of_the_load(tmp_path):
    """At start and on reload the error names file, subscription and rule; on reload the old ones stay in force."""
    with pytest.raises(StartError) as failed:
        start(tmp_path / "bad", resources=[app("shop"), WRONG_RULE])
    for named in ("all.yaml", "Subscription wrong", "rule 1", "/x", "column"):
        assert named in failed.value.log
    with topic_app(TopicApp()) as mail:
        good = [app("shop"), app("mail", mail.port), declared("right", "orders")]
        with running(tmp_path / "good", resources=good) as instance:
            active(instance, "mail")
            write_resources(files(instance), [*good, WRONG_RULE])
            line = instance.wait_for_line("reload failed, what failed stays as it was")
            assert "Subscription wrong" in json.dumps(line)
            publish(instance, 1)
            until(lambda: mail.data() == [1])


def test_a_wrong_rule_of_an_app_is_seen_in_the_metadata(tmp_path):
    """An app's own rule that does not compile is a failed subscription with its reason; its others run."""
    bad = {"pubsubname": "pubsub", "topic": "bad", "routes": {"rules": [{"match": "1 +", "path": "/x"}]}}
    with (
        topic_app(TopicApp([bad, route("orders")])) as mail,
        running(tmp_path, resources=[app("shop"), app("mail", mail.port)]) as instance,
    ):
        active(instance, "mail")
        failed = subscriptions(instance, "mail")["bad"]
        assert failed["state"] == "failed"
        assert "rule 1" in failed["reason"]


# Who gets what -------------------------------------------------------------------------------------------------------
@BROKER
def test_two_apps_on_one_topic_each_get_all(tmp_path, broker):
    """Every app is a group of its own."""
    with topic_app(TopicApp([route("orders")])) as mail, topic_app(TopicApp([route("orders")])) as stock:
        resources = [app("shop"), app("mail", mail.port), app("stock", stock.port), *broker]
        with running(tmp_path, resources=resources) as instance:
            active(instance, "mail")
            active(instance, "stock")
            publish(instance, *range(10))
            until(lambda: sorted(mail.data()) == sorted(stock.data()) == list(range(10)))


@pytest.mark.parametrize("engine", ["http2", "aio"])
@BROKER
def test_two_replicas_of_one_app_share(tmp_path, broker, engine):
    """Two streams of one app each get some of its messages; one that leaves gives back what it has not answered."""
    flag = f"--grpc-engine={engine}"
    with running(tmp_path, flag, resources=[app("shop"), app("mail"), *broker]) as instance:
        with stream(instance.grpc, "mail", "orders") as one, stream(instance.grpc, "mail", "orders") as two:
            publish(instance, *range(20))
            until(lambda: sorted(one.data() + two.data()) == list(range(20)))
            assert one.got
            assert two.got
            # A reply that is still on its way when its stream ends is lost with it, and its message comes again.
            until(lambda: instance.metric("dapr_component_pubsub_ingress_count", process_status="success") == 20)
        with stream(instance.grpc, "mail", "orders", status=None) as silent:
            publish(instance, "kept")
            until(lambda: silent.data() == ["kept"])
            with stream(instance.grpc, "mail", "orders") as other:
                silent.close()
                until(lambda: other.data() == ["kept"])


def test_topic_scopes(tmp_path):
    """A topic outside an app's scopes is 403 to publish, forbidden to stream, and a failed subscription."""
    scoped = component(
        "pubsub", "pubsub.in-memory", publishingScopes="shop=orders", subscriptionScopes="mail=orders",
        protectedTopics="secret",
    )  # fmt: skip
    with (
        topic_app(TopicApp([route("orders"), route("other")])) as mail,
        running(tmp_path, resources=[app("shop"), app("mail", mail.port), scoped]) as instance,
    ):
        active(instance, "mail")
        publish(instance, 1)
        until(lambda: mail.data() == [1])
        refused = instance.ask("POST", "/v1.0/publish/pubsub/other", b"1", app="shop", headers=JSON)
        assert (refused.status, refused.code) == (403, "ERR_PUBSUB_FORBIDDEN")
        refused = instance.ask("POST", "/v1.0/publish/pubsub/secret", b"1", app="mail", headers=JSON)
        assert refused.status == 403
        assert "may not subscribe" in subscriptions(instance, "mail")["other"]["reason"]
        with stream(instance.grpc, "mail", "other", wait=False) as refused_stream:
            error = until(lambda: refused_stream.error)
            assert error.code().name == "PERMISSION_DENIED"


# Answers -------------------------------------------------------------------------------------------------------------
@BROKER
def test_a_dead_letter(tmp_path, broker):
    """What the app refuses goes to its dead-letter topic, whole, and to whoever subscribes to that."""
    mail = TopicApp([route("orders", deadLetterTopic="dead"), route("dead")])
    answers = {"retry": (200, {"status": "RETRY"}), "drop": (200, {"status": "DROP"}), "gone": (404, {}),
               "broken": (500, {})}  # fmt: skip
    mail.reply = lambda path, event: answers.get(event["data"], (200, {})) if path == "/orders" else (200, {})
    with topic_app(mail), running(tmp_path, resources=[app("shop"), app("mail", mail.port), *broker]) as instance:
        active(instance, "mail", "dead")
        active(instance, "mail")
        publish(instance, "good", *answers)
        until(lambda: sorted(mail.data("/dead")) == sorted(answers))
        assert sorted(mail.data("/orders")) == sorted(["good", *answers])
        first = {event["id"] for path, event in mail.got if path == "/orders" and event["data"] in answers}
        assert {event["id"] for path, event in mail.got if path == "/dead"} == first


@BROKER
def test_a_refused_message_comes_again(tmp_path, broker):
    """Without a dead-letter topic, RETRY and errors bring the message again until it is accepted; DROP does not."""
    broker = broker or [component("pubsub", "pubsub.sqlite", connectionString=str(tmp_path / "b.db"),
                                  redeliverInterval="50ms")]  # fmt: skip
    mail = TopicApp([route("orders")])
    answers = {"retry": [(200, {"status": "RETRY"})] * 2, "broken": [(500, {})], "drop": [(200, {"status": "DROP"})]}
    mail.reply = lambda _path, event: answers[event["data"]].pop() if answers[event["data"]] else (200, {})
    with topic_app(mail), running(tmp_path, resources=[app("shop"), app("mail", mail.port), *broker]) as instance:
        active(instance, "mail")
        publish(instance, *answers)
        until(lambda: sorted(mail.data()) == ["broken", "broken", "drop", "retry", "retry", "retry"])
        until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)


def test_bulk(tmp_path):
    """Bulk in, bulk out: one call with several entries, each accepted, dropped or repeated by itself."""
    bulk = {"enabled": True, "maxMessagesCount": 4, "maxAwaitDurationMs": 100}
    mail = TopicApp([route("orders", bulkSubscribe=bulk)])
    failed: list[str] = []

    def reply(_path, envelope):
        statuses = []
        for entry in envelope["entries"]:
            again = entry["event"]["data"] == "b" and not failed
            failed.extend(["b"] * again)
            statuses.append({"entryId": entry["entryId"], "status": "RETRY" if again else "SUCCESS"})
        return 200, {"statuses": statuses}

    mail.reply = reply
    with topic_app(mail), running(tmp_path, resources=[app("shop"), app("mail", mail.port), MEMORY]) as instance:
        active(instance, "mail")
        entries = [{"entryId": name, "event": name, "contentType": "text/plain"} for name in "abcd"]
        answer = instance.ask(
            "POST", "/v1.0-alpha1/publish/bulk/pubsub/orders", json.dumps(entries).encode(), app="shop", headers=JSON
        )
        assert answer.status in (200, 204), answer.body
        until(lambda: len(mail.got) == 2)
        calls = [[entry["event"]["data"] for entry in envelope["entries"]] for _, envelope in mail.got]
        assert sorted(calls[0]) == list("abcd")
        assert calls[1] == ["b"]
        until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)


def test_a_grpc_app(tmp_path):
    """OnTopicEvent gets the event in its fields; a status other than SUCCESS counts as in HTTP."""
    made = GrpcTopicApp([("orders", "/path")])
    with grpc_topic_app(made) as mail:
        resources = [app("shop"), app("mail", mail.port, protocol="grpc"), MEMORY]
        with running(tmp_path, resources=resources) as instance:
            active(instance, "mail")
            publish(instance, {"n": 1})
            (event,) = until(lambda: list(mail.got))
            assert (event.topic, event.pubsub_name, event.path) == ("orders", "pubsub", "/path")
            assert (event.source, event.data_content_type) == ("shop", "application/json")
            assert json.loads(event.data) == {"n": 1}
            mail.status = 1
            publish(instance, 2)
            until(lambda: len(mail.got) >= 3)
            mail.status = 0
            until(lambda: subscriptions(instance, "mail")["orders"]["pending"] == 0)


def test_the_shutdown_api_and_refresh(tmp_path):
    """Shutdown of an app on a shared instance stops its deliveries alone; refresh, or its restart, begins them anew."""
    # A folder of its own: the path of a Unix socket must be short.
    with topic_app(TopicApp([route("orders")])) as mail, TemporaryDirectory() as short:
        resources = [app("shop"), app("mail", mail.port)]
        with running(tmp_path, f"--data-dir={short}", resources=resources) as instance:
            active(instance, "mail")
            assert instance.ask("POST", "/v1.0/shutdown", app="mail").status == 204
            paused(instance, "mail")
            assert subscriptions(instance, "mail")["orders"]["reason"] == "stopped by the shutdown API"
            publish(instance, 1)
            code, text = run_to_end(tmp_path, "refresh", "mail", f"--data-dir={short}")
            assert code == 0, text
            until(lambda: mail.data() == [1])
