"""A token whose Secret is gone proves nobody; one whose store cannot be read goes on."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256

import pytest
import yaml
from aiohttp import web

from dapr_shared.components.kubernetes.secrets import CREDENTIALS
from dapr_shared.core.ids import AppRef
from dapr_shared.kube.objects import SECRETS
from dapr_shared.runtime import token_watch
from dapr_shared.runtime.token_watch import TokenWatch
from tests.support.fake_kube import TOKEN, FakeKube
from tests.support.fake_kube import refused as refusal
from tests.support.http_peers import until
from tests.support.inprocess import inprocess
from tests.support.kubernetes_secrets import kubeconfig
from tests.support.ports import free_ports

TILL = AppRef("till", "shop")


class Cluster:
    """An instance for many apps, whose Secrets an API server of the test has."""

    def __init__(self, server: FakeKube) -> None:
        self.server = server
        self.made = None

    def put(self, name: str, token: str = "", **fields) -> None:
        data = {"token": b64encode(token.encode()).decode()}
        self.server.put(SECRETS, name, data=data, **fields)

    async def id_of(self, token: str) -> str:
        answer = await self.made.http("GET", "/v1.0/metadata", token=token)
        return json.loads(answer.body)["id"] if answer.status == 200 else ""

    async def reload(self, *apps: dict) -> None:
        self.made.write("resources.yaml", yaml.safe_dump_all(apps))
        assert await self.made.reloader.reload()

    @property
    def refused(self) -> list[str]:
        return [each.text for each in self.made.reloader.refusals.now.values()]

    @property
    def served(self):
        return self.made.parts.apps.get(TILL)

    @property
    def asked(self) -> int:
        """How often a Secret was read."""
        return self.server.counted("GET", "secrets")


def app(name: str, *secrets: str, **spec) -> dict:
    return {
        "apiVersion": "shared.dapr.io/v1alpha1",
        "kind": "App",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"tokens": [{"secretKeyRef": {"name": each, "key": "token"}} for each in secrets], **spec},
    }


@pytest.fixture
async def start(tmp_path, monkeypatch):
    """Start an instance with some Secrets and apps."""
    async with AsyncExitStack() as stack:
        server = FakeKube()
        await server.start(stack)
        (tmp_path / "kube").mkdir()
        file = kubeconfig(tmp_path / "kube" / "config", f"http://127.0.0.1:{server.port}", "shop", TOKEN)
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.delenv("NAMESPACE", raising=False)
        cluster = Cluster(server)

        @asynccontextmanager
        async def begin(secrets: dict[str, str], *apps: dict):
            for name, token in secrets.items():
                cluster.put(name, token)
            place = tmp_path / "resources"
            place.mkdir()
            text = yaml.safe_dump_all(apps)
            async with inprocess(place, text, tolerant=True, mode="kubernetes") as cluster.made:
                try:
                    yield cluster
                finally:
                    await cluster.made.parts.listeners.drain(0)

        yield begin


@pytest.fixture
async def watched(start, monkeypatch):
    """The same, with a look at each Secret every few milliseconds."""
    monkeypatch.setattr(token_watch, "PERIOD", 0.02)
    monkeypatch.setattr(token_watch, "RATE", 1000.0)
    monkeypatch.setattr(token_watch, "GATHER", 0.0)
    tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def begin(*given, **options):
        async with start(*given, **options) as cluster:
            parts, reloader = cluster.made.parts, cluster.made.reloader
            watch = TokenWatch(reloader, parts.loader.secrets, reloader._events)
            tasks.append(asyncio.create_task(watch.run()))
            yield cluster
            assert not tasks[0].done()
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return begin


def gone(name: str) -> str:
    return f"the secret {name} of the store kubernetes has no value under the key token"


async def proves(cluster: Cluster, token: str, app_id: str) -> None:
    """Wait until a token proves this app."""
    async with asyncio.timeout(5):
        while await cluster.id_of(token) != app_id:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def test_a_secret_that_is_deleted(watched):
    """Its token soon proves nobody, the app is served on and proved by its other token; once it is back it proves again."""
    async with watched({"one": "t-one", "two": "t-two"}, app("till", "one", "two", channel={"port": 1})) as cluster:
        assert (await cluster.id_of("t-one"), await cluster.id_of("t-two")) == ("till", "till")
        channel = cluster.made.parts.channels.get(TILL)
        cluster.server.remove(SECRETS, "one")
        await proves(cluster, "t-one", "")
        assert await cluster.id_of("t-two") == "till"
        assert cluster.made.parts.channels.get(TILL) is channel
        assert cluster.refused == [
            f"spec.tokens[0]: {gone('one')}; this token proves nobody until that is mended (the rest of it is in force)"
        ]
        cluster.put("one", "t-new")
        await proves(cluster, "t-new", "till")
        assert await cluster.id_of("t-one") == ""
        assert cluster.refused == []
    log = cluster.made.log.getvalue().decode()
    assert log.count("resource refused") == log.count("resource no longer refused") == 1
    assert "t-one" not in log


async def test_the_only_token_of_an_app(watched):
    """Without it the app is served, and nothing proves it."""
    async with watched({"one": "t-one"}, app("till", "one")) as cluster:
        cluster.server.remove(SECRETS, "one")
        await proves(cluster, "t-one", "")
        assert cluster.served is not None
        (text,) = cluster.refused
        assert "no token proves the app" in text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"data": {}}, gone("one")),
        ({"data": {"token": ""}}, gone("one")),
        ({"data": {"token": b64encode(b"t-one\n").decode()}}, "a line end"),
        ({"type": min(CREDENTIALS), "data": {"token": b64encode(b"t-one").decode()}}, "a credential of the cluster"),
    ],
)
async def test_a_secret_that_holds_no_token_any_more(watched, fields, problem):
    """An answer that holds nothing that can be a token is an answer: the former token proves nobody."""
    async with watched({"one": "t-one"}, app("till", "one")) as cluster:
        cluster.server.put(SECRETS, "one", **fields)
        await proves(cluster, "t-one", "")
        assert problem in cluster.refused[0]


async def test_an_app_that_changes_after_its_secret_was_deleted(start):
    """The change is in force, or is refused: neither brings the token back."""
    async with start({"one": "t-one"}, app("till", "one")) as cluster:
        cluster.server.remove(SECRETS, "one")
        await cluster.reload(app("till", "one", channel={"port": 1}))
        assert await cluster.id_of("t-one") == ""
        assert cluster.made.parts.channels.get(TILL) is not None
        await cluster.reload(app("till", "one", configuration="missing"))
        assert await cluster.id_of("t-one") == ""
        assert "there is no Configuration" in cluster.refused[0]


async def test_an_app_that_is_refused_after_its_secret_was_deleted(start):
    """The former version stays in force without the token that is gone, also where the problem comes late."""
    (port,) = free_ports(1)
    async with start({"one": "t-one", "two": "t-two"}, app("till", "one", "two"), app("front")) as cluster:
        cluster.server.remove(SECRETS, "one")
        await cluster.reload(app("till", "one", "two", configuration="missing", channel={"port": 1}), app("front"))
        assert (await cluster.id_of("t-one"), await cluster.id_of("t-two")) == ("", "till")
        assert cluster.made.parts.channels.get(TILL) is None
        assert "former version" in cluster.refused[0]
        cluster.server.remove(SECRETS, "two")
        both = app("till", "one", "two", listeners={"httpPort": port}), app("front", listeners={"httpPort": port})
        await cluster.reload(*both)
        assert await cluster.id_of("t-two") == ""
        assert cluster.served is not None


async def test_a_changed_app_that_names_a_secret_that_is_not_there(start):
    """It is in force, and what it named before proves it no more."""
    async with start({"one": "t-one"}, app("till", "one")) as cluster:
        await cluster.reload(app("till", "two"))
        assert await cluster.id_of("t-one") == ""
        assert cluster.served is not None
        assert gone("two") in cluster.refused[0]


@pytest.mark.parametrize("fault", ["away", "forbidden", "gateway"])
async def test_a_store_that_cannot_be_read(start, fault):
    """What was read before proves the app, also when the app changes; an app of which nothing is known is left out."""
    async with start({"one": "t-one", "two": "t-two"}, app("till", "one")) as cluster:
        if fault == "away":
            await cluster.server.down()
        elif fault == "forbidden":
            cluster.server.refuse = lambda _request: refusal(403, "Forbidden", "no")
        else:
            cluster.server.refuse = lambda _request: web.Response(status=404, text="404 page not found")
        assert await cluster.made.reloader.refresh()
        assert await cluster.id_of("t-one") == "till"
        await cluster.reload(app("till", "one", channel={"port": 1}), app("back", "two"))
        assert await cluster.id_of("t-one") == "till"
        assert cluster.made.parts.channels.get(TILL) is not None
        left_out, told = sorted(cluster.refused, key=lambda text: "still proves" in text)
        assert "what it held before still proves the app" in told
        assert "left out" in left_out
        assert await cluster.id_of("t-two") == ""
        if fault == "away":
            await cluster.server.up()
        cluster.server.refuse = lambda _request: None
        cluster.server.remove(SECRETS, "one")
        assert await cluster.made.reloader.refresh()
        assert (await cluster.id_of("t-one"), await cluster.id_of("t-two")) == ("", "back")


async def test_a_store_that_cannot_be_read_does_not_bring_a_lost_token_back(start):
    """What was gone when it was last read stays so."""
    async with start({"one": "t-one"}, app("till", "one")) as cluster:
        cluster.server.remove(SECRETS, "one")
        assert await cluster.made.reloader.refresh()
        await cluster.server.down()
        await cluster.reload(app("till", "one", channel={"port": 1}))
        assert cluster.served is not None
        assert await cluster.id_of("t-one") == ""


async def test_a_secret_of_several_apps_is_read_once(start):
    """However many apps refer to it, and whether the app is new, changed or read again."""
    apps = [app(f"app-{number}", "other", channel={"apiToken": {"secretKeyRef": {"name": "one", "key": "token"}}, "port": 1})
            for number in range(5)]  # fmt: skip
    async with start({"one": "t-one"}, *apps) as cluster:
        assert cluster.asked == 2
        assert await cluster.made.reloader.refresh()
        assert cluster.asked == 4


async def test_a_rotated_token_counts_although_another_app_fails_late(start):
    """An app whose port is taken makes the attempt begin anew; what was read of the others stands."""
    (port,) = free_ports(1)
    here = app("here", listeners={"httpPort": port})
    async with start({"one": "t-one"}, app("till", "one"), here) as cluster:
        cluster.put("one", "t-new")
        both = app("till", "one"), here, app("there", listeners={"httpPort": port})
        cluster.made.write("resources.yaml", yaml.safe_dump_all(both))
        assert await cluster.made.reloader.refresh()
        assert len(cluster.refused) == 1
        assert (await cluster.id_of("t-one"), await cluster.id_of("t-new")) == ("", "till")


async def test_a_secret_that_takes_the_token_of_another_app(start):
    """Who had the token keeps it; the app whose Secret holds it now is served without, and what it had before is gone."""
    async with start({"one": "t-one", "two": "t-two"}, app("till", "one"), app("back", "two")) as cluster:
        cluster.put("one", "t-two")
        assert await cluster.made.reloader.refresh()
        assert (await cluster.id_of("t-one"), await cluster.id_of("t-two")) == ("", "back")
        assert cluster.served is not None
        (text,) = cluster.refused
        assert "have the same token" in text
        assert await cluster.made.reloader.reload()
        cluster.put("two", "t-new")
        assert await cluster.made.reloader.refresh()
        assert (await cluster.id_of("t-two"), await cluster.id_of("t-new")) == ("till", "back")
        assert cluster.refused == []


async def test_nobody_takes_a_certificate_while_a_token_is_rotated(start):
    """What proved an app before is its own, also in the moment in which its Secret holds another token."""
    name = [{"dnsName": "till.shop"}]
    thief = app("athief", certificates=name)
    async with start({"one": "t-one"}, app("till", "one", certificates=name)) as cluster:
        cluster.put("one", "t-new")
        cluster.made.write("resources.yaml", yaml.safe_dump_all([thief, app("till", "one", certificates=name)]))
        assert await cluster.made.reloader.refresh()
        assert await cluster.id_of("t-new") == "till"
        assert cluster.made.parts.apps.get(AppRef("athief", "shop")) is None


async def test_looks_are_spread_and_bounded(start, monkeypatch):
    """Each Secret is looked at by itself, so many a second at most; what has not changed reloads nothing."""
    monkeypatch.setattr(token_watch, "PERIOD", 0.01)
    monkeypatch.setattr(token_watch, "RATE", 50.0)
    names = [f"s-{number}" for number in range(20)]
    async with start({name: f"t-{name}" for name in names}, *(app(name, name) for name in names)) as cluster:
        reloader = cluster.made.reloader
        reloads = []
        monkeypatch.setattr(reloader, "read_tokens", reloads.append)
        watch = TokenWatch(reloader, cluster.made.parts.loader.secrets, reloader._events)
        loop = asyncio.get_running_loop()
        before, begun = cluster.asked, loop.time()
        task = asyncio.create_task(watch.run())
        await until(lambda: cluster.asked >= before + 20)
        assert loop.time() - begun > 0.35, "20 looks at 50 a second"
        seen = {path for verb, path, _ in cluster.server.requests[before:] if verb == "GET"}
        assert len(seen) == 20, "none is looked at twice before all were"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert reloads == []


async def test_looks_go_on_while_they_fail(watched):
    """A look that fails says nothing of the token, and is no reason not to look again."""
    async with watched({"one": "t-one"}, app("till", "one")) as cluster:
        failed: list[bool] = []

        def unavailable(_request):
            failed.append(True)
            return refusal(503, "ServiceUnavailable", "later")

        cluster.server.refuse = unavailable
        await until(lambda: len(failed) >= 3)
        assert await cluster.id_of("t-one") == "till"
        assert cluster.refused == []
        cluster.server.refuse = lambda _request: None
        cluster.server.remove(SECRETS, "one")
        await proves(cluster, "t-one", "")


# Files, where a set is applied as a whole ---------------------------------------------------------------------------
async def test_a_token_that_is_gone_from_a_file(desk):
    """The reload is refused and all stays as it was, but for the token that is gone: it proves nobody, and that is told."""
    path = desk.folder.parent / "vault.json"
    path.write_text(json.dumps({"one": "t-one", "two": "t-two"}))
    vault = desk.component("vault", "secretstores.local.file", {"secretsFile": str(path)})
    digest = sha256(b"fixed").hexdigest()
    tokens = [{"secretKeyRef": {"name": name, "key": name}} for name in ("one", "two")]
    till = {**desk.app("till", tokens=[*tokens, {"sha256": digest}]), "auth": {"secretStore": "vault"}}
    async with desk.start(till, vault, desk.app("b")):
        path.write_text(json.dumps({"two": "t-new"}))
        assert not await desk.instance.reloader.refresh()
        assert "the secret one of the store vault has no value" in desk.told
        assert desk.told.strip().endswith("(but tokens that their secret stores hold no more prove nobody)")
        assert [await desk.id_of(each) for each in ("t-one", "t-two", "t-new", "fixed")] == ["", "till", "", "till"]
        assert await desk.status("b") == 200
        path.write_text(json.dumps({"one": "t-one", "two": "t-new"}))
        assert await desk.instance.reloader.refresh()
        assert [await desk.id_of(each) for each in ("t-one", "t-two", "t-new")] == ["till", "", "till"]


async def test_a_secrets_file_that_cannot_be_read(desk):
    """It says nothing of its tokens: what was read before goes on, also where the set is refused for another reason."""
    path = desk.folder.parent / "vault.json"
    path.write_text(json.dumps({"one": "t-one"}))
    vault = desk.component("vault", "secretstores.local.file", {"secretsFile": str(path)})
    till = {
        **desk.app("till", tokens=[{"secretKeyRef": {"name": "one", "key": "one"}}]),
        "auth": {"secretStore": "vault"},
    }
    async with desk.start(till, vault):
        path.unlink()
        assert await desk.instance.reloader.refresh()
        assert not await desk.reload(till, vault, desk.app("b", configuration="missing"))
        assert await desk.id_of("t-one") == "till"
