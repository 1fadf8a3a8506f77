"""Secret stores."""

from __future__ import annotations

import pytest

from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.secretstores import SecretNotFoundError, SecretStoreCapability


async def test_each_secret(secret_store, secret_harness):
    """Every secret is read by its name, with all its values."""
    for name, values in secret_harness.setup.secrets.items():
        assert dict(await secret_store.get(name, {})) == values


async def test_all_secrets(secret_store, secret_harness):
    """All secrets are listed as they are read one by one."""
    found = {name: dict(values) for name, values in (await secret_store.bulk({})).items()}
    assert found.items() >= secret_harness.setup.secrets.items()


@pytest.mark.parametrize("name", ["absent", "", "../x", "a\0b", "\ud800", "tok", "db:"])
async def test_unknown_secret(secret_store, secret_harness, name):
    """An unknown name, however strange, is not found: an error, or an empty value where Dapr gives that."""
    if secret_harness.setup.missing_is_empty:
        assert dict(await secret_store.get(name, {})) == {name: ""}
    else:
        with pytest.raises(SecretNotFoundError):
            await secret_store.get(name, {})


async def test_one_value_a_secret(secret_store, secret_harness):
    """A store that does not claim several values a secret gives exactly one, under the secret's name."""
    several = SecretStoreCapability.MULTIPLE_KEY_VALUES_PER_SECRET in secret_store.effective_capabilities()
    names = [set(values) == {name} for name, values in secret_harness.setup.secrets.items()]
    assert all(names) is not several


async def test_source_names_hold_for_each_secret(secret_store, secret_harness):
    """A secret is known to its source under at least one name, so that a protected one can be refused."""
    for name in secret_harness.setup.secrets:
        assert secret_store.source_names(name)
        assert any(name in source for source in secret_store.source_names(name))


async def test_errors_hold_no_values(secret_store, secret_harness):
    """The error for an unknown name holds no value of a secret."""
    if secret_harness.setup.missing_is_empty:
        pytest.skip("has no such error")
    with pytest.raises(BackendError) as caught:
        await secret_store.get("absent", {})
    assert not any(value in str(caught.value) for value in ("t-1",))
