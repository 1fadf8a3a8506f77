"""Encryption in the state block: Dapr's form, rotation, and errors that tell nothing."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dapr_shared.blocks.state.block import StateBlock
from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem
from dapr_shared.components.memory.state import MemoryStateSettings, MemoryStateStore
from dapr_shared.contracts.component import ComponentContext
from dapr_shared.contracts.encryption import EncryptionKey, EncryptionKeys
from dapr_shared.contracts.state import GetRequest, QueryResult, SetRequest, StateCapability
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError

OLD = EncryptionKey("old", bytes(range(16)))
NEW = EncryptionKey("new", bytes(range(32)))


class World:
    """The block and a store in memory, whose keys can be changed."""

    def __init__(self, components, metrics, caller) -> None:
        self.store = components.add(
            MemoryStateStore(MemoryStateSettings(), ComponentContext("store", "state.in-memory"))
        )
        self.components = components
        self.block = StateBlock(components, metrics)
        self.caller = caller
        self.use(OLD)

    def use(self, primary: EncryptionKey, secondary: EncryptionKey | None = None) -> None:
        self.components.opened["store"] = replace(
            self.components.opened["store"], encryption=EncryptionKeys(primary, secondary)
        )

    async def save(self, value: bytes, key: str = "k", **more) -> None:
        await self.block.save(self.caller, "store", [SaveItem(key, value, **more)])

    async def get(self, key: str = "k") -> bytes | None:
        found = await self.block.get(self.caller, "store", key)
        return None if found is None else found.data

    async def stored(self, key: str = "k"):
        return await self.store.get(GetRequest(f"orders||{key}"))

    async def put(self, value: bytes, key: str = "k") -> None:
        await self.store.set(SetRequest(f"orders||{key}", value, is_json=False))


@pytest.fixture
async def world(components, metrics, caller):
    made = World(components, metrics, caller)
    async with AsyncExitStack() as stack:
        await made.store.start(stack)
        yield made


async def test_the_form(world):
    """What is stored is base64 of nonce, ciphertext and tag, two bars and the key's name: daprd's form, both ways."""
    await world.save(b'{"a":1}')
    text, _, name = (await world.stored()).data.rpartition(b"||")
    sealed = base64.b64decode(text, validate=True)
    assert name == b"old"
    assert AESGCM(OLD.secret).decrypt(sealed[:12], sealed[12:], None) == b'{"a":1}'
    nonce = bytes(12)
    await world.put(base64.b64encode(nonce + AESGCM(OLD.secret).encrypt(nonce, b"from daprd", None)) + b"||old")
    assert await world.get() == b"from daprd"


async def test_a_nonce_for_each_write(world):
    """The same value is never stored as the same bytes: a nonce that comes twice would give the key away."""
    stored = set()
    for _ in range(50):
        await world.save(b"same")
        stored.add((await world.stored()).data)
    assert len(stored) == 50


@pytest.mark.parametrize("value", [b"1", b"", b"a||b", b"\x00\xff" * 1000, '{"ü":"||old"}'.encode()])
async def test_values_come_back(world, value):
    """Any bytes come back as they were: alone, in bulk, from a transaction, and whatever content type was given."""
    await world.save(value, is_json=False)
    assert await world.get() == value
    operation = TransactionItem("upsert", SaveItem("t", value, is_json=False, metadata={"contentType": "text/plain"}))
    await world.block.transact(world.caller, "store", [operation], {})
    found = await world.block.bulk_get(world.caller, "store", ["k", "t", "absent"], 0, {})
    assert [item.value.data if item.value else None for item in found] == [value, value, None]
    assert (await world.stored()).data != value


async def test_stores_take_no_ciphertext_for_json(world, monkeypatch):
    """A store is told of bytes, and not of the content type that the value had before."""
    asked = []

    async def note(request):
        asked.append(request)

    monkeypatch.setattr(world.store, "set", note)
    await world.save(b"1", metadata={"contentType": "application/json", "ttlInSeconds": "5"})
    assert (asked[0].is_json, asked[0].metadata, asked[0].ttl) == (False, {"ttlInSeconds": "5"}, 5)


async def test_rotation(world):
    """What the key of before has written is read as long as it is the secondary one; what is written has the new one."""
    await world.save(b"before", "a")
    world.use(NEW, OLD)
    await world.save(b"after", "b")
    assert (await world.get("a"), await world.get("b")) == (b"before", b"after")
    assert (await world.stored("b")).data.endswith(b"||new")
    world.use(NEW)
    assert await world.get("b") == b"after"
    with pytest.raises(DaprError, match="neither the primary nor the secondary"):
        await world.get("a")


async def test_rotation_within_one_secret(world):
    """Two keys of one secret have one name: each value is read with the one that fits."""
    first, second = EncryptionKey("keys", OLD.secret), EncryptionKey("keys", NEW.secret)
    world.use(first)
    await world.save(b"before", "a")
    world.use(second, first)
    await world.save(b"after", "b")
    assert (await world.get("a"), await world.get("b")) == (b"before", b"after")


GOOD = base64.b64encode(bytes(12) + AESGCM(OLD.secret).encrypt(bytes(12), b"secret-payload", None))
WRONG = base64.b64encode(bytes(12) + AESGCM(NEW.secret).encrypt(bytes(12), b"secret-payload", None))


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b'"secret-payload"', "names no encryption key"),
        (b"secret-payload||", "names no encryption key"),
        (b"x||secret-payload", "neither the primary nor the secondary"),
        (b"x||\xff\xfe", "neither the primary nor the secondary"),
        (b"||old", "too short"),
        (base64.b64encode(b"short") + b"||old", "too short"),
        (b"secret-payload!||old", "not base64"),
        (WRONG + b"||old", "does not belong to the encryption key old"),
        (GOOD[:-4] + b"AAAA||old", "does not belong to the encryption key old"),
    ],
)
async def test_what_cannot_be_decrypted(world, stored, problem):
    """Plain, damaged and foreign values are errors that say what is wrong, and nothing of the value or a key."""
    await world.put(stored)
    with pytest.raises(DaprError, match=problem) as caught:
        await world.get()
    assert caught.value.row is errors.STATE_GET
    for forbidden in ("secret-payload", OLD.secret.hex(), repr(OLD.secret)):
        assert forbidden not in str(caught.value)
    await world.save(b"good", "other")
    found = await world.block.bulk_get(world.caller, "store", ["k", "other"], 0, {})
    assert problem in found[0].error
    assert found[1].value.data == b"good"


async def test_an_empty_value_passes(world):
    """An empty value that somebody else stored is empty, as in Dapr."""
    await world.put(b"")
    assert await world.get() == b""


async def test_etags(world):
    """An etag is the stored value's: it comes with the decrypted value and guards the next write and delete."""
    await world.save(b"1")
    etag = (await world.block.get(world.caller, "store", "k")).etag
    await world.save(b"2", etag=etag)
    with pytest.raises(DaprError) as caught:
        await world.save(b"3", etag=etag)
    assert caught.value.row is errors.STATE_SAVE_ETAG_MISMATCH
    with pytest.raises(DaprError):
        await world.block.delete(world.caller, "store", DeleteItem("k", etag=etag))
    assert await world.get() == b"2"


async def test_queries_are_refused(world, monkeypatch):
    """A store that has only ciphertext is not asked."""

    async def query(_query, _metadata):
        return QueryResult([])

    monkeypatch.setattr(world.store, "query", query)
    opened = world.components.opened["store"]
    world.components.opened["store"] = replace(opened, capabilities=opened.capabilities | {StateCapability.QUERY_API})
    with pytest.raises(DaprError, match="cannot query encrypted store") as caught:
        await world.block.query(world.caller, "store", b"{}", {})
    assert caught.value.row is errors.STATE_QUERY
