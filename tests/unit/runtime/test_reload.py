"""Resources come, change and go while the instance serves: what they say is in force as a whole, or not at all."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256

import pytest

from dapr_shared.core.ids import AppRef
from dapr_shared.runtime.reload import WRONG_RESOURCES

SAVE = b'[{"key":"k","value":1}]'


async def save(desk, name, store="store") -> None:
    assert (await desk.ask(name, f"/v1.0/state/{store}", SAVE, method="POST")).status == 204


async def test_an_app_is_added_and_removed(desk):
    """A new app is served at once; a removed one is refused, and what it set is forgotten when it comes back."""
    async with desk.start(desk.app("a")):
        assert await desk.status("b") == 401
        assert await desk.reload(desk.app("a"), desk.app("b"))
        assert await desk.id_of(desk.token("b")) == "b"
        await desk.ask("b", "/v1.0/metadata/note", b"x", method="PUT")
        assert await desk.reload(desk.app("a"))
        assert await desk.status("b") == 401
        assert await desk.id_of(desk.token("a")) == "a"
        assert await desk.reload(desk.app("a"), desk.app("b"))
        assert "note" not in json.loads((await desk.ask("b", "/v1.0/metadata")).body)["extended"]


async def test_removing_apps_down_to_one_does_not_open_the_instance(desk):
    """With one app left a request without evidence is refused as before; with none left, every request is."""
    async with desk.start(desk.app("a"), desk.app("b")):
        assert await desk.reload(desk.app("a"))
        assert (await desk.instance.http("GET", "/v1.0/metadata")).status == 401
        assert await desk.reload()
        assert await desk.status("a") == 401


async def test_what_does_not_change_is_not_touched(desk):
    """A change of one app leaves the channel and the components of another as they are, the very same objects."""
    store = desk.component("store")
    async with desk.start(desk.app("a", channel={"port": 1}), desk.app("b", channel={"port": 1}), store):
        parts = desk.instance.parts
        channel, other = parts.channels.get(AppRef("a")), parts.channels.get(AppRef("b"))
        await save(desk, "a")
        assert await desk.reload(desk.app("a", channel={"port": 1}), desk.app("b", channel={"port": 2}), store)
        assert parts.channels.get(AppRef("a")) is channel
        assert parts.channels.get(AppRef("b")) is not other
        assert (await desk.ask("a", "/v1.0/state/store/k")).body == b"1"


async def test_reload_without_a_change(desk):
    """Resources that say the same are in force already: nothing is done or told."""
    async with desk.start(desk.app("a")):
        assert await desk.reload(desk.app("a"))
    assert "resources reloaded" not in desk.log


async def test_a_token_moves_to_another_app(desk):
    """From the reload on, a token proves the app that it now belongs to, and the former owner needs its new one."""
    async with desk.start(desk.app("a", token="shared"), desk.app("b")):
        assert await desk.id_of("shared") == "a"
        assert await desk.reload(desk.app("a", token="other"), desk.app("b", token="shared"))
        assert await desk.id_of("shared") == "b"
        assert await desk.id_of("other") == "a"
        assert await desk.id_of(desk.token("b")) == ""


async def test_two_apps_with_one_token(desk):
    """A token of two apps is an error that names the one and the place of the other; nothing new is in force."""
    async with desk.start(desk.app("a")):
        assert not await desk.reload(desk.app("a"), desk.app("b", token=desk.token("a")), desk.app("c"))
        assert "a.default" in desk.told
        assert "document 2" in desk.told
        assert await desk.id_of(desk.token("a")) == "a"
        assert await desk.status("c") == 401


async def test_broken_yaml_keeps_everything(desk):
    """A file that cannot be read is named in the log; apps and data are as before, and mending it is enough."""
    store = desk.component("store")
    async with desk.start(desk.app("a"), store):
        await save(desk, "a")
        desk.instance.write("resources.yaml", "kind: [")
        assert not await desk.instance.reloader.reload()
        assert "resources.yaml" in desk.told
        assert (await desk.ask("a", "/v1.0/state/store/k")).body == b"1"
        assert await desk.reload(desk.app("a"), desk.app("b"), store)
        assert await desk.status("b") == 200


@pytest.mark.parametrize("type_", ["state.sqlite", "state.nonsense"])
async def test_a_component_that_fails_keeps_its_old_self(desk, type_):
    """A changed component that does not open stays as it was; the reload says so, and a later one mends it."""
    good, bad = desk.component("store"), desk.component("store", type_, {"connectionString": "/dev/null/x"})
    async with desk.start(desk.app("a"), good):
        await save(desk, "a")
        assert not await desk.reload(desk.app("a"), desk.app("b"), bad)
        assert "store" in desk.told
        assert (await desk.ask("a", "/v1.0/state/store/k")).body == b"1"
        assert not await desk.instance.reloader.reload(), "it is tried again, although no file has changed"
        assert await desk.reload(desk.app("a"), good)
        assert (await desk.ask("a", "/v1.0/state/store/k")).body == b"1"
        assert await desk.reload(desk.app("a"), good, desk.component("second"))
        await save(desk, "a", "second")


async def test_a_failed_component_is_gone_with_its_resource(desk):
    """A component that never opened does not stand in the way once its resource is taken back."""
    async with desk.start(desk.app("a")):
        assert not await desk.reload(desk.app("a"), desk.component("store", "state.nonsense"))
        assert await desk.reload(desk.app("a"), desk.app("b"))
        assert await desk.status("b") == 200


def vault(desk, tokens: dict[str, str], file: str, **top) -> dict:
    path = desk.folder.parent / file
    path.write_text(json.dumps(tokens))
    return desk.component("vault", "secretstores.local.file", {"secretsFile": str(path)}, **top)


def by_secret(desk, name: str, key: str, **spec) -> dict:
    made = desk.app(name, tokens=[{"secretKeyRef": {"name": key, "key": key}}], **spec)
    return {**made, "auth": {"secretStore": "vault"}}


async def test_tokens_of_another_secret_store(desk):
    """Tokens are read through the new secret store when it changes together with the rest."""
    async with desk.start(by_secret(desk, "a", "t"), vault(desk, {"t": "first"}, "1.json")):
        assert await desk.id_of("first") == "a"
        assert await desk.reload(by_secret(desk, "a", "t"), vault(desk, {"t": "second"}, "2.json"))
        assert await desk.id_of("second") == "a"
        assert await desk.id_of("first") == ""


async def test_a_failed_reload_of_a_secret_store_can_be_taken_back(desk):
    """The old secret store is back after the old resources are, although they are the ones in force all the time."""
    scopes = {"scopes": [{"storeName": "vault"}]}
    old = vault(desk, {"t": "first", "public": "old"}, "1.json")
    a = by_secret(desk, "a", "t", secrets=scopes)
    async with desk.start(a, old):
        new = vault(desk, {"t": "second", "public": "new"}, "2.json")
        assert not await desk.reload(a, new, by_secret(desk, "b", "missing"))
        assert "missing" in desk.told
        assert await desk.id_of("first") == "a"
        assert await desk.reload(a, old)
        answer = await desk.ask("a", "/v1.0/secrets/vault/public", token="first")
        assert json.loads(answer.body) == {"public": "old"}


async def test_every_problem_of_apps_is_told_at_once(desk, monkeypatch):
    """Missing secrets, variables and configurations are told in one error, each with file and field."""
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    monkeypatch.setenv("EMPTY_VARIABLE", "")
    wrong = [
        desk.app("b", tokens=[{"envRef": "NO_SUCH_VARIABLE"}, {"envRef": "EMPTY_VARIABLE"}]),
        desk.app("c", configuration="nowhere"),
        by_secret(desk, "d", "t"),
    ]
    async with desk.start(desk.app("a")):
        assert not await desk.reload(desk.app("a"), *wrong)
        for text in ("spec.tokens[0].envRef", "NO_SUCH_VARIABLE", "spec.tokens[1]", "is empty", "'nowhere'", "vault"):
            assert text in desk.told


async def test_one_app_id_in_two_namespaces(desk):
    """One app id in two namespaces may have a store each, but not the same data in both."""
    here, there = desk.app("a"), desk.app("a", token="there", namespace="other")
    file = str(desk.folder.parent / "state.db")
    apart = [desk.component("store", namespace=name) for name in ("default", "other")]
    shared = [
        desk.component("store", "state.sqlite", {"connectionString": file}, namespace=name)
        for name in ("default", "other")
    ]
    async with desk.start(here):
        assert await desk.reload(here, there, *apart)
        await save(desk, "a")
        assert (await desk.ask("a", "/v1.0/state/store/k", token="there")).status == 204
        assert not await desk.reload(here, there, *shared)
        assert "namespaces default and other" in desk.told


# Listeners -----------------------------------------------------------------------------------------------------------


async def test_listeners_come_and_go_with_their_app(desk, ports, id_at):
    """An app's ports and socket prove it without a token while its resource has them, and are closed after."""
    socket = str(desk.folder / "a.sock")
    listeners = {"httpPort": ports[0], "grpcPort": ports[1], "unixSocket": socket}
    async with desk.start(desk.app("a"), desk.app("b")):
        assert await id_at(ports[0]) is None
        assert await desk.reload(desk.app("a", listeners=listeners), desk.app("b"))
        assert await id_at(ports[0]) == await id_at(f"unix:{socket}") == "a"
        assert await id_at(ports[0], desk.token("b")) == 401
        assert await desk.reload(desk.app("a"), desk.app("b"))
        assert await id_at(ports[0]) is await id_at(ports[1]) is await id_at(f"unix:{socket}") is None
        assert not desk.listening


async def test_a_listener_moves_to_another_app(desk, ports, id_at):
    """A port that two apps exchange, or that one takes over from another, proves the new owner."""
    first, second = {"httpPort": ports[0]}, {"httpPort": ports[1]}
    async with desk.start(desk.app("a", listeners=first), desk.app("b", listeners=second)):
        assert await desk.reload(desk.app("a", listeners=second), desk.app("b", listeners=first))
        assert (await id_at(ports[0]), await id_at(ports[1])) == ("b", "a")
        assert await desk.reload(desk.app("a"), desk.app("b"), desk.app("c", listeners=first))
        assert (await id_at(ports[0]), await id_at(ports[1])) == ("c", None)
        assert await desk.reload(desk.app("d", listeners=first))
        assert await id_at(ports[0]) == "d"


async def test_a_taken_port_leaves_all_listeners_as_they_were(desk, ports, id_at):
    """When one new listener cannot open, no new one is open and every old one still is."""
    async with desk.start(desk.app("a", listeners={"httpPort": ports[0]}), desk.app("b")):
        other = await asyncio.start_server(lambda *_: None, "127.0.0.1", ports[3])
        async with other:
            wanted = [
                desk.app("a", listeners={"httpPort": ports[1]}),
                desk.app("b", listeners={"httpPort": ports[2], "grpcPort": ports[3]}),
                desk.app("c"),
            ]
            assert not await desk.reload(*wanted)
            assert str(ports[3]) in desk.told
            assert "spec.listeners.grpcPort of app b.default" in desk.told
            assert await id_at(ports[0]) == "a"
            assert await id_at(ports[1]) is await id_at(ports[2]) is None
            assert desk.listening == {AppRef("a")}
            assert await desk.status("c") == 401
        assert await desk.reload(*wanted)
        assert (await id_at(ports[0]), await id_at(ports[1]), await id_at(ports[2])) == (None, "a", "b")


async def test_a_channel_that_fails_closes_new_listeners(desk, ports, id_at):
    """A later step that fails takes the listeners back that were opened before it."""
    async with desk.start(desk.app("a")):
        tls = {"caFile": str(desk.folder / "no-such-file.pem")}
        wrong = desk.app("b", channel={"protocol": "https", "port": 1, "tls": tls}, listeners={"httpPort": ports[0]})
        assert not await desk.reload(desk.app("a"), wrong)
        assert await id_at(ports[0]) is None
        assert not desk.listening


# Configuration -------------------------------------------------------------------------------------------------------


async def test_secret_scopes_change_live(desk):
    """What an app may read follows its scopes and those of its Configuration, from the reload on."""
    store = vault(desk, {"t": "x", "one": "1", "two": "2"}, "1.json")

    def resources(allowed: list[str], denied: list[str]) -> list[dict]:
        own = {"scopes": [{"storeName": "vault", "defaultAccess": "deny", "allowedSecrets": allowed}]}
        spec = {"secrets": {"scopes": [{"storeName": "vault", "defaultAccess": "allow", "deniedSecrets": denied}]}}
        rules = desk.of_dapr("Configuration", "rules", spec)
        return [desk.app("a", secrets=own, configuration="rules"), rules, store]

    async with desk.start(*resources(["one"], [])):
        assert await desk.status("a", "/v1.0/secrets/vault/one") == 200
        assert await desk.status("a", "/v1.0/secrets/vault/two") == 403
        assert await desk.reload(*resources(["one", "two"], ["one"]))
        assert await desk.status("a", "/v1.0/secrets/vault/one") == 403
        assert await desk.status("a", "/v1.0/secrets/vault/two") == 200


async def test_api_access_changes_live(desk):
    """An API that the Configuration no longer allows is as if it were not there, also when only it has changed."""

    def resources(*names: str) -> list[dict]:
        allowed = [{"name": name, "version": "v1", "protocol": "http"} for name in names]
        rules = desk.of_dapr("Configuration", "rules", {"api": {"allowed": allowed}})
        return [desk.app("a", configuration="rules"), desk.app("b"), desk.component("store"), rules]

    async with desk.start(*resources("state")):
        assert await desk.status("a", "/v1.0/state/store/k") == 204
        assert await desk.status("a", "/v1.0/metadata") == 404
        assert await desk.reload(*resources("metadata"))
        assert await desk.status("a", "/v1.0/state/store/k") == 404
        assert await desk.status("a", "/v1.0/metadata") == 200
        assert await desk.status("b", "/v1.0/state/store/k") == 204


async def test_access_control_changes_live(desk):
    """Who may invoke an app follows the access control of its Configuration, from the reload on."""

    def resources(action: str) -> list[dict]:
        policy = {"appId": "a", "defaultAction": action, "trustDomain": "public", "namespace": "default"}
        spec = {"accessControl": {"defaultAction": "deny", "trustDomain": "public", "policies": [policy]}}
        target = desk.app("b", channel={"port": 1}, configuration="rules")
        return [desk.app("a"), target, desk.of_dapr("Configuration", "rules", spec)]

    async with desk.start(*resources("deny")):
        assert await desk.status("a", "/v1.0/invoke/b/method/x") == 403
        assert await desk.reload(*resources("allow"))
        assert await desk.status("a", "/v1.0/invoke/b/method/x") == 500  # nobody listens there


async def test_kinds_without_effect_are_told(desk):
    """A kind that this version only takes is told once, and is no error."""
    async with desk.start(desk.app("a")):
        extra = desk.of_dapr("Resiliency", "r", {"policies": {}})
        assert await desk.reload(desk.app("a"), extra)
        assert await desk.reload(desk.app("a"), extra, desk.app("b"))
    assert desk.log.count("resource kind without effect") == 1


async def test_one_token_by_two_ways(desk, monkeypatch):
    """Two apps with one token are found out also when only the resolved values say so."""
    monkeypatch.setenv("TOKEN_OF_B", desk.token("a"))
    async with desk.start(desk.app("a")):
        assert not await desk.reload(desk.app("a"), desk.app("b", tokens=[{"envRef": "TOKEN_OF_B"}]))
        assert "apps a.default and b.default have the same token" in desk.told
        assert await desk.id_of(desk.token("a")) == "a"


async def test_wrong_resources_at_start(desk):
    """At start the same errors are raised, and nothing is left open."""
    twice = [desk.app("a"), desk.app("b", token=desk.token("a"))]
    with pytest.raises(WRONG_RESOURCES, match=r"belongs to the app a\.default already"):
        async with desk.start(*twice):
            raise AssertionError("it started")


def test_tokens_are_compared_by_digest(desk):
    """The test's own arithmetic: a token in a resource is the SHA-256 of its bytes."""
    assert desk.app("a")["spec"]["tokens"] == [{"sha256": sha256(b"a-token").hexdigest()}]


async def test_what_has_no_effect_is_told_once(desk):
    """A reload that changes nothing of it neither tells nor counts it again; one that brings it back does."""
    policy = desk.of_dapr("Resiliency", "r", {})
    both = [desk.app(name, serviceAccount="same", certificates=[{"dnsName": name}]) for name in ("a", "b")]
    async with desk.start(*both, policy):
        metrics = desk.instance.reloader._events.metrics

        def counted() -> tuple[float, ...]:
            without_effect = metrics.without_effect.child
            conflicts = metrics.identity_conflicts.child("service_account")
            return conflicts.value, without_effect("Resiliency").value, without_effect("spec.certificates").value

        assert counted() == (1, 1, 1)
        assert await desk.reload(*both, policy, desk.app("c"))
        assert await desk.instance.reloader.refresh()
        assert counted() == (1, 1, 1)
        assert await desk.reload(both[0])
        assert await desk.reload(*both)
        assert counted() == (2, 1, 1)
        third = desk.app("c", serviceAccount="same")
        assert await desk.reload(*both, third)
        assert counted() == (3, 1, 1), "other apps are another dispute"
    assert desk.log.count("service account of several apps") == 3
