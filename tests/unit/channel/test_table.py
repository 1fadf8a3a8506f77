"""The table of channels: added, changed, removed and drained without losing a call."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.channel.h2c import H2cAppChannel
from dapr_shared.channel.http import HttpAppChannel
from dapr_shared.channel.table import ChannelDefaults, ChannelSpec, ChannelTable, ChannelTableError, build_channel
from dapr_shared.channel.watch import AppWatch
from dapr_shared.contracts.invocation import AppNotHealthyError, AppUnreachableError, ChannelError
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import AppChannel, ChannelProtocol, ChannelTls, HealthCheck
from tests.support.app_servers import HttpApp, raw_server, until
from tests.support.ports import free_port

A, B = AppRef("a"), AppRef("b")


@asynccontextmanager
async def table_of(**options):
    async with AsyncExitStack() as stack:
        watch = AppWatch()
        await watch.start(stack)
        table = ChannelTable(watch, **options)
        await table.start(stack)
        yield table
    assert not {task.get_name() for task in asyncio.all_tasks()} & {
        "app-probe",
        "drain a.default",
        "first-probe a.default",
    }


def spec(port: int, **settings) -> ChannelSpec:
    token = settings.pop("api_token", None)
    return ChannelSpec(AppChannel(port=port, **settings), token)


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        ("http", HttpAppChannel),
        ("https", HttpAppChannel),
        ("h2c", H2cAppChannel),
        ("grpc", GrpcAppChannel),
        ("grpcs", GrpcAppChannel),
    ],
)
async def test_every_protocol_has_its_channel(protocol, kind):
    """The resource's settings become the channel and its properties."""
    check = HealthCheck(enabled=True, path="/well", interval=1.0, timeout=0.2, threshold=2)
    settings = AppChannel(
        port=7, protocol=ChannelProtocol(protocol), address="::1", max_concurrency=5, health_check=check
    )
    channel = build_channel(A, ChannelSpec(settings, "t"), ChannelDefaults())
    assert isinstance(channel, kind)
    properties = channel.properties
    assert (properties.protocol, properties.port, properties.max_concurrency) == (protocol, 7, 5)
    assert properties.where == "[::1]:7"
    assert properties.health is not None
    assert (properties.health.path, properties.health.interval, properties.health.threshold) == ("/well", 1.0, 2)
    assert not channel.healthy


async def test_channels_are_added_kept_and_removed(call):
    """A channel whose settings did not change stays the same object; a removed app has none."""
    app = HttpApp()
    async with raw_server(app) as port, table_of() as table:
        await table.apply({A: spec(port), B: spec(port)})
        first, second = table.get(A), table.get(B)
        assert (await first.invoke(call())).status == 200
        await table.apply({A: spec(port), B: spec(port, api_token="secret")})
        assert table.get(A) is first
        assert table.get(B) is not second
        await table.get(B).invoke(call())
        assert app.seen[-1].header("dapr-api-token") == ["secret"]
        await table.apply({A: spec(port)})
        assert table.get(B) is None
        assert list(table.channels()) == [first]
        await table.apply({})
        assert table.get(A) is None


async def test_a_changed_address_drains_the_old_channel(call):
    """Calls in flight finish where they began; new ones go to the new address at once."""
    old, new = HttpApp(hold=asyncio.Event()), HttpApp(status=201)
    async with raw_server(old) as old_port, raw_server(new) as new_port, table_of() as table:
        await table.apply({A: spec(old_port)})
        before = table.get(A)
        running = asyncio.create_task(before.invoke(call()))
        await until(lambda: old.busy == 1)
        await table.apply({A: spec(new_port)})
        assert (await table.get(A).invoke(call())).status == 201
        late = asyncio.create_task(before.invoke(call()))
        await until(lambda: old.busy == 2)
        old.hold.set()
        assert {answer.status for answer in await asyncio.gather(running, late)} == {200}
        await until(lambda: not table._draining)
        with pytest.raises(AppUnreachableError):
            await before.invoke(call())


async def test_a_drain_ends_after_its_grace(call):
    """A call that outlasts the grace on a removed channel fails instead of hanging."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port, table_of(grace=0.05) as table:
        await table.apply({A: spec(port)})
        running = asyncio.create_task(table.get(A).invoke(call()))
        await until(lambda: app.busy == 1)
        await table.apply({})
        with pytest.raises(ChannelError):
            await running


async def test_the_end_does_not_wait_for_a_drain(call):
    """Closing the table ends channels that are still draining, and those in use."""
    app = HttpApp(hold=asyncio.Event())
    async with raw_server(app) as port:
        async with table_of() as table:
            await table.apply({A: spec(port), B: spec(port)})
            calls = [asyncio.create_task(table.get(ref).invoke(call())) for ref in (A, B)]
            await until(lambda: app.busy == 2)
            await table.apply({B: spec(port)})
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, ChannelError) for result in results)


async def test_a_refused_reload_changes_nothing(call):
    """One app's unusable settings: every problem is named, and all channels stay as they were."""
    async with raw_server(HttpApp()) as port, table_of() as table:
        await table.apply({A: spec(port)})
        first = table.get(A)
        https = ChannelProtocol.HTTPS
        bad = {
            A: spec(port, max_concurrency=1),
            B: spec(port, protocol=https, tls=ChannelTls(ca_file="/nowhere/ca.pem")),
            AppRef("c", "other"): spec(port, protocol=https, tls=ChannelTls(ca_file="/nowhere/2.pem")),
        }
        with pytest.raises(ChannelTableError) as caught:
            await table.apply(bad)
        assert "app b.default: channel.tls.caFile: cannot use /nowhere/ca.pem" in str(caught.value)
        assert "app c.other: " in str(caught.value)
        assert table.get(A) is first
        assert table.get(B) is None
        assert (await first.invoke(call())).status == 200


async def test_a_healthy_app_stays_healthy_through_a_change(call):
    """The new channel is asked for the app's health before it takes over, so that no call is refused."""
    check = HealthCheck(enabled=True, interval=5.0)
    app = HttpApp()
    async with raw_server(app) as port, table_of() as table:
        await table.apply({A: spec(port, health_check=check)})
        await until(lambda: table.get(A).healthy)
        await table.apply({A: spec(port, health_check=check, max_concurrency=3)})
        assert (await table.get(A).invoke(call())).status == 200
        app.status = 500
        await table.apply({A: spec(port, health_check=check, max_concurrency=4)})
        with pytest.raises(AppNotHealthyError):
            await table.get(A).invoke(call())


async def test_the_watch_follows_the_table(call):
    """Channels are watched from the moment they are in the table; failed calls are reported to the watch."""
    port = free_port()
    async with AsyncExitStack() as stack:
        watch = AppWatch()
        await watch.start(stack)
        table = ChannelTable(watch)
        await table.start(stack)
        async with raw_server(HttpApp(), port=port):
            await table.apply({A: spec(port)})
            await until(lambda: watch.reachable(A))
        with pytest.raises(AppUnreachableError):
            await table.get(A).invoke(call())
        await until(lambda: watch.reachable(A) is False)
        await table.apply({})
        assert watch.reachable(A) is None


async def test_a_cancelled_reload_leaves_nothing_open():
    """A reload that is cancelled while it asks for health keeps the old channels and closes the new ones."""
    app = HttpApp()
    check = HealthCheck(enabled=True, timeout=5.0, interval=5.0)
    async with raw_server(app) as port, table_of() as table:
        await table.apply({A: spec(port)})
        first = table.get(A)
        app.hold = asyncio.Event()
        applying = asyncio.create_task(table.apply({A: spec(port, health_check=check)}))
        await until(lambda: app.busy == 1)
        applying.cancel()
        await asyncio.wait((applying,))
        assert table.get(A) is first
        assert not table.get(A).properties.health
        app.hold.set()
        await until(lambda: app.busy == 0)
