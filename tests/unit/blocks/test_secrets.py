"""The secrets block: only what is opened to the app, and never a token, by whatever name."""

from __future__ import annotations

import pytest

from dapr_shared.blocks.secrets import SecretsBlock
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStore
from dapr_shared.contracts.settings import Settings
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError


class FakeVault(SecretStore[Settings]):
    """A few secrets; the source knows each with a prefix."""

    settings_type = Settings

    def __init__(self, **secrets: str) -> None:
        super().__init__(Settings(), ComponentContext("vault", "fake"))
        self.secrets = {name: {name: value} for name, value in secrets.items()}
        self.asked: list[tuple[str, dict]] = []
        self.error: BackendError | None = None

    async def start(self, stack) -> None:
        """Nothing to open."""

    async def get(self, name, metadata):
        self.asked.append((name, dict(metadata)))
        if self.error:
            raise self.error
        if name not in self.secrets:
            raise SecretNotFoundError(f"no {name}")
        return self.secrets[name]

    async def bulk(self, metadata):
        self.asked.append(("*", dict(metadata)))
        if self.error:
            raise self.error
        return self.secrets

    def source_names(self, name):
        return frozenset({f"PREFIX_{name}"})


class FakePolicy:
    """Scopes and protected secrets."""

    def __init__(self) -> None:
        self.closed: set[str] = set()
        self.names: set[str] = set()
        self.values: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []

    def allowed(self, caller, store, name):
        self.asked.append((caller.app_id, store, name))
        return name not in self.closed

    def name_protected(self, names):
        return not self.names.isdisjoint(names)

    def value_protected(self, values):
        return not self.values.isdisjoint(values)


@pytest.fixture
def vault(components) -> FakeVault:
    return components.add(FakeVault(a="1", b="2", c="3"), "vault")


@pytest.fixture
def policy() -> FakePolicy:
    return FakePolicy()


class FakeEvents:
    """Collects the refusals."""

    def __init__(self) -> None:
        self.refused: list[tuple] = []

    def access_refused(self, *what, **more):
        self.refused.append((*what, *more.values()))


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def block(components, policy, metrics, events, vault) -> SecretsBlock:
    return SecretsBlock(components, policy, metrics, events)


async def refused(awaitable) -> DaprError:
    with pytest.raises(DaprError) as caught:
        await awaitable
    return caught.value


async def test_a_secret(block, vault, policy, caller):
    """An open secret is read with the caller's metadata; the scopes were asked about this app, store and name."""
    assert await block.get(caller, "vault", "a", {"version": "1"}) == {"a": "1"}
    assert vault.asked == [("a", {"version": "1"})]
    assert policy.asked == [("orders", "vault", "a")]


async def test_a_closed_secret_is_not_even_read(block, vault, policy, events, caller):
    """What the scopes close is denied before the store is asked, whether it exists or not; each time it is told."""
    policy.closed = {"a", "none"}
    for name in ("a", "none"):
        assert (await refused(block.get(caller, "vault", name, {}))).row is errors.SECRET_DENIED
    assert vault.asked == []
    assert [refusal[0] for refusal in events.refused] == [caller.ref, caller.ref]


async def test_a_token_by_its_name(block, vault, policy, caller):
    """A name under which the source keeps some app's token is denied without reading it, although the scopes allow it."""
    policy.names = {"PREFIX_a"}
    assert (await refused(block.get(caller, "vault", "a", {}))).row is errors.SECRET_DENIED
    assert vault.asked == []
    assert await block.bulk(caller, "vault", {}) == {"b": {"b": "2"}, "c": {"c": "3"}}


async def test_a_token_by_its_value(block, policy, caller):
    """A secret whose value is some app's token is denied, whatever its name; the error does not show it."""
    policy.values = {"2"}
    error = await refused(block.get(caller, "vault", "b", {}))
    assert error.row is errors.SECRET_DENIED
    assert "2" not in error.message
    assert await block.bulk(caller, "vault", {}) == {"a": {"a": "1"}, "c": {"c": "3"}}


async def test_all_secrets_are_those_that_may_be_read(block, policy, caller):
    """The bulk answer leaves out silently what is closed or a token."""
    policy.closed, policy.names, policy.values = {"a"}, {"PREFIX_b"}, {"3"}
    assert await block.bulk(caller, "vault", {}) == {}


@pytest.mark.parametrize("fault", [BackendError("gone"), SecretNotFoundError("none")])
async def test_errors_of_the_store(block, vault, caller, fault):
    """A store's error becomes the row of the table, for one secret and for all."""
    vault.error = fault
    for call in (block.get(caller, "vault", "a", {}), block.bulk(caller, "vault", {})):
        error = await refused(call)
        assert error.row is errors.SECRET_GET
        assert error.__cause__ is fault


async def test_a_store_that_is_not_there(block, caller, caller_of):
    """A wrong name is said to be wrong, and an app without any store is told so."""
    assert (await refused(block.get(caller, "other", "a", {}))).row is errors.SECRET_STORE_NOT_FOUND
    assert (await refused(block.bulk(caller_of("blind"), "vault", {}))).row is errors.SECRET_STORES_NOT_CONFIGURED


async def test_operations_are_counted(block, vault, caller, count):
    """Each read counts once with its success; a denied one is no operation of the store."""
    await block.get(caller, "vault", "a", {})
    await block.bulk(caller, "vault", {})
    vault.error = BackendError("gone")
    await refused(block.get(caller, "vault", "a", {}))
    labels = {"app_id": "orders", "component": "vault"}
    assert count("dapr_component_secret_count", **labels, operation="get", success="true") == 1
    assert count("dapr_component_secret_count", **labels, operation="get", success="false") == 1
    assert count("dapr_component_secret_count", **labels, operation="bulk_get") == 1
