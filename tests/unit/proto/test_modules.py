"""The modules of messages and the table of services, as the rest of the code uses them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from dapr_shared import _proto
from dapr_shared._proto import (
    SERVICES,
    appcallback_pb,
    common_pb,
    file_containing,
    file_descriptors,
    message_class,
    pool,
    rpc_pb,
    runtime_pb,
    wellknown_pb,
)
from dapr_shared._proto.descriptors import lazy_attributes
from dapr_shared.wire.grpc.interface import Kind

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(_proto.__file__).parent
STUBS = sorted(FOLDER.glob("*_pb.pyi"))


def declared(body: list[ast.stmt]) -> tuple[dict[str, list[ast.stmt]], set[str]]:
    """The classes and the other names that a stub's module or class declares."""
    classes = {node.name: node.body for node in body if isinstance(node, ast.ClassDef) and node.name[0] != "_"}
    names = {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return classes, names | {node.name for node in body if isinstance(node, ast.FunctionDef)}


def compare(scope: ModuleType | Message, body: list[ast.stmt]) -> set[str]:
    """Check that a scope has what its stub declares; the full names of the messages in it."""
    classes, names = declared(body)
    assert [name for name in names if not hasattr(scope, name)] == []
    found: set[str] = set()
    for name, inner in classes.items():
        message = getattr(scope, name)
        assert issubclass(message, Message)
        fields = {field.name for field in message.DESCRIPTOR.fields}
        assert fields <= declared(inner)[1]
        found |= {message.DESCRIPTOR.full_name} | compare(message(), inner)
    return found


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.name)
def test_stub_tells_the_truth(stub: Path) -> None:
    """Whatever a stub declares is there when the program runs, with all its fields."""
    module = importlib.import_module(f"dapr_shared._proto.{stub.stem}")
    assert compare(module, ast.parse(stub.read_text(encoding="utf-8")).body)


def test_each_message_has_one_module() -> None:
    """Every top-level message of every file is in exactly one module."""
    everything = [
        name
        for stub in STUBS
        for name in declared(ast.parse(stub.read_text(encoding="utf-8")).body)[0]
        if not stub.stem.startswith("reflection")
    ]
    files = [file for path, file in file_descriptors().items() if not path.startswith("grpc/")]
    assert sorted(everything) == sorted(name for file in files for name in file.message_types_by_name)


def test_class_is_built_once_and_on_demand() -> None:
    """A module builds a class when it is asked for and hands out the same one afterwards."""
    namespace: dict[str, object] = {"__name__": "example"}
    attribute = lazy_attributes(namespace, "google/rpc/status.proto")
    assert "Status" not in namespace
    assert attribute("Status") is namespace["Status"] is rpc_pb.Status is message_class("google.rpc.Status")


@pytest.mark.parametrize("name", ["TopicEventRequest", "NoSuchMessage", "__path__"])
def test_unknown_name_is_an_attribute_error(name: str) -> None:
    """A name that is not of the module's own files is refused with the module's name."""
    with pytest.raises(AttributeError, match=r"dapr_shared\._proto\.runtime_pb.*" + name):
        getattr(runtime_pb, name)


def test_unknown_message_is_a_key_error() -> None:
    """A full name that the pool does not have is refused."""
    with pytest.raises(KeyError):
        message_class("dapr.proto.runtime.v1.NoSuchMessage")


def test_enums_are_numbers_by_name() -> None:
    """Enum values are reachable by the enum, by what surrounds it, and by name or number."""
    assert isinstance(runtime_pb.PubsubSubscriptionType, EnumTypeWrapper)
    assert runtime_pb.STREAMING == runtime_pb.PubsubSubscriptionType.STREAMING == 3
    assert common_pb.HTTPExtension.Verb.Name(3) == "POST"
    assert common_pb.HTTPExtension.POST == common_pb.HTTPExtension.Verb.Value("POST") == 3


def test_unknown_enum_number_survives() -> None:
    """A newer app's enum value passes through undamaged."""
    data = appcallback_pb.TopicEventResponse(status=77).SerializeToString()
    assert appcallback_pb.TopicEventResponse.FromString(data).status == 77


def test_presence() -> None:
    """An absent optional field differs from an empty one, also after it has travelled."""
    empty = runtime_pb.ListActorRemindersRequest(actor_type="t", actor_id="")
    absent = runtime_pb.ListActorRemindersRequest(actor_type="t")
    assert runtime_pb.ListActorRemindersRequest.FromString(empty.SerializeToString()).HasField("actor_id")
    assert not runtime_pb.ListActorRemindersRequest.FromString(absent.SerializeToString()).HasField("actor_id")


def test_well_known_types_have_their_methods() -> None:
    """Well-known types of the private pool convert to and from Python's types."""
    packed = wellknown_pb.Any()
    packed.Pack(wellknown_pb.BytesValue(value=b"data"))
    unpacked = wellknown_pb.BytesValue()
    assert packed.Unpack(unpacked)
    assert unpacked.value == b"data"
    extensions = wellknown_pb.Struct()
    extensions.update({"n": 1, "list": ["x", None]})
    event = appcallback_pb.TopicEventRequest(extensions=extensions)
    assert json_format.MessageToDict(event) == {"extensions": {"n": 1.0, "list": ["x", None]}}
    assert wellknown_pb.Duration(seconds=90).ToTimedelta().total_seconds() == 90
    assert wellknown_pb.Timestamp(seconds=1).ToJsonString() == "1970-01-01T00:00:01Z"


def test_any_as_json_needs_our_pool() -> None:
    """An `Any` of ours is rendered as JSON with the private pool."""
    packed = wellknown_pb.Any()
    packed.Pack(rpc_pb.ErrorInfo(reason="R", domain="dapr.io"))
    assert json_format.MessageToDict(packed, descriptor_pool=pool()) == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "R",
        "domain": "dapr.io",
    }


def test_message_of_the_default_pool_is_refused() -> None:
    """A well-known message of the default pool cannot slip into one of ours."""
    from google.protobuf import any_pb2

    with pytest.raises(TypeError):
        common_pb.InvokeRequest(data=any_pb2.Any())  # pyright: ignore[reportArgumentType]


def test_services_are_complete() -> None:
    """The table has every service and, under its full name, every method."""
    assert {name: len(table.methods) for name, table in SERVICES.items()} == {
        "dapr.proto.components.v1.StateStore": 9,
        "dapr.proto.components.v1.TransactionalStateStore": 1,
        "dapr.proto.components.v1.TransactionalStoreMultiMaxSize": 1,
        "dapr.proto.components.v1.QueriableStateStore": 1,
        "dapr.proto.components.v1.PubSub": 8,
        "dapr.proto.components.v1.InputBinding": 3,
        "dapr.proto.components.v1.OutputBinding": 4,
        "dapr.proto.components.v1.SecretStore": 5,
        "dapr.proto.internals.v1.ServiceInvocation": 5,
        "dapr.proto.runtime.v1.Dapr": 94,
        "dapr.proto.runtime.v1.AppCallback": 7,
        "dapr.proto.runtime.v1.AppCallbackHealthCheck": 1,
        "dapr.proto.runtime.v1.AppCallbackAlpha": 2,
        "grpc.reflection.v1.ServerReflection": 1,
        "grpc.reflection.v1alpha.ServerReflection": 1,
    }
    for name, table in SERVICES.items():
        assert table.name == name
        assert name.rpartition(".")[2] in file_descriptors()[table.file].services_by_name
        assert {f"/{name}/{row.name}": row for row in table.methods.values()} == dict(table.methods)


def test_service_row() -> None:
    """A row says how a method is called, with which messages, and whether it is out of date."""
    dapr = SERVICES["dapr.proto.runtime.v1.Dapr"]
    row = dapr.methods["/dapr.proto.runtime.v1.Dapr/SaveState"]
    assert row is dapr.method("SaveState")
    assert (row.kind, row.request, row.response) == (
        "unary",
        "dapr.proto.runtime.v1.SaveStateRequest",
        "google.protobuf.Empty",
    )
    assert row.request_class is runtime_pb.SaveStateRequest
    assert row.response_class is wellknown_pb.Empty
    assert not row.deprecated
    assert dapr.method("GetJobAlpha1").deprecated
    with pytest.raises(KeyError):
        dapr.method("NoSuchMethod")


def test_kinds_are_those_of_the_wire() -> None:
    """Each of the four kinds occurs, and each is a kind that the gRPC engines know."""
    kinds = {row.kind for table in SERVICES.values() for row in table.methods.values()}
    assert kinds == {kind.value for kind in Kind}


def test_descriptors_are_ready_for_reflection() -> None:
    """Every file comes after its imports, under its own name, with the bytes that a reflection client reads."""
    seen: set[str] = set()
    for path, file in file_descriptors().items():
        assert {imported.name for imported in file.dependencies} <= seen
        assert path.encode() in file.serialized_pb
        seen.add(path)


@pytest.mark.parametrize(
    ("symbol", "path"),
    [
        ("dapr.proto.runtime.v1.Dapr", "dapr/proto/runtime/v1/dapr.proto"),
        ("dapr.proto.runtime.v1.Dapr.GetState", "dapr/proto/runtime/v1/dapr.proto"),
        ("dapr.proto.runtime.v1.GetStateRequest", "dapr/proto/runtime/v1/state.proto"),
        ("dapr.proto.common.v1.HTTPExtension.Verb", "dapr/proto/common/v1/common.proto"),
    ],
)
def test_file_containing(symbol: str, path: str) -> None:
    """A reflection client finds the file of a service, a method, a message or an enum."""
    assert file_containing(symbol).name == path


@pytest.mark.parametrize("symbol", ["dapr.proto.runtime.v1.Dapr.NoSuchMethod", "nothing", ""])
def test_file_containing_unknown(symbol: str) -> None:
    """A symbol that is nowhere is refused."""
    with pytest.raises(KeyError):
        file_containing(symbol)
