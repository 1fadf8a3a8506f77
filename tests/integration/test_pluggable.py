"""Pluggable components through the real process: two apps, a program that is killed, and one that comes late."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import until
from tests.support.block_apps import BindingApp, binding_app
from tests.support.daprd import daprd
from tests.support.instance import app, component, running, write_resources
from tests.support.pluggable import PluggableServer, pluggable_server
from tests.support.topic_apps import TopicApp, route, topic_app

SOCKETS = "DAPR_COMPONENTS_SOCKETS_FOLDER"


@pytest.fixture
def sockets():
    """A folder for sockets; their paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    yield folder
    shutil.rmtree(folder)


def test_two_apps_on_one_program(tmp_path, sockets):
    """State, messages and secrets of a program in JavaScript: each app its own, also after the program was killed."""
    bus = component("pubsub", "pubsub.javascript")
    vault = component("vault", "secretstores.javascript", secrets='{"db":{"user":"u"}}')
    store = component("store", "state.javascript", space="s")
    scopes = {"scopes": [{"storeName": "vault", "defaultAccess": "allow"}]}
    with (
        pluggable_server(sockets / "javascript.sock") as program,
        topic_app(TopicApp([route("t")])) as mail,
        topic_app(TopicApp([route("t")])) as stock,
    ):
        resources = [app("mail", mail.port, secrets=scopes), app("stock", stock.port), bus, vault, store]
        env = {SOCKETS: str(sockets)}
        with running(tmp_path, resources=resources, env=env) as instance:
            for who, value in (("mail", b"1"), ("stock", b"2")):
                body = b'[{"key":"k","value":%s}]' % value
                assert instance.ask("POST", "/v1.0/state/store", body, app=who).status == 204
            assert instance.ask("GET", "/v1.0/state/store/k", app="mail").body == b"1"
            assert instance.ask("GET", "/v1.0/state/store/k", app="stock").body == b"2"
            old = instance.ask("POST", "/v1.0/state/store", b'[{"key":"k","value":3,"etag":"x"}]', app="mail")
            assert (old.status, old.code) == (409, "ERR_STATE_SAVE")
            shown = instance.ask("GET", "/v1.0/metadata", app="mail").json()["components"]
            capabilities = {one["name"]: one.get("capabilities") for one in shown}
            assert sorted(capabilities["store"]) == ["ACTOR", "ETAG", "QUERY_API", "TRANSACTIONAL", "TTL"]
            query = instance.ask("POST", "/v1.0-alpha1/state/store/query", b'{"filter":{}}', app="mail").json()
            assert [one["key"] for one in query["results"]] == ["k"]
            assert instance.ask("GET", "/v1.0/secrets/vault/db", app="mail").json() == {"user": "u"}
            assert instance.ask("GET", "/v1.0/secrets/vault/none", app="mail").status != 200
            instance.wait_for_line("subscription started", app_id="mail")
            instance.wait_for_line("subscription started", app_id="stock")
            assert instance.ask("POST", "/v1.0/publish/pubsub/t", b'"a"', app="mail").status == 204
            until(lambda: len(mail.got) == len(stock.got) == 1)

            program.kill()
            answer = instance.ask("GET", "/v1.0/state/store/k", app="mail")
            assert (answer.status, answer.code) == (500, "ERR_STATE_GET")
            program.start()
            until(lambda: instance.ask("GET", "/v1.0/state/store/k", app="mail").status == 204)  # it began anew
            until(lambda: instance.ask("POST", "/v1.0/publish/pubsub/t", b'"b"', app="mail").status == 204)
            until(lambda: len(mail.got) >= 2 and len(stock.got) >= 2)


def test_an_output_binding(tmp_path, sockets):
    """Operations of a binding in JavaScript are called with data and metadata; its refusals and unknown ones are Dapr's errors."""
    resources = [app("orders"), component("out", "bindings.javascript")]
    env = {SOCKETS: str(sockets)}
    with (
        pluggable_server(sockets / "javascript.sock") as program,
        running(tmp_path, resources=resources, env=env) as instance,
    ):

        def invoke(operation: str):
            body = b'{"operation":"%s","data":{"a":1},"metadata":{"k":"v"}}' % operation.encode()
            return instance.ask("POST", "/v1.0/bindings/out", body, app="orders")

        answer = invoke("echo")
        assert (answer.status, answer.body) == (200, b'echo {"a":1}')
        assert (answer.header("metadata.k"), answer.header("metadata.by")) == ("v", "javascript")
        for operation, problem in (("create", "it is full"), ("destroy", "supported operations:create echo")):
            answer = invoke(operation)
            assert (answer.status, answer.code) == (500, "ERR_INVOKE_OUTPUT_BINDING")
            assert problem in answer.json()["message"]
        program.kill()
        assert invoke("echo").status == 500
        program.start()
        until(lambda: invoke("echo").status == 200)


def emit(ask, data: bytes) -> int:
    """Have the binding `in` emit an event to all that read it; the status of the call."""
    return ask("POST", "/v1.0/bindings/in", b'{"operation":"emit","data":%s,"metadata":{"k":"v"}}' % data).status


def answers(ask) -> list[str]:
    """What the binding `in` was answered."""
    return ask("POST", "/v1.0/bindings/in", b'{"operation":"answers"}').json()


def test_an_input_binding(tmp_path, sockets):
    """Each app that wants a binding in JavaScript gets every event; a refused one comes again, and one of an absent app waits."""
    env = {SOCKETS: str(sockets)}
    refusals = [500]
    with ExitStack() as stack:
        program = stack.enter_context(pluggable_server(sockets / "javascript.sock"))
        mail = BindingApp({"/in": 200}, status=lambda _: refusals.pop() if refusals else 200, answer=b"thanks")
        stock = BindingApp({"/in": 200})
        here = ExitStack()
        here.enter_context(binding_app(mail))
        stack.enter_context(binding_app(stock))
        apps = [app("mail", mail.port), app("stock", stock.port), app("other")]
        source = component("in", "bindings.javascript")
        instance = stack.enter_context(running(tmp_path, resources=[*apps, source], env=env))
        ask = partial(instance.ask, app="other")
        shown = {one["name"]: one for one in ask("GET", "/v1.0/metadata").json()["components"]}
        assert shown["in"]["capabilities"] == ["INPUT_BINDING", "OUTPUT_BINDING"]
        for who in ("mail", "stock"):
            instance.wait_for_line("input binding started", app_id=who)
        assert emit(ask, b'{"n":1}') == 200
        until(lambda: (len(mail.got), len(stock.got)) == (2, 1))
        path, headers, body = mail.got[1]
        assert (path, body, headers["k"]) == ("/in", b'{"n":1}', "v")
        wanted = ["in.mail thanks", "in.mail the app did not accept the event", "in.stock "]
        until(lambda: sorted(answers(ask)) == wanted)

        here.close()
        instance.wait_for_line("input binding paused", app_id="mail")
        assert emit(ask, b"2") == 200
        until(lambda: stock.bodies("/in") == [{"n": 1}, 2])
        stack.enter_context(binding_app(mail, mail.port))
        until(lambda: 2 in mail.bodies("/in"))

        program.kill()
        program.start()
        until(lambda: emit(ask, b"3") == 200 and 3 in mail.bodies("/in") and 3 in stock.bodies("/in"))


def test_an_input_binding_beside_daprd(tmp_path, sockets):
    """The same program beside daprd: the same events for the app, and the same acknowledgements for the program."""
    source = component("in", "bindings.javascript")
    folder = tmp_path / "resources"
    folder.mkdir()
    write_resources(folder / "in.yaml", [source])
    found: list[Any] = []
    for number, real in enumerate((True, False)):
        with ExitStack() as stack:
            stack.enter_context(pluggable_server(sockets / "javascript.sock"))
            orders = stack.enter_context(binding_app(BindingApp({"/in": 200}, answer=b"thanks")))
            where = tmp_path / str(number)
            flags = (f"--app-port={orders.port}",)
            made = (
                stack.enter_context(daprd(where, folder, "orders", *flags, sockets=sockets))
                if real
                else stack.enter_context(
                    running(where, "--app-id=orders", f"--resources-path={folder}", *flags, env={SOCKETS: str(sockets)})
                )
            )
            ask = made.ask
            until(lambda ask=ask, orders=orders: emit(ask, b'{"n":1}') == 200 and orders.got)
            until(lambda ask=ask: "in thanks" in answers(ask))
            path, headers, body = orders.got[0]
            found.append((path, body, headers["k"], headers["content-type"], set(answers(ask))))
    assert found[0] == found[1]


def test_a_socket_that_appears(tmp_path, sockets):
    """A component whose program is not there yet is opened when its socket appears, and needs no reload."""
    late = component("late", "state.late", spec={"ignoreErrors": True})
    program = PluggableServer(sockets / "late.sock")
    env = {SOCKETS: str(sockets)}
    with running(tmp_path, resources=[app("orders"), late], env=env) as instance:
        assert instance.ask("GET", "/v1.0/state/late/k", app="orders").status in (400, 500)
        program.start()
        try:
            until(lambda: instance.ask("GET", "/v1.0/state/late/k", app="orders").status == 204)
        finally:
            program.kill()
