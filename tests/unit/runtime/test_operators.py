"""The operators' door and what it shows, without a process: what is bounded, refused, and never told."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from types import SimpleNamespace

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.core.clock import SystemClock
from dapr_shared.observability.log_ring import LogRing
from dapr_shared.runtime.operators import backend_clocks as backend_clocks_module
from dapr_shared.runtime.operators import inside
from dapr_shared.runtime.operators import views as views_module
from dapr_shared.runtime.operators.answers import AppRow
from dapr_shared.runtime.operators.backend_clocks import backend_clocks
from dapr_shared.runtime.operators.door import OperatorsDoor
from dapr_shared.runtime.operators.inside import findings
from dapr_shared.runtime.operators.log_stream import stream
from dapr_shared.runtime.operators.views import Views
from dapr_shared.runtime.operators.weak_tokens import is_weak
from dapr_shared.wire.http.messages import Request
from tests.support.fake_clock import FakeClock


def door_of(desk, ring: LogRing | None = None) -> OperatorsDoor:
    parts = desk.instance.parts
    events = desk.instance.reloader._events
    made = Views(parts, events.metrics.registry, SystemClock(), data_dir="/data")
    return OperatorsDoor(made, parts, events, SimpleNamespace(recent=ring or LogRing()))


async def asked(door: OperatorsDoor, method: str, target: str, *headers: tuple[bytes, bytes], body: bytes = b""):
    answer = await door(Request(method, target.encode(), list(headers), body))
    assert dict(answer.headers)[b"dapr-shared-operators"] == b"1"
    return answer.status, answer.body


def put(ring: LogRing, message: str, app_id: str = "", level: str = "info") -> None:
    ring(None, level, {"event": message, "level": level, "app_id": app_id})


@pytest.mark.parametrize(
    ("method", "target", "status", "words"),
    [
        ("GET", "/v1/nothing", 404, "no GET /v1/nothing"),
        ("GET", "/", 404, "no GET /"),
        ("GET", "/v2/apps", 404, "no GET /v2/apps"),
        ("POST", "/v1/apps", 404, "no POST"),
        ("GET", "/v1/logs?level=loud", 400, "'loud' is not a level"),
        ("GET", "/v1/logs?lines=9999999", 400, "lines is a number from 0 to 2000"),
        ("GET", "/v1/logs?lines=-1", 400, "lines is a number"),
        ("GET", "/v1/subscriptions?app=nobody", 404, "serves no app nobody.default"),
        ("POST", "/v1/apps/nobody/refresh", 404, "serves no app nobody.default"),
        ("POST", "/v1/apps/nobody/publish/p/t", 404, "serves no app nobody.default"),
        ("POST", "/v1/apps/shop/publish/../secrets/vault/x", 400, "leaves it"),
        ("GET", "/v1/apps/shop/invoke/x/../../metadata", 400, "leaves it"),
        ("GET", "/v1/apps/shop/state/store/key", 404, "no GET"),
    ],
)
async def test_what_is_not_there_is_refused_in_words(desk, method, target, status, words):
    """Unknown paths, bounds and apps have a sentence; a path cannot climb out of publish and invoke."""
    async with desk.start(desk.app("shop")):
        found, body = await asked(door_of(desk), method, target)
    assert found == status
    assert words in json.loads(body)["message"]


async def test_an_act_is_the_apps_and_carries_no_other_evidence(desk):
    """A call in an app's name is this app's, whatever token or target its headers claim."""
    async with desk.start(
        desk.app("shop"), desk.app("mail"), desk.component("pubsub", "pubsub.in-memory", scopes=["shop"])
    ):
        claims = [(b"dapr-api-token", desk.token("mail").encode()), (b"dapr-app-id", b"mail"), (b"host", b"x")]
        door = door_of(desk)
        assert (await asked(door, "POST", "/v1/apps/shop/publish/pubsub/t", *claims, body=b"{}"))[0] == 204
        status, body = await asked(door, "POST", "/v1/apps/mail/publish/pubsub/t", body=b"{}")
        assert (status, json.loads(body)["errorCode"]) == (404, "ERR_PUBSUB_NOT_FOUND")
        metrics = desk.instance.reloader._events.metrics
        assert metrics.operator_actions.child("shop", "publish").value == 1


async def test_an_app_of_another_namespace_is_found_by_its_id_alone(desk):
    """Without a namespace the default one is meant, and else the only app of that id."""
    async with desk.start(
        desk.app("shop", namespace="prod"), desk.app("a"), desk.app("a", namespace="prod", token="b")
    ):
        door = door_of(desk)
        assert (await asked(door, "POST", "/v1/apps/shop/refresh"))[0] == 202
        assert b"app a.default" in (await asked(door, "POST", "/v1/apps/a/refresh"))[1]
        assert b"app a.prod" in (await asked(door, "POST", "/v1/apps/a.prod/refresh"))[1]


async def test_evidence_is_told_by_its_kind(desk):
    """Tokens are counted, certificates named; no digest is in the answer."""
    digests = [{"sha256": sha256(text).hexdigest()} for text in (b"one, long enough", b"two, long enough")]
    shop = desk.app("shop", tokens=digests, certificates=[{"dnsName": "shop.local"}])
    async with desk.start(shop, desk.app("mute", tokens=[])):
        _, body = await asked(door_of(desk), "GET", "/v1/apps")
    rows = {row["id"]: row["evidence"] for row in json.loads(body)}
    assert rows == {"shop": ["token (2)", "certificate"], "mute": []}
    assert digests[0]["sha256"].encode() not in body


async def test_a_backend_that_hangs_or_breaks_costs_its_own_row(desk, monkeypatch):
    """Of three components one hangs, one fails and one breaks its contract: three rows, in time, each with its error."""
    monkeypatch.setattr(views_module, "PING_TIMEOUT", 0.05)
    async with desk.start(desk.app("shop"), *(desk.component(name) for name in ("breaks", "fails", "hangs"))):
        components = {one.opened.name: one.opened.component for one in desk.instance.parts.registry.running()}

        async def hang() -> None:
            await asyncio.Event().wait()

        async def fail() -> None:
            raise BackendError("refused\nby the server")

        async def break_() -> None:
            raise ZeroDivisionError("oh")

        components["hangs"].ping, components["fails"].ping, components["breaks"].ping = hang, fail, break_
        door = door_of(desk)
        rows = json.loads((await asked(door, "GET", "/v1/components"))[1])
        assert [(row["name"], row["health"]) for row in rows] == [
            ("breaks", "failing"), ("fails", "failing"), ("hangs", "failing"),
        ]  # fmt: skip
        assert [row["last_error"] for row in rows] == [
            "ZeroDivisionError: oh",
            "refused\nby the server",
            "no answer within 0.05 s",
        ]
        del components["fails"].ping
        row = json.loads((await asked(door, "GET", "/v1/components"))[1])[1]
        assert (row["health"], row["last_error"]) == (
            "ok",
            "refused\nby the server",
        )  # the last one is kept, with its time
        assert row["last_error_at"]


async def test_a_component_that_did_not_open_is_a_row(desk):
    """What `ignoreErrors` let pass is shown as failed, with what to correct, and doctor calls it an error."""
    wrong = desk.component("broken", "state.sqlite", {"connectionString": f"{desk.folder}/resources.yaml/y.db"})
    wrong["spec"]["ignoreErrors"] = True
    async with desk.start(desk.app("shop"), wrong):
        door = door_of(desk)
        [row] = json.loads((await asked(door, "GET", "/v1/components"))[1])
        assert (row["name"], row["health"]) == ("broken", "failed")
        found = await findings(door._views, desk.instance.reloader._events.metrics, LogRing())
        assert [one.status for one in found if one.check == "components"] == ["error"]


def test_many_absent_apps_are_counted() -> None:
    """Doctor names ten apps that are away, counts the rest, and names one that is there and not healthy."""
    away = [AppRow(id=f"a{n:02}", namespace="default", channel="http://x:1", reachable=False) for n in range(30)]
    ill = AppRow(id="ill", namespace="default", channel="http://x:1", reachable=True, healthy=False)
    told = [finding.about for finding in inside._apps([*away, ill])]
    assert [text.split()[1] for text in told[:10]] == [f"a{n:02}.default" for n in range(10)]
    assert told[10:] == ["20 more apps do not accept connections", "app ill.default fails its health check"]


async def test_metric_rows_are_bounded(desk, monkeypatch):
    """Past the bound rows are counted, not given; a histogram is its count and its sum."""
    monkeypatch.setattr(views_module, "MOST_METRIC_ROWS", 3)
    async with desk.start(desk.app("shop")):
        await desk.ask("shop", "/v1.0/metadata")
        body = json.loads((await asked(door_of(desk), "GET", "/v1/metrics"))[1])
        assert len(body["rows"]) in {3, 4}
        assert body["left_out"] > 0
        rows = json.loads(
            (await asked(door_of(desk), "GET", "/v1/metrics?names=dapr_http_server_latency&app=shop"))[1]
        )["rows"]
        assert {row["name"] for row in rows} == {"dapr_http_server_latency_count", "dapr_http_server_latency_sum"}


async def test_a_follower_gets_new_lines_and_is_told_what_it_missed():
    """Lines of the past, then new ones of this app and level; a reader that is too slow is told how many are gone."""
    ring = LogRing(lines=5)
    put(ring, "before", "shop")
    put(ring, "of another", "mail")
    following = stream(ring, app="shop", rank=1, lines=10, follow=True)
    assert json.loads(await anext(following))["msg"] == "before"
    put(ring, "quiet", "shop", "debug")
    put(ring, "now", "shop")
    assert json.loads(await anext(following))["msg"] == "now"
    for number in range(20):
        put(ring, f"flood {number}", "shop")
    missed = json.loads(await anext(following))
    assert (missed["msg"], missed["count"]) == ("lines were left out", 15)
    last = (await anext(following)).splitlines()
    assert [json.loads(line)["msg"] for line in last] == [f"flood {number}" for number in range(15, 20)]
    await following.aclose()
    assert not ring._waiting  # nobody is called any more


def test_words_that_are_guessed_first_are_weak():
    """Common words and the app's own name are weak in usual spellings; random tokens are not."""
    for word in ("token", "CHANGEME", "Secret", "shop", "shop-token", "SHOP"):
        assert is_weak(sha256(word.encode()).digest(), "shop"), word
    assert not is_weak(sha256(b"vKq1-a-long-random-one").digest(), "shop")
    assert not is_weak(sha256(b"mail-token").digest(), "shop")


def told_by(times: dict[str, object]) -> list[SimpleNamespace]:
    """Running components whose backends tell these times; an error is raised, `None` waits for ever."""

    def asked_for(told: object):
        async def backend_time() -> float | None:
            if isinstance(told, Exception):
                raise told
            if told is None:
                await asyncio.Event().wait()
            return None if told == "none" else FakeClock().now().timestamp() + told

        return backend_time

    def one(name: str, told: object) -> SimpleNamespace:
        component = SimpleNamespace(backend_time=asked_for(told))
        return SimpleNamespace(opened=SimpleNamespace(name=name, type="state.x", namespace="n", component=component))

    return [one(name, told) for name, told in times.items()]


async def test_backends_whose_clocks_differ_are_findings(monkeypatch):
    """Each that is more than two seconds off is named with how much and which way; those that tell nothing are not."""
    monkeypatch.setattr(backend_clocks_module, "LIMIT", 0.01)
    times = {"fast": 90.5, "slow": -3.25, "right": 0.5, "embedded": "none", "down": BackendError("x"), "hangs": None,
             "broken": ValueError("x")}  # fmt: skip
    fast, slow = await backend_clocks(told_by(times), FakeClock())
    assert fast.about.startswith("the backend of component fast (state.x) of namespace n is 90.")
    assert fast.about.endswith("s ahead of this machine")
    assert "component slow" in slow.about
    assert "behind this machine" in slow.about
    assert (fast.status, slow.status, bool(fast.remedy)) == ("warning", "warning", True)
    (fine,) = await backend_clocks(told_by({"right": 0.5, "embedded": "none"}), FakeClock())
    assert (fine.status, fine.about) == ("ok", "1 backend with a clock of its own, none differs from this machine's")


async def test_a_clock_that_was_moved_is_a_finding(desk):
    """The time of day that moves against the time that has passed is a warning; else the clock is fine."""
    async with desk.start(desk.app("shop")):
        door = door_of(desk)
        metrics = desk.instance.reloader._events.metrics
        [fine] = [one for one in await findings(door._views, metrics, LogRing()) if one.check == "clock"]
        assert fine.status == "ok"
        door._views._begun += 100
        [moved] = [one for one in await findings(door._views, metrics, LogRing()) if one.check == "clock"]
        assert moved.status == "warning"
        assert "+100" in moved.about
