from __future__ import annotations

import json
import os
from contextlib import AsyncExitStack

import pytest

from dapr_shared.components.localstorage.binding import LocalStorageBinding, content
from dapr_shared.contracts.bindings import BindingRequest
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.settings import SettingError, decode_settings


@pytest.fixture
async def call(tmp_path):
    """Calls the binding, whose folder is `files` of the test's own; `secret` lies beside it."""
    (tmp_path / "secret").write_text("property of the machine")
    settings = decode_settings(
        LocalStorageBinding.settings_type, {"rootPath": str(tmp_path / "files"), "maxFileSize": "1Ki"}
    )
    binding = LocalStorageBinding(settings, ComponentContext("files", "bindings.localstorage"))
    async with AsyncExitStack() as stack:
        await binding.start(stack)

        async def invoke(operation: str, name: str | None = None, data: bytes = b"null"):
            answer = await binding.invoke(BindingRequest(operation, data, {} if name is None else {"fileName": name}))
            return None if answer is None else answer.data

        yield invoke


async def test_files_come_and_go(call, tmp_path):
    """Create, overwrite, get, list, delete; the file is where its name says."""
    assert json.loads(await call("create", "a/b.txt", b'"one"')) == {"fileName": "a/b.txt"}
    await call("create", "a/b.txt", b'"two"')
    assert (tmp_path / "files" / "a" / "b.txt").read_text() == "two"
    assert await call("get", "/a/b.txt") == b"two"
    assert json.loads(await call("list")) == [str(tmp_path / "files" / "a" / "b.txt")]
    assert json.loads(await call("list", "a")) == [str(tmp_path / "files" / "a" / "b.txt")]
    assert await call("delete", "a/b.txt") is None
    assert json.loads(await call("list")) == []
    with pytest.raises(BackendError, match="file not found"):
        await call("get", "a/b.txt")


async def test_a_file_without_a_name_gets_one(call):
    """Two creates without a name are two files."""
    names = {json.loads(await call("create"))["fileName"] for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "name", ["../secret", "a/../../secret", "..", "x/..", "../files2/x", "a\0b", ".dapr-shared-draft-x"]
)
@pytest.mark.parametrize("operation", ["create", "get", "delete", "list"])
async def test_no_name_leads_out(call, tmp_path, name, operation):
    """Names with `..` or NUL are refused by every operation, and nothing outside is touched."""
    with pytest.raises(BackendError):
        await call(operation, name)
    assert (tmp_path / "secret").read_text() == "property of the machine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "secret"]


async def test_no_link_leads_out(call, tmp_path):
    """A link, as a file or as a folder on the way, is neither followed nor overwritten through, and not listed."""
    files = tmp_path / "files"
    (files / "file").symlink_to(tmp_path / "secret")
    (files / "folder").symlink_to(tmp_path)
    for operation in ("get", "delete"):
        for name in ("file", "folder/secret"):
            with pytest.raises(BackendError):
                await call(operation, name)
    with pytest.raises(BackendError):
        await call("create", "folder/secret", b'"mine"')
    with pytest.raises(BackendError):
        await call("list", "folder")
    await call("create", "file", b'"mine"')
    assert json.loads(await call("list")) == [str(files / "file")]
    assert (tmp_path / "secret").read_text() == "property of the machine"
    assert not (files / "file").is_symlink()


async def test_what_is_no_file_is_not_read(call, tmp_path):
    """A named pipe does not hang the call; a folder is no file."""
    os.mkfifo(tmp_path / "files" / "pipe")
    (tmp_path / "files" / "folder").mkdir()
    for name in ("pipe", "folder", ""):
        with pytest.raises(BackendError):
            await call("get", name)


async def test_a_large_file_is_refused(call):
    """Past maxFileSize the answer is an error that names the setting."""
    await call("create", "large", b'"' + b"x y" * 1000 + b'"')
    with pytest.raises(BackendError, match="maxFileSize"):
        await call("get", "large")


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b'"plain text"', b"plain text"),
        (b'{"a":1}', b'{"a":1}'),
        (b'"aGVsbG8="', b"hello"),
        (b"raw \xff", b"raw \xff"),
        (b'""', b""),
    ],
)
def test_what_is_kept(data, kept):
    """A JSON text loses its quotes and base64 is decoded, as in Dapr; anything else stays as it is."""
    assert content(data) == kept


@pytest.mark.parametrize("path", ["", "/proc/x", "/sys", "/var/run/secrets/kubernetes.io"])
def test_folders_of_the_system(path):
    """Parts of the system that hold no files of apps are refused."""
    with pytest.raises(SettingError):
        decode_settings(LocalStorageBinding.settings_type, {"rootPath": path})


@pytest.mark.parametrize("path", ["data", "data/files", ".", "link"])
def test_the_data_directory_of_the_instance(tmp_path, monkeypatch, path):
    """The instance's own data directory, what is in it and what has it in it are refused, whatever leads there."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    context = ComponentContext("files", "bindings.localstorage", private=tmp_path / "data")
    settings = decode_settings(LocalStorageBinding.settings_type, {"rootPath": path})
    with pytest.raises(SettingError, match="data directory"):
        LocalStorageBinding(settings, context)
    beside = decode_settings(LocalStorageBinding.settings_type, {"rootPath": "data-of-apps"})
    LocalStorageBinding(beside, context)


@pytest.mark.parametrize("path", ["/", "/run", "/var/.."])
def test_a_folder_with_parts_of_the_system_in_it_is_refused(path):
    """A folder that has such a part in it is refused as well: from `/` an app would read `/proc/1/environ`."""
    with pytest.raises(SettingError, match="parts of the system"):
        decode_settings(LocalStorageBinding.settings_type, {"rootPath": path})
