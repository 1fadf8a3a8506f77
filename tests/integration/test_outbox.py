"""The outbox through the real process: two apps over HTTP and gRPC, and processes that are killed at its two moments."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from signal import Signals
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support.apps import until
from tests.support.calls import call, grpc_channel
from tests.support.instance import app, component, running, start, token_of
from tests.support.topic_apps import TopicApp, route, topic_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stock():
    """The app that gets the events."""
    with topic_app(TopicApp([route("newOrder", pubsub="outer")])) as made:
        yield made


def resources_of(folder: Path, stock: TopicApp, **outbox: str) -> list[dict]:
    file = str(folder / "state.db")
    settings = {"outboxPublishPubsub": "outer", "outboxPublishTopic": "newOrder", "outboxPubsub": "inner", **outbox}
    return [
        app("orders"),
        app("billing"),
        app("stock", stock.port),
        component("store", "state.sqlite", connectionString=file, **settings),
        component("plain", "state.sqlite", connectionString=file),
        component("inner", "pubsub.sqlite", connectionString=str(folder / "inner.db")),
        component("outer", "pubsub.sqlite", connectionString=str(folder / "outer.db")),
    ]


def transaction(*operations: tuple[str, dict[str, Any]]) -> bytes:
    return json.dumps(
        {"operations": [{"operation": name, "request": request} for name, request in operations]}
    ).encode()


def rows(file: Path, statement: str) -> list[Any]:
    """What another process sees in a database."""
    with apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        found = list(connection.execute(statement))
    connection.close()
    return found


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nobody else can write to the database."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(10_000)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def test_transactions_publish_over_both_protocols(tmp_path, stock):
    """Upserts of a transaction reach the subscriber once each, for each app as its own; refused ones and plain saves do not."""
    with running(tmp_path, resources=resources_of(tmp_path, stock)) as instance:
        body = transaction(
            ("upsert", {"key": "1", "value": {"item": "tea"}, "contentType": "application/json"}),
            ("upsert", {"key": "1", "value": {"id": 1}, "contentType": "application/json",
                        "metadata": {"outbox.projection": "true"}}),
            ("upsert", {"key": "2", "value": "plain", "metadata": {"cloudevent.type": "order", "extra": "e"}}),
            ("delete", {"key": "gone"}),
        )  # fmt: skip
        assert instance.ask("POST", "/v1.0/state/store/transaction", body, app="orders").status == 204
        with grpc_channel(instance.grpc) as channel:
            request = runtime_pb.ExecuteStateTransactionRequest(storeName="store")
            operation = request.operations.add(operationType="upsert")
            operation.request.key, operation.request.value = "1", b"of billing"
            assert (
                call(channel, "ExecuteStateTransaction", request, [("dapr-api-token", token_of("billing"))]).code.value[
                    0
                ]
                == 0
            )
            operation.request.etag.value = "999"
            refused = call(channel, "ExecuteStateTransaction", request, [("dapr-api-token", token_of("billing"))])
            assert refused.code.value[0] != 0
        assert instance.ask("POST", "/v1.0/state/store", b'[{"key":"3","value":3}]', app="orders").status == 204
        until(lambda: len(stock.got) == 3)
        events = {(event["source"], str(event["data"])): event for _, event in stock.got}
        assert sorted(events) == [("billing", "of billing"), ("orders", "plain"), ("orders", "{'id': 1}")]
        assert (events["orders", "plain"]["type"], events["orders", "plain"]["extra"]) == ("order", "e")
        assert all(event["topic"] == "newOrder" and event["pubsubname"] == "outer" for event in events.values())
        assert all(event["traceid"] for event in events.values())
        assert instance.ask("GET", "/v1.0/state/store/1", app="orders").json() == {"item": "tea"}
        until(lambda: rows(tmp_path / "state.db", "SELECT count(*) FROM state WHERE key LIKE 'outbox-%'") == [(0,)])
        until(lambda: rows(tmp_path / "inner.db", "SELECT count(*) FROM deliveries") == [(0,)])
        topics = {topic for (topic,) in rows(tmp_path / "inner.db", "SELECT topic FROM groups")}
        assert {"defaultordersnewOrderoutbox", "defaultbillingnewOrderoutbox"} <= topics


def test_internal_topics_are_closed_to_apps(tmp_path):
    """No app publishes to the topic of another's announcements, subscribes to it or has messages put there."""
    theirs = "defaultordersnewOrderoutbox"
    wanted = TopicApp([route(theirs, pubsub="inner"), route("newOrder", pubsub="outer")])
    with topic_app(wanted) as spy, running(tmp_path, resources=resources_of(tmp_path, spy)) as instance:
        for path in ("publish", "publish/bulk"):
            version = "v1.0" if path == "publish" else "v1.0-alpha1"
            refused = instance.ask("POST", f"/{version}/{path}/inner/{theirs}", b"[]", app="billing")
            assert (refused.status, refused.json()["errorCode"]) == (403, "ERR_PUBSUB_FORBIDDEN")
        with grpc_channel(instance.grpc) as channel:
            request = runtime_pb.PublishEventRequest(pubsub_name="inner", topic=theirs, data=b"{}")
            answer = call(channel, "PublishEvent", request, [("dapr-api-token", token_of("orders"))])
            assert answer.code is grpc.StatusCode.PERMISSION_DENIED
        body = transaction(("upsert", {"key": "k", "value": "private"}))
        assert instance.ask("POST", "/v1.0/state/store/transaction", body, app="orders").status == 204
        until(lambda: spy.data() == ["private"])
        assert [event["topic"] for _, event in spy.got] == ["newOrder"]
        groups = rows(tmp_path / "inner.db", f"SELECT count(*) FROM groups WHERE topic = '{theirs}'")
        assert groups == [(1,)]
        assert theirs in instance.output()


def test_killed_between_commit_and_publish(tmp_path, stock):
    """A transaction that was answered is published after a restart, when the process was killed before it could be."""
    resources = resources_of(tmp_path, stock)
    instance = start(tmp_path, resources=resources)
    until((tmp_path / "outer.db").exists)
    with locked(tmp_path / "outer.db"):
        body = transaction(("upsert", {"key": "k", "value": "kept"}))
        answer = instance.ask("POST", "/v1.0/state/store/transaction", body, app="orders")
        instance.process.send_signal(Signals.SIGKILL)
        instance.process.wait()
        assert answer.status == 204
    assert stock.got == []
    assert rows(tmp_path / "state.db", "SELECT count(*) FROM state WHERE key LIKE 'outbox-%'") == [(1,)]
    with running(tmp_path, resources=resources):
        until(lambda: stock.data() == ["kept"])
        until(lambda: rows(tmp_path / "state.db", "SELECT count(*) FROM state WHERE key LIKE 'outbox-%'") == [(0,)])


@pytest.mark.slow
def test_killed_between_announcement_and_commit(tmp_path, stock):
    """A transaction that was never carried out is never published, whatever was announced; its event is given up."""
    resources = resources_of(tmp_path, stock, outboxDiscardWhenMissingState="true")
    instance = start(tmp_path, resources=resources)
    announced = "SELECT count(*) FROM messages WHERE topic = 'defaultordersnewOrderoutbox'"
    with locked(tmp_path / "state.db"):
        body = transaction(("upsert", {"key": "k", "value": "lost"}))
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(instance.ask("POST", "/v1.0/state/store/transaction", body, app="orders").status)
            except OSError as error:
                answers.append(error)

        client = threading.Thread(target=ask)
        client.start()
        until(lambda: rows(tmp_path / "inner.db", announced) == [(1,)])
        instance.process.send_signal(Signals.SIGKILL)
        instance.process.wait()
        client.join()
        assert answers[0] == 0 or isinstance(answers[0], OSError)
    with running(tmp_path, resources=resources) as instance:
        instance.wait_for_line("message dropped", topic="defaultordersnewOrderoutbox")
        assert instance.ask("GET", "/v1.0/state/store/k", app="orders").status == 204
        until(lambda: rows(tmp_path / "inner.db", "SELECT count(*) FROM deliveries") == [(0,)])
    assert stock.got == []


def test_no_broker_no_transaction(tmp_path, stock):
    """Where the events cannot be announced the transaction is refused with Dapr's error, and nothing is written."""
    resources = [one for one in resources_of(tmp_path, stock) if one["metadata"]["name"] != "inner"]
    with running(tmp_path, resources=resources) as instance:
        body = transaction(("upsert", {"key": "k", "value": 1}))
        answer = instance.ask("POST", "/v1.0/state/store/transaction", body, app="orders")
        assert (answer.status, answer.code) == (500, "ERR_PUBLISH_OUTBOX")
        assert instance.ask("GET", "/v1.0/state/plain/k", app="orders").status == 204
