"""Bindings through the real process: outputs over HTTP and gRPC, cron to apps that come and go."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import appcallback_pb, common_pb, runtime_pb
from tests.support.apps import echo_app, until
from tests.support.block_apps import BindingApp, GrpcBindingApp, binding_app, grpc_binding_app
from tests.support.calls import call, grpc_channel
from tests.support.instance import Instance, app, component, free_ports, running, token_of

if TYPE_CHECKING:
    from pathlib import Path

CRON = {"schedule": "@every 50ms"}


def invoke(made: Instance, name: str, who: str = "orders", **body: Any) -> Any:
    return made.ask("POST", f"/v1.0/bindings/{name}", json.dumps(body).encode(), app=who)


def files(folder: Path, name: str = "files", **more: Any) -> dict:
    return component(name, "bindings.localstorage", rootPath=str(folder / name), **more)


def test_an_output_over_http(tmp_path):
    """Create, get and delete a file; an answer without data is 204; what is wrong is ERR_INVOKE_OUTPUT_BINDING."""
    with running(
        tmp_path, resources=[app("orders"), app("stock"), files(tmp_path), files(tmp_path, "mine", scopes=["stock"])]
    ) as made:
        created = invoke(made, "files", operation="create", data={"a": 1}, metadata={"fileName": "x.json"})
        assert (created.status, created.json()) == (200, {"fileName": "x.json"})
        assert invoke(made, "files", operation="get", metadata={"fileName": "x.json"}).json() == {"a": 1}
        assert invoke(made, "files", operation="delete", metadata={"fileName": "x.json"}).status == 204
        for body in ({}, {"operation": "fly"}, {"operation": "get", "metadata": {"fileName": "../secret"}}):
            answer = invoke(made, "files", **body)
            assert (answer.status, answer.json()["errorCode"]) == (500, "ERR_INVOKE_OUTPUT_BINDING")
        assert invoke(made, "mine", "stock", operation="list").json() == []
        refused = invoke(made, "mine", operation="list")
        assert refused.json()["message"] == "error invoking output binding mine: couldn't find output binding mine"
        broken = made.ask("POST", "/v1.0/bindings/files", b"{", app="orders")
        assert (broken.status, broken.json()["errorCode"]) == (400, "ERR_MALFORMED_REQUEST")
        labels = {"component": "files", "operation": "create", "success": "true"}
        assert made.metric("dapr_component_output_binding_count", app_id="orders", **labels) == 1


def test_response_metadata_over_http(tmp_path):
    """The endpoint's status and headers come as `metadata.` headers, with an error too; the trace goes on."""
    with echo_app() as target:
        target.answer_headers.append(("x-answer", "yes"))
        endpoint = component("endpoint", "bindings.http", url=f"http://127.0.0.1:{target.port}")
        with running(tmp_path, resources=[app("orders"), endpoint]) as made:
            answer = invoke(
                made, "endpoint", operation="post", data={"a": 1}, metadata={"path": "/things", "X-Mine": "1"}
            )
            assert answer.status == 200
            assert answer.header("metadata.statuscode") == "200"
            assert answer.header("metadata.x-answer") == "yes"
            seen = target.seen[-1]
            assert (seen.method, seen.path, seen.body) == ("POST", "/things", b'{"a": 1}')
            assert seen.header("x-mine") == ["1"]
            assert seen.header("traceparent")
            assert not seen.header("dapr-api-token")
            failed = invoke(made, "endpoint", operation="get", metadata={"path": "/status/418"})
            assert (failed.status, failed.header("metadata.statuscode")) == (500, "418")
            assert failed.json()["message"] == "error invoking output binding endpoint: received status code 418"


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_an_output_over_grpc(tmp_path, engine):
    """The same over gRPC: data, metadata, headers; the caller's token goes nowhere."""
    with ExitStack() as stack:
        target = stack.enter_context(echo_app())
        endpoint = component("endpoint", "bindings.http", url=f"http://127.0.0.1:{target.port}")
        made = stack.enter_context(running(tmp_path, f"--grpc-engine={engine}", resources=[app("orders"), endpoint]))
        channel = stack.enter_context(grpc_channel(made.grpc))
        token = [("dapr-api-token", token_of("orders"))]
        request = runtime_pb.InvokeBindingRequest(name="endpoint", operation="put", data=b"raw", metadata={"path": "p"})
        answer = call(channel, "InvokeBinding", request, token)
        assert answer.code is grpc.StatusCode.OK
        response = runtime_pb.InvokeBindingResponse.FromString(answer.data)
        assert response.metadata["statusCode"] == "200"
        assert ("metadata.statuscode", "200") in answer.initial
        assert (target.seen[-1].method, target.seen[-1].body) == ("PUT", b"raw")
        request = runtime_pb.InvokeBindingRequest(name="nobody", operation="put")
        assert call(channel, "InvokeBinding", request, token).code is grpc.StatusCode.INTERNAL


def test_cron_calls_an_app_that_wants_it(tmp_path):
    """OPTIONS answers 405 or 2xx: the app gets events at the component's route; one that answers 404 gets none."""
    with ExitStack() as stack:
        orders = stack.enter_context(binding_app(BindingApp(wants={"/tick": 405, "/named": 200})))
        stock = stack.enter_context(binding_app(BindingApp()))
        resources = [
            app("orders", orders.port),
            app("stock", stock.port),
            component("clock", "bindings.cron", route="/tick", **CRON),
            component("named", "bindings.cron", **CRON),
            component("forced", "bindings.cron", direction="input", scopes=["stock"], **CRON),
            component("never", "bindings.cron", direction="output", **CRON),
        ]
        made = stack.enter_context(running(tmp_path, resources=resources))
        until(lambda: {path for path, _, _ in orders.got} == {"/tick", "/named"})
        until(lambda: stock.got)
        assert {path for path, _, _ in stock.got} == {"/forced"}
        assert set(orders.asked) == {"/tick", "/named"}
        headers = orders.got[0][1]
        assert "readtimeutc" in headers
        assert made.metric("dapr_component_input_binding_count", app_id="orders", success="true") > 0


def test_an_app_that_comes_and_goes(tmp_path):
    """While the app is away the binding pauses; when it is back it is asked again, and may want something else."""
    (port,) = free_ports(1)
    resources = [app("orders", port), component("clock", "bindings.cron", **CRON)]
    with running(tmp_path, resources=resources) as made:
        first = BindingApp(wants={"/clock": 405})
        with binding_app(first, port):
            until(lambda: len(first.got) > 2)
        made.wait_for_line("input binding paused")
        second = BindingApp()
        with binding_app(second, port):
            until(lambda: second.asked)
            made.wait_for_line("input binding stopped")
            assert second.got == []


def test_an_answer_that_is_no_success_is_told(tmp_path):
    """A status outside 2xx is an event and a failure in the metric; the clock goes on."""
    with binding_app(BindingApp(wants={"/clock": 200}, status=lambda _path: 500)) as orders:
        resources = [app("orders", orders.port), component("clock", "bindings.cron", **CRON)]
        with running(tmp_path, resources=resources) as made:
            made.wait_for_line("event not accepted")
            until(lambda: len(orders.got) > 2)
            assert made.metric("dapr_component_input_binding_count", app_id="orders", success="false") > 0


def test_a_grpc_app_and_what_its_answer_asks_for(tmp_path):
    """A gRPC app lists its bindings; its answer calls output bindings and saves state, as itself."""

    def reply(_event: Any) -> Any:
        return appcallback_pb.BindingEventResponse(
            data=b'{"seen": true}',
            to=["files", "nowhere", "mine"],
            store_name="statestore",
            states=[common_pb.StateItem(key="k", value=b'"from the answer"')],
        )

    with ExitStack() as stack:
        orders = stack.enter_context(grpc_binding_app(GrpcBindingApp(wants=["clock"], reply=reply)))
        resources = [
            app("orders", orders.port, protocol="grpc"),
            app("stock"),
            component("clock", "bindings.cron", schedule="@every 200ms"),
            component("other", "bindings.cron", **CRON),
            files(tmp_path),
            files(tmp_path, "mine", scopes=["stock"]),
        ]
        made = stack.enter_context(running(tmp_path, resources=resources))
        until(lambda: orders.got)
        assert {event.name for event in orders.got} == {"clock"}
        listed = until(lambda: invoke(made, "files", operation="list").json())
        assert json.loads((tmp_path / "files" / listed[0].rpartition("/")[2]).read_text()) == {"seen": True}
        saved = made.ask("GET", "/v1.0/state/statestore/k", app="orders")
        assert saved.json() == "from the answer"
        made.wait_for_line("answer to an event not carried out", target="mine")
        assert not any((tmp_path / "mine").iterdir())
