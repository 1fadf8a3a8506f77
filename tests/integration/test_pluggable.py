"""Pluggable components through the real process: two apps, a program that is killed, and one that comes late."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.apps import until
from tests.support.instance import app, component, running
from tests.support.pluggable import PluggableServer, pluggable_server
from tests.support.topic_apps import TopicApp, route, topic_app


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
        env = {"DAPR_COMPONENTS_SOCKETS_FOLDER": str(sockets)}
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
    env = {"DAPR_COMPONENTS_SOCKETS_FOLDER": str(sockets)}
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


def test_a_socket_that_appears(tmp_path, sockets):
    """A component whose program is not there yet is opened when its socket appears, and needs no reload."""
    late = component("late", "state.late", spec={"ignoreErrors": True})
    program = PluggableServer(sockets / "late.sock")
    env = {"DAPR_COMPONENTS_SOCKETS_FOLDER": str(sockets)}
    with running(tmp_path, resources=[app("orders"), late], env=env) as instance:
        assert instance.ask("GET", "/v1.0/state/late/k", app="orders").status in (400, 500)
        program.start()
        try:
            until(lambda: instance.ask("GET", "/v1.0/state/late/k", app="orders").status == 204)
        finally:
            program.kill()
