"""The private descriptor pool: where this process finds the message types of Dapr's protocol.

Below both roads. A pool of our own, because the default pool belongs to whatever else lives in the process: the `dapr`
package registers files of the same names there, and protobuf refuses two definitions of one name. The types come from
`descriptors.binpb`, which `scripts/generate_protos.py` compiles from `proto/`; messages of this pool and of the default
pool are different classes and meet only as bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.message import Message


def _load(pool: DescriptorPool) -> dict[str, FileDescriptor]:
    """Fill the pool; a file follows what it imports, as protoc wrote them."""
    data = Path(__file__).with_name("descriptors.binpb").read_bytes()
    files = FileDescriptorSet.FromString(data).file
    return {file.name: pool.AddSerializedFile(file.SerializeToString()) for file in files}


_POOL = DescriptorPool()
_FILES = _load(_POOL)


def pool() -> DescriptorPool:
    """The private pool, to find a type by its full name; also what `Any` needs in `google.protobuf.json_format`."""
    return _POOL


def file_descriptors() -> Mapping[str, FileDescriptor]:
    """Every file by its path (`dapr/proto/runtime/v1/dapr.proto`), imported files first; for server reflection.

    `FileDescriptor.serialized_pb` holds the bytes that reflection answers, `dependencies` the files it imports.
    """
    return _FILES


def file_containing(symbol: str) -> FileDescriptor:
    """The file that defines a message, enum, service or method (`dapr.proto.runtime.v1.Dapr.GetState`).

    Raises `KeyError` when no file does.
    """
    try:
        return _POOL.FindFileContainingSymbol(symbol)
    except KeyError:  # the C implementation of protobuf looks for methods elsewhere
        return _POOL.FindMethodByName(symbol).containing_service.file


def message_class(full_name: str) -> type[Message]:
    """The class of a message (`dapr.proto.runtime.v1.GetStateRequest`).

    Raises `KeyError` when the pool has no such message.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(full_name))


def lazy_attributes(namespace: dict[str, Any], *paths: str) -> Callable[[str], Any]:
    """`__getattr__` of a module that offers the top-level messages and enums of the files at `paths`.

    A class costs time and memory to build, and a process uses a part of them: each is built when it is first asked for
    and then kept in `namespace`, so that later accesses are plain module attributes.
    """

    def attribute(name: str) -> Any:
        value = _find(name, paths)
        if value is None:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        namespace[name] = value
        return value

    return attribute


def _find(name: str, paths: tuple[str, ...]) -> type[Message] | EnumTypeWrapper | int | None:
    """A top-level message, enum or enum value of these files."""
    for path in paths:
        file = _FILES[path]
        message = file.message_types_by_name.get(name)
        if message is not None:
            return message_factory.GetMessageClass(message)
        for enum in file.enum_types_by_name.values():
            if enum.name == name:
                return EnumTypeWrapper(enum)
            value = enum.values_by_name.get(name)
            if value is not None:
                return value.number
    return None
