"""State stores: etags and concurrency, expiry, transactions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dapr_shared.contracts.state import (
    Concurrency,
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    NotSupportedError,
    SetRequest,
    StateCapability,
)
from tests.support.component_setups import must_get, value_of

KEY = "app||k"
WRONG_ETAG = "7f5a6d4e-8f9b-4d0e-9a52-6f3f6f1d7f10"


def need(state, capability: StateCapability) -> None:
    if capability not in state.effective_capabilities():
        pytest.skip(f"has no {capability}")


async def present(state) -> str | None:
    """Store a value; the etag it has."""
    await state.set(SetRequest(KEY, b"1"))
    return (await must_get(state, KEY)).etag


async def absent(state) -> str | None:
    """Store a value and delete it; the etag it had."""
    etag = await present(state)
    await state.delete(DeleteRequest(KEY))
    return etag


def written(before, etag: str, concurrency: Concurrency) -> bool:
    """The rule: with an etag only the value with that etag is written; the first write only where nothing is."""
    if etag == "right":
        return before is present
    if etag == "wrong":
        return False
    return concurrency is not Concurrency.FIRST_WRITE or before is not present


ETAGS = ["none", "empty", "right", "wrong"]
MISMATCH = (EtagMismatchError, EtagInvalidError)


@pytest.mark.parametrize("concurrency", list(Concurrency))
@pytest.mark.parametrize("etag", ETAGS)
@pytest.mark.parametrize("before", [present, absent])
async def test_set(state, before, etag, concurrency):
    """A write succeeds exactly where etag and concurrency allow it, and else leaves everything as it was."""
    need(state, StateCapability.ETAG)
    given = {"none": None, "empty": "", "right": await before(state), "wrong": WRONG_ETAG}[etag]
    request = SetRequest(KEY, b"2", etag=given, concurrency=concurrency)
    if written(before, etag, concurrency):
        await state.set(request)
        assert await value_of(state, KEY) == b"2"
    else:
        with pytest.raises(MISMATCH):
            await state.set(request)
        assert await value_of(state, KEY) == (b"1" if before is present else None)


@pytest.mark.parametrize("concurrency", list(Concurrency))
@pytest.mark.parametrize("etag", ETAGS)
@pytest.mark.parametrize("before", [present, absent])
async def test_delete(state, before, etag, concurrency):
    """A delete with an etag needs the value with that etag; one without always succeeds."""
    need(state, StateCapability.ETAG)
    given = {"none": None, "empty": "", "right": await before(state), "wrong": WRONG_ETAG}[etag]
    request = DeleteRequest(KEY, etag=given, concurrency=concurrency)
    if etag in {"none", "empty"} or (etag == "right" and before is present):
        await state.delete(request)
        assert await value_of(state, KEY) is None
    else:
        with pytest.raises(MISMATCH):
            await state.delete(request)
        assert await value_of(state, KEY) == (b"1" if before is present else None)


async def test_expired_is_absent(state, state_harness):
    """For every write and delete an expired value is none, with every etag and concurrency."""
    need(state, StateCapability.ETAG)
    need(state, StateCapability.TTL)
    requests = [
        (kind, etag, concurrency)
        for kind in (SetRequest, DeleteRequest)
        for etag in ETAGS
        for concurrency in Concurrency
    ]
    *first, last = [SetRequest(f"app||{number}", b"1", ttl=2) for number in range(len(requests))]
    await state.bulk_set(first)
    await state.set(last)  # so that it is the last to expire
    right = [(await must_get(state, f"app||{number}")).etag for number in range(len(requests))]
    await state_harness.expire(state, f"app||{len(requests) - 1}", 2)
    for number, (kind, etag, concurrency) in enumerate(requests):
        key = f"app||{number}"
        given = {"none": None, "empty": "", "right": right[number], "wrong": WRONG_ETAG}[etag]
        if kind is SetRequest:
            call = state.set(SetRequest(key, b"2", etag=given, concurrency=concurrency))
        else:
            call = state.delete(DeleteRequest(key, etag=given, concurrency=concurrency))
        if given:
            with pytest.raises(MISMATCH):
                await call
        else:
            await call
        assert await value_of(state, key) == (b"2" if kind is SetRequest and not given else None)


async def test_an_etag_is_used_once(state, state_harness):
    """Every write gives a new etag, also of an equal value, and after a delete unless Dapr's form of etags is without."""
    need(state, StateCapability.ETAG)
    etags: list[str | None] = []
    for _ in range(3):
        await state.set(SetRequest(KEY, b"1"))
        etags.append((await must_get(state, KEY)).etag)
    if not state_harness.setup.etags_recur:
        await state.delete(DeleteRequest(KEY))
    await state.set(SetRequest(KEY, b"1"))
    etags.append((await must_get(state, KEY)).etag)
    assert all(etags)
    assert len(set(etags)) == len(etags)


async def test_any_etag(state):
    """An etag of another form than the store's is a mismatch or invalid, never a failure of the store."""
    need(state, StateCapability.ETAG)
    await state.set(SetRequest(KEY, b"1"))
    for etag in ("0", "-1", "ü", "'", "x" * 10_000):
        with pytest.raises(MISMATCH):
            await state.set(SetRequest(KEY, b"2", etag=etag))
    assert await value_of(state, KEY) == b"1"


async def test_no_increment_is_lost(state):
    """N increments by many callers, each tried again after a mismatch, give N."""
    need(state, StateCapability.ETAG)
    callers, each = 8, 10

    async def increment() -> None:
        while True:
            found = await must_get(state, KEY)
            try:
                await state.set(SetRequest(KEY, str(int(found.data) + 1).encode(), etag=found.etag))
            except EtagMismatchError:
                continue
            return

    async def caller() -> None:
        for _ in range(each):
            await increment()

    await state.set(SetRequest(KEY, b"0"))
    await asyncio.wait_for(asyncio.gather(*(caller() for _ in range(callers))), 30)
    assert await value_of(state, KEY) == str(callers * each).encode()


async def test_one_first_write_wins(state):
    """Of many first writes of one key exactly one succeeds."""
    need(state, StateCapability.ETAG)
    results = await asyncio.gather(
        *(state.set(SetRequest(KEY, str(n).encode(), concurrency=Concurrency.FIRST_WRITE)) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, EtagMismatchError) for result in results) == 19
    assert await value_of(state, KEY) == str(results.index(None)).encode()


async def test_expiry(state, state_harness):
    """A value with a time to live says when it expires, and is gone then."""
    need(state, StateCapability.TTL)
    await state.set(SetRequest(KEY, b"1", ttl=2))
    found = await must_get(state, KEY)
    expires = datetime.strptime(found.metadata["ttlExpireTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta(0) < expires - datetime.now(UTC) + timedelta(seconds=1) <= timedelta(seconds=4)
    await state_harness.expire(state, KEY, 2)
    assert await state.bulk_get([]) == []
    assert await value_of(state, KEY) is None


async def test_no_expiry(state, state_harness):
    """A write without a time to live, or with none above 0, clears an earlier one."""
    need(state, StateCapability.TTL)
    for ttl in (None, 0, -1):
        await state.set(SetRequest(f"app||{ttl}", b"1", ttl=2))
        await state.set(SetRequest(f"app||{ttl}", b"2", ttl=ttl))
        assert "ttlExpireTime" not in (await must_get(state, f"app||{ttl}")).metadata
    await state.set(SetRequest("app||other", b"1", ttl=2))
    await state_harness.expire(state, "app||other", 2)
    assert [await value_of(state, f"app||{ttl}") for ttl in (None, 0, -1)] == [b"2"] * 3


async def test_long_expiry(state):
    """The longest time to live that Dapr allows is accepted."""
    need(state, StateCapability.TTL)
    await state.set(SetRequest(KEY, b"1", ttl=2**31 - 1))
    assert (await must_get(state, KEY)).metadata["ttlExpireTime"] > "2090"


async def test_transactions_need_the_capability(state):
    """A store without transactions says so and writes nothing."""
    if StateCapability.TRANSACTIONAL in state.effective_capabilities():
        pytest.skip("has transactions")
    with pytest.raises(NotSupportedError):
        await state.transact([SetRequest(KEY, b"1")], {})
    assert await value_of(state, KEY) is None


async def test_transaction(state):
    """All operations are carried out, in order; keys with one `{tag}` are in one place of a cluster."""
    need(state, StateCapability.TRANSACTIONAL)
    await state.set(SetRequest("app||{t}gone", b"1"))
    await state.transact(
        [
            SetRequest("app||{t}a", b"1"),
            DeleteRequest("app||{t}gone"),
            SetRequest("app||{t}a", b"2"),
            SetRequest("app||{t}b", b"\x00", is_json=False, ttl=100),
            DeleteRequest("app||{t}a"),
            SetRequest("app||{t}a", b"3", concurrency=Concurrency.FIRST_WRITE),
        ],
        {},
    )
    assert [await value_of(state, f"app||{{t}}{key}") for key in ("a", "b", "gone")] == [b"3", b"\x00", None]
    assert "ttlExpireTime" in (await must_get(state, "app||{t}b")).metadata
    await state.transact([], {})


@pytest.mark.parametrize("position", [0, 1, 3])
async def test_failed_transaction(state, position):
    """A transaction that fails anywhere leaves values, etags and expiry as they were."""
    need(state, StateCapability.TRANSACTIONAL)
    await state.set(SetRequest("app||kept", b"1", ttl=100))
    await state.set(SetRequest("app||deleted", b"1"))
    before = [await must_get(state, "app||kept"), await must_get(state, "app||deleted")]
    operations = [SetRequest("app||kept", b"2"), SetRequest("app||new", b"2"), DeleteRequest("app||deleted")]
    operations.insert(position, SetRequest("app||absent", b"2", etag=WRONG_ETAG))
    with pytest.raises(MISMATCH):
        await state.transact(operations, {})
    assert [await must_get(state, "app||kept"), await must_get(state, "app||deleted")] == before
    assert [await value_of(state, f"app||{key}") for key in ("new", "absent")] == [None, None]


async def test_single_failed_operation(state):
    """A transaction of one operation reports its mismatch like any other."""
    need(state, StateCapability.TRANSACTIONAL)
    with pytest.raises(MISMATCH):
        await state.transact([DeleteRequest(KEY, etag=WRONG_ETAG)], {})


async def test_transactions_at_once(state):
    """Transactions at the same time do not mix: a failing one changes nothing of its neighbours."""
    need(state, StateCapability.TRANSACTIONAL)

    async def transfer(number: int) -> bool:
        operations = [SetRequest(f"app||{{{number}}}||a", b"1"), SetRequest(f"app||{{{number}}}||b", b"1")]
        if number % 3 == 0:
            operations.append(SetRequest(f"app||{{{number}}}||none", b"1", etag=WRONG_ETAG))
        try:
            await state.transact(operations, {})
        except MISMATCH:
            return False
        return True

    done = await asyncio.gather(*(transfer(number) for number in range(60)))
    assert done == [number % 3 != 0 for number in range(60)]
    for number, succeeded in enumerate(done):
        values = [await value_of(state, f"app||{{{number}}}||{part}") for part in "ab"]
        assert values == ([b"1", b"1"] if succeeded else [None, None])
