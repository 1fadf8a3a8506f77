"""Our protos against Dapr's own, as the `dapr` package of the Python SDK ships them, and against what was generated."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dapr_shared._proto import file_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "scripts"

Facts = dict[tuple[str, str], tuple[object, ...]]

KNOWN_DIFFERENCES: dict[tuple[str, str], str] = {}
"""What differs on purpose: fact and reason. Nothing does: options for other languages and comments are no facts here."""

needs_protoc = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed (dependency group dev)"
)


def dapr_files() -> Iterator[FileDescriptor]:
    """Every file that the installed `dapr` package defines."""
    for package in ("dapr.proto.common.v1", "dapr.proto.runtime.v1"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.name.endswith("_pb2"):
                yield importlib.import_module(f"{package}.{module.name}").DESCRIPTOR


def facts_of(file: FileDescriptor) -> Facts:
    """All that the wire, JSON or a caller can tell about a file."""
    facts: Facts = {("file", file.name): (file.package,)}
    for enum in file.enum_types_by_name.values():
        add_enum(facts, enum)
    for message in file.message_types_by_name.values():
        add_message(facts, message)
    for service in file.services_by_name.values():
        facts["service", service.full_name] = ()
        for method in service.methods:
            facts["method", method.full_name] = (
                method.input_type.full_name,
                method.output_type.full_name,
                "client streams" if method.client_streaming else "client sends one",
                "server streams" if method.server_streaming else "server sends one",
                method.GetOptions().deprecated,
            )
    return facts


def add_enum(facts: Facts, enum: EnumDescriptor) -> None:
    facts["enum", enum.full_name] = ()
    for value in enum.values:
        facts["enum value", f"{enum.full_name}.{value.name}"] = (value.number,)


def add_message(facts: Facts, message: Descriptor) -> None:
    options = message.GetOptions()
    facts["message", message.full_name] = (options.map_entry, options.deprecated)
    for field in message.fields:
        named = field.message_type or field.enum_type
        facts["field", field.full_name] = (
            field.number,
            field.json_name,
            field.type,
            named.full_name if named else None,
            "repeated" if field.is_repeated else "singular",
            "has presence" if field.has_presence else "no presence",
            field.containing_oneof.name if field.containing_oneof else None,
            field.GetOptions().deprecated,
        )
    for enum in message.enum_types:
        add_enum(facts, enum)
    for nested in message.nested_types:
        add_message(facts, nested)


def without_known(facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if key not in KNOWN_DIFFERENCES}


def test_files_are_those_of_dapr() -> None:
    """Our proto/ has exactly the files that Dapr's Python SDK ships, and what it lacks: of components and sidecars."""
    lacking = ("/components/", "/internals/")
    ours = {path for path in file_descriptors() if path.startswith("dapr/") and not any(p in path for p in lacking)}
    assert ours == {file.name for file in dapr_files()}


@pytest.mark.parametrize("file", list(dapr_files()), ids=lambda file: file.name)
def test_file_equals_dapr(file: FileDescriptor) -> None:
    """Every message, field, enum and RPC of the file is as Dapr defines it: number, names, type, presence, oneof, kind."""
    assert without_known(facts_of(file_descriptors()[file.name])) == without_known(facts_of(file))


@pytest.mark.parametrize("name", ["status", "error_details"])
def test_google_rpc_is_a_part_of_googles(name: str) -> None:
    """What we define of google.rpc is as Google's package for Python defines it."""
    module = importlib.import_module(f"google.rpc.{name}_pb2")
    theirs = facts_of(module.DESCRIPTOR)
    ours = facts_of(file_descriptors()[f"google/rpc/{name}.proto"])
    assert ours == {key: theirs.get(key) for key in ours}


def test_reflection_versions_differ_in_name_only() -> None:
    """The v1alpha reflection service is the v1 service under another package, as old clients expect."""
    alpha = facts_of(file_descriptors()["grpc/reflection/v1alpha/reflection.proto"])
    stable = facts_of(file_descriptors()["grpc/reflection/v1/reflection.proto"])
    assert repr(alpha).replace("v1alpha", "v1") == repr(stable)


OURS = "from dapr_shared._proto import runtime_pb"
THEIRS = "from dapr.proto.runtime.v1 import dapr_pb2, state_pb2"
EXCHANGE = """
ours = runtime_pb.GetStateRequest(store_name="store", key="key", metadata={"a": "b"})
theirs = state_pb2.GetStateRequest.FromString(ours.SerializeToString())
assert (theirs.store_name, theirs.key, dict(theirs.metadata)) == ("store", "key", {"a": "b"})
assert runtime_pb.GetStateRequest.FromString(theirs.SerializeToString()) == ours
assert type(ours) is not type(theirs)
"""
ALONE = """
from google.protobuf import descriptor_pool
runtime_pb.GetStateRequest()
try:
    descriptor_pool.Default().FindFileByName("dapr/proto/runtime/v1/state.proto")
except KeyError:
    pass
else:
    raise SystemExit("our files are in the default pool")
"""


@pytest.mark.parametrize(
    "code",
    [f"{OURS}\n{THEIRS}\n{EXCHANGE}", f"{THEIRS}\n{OURS}\n{EXCHANGE}", f"{OURS}\n{ALONE}"],
    ids=["ours first", "dapr first", "ours alone"],
)
def test_private_pool_does_not_clash(code: str) -> None:
    """Our messages and those of the `dapr` package live in one process, whichever is imported first."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@needs_protoc
def test_generated_files_are_current() -> None:
    """What is in _proto is what proto/ compiles to today."""
    command = [sys.executable, str(SCRIPTS / "generate_protos.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@needs_protoc
def test_check_names_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` writes nothing, names each file that differs, is missing or is left over, and fails."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("generate_protos")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "TARGET", tmp_path)
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    (tmp_path / "rpc_pb.py").unlink()
    (tmp_path / "descriptors.binpb").write_bytes(b"")
    (tmp_path / "former_pb.pyi").touch()
    capsys.readouterr()
    assert script.main(["--check"]) == 1
    assert "descriptors.binpb, former_pb.pyi, rpc_pb.py" in capsys.readouterr().err
    assert not (tmp_path / "rpc_pb.py").exists()
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    assert not (tmp_path / "former_pb.pyi").exists()
