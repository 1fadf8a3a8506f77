"""The outbox's first half: which events and markers a transaction becomes, and when it must not begin."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dapr_shared.blocks.pubsub.publish import Trace
from dapr_shared.blocks.state.block import StateBlock
from dapr_shared.blocks.state.items import SaveItem, TransactionItem
from dapr_shared.blocks.state.outbox import Outbox, OutboxConfig, outbox_config
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.encryption import EncryptionKey, EncryptionKeys
from dapr_shared.contracts.settings import Settings
from dapr_shared.contracts.state import DeleteRequest, EtagMismatchError, SetRequest, StateCapability, StateStore
from dapr_shared.core import errors
from dapr_shared.core.clock import SystemClock
from dapr_shared.core.errors import DaprError

METADATA = {"outboxpublishpubsub": "bus", "outboxpublishtopic": "newOrder"}
PROJECTED = {"outbox.projection": "true"}


class Store(StateStore[Settings]):
    """Writes transactions down; `steps` is the order of what happened."""

    settings_type = Settings
    capabilities = frozenset({StateCapability.TRANSACTIONAL})

    def __init__(self, steps: list[Any]) -> None:
        super().__init__(Settings(), ComponentContext("store", "fake"))
        self.steps = steps
        self.error: Exception | None = None

    async def start(self, stack) -> None: ...

    async def get(self, request): ...

    async def set(self, request): ...

    async def delete(self, request): ...

    async def transact(self, operations, metadata):
        self.steps.append(list(operations))
        if self.error is not None:
            raise self.error


class Broker:
    """The publishing side and the relays, as the outbox sees them."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.error: Exception | None = None
        self.fail_at = 0
        self.events: list[dict[str, Any]] = []
        self.rolled: list[str] = []
        self.waited: list[OutboxConfig] = []
        self.ready = True

    async def forward(self, app, pubsub, topic, event) -> None:
        if self.error is not None and len(self.events) == self.fail_at:
            raise self.error
        self.events.append(json.loads(event))
        self.steps.append((app, pubsub, topic))

    async def wait_for(self, app, config) -> None:
        self.waited.append(config)
        if not self.ready:
            raise errors.PUBSUB_OUTBOX(detail="not subscribed")

    def rolled_back(self, markers) -> None:
        self.rolled += markers


class World:
    def __init__(self, components, metrics, caller) -> None:
        self.steps: list[Any] = []
        self.store = components.add(Store(self.steps), metadata=dict(METADATA))
        self.components = components
        self.broker = Broker(self.steps)
        self.block = StateBlock(components, metrics, Outbox(self.broker, self.broker, SystemClock()))
        self.caller = caller

    def configure(self, **fields: Any) -> None:
        self.components.opened["store"] = replace(self.components.opened["store"], **fields)

    async def transact(self, *items: TransactionItem, trace: Trace = Trace()) -> None:  # noqa: B008 - it is frozen
        await self.block.transact(self.caller, "store", items, {}, trace)

    async def event(self, item: TransactionItem) -> dict[str, Any]:
        await self.transact(item)
        return self.broker.events[-1]


@pytest.fixture
def world(components, metrics, caller) -> World:
    return World(components, metrics, caller)


def upsert(key: str, value: bytes, **fields: Any) -> TransactionItem:
    return TransactionItem("upsert", SaveItem(key, value, **fields))


def raw(key: str, value: bytes, **fields: Any) -> TransactionItem:
    """An upsert as it comes over gRPC."""
    return upsert(key, value, is_json=False, parsed=False, **fields)


async def test_announced_before_it_is_carried_out(world):
    """Each upsert has an event at the app's internal topic and a marker in the transaction; a delete has none."""
    world.configure(runtime_metadata={**METADATA, "outboxpubsub": "inner"})
    await world.transact(upsert("a", b"1"), TransactionItem("delete", SaveItem("b", b"")), upsert("c", b"2"))
    first, second, operations = world.steps
    assert first == second == (world.caller.ref, "inner", "defaultordersnewOrderoutbox")
    markers = [event["id"] for event in world.broker.events]
    assert len(set(markers)) == 2
    assert all(marker.startswith("outbox-") for marker in markers)
    assert [operation.key for operation in operations] == ["orders||a", "orders||b", "orders||c", *markers]
    assert isinstance(operations[1], DeleteRequest)
    assert operations[3] == SetRequest(markers[0], b'"0"')
    assert world.broker.waited[0].internal_pubsub == "inner"


async def test_the_event(world):
    """It is a CloudEvent of the app, with the trace of the request."""
    await world.transact(upsert("a", b'"2"'), trace=Trace("00-aa-bb-01", "s=1"))
    event = world.broker.events[0]
    assert (event["source"], event["type"], event["specversion"]) == ("orders", "com.dapr.event.sent", "1.0")
    assert (event["data"], event["datacontenttype"], event["pubsubname"]) == ("2", "text/plain", "bus")
    assert (event["traceid"], event["tracestate"]) == ("00-aa-bb-01", "s=1")


@pytest.mark.parametrize(
    ("item", "data", "content_type"),
    [
        (upsert("k", b'"text"'), "text", "text/plain"),
        (upsert("k", b'{"a": 1.50}'), '{"a": 1.50}', "text/plain"),
        (upsert("k", b"12"), "12", "text/plain"),
        (upsert("k", b'{"a": 1}', content_type="application/json"), {"a": 1}, "application/json"),
        (upsert("k", b'"t"', content_type="application/json"), "t", "application/json"),
        (upsert("k", b'"<a/>"', metadata={"contentType": "text/xml"}), "<a/>", "text/xml"),
        (raw("k", b'"text"'), '"text"', "text/plain"),
        (raw("k", b'{"a": 1}', metadata={"contentType": "application/json"}), {"a": 1}, "application/json"),
        (raw("k", b"{", metadata={"contentType": "application/json"}), "{", "application/json"),
    ],
)
async def test_payloads(world, item, data, content_type):
    """The payload is the value: JSON where its content type says so, else its text; bytes of gRPC as they are."""
    event = await world.event(item)
    assert (event["data"], event["datacontenttype"]) == (data, content_type)


async def test_binary_payload(world):
    """Bytes of the content type octet-stream go as base64."""
    event = await world.event(raw("k", b"\x00\xff", metadata={"contentType": "application/octet-stream"}))
    assert event["data_base64"] == "AP8="


async def test_projection(world):
    """An operation that is marked as a projection is not written: its value is published for that of the same key."""
    projection = upsert("a", b'{"id": 1}', metadata=PROJECTED, content_type="application/json")
    other = upsert("x", b'"nobody"', metadata=PROJECTED)
    for items in ([projection, other, upsert("a", b"1"), upsert("b", b"2")],
                  [upsert("a", b"1"), upsert("b", b"2"), other, projection]):  # fmt: skip
        world.broker.events.clear()
        await world.transact(*items)
        assert [event["data"] for event in world.broker.events] == [{"id": 1}, "2"]
        assert [operation.key for operation in world.steps[-1]][:2] == ["orders||a", "orders||b"]
        assert len(world.steps[-1]) == 4
    assert all("outbox.projection" not in event for event in world.broker.events)


async def test_nothing_but_projections(world):
    """Then nothing is written and nothing announced."""
    await world.transact(upsert("a", b"1", metadata=PROJECTED))
    assert world.steps == []


async def test_overrides(world):
    """Metadata of an operation stands in the event, as Dapr has it; `cloudevent.` names are overrides; the id is ours."""
    metadata = {
        "source": "crm", "my-field": "abc", "id": "x", "data": "y", "cloudevent.id": "z", "cloudevent.subject": "s",
        "cloudevent.type": "t", "ttlInSeconds": "5",
    }  # fmt: skip
    event = await world.event(upsert("a", b'"v"', metadata=metadata))
    assert (event["source"], event["my-field"], event["data"]) == ("crm", "abc", "v")
    assert (event["subject"], event["type"], event["ttlInSeconds"]) == ("s", "t", "5")
    assert event["id"].startswith("outbox-")


async def test_encrypted_stores(world):
    """What is announced of an encrypting store is encrypted too, as in Dapr; the marker is not."""
    keys = EncryptionKeys(EncryptionKey("k", bytes(16)))
    world.configure(encryption=keys)
    event = await world.event(upsert("a", b'"secret"', content_type="application/json"))
    assert event["data"].endswith("||k")
    assert event["data"].encode() == world.steps[-1][0].value
    assert world.steps[-1][1].value == b'"0"'


async def test_limits_count_markers(world):
    """A transaction that the markers make too long for the store is refused before anything is announced."""
    world.store.max_operations = 3
    await world.transact(upsert("a", b"1"), TransactionItem("delete", SaveItem("b", b"")))
    with pytest.raises(DaprError) as caught:
        await world.transact(upsert("a", b"1"), upsert("b", b"1"))
    assert caught.value.row is errors.STATE_TOO_MANY_TRANSACTIONS
    assert len(world.broker.events) == 1


@pytest.mark.parametrize("fail_at", [0, 1])
async def test_a_broker_that_fails(world, fail_at):
    """When an event cannot be announced, nothing is carried out, and what was announced is known to be void."""
    world.broker.error, world.broker.fail_at = errors.PUBSUB_PUBLISH(topic="t", pubsub="bus", detail="down"), fail_at
    with pytest.raises(DaprError, match=r"error while publishing outbox message: .*down") as caught:
        await world.transact(upsert("a", b"1"), upsert("b", b"1"))
    assert caught.value.row is errors.PUBSUB_OUTBOX
    assert not any(isinstance(step, list) for step in world.steps)
    assert len(world.broker.rolled) == 2


async def test_nobody_at_the_internal_topic(world):
    """A transaction whose events nobody would take is refused."""
    world.broker.ready = False
    with pytest.raises(DaprError, match="not subscribed"):
        await world.transact(upsert("a", b"1"))
    assert world.steps == []


@pytest.mark.parametrize(("error", "certain"), [(EtagMismatchError("other"), True), (BackendError("timeout"), False)])
async def test_what_is_known_to_be_rolled_back(world, error, certain):
    """A refusal of the store is certain; any other error may hide that the transaction was carried out."""
    world.store.error = error
    with pytest.raises(DaprError) as caught:
        await world.transact(upsert("a", b"1"))
    assert caught.value.row is errors.STATE_TRANSACTION
    assert world.broker.rolled == ([world.broker.events[0]["id"]] if certain else [])


async def test_without_an_outbox(world, components, metrics):
    """A store without both settings has none, and a projection is then an ordinary write, as in Dapr."""
    for metadata in ({}, {"outboxpublishpubsub": "bus"}, {"outboxpublishtopic": "t"}):
        world.configure(runtime_metadata=metadata)
        assert outbox_config(components.opened["store"]) is None
        await world.transact(upsert("a", b"1", metadata=PROJECTED))
    assert world.broker.events == []
    assert [len(step) for step in world.steps] == [1, 1, 1]
    world.configure(runtime_metadata=METADATA)
    with pytest.raises(DaprError):  # never silently without events
        await StateBlock(components, metrics).transact(world.caller, "store", [upsert("a", b"1")], {})


async def test_the_configuration(world, components):
    """`outboxPubsub` defaults to the publishing one; discarding is off."""
    assert outbox_config(components.opened["store"]) == OutboxConfig(
        "bus", "newOrder", "bus", discard_when_missing=False
    )
    world.configure(runtime_metadata={**METADATA, "outboxdiscardwhenmissingstate": "TRUE", "outboxpubsub": "b2"})
    assert outbox_config(components.opened["store"]) == OutboxConfig("bus", "newOrder", "b2", discard_when_missing=True)
