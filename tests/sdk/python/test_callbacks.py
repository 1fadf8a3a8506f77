"""What the official Python SDK is called for: input bindings over gRPC and FastAPI, changes of configuration."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from dapr.clients import DaprClient
from dapr.ext.grpc import App, BindingRequest
from fastapi import FastAPI, Request

from dapr_shared.contracts.configuration import ConfigurationItem
from tests.support.apps import until
from tests.support.block_apps import write_item
from tests.support.instance import app, component, free_ports, running

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mail:
    """What came; the first event is refused, so that it comes again."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def take(self, what: Any) -> None:
        self.got.append(what)
        if len(self.got) == 1:
            raise ValueError("refused on purpose")


@contextmanager
def grpc_app(port: int, mail: Mail) -> Iterator[None]:
    """The gRPC extension with one binding."""
    made = App()

    @made.binding("tick")
    def tick(request: BindingRequest) -> None:
        mail.take(request.data)

    thread = threading.Thread(target=made.run, args=(port, "127.0.0.1"), name="gRPC app")
    thread.start()
    try:
        yield
    finally:
        made.stop()
        thread.join(10)


@contextmanager
def fastapi_app(port: int, mail: Mail) -> Iterator[None]:
    """A route of the binding's name for POST alone, as Dapr's examples have it; OPTIONS is answered 405."""
    made = FastAPI()

    @made.post("/tick")
    async def tick(request: Request) -> None:
        mail.take(await request.body())

    server = uvicorn.Server(uvicorn.Config(made, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize(("protocol", "serve"), [("grpc", grpc_app), ("http", fastapi_app)])
def test_an_input_binding(tmp_path, protocol, serve):
    """The app is called for the binding that it has, and again after it has raised."""
    (port,) = free_ports(1)
    mail = Mail()
    resources = [
        app("orders", port, protocol=protocol),
        component("tick", "bindings.cron", schedule="@every 100ms"),
        component("unwanted", "bindings.cron", schedule="@every 100ms"),
    ]
    with serve(port, mail), running(tmp_path, resources=resources) as instance:
        instance.wait_for_line("input binding not wanted by the app", component="unwanted")
        until(lambda: len(mail.got) >= 3)
        assert set(mail.got) == {b""}
        failed = instance.metric("dapr_component_input_binding_count", component="tick", success="false")
        assert failed == 1


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_changes_of_configuration(tmp_path, monkeypatch, engine):
    """Over a listener of the app's own a subscription is told changes until it is ended.

    The SDK sends no token with this call, so that a shared listener would refuse it. Its asynchronous client cannot
    subscribe at all: it reads its call as the blocking client does.
    """
    http, grpc = free_ports(2)
    file = tmp_path / "configuration.db"
    resources = [
        app("orders", listeners={"httpPort": http, "grpcPort": grpc}),
        component("configstore", "configuration.sqlite", connectionString=str(file)),
    ]
    monkeypatch.setenv("DAPR_HTTP_ENDPOINT", f"http://127.0.0.1:{http}")
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", f"127.0.0.1:{grpc}")
    monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
    told: list[tuple[str, str]] = []
    with running(tmp_path, f"--grpc-engine={engine}", resources=resources) as instance, DaprClient() as client:
        number = client.subscribe_configuration(
            "configstore", ["colour"], lambda number, found: told.append((number, found.items["colour"].value))
        )
        write_item(file, "colour", ConfigurationItem("red"))
        until(lambda: told)
        assert told == [(number, "red")]
        assert client.unsubscribe_configuration("configstore", number)
        assert not client.unsubscribe_configuration("configstore", number)
        until(lambda: instance.metric("dapr_shared_calls_in_flight", app_id="orders") == 0)
