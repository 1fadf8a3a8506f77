"""Watching apps come and go, and the schedule behind it."""

from __future__ import annotations

import asyncio
import math
import socket
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import uvloop

from dapr_shared.channel.base import ChannelProperties, HealthProperties
from dapr_shared.channel.http import HttpAppChannel
from dapr_shared.channel.reach import accepts_tcp
from dapr_shared.channel.schedule import ProbeSchedule
from dapr_shared.channel.watch import CLOSEST, AppWatch
from dapr_shared.core.ids import AppRef
from tests.support.app_servers import HttpApp, raw_server, until
from tests.support.ports import free_port


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, bool]] = []

    def health_changed(self, channel, *, healthy) -> None:
        self.told.append((channel.ref.app_id, "healthy", healthy))

    def reachable_changed(self, channel, *, reachable) -> None:
        self.told.append((channel.ref.app_id, "reachable", reachable))

    def health_probed(self, channel, answer, seconds) -> None:
        pass


def app(port: int, app_id: str = "orders", health: HealthProperties | None = None, address="127.0.0.1"):
    return HttpAppChannel(AppRef(app_id), ChannelProperties("http", address, port, health=health))


@asynccontextmanager
async def watching():
    observer = Observer()
    async with AsyncExitStack() as stack:
        watch = AppWatch(observer)
        await watch.start(stack)
        yield watch, observer.told


async def test_an_app_that_comes_is_seen_soon():
    """Absent first, reachable soon after its port opens; each change is told once."""
    port = free_port()
    async with watching() as (watch, told), AsyncExitStack() as stack:
        orders = app(port)
        assert watch.reachable(orders.ref) is None
        watch.add(orders)
        await until(lambda: watch.reachable(orders.ref) is False)
        await stack.enter_async_context(raw_server(HttpApp(), port=port))
        start = time.monotonic()
        await until(lambda: watch.reachable(orders.ref))
        assert time.monotonic() - start < 2
        assert told == [("orders", "reachable", False), ("orders", "reachable", True)]


async def test_a_failed_call_makes_the_watch_look_at_once(call):
    """A reachable app that goes is not noticed at the next regular look but at the first failed call."""
    port = free_port()
    async with watching() as (watch, told), AsyncExitStack() as stack:
        orders = app(port)
        await orders.start(stack)
        orders.on_unreachable = lambda: watch.suspect(orders.ref)
        async with raw_server(HttpApp(), port=port):
            watch.add(orders)
            await until(lambda: watch.reachable(orders.ref))
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="refused"):
            await orders.invoke(call())
        await until(lambda: watch.reachable(orders.ref) is False)
        assert told == [("orders", "reachable", True), ("orders", "reachable", False)]


async def test_a_storm_of_failed_calls_does_not_become_a_storm_of_looks():
    """However many calls fail, an app is looked at ten times a second at most, and an absent one not more often."""
    port = free_port()
    async with watching() as (watch, _):
        orders = app(port)
        looks: list[bool] = []

        async def look() -> bool:
            looks.append(True)
            return True

        orders.reachable = look
        watch.add(orders)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            watch.suspect(orders.ref)
            await asyncio.sleep(0.001)
        assert 2 <= len(looks) <= 8


async def test_a_sign_of_life_is_followed_up():
    """`expect` begins anew with short delays."""
    port = free_port()
    async with watching() as (watch, _), AsyncExitStack() as stack:
        orders = app(port)
        watch.add(orders)
        await until(lambda: watch.reachable(orders.ref) is False)
        watch._watched[orders.ref].delay = 1000.0
        watch._watched[orders.ref].scheduled.due += 1000.0
        await stack.enter_async_context(raw_server(HttpApp(), port=port))
        watch.expect(orders.ref)
        await until(lambda: watch.reachable(orders.ref))
        watch.expect(AppRef("unknown"))
        watch.suspect(AppRef("unknown"))


async def test_health_follows_the_port_and_the_probe():
    """With health checks: healthy at once when the port opens, unhealthy after the failures, healthy again."""
    port = free_port()
    health = HealthProperties(interval=0.05, timeout=0.5, threshold=2)
    async with watching() as (watch, told), AsyncExitStack() as stack:
        orders = app(port, health=health)
        await orders.start(stack)
        watch.add(orders)
        await until(lambda: watch.reachable(orders.ref) is False)
        server = HttpApp()
        async with raw_server(server, port=port):
            await until(lambda: orders.healthy)
            server.status = 500
            await until(lambda: not orders.healthy)
            assert watch.reachable(orders.ref)
            server.status = 200
            await until(lambda: orders.healthy)
        await until(lambda: not orders.healthy)
        await until(lambda: watch.reachable(orders.ref) is False)
    changes = [(what, value) for _, what, value in told]
    assert changes[:5] == [
        ("reachable", False), ("reachable", True), ("healthy", True), ("healthy", False), ("healthy", True),
    ]  # fmt: skip
    assert sorted(changes[5:]) == [("healthy", False), ("reachable", False)]


async def test_an_app_that_is_not_watched_any_more_is_not_told_of():
    """After `remove` nothing is known and nobody hears anything, also of a look that is under way."""
    async with watching() as (watch, told):
        orders = app(free_port())
        began, go_on = asyncio.Event(), asyncio.Event()

        async def look() -> bool:
            began.set()
            await go_on.wait()
            return True

        orders.reachable = look
        watch.add(orders)
        await began.wait()
        watch.remove(orders.ref)
        watch.remove(orders.ref)
        go_on.set()
        await until(lambda: not watch._schedule._tasks)
        assert watch.reachable(orders.ref) is None
        assert told == []


async def test_an_address_change_is_a_new_app_to_the_watch():
    """Adding a channel for an app that is watched replaces the old one."""
    async with watching() as (watch, told), raw_server(HttpApp()) as port:
        watch.add(app(free_port()))
        await until(lambda: watch.reachable(AppRef("orders")) is False)
        watch.add(app(port))
        await until(lambda: watch.reachable(AppRef("orders")))
        assert told == [("orders", "reachable", False), ("orders", "reachable", True)]


async def test_the_end_leaves_no_task():
    """Ending the stack ends looks under way."""
    async with watching() as (watch, _):
        orders = app(free_port())

        async def look() -> bool:
            await asyncio.Event().wait()
            return True

        orders.reachable = look
        watch.add(orders)
        await until(lambda: watch._schedule._tasks)
    assert asyncio.all_tasks() == {asyncio.current_task()}


CALLS_A_LOOK = 160
"""Calls of functions, Python's and C's, that one look at an absent app may take; it takes about 125."""


def test_a_thousand_absent_apps_cost_next_to_nothing():
    """1,000 apps that nobody started, long absent: a look each in 30 seconds, and a bounded number of calls a look.

    Calls are counted, not time: the same work takes several times as long on a machine that is doing other things.
    """

    async def measure() -> tuple[int, int]:
        port = free_port()
        async with AsyncExitStack() as stack:
            watch = AppWatch()
            await watch.start(stack)
            for number in range(1000):
                watch.add(app(port, f"app{number}"))
            await until(lambda: all(watch.reachable(AppRef(f"app{n}")) is False for n in range(1000)))
            now = asyncio.get_running_loop().time()
            await until(lambda: not watch._schedule._tasks)
            for number, watched in enumerate(watch._watched.values()):  # as after minutes of absence
                watched.delay = 30.0
                watched.scheduled.due = math.ceil(now + 0.03 * number)
                watch._schedule._push(watched.scheduled)
            await asyncio.sleep(1)
            calls = 0

            def count(_frame: object, event: str, _argument: object) -> None:
                nonlocal calls
                calls += event in {"call", "c_call"}

            began = asyncio.get_running_loop().time()
            sys.setprofile(count)
            try:
                await asyncio.sleep(3.0)
            finally:
                sys.setprofile(None)
            return sum(one.looked >= began for one in watch._watched.values()), calls

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        looks, calls = runner.run(measure())
    assert 50 <= looks <= 200  # 1,000 in 30 seconds are 100 in three
    assert calls <= CALLS_A_LOOK * looks


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_port_accepts_or_not_and_no_descriptor_is_left(loop_factory):
    """Open, closed, unroutable in time, by name and by IPv6; nothing leaks and nothing raises."""

    async def ask() -> None:
        async with raw_server(HttpApp()) as port:
            assert await accepts_tcp("127.0.0.1", port, 1)
            assert await accepts_tcp("localhost", port, 1)
        assert not await accepts_tcp("127.0.0.1", port, 1)
        assert not await accepts_tcp("localhost", port, 1)
        assert not await accepts_tcp("::1", port, 1)
        assert not await accepts_tcp("no-such-host.invalid", port, 5)
        assert not await accepts_tcp("x" * 300, port, 1)
        # A full backlog takes no connection: what a firewall that drops packets looks like.
        with socket.socket() as full, socket.socket() as one, socket.socket() as two:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            for filler in (one, two):
                filler.setblocking(False)  # noqa: FBT003
                filler.connect_ex(address)
            start = time.monotonic()
            assert not await accepts_tcp(*address, 0.2)
            assert time.monotonic() - start < 2

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(ask())


async def test_a_schedule_runs_only_so_many_probes_at_a_time():
    """Probes over the bound wait for one to end, and none is forgotten."""
    running, most, done = 0, 0, 0

    async def probe() -> float:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        done += 1
        return 1000.0

    async with AsyncExitStack() as stack:
        schedule = ProbeSchedule(at_once=3)
        await schedule.start(stack)
        for _ in range(10):
            schedule.add(probe)
        await until(lambda: done == 10)
    assert most == 3


async def test_a_probe_that_raises_does_not_end_the_others():
    """A defect in one probe is reported to the loop; the others go on."""
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    runs = 0

    async def bad() -> float:
        raise ValueError("defect")

    async def good() -> float:
        nonlocal runs
        runs += 1
        return 0.01

    async with AsyncExitStack() as stack:
        schedule = ProbeSchedule()
        schedule.add(bad)
        schedule.add(good)
        await schedule.start(stack)
        await until(lambda: runs >= 3)
    assert [str(error) for error in reported] == ["defect"]


async def test_a_hurried_probe_runs_once():
    """Hurrying moves a probe to the front; its old place in the schedule is void."""
    runs: list[float] = []

    async def probe() -> float:
        runs.append(time.monotonic())
        return 1000.0

    async with AsyncExitStack() as stack:
        schedule = ProbeSchedule()
        await schedule.start(stack)
        scheduled = schedule.add(probe, 0.3)
        schedule.hurry(scheduled)
        schedule.hurry(scheduled, 5.0)
        await until(lambda: runs)
        await asyncio.sleep(0.4)
        assert len(runs) == 1
        schedule.remove(scheduled)
        schedule.hurry(scheduled)
        await asyncio.sleep(0.1)
        assert len(runs) == 1


async def test_a_hint_is_followed_by_two_looks():
    """An app whose connection was closed is looked at at once, though somebody has just looked, and once more soon after."""
    port = free_port()
    async with watching() as (watch, told), AsyncExitStack() as stack:
        orders = app(port)
        server = AsyncExitStack()
        await server.enter_async_context(raw_server(HttpApp(), port=port))
        stack.push_async_callback(server.aclose)
        watch.add(orders)
        await until(lambda: watch.reachable(orders.ref))
        looked = watch._watched[orders.ref].looked
        watch.suspect(orders.ref)
        await until(lambda: watch._watched[orders.ref].looked > looked)
        assert watch._watched[orders.ref].looked - looked < CLOSEST
        await server.aclose()  # after the first look, as one that closes its port last
        await until(lambda: watch.reachable(orders.ref) is False)
        assert told[-1] == ("orders", "reachable", False)
