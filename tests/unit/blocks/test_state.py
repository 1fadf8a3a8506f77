"""The state block: whose keys, which options, which errors, whatever the store behind it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dapr_shared.blocks.state.block import EMPTY_PAGES, StateBlock
from dapr_shared.blocks.state.items import DeleteItem, SaveItem, TransactionItem
from dapr_shared.contracts.component import BackendError, BackendUnavailableError, ComponentContext
from dapr_shared.contracts.settings import Settings
from dapr_shared.contracts.state import (
    Concurrency,
    Consistency,
    DeleteRequest,
    EtagInvalidError,
    EtagMismatchError,
    NotSupportedError,
    QueryResult,
    SetRequest,
    StateCapability,
    StateStore,
    StateValue,
)
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError, GrpcCode


class FakeStore(StateStore[Settings]):
    """Writes down what it is asked, and raises `error` where one is set."""

    settings_type = Settings
    capabilities = frozenset({StateCapability.TRANSACTIONAL, StateCapability.ETAG, StateCapability.QUERY_API})

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("store", "fake"))
        self.asked: list[Any] = []
        self.error: Exception | None = None
        self.values: dict[str, StateValue] = {}
        self.pages: list[QueryResult] = []

    async def start(self, stack) -> None:
        """Nothing to open."""

    def _note(self, what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    async def get(self, request):
        self._note(request)
        return self.values.get(request.key)

    async def set(self, request):
        self._note(request)

    async def delete(self, request):
        self._note(request)

    async def transact(self, operations, metadata):
        self._note((list(operations), metadata))

    async def query(self, query, metadata, key_prefix):
        self._note((query, metadata, key_prefix))
        return self.pages.pop(0) if self.pages else QueryResult([("orders||k", StateValue(b"1"))])

    @property
    def keys(self) -> list[str]:
        return [request.key for request in self.asked]


@pytest.fixture
def store(components) -> FakeStore:
    return components.add(FakeStore())


@pytest.fixture
def block(components, metrics, store) -> StateBlock:
    return StateBlock(components, metrics)


async def refused(awaitable) -> DaprError:
    with pytest.raises(DaprError) as caught:
        await awaitable
    return caught.value


# Keys ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "given_namespace", "key"),
    [
        (None, "", "orders||k"),
        ("appid", "shop", "orders||k"),
        ("APPID", "", "orders||k"),
        ("", "", "orders||k"),
        ("name", "", "store||k"),
        ("namespace", "shop", "shop.orders||k"),
        ("namespace", "", "orders||k"),
        ("none", "", "k"),
        ("NONE", "", "k"),
        ("custom", "shop", "custom||k"),
    ],
)
async def test_key_prefixes(components, metrics, caller_of, strategy, given_namespace, key):
    """Each strategy makes Dapr's key, for every operation alike."""
    store = components.add(FakeStore(), metadata={} if strategy is None else {"keyprefix": strategy})
    block = StateBlock(components, metrics)
    caller = caller_of(given_namespace=given_namespace)
    await block.get(caller, "store", "k")
    await block.bulk_get(caller, "store", ["k"], 0, {})
    await block.save(caller, "store", [SaveItem("k", b"1")])
    await block.delete(caller, "store", DeleteItem("k"))
    assert store.keys == [key] * 4
    await block.transact(caller, "store", [TransactionItem("upsert", SaveItem("k", b"1"))], {})
    assert [operation.key for operation in store.asked[-1][0]] == [key]


@pytest.mark.parametrize("key", ["a||b", "||", "stock||k", "k||"])
async def test_keys_with_the_separator(block, store, caller, key):
    """A key that could forge another app's prefix is refused before the store is asked, in every operation."""
    save = SaveItem(key, b"1")
    calls = [
        block.get(caller, "store", key),
        block.bulk_get(caller, "store", ["ok", key], 0, {}),
        block.save(caller, "store", [SaveItem("ok", b"1"), save]),
        block.delete(caller, "store", DeleteItem(key)),
        block.transact(caller, "store", [TransactionItem("delete", save)], {}),
    ]
    for call in calls:
        error = await refused(call)
        assert error.row is errors.STATE_ILLEGAL_KEY
        assert error.violations[0].field == key
    assert store.asked == []


async def test_a_single_bar_is_no_separator(block, store, caller):
    """A key with one bar belongs to the app as any other."""
    await block.get(caller, "store", "a|b")
    assert store.keys == ["orders||a|b"]


async def test_empty_keys(block, store, caller):
    """A save without a key is refused before anything is written; deletes and transactions take one, as in daprd."""
    call = block.save(caller, "store", [SaveItem("ok", b"1"), SaveItem("", b"1")])
    assert (await refused(call)).row is errors.STATE_SAVE_KEY_EMPTY
    assert store.asked == []
    await block.delete(caller, "store", DeleteItem(""))
    await block.bulk_delete(caller, "store", [DeleteItem("")])
    await block.transact(caller, "store", [TransactionItem("upsert", SaveItem("", b"1"))], {})
    assert [asked.key for asked in store.asked[:2]] == ["orders||", "orders||"]
    assert store.asked[2][0][0].key == "orders||"


# Options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ttl"),
    [("", None), ("1", 1), ("0", 0), ("-1", -1), ("-2", -2), ("2147483647", 2**31 - 1), ("+5", 5), ("007", 7)],
)
async def test_time_to_live(block, store, caller, text, ttl):
    """The time to live is a whole number of seconds; an empty one is none."""
    await block.save(caller, "store", [SaveItem("k", b"1", metadata={"ttlInSeconds": text})])
    assert store.asked[0].ttl == ttl


@pytest.mark.parametrize(
    "text", ["x", "1.5", "2147483648", "9" * 5000, "1_0", " 1", "1 ", "\u0661", "0x1", "1s", "--1", "+", "\n1"]
)
async def test_wrong_times_to_live(block, store, caller, text):
    """What is no number of seconds, as Dapr reads one, is an error of the item; nothing is written."""
    items = [SaveItem("ok", b"1"), SaveItem("k", b"1", metadata={"ttlInSeconds": text})]
    error = await refused(block.save(caller, "store", items))
    assert error.row is errors.STATE_SAVE
    assert "ttlInSeconds" in error.message
    assert store.asked == []


async def test_options_reach_the_store(block, store, caller):
    """Etag, concurrency, consistency and metadata go through as they are; an empty etag is none."""
    item = SaveItem(
        "k", b"1", is_json=False, etag="e", concurrency="first-write", consistency="strong", metadata={"a": "b"}
    )
    await block.save(caller, "store", [item])
    await block.delete(caller, "store", DeleteItem("k", etag="", concurrency="last-write", consistency="eventual"))
    await block.get(caller, "store", "k", "strong", {"m": "1"})
    saved, deleted, read = store.asked
    assert saved == SetRequest(
        "orders||k", b"1", is_json=False, etag="e", concurrency=Concurrency.FIRST_WRITE, consistency=Consistency.STRONG,
        metadata={"a": "b"},
    )  # fmt: skip
    assert deleted == DeleteRequest(
        "orders||k", concurrency=Concurrency.LAST_WRITE, consistency=Consistency.EVENTUAL, metadata={}
    )
    assert (read.consistency, read.metadata) == (Consistency.STRONG, {"m": "1"})


@pytest.mark.parametrize("field", ["concurrency", "consistency"])
async def test_unknown_options(block, store, caller, field):
    """An option that does not exist is an error that names it."""
    wrong: dict[str, Any] = {field: "sometimes"}
    for call in (
        block.save(caller, "store", [SaveItem("k", b"1", **wrong)]),
        block.delete(caller, "store", DeleteItem("k", **wrong)),
    ):
        assert "'sometimes'" in (await refused(call)).message
    assert store.asked == []


# Errors --------------------------------------------------------------------------------------------------------------

_FAULTS = [
    (EtagMismatchError("m"), errors.STATE_SAVE_ETAG_MISMATCH, errors.STATE_DELETE_ETAG_MISMATCH),
    (EtagInvalidError("m"), errors.STATE_SAVE_ETAG_INVALID, errors.STATE_DELETE_ETAG_INVALID),
    (BackendError("m"), errors.STATE_SAVE, errors.STATE_DELETE),
    (BackendUnavailableError("m"), errors.STATE_SAVE, errors.STATE_DELETE),
    (NotSupportedError("m"), errors.STATE_SAVE, errors.STATE_DELETE),
]


@pytest.mark.parametrize(("fault", "saving", "deleting"), _FAULTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("count_of_items", [1, 2])
async def test_errors_of_the_store(block, store, caller, fault, saving, deleting, count_of_items):
    """Every error of a store becomes its row of the table, one item or several, with the store's error as the cause."""
    store.error = fault
    keys = ["a", "b"][:count_of_items]
    for call, row in (
        (block.save(caller, "store", [SaveItem(key, b"1") for key in keys]), saving),
        (block.delete(caller, "store", DeleteItem("a")), deleting),
        (block.get(caller, "store", "a"), errors.STATE_GET),
        (
            block.transact(caller, "store", [TransactionItem("upsert", SaveItem("a", b"1"))], {}),
            errors.STATE_TRANSACTION,
        ),
    ):
        error = await refused(call)
        assert error.row is row
        assert error.__cause__ is fault


def test_statuses_of_etag_errors():
    """A mismatch is 409 and ABORTED, an impossible etag 400 and INVALID_ARGUMENT."""
    for row in (errors.STATE_SAVE_ETAG_MISMATCH, errors.STATE_DELETE_ETAG_MISMATCH):
        assert (row.http, row.grpc) == (409, GrpcCode.ABORTED)
    for row in (errors.STATE_SAVE_ETAG_INVALID, errors.STATE_DELETE_ETAG_INVALID):
        assert (row.http, row.grpc) == (400, GrpcCode.INVALID_ARGUMENT)


async def test_bulk_get_keeps_order_and_tells_errors_by_item(block, store, caller):
    """Answers stand in the order of the keys, without prefixes; one key's error is that key's."""
    store.values["orders||b"] = StateValue(b"2", "e")

    async def get(request):
        if request.key.endswith("||bad"):
            raise BackendError("broken")
        return store.values.get(request.key)

    store.get = get
    items = await block.bulk_get(caller, "store", ["a", "bad", "b", "b"], 2, {})
    assert [(item.key, item.error, item.value and item.value.data) for item in items] == [
        ("a", "", None), ("bad", "broken", None), ("b", "", b"2"), ("b", "", b"2"),
    ]  # fmt: skip
    assert await block.bulk_get(caller, "store", [], 0, {}) == []


async def test_a_store_that_is_not_there(block, components, caller, caller_of):
    """A wrong name is said to be wrong; an app that has no store at all is told so."""
    assert (await refused(block.get(caller, "other", "k"))).row is errors.STATE_NOT_FOUND
    assert (await refused(block.get(caller_of("blind"), "store", "k"))).row is errors.STATE_NOT_CONFIGURED
    components.opened.clear()
    assert (await refused(block.save(caller, "store", []))).row is errors.STATE_NOT_CONFIGURED


async def test_nothing_to_do(block, store, caller):
    """Empty lists are answered without asking the store."""
    await block.save(caller, "store", [])
    await block.bulk_delete(caller, "store", [])
    await block.transact(caller, "store", [], {})
    assert store.asked == []


# Transactions and queries --------------------------------------------------------------------------------------------


async def test_a_transaction(block, store, caller):
    """Operations go through in their order, with the transaction's metadata."""
    operations = [
        TransactionItem("upsert", SaveItem("a", b"1", etag="e")),
        TransactionItem("delete", SaveItem("a", b"", etag="f")),
    ]
    await block.transact(caller, "store", operations, {"m": "1"})
    ((saved, deleted), metadata) = store.asked[0]
    assert isinstance(saved, SetRequest)
    assert isinstance(deleted, DeleteRequest)
    assert (saved.etag, deleted.etag, metadata) == ("e", "f", {"m": "1"})


async def test_limits_of_transactions(block, store, caller):
    """More operations than the store takes are refused with both numbers; an unknown one by its name; none is begun."""
    store.max_operations = 2
    operations = [TransactionItem("upsert", SaveItem(str(number), b"1")) for number in range(3)]
    error = await refused(block.transact(caller, "store", operations, {}))
    assert error.row is errors.STATE_TOO_MANY_TRANSACTIONS
    assert error.info == {"currentOpsTransaction": "3", "maxOpsPerTransaction": "2"}
    await block.transact(caller, "store", operations[:2], {})
    store.asked.clear()
    wrong = [operations[0], TransactionItem("Upsert", SaveItem("k", b"1"))]
    error = await refused(block.transact(caller, "store", wrong, {}))
    assert error.row is errors.STATE_OPERATION_NOT_SUPPORTED
    assert "Upsert" in error.message
    assert store.asked == []


async def test_what_a_store_cannot_do(components, metrics, caller):
    """Transactions and queries of a store without them get the documented error, before anything else is looked at."""
    store = FakeStore()
    store.effective_capabilities = frozenset  # for the view
    type_ = type("Plain", (FakeStore,), {"capabilities": frozenset()})
    components.add(type_())
    block = StateBlock(components, metrics)
    bad = [TransactionItem("x", SaveItem("a||b", b""))]
    assert (await refused(block.transact(caller, "store", bad, {}))).row is errors.STATE_TRANSACTIONS_NOT_SUPPORTED
    assert (await refused(block.query(caller, "store", b"{", {}))).row is errors.STATE_QUERY_NOT_SUPPORTED


async def test_queries(block, store, caller):
    """A query is a JSON object and goes to the store as data; everything else is an error of the query."""
    result = await block.query(caller, "store", b'{"filter":{}}', {"m": "1"})
    assert [key for key, _ in result.items] == ["k"]
    assert store.asked == [({"filter": {}}, {"m": "1"}, "orders||")]
    for query in (b"", b"{", b"[]", b"null", b"\xff", b'{"a":' * 5000):
        assert (await refused(block.query(caller, "store", query, {}))).row is errors.STATE_QUERY
    store.error = NotSupportedError("no")
    assert (await refused(block.query(caller, "store", b"{}", {}))).row is errors.STATE_QUERY_NOT_SUPPORTED
    store.error = BackendError("no")
    assert (await refused(block.query(caller, "store", b"{}", {}))).row is errors.STATE_QUERY


def page_of(token: str, *keys: str) -> QueryResult:
    return QueryResult([(key, StateValue(b"1")) for key in keys], token)


async def test_queries_show_the_callers_keys_alone(block, store, caller):
    """Values of other apps, of actors and without a prefix are left out; the caller's come under their own names."""
    store.pages = [page_of("2", "stock||k", "orders||a", "orders||Type||id||k", "k", "orders2||k", "orders||b")]
    found = await block.query(caller, "store", b"{}", {})
    assert ([key for key, _ in found.items], found.token) == (["a", "b"], "2")


async def test_pages_without_anything_of_the_caller(block, store, caller):
    """They are passed over, with the rest of the query as it was; at a bound the answer is empty and has a token."""
    store.pages = [page_of("1", "stock||a"), page_of("2"), page_of("", "orders||a")]
    found = await block.query(caller, "store", b'{"sort":[],"page":{"limit":1}}', {})
    assert ([key for key, _ in found.items], found.token) == (["a"], "")
    assert [query for query, _, _ in store.asked] == [
        {"sort": [], "page": {"limit": 1}},
        {"sort": [], "page": {"limit": 1, "token": "1"}},
        {"sort": [], "page": {"limit": 1, "token": "2"}},
    ]
    store.pages = [page_of(str(number), "stock||a") for number in range(EMPTY_PAGES + 1)]
    found = await block.query(caller, "store", b"{}", {})
    assert (found.items, found.token) == ([], str(EMPTY_PAGES - 1))


@pytest.mark.parametrize(
    ("strategy", "own"), [("name", "store||k"), ("none", "k"), ("shared", "shared||k"), ("namespace", "shop.orders||k")]
)
async def test_query_keys_by_prefix(components, metrics, caller_of, strategy, own):
    """What is the caller's follows from the component's key prefix, as for every other operation."""
    store = components.add(FakeStore(), metadata={"keyprefix": strategy})
    store.pages = [page_of("", "other||k", own)]
    found = await StateBlock(components, metrics).query(caller_of(given_namespace="shop"), "store", b"{}", {})
    assert [key for key, _ in found.items] == ["k"]


# Counting ------------------------------------------------------------------------------------------------------------


async def test_operations_are_counted_with_their_success(block, store, caller, count):
    """Each operation is counted once for its app and store; what fails, or is cancelled, is no success."""
    name = "dapr_component_state_count"
    await block.get(caller, "store", "k")
    await block.save(caller, "store", [SaveItem("k", b"1")])
    store.error = BackendError("no")
    await refused(block.get(caller, "store", "k"))
    store.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await block.get(caller, "store", "k")
    labels = {"app_id": "orders", "component": "store"}
    assert count(name, **labels, operation="get", success="true") == 1
    assert count(name, **labels, operation="get", success="false") == 2
    assert count(name, **labels, operation="set", success="true") == 1
