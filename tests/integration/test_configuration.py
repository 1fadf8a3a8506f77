"""Configuration through the real process: read, subscribe over HTTP and gRPC, apps that come and go, attacks."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from dapr_shared.contracts.configuration import ConfigurationItem
from tests.support.apps import until
from tests.support.block_apps import BindingApp, ConfigurationStream, binding_app, write_item
from tests.support.calls import call, grpc_channel
from tests.support.instance import Instance, app, component, free_ports, running, start, token_of, write_resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINES = pytest.mark.parametrize("engine", ["http2", "aio"])


class World:
    """An instance with the apps `orders` and `stock`, a store for both and one for `stock`."""

    def __init__(self, instance: Instance, file: Path, orders: BindingApp, channel: grpc.Channel) -> None:
        self.instance = instance
        self.file = file
        self.orders = orders
        self.channel = channel

    def write(self, key: str, value: str | None, **more: Any) -> None:
        write_item(self.file, key, None if value is None else ConfigurationItem(value, **more))

    def get(self, target: str, who: str = "orders") -> Any:
        return self.instance.ask("GET", f"/v1.0/configuration/{target}", app=who)

    def rpc(self, name: str, request: Any, who: str = "orders") -> Any:
        return call(self.channel, name, request, [("dapr-api-token", token_of(who))])


@contextmanager
def world(folder: Path, engine: str = "http2", port: int = 0, *, present: bool = True) -> Iterator[World]:
    """Run it. `present`: whether the app `orders` listens (on `port`, where one is given)."""
    file, mine = folder / "config.db", folder / "mine.db"
    orders = BindingApp(port=port)
    with ExitStack() as stack:
        if present:
            stack.enter_context(binding_app(orders, port))
        resources = [
            app("orders", orders.port),
            app("stock"),
            component("configstore", "configuration.sqlite", connectionString=str(file)),
            component("mine", "configuration.sqlite", connectionString=str(mine), scopes=["stock"]),
        ]
        instance = stack.enter_context(running(folder, f"--grpc-engine={engine}", resources=resources))
        write_item(mine, "secret", ConfigurationItem("property-of-stock"))
        yield World(instance, file, orders, stack.enter_context(grpc_channel(instance.grpc)))


def test_get_over_http(tmp_path):
    """Some keys, all keys, none: as Dapr answers them; both path versions."""
    with world(tmp_path) as w:
        assert w.get("configstore").status == 204
        w.write("colour", "blue", version="7", metadata={"owner": "shop"})
        w.write("size", "3", version="1")
        answer = w.get("configstore?key=colour&key=absent")
        assert answer.status == 200
        assert answer.json() == {"colour": {"value": "blue", "version": "7", "metadata": {"owner": "shop"}}}
        assert set(w.get("configstore").json()) == {"colour", "size"}
        alpha = w.instance.ask("GET", "/v1.0-alpha1/configuration/configstore?key=size", app="orders")
        assert alpha.json() == {"size": {"value": "3", "version": "1"}}
        assert w.instance.metric("dapr_component_configuration_count", operation="get", success="true") == 4


def test_errors_over_http(tmp_path):
    """A store that is not there, and a component of another kind: Dapr's code."""
    with world(tmp_path) as w:
        answer = w.get("nostore")
        assert (answer.status, answer.json()["errorCode"]) == (400, "ERR_CONFIGURATION_STORE_NOT_FOUND")
        assert answer.json()["message"] == "configuration store nostore not found"
        assert w.get("statestore").status == 400


def test_subscribe_over_http(tmp_path):
    """A change is POSTed to the app under the key's name with the whole event; after unsubscribing no more."""
    with world(tmp_path) as w:
        subscribed = w.get("configstore/subscribe?key=colour")
        assert subscribed.status == 200
        number = subscribed.json()["id"]
        w.write("size", "3")
        w.write("colour", "red", version="2")
        until(lambda: w.orders.got)
        path, headers, _ = w.orders.got[0]
        assert path == "/configuration/configstore/colour"
        assert headers["content-type"] == "application/json"
        assert w.orders.bodies(path) == [{"id": number, "items": {"colour": {"value": "red", "version": "2"}}}]
        ended = w.get(f"configstore/{number}/unsubscribe")
        assert (ended.status, ended.json()) == (200, {"ok": True})
        w.write("colour", "green")
        again = w.get("configstore/subscribe?key=mark").json()["id"]
        w.write("mark", "1")
        until(lambda: w.orders.bodies("/configuration/configstore/mark"))
        assert again != number
        assert len(w.orders.bodies(path)) == 1


def test_subscribing_again_is_the_same_subscription(tmp_path):
    """An app that starts again and subscribes again is told once."""
    with world(tmp_path) as w:
        first = w.get("configstore/subscribe?key=b&key=a").json()["id"]
        assert w.get("configstore/subscribe?key=a&key=b").json()["id"] == first
        assert w.get("configstore/subscribe?key=a").json()["id"] != first


def test_an_absent_app_gets_the_newest_when_it_is_back(tmp_path):
    """Changes while the app is away are not lost and not counted against it: the newest of each key is brought."""
    (port,) = free_ports(1)
    with world(tmp_path, port=port, present=False) as w:
        w.get("configstore/subscribe?key=colour&key=size")
        for value in ("red", "green", "blue"):
            w.write("colour", value)
        w.write("size", "3")
        with binding_app(w.orders, port):
            until(
                lambda: (
                    {path for path, _, _ in w.orders.got}
                    >= {f"/configuration/configstore/{k}" for k in ("colour", "size")}
                )
            )
            assert w.orders.bodies("/configuration/configstore/colour")[-1]["items"]["colour"]["value"] == "blue"


def test_what_the_app_answers_is_told(tmp_path):
    """Another answer than 200 is an event and a count; the next change is brought all the same."""
    with world(tmp_path) as w:
        w.orders.status = lambda _path: 500
        w.get("configstore/subscribe?key=colour")
        w.write("colour", "red")
        w.instance.wait_for_line("configuration change not accepted")
        w.orders.status = lambda _path: 200
        w.write("colour", "green")
        path = "/configuration/configstore/colour"
        until(lambda: w.orders.bodies(path)[-1]["items"]["colour"]["value"] == "green")
        assert len(w.orders.got) == 2


def test_an_app_without_a_channel_cannot_subscribe_over_http(tmp_path):
    """There is nowhere to POST to: Dapr's error."""
    with world(tmp_path) as w:
        answer = w.get("configstore/subscribe?key=k", "stock")
        assert (answer.status, answer.json()["errorCode"]) == (500, "ERR_APP_CHANNEL_NIL")


@ENGINES
def test_over_grpc(tmp_path, engine):
    """Get, subscribe, changes, and unsubscribing by the id, which ends the stream."""
    with world(tmp_path, engine) as w:
        w.write("colour", "blue", version="7")
        answer = w.rpc(
            "GetConfiguration", runtime_pb.GetConfigurationRequest(store_name="configstore", keys=["colour"])
        )
        items = runtime_pb.GetConfigurationResponse.FromString(answer.data).items
        assert (items["colour"].value, items["colour"].version) == ("blue", "7")
        stream = ConfigurationStream(w.channel, "orders", "configstore", "colour")
        try:
            assert stream.started.wait(20)
            assert stream.id
            w.write("colour", "red")
            until(lambda: stream.values("colour") == ["red"])
            unsubscribe = runtime_pb.UnsubscribeConfigurationRequest(store_name="configstore", id=stream.id)
            answer = w.rpc("UnsubscribeConfiguration", unsubscribe)
            assert runtime_pb.UnsubscribeConfigurationResponse.FromString(answer.data).ok
            assert stream.ended.wait(20)
            assert stream.error is None
            answer = w.rpc("UnsubscribeConfigurationAlpha1", unsubscribe)
            refused = runtime_pb.UnsubscribeConfigurationResponse.FromString(answer.data)
            assert not refused.ok
            assert "subscription does not exist" in refused.message
        finally:
            stream.close()


@ENGINES
def test_errors_over_grpc(tmp_path, engine):
    """An unknown store is InvalidArgument for a read and for a stream."""
    with world(tmp_path, engine) as w:
        answer = w.rpc("GetConfiguration", runtime_pb.GetConfigurationRequest(store_name="nostore"))
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        stream = ConfigurationStream(w.channel, "orders", "nostore")
        assert stream.ended.wait(20)
        assert stream.error is not None
        assert stream.error.code() is grpc.StatusCode.INVALID_ARGUMENT
        stream.close()


@ENGINES
def test_a_stream_ends_with_its_call(tmp_path, engine):
    """When the client ends the call the subscription is gone: its id can be ended no more."""
    with world(tmp_path, engine) as w:
        stream = ConfigurationStream(w.channel, "orders", "configstore", "colour")
        assert stream.started.wait(20)
        stream.close()
        request = runtime_pb.UnsubscribeConfigurationRequest(store_name="configstore", id=stream.id)

        def gone() -> bool:
            answer = w.rpc("UnsubscribeConfiguration", request)
            return not runtime_pb.UnsubscribeConfigurationResponse.FromString(answer.data).ok

        until(gone)
        assert w.instance.metric("dapr_shared_calls_in_flight", app_id="orders") == 0


@ENGINES
def test_streams_end_when_the_instance_stops(tmp_path, engine):
    """An open stream does not hold up the end: it is ended first, cleanly."""
    with world(tmp_path, engine) as w:
        stream = ConfigurationStream(w.channel, "orders", "configstore", "colour")
        assert stream.started.wait(20)
        assert w.instance.stop() == 0
        assert stream.ended.wait(20)
        stream.close()


def test_another_app_cannot_end_a_subscription(tmp_path):
    """With the id of `orders` in hand, `stock` is told that there is no such subscription, over both protocols."""
    with world(tmp_path) as w:
        number = w.get("configstore/subscribe?key=colour").json()["id"]
        answer = w.get(f"configstore/{number}/unsubscribe", "stock")
        assert answer.status == 500
        assert answer.json() == {
            "message": f"failed to unsubscribe to configuration request {number}: subscription does not exist"
        }
        request = runtime_pb.UnsubscribeConfigurationRequest(store_name="configstore", id=number)
        refused = runtime_pb.UnsubscribeConfigurationResponse.FromString(
            w.rpc("UnsubscribeConfiguration", request, "stock").data
        )
        assert not refused.ok
        w.write("colour", "red")
        until(lambda: w.orders.got)


@ENGINES
def test_a_store_out_of_scope(tmp_path, engine):
    """The store of `stock` does not exist for `orders`: not to read, not to subscribe to."""
    with world(tmp_path, engine) as w:
        assert w.get("mine", "stock").json()["secret"]["value"] == "property-of-stock"
        for target in ("mine", "mine?key=secret", "mine/subscribe?key=secret", "mine/x/unsubscribe"):
            answer = w.get(target)
            assert answer.status == 400
            assert b"property-of-stock" not in answer.body
        answer = w.rpc("GetConfiguration", runtime_pb.GetConfigurationRequest(store_name="mine", keys=["secret"]))
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        stream = ConfigurationStream(w.channel, "orders", "mine", "secret")
        assert stream.ended.wait(20)
        assert stream.error is not None
        stream.close()


@ENGINES
def test_a_scope_that_closes_ends_a_stream(tmp_path, engine):
    """A reload that takes the store away from an app ends the app's stream; nothing of it comes any more."""
    with world(tmp_path, engine) as w:
        stream = ConfigurationStream(w.channel, "orders", "configstore", "colour")
        assert stream.started.wait(20)
        resources = [
            app("orders", w.orders.port),
            app("stock"),
            component("configstore", "configuration.sqlite", connectionString=str(w.file), scopes=["stock"]),
        ]
        write_resources(tmp_path / "resources" / "all.yaml", resources)
        assert stream.ended.wait(20)
        w.write("colour", "property-of-stock")
        assert stream.got == []
        stream.close()


def test_a_reloaded_component_is_subscribed_to_again(tmp_path):
    """A component that is opened anew, on another file, tells its subscriptions what it holds."""
    with world(tmp_path) as w:
        w.get("configstore/subscribe?key=colour")
        other = tmp_path / "other.db"
        resources = [
            app("orders", w.orders.port),
            app("stock"),
            component("configstore", "configuration.sqlite", connectionString=str(other)),
        ]
        write_resources(tmp_path / "resources" / "all.yaml", resources)
        w.instance.wait_for_line("resources reloaded")
        write_item(other, "colour", ConfigurationItem("violet"))
        path = "/configuration/configstore/colour"
        until(lambda: w.orders.bodies(path) and w.orders.bodies(path)[-1]["items"]["colour"]["value"] == "violet")


COLOUR = "/configuration/configstore/colour"


def subscription_exists(instance: Instance, number: str) -> bool:
    """Whether it did; it is ended."""
    return instance.ask("GET", f"/v1.0/configuration/configstore/{number}/unsubscribe", app="orders").status == 200


def test_a_subscription_over_http_outlives_a_killed_instance(tmp_path):
    """After kill -9 and a start the app is told what has changed meanwhile, under the same id; an ended one stays ended."""
    file = tmp_path / "config.db"
    with binding_app(BindingApp()) as orders:
        store = component("configstore", "configuration.sqlite", connectionString=str(file))
        resources = [app("orders", orders.port), store]
        first = start(tmp_path, resources=resources)
        try:
            subscribed, ended = (
                first.ask("GET", f"/v1.0/configuration/configstore/subscribe?key={key}", app="orders").json()["id"]
                for key in ("colour", "size")
            )
            assert subscription_exists(first, ended)
        finally:
            first.process.send_signal(SIGKILL)
            first.process.wait(20)
        write_item(file, "colour", ConfigurationItem("red"))
        with running(tmp_path, resources=resources) as second:
            until(lambda: orders.bodies(COLOUR))
            assert orders.bodies(COLOUR)[0] == {"id": subscribed, "items": {"colour": {"value": "red", "version": "1"}}}
            again = second.ask("GET", "/v1.0/configuration/configstore/subscribe?key=colour", app="orders")
            assert again.json() == {"id": subscribed}
            assert not subscription_exists(second, ended)
            assert subscription_exists(second, subscribed)
        with running(tmp_path, resources=resources) as third:
            assert not subscription_exists(third, subscribed)


@pytest.mark.parametrize("gone", ["app", "component", "scope"])
def test_a_subscription_over_http_ends_with_its_app_or_component(tmp_path, gone):
    """When the app or the component is removed, or the component closed to the app, it ends, and is not there again later."""
    with world(tmp_path) as w:
        number = w.get("configstore/subscribe?key=colour").json()["id"]
        (kept,) = (tmp_path / "state" / "dapr-shared" / "configuration").iterdir()
        assert number in kept.read_text()
        orders = app("orders", w.orders.port)
        store = component("configstore", "configuration.sqlite", connectionString=str(w.file))
        closed = {**store, "scopes": ["stock"]}
        other = {**store, "metadata": {"name": "other"}}  # with none at all, one of this name is built in
        left = {"app": [store], "component": [orders, other], "scope": [orders, closed]}[gone]
        write_resources(tmp_path / "resources" / "all.yaml", [*left, app("stock")])
        until(lambda: number not in kept.read_text())
        lines = len(w.instance.log())
        write_resources(tmp_path / "resources" / "all.yaml", [orders, store, app("stock")])
        w.instance.wait_for_line("resources reloaded", after=lines)
        assert not subscription_exists(w.instance, number)
