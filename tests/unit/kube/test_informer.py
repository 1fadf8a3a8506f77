from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from dapr_shared.kube import connection
from dapr_shared.kube import informer as informer_module
from dapr_shared.kube.informer import Informer
from dapr_shared.kube.objects import PODS, custom
from tests.support.fake_kube import refused, status_of

APPS = custom("shared.example.io", "v1", "apps", "App")


class Watched:
    """An informer that runs, and what it has told."""

    def __init__(self, client, kind=PODS, **options) -> None:
        self.changes = 0
        self.states = []
        self.informer = Informer(client, kind, "shop", changed=self._changed, told=self.states.append, **options)
        self.task = asyncio.create_task(self.informer.run())

    def _changed(self) -> None:
        self.changes += 1

    @property
    def names(self) -> list[str]:
        return sorted(name for _namespace, name in self.informer.objects)


async def until(condition, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses are short."""
    monkeypatch.setattr(informer_module, "PAUSES", (0.005, 0.05))
    monkeypatch.setattr(informer_module, "ABSENT", 0.02)


@pytest.fixture
async def watched(client):
    """Makes informers, and ends them."""
    async with AsyncExitStack() as stack:

        def make(kind=PODS, **options) -> Watched:
            made = Watched(client, kind, **options)
            stack.push_async_callback(asyncio.wait, [made.task])
            stack.callback(made.task.cancel)
            return made

        yield make


async def test_list_then_watch(server, watched):
    """What is there is known, and what comes, changes and goes is told, each once."""
    server.put(PODS, "a")
    seen = watched()
    assert await seen.informer.wait_synced(5)
    assert (seen.names, seen.changes) == (["a"], 1)
    server.put(PODS, "b")
    server.put(PODS, "a", spec={"new": True})
    server.remove(PODS, "b")
    await until(lambda: seen.changes == 4)
    assert seen.names == ["a"]
    assert seen.informer.objects["shop", "a"]["spec"] == {"new": True}
    assert "managedFields" not in seen.informer.objects["shop", "a"]["metadata"]


async def test_resumes_where_it_was(server, watched):
    """A watch that ends goes on from the last version, bookmarks included; nothing is listed again or told twice."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.bookmark(PODS)
    await until(lambda: seen.informer._version == str(server.version))
    at = server.version
    server.cut()
    server.put(PODS, "b")
    await until(lambda: seen.names == ["a", "b"])
    assert server.counted("GET", "pods") == 1
    assert [query["resourceVersion"] for verb, _path, query in server.requests if verb == "watch"][1] == str(at)
    assert seen.changes == 2


async def test_lists_again_when_forgotten(server, watched):
    """A version that the server has forgotten is listed anew: what went meanwhile is gone, what came is there."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.forget()
    server.cut()
    server.history.clear()
    server.objects.clear()
    server.put(PODS, "b")
    await until(lambda: seen.names == ["b"])
    assert server.counted("GET", "pods") == 2
    assert seen.informer.state.problem == ""


async def test_lists_again_when_forgotten_in_the_stream(server, watched):
    """The same where the server says it as an event of the watch."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.objects.clear()
    server.say(PODS, {"type": "ERROR", "object": status_of(410, "Expired", "too old resource version")})
    await until(lambda: seen.names == [])
    assert server.counted("GET", "pods") == 2


async def test_an_equal_list_tells_nothing(server, watched):
    """A list that has what was known is no change."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.say(PODS, {"type": "ERROR", "object": status_of(410, "Expired", "")})
    await until(lambda: server.counted("GET", "pods") == 2 and server.watches == 1)
    assert seen.changes == 1


async def test_server_away(server, watched):
    """While the server is away what is known is served, the problem is told, and it ends when the server is back."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    await server.down()
    await until(lambda: "cannot be reached" in seen.informer.state.problem)
    assert (seen.names, seen.informer.state.synced) == (["a"], True)
    server.put(PODS, "b")
    await server.up()
    await until(lambda: seen.names == ["a", "b"])
    assert seen.informer.state.problem == ""
    assert server.counted("GET", "pods") == 1


async def test_problem_ends_without_news(server, watched):
    """The problem ends when the server answers, also when it has nothing new."""
    seen = watched()
    server.install(PODS)
    await seen.informer.wait_synced(5)
    await server.down()
    await until(lambda: seen.informer.state.problem)
    await server.up()
    await until(lambda: not seen.informer.state.problem)
    assert seen.changes == 0


async def test_kind_installed_later(server, watched):
    """A kind that is not installed has no objects, is known as such, and is found when it is installed."""
    seen = watched(APPS)
    assert await seen.informer.wait_synced(5)
    assert (seen.informer.state.installed, seen.informer.state.problem, seen.names) == (False, "", [])
    server.put(APPS, "shop-app")
    await until(lambda: seen.names == ["shop-app"])
    assert seen.informer.state.installed


async def test_kind_that_goes(server, watched):
    """A kind not found once is still believed, as an API server that starts may say so; found absent it has no objects."""
    server.put(APPS, "shop-app")
    seen = watched(APPS)
    await until(lambda: server.watches == 1)
    answers = iter([True] * 2)
    server.refuse = lambda _request: (
        refused(404, "NotFound", "the server could not find it") if next(answers, 0) else None
    )
    server.cut()
    await until(lambda: server.watches == 1 and next(answers, None) is None)
    assert (seen.names, seen.changes) == (["shop-app"], 1)
    server.installed.clear()
    server.cut()
    await until(lambda: not seen.informer.state.installed)
    assert (seen.names, seen.changes) == ([], 2)


async def test_forbidden(server, watched):
    """What may not be listed is told in words and tried again; it is not known to be empty."""
    said = 'pods is forbidden: User "system:serviceaccount:shop:dapr" cannot list resource "pods" in API group ""'
    server.install(PODS)
    server.refuse = lambda _request: refused(403, "Forbidden", said)
    seen = watched()
    await until(lambda: seen.informer.state.problem)
    assert "the service account shop/dapr needs the verb list on pods in namespace shop" in seen.informer.state.problem
    assert not await seen.informer.wait_synced(0.01)
    server.refuse = lambda _request: None
    assert await seen.informer.wait_synced(5)
    assert seen.informer.state.problem == ""


async def test_watches_that_end_at_once(server, watched, monkeypatch):
    """Watches that end at once are asked for less and less often."""
    monkeypatch.setattr(informer_module, "PAUSES", (0.01, 10.0))
    monkeypatch.setattr(informer_module, "SPREAD", (1.0, 1.0))
    server.install(PODS)
    server.end_watches_at_once = True
    watched()
    await until(lambda: server.counted("watch", "pods") == 5)
    pauses = []
    loop = asyncio.get_running_loop()
    for count in (6, 7):
        begun = loop.time()
        await until(lambda count=count: server.counted("watch", "pods") == count)
        pauses.append(loop.time() - begun)
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.25


async def test_silence_is_no_failure(server, watched, monkeypatch):
    """Watches of a kind of which there is nothing to tell end by their silence, again and again: no problem, no pause."""
    monkeypatch.setattr(connection, "SILENCE", 0.03)
    monkeypatch.setattr(informer_module, "SHORT_WATCH", 0.02)
    monkeypatch.setattr(informer_module, "PAUSES", (0.005, 10.0))
    server.install(PODS)
    seen = watched()
    await until(lambda: server.counted("watch", "pods") == 12)
    assert [state.problem for state in seen.states] == [""]
    assert server.counted("GET", "pods") == 1


async def test_status_alone(server, watched):
    """With `ignore_status` a change of status is taken over without a word, one of anything else is told."""
    server.put(APPS, "a", spec={"x": 1}, metadata={"generation": 1})
    seen = watched(APPS, ignore_status=True)
    await until(lambda: seen.changes == 1 and server.watches == 1)
    server.put(APPS, "a", spec={"x": 1}, status={"ready": True}, metadata={"generation": 1})
    await until(lambda: "status" in seen.informer.objects["shop", "a"])
    assert seen.changes == 1
    server.put(APPS, "a", spec={"x": 2}, metadata={"generation": 2})
    await until(lambda: seen.changes == 2)
    server.put(APPS, "a", spec={"x": 2}, metadata={"generation": 2, "annotations": {"a": "b"}})
    await until(lambda: seen.changes == 3)
    server.put(APPS, "a", spec={"x": 2}, metadata={"generation": 2, "annotations": {"a": "b"}, "uid": "another"})
    await until(lambda: seen.changes == 4)


async def test_a_server_that_was_set_back(server, watched):
    """A server that refuses again and again to go on from a version, as one set back to an older state, is listed anew."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.refuse = lambda request: (
        refused(504, "Timeout", "Too large resource version") if request.query.get("resourceVersion") == "101" else None
    )
    server.objects.clear()
    server.history.clear()
    server.cut()
    await until(lambda: server.counted("GET", "pods") == 2)
    verbs = [verb for verb, _path, _query in server.requests]
    assert verbs[:6] == ["GET", "watch", "watch", "watch", "watch", "GET"]
    server.refuse = lambda _request: None
    await until(lambda: seen.names == [] and not seen.informer.state.problem)


async def test_retry_after(server, client):
    """What the server asks to wait is waited for, up to a minute."""
    server.install(PODS)
    server.refuse = lambda _request: refused(429, "TooManyRequests", "slow down", **{"Retry-After": "40"})
    informer = Informer(client, PODS, "shop", changed=lambda: None)
    least, most = informer_module.SPREAD
    assert least * 40 <= await informer._step() <= most * 40
    assert "answered 429" in informer.state.problem
    server.refuse = lambda _request: refused(429, "TooManyRequests", "slow down", **{"Retry-After": "3600"})
    assert least * 60 <= await informer._step() <= most * 60


async def test_unwanted_objects(server, watched):
    """Objects that are not wanted are not kept, and one that is wanted no longer goes."""
    server.put(PODS, "a", metadata={"labels": {"ours": "yes"}})
    server.put(PODS, "b")
    seen = watched(metadata_only=True, wanted=lambda item: "ours" in item["metadata"].get("labels", {}))
    await until(lambda: server.watches == 1)
    assert seen.names == ["a"]
    server.put(PODS, "c")
    server.put(PODS, "b", metadata={"labels": {"ours": "yes"}})
    await until(lambda: seen.names == ["a", "b"])
    server.put(PODS, "a")
    await until(lambda: seen.names == ["b"])
    assert seen.changes == 3


async def test_an_object_nobody_foresaw(server, watched):
    """An object that cannot be read is told and everything is listed again; the informer goes on."""
    server.put(PODS, "a")
    seen = watched()
    await until(lambda: server.watches == 1)
    server.say(PODS, {"type": "ADDED", "object": {"metadata": {"labels": 3}}})
    await until(lambda: any("cannot be read" in state.problem for state in seen.states))
    server.put(PODS, "b")
    await until(lambda: seen.names == ["a", "b"])
    assert seen.informer.state.problem == ""
