"""Where one app cannot stop another: what is wrong is left out or stays as it was, and is told; the rest is in force."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest

from dapr_shared.components.registry import ComponentRegistry
from dapr_shared.core.ids import AppRef
from dapr_shared.runtime import tolerance

SAVE = b'[{"key":"k","value":1}]'


@pytest.fixture
def start(desk):
    """Start an instance that leaves out what is wrong."""

    @asynccontextmanager
    async def begin(*resources: dict):
        async with desk.start(*resources, tolerant=True) as started:
            yield started

    return begin


def refused(desk) -> dict[str, str]:
    """The problem of each document, by its number."""
    return {origin.document: refusal.text for origin, refusal in desk.instance.reloader.refusals.now.items()}


def vault(desk, tokens: dict[str, str]) -> dict:
    path = desk.folder.parent / "vault.json"
    path.write_text(json.dumps(tokens))
    return desk.component("vault", "secretstores.local.file", {"secretsFile": str(path)})


def by_secret(desk, name: str, key: str, **spec) -> dict:
    made = desk.app(name, tokens=[{"secretKeyRef": {"name": key, "key": key}}], **spec)
    return {**made, "auth": {"secretStore": "vault"}}


async def test_an_app_whose_secret_is_missing_at_start(desk, start):
    """The instance serves it and the others; its token proves it once its secret is there."""
    async with start(vault(desk, {}), by_secret(desk, "a", "key"), desk.app("b")):
        assert await desk.status("b") == 200
        assert await desk.id_of("secret") == ""
        (problem,) = refused(desk).values()
        assert "spec.tokens[0]: the secret key of the store vault has no value" in problem
        assert problem.endswith("no token proves the app (the rest of it is in force)")
        assert desk.instance.parts.apps.get(AppRef("a")) is not None
        vault(desk, {"key": "secret"})
        assert await desk.instance.reloader.refresh()
        assert await desk.id_of("secret") == "a"
        assert refused(desk) == {}
    assert "resource refused" in desk.log
    assert "resource no longer refused" in desk.log


async def test_an_app_in_force_stays_when_it_becomes_wrong(desk, start):
    """A change that cannot be followed leaves the app as it was, while other changes are in force."""
    async with start(desk.app("a"), desk.app("b")):
        wrong = desk.app("a", configuration="missing", channel={"port": 1})
        assert await desk.reload(wrong, desk.app("c"))
        assert await desk.status("a") == 200
        assert (await desk.status("b"), await desk.status("c")) == (401, 200)
        assert desk.instance.parts.channels.get(AppRef("a")) is None
        assert refused(desk) == {
            1: "spec.configuration: there is no Configuration 'missing' in namespace default "
            "(its former version stays in force)"
        }
        assert await desk.reload(desk.app("a", channel={"port": 1}))
        assert desk.instance.parts.channels.get(AppRef("a")) is not None
        assert refused(desk) == {}


async def test_secrets_of_apps_that_did_not_change_are_not_read_again(desk, start, monkeypatch):
    """A thousand apps do not have their secrets read at each change of one; when asked to, they are."""
    read = []
    resolve = tolerance.AppResolver.resolve_served

    async def counted(self, app, before):
        read.append(app.app_id)
        return await resolve(self, app, before)

    monkeypatch.setattr(tolerance.AppResolver, "resolve_served", counted)
    stock = vault(desk, {"key": "first"})
    async with start(stock, by_secret(desk, "a", "key")):
        assert await desk.reload(stock, by_secret(desk, "a", "key"), desk.app("b"))
        assert read == ["a", "b"]
        vault(desk, {"key": "second"})
        assert await desk.instance.reloader.refresh()
        assert read == ["a", "b", "a", "b"]
        assert (await desk.id_of("first"), await desk.id_of("second")) == ("", "a")


async def test_components_are_not_touched_by_a_change_of_an_app(desk, start, monkeypatch):
    """With a thousand components a change of one app, or of one secret's other keys, is no work for any of them."""
    shown = []

    def counted(registry, places, show=ComponentRegistry._show):
        shown.append(len(places))
        show(registry, places)

    one, two = desk.component("one", "state.in-memory"), desk.component("two", "state.in-memory")
    stores = vault(desk, {"key": "secret"})
    async with start(stores, one, two, desk.app("a"), desk.app("b")):
        monkeypatch.setattr(ComponentRegistry, "_show", counted)
        assert await desk.reload(stores, one, two, desk.app("a", channel={"port": 1}), desk.app("b"))
        assert desk.instance.parts.channels.get(AppRef("a")) is not None
        assert await desk.instance.reloader.refresh()
        assert shown == []
        assert await desk.reload(stores, one, desk.app("a", channel={"port": 1}), desk.app("b"))
        assert shown == [2]
        assert await desk.reload(stores, one, desk.app("a", channel={"port": 1}))
        assert len(shown) > 1, "components that are opened once an app may go with it"


async def test_two_apps_with_one_token(desk, start):
    """Who had the token keeps it; at the start the first has it. The other app is left out, or stays as it was."""
    async with start(desk.app("a", token="same"), desk.app("b", token="same")):
        assert await desk.id_of("same") == "a"
        assert "have the same token" in refused(desk)[2]
        assert await desk.reload(desk.app("c", token="same"), desk.app("a", token="same"))
        assert await desk.id_of("same") == "a"
        assert list(refused(desk)) == [1]
        assert await desk.reload(desk.app("c"), desk.app("a", token="same"))
        assert await desk.reload(desk.app("c", token="same"), desk.app("a", token="same"))
        assert await desk.id_of(desk.token("c")) == "c", "its former token still proves it"
        assert "former version" in refused(desk)[1]


async def test_a_token_may_move(desk, start):
    """A token that one app gives up and another takes in the same change is no conflict."""
    async with start(desk.app("a", token="t"), desk.app("b")):
        assert await desk.reload(desk.app("a", token="other"), desk.app("b", token="t"))
        assert (await desk.id_of("t"), await desk.id_of("other")) == ("b", "a")
        assert refused(desk) == {}


async def test_two_apps_with_one_service_account(desk, start):
    """Both are told and both are served; the account proves neither, until one of them gives it up."""
    async with start(desk.app("a", serviceAccount="same"), desk.app("b", serviceAccount="same")):
        assert [await desk.status(name) for name in ("a", "b")] == [200, 200]
        problems = list(refused(desk).values())
        assert len(problems) == 2
        for problem in problems:
            assert problem.startswith("spec.serviceAccount: apps a.default and b.default claim the service account")
            assert problem.endswith("(the rest of it is in force)")
        assert not desk.instance.reloader.refusals.to_try_again, "trying again mends nothing"
        assert await desk.reload(desk.app("a", serviceAccount="same"), desk.app("b"))
        assert refused(desk) == {}


async def test_a_component_that_cannot_be_opened(desk, start):
    """It is told and left out; the others are open. Mended, it opens; wrong again, its former self stays open."""
    good, bad = desk.component("mine"), desk.component("mine", "state.nonsense")
    async with start(desk.app("a"), bad, desk.component("other")):
        assert (await desk.ask("a", "/v1.0/state/other", SAVE, method="POST")).status == 204
        assert "left out" in refused(desk)[2]
        assert await desk.reload(desk.app("a"), good)
        assert (await desk.ask("a", "/v1.0/state/mine", SAVE, method="POST")).status == 204
        assert await desk.reload(desk.app("a"), bad)
        assert (await desk.ask("a", "/v1.0/state/mine/k")).body == b"1"
        assert "former version" in refused(desk)[2]
        assert await desk.reload(desk.app("a"), bad, desk.app("b"))
        assert (await desk.ask("b", "/v1.0/state/mine/k")).status == 204
        assert await desk.reload(desk.app("a"))
        assert (await desk.ask("a", "/v1.0/state/mine/k")).status == 500
        assert refused(desk) == {}


async def test_other_changes_do_not_wait_for_a_component_that_failed(desk, start, monkeypatch):
    """What could not be opened is not tried at each change of something else, but when tried again, and when it changes."""
    tried = []
    open_ = type(desk).component
    bad = open_(desk, "slow", "state.sqlite", {"connectionString": "/dev/null/x"})
    async with start(desk.app("a"), bad):
        registry = desk.instance.parts.registry
        apply = registry.apply

        async def counted(definitions, apps):
            tried.append("slow" in {definition.resource.name for definition in definitions})
            return await apply(definitions, apps)

        monkeypatch.setattr(registry, "apply", counted)
        assert await desk.reload(desk.app("a"), bad, desk.app("b"))
        assert True not in tried
        assert 2 in refused(desk), "it is still told"
        assert await desk.instance.reloader.open_missing()
        assert True in tried
        assert await desk.reload(desk.app("a"), open_(desk, "slow"), desk.app("b"))
        assert (await desk.ask("a", "/v1.0/state/slow", SAVE, method="POST")).status == 204
        assert refused(desk) == {}


async def test_a_component_whose_secret_is_missing(desk, start):
    """A component whose values cannot be read is left out, or stays as it was."""
    item = {"name": "x", "secretKeyRef": {"name": "none", "key": "none"}}
    wrong = desk.of_dapr(
        "Component",
        "mine",
        {"type": "state.in-memory", "version": "v1", "metadata": [item]},
        auth={"secretStore": "vault"},
    )
    stock = vault(desk, {})
    async with start(desk.app("a"), stock, wrong):
        assert (await desk.ask("a", "/v1.0/state/mine/k")).status == 500
        assert "has no value" in refused(desk)[3]
        assert await desk.reload(desk.app("a"), stock, desk.component("mine"))
        assert (await desk.ask("a", "/v1.0/state/mine", SAVE, method="POST")).status == 204
        assert await desk.reload(desk.app("a"), stock, wrong)
        assert (await desk.ask("a", "/v1.0/state/mine/k")).body == b"1"


async def test_a_secret_store_that_cannot_be_opened(desk, start):
    """Apps that need it are left out, the others are served."""
    broken = desk.component("vault", "secretstores.local.file", {"secretsFile": "/dev/null/x"})
    async with start(broken, by_secret(desk, "a", "key"), desk.app("b")):
        assert await desk.status("b") == 200
        assert set(refused(desk)) == {1, 2}
        assert await desk.reload(vault(desk, {"key": "secret"}), by_secret(desk, "a", "key"), desk.app("b"))
        assert await desk.id_of("secret") == "a"


async def test_a_rule_that_does_not_compile(desk, start):
    """A subscription with a wrong rule is left out; where it was right before, it stays as it was."""

    def subscription(match: str) -> dict:
        routes = {"rules": [{"match": match, "path": "/x"}], "default": "/y"}
        made = desk.of_dapr("Subscription", "s", {"pubsubname": "p", "topic": "t", "routes": routes})
        return {**made, "apiVersion": "dapr.io/v2alpha1"}

    async with start(desk.app("a"), subscription("event.type ==")):
        assert desk.instance.reloader.resources.subscriptions == ()
        assert "left out" in refused(desk)[2]
        assert await desk.reload(desk.app("a"), subscription('event.type == "b"'))
        assert await desk.reload(desk.app("a"), desk.app("b"), subscription("("))
        (kept,) = desk.instance.reloader.resources.subscriptions
        assert kept.rules[0].match == 'event.type == "b"'
        assert await desk.status("b") == 200


async def test_a_policy_that_cannot_be_enforced(desk, start):
    """An app whose Configuration is wrong is left out, and never served without the policy; the others are served."""
    wrong = desk.of_dapr("Configuration", "c", {"accessControl": {"defaultAction": "maybe"}})
    right = desk.of_dapr("Configuration", "c", {"accessControl": {"defaultAction": "deny"}})
    async with start(desk.app("a", configuration="c"), wrong, desk.app("b")):
        assert (await desk.status("a"), await desk.status("b")) == (401, 200)
        assert "Configuration cannot be followed" in refused(desk)[1]
        assert await desk.reload(desk.app("a", configuration="c"), right, desk.app("b"))
        assert await desk.status("a") == 200
        assert await desk.reload(desk.app("a", configuration="c"), wrong, desk.app("b"))
        record = desk.instance.parts.apps.get(AppRef("a"))
        assert record.configuration.access_control == {"defaultAction": "deny"}
        assert "former version" in refused(desk)[1]


async def test_an_endpoint_that_cannot_be_made(desk, start):
    """An HTTPEndpoint with a secret that is missing is left out; the app that would call it is served."""
    header = {"name": "x", "secretKeyRef": {"name": "none", "key": "none"}}
    endpoint = desk.of_dapr(
        "HTTPEndpoint", "e", {"baseUrl": "http://e.test", "headers": [header]}, auth={"secretStore": "vault"}
    )
    async with start(desk.app("a"), endpoint):
        assert await desk.status("a") == 200
        assert list(refused(desk)) == [2]
        assert desk.instance.parts.targets.names(AppRef("a")) == []


async def test_a_channel_that_cannot_be_made(desk, start):
    """An app whose channel names a certificate that is not there is left out, and with it nothing else."""
    channel = {"protocol": "https", "port": 1, "tls": {"caFile": "/dev/null/ca.pem"}}
    async with start(desk.app("a", channel=channel), desk.app("b", channel={"port": 1})):
        assert (await desk.status("a"), await desk.status("b")) == (401, 200)
        assert list(refused(desk)) == [1]
        assert await desk.reload(desk.app("a", channel={"port": 1}), desk.app("b", channel={"port": 1}))
        assert await desk.status("a") == 200


async def test_a_port_that_is_taken(desk, start, ports):
    """An app that asks for a port that is taken is left out; the one that has it keeps it."""
    mine = desk.app("a", listeners={"httpPort": ports[0]})
    async with start(mine, desk.app("b", listeners={"httpPort": ports[1]})):
        assert await desk.reload(desk.app("c", listeners={"httpPort": ports[0]}), mine)
        assert desk.listening == {AppRef("a")}
        assert (await desk.status("a"), await desk.status("c")) == (200, 401)
        assert "is taken" in refused(desk)[1]


async def test_one_app_id_in_two_namespaces_that_share_a_place(desk, start):
    """The app that comes second is left out when its data would meet that of the first."""

    def store(namespace: str) -> dict:
        return desk.component(
            "store", "state.sqlite", {"connectionString": str(desk.folder.parent / "x.db")}, namespace=namespace
        )

    async with start(desk.app("a"), store("default")):
        both = desk.app("a", token="second", namespace="other")
        assert await desk.reload(desk.app("a"), store("default"), both, store("other"))
        assert await desk.status("a") == 200
        assert await desk.id_of("second") == ""
        assert "in one place" in refused(desk)[3]


async def test_a_secret_named_by_an_app_that_is_left_out_is_protected(desk, start):
    """Where a left out app keeps its token no other app may look."""
    opened = desk.app("b", secrets={"scopes": [{"storeName": "vault"}]})
    store = vault(desk, {"key": "secret", "public": "p"})
    async with start(store, by_secret(desk, "a", "key", configuration="missing"), opened):
        assert (await desk.ask("b", "/v1.0/secrets/vault/public")).status == 200
        assert (await desk.ask("b", "/v1.0/secrets/vault/key")).status == 403
