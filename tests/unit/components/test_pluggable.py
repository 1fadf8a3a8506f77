"""Pluggable components that go away, come back, are slow or lie: what their adapters make of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from dapr_shared._proto import components_pb, reflection_alpha_pb, reflection_pb, rpc_pb, wellknown_pb
from dapr_shared.components.catalog import Catalog, UnknownTypeError
from dapr_shared.components.pluggable import connection as pluggable_connection
from dapr_shared.components.pluggable import sockets as pluggable_sockets
from dapr_shared.components.pluggable.bindings import PluggableBinding
from dapr_shared.components.pluggable.connection import PluggableSettings
from dapr_shared.components.pluggable.pubsub import PluggablePubSub
from dapr_shared.components.pluggable.secretstores import PluggableSecretStore
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row, socket_names
from dapr_shared.components.pluggable.state import PluggableStateStore
from dapr_shared.contracts.bindings import BindingRequest, ReadRequest
from dapr_shared.contracts.component import BackendError, BackendUnavailableError, ComponentContext
from dapr_shared.contracts.pubsub import BulkEntry, Outcome, PublishRequest, SubscribeRequest
from dapr_shared.contracts.settings import decode_settings
from dapr_shared.contracts.state import (
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    GetRequest,
    NotSupportedError,
    SetRequest,
    StateCapability,
)
from tests.support.pubsub_fakes import until

BLOCKS: dict[Any, str] = {
    PluggableBinding: "bindings",
    PluggablePubSub: "pubsub",
    PluggableSecretStore: "secretstores",
    PluggableStateStore: "state",
}
PREFIX = "/dapr.proto.components.v1."
Answer = Callable[[bytes, dict[str, Any]], Any]


class Program:
    """A program at a socket whose answers are made up: by method, bytes, an error, or what a function makes of a call."""

    def __init__(self, folder: Path, name: str = "odd.sock") -> None:
        self.socket = folder / name
        self.services = ["StateStore", "PubSub", "SecretStore", "TransactionalStateStore"]
        self.reflection = "grpc.reflection.v1alpha.ServerReflection"
        self.features = ["ETAG", "TRANSACTIONAL", "BULK_PUBSUB"]
        self.answers: dict[str, Any] = {}
        self.called: list[tuple[str, bytes, dict[str, Any]]] = []
        self.pull: Callable[[Any, Any], Awaitable[None]] | None = None
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(0)
            self.socket.unlink(missing_ok=True)

    def methods(self) -> list[str]:
        return [name for name, _, _ in self.called]

    async def unary(self, name: str, data: bytes, context: Any) -> bytes:
        self.called.append((name, data, dict(context.invocation_metadata())))
        if name == "Features" and name not in self.answers:
            return components_pb.FeaturesResponse(features=self.features).SerializeToString()
        found = self.answers.get(name, b"")
        if callable(found):
            found = found(data)
            if asyncio.iscoroutine(found):
                found = await found
        if isinstance(found, tuple):
            code, text, trailers = found
            context.set_trailing_metadata(trailers)
            await context.abort(code, text)
        return found


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, program: Program) -> None:
        self._program = program

    def service(self, call: Any) -> Any:
        program, (_, service, name) = self._program, call.method.split("/")

        async def reflect(requests: Any, context: Any) -> Any:
            async for _ in requests:
                module = reflection_alpha_pb if "alpha" in service else reflection_pb
                answer = module.ServerReflectionResponse()
                for one in program.services:
                    answer.list_services_response.service.add(name=f"dapr.proto.components.v1.{one}")
                yield answer.SerializeToString()

        async def pull(requests: Any, context: Any) -> None:
            await program.pull(requests, context)

        async def unary(data: bytes, context: Any) -> bytes:
            return await program.unary(name, data, context)

        if service == program.reflection:
            return grpc.stream_stream_rpc_method_handler(reflect)
        if "reflection" in service:
            return None
        if name in {"PullMessages", "Read"}:
            return grpc.stream_stream_rpc_method_handler(pull)
        return grpc.unary_unary_rpc_method_handler(unary)


@pytest.fixture
async def program(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="plug-"))  # a socket's path must be short
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    made = Program(folder)
    await made.start()
    yield made
    await made.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def opened(program):
    """Opens an adapter of a kind."""
    async with AsyncExitStack() as stack:

        async def open_one(kind: Any = PluggableStateStore, app_id: str | None = None, **properties: str) -> Any:
            block = BLOCKS[kind]
            settings = decode_settings(PluggableSettings, properties)
            component = kind(settings, ComponentContext("mine", f"{block}.odd", app_id=app_id))
            await component.start(stack)
            return component

        yield open_one


def etag_error(code: grpc.StatusCode, *fields: str) -> Any:
    status = rpc_pb.Status(code=code.value[0], message="refused")
    bad = rpc_pb.BadRequest()
    for field in fields:
        bad.field_violations.add(field=field)
    detail = wellknown_pb.Any()
    detail.Pack(bad)
    status.details.append(detail)
    return code, "refused", (("grpc-status-details-bin", status.SerializeToString()),)


# Finding it ----------------------------------------------------------------------------------------------------------


async def test_types_of_sockets(program):
    """A socket is a type of each block that may be pluggable, whatever the case; files and other blocks are none."""
    (program.socket.parent / "file.sock").write_text("")
    catalog = Catalog(installed=None, pluggable=pluggable_row)
    assert catalog.find("State.ODD").target.endswith("pluggable.state:PluggableStateStore")
    assert catalog.find("pubsub.odd", "v1").target.endswith("pluggable.pubsub:PluggablePubSub")
    for unknown in ("lock.odd", "state.file", "state.absent"):
        with pytest.raises(UnknownTypeError):
            catalog.find(unknown)
    assert "memory.state" in catalog.find("state.in-memory").target
    assert socket_names() == {"odd"}


async def test_start(program, opened):
    """It is told all settings and the name of the component, and says what it can do; the rest is not asked of it."""
    program.features = ["ETAG", "SOMETHING_NEW", "KEYS_LIKE"]
    store = await opened(host="here", password="p-1")
    assert store.effective_capabilities() == {StateCapability.ETAG}
    name, data, metadata = program.called[0]
    assert (name, metadata["x-component-instance"]) == ("Init", "mine")
    assert dict(components_pb.InitRequest.FromString(data).metadata.properties) == {"host": "here", "password": "p-1"}
    assert "p-1" not in repr(store.settings)
    await store.ping()
    with pytest.raises(NotSupportedError):
        await store.transact([SetRequest("k", b"1")], {})
    with pytest.raises(NotSupportedError):
        await store.query({}, {})


async def test_reflection_v1(program, opened):
    """A program that has the newer reflection alone is found as well."""
    program.reflection = "grpc.reflection.v1.ServerReflection"
    await (await opened()).ping()


async def test_wrong_programs(program, opened):
    """A program that serves another kind, or does not say what it serves, is a start error that says so."""
    program.services = ["PubSub"]
    with pytest.raises(BackendError, match="does not serve StateStore, but PubSub"):
        await opened()
    program.reflection = "none"
    with pytest.raises(BackendError, match="does not implement"):
        await opened()
    program.socket.unlink()
    with pytest.raises(BackendUnavailableError, match=r"no socket of state\.odd"):
        await opened()


async def test_an_init_that_fails(program, opened):
    """What the program says about its settings is the start error."""
    program.answers["Init"] = (grpc.StatusCode.INVALID_ARGUMENT, "host is missing", ())
    with pytest.raises(BackendError, match="host is missing"):
        await opened()


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (etag_error(grpc.StatusCode.FAILED_PRECONDITION, "etag"), EtagMismatchError),
        (etag_error(grpc.StatusCode.INVALID_ARGUMENT, "etag"), EtagInvalidError),
        (etag_error(grpc.StatusCode.INVALID_ARGUMENT, "key"), BackendError),
        (etag_error(grpc.StatusCode.FAILED_PRECONDITION, "etag", "etag"), BackendError),
        ((grpc.StatusCode.FAILED_PRECONDITION, "x", (("grpc-status-details-bin", b"\xff"),)), BackendError),
        ((grpc.StatusCode.INTERNAL, "x" * 10_000, ()), BackendError),
        ((grpc.StatusCode.UNAVAILABLE, "overloaded", (("a", "b"),)), BackendUnavailableError),
    ],
)
async def test_errors_of_writes(program, opened, answer, expected):
    """Dapr's form of etag errors is understood in each kind of write; everything else is an error with bounded text."""
    store = await opened()
    for method in ("Set", "Delete", "Transact", "BulkSet", "BulkDelete"):
        program.answers[method] = answer
    for call in (
        store.set(SetRequest("k", b"1", etag="1")),
        store.delete(DeleteRequest("k", etag="1")),
        store.transact([DeleteRequest("k", etag="1")], {}),
        store.bulk_set([SetRequest("k", b"1")]),
        store.bulk_delete([DeleteRequest("k")]),
    ):
        with pytest.raises(BackendError) as caught:
            await call
        assert type(caught.value) is expected
        assert len(str(caught.value)) < 700


async def test_without_bulk(program, opened):
    """A program without bulk calls gets single ones."""
    store = await opened()
    missing = (grpc.StatusCode.UNIMPLEMENTED, "no", ())
    program.answers |= {"BulkGet": missing, "BulkSet": missing, "BulkDelete": missing}
    program.answers["Get"] = components_pb.GetResponse(data=b"1").SerializeToString()
    assert [found.data for found in await store.bulk_get([GetRequest("a"), GetRequest("b")])] == [b"1", b"1"]
    await store.bulk_set([SetRequest("a", b"1"), SetRequest("b", b"1")])
    await store.bulk_delete([DeleteRequest("a")])
    assert [program.methods().count(name) for name in ("Get", "Set", "Delete")] == [2, 2, 1]


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (components_pb.MultiMaxSizeResponse(max_size=2).SerializeToString(), 2),
        (components_pb.MultiMaxSizeResponse(max_size=-1).SerializeToString(), 0),
        ((grpc.StatusCode.UNIMPLEMENTED, "no", ()), 0),
    ],
)
async def test_the_limit_of_transactions(program, opened, answer, limit):
    """The most operations of a transaction are what the program says; one that says nothing sets no limit."""
    program.answers["MultiMaxSize"] = answer
    assert (await opened()).max_operations == limit
    program.features = ["ETAG"]
    program.called.clear()
    await opened()
    assert "MultiMaxSize" not in program.methods(), "it is asked of stores with transactions alone"


# Lies and slowness ---------------------------------------------------------------------------------------------------


async def test_lying_answers(program, opened):
    """Bytes that are no message, keys that nobody asked for, missing keys and made-up failures harm nobody."""
    store = await opened()
    program.answers["Get"] = b"\xff\xff\xff"
    with pytest.raises(BackendError, match="no GetResponse"):
        await store.get(GetRequest("k"))
    lies = components_pb.BulkGetResponse()
    lies.items.add(key="other", data=b"of nobody")
    lies.items.add(key="b", data=b"2")
    lies.items.add(key="c", error="broken")
    program.answers["BulkGet"] = lies.SerializeToString()
    found = await store.bulk_get([GetRequest(key) for key in ("a", "b", "c", "b")])
    assert found[0] is None
    assert (found[1].data, found[3].data) == (b"2", b"2")
    assert str(found[2]) == "broken"
    broker = await opened(PluggablePubSub)
    failed = components_pb.BulkPublishResponse()
    failed.failed_entries.add(entry_id="unknown", error="x")
    failed.failed_entries.add(entry_id="1")
    program.answers["BulkPublish"] = failed.SerializeToString()
    failures = await broker.bulk_publish("t", [BulkEntry("1", b""), BulkEntry("2", b"")], {})
    assert [failure.entry_id for failure in failures] == ["1"]


async def test_an_answer_that_is_too_large(program, opened, monkeypatch):
    """An answer above the bound is an error of that call, not of this process."""
    monkeypatch.setattr(pluggable_connection, "MAX_MESSAGE", 1024 * 1024)
    store = await opened()
    program.answers["Get"] = components_pb.GetResponse(data=bytes(2 * 1024 * 1024)).SerializeToString()
    with pytest.raises(BackendError):
        await store.get(GetRequest("k"))
    with pytest.raises(BackendError, match="more than a component is sent"):
        await store.set(SetRequest("k", bytes(2 * 1024 * 1024)))
    await store.ping()


async def test_slow(program, opened, monkeypatch):
    """A call that takes too long ends with an error that says so; the next one is made."""
    store = await opened()
    monkeypatch.setattr(pluggable_connection, "CALL_TIMEOUT", 0.1)
    program.answers["Get"] = lambda _: asyncio.sleep(5, b"")
    with pytest.raises(BackendError, match=r"longer than 0\.1 s"):
        await store.get(GetRequest("k"))
    await store.ping()


# Lost and back -------------------------------------------------------------------------------------------------------


async def test_lost_and_back(program, opened):
    """While the program is gone calls fail at once; when it is back it is initialised before the first call."""
    store = await opened()
    await store.set(SetRequest("k", b"1"))
    await program.stop()
    for _ in range(3):
        with pytest.raises(BackendUnavailableError):
            await store.get(GetRequest("k"))
    program.called.clear()
    await program.start()
    await asyncio.gather(*(store.get(GetRequest("k")) for _ in range(5)))
    assert program.methods()[:2] == ["Init", "Features"]
    assert program.methods().count("Init") == 1


async def test_restarted_between_two_calls(program, opened):
    """A program that was restarted while nobody called is initialised too: it knows nothing of what it was told before."""
    store = await opened()
    await program.stop()
    await program.start()
    program.called.clear()
    await store.ping()
    assert program.methods() == ["Init", "Features", "Ping"]


async def test_back_but_not_ready(program, opened):
    """A program that is back and refuses to be initialised is asked with back-off, not with each call."""
    store = await opened()
    await program.stop()
    program.answers["Init"] = (grpc.StatusCode.FAILED_PRECONDITION, "not yet", ())
    await program.start()
    program.called.clear()
    for _ in range(20):
        with pytest.raises(BackendError, match="not yet"):
            await store.get(GetRequest("k"))
    assert program.methods().count("Init") <= 2
    del program.answers["Init"]

    async def works() -> bool:
        try:
            await store.get(GetRequest("k"))
        except BackendError:
            return False
        return True

    await until(works)


# Messages ------------------------------------------------------------------------------------------------------------


async def test_groups_have_instances(program, opened):
    """Each consumer group that is not the component's own is an instance of its own, told its `consumerID`."""
    broker = await opened(PluggablePubSub, host="here")
    program.pull = lambda requests, context: asyncio.sleep(60)
    for group in ("orders", "stock", "orders"):
        await broker.subscribe(SubscribeRequest("t", group), lambda _: None)
    inits = [
        (metadata["x-component-instance"], dict(components_pb.PubSubInitRequest.FromString(data).metadata.properties))
        for name, data, metadata in program.called
        if name == "Init"
    ]
    assert inits == [
        ("mine", {"host": "here"}),
        ("mine.orders", {"host": "here", "consumerID": "orders"}),
        ("mine.stock", {"host": "here", "consumerID": "stock"}),
    ]


async def test_one_app_is_as_in_dapr(program, opened):
    """An instance for one app has one instance at the program, with the app id as its `consumerID`."""
    broker = await opened(PluggablePubSub, app_id="orders")
    program.pull = lambda requests, context: asyncio.sleep(60)
    await broker.subscribe(SubscribeRequest("t", "orders"), lambda _: None)
    inits = [data for name, data, _ in program.called if name == "Init"]
    assert len(inits) == 1
    assert components_pb.PubSubInitRequest.FromString(inits[0]).metadata.properties["consumerID"] == "orders"


async def test_streams_are_begun_again(program, opened):
    """A stream that breaks is begun anew, and what was not acknowledged on it may come again; acks go to their stream."""
    broker = await opened(PluggablePubSub)
    acks: list[str] = []
    streams = 0

    async def pull(requests: Any, context: Any) -> None:
        nonlocal streams
        streams += 1
        first = components_pb.PullMessagesRequest.FromString(await context.read())
        assert first.topic.name == "t"
        await context.write(components_pb.PullMessagesResponse(data=b"x", id=str(streams)).SerializeToString())
        ack = components_pb.PullMessagesRequest.FromString(await context.read())
        acks.append(ack.ack_message_id + ("!" if ack.HasField("ack_error") else ""))
        if streams < 3:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        await asyncio.sleep(60)

    program.pull = pull
    outcomes = [Outcome.RETRY, Outcome.ACCEPTED, Outcome.ACCEPTED]

    async def handle(message: Any) -> Outcome:
        return outcomes.pop(0)

    subscription = await broker.subscribe(SubscribeRequest("t", "g"), handle)
    await until(lambda: len(acks) == 3)
    assert acks == ["1!", "2", "3"]
    await subscription.stop(0)


async def test_publishing(program, opened):
    """A publish carries all that the broker was given, the content type too."""
    broker = await opened(PluggablePubSub)
    await broker.publish(PublishRequest("t", b"1", "text/plain", {"a": "b"}))
    sent = components_pb.PublishRequest.FromString(program.called[-1][1])
    assert (sent.topic, sent.data, sent.content_type, dict(sent.metadata)) == ("t", b"1", "text/plain", {"a": "b"})
    assert sent.pubsub_name == "mine"


async def test_those_who_waited_for_a_slow_start_do_not_each_wait_for_another(opened, program, monkeypatch):
    """While a program takes too long to initialise, one call waits for it; the others fail with that one's error."""
    component = await opened()
    monkeypatch.setattr(pluggable_connection, "CALL_TIMEOUT", 0.3)
    await program.stop()
    program.answers["Init"] = lambda _: asyncio.sleep(2, b"")
    program.called.clear()
    await program.start()

    results = await asyncio.gather(*(component.get(GetRequest(str(n))) for n in range(5)), return_exceptions=True)

    assert all(isinstance(result, BackendError) for result in results)
    assert program.methods().count("Init") == 1


def test_the_default_folder_of_somebody_else_is_not_looked_into(monkeypatch, tmp_path):
    """A folder in /tmp that another user made, or a link, has no components: they would be given secrets."""
    listening = socket.socket(socket.AF_UNIX)
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    try:
        listening.bind(str(folder / "odd.sock"))
        monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        monkeypatch.setattr(pluggable_sockets, "DEFAULT_FOLDER", str(folder))
        assert socket_names() == {"odd"}
        link = tmp_path / "link"
        link.symlink_to(folder)
        monkeypatch.setattr(pluggable_sockets, "DEFAULT_FOLDER", str(link))
        assert socket_names() == frozenset()
        monkeypatch.setattr(pluggable_sockets, "DEFAULT_FOLDER", str(folder))
        monkeypatch.setattr(pluggable_sockets, "_TRUSTED", (12345,))
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert socket_names() == frozenset()
        assert pluggable_row("state.odd") is None
    finally:
        listening.close()
        shutil.rmtree(folder)


# Bindings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("app_id", "instances"), [(None, ["mine", "mine.orders", "mine.stock"]), ("orders", ["mine"])])
async def test_readers_have_instances(program, opened, app_id, instances):
    """Each app that reads is an instance of its own at the program; an instance for one app has one."""
    program.services = ["InputBinding"]
    binding = await opened(PluggableBinding, app_id=app_id)
    program.pull = lambda requests, context: asyncio.sleep(60)
    for reader in ("orders",) if app_id else ("orders", "stock", "orders"):
        await binding.read(ReadRequest(reader), lambda _: None)
    assert [metadata["x-component-instance"] for name, _, metadata in program.called if name == "Init"] == instances


@pytest.mark.parametrize(
    ("served", "direction", "claimed"),
    [
        (["InputBinding", "OutputBinding"], "", {"INPUT_BINDING", "OUTPUT_BINDING"}),
        (["InputBinding", "OutputBinding"], " Input", {"INPUT_BINDING"}),
        (["InputBinding", "OutputBinding"], "output, x", {"OUTPUT_BINDING"}),
        (["InputBinding"], "", {"INPUT_BINDING"}),
        (["OutputBinding"], "input,output", {"OUTPUT_BINDING"}),
        (["OutputBinding"], "input", set()),
        (["StateStore"], "", set()),
    ],
)
async def test_directions(program, opened, served, direction, claimed):
    """A binding can do what its program serves, as far as its `direction` wants it; none of it is an error at start."""
    program.services = served
    metadata = {"direction": direction} if direction else {}
    if not claimed:
        with pytest.raises(BackendError, match="serves no binding"):
            await opened(PluggableBinding, **metadata)
        return
    binding = await opened(PluggableBinding, **metadata)
    assert binding.effective_capabilities() == claimed
    await binding.ping()
    if "OUTPUT_BINDING" not in claimed:
        with pytest.raises(BackendError):
            await binding.invoke(BindingRequest("create"))
    if "INPUT_BINDING" not in claimed:
        with pytest.raises(BackendError):
            await binding.read(ReadRequest("orders"), lambda _: None)


async def test_events_are_answered(program, opened):
    """An event is acknowledged with what the app answered, or with an error where the app refused it."""
    program.services = ["InputBinding"]
    acks: list[Any] = []

    async def pull(requests: Any, context: Any) -> None:
        for number in ("1", "2"):
            event = components_pb.ReadResponse(data=number.encode(), message_id=number, metadata={"k": number})
            await context.write(event.SerializeToString())
            acks.append(components_pb.ReadRequest.FromString(await context.read()))
        await asyncio.sleep(60)

    async def handle(event: Any) -> Outcome:
        assert event.metadata == {"k": event.id}
        if event.data == b"1":
            return Outcome.RETRY
        event.answered(b"thanks")
        return Outcome.ACCEPTED

    program.pull = pull
    binding = await opened(PluggableBinding)
    reading = await binding.read(ReadRequest("orders"), handle)
    await until(lambda: len(acks) == 2)
    found = [(ack.message_id, ack.response_data, ack.HasField("response_error")) for ack in acks]
    assert found == [("1", b"", True), ("2", b"thanks", False)]
    await reading.stop(0)
