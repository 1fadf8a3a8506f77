"""The FastAPI extension of the official Python SDK: its subscriptions end to end, on uvicorn."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import Body, FastAPI, HTTPException

from tests.support.apps import until
from tests.support.instance import Instance, app, component, free_ports, running, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBSUB = "pubsub"
EVENT = Body()


@dataclass
class Mail:
    """An app of the extension; what it got: (handler, event)."""

    port: int
    got: list[tuple[str, Any]] = field(default_factory=list)

    def of(self, handler: str) -> list[Any]:
        """The payloads of one handler."""
        return [event["data"] for name, event in list(self.got) if name == handler]


def fastapi_app(mail: Mail) -> FastAPI:
    """Subscriptions with the default route, a route of its own, metadata and a dead-letter topic."""
    made = FastAPI()
    dapr = DaprApp(made)

    @dapr.subscribe(pubsub=PUBSUB, topic="plain")
    def plain(event: Any = EVENT) -> None:
        mail.got.append(("plain", event))

    @dapr.subscribe(pubsub=PUBSUB, topic="routed", route="/by-route")
    async def routed(event: Any = EVENT) -> dict[str, str]:
        mail.got.append(("routed", event))
        again = Counter(mail.of("routed"))[event["data"]] == 1 and event["data"] == "again"
        return {"status": "RETRY" if again else "SUCCESS"}

    @dapr.subscribe(pubsub=PUBSUB, topic="failing", dead_letter_topic="dead")
    def failing(event: Any = EVENT) -> dict[str, str]:
        mail.got.append(("failing", event))
        if event["data"] == "raise":
            raise HTTPException(418)
        return {"status": "DROP"}

    @dapr.subscribe(pubsub=PUBSUB, topic="dead")
    def dead(event: Any = EVENT) -> None:
        mail.got.append(("dead", event))

    @dapr.subscribe(pubsub=PUBSUB, topic="raw", metadata={"rawPayload": "true"})
    def raw(event: Any = EVENT) -> None:
        mail.got.append(("raw", {"data": event["data_base64"]}))

    return made


class Served:
    """The app on uvicorn, in a thread."""

    def __init__(self, mail: Mail) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(fastapi_app(mail), host="127.0.0.1", port=mail.port, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, name="uvicorn")
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@dataclass
class World:
    """The instance and the app."""

    instance: Instance
    mail: Mail


def active(instance: Instance) -> bool:
    listed = instance.ask("GET", "/v1.0/metadata", app="mail").json().get("subscriptions", [])
    return len(listed) == 5 and all(found["state"] == "active" for found in listed)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """`shop` publishes; `mail` is the extension's app."""
    folder = tmp_path_factory.mktemp("sdk-fastapi")
    mail = Mail(free_ports(1)[0])
    resources = [
        app("shop"),
        app("mail", mail.port),
        component(PUBSUB, "pubsub.in-memory", redeliverInterval="20ms"),
    ]
    served = Served(mail)
    try:
        with running(folder, resources=resources) as instance:
            until(lambda: active(instance))
            yield World(instance, mail)
    finally:
        served.stop()


@pytest.fixture
def shop(world, monkeypatch):
    """The SDK's client of `shop`."""
    from dapr.clients import DaprClient

    monkeypatch.setenv("DAPR_HTTP_ENDPOINT", f"http://{world.instance.http}")
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", world.instance.grpc)
    monkeypatch.setenv("DAPR_API_TOKEN", token_of("shop"))
    with DaprClient() as client:
        yield client


def test_the_list_of_the_extension(world):
    """What the extension lists at /dapr/subscribe is what the app is subscribed to, with routes and dead letter."""
    listed = world.instance.ask("GET", "/v1.0/metadata", app="mail").json()["subscriptions"]
    found = {one["topic"]: (one["rules"], one["deadLetterTopic"], one["type"]) for one in listed}
    assert found == {
        topic: ([{"path": path}], "dead" if topic == "failing" else "", "PROGRAMMATIC")
        for topic, path in (
            ("dead", "/events/pubsub/dead"),
            ("failing", "/events/pubsub/failing"),
            ("plain", "/events/pubsub/plain"),
            ("raw", "/events/pubsub/raw"),
            ("routed", "/by-route"),
        )
    }


def test_events_arrive(world, shop):
    """JSON and bulk come to the default route, each message once; the handler gets the whole CloudEvent."""
    shop.publish_event(PUBSUB, "plain", json.dumps({"n": 1}), data_content_type="application/json")
    shop.publish_events(PUBSUB, "plain", [json.dumps({"n": n}) for n in (2, 3)], data_content_type="application/json")
    until(lambda: len(world.mail.of("plain")) == 3)
    assert sorted(data["n"] for data in world.mail.of("plain")) == [1, 2, 3]
    event = next(event for name, event in world.mail.got if name == "plain")
    assert (event["source"], event["topic"], event["pubsubname"], event["specversion"]) == (
        "shop", "plain", PUBSUB, "1.0",
    )  # fmt: skip


def test_a_route_and_retry(world, shop):
    """A subscription's own route gets its events; RETRY brings one again."""
    for data in ("once", "again"):
        shop.publish_event(PUBSUB, "routed", data)
    until(lambda: sorted(world.mail.of("routed")) == ["again", "again", "once"])


def test_a_dead_letter(world, shop):
    """What the handler drops or raises for is delivered to the dead-letter topic's handler, once each."""
    for data in ("raise", "drop"):
        shop.publish_event(PUBSUB, "failing", data)
    until(lambda: sorted(world.mail.of("dead")) == ["drop", "raise"])
    assert sorted(world.mail.of("failing")) == ["drop", "raise"]


def test_raw(world, shop):
    """A raw payload comes with its bytes in data_base64."""
    shop.publish_event(PUBSUB, "raw", b"\xff\x00", publish_metadata={"rawPayload": "true"})
    until(lambda: world.mail.of("raw") == ["/wA="])


def test_messages_wait_for_the_app(tmp_path):
    """Messages published before the app ran at all, and while it is stopped, are delivered when it is there."""
    mail = Mail(free_ports(1)[0])
    resources = [app("shop"), app("mail", mail.port)]
    with running(tmp_path, resources=resources) as instance:
        for run in (1, 2):
            body = json.dumps(run).encode()
            headers = [("content-type", "application/json")]
            answer = instance.ask("POST", "/v1.0/publish/pubsub/plain", body, app="shop", headers=headers)
            assert answer.status == 204
            served = Served(mail)
            try:
                until(lambda run=run: mail.of("plain") == list(range(1, run + 1)))
            finally:
                served.stop()
