"""The roles of the chart are exactly enough: with all their verbs nothing is refused, and each that is missing says so.

What is tried is derived from the rendered chart: a verb that its roles gain is tried too, without a change here. What
works by which verb stands in `tests/support/kubernetes_features.py`; a verb that stands nowhere there must at least be
asked for, and told where it is missing, and all else work.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dapr_shared.kube import connection, events, informer, lease
from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.errors import error_of
from dapr_shared.kubernetes import status, watching
from dapr_shared.runtime import kubernetes_sources, try_again
from tests.support import chart, kubernetes_features
from tests.support.kubernetes_features import (
    ADDRESS,
    BY_ADDRESS,
    BY_KEYS,
    BY_POD,
    KEPT,
    OF_MANY,
    OF_MANY_TO_START,
    OF_ONE,
    OF_ONE_TO_START,
    REPEAT,
    STATUS,
    flap,
)
from tests.support.kubernetes_instance import install_kinds
from tests.support.kubernetes_rights import Release, Traffic, Tried, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.support.kubernetes_client import KubernetesClient
    from tests.support.kubernetes_features import Feature

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]
AUDIENCE = {"serviceAccountAudience": "dapr-shared"}
SECRETS = {"names": ["vault"]}
FEW: dict[str, Any] = {"multiApp": {"enabled": True}, "discover": ["apps"]}
MANY: dict[str, Any] = {
    "multiApp": {"enabled": True},
    "identity": {**AUDIENCE, "byAddress": True},
    "secrets": SECRETS,
    "daprd": {"config": "own"},
}
"""Everything on."""
ONE: dict[str, Any] = {
    "appId": "orders",
    "remotePort": 8080,
    "secrets": SECRETS,
    "daprd": {"config": "own", "token": "tea"},
}


@pytest.fixture
def quick(monkeypatch):
    """Pauses are short; the environment is that of the pod `instance-0` on `node1`."""
    for module, name, value in (
        (informer, "PAUSES", (0.1, 0.5)),
        (watching, "REFUSED_AGAIN", 0.5),
        (status, "QUIET", 0.2),
        (status, "LOOK", 0.5),
        (status, "APP_INTERVAL", 0.5),
        (status, "REFUSED_PAUSE", 0.5),
        (lease, "RETRY_PERIOD", 1.0),
        (lease, "RENEW_DEADLINE", 4.0),
        (lease, "_LONGEST_PAUSE", 1.0),
        (events, "REPEAT_INTERVAL", 0.0),
        (events, "REFUSED_PAUSE", 0.5),
        (try_again, "FIRST", 0.5),
        (try_again, "LONGEST", 1.0),
        (kubernetes_sources, "QUIET", 0.1),
    ):
        monkeypatch.setattr(module, name, value)
    for name in ("NAMESPACE", "DAPR_API_TOKEN", "APP_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("POD_NAME", "instance-0")
    monkeypatch.setenv("NODE_NAME", "node1")


@pytest.fixture
def traffic(monkeypatch):
    """What anybody in this process asks of the API server, and what it refuses."""
    seen = Traffic()
    send = connection.ApiConnection._send

    async def sent(self: connection.ApiConnection, request: connection.Request, **more: Any):
        seen.note_request(self.config.namespace, request.asked)
        return await send(self, request, **more)

    def noted(asked: Any, code: int, body: Mapping[str, Any], **more: Any):
        seen.note(code, body)
        return error_of(asked, code, dict(body), **more)

    monkeypatch.setattr(connection, "error_of", noted)
    monkeypatch.setattr(connection.ApiConnection, "_send", sent)
    return seen


class Trial:
    """All releases of one set of values beside each other."""

    def __init__(self, features: list[Feature], tried: list[Tried], traffic: Traffic) -> None:
        self.features = features
        self.tried = tried
        self.traffic = traffic

    @property
    def running(self) -> list[Tried]:
        return [each for each in self.tried if each.instance is not None]

    async def of_all(self, work: Callable[[Tried], Awaitable[Any]], those: list[Tried] | None = None) -> None:
        await asyncio.gather(*(work(each) for each in (self.tried if those is None else those)))

    async def wait_for_the_rest(self, tried: Tried) -> None:
        """What does not need the verb works."""
        await self._wait(tried, tried.lacks, f"without {tried.lacks}")

    async def wait_for_all(self, tried: Tried) -> None:
        """With the verb given back everything works."""
        await self._wait(tried, "", f"with {tried.lacks} given back")

    async def _wait(self, tried: Tried, lacks: str, when: str) -> None:
        expected = [each for each in self.features if lacks not in each.verbs | each.uncertain]
        missing: list[str] = []

        async def all_work() -> bool:
            missing[:] = [each.name for each in expected if not await each.works(tried)]
            if REPEAT.name in missing and not lacks:
                await flap(tried)
            return not missing

        try:
            await until(all_work, "all features", 60)
        except AssertionError as error:
            refused = self.traffic.refused_to(tried.namespace)
            raise AssertionError(f"{when}: {missing} should work; refused is {refused}") from error

    async def check_what_fails(self, tried: Tried) -> None:
        """What needs the verb does not work."""
        for feature in self.features:
            if tried.lacks in feature.verbs:
                assert not await feature.works(tried), f"{feature.name}: works without {tried.lacks}"

    def check_refused(self, tried: Tried) -> None:
        """Exactly the missing verb is refused, and it is told with all that a role needs."""
        refused = self.traffic.refused_to(tried.namespace)
        lines = [line for line in tried.lines() if "needs the verb" in str(line.get("problem"))]
        if tried.missing is None:
            assert (refused, lines, tried.problem) == (set(), [], ""), "all verbs are there"
            return
        verb = tried.missing
        assert refused, f"{verb}: is never needed"
        assert refused == {(verb.verb, verb.resource)}, f"beside {verb}"
        texts = [*filter(None, (tried.problem, tried.answer)), *(line["problem"] for line in lines)]
        assert texts, f"{verb}: is told nowhere"
        account = f"the service account {tried.namespace}/{tried.release.account}"
        for text in texts:
            assert f"{account} needs the verb {verb.name.replace(' ', ' on ', 1)} " in text
            assert f"verbs: [{verb.verb}]}}; the chart gives it by its role of" in text, "what is to be done"
        assert all(line["level"] in ("warning", "error") for line in lines)
        assert len(lines) <= 4, "not again and again"


@asynccontextmanager
async def trial(
    server: KubernetesClient,
    traffic: Traffic,
    folder: Path,
    values: dict[str, Any],
    features: list[Feature],
    *resources: str,
) -> AsyncIterator[Trial]:
    """A release with all its verbs, and one without each of them (on these resources), prepared and started."""
    install_kinds(server)
    release = Release(chart.render({"shared": values}))
    many = not values.get("appId")
    async with AsyncExitStack() as last, AsyncExitStack() as stack:
        admin = KubeClient.from_environment({"KUBECONFIG": str(server.kubeconfig)})
        await admin.start(last)
        verbs = [None, *(each for each in release.verbs if not resources or each.resource in resources)]
        made = Trial(features, [Tried(verb, release, admin, server, folder) for verb in verbs], traffic)
        last.push_async_callback(made.of_all, Tried.remove)
        await made.of_all(lambda each: each.prepare(*kubernetes_features.world(many=many)))
        if many:
            await made.of_all(lambda each: kubernetes_features.run_pod(each, "pod-first", ADDRESS))
        turn = asyncio.Lock()
        await made.of_all(lambda each: each.start(stack, turn))
        await made.of_all(lambda each: each.create(*kubernetes_features.later(many=many)), made.running)
        if many:
            await made.of_all(lambda each: kubernetes_features.run_pod(each, "pod-later", "10.244.1.6"), made.running)
        yield made
        assert not [line for each in made.tried for line in each.lines() if line["msg"] == "defect"]
        await stack.aclose()  # what is asked at the end counts too, as long as the roles are there
        for each in made.tried:
            made.check_refused(each)


async def test_each_verb_of_many_apps(api_server, quick, traffic, tmp_path):
    """Without a verb it is told, what needs it fails, and all else works; given back, all works; with all nothing is refused."""
    async with trial(api_server, traffic, tmp_path, MANY, OF_MANY) as made:
        assert {each.lacks for each in made.tried if each.problem} == OF_MANY_TO_START
        seeing = [
            each for each in made.running if each.lacks not in ("list components.dapr.io", "watch components.dapr.io")
        ]
        await made.of_all(flap, seeing)
        await made.of_all(made.wait_for_the_rest, made.running)
        await made.of_all(made.check_what_fails, made.running)
        await made.of_all(Tried.give_back, made.running)
        await made.of_all(made.wait_for_all, made.running)


async def test_all_namespaces(own_api_server, quick, traffic, tmp_path):
    """A release that watches all namespaces has all that it needs in each of them."""
    async with trial(
        own_api_server, traffic, tmp_path, {**MANY, "watchNamespaces": ["*"]}, OF_MANY, "(none of them)"
    ) as made:
        await made.of_all(flap)
        await made.of_all(made.wait_for_all)


async def test_each_verb_of_one_app(api_server, quick, traffic, tmp_path):
    """The same for one app: it starts unless a kind cannot be listed, or its Configuration not be read."""
    async with trial(api_server, traffic, tmp_path, ONE, OF_ONE) as made:
        assert {each.lacks for each in made.tried if each.problem} == OF_ONE_TO_START
        await made.of_all(made.wait_for_the_rest, made.running)
        await made.of_all(made.check_what_fails, made.running)
        await made.of_all(Tried.give_back, made.running)
        await made.of_all(made.wait_for_all, made.running)


@pytest.mark.parametrize("place", ["apps", "services", "pods"])
async def test_what_is_asked(api_server, quick, traffic, tmp_path, place):
    """Where apps are of one place alone, exactly the verbs that the roles have are asked for."""
    values = {"multiApp": {"enabled": True}, "discover": [place], "secrets": SECRETS}
    of_places = {"apps": "an App", "services": "a Service", "pods": "a Pod"}
    expected = [each for each in OF_MANY if each.name in ("a Component with a Secret", of_places[place])]
    async with trial(api_server, traffic, tmp_path, values, [*expected, KEPT, REPEAT], "(none of them)") as made:
        await made.of_all(made.wait_for_all)
        if place == "apps":
            await made.of_all(lambda each: until(lambda: STATUS.works(each), "a status"))
        (whole,) = made.tried
        wanted = {(verb.verb, verb.resource) for verb in whole.release.verbs}
        await until(lambda: traffic.asked_by(whole.namespace) >= wanted, f"all of {wanted}")
    assert traffic.asked_by(whole.namespace) == wanted


@pytest.mark.parametrize(
    ("identity", "feature", "verbs"),
    [
        ({"byAddress": True}, BY_ADDRESS, {"list pods", "watch pods"}),
        (AUDIENCE, BY_POD, {"get pods"}),
        ({}, None, set()),
    ],
)
async def test_each_verb_on_pods(api_server, quick, traffic, tmp_path, identity, feature, verbs):
    """Where Pods are no apps, they are read as far as addresses and tokens need it, and no further."""
    values = {**FEW, "identity": identity}
    async with trial(api_server, traffic, tmp_path, values, [feature] if feature else [], "pods") as made:
        assert {each.lacks for each in made.tried if each.missing} == verbs
        await made.of_all(made.wait_for_the_rest)
        await made.of_all(made.check_what_fails)
        await made.of_all(Tried.give_back)
        await made.of_all(made.wait_for_all)


async def test_each_verb_of_keys(own_api_server, quick, traffic, tmp_path):
    """Where Kubernetes does not give all accounts the right to read its keys, the chart's role gives it."""
    own_api_server.delete("clusterrolebinding", "system:service-account-issuer-discovery")
    values = {**FEW, "identity": {**AUDIENCE, "serviceAccountVerification": "keys"}}
    paths = ("/.well-known/openid-configuration", "/openid/v1/jwks")
    async with trial(own_api_server, traffic, tmp_path, values, [BY_KEYS], *paths) as made:
        assert {each.lacks for each in made.tried if each.missing} == {f"get {path}" for path in paths}
        await made.of_all(made.wait_for_the_rest)
        await made.of_all(made.check_what_fails)
        await made.of_all(Tried.give_back)
        await made.of_all(made.wait_for_all)
