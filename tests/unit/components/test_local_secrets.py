"""secretstores.local.file and secretstores.local.env: names, forms of values, wrong files."""

from __future__ import annotations

import json
import os
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.components.local import file as local_file
from dapr_shared.components.local.env import EnvironmentSecretStore
from dapr_shared.components.local.file import FileSecretStore
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.secretstores import SecretNotFoundError
from dapr_shared.contracts.settings import SettingError, decode_settings


@asynccontextmanager
async def file_store(path, content, **metadata):
    path = path / "secrets.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    settings = decode_settings(FileSecretStore.settings_type, {"secretsFile": str(path), **metadata})
    async with AsyncExitStack() as stack:
        store = FileSecretStore(settings, ComponentContext("s", "secretstores.local.file"))
        await store.start(stack)
        yield store


def env_store(**metadata) -> EnvironmentSecretStore:
    settings = decode_settings(EnvironmentSecretStore.settings_type, metadata)
    return EnvironmentSecretStore(settings, ComponentContext("e", "secretstores.local.env"))


NESTED = {"top": "1", "db": {"user": "u", "hosts": ["h0", {"name": "h1"}]}, "list": ["l0"], "empty": {}}


async def test_flat_names(tmp_path):
    """Nested values are reached by the names and indexes that lead to them."""
    async with file_store(tmp_path, NESTED) as store:
        assert {name: dict(values) for name, values in (await store.bulk({})).items()} == {
            name: {name: value}
            for name, value in {
                "top": "1",
                "db:user": "u",
                "db:hosts:0": "h0",
                "db:hosts:1:name": "h1",
                "list:0": "l0",
            }.items()
        }
        assert store.effective_capabilities() == frozenset()
        with pytest.raises(SecretNotFoundError, match="secret db not found"):
            await store.get("db", {})


async def test_several_values(tmp_path):
    """With multiValued each top-level name is one secret with all values below it; lists at the top are left out."""
    async with file_store(tmp_path, NESTED, multiValued="true") as store:
        assert {name: dict(values) for name, values in (await store.bulk({})).items()} == {
            "top": {"top": "1"},
            "db": {"user": "u", "hosts:0": "h0", "hosts:1:name": "h1"},
            "empty": {},
        }
        assert store.effective_capabilities() == {"MULTIPLE_KEY_VALUES_PER_SECRET"}


@pytest.mark.parametrize(("separator", "name"), [(".", "db.user"), ("::", "db::user"), ("", "db:user")])
async def test_separator(tmp_path, separator, name):
    """The separator of nested names can be chosen; an empty one means the default."""
    async with file_store(tmp_path, {"db": {"user": "u"}}, nestedSeparator=separator) as store:
        assert await store.get(name, {}) == {name: "u"}


@pytest.mark.parametrize("multi", ["true", "false"])
async def test_values_that_are_no_text(tmp_path, multi):
    """Numbers and the like are given as they are written in the file."""
    content = b'{"s": {"i": 7, "f": 1.50, "e": 1e3, "big": 123456789012345678901, "t": true, "n": null, "": "x"}}'
    prefix = "" if multi == "true" else "s:"
    async with file_store(tmp_path, content, multiValued=multi) as store:
        found = {key: value for values in (await store.bulk({})).values() for key, value in values.items()}
    expected = {"i": "7", "f": "1.50", "e": "1e3", "big": "123456789012345678901", "t": "true", "n": "null"}
    assert {key: found[prefix + key] for key in expected} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b'{"token": "hidden" "x"}', "is not JSON: Expecting ',' delimiter in line 1, column 20"),
        (b"", "is not JSON: Expecting value in line 1, column 1"),
        (b'{"token": "\xff"}', "is not JSON: UnicodeDecodeError"),
        (b"[1]", "must hold a JSON object"),
        (b"[" * 100_000, "is not JSON: RecursionError"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "is nested more than 100 deep"),
        ({"a": {"b": "1"}, "a:b": "2"}, "has two values that are both named 'a:b'"),
    ],
)
async def test_wrong_files(tmp_path, content, message):
    """A file that cannot be used is an error that says why and shows nothing of it."""
    with pytest.raises(BackendError) as caught:
        async with file_store(tmp_path, content):
            pass
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, OSError)


async def test_two_values_of_one_key(tmp_path):
    """With multiValued too, two values that would get one key are an error."""
    with pytest.raises(BackendError, match="the secret 's' of the secrets file has two values named 'a:b'"):
        async with file_store(tmp_path, {"s": {"a": {"b": "1"}, "a:b": "2"}}, multiValued="1"):
            pass


async def test_large_file(tmp_path, monkeypatch):
    """A file above the limit is refused."""
    monkeypatch.setattr(local_file, "SIZE_LIMIT", 10)
    with pytest.raises(BackendError, match="is larger than"):
        async with file_store(tmp_path, {"a": "0123456789"}):
            pass


def test_the_file_must_be_named():
    """A store without a file is a wrong setting."""
    with pytest.raises(SettingError, match="secretsFile: is required"):
        decode_settings(FileSecretStore.settings_type, {})


async def test_source_names_of_nested_values(tmp_path):
    """Whoever protects a name of the file protects it in both ways of reading the file, and with any separator."""
    content = {"db": {"user": {"name": "u"}}}
    async with file_store(tmp_path, content, nestedSeparator=".") as flat:
        assert flat.source_names("db.user.name") == {"db", "db.user", "db:user", "db.user.name", "db:user:name"}
        assert flat.source_names("absent") == {"absent"}
    async with file_store(tmp_path, content, multiValued="true") as multi:
        assert multi.source_names("db") == {"db", "db:user:name"}


async def test_environment(monkeypatch):
    """A variable is read at each call; one that is missing is empty and no error, as in Dapr."""
    store = env_store()
    monkeypatch.setenv("SOME_SECRET", "1")
    assert await store.get("SOME_SECRET", {}) == {"SOME_SECRET": "1"}
    monkeypatch.setenv("SOME_SECRET", "2")
    assert await store.get("SOME_SECRET", {}) == {"SOME_SECRET": "2"}
    assert (await store.bulk({}))["SOME_SECRET"] == {"SOME_SECRET": "2"}
    monkeypatch.delenv("SOME_SECRET")
    assert await store.get("SOME_SECRET", {}) == {"SOME_SECRET": ""}


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "APP_API_TOKEN"),
        ("", "app_api_token"),
        ("", "DAPR_API_TOKEN"),
        ("", "dapr_x"),
        ("APP_", "API_TOKEN"),
        ("DA", "PR_X"),
    ],
)
async def test_closed_variables(monkeypatch, prefix, name):
    """The instance's own variables are never read, whatever the prefix."""
    monkeypatch.setenv(prefix + name, "hidden")
    store = env_store(prefix=prefix)
    assert await store.get(name, {}) == {name: ""}
    assert name not in await store.bulk({})


async def test_prefix(monkeypatch):
    """With a prefix only such variables are listed, by the rest of their names; the source knows the whole name."""
    monkeypatch.setenv("MYAPP_TOKEN", "1")
    monkeypatch.setenv("MYAPP_", "nameless")
    monkeypatch.setenv("OTHER_TOKEN", "2")
    store = env_store(prefix="MYAPP_")
    assert {name: dict(values) for name, values in (await store.bulk({})).items()} == {"TOKEN": {"TOKEN": "1"}}
    assert await store.get("TOKEN", {}) == {"TOKEN": "1"}
    assert store.source_names("TOKEN") == {"MYAPP_TOKEN"}


async def test_bytes_that_are_no_text(monkeypatch):
    """A variable that is not UTF-8 comes with replacement characters, so that every answer can be sent."""
    monkeypatch.setitem(os.environb, b"SOME_SECRET", b"a\xffb")
    assert await env_store().get("SOME_SECRET", {}) == {"SOME_SECRET": "a�b"}
