"""What one app can do to another over time: floods, changes of apps, and how an instance is started."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from signal import Signals

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support.apps import echo_app, until
from tests.support.calls import ask, call, grpc_channel
from tests.support.instance import StartError, app, component, free_ports, running, start, token_of, write_resources

MEMORY = component("statestore", "state.in-memory")
STATE = "/v1.0/state/statestore/k"


def _save(instance, app_id: str, value: bytes) -> None:
    body = b'[{"key":"k","value":%s}]' % value
    assert instance.ask("POST", "/v1.0/state/statestore", body, app=app_id).status == 204


def test_a_flood_of_one_app_does_not_hinder_another(tmp_path):
    """At its limit of calls in flight an app is answered 429 at once, over HTTP and gRPC; another app is served."""
    with echo_app() as callee, running(
        tmp_path, "--max-calls-per-app=4", resources=[app("orders"), app("stock", callee.port), MEMORY]
    ) as instance, ThreadPoolExecutor(8) as pool:  # fmt: skip
        held = [pool.submit(instance.ask, "GET", "/v1.0/invoke/stock/method/hang", app="orders") for _ in range(4)]
        until(lambda: callee.hanging == 4)

        started = time.monotonic()
        refused = instance.ask("GET", STATE, app="orders")
        assert (refused.status, refused.code) == (429, "ERR_TOO_MANY_CALLS")
        with grpc_channel(instance.grpc) as channel:
            request = runtime_pb.GetStateRequest(store_name="statestore", key="k")
            answer = call(channel, "GetState", request, [("dapr-api-token", token_of("orders"))])
            assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            answer = call(channel, "GetState", request, [("dapr-api-token", token_of("stock"))])
            assert answer.code is grpc.StatusCode.OK
        for _ in range(20):
            assert instance.ask("GET", STATE, app="stock").status == 204
        assert time.monotonic() - started < 5
        assert ask(instance.http, "GET", "/v1.0/healthz").status == 204

        callee.gate.set()
        assert [answer.result().status for answer in held] == [200] * 4
        until(lambda: instance.ask("GET", STATE, app="orders").status == 204)


def test_an_app_removed_is_refused_at_once(tmp_path):
    """When an App is removed its token and its listeners prove nothing any more, and what it had stays its own."""
    ports = free_ports(2)
    gone = app("orders", listeners={"httpPort": ports[0], "grpcPort": ports[1], "unixSocket": str(tmp_path / "o.sock")})
    with running(tmp_path, resources=[gone, app("stock"), MEMORY]) as instance:
        _save(instance, "orders", b'"mine"')
        metadata = [("dapr-api-token", token_of("orders"))]
        request = runtime_pb.GetStateRequest(store_name="statestore", key="k")
        with grpc_channel(instance.grpc) as channel:
            assert call(channel, "GetState", request, metadata).code is grpc.StatusCode.OK
            assert ask(f"127.0.0.1:{ports[0]}", "GET", STATE).status == 200

            write_resources(tmp_path / "resources" / "all.yaml", [app("stock"), MEMORY])
            instance.wait_for_line("app removed", app_id="orders")

            before = instance.refused("unknown_token")
            assert instance.ask("GET", STATE, app="orders").status == 401
            assert call(channel, "GetState", request, metadata).code is grpc.StatusCode.UNAUTHENTICATED
            assert instance.refused("unknown_token") == before + 2
        for address in (f"127.0.0.1:{ports[0]}", f"unix:{tmp_path / 'o.sock'}"):
            with pytest.raises(OSError):  # noqa: PT011 - refused, or no such file
                ask(address, "GET", STATE)
        assert instance.ask("GET", STATE, app="stock").status == 204

        lines = len(instance.log())
        write_resources(tmp_path / "resources" / "all.yaml", [gone, app("stock"), MEMORY])
        instance.wait_for_line("app added", app_id="orders", after=lines)
        assert instance.ask("GET", STATE, app="orders").json() == "mine"


def test_the_last_app_left_still_needs_its_token(tmp_path):
    """An instance for many apps that is left with one, or with none, does not become that app's."""
    with running(tmp_path, resources=[app("orders"), app("stock"), MEMORY]) as instance:
        _save(instance, "stock", b'"mine"')
        write_resources(tmp_path / "resources" / "all.yaml", [app("stock"), MEMORY])
        instance.wait_for_line("app removed", app_id="orders")
        assert ask(instance.http, "GET", STATE).status == 401
        assert ask(instance.public, "GET", "/v1.0/metadata").status == 404
        assert instance.ask("GET", STATE, app="stock").json() == "mine"

        write_resources(tmp_path / "resources" / "all.yaml", [MEMORY])
        instance.wait_for_line("app removed", app_id="stock")
        assert ask(instance.http, "GET", STATE).status == 401
        assert instance.ask("GET", STATE, app="stock").status == 401
        assert ask(instance.http, "GET", "/v1.0/healthz").status == 204


def test_a_token_that_is_changed_counts_at_once(tmp_path):
    """After an App's token is changed the old one proves nothing and the new one does."""
    changed = app("orders", tokens=[{"sha256": hashlib.sha256(b"next").hexdigest()}])
    with running(tmp_path, resources=[app("orders"), MEMORY]) as instance:
        _save(instance, "orders", b"1")
        write_resources(tmp_path / "resources" / "all.yaml", [changed, MEMORY])
        instance.wait_for_line("app changed", app_id="orders")
        assert instance.ask("GET", STATE, app="orders").status == 401
        assert ask(instance.http, "GET", STATE, headers=[("dapr-api-token", "next")]).status == 200


def test_an_app_that_takes_anothers_token_is_not_loaded(tmp_path):
    """Two apps with one token are an error on reload, which names both documents, and the former apps stay."""
    thief = app("thief", tokens=app("stock")["spec"]["tokens"])
    with running(tmp_path, resources=[app("stock"), MEMORY]) as instance:
        _save(instance, "stock", b"1")
        write_resources(tmp_path / "resources" / "all.yaml", [app("stock"), thief, MEMORY])
        line = instance.wait_for_line("reload failed, what failed stays as it was")
        assert "all.yaml, document 2" in line["problem"]
        assert "all.yaml, document 1" in line["problem"]
        assert "spec.tokens[0]" in line["problem"]
        assert token_of("stock") not in instance.output()
        assert instance.ask("GET", "/v1.0/metadata", app="stock").json()["id"] == "stock"


def test_two_apps_with_one_token_do_not_start(tmp_path):
    """Two apps with one token are a start error that names both documents and the field."""
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("stock"), app("thief", tokens=app("stock")["spec"]["tokens"])])
    assert ended.value.code == 1
    for part in ("all.yaml, document 1", "all.yaml, document 2", "spec.tokens[0]"):
        assert part in ended.value.log
    assert token_of("stock") not in ended.value.log


def test_an_api_token_for_all_is_a_start_error(tmp_path):
    """DAPR_API_TOKEN on an instance for many apps is refused at the start: it would prove no app."""
    with pytest.raises(StartError) as ended:
        start(tmp_path, resources=[app("orders")], env={"DAPR_API_TOKEN": "one-for-all"})
    assert ended.value.code == 2
    assert "DAPR_API_TOKEN" in ended.value.log
    assert "one-for-all" not in ended.value.log


def test_the_app_of_a_single_instance_needs_no_token(tmp_path):
    """Started for one app, every request is that app's, whatever it claims; App resources add no other."""
    resources = [app("stock"), MEMORY]
    with running(tmp_path, app_id="orders", resources=resources) as instance:
        for headers in ([], [("dapr-caller-app-id", "stock")], [("dapr-api-token", token_of("stock"))]):
            assert ask(instance.http, "GET", "/v1.0/metadata", headers=headers).json()["id"] == "orders"
        write_resources(tmp_path / "resources" / "all.yaml", [app("stock"), app("third"), MEMORY])
        instance.signal(Signals.SIGHUP)
        assert ask(instance.http, "GET", "/v1.0/metadata").json()["id"] == "orders"
        assert ask(instance.public, "GET", "/v1.0/metadata").json()["id"] == "orders"


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_the_token_of_a_single_instance(tmp_path, engine):
    """With DAPR_API_TOKEN a single instance wants exactly that token, with daprd's answers; health stays open."""
    with running(
        tmp_path, f"--grpc-engine={engine}", app_id="orders", resources=[MEMORY], env={"DAPR_API_TOKEN": "secret"}
    ) as instance, grpc_channel(instance.grpc) as channel:  # fmt: skip
        right = [("dapr-api-token", "secret")]
        for headers in (
            [],
            [("dapr-api-token", "wrong")],
            [("authorization", "Bearer secret")],
            [("dapr-api-token", "")],
        ):
            answer = ask(instance.http, "GET", STATE, headers=headers)
            assert (answer.status, answer.body) == (401, b"invalid api token")
            assert (answer.header("content-type") or "").startswith("text/plain")
            assert call(channel, "GetMetadata", b"", headers).code is grpc.StatusCode.UNAUTHENTICATED
        assert ask(instance.http, "GET", STATE, headers=[*right, *right]).status == 401
        assert ask(instance.http, "GET", STATE, headers=right).status == 204
        assert call(channel, "GetMetadata", b"", right).code is grpc.StatusCode.OK
        for target in ("/v1.0/healthz", "/v1.0/healthz/outbound"):
            assert ask(instance.http, "GET", target).status == 204
        assert ask(instance.public, "GET", "/v1.0/metadata").status == 200
        assert ask(instance.http, "POST", "/v1.0/shutdown").status == 401
        assert instance.refused("wrong_api_token") == 2
        assert instance.refused("no_api_token") == 7
        assert instance.refused("several_tokens") == 1
