"""The real process in cluster mode at a real API server: apps and resources come, change and go while it runs."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support import chart
from tests.support.calls import ask
from tests.support.instance import StartError, start, token_of
from tests.support.kubernetes_instance import (
    address,
    app,
    cluster_instance,
    id_of,
    install_kinds,
    memory,
    metadata,
    of_dapr,
    pod,
    readiness,
    served,
    until,
)
from tests.support.kubernetes_rights import verbs_of

pytestmark = pytest.mark.kubernetes
NAMELESS = {"type": "state.in-memory", "version": "v1", "metadata": [{"name": "", "value": "x"}]}
"""Passes the schema of the kind, and is no component."""
SAVE = b'[{"key":"k","value":1}]'


def components(instance, app_id: str) -> set[str]:
    return {one["name"] for one in metadata(instance, app_id).get("components", [])}


def test_resources_come_change_and_go(kinds, namespace, many):
    """Apps and components of the namespace are served as they are applied, changed and deleted, without a restart."""
    kinds.apply(app("first"), memory("store", scopes=["first"]), namespace=namespace)
    with many() as instance:
        assert id_of(instance, "first") == "first", "what is there at the start is served from the first request on"
        assert components(instance, "first") == {"store"}
        assert instance.ask("POST", "/v1.0/state/store", SAVE, app="first").status == 204

        kinds.apply(app("second", channel={"port": 9, "address": "10.0.0.1"}), namespace=namespace)
        until(lambda: id_of(instance, "second") == "second", "a new app")
        assert components(instance, "second") == set(), "scopes hold"
        assert address(instance, "second") == ("10.0.0.1", 9)

        kinds.apply(app("second", channel={"port": 10, "address": "10.0.0.1"}), namespace=namespace)
        until(lambda: address(instance, "second") == ("10.0.0.1", 10), "a changed app")
        kinds.apply(memory("store", scopes=["first", "second"]), namespace=namespace)
        until(lambda: components(instance, "second") == {"store"}, "changed scopes")
        assert instance.ask("GET", "/v1.0/state/store/k", app="first").body == b"1", "the store was not opened again"

        kinds.delete("app.shared.dapr.io", "second", namespace)
        kinds.delete("component.dapr.io", "store", namespace)
        until(lambda: id_of(instance, "second") == "", "an app that is gone")
        until(lambda: components(instance, "first") == set(), "a component that is gone")
        assert id_of(instance, "first") == "first"


@pytest.mark.slow
def test_other_namespaces_are_not_served(kinds, namespace, many):
    """Without --watch-namespaces nothing of another namespace is read."""
    other = kinds.create_namespace()
    try:
        kinds.apply(app("there"), namespace=other)
        kinds.apply(app("here"), namespace=namespace)
        with many() as instance:
            assert (id_of(instance, "here"), id_of(instance, "there")) == ("here", "")
        with many(f"--watch-namespaces={namespace},{other}") as instance:
            assert (id_of(instance, "here"), id_of(instance, "there")) == ("here", "there")
    finally:
        kinds.delete("namespace", other)


def test_a_wrong_object_stops_no_other(kinds, namespace, many):
    """What is wrong is left out and told by its name; mended it is served, wrong again its last good version is."""
    wrong = of_dapr("Component", "wrong", NAMELESS)
    rule = {"rules": [{"match": "event.type ==", "path": "/x"}]}
    kinds.apply(
        app("good"),
        app("bad", configuration="missing"),
        app("twin", tokens=app("good")["spec"]["tokens"]),
        memory("right"),
        wrong,
        of_dapr("Component", "unknown", {"type": "state.nonsense", "version": "v1", "metadata": []}),
        of_dapr("Subscription", "rule", {"pubsubname": "p", "topic": "t", "routes": rule}),
        namespace=namespace,
    )
    with many() as instance:
        assert id_of(instance, "good") == "good"
        assert components(instance, "good") == {"right"}
        assert id_of(instance, "bad") == ""
        told = {line["origin"]: line["problem"] for line in instance.log() if line["msg"] == "resource refused"}
        assert set(told) == {
            f"{kind} {namespace}/{name}"
            for kind, name in [
                ("App", "bad"),
                ("App", "twin"),
                ("Component", "wrong"),
                ("Component", "unknown"),
                ("Subscription", "rule"),
            ]
        }
        assert "there is no Configuration 'missing'" in told[f"App {namespace}/bad"]

        kinds.apply(of_dapr("Configuration", "missing", {}), memory("wrong"), namespace=namespace)
        until(lambda: id_of(instance, "bad") == "bad", "an app whose Configuration has come")
        until(lambda: components(instance, "good") == {"right", "wrong"}, "a mended component")
        instance.wait_for_line("resource no longer refused", origin=f"Component {namespace}/wrong")
        before = len(instance.log())
        kinds.apply(wrong, namespace=namespace)
        line = instance.wait_for_line("resource refused", after=before, origin=f"Component {namespace}/wrong")
        assert "former version" in line["problem"]
        assert components(instance, "good") == {"right", "wrong"}


def test_many_changes_are_few_reloads(kinds, namespace, many):
    """Objects that come together are put in force together; a change of status alone is none."""
    with many() as instance:
        kinds.apply(*(app(f"app-{number}") for number in range(60)), namespace=namespace)
        until(lambda: all(id_of(instance, f"app-{number}") for number in (0, 30, 59)), "all apps")
        reloads = instance.metric("dapr_shared_reload_total", result="done")
        assert reloads <= 6, "not one each"
        kinds.patch_status("app.shared.dapr.io", "app-0", namespace, {"ready": True, "observedGeneration": 1})
        kinds.apply(app("last"), namespace=namespace)
        until(lambda: id_of(instance, "last"), "the change after it")
        assert instance.metric("dapr_shared_reload_total", result="done") == reloads + 1


@pytest.mark.slow
def test_an_app_of_the_flags_is_one_of_many(kinds, namespace, many):
    """With --multi-app the app of --app-id is proved by DAPR_API_TOKEN, the others by their own tokens."""
    kinds.apply(app("other"), namespace=namespace)
    with many("--multi-app", app_id="mine", env={"DAPR_API_TOKEN": token_of("mine")}) as instance:
        assert (id_of(instance, "mine"), id_of(instance, "other")) == ("mine", "other")
        assert ask(instance.http, "GET", "/v1.0/metadata").status == 401
    with many("--multi-app", app_id="mine") as instance:
        instance.wait_for_line("no token proves this app", app_id="mine")
        assert id_of(instance, "mine") == ""


# One app ------------------------------------------------------------------------------------------------------------
def test_one_app_as_daprd(kinds, namespace, many):
    """With --app-id alone: the components that are scoped to it, live; no App; and the Configuration of --config."""
    denied = {"api": {"denied": [{"name": "shutdown", "version": "v1.0", "protocol": "http"}]}}
    kinds.apply(
        app("other"),
        memory("for-all"),
        memory("mine", scopes=["orders"]),
        memory("not-mine", scopes=["other"]),
        of_dapr("Component", "broken", NAMELESS, scopes=["other"]),
        of_dapr("Configuration", "strict", denied),
        namespace=namespace,
    )
    with many("--config=strict", app_id="orders") as instance:
        found = ask(instance.http, "GET", "/v1.0/metadata").json()
        assert found["id"] == "orders"
        assert {one["name"] for one in found["components"]} == {"for-all", "kubernetes", "mine"}
        assert ask(instance.http, "POST", "/v1.0/shutdown").status == 404
        kinds.apply(memory("new"), namespace=namespace)
        until(lambda: "new" in ask(instance.http, "GET", "/v1.0/metadata").body.decode(), "a new component")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "broken", "said"),
    [
        (["--config=missing"], False, "there is no Configuration 'missing' in namespace"),
        (["--config=a", "--config=b"], False, "there is one Configuration"),
        ([], True, "spec.metadata[0].name"),
    ],
)
def test_what_ends_an_instance_of_one_app(kinds, namespace, many, flags, broken, said):
    """A Configuration that is not there, and a component of its app that is wrong, end it with 1, as daprd."""
    if broken:
        kinds.apply(of_dapr("Component", "broken", NAMELESS), namespace=namespace)
    with pytest.raises(StartError) as caught, many(*flags, app_id="orders"):
        pass
    assert caught.value.code == 1
    assert said in caught.value.log


# The API server is away ---------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_api_server_goes_and_comes_back(own_api_server, tmp_path):
    """While it is away what is known is served, and told once; what changes then is taken when it is back."""
    install_kinds(own_api_server)
    namespace = own_api_server.create_namespace()
    own_api_server.apply(app("first"), memory("store"), namespace=namespace)
    with cluster_instance(tmp_path / "instance", own_api_server.kubeconfig, namespace) as instance:
        own_api_server.kill_server()
        instance.wait_for_line("the API server does not answer, what is known is served")
        assert id_of(instance, "first") == "first"
        assert instance.ask("POST", "/v1.0/state/store", SAVE, app="first").status == 204
        assert readiness(instance)[0] == 200
        own_api_server.start_server()
        own_api_server.apply(app("second"), namespace=namespace)
        until(lambda: id_of(instance, "second") == "second", "a change after it is back", 60)
        assert instance.ask("GET", "/v1.0/state/store/k", app="first").body == b"1"
        assert len([line for line in instance.log() if line["msg"].startswith("the API server does not")]) == 1


@pytest.mark.slow
def test_a_start_without_the_api_server(own_api_server, tmp_path):
    """It lives, is not ready and says why; is ready when the API server comes; ends at once when told to while it waits."""
    install_kinds(own_api_server)
    namespace = own_api_server.create_namespace()
    own_api_server.apply(app("first"), namespace=namespace)
    own_api_server.kill_server()
    with waiting_instance(tmp_path / "stopped", own_api_server, namespace) as instance:
        assert instance.stop() == 0
    with waiting_instance(tmp_path / "served", own_api_server, namespace) as instance:
        assert ask(instance.public, "GET", "/livez").status == 200
        status, why = readiness(instance)
        assert status == 503
        assert "the resources of the cluster are not known yet" in why
        own_api_server.start_server()
        until(lambda: id_of_or_nothing(instance, "first") == "first", "the start", 150)
        assert readiness(instance) == (200, "ok\n")
    own_api_server.kill_server()
    begun = time.monotonic()
    with pytest.raises(StartError) as caught:
        start(
            tmp_path / "single",
            "--mode=kubernetes",
            env={"KUBECONFIG": str(own_api_server.kubeconfig), "NAMESPACE": namespace},
            app_id="orders",
            entry="daprd",
            patience=60,
        )
    assert caught.value.code == 1
    assert time.monotonic() - begun < 50
    assert "no answer within 30 s" in caught.value.log


@pytest.mark.slow
def test_a_start_without_the_api_server_and_with_a_configuration(own_api_server, tmp_path):
    """It lives while not even its own Configuration is known, and has it in force when the API server has come."""
    install_kinds(own_api_server)
    namespace = own_api_server.create_namespace()
    features = [{"name": "OfTheConfiguration", "enabled": True}]
    own_api_server.apply(
        of_dapr("Configuration", "settings", {"features": features}), app("first"), namespace=namespace
    )
    own_api_server.kill_server()
    told = "waiting for the Configuration"
    with waiting_instance(tmp_path / "served", own_api_server, namespace, "--config=settings", told=told) as instance:
        assert ask(instance.public, "GET", "/livez").status == 200
        status, why = readiness(instance)
        assert status == 503
        assert "the Configuration of the instance is not known yet" in why
        own_api_server.start_server()
        until(lambda: id_of_or_nothing(instance, "first") == "first", "the start", 90)
        assert readiness(instance) == (200, "ok\n")
        assert "OfTheConfiguration" in metadata(instance, "first")["enabledFeatures"]


@contextmanager
def waiting_instance(
    folder, server, namespace: str, *flags: str, told: str = "waiting for the resources of the cluster"
):
    """An instance that has said that it waits for the API server."""
    env = {"KUBECONFIG": str(server.kubeconfig), "NAMESPACE": namespace}
    made = start(folder, "--mode=kubernetes", *flags, env=env, entry="daprd", ready="")
    try:
        made.wait_for_line(told)
        yield made
        made.close()
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def id_of_or_nothing(instance, app_id: str) -> str:
    """Empty also while nobody listens yet."""
    try:
        return id_of(instance, app_id)
    except OSError:
        return ""


# What it may do -----------------------------------------------------------------------------------------------------
def test_rights_that_are_missing(kinds, namespace, tmp_path):
    """What a process may not read is told once for each kind, the rest is served, and all is taken up when the role is mended."""
    account = kinds.kubeconfig_for(kinds.service_account_token(namespace, "default"), namespace)
    full = chart.one(chart.render({"shared": {"multiApp": {"enabled": True}}}), "Role", "my-dapr-shared-chart")["rules"]
    little = [{"apiGroups": ["shared.dapr.io"], "resources": ["apps"], "verbs": ["list", "watch"]}]
    kinds.apply(*role(little), app("first"), pod("runner", app_id="runner", app_port="1"), namespace=namespace)
    kinds.run_pod(namespace, "runner", address="10.244.1.5")
    followed = {verb.resource: verb.name.removeprefix("list ") for verb in verbs_of(role(full)) if verb.verb == "list"}
    del followed["apps"]
    with cluster_instance(tmp_path / "little", account, namespace) as instance:
        assert id_of(instance, "first") == "first", "what may be read is served"
        for resource in followed.values():
            line = instance.wait_for_line(
                "a kind of the cluster cannot be read, the others are served", resource=resource
            )
            for word in (f"the service account {namespace}/default", "verb list", resource, f"namespace {namespace}"):
                assert word in line["problem"]
        line = instance.wait_for_line("not written to the cluster", object="lease")
        for word in (f"the service account {namespace}/default", "verb get on leases.coordination.k8s.io", namespace):
            assert word in line["problem"]
        kinds.apply(*role(full), namespace=namespace)
        for resource in followed.values():
            instance.wait_for_line("a kind of the cluster can be read again", resource=resource)
        until(lambda: served(instance).get("runner") == "http://10.244.1.5:1", "the app of the Pod")
        refusals = [line for line in instance.log() if line["msg"].startswith("a kind of the cluster cannot be read")]
        assert len(refusals) == len(followed), "each is told once, however often it is tried"


def role(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A Role of the default service account."""
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "instance"}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "instance"}
    subject = {"kind": "ServiceAccount", "name": "default"}
    return [
        {**head, "kind": "Role", "rules": rules},
        {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]},
    ]
