from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from dapr_shared.kube import events as events_module
from dapr_shared.kube.errors import Forbidden
from dapr_shared.kube.events import EventRecorder, record_event, reference_to
from dapr_shared.kube.objects import EVENTS, NODES, PODS, custom
from tests.support.fake_clock import FakeClock
from tests.support.fake_kube import refused

APPS = custom("shared.example.io", "v1", "apps", "App")
APP = {
    "apiVersion": "shared.example.io/v1",
    "kind": "App",
    "metadata": {"name": "tea", "namespace": "shop", "uid": "u"},
}


@pytest.fixture
def written(server):
    """The server; `written()` gives the Events that it has."""
    server.install(EVENTS)
    server.written = lambda: [item for (kind, *_), item in server.objects.items() if kind == "events"]
    return server


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def recorder(client, clock):
    return EventRecorder(client, host="pod-1", clock=clock.monotonic)


async def test_an_event(written, client):
    """An Event is about the object, in its namespace, and says who tells it."""
    await record_event(client, APP, "Warning", "Refused", "the app id belongs to another App")
    (event,) = written.written()
    assert event["involvedObject"] == {
        "apiVersion": "shared.example.io/v1", "kind": "App", "name": "tea", "namespace": "shop", "uid": "u"
    }  # fmt: skip
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "Refused", 1)
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("tea.")
    assert event["source"] == {"component": "dapr-shared"}


async def test_repeats(written, recorder, clock):
    """A repeat is no new Event: it is counted, and the count is written at most once a minute."""
    for _ in range(10):
        await recorder.record(APP, "Normal", "Accepted", "yes")
    (event,) = written.written()
    assert event["count"] == 1
    clock.advance(61)
    await recorder.record(APP, "Normal", "Accepted", "yes")
    (event,) = written.written()
    assert event["count"] == 11
    assert len(written.requests) == 2


async def test_repeats_of_many_callers(written, client):
    """`record_event` counts over calls."""
    await record_event(client, APP, "Normal", "Accepted", "yes")
    await record_event(client, APP, "Normal", "Accepted", "yes")
    assert len(written.requests) == 1
    await record_event(client, APP, "Normal", "Accepted", "yes, changed")
    assert len(written.requests) == 2


async def test_a_repeat_that_the_server_has_forgotten(written, recorder, clock):
    """The server forgets Events after an hour: then the repeat is a new one."""
    await recorder.record(APP, "Normal", "Accepted", "yes")
    written.objects.clear()
    clock.advance(4000)
    await recorder.record(APP, "Normal", "Accepted", "yes")
    (event,) = written.written()
    assert event["count"] == 1


async def test_too_many(written, recorder, clock, monkeypatch):
    """An object of which too much is told is told of less; another is not held back by it."""
    monkeypatch.setattr(events_module, "BURST", 3)
    for number in range(10):
        await recorder.record(APP, "Warning", "Odd", f"problem {number}")
    assert len(written.written()) == 3
    assert recorder.dropped == 7
    await recorder.record(reference_to(APPS, "coffee", "shop"), "Warning", "Odd", "problem")
    assert len(written.written()) == 4
    clock.advance(events_module.REFILL)
    await recorder.record(APP, "Warning", "Odd", "problem 99")
    assert len(written.written()) == 5


async def test_bounded(written, recorder, monkeypatch):
    """What is remembered is bounded."""
    monkeypatch.setattr(events_module, "REMEMBERED", 5)
    for number in range(20):
        await recorder.record(reference_to(PODS, f"p{number}", "shop"), "Normal", "Seen", "seen")
    assert (len(recorder._events), len(recorder._budgets)) == (5, 5)


async def test_long_and_cluster_scoped(written, recorder):
    """A long message is cut to the server's bound; an object without namespace is told of in `default`."""
    await recorder.record(reference_to(NODES, "node-1"), "Normal", "Seen", "x" * 5000)
    (event,) = written.written()
    assert len(event["message"]) == 1024
    assert event["metadata"]["namespace"] == "default"


async def test_a_refused_event_is_tried_again(written, recorder):
    """An Event that could not be written is not taken for written."""
    written.refuse = lambda _request: refused(403, "Forbidden", "no")
    with pytest.raises(Forbidden):
        await recorder.record(APP, "Normal", "Accepted", "yes")
    written.refuse = lambda _request: None
    await recorder.record(APP, "Normal", "Accepted", "yes")
    assert len(written.written()) == 1


async def test_tell(written, client, monkeypatch):
    """Telling never waits and never fails: what is too much is dropped and counted, a refusal goes to `told`."""
    monkeypatch.setattr(events_module, "QUEUE", 2)
    problems: list[str] = []
    recorder = EventRecorder(client, told=problems.append)
    said = 'events is forbidden: User "u" cannot create resource "events" in API group ""'
    written.refuse = lambda _request: refused(403, "Forbidden", said)
    for number in range(3):
        recorder.tell(APP, "Normal", "Accepted", f"{number}")
    assert recorder.dropped == 1
    task = asyncio.create_task(recorder.run())
    try:
        async with asyncio.timeout(5):
            while not problems:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            assert "needs the verb create on events in namespace shop" in problems[0]
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def telling(written, client, monkeypatch):
    """A recorder that runs with short pauses, and what it has told."""
    monkeypatch.setattr(events_module, "REFUSED_PAUSE", 0.02)
    monkeypatch.setattr(events_module, "REPEAT_INTERVAL", 0.0)
    problems: list[str] = []
    recorder = EventRecorder(client, told=problems.append)
    task = asyncio.create_task(recorder.run())
    yield SimpleNamespace(server=written, recorder=recorder, problems=problems)
    task.cancel()
    await asyncio.wait([task])


def rbac(verb: str, namespace: str = "shop"):
    """Refuses a verb on Events in a namespace as RBAC does."""
    method = {"create": "POST", "patch": "PATCH"}[verb]
    said = f'events is forbidden: User "u" cannot {verb} resource "events" in API group ""'

    def refuse(request):
        here = request.method == method and f"/namespaces/{namespace}/" in request.path
        return refused(403, "Forbidden", said) if here else None

    return refuse


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_refused_events_wait(telling):
    """What RBAC refuses is told once, waits, is tried again, and is written when the right is there, which is told too."""
    telling.server.refuse = rbac("create")
    for number in range(3):
        telling.recorder.tell(APP, "Normal", "Accepted", f"{number}")
    telling.recorder.tell(reference_to(APPS, "coffee", "bar"), "Normal", "Accepted", "elsewhere")
    await until(lambda: len(telling.server.written()) == 1)
    tried = telling.server.counted("POST", "events")
    await until(lambda: telling.server.counted("POST", "events") > tried + 1)
    (problem,) = telling.problems
    assert "needs the verb create on events in namespace shop" in problem
    telling.server.refuse = lambda _request: None
    await until(lambda: len(telling.server.written()) == 4)
    assert {event["message"] for event in telling.server.written()} == {"elsewhere", "0", "1", "2"}
    assert telling.problems[1:] == [""]
    assert telling.recorder.dropped == 0


async def test_a_pause_after_a_refusal(telling, monkeypatch):
    """A namespace that refuses is asked once in a pause, however many Events there are; what waits is bounded."""
    monkeypatch.setattr(events_module, "REFUSED_PAUSE", 60.0)
    monkeypatch.setattr(events_module, "QUEUE", 3)
    telling.server.refuse = rbac("create")
    for number in range(8):
        telling.recorder.tell(APP, "Normal", "Accepted", f"{number}")
        await until(telling.recorder._queue.empty)
    telling.recorder.tell(reference_to(APPS, "coffee", "bar"), "Normal", "Accepted", "elsewhere")
    await until(telling.server.written)
    assert telling.server.counted("POST", "events") == 2
    assert telling.recorder.dropped == 5


async def test_a_refused_repeat(telling):
    """Without the verb patch new Events are written all the same; the repeats are counted when it is there again."""
    telling.server.refuse = rbac("patch")
    for _ in range(3):
        telling.recorder.tell(APP, "Normal", "Accepted", "yes")
    await until(lambda: telling.server.counted("PATCH", "events") == 2)
    telling.recorder.tell(APP, "Normal", "Ready", "yes")
    await until(lambda: len(telling.server.written()) == 2)
    (problem,) = telling.problems
    assert "needs the verb patch on events in namespace shop" in problem
    telling.server.refuse = lambda _request: None
    telling.recorder.tell(APP, "Normal", "Accepted", "yes")
    await until(lambda: telling.problems[1:] == [""])
    assert sorted(event["count"] for event in telling.server.written()) == [1, 4]


async def test_a_namespace_that_is_gone(telling):
    """What waits for a namespace that is deleted meanwhile is dropped, and holds up no other."""
    telling.server.refuse = rbac("create")
    telling.recorder.tell(APP, "Normal", "Accepted", "yes")
    await until(lambda: telling.problems)
    telling.server.refuse = lambda request: (
        refused(404, "NotFound", "no") if "/namespaces/shop/" in request.path else None
    )
    await until(lambda: telling.recorder.dropped == 1)
    telling.recorder.tell(reference_to(APPS, "coffee", "bar"), "Normal", "Accepted", "elsewhere")
    await until(telling.server.written)
    assert telling.recorder._patience() is None
