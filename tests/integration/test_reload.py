"""Resources that change while the instance runs: what is new counts, what stays is not touched, what is wrong is told."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support.apps import echo_app, until
from tests.support.calls import KeptConnection, ask, call, grpc_channel
from tests.support.instance import app, component, free_ports, running, token_of, write_resources

MEMORY = component("memory", "state.in-memory")
DONE, FAILED = "resources reloaded", "reload failed, what failed stays as it was"


def _write(tmp_path, *resources: dict) -> None:
    write_resources(tmp_path / "resources" / "all.yaml", resources)


@contextmanager
def load_of(instance, app_id: str, *, callee: str):
    """Requests of an app without a pause, over HTTP and gRPC; at the end none may have failed. Yields their counts."""
    counts = {"state": 0, "invoke": 0, "grpc": 0}
    failures: list[object] = []
    ended = threading.Event()

    def work(name: str, once) -> None:
        while not ended.is_set():
            try:
                problem = once()
            except Exception as error:  # noqa: BLE001 - every failure counts
                problem = error
            if problem:
                failures.append((name, problem))
                return
            counts[name] += 1
            ended.wait(0.002)  # two cores for everybody

    header = [("dapr-api-token", token_of(app_id))]
    first, second = KeptConnection(instance.http), KeptConnection(instance.http)

    def state() -> object:
        answer = first.ask("POST", "/v1.0/state/memory", b'[{"key":"k","value":1}]', headers=header)
        return None if answer.status == 204 else answer

    def invoke() -> object:
        answer = second.ask("GET", f"/v1.0/invoke/{callee}/method/x", headers=header)
        return None if answer.status == 200 else answer

    with grpc_channel(instance.grpc) as channel:
        request = runtime_pb.GetStateRequest(store_name="memory", key="k")

        def get() -> object:
            answer = call(channel, "GetState", request, header)
            return None if answer.code is grpc.StatusCode.OK else answer

        threads = [
            threading.Thread(target=work, args=pair) for pair in (("state", state), ("invoke", invoke), ("grpc", get))
        ]
        for thread in threads:
            thread.start()
        try:
            yield counts
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            first.close()
            second.close()
    assert not failures, failures


def test_apps_come_change_and_go_while_another_is_served(tmp_path):
    """Apps and components that are added, changed and removed fail no request of an app that stays."""
    ports = free_ports(3)
    with echo_app() as callee:
        steady = [app("steady", callee.port, listeners={"httpPort": ports[0]}), MEMORY]
        with running(tmp_path, resources=steady) as instance, load_of(instance, "steady", callee="steady") as counts:
            held = threading.Thread(
                target=instance.ask, args=("GET", "/v1.0/invoke/steady/method/hang"), kwargs={"app": "steady"}
            )
            held.start()
            until(lambda: callee.hanging)
            steps = [
                [app("guest")],
                [app("guest", callee.port, listeners={"httpPort": ports[1]})],
                [app("guest", callee.port), component("guests", "state.in-memory", scopes=["guest"])],
                [app("guest", callee.port), component("guests", "state.in-memory", keyPrefix="name")],
                [app("guest"), app("other")],
                [],
            ]
            for step in steps:
                lines, before = len(instance.log()), dict(counts)
                _write(tmp_path, *steady, *step)
                instance.wait_for_line(DONE, after=lines)
                until(lambda before=before: all(counts[name] > before[name] for name in counts))
                if step and step[0]["spec"].get("channel"):
                    assert instance.ask("GET", "/v1.0/invoke/guest/method/x", app="guest").status == 200
                elif step:
                    assert instance.ask("GET", "/v1.0/metadata", app="guest").status == 200
            assert instance.ask("GET", "/v1.0/metadata", app="guest").status == 401
            assert callee.hanging == 1, "a request in flight was ended"
            callee.gate.set()
            held.join()


def test_a_component_is_added_changed_and_removed(tmp_path):
    """A component is there once its file is, has its new settings once they are, and is gone with its file."""
    folder = tmp_path / "resources"
    with running(tmp_path, resources=[app("orders"), app("stock"), MEMORY]) as instance:
        target, body = "/v1.0/state/late", b'[{"key":"k","value":1}]'
        assert instance.ask("POST", target, body, app="orders").status == 400
        write_resources(folder / "late.yaml", [component("late", "state.in-memory", keyPrefix="name")])
        until(lambda: instance.ask("POST", target, body, app="orders").status == 204)
        assert instance.ask("GET", target + "/k", app="stock").status == 200
        write_resources(folder / "late.yaml", [component("late", "state.in-memory", scopes=["orders"])])
        until(lambda: instance.ask("GET", target + "/k", app="stock").status == 400)
        assert instance.ask("GET", target + "/k", app="orders").status == 204
        (folder / "late.yaml").unlink()
        until(lambda: instance.ask("GET", target + "/k", app="orders").status == 400)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apiVersion: [", ["broken.yaml"]),
        (
            (
                "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\n---\n"
                "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: b}\nspec: {channel: {port: high}}\n"
            ),
            ["broken.yaml", "document 2", "spec.channel.port"],
        ),
        (
            "apiVersion: shared.dapr.io/v1alpha1\nkind: App\nmetadata: {name: a}\nspec: {chanel: {port: 1}}\n",
            ["broken.yaml", "document 1", "chanel"],
        ),
        (
            (
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: memory}\n"
                "spec: {type: state.in-memory, version: v1}\n"
            ),
            ["broken.yaml", "memory"],
        ),
    ],
    ids=["not-yaml", "wrong-type", "unknown-field", "twice"],
)
def test_a_mistake_keeps_what_was(tmp_path, text, words):
    """Resources with a mistake are not put in force; the log names file, document and field; mending them helps."""
    with running(tmp_path, resources=[app("orders"), MEMORY]) as instance:
        broken = tmp_path / "resources" / "broken.yaml"
        lines = len(instance.log())
        broken.write_text(text)
        line = instance.wait_for_line(FAILED, after=lines)
        for word in words:
            assert word in line["problem"], line
        assert line["level"] == "error"
        assert instance.ask("GET", "/v1.0/state/memory/k", app="orders").status == 204
        assert instance.metric("dapr_shared_reload_total", result="failed") >= 1
        lines = len(instance.log())
        broken.write_text("")
        _write(tmp_path, app("orders"), app("stock"), MEMORY)
        instance.wait_for_line("app added", after=lines, app_id="stock")


def test_a_component_that_cannot_open_keeps_its_old_self(tmp_path):
    """A component whose new settings do not open goes on with the former ones, and the log says why."""
    good = component("store", "state.sqlite", connectionString=str(tmp_path / "state.db"))
    bad = component("store", "state.sqlite", connectionString=str(tmp_path / "instance.log" / "state.db"))
    with running(tmp_path, resources=[app("orders"), good]) as instance:
        assert instance.ask("POST", "/v1.0/state/store", b'[{"key":"k","value":1}]', app="orders").status == 204
        _write(tmp_path, app("orders"), bad)
        line = instance.wait_for_line(FAILED)
        assert "store" in line["problem"]
        assert instance.ask("GET", "/v1.0/state/store/k", app="orders").json() == 1


def test_a_listener_that_is_taken_keeps_what_was(tmp_path):
    """An App whose listener's port is taken is not put in force, and the log names port and holder."""
    with running(tmp_path, resources=[app("orders"), MEMORY]) as instance:
        _write(tmp_path, app("orders"), app("stock", listeners={"httpPort": instance.http_port}), MEMORY)
        line = instance.wait_for_line(FAILED)
        assert f"127.0.0.1:{instance.http_port} is taken by" in line["problem"]
        assert instance.ask("GET", "/v1.0/state/memory/k", app="orders").status == 204
        assert instance.ask("GET", "/v1.0/metadata", app="stock").status == 401


def test_sighup_reads_again(tmp_path):
    """SIGHUP reads the resources again and ends nothing; where nothing has changed it changes nothing."""
    from signal import Signals

    with running(tmp_path, resources=[app("orders"), MEMORY]) as instance:
        instance.ask("POST", "/v1.0/state/memory", b'[{"key":"k","value":1}]', app="orders")
        for _ in range(3):
            instance.signal(Signals.SIGHUP)
        _write(tmp_path, app("orders"), app("stock"), MEMORY)
        instance.signal(Signals.SIGHUP)
        instance.wait_for_line("app added", app_id="stock")
        assert instance.ask("GET", "/v1.0/state/memory/k", app="orders").json() == 1


def test_an_app_that_moves_is_found(tmp_path):
    """When an App's port changes, the next invocation goes there."""
    with (
        echo_app() as old,
        echo_app() as new,
        running(tmp_path, resources=[app("orders"), app("stock", old.port)]) as instance,
    ):
        assert instance.ask("GET", "/v1.0/invoke/stock/method/x", app="orders").status == 200
        _write(tmp_path, app("orders"), app("stock", new.port))
        instance.wait_for_line("app changed", app_id="stock")
        started = time.monotonic()
        assert instance.ask("GET", "/v1.0/invoke/stock/method/x", app="orders").status == 200
        assert time.monotonic() - started < 1
        assert len(old.seen) == 1
        assert len(new.seen) == 1


def test_listeners_of_an_app_move(tmp_path):
    """A changed listener opens and the former one closes."""
    first, second = free_ports(2)
    with running(tmp_path, resources=[app("orders", listeners={"httpPort": first}), MEMORY]) as instance:
        assert ask(f"127.0.0.1:{first}", "GET", "/v1.0/metadata").json()["id"] == "orders"
        _write(tmp_path, app("orders", listeners={"httpPort": second}), MEMORY)
        instance.wait_for_line("app changed", app_id="orders")
        assert ask(f"127.0.0.1:{second}", "GET", "/v1.0/metadata").json()["id"] == "orders"
        with pytest.raises(ConnectionRefusedError):
            ask(f"127.0.0.1:{first}", "GET", "/v1.0/metadata")
