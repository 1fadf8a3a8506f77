"""Write the modules of `dapr_shared._proto` from compiled protos: a `.py` that looks classes up, a `.pyi` that types them.

Part of `generate_protos.py`. protoc can write stubs too, one a file and against the default pool's module names; ours
are one module a package, name our own well-known types, and know presence and oneofs (`HasField`, `WhichOneof`).
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_F = FieldDescriptorProto
_SCALARS = {
    _F.TYPE_DOUBLE: "float",
    _F.TYPE_FLOAT: "float",
    _F.TYPE_INT64: "int",
    _F.TYPE_UINT64: "int",
    _F.TYPE_INT32: "int",
    _F.TYPE_UINT32: "int",
    _F.TYPE_SINT32: "int",
    _F.TYPE_SINT64: "int",
    _F.TYPE_FIXED32: "int",
    _F.TYPE_FIXED64: "int",
    _F.TYPE_SFIXED32: "int",
    _F.TYPE_SFIXED64: "int",
    _F.TYPE_ENUM: "int",  # proto3 enums are open: any number may arrive
    _F.TYPE_BOOL: "bool",
    _F.TYPE_STRING: "str",
    _F.TYPE_BYTES: "bytes",
}
_MIXINS = {"Any", "Duration", "ListValue", "Struct", "Timestamp"}
_HEADER = "Generated from proto/ by scripts/generate_protos.py; do not edit."


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """One module of `dapr_shared._proto`."""

    name: str
    """`runtime_pb`."""
    title: str
    """First line of its docstring."""
    files: Sequence[FileDescriptorProto]


def module_source(plan: ModulePlan) -> str:
    """The `.py`: names which files the module offers; classes are built on first access."""
    paths = "".join(f'    "{file.name}",\n' for file in plan.files)
    return (
        f'"""{plan.title}\n\n{_HEADER}\n"""\n\n'
        "from __future__ import annotations\n\n"
        "from dapr_shared._proto.descriptors import lazy_attributes\n\n"
        f"__getattr__ = lazy_attributes(\n    globals(),\n{paths})\n"
    )


def module_stub(plan: ModulePlan, owners: Mapping[str, str]) -> str:
    """The `.pyi`; `owners` names the module of every message by its full name."""
    writer = _StubWriter(plan.name, owners)
    for file in plan.files:
        for enum in file.enum_type:
            writer.enum(enum, "")
        for message in file.message_type:
            writer.message(message, f"{file.package}.{message.name}", "")
    return f'"""{plan.title}\n\n{_HEADER}\n"""\n\n{writer.imports()}\n{writer.text()}'


def owners_of(plans: Iterable[ModulePlan]) -> dict[str, str]:
    """The module of every message, nested ones too, by full name."""
    return {
        full_name: plan.name
        for plan in plans
        for file in plan.files
        for message in file.message_type
        for full_name in _nested_names(message, f"{file.package}.{message.name}")
    }


def _nested_names(message: DescriptorProto, full_name: str) -> Iterator[str]:
    yield full_name
    for nested in message.nested_type:
        yield from _nested_names(nested, f"{full_name}.{nested.name}")


class _StubWriter:
    """Collects the lines of one stub and the imports that they turn out to need."""

    def __init__(self, module: str, owners: Mapping[str, str]) -> None:
        self._module = module
        self._owners = owners
        self._lines: list[str] = []
        self._used: set[str] = set()
        self._siblings: set[str] = set()

    def text(self) -> str:
        """The declarations."""
        return "\n".join(self._lines) + "\n"

    def imports(self) -> str:
        """The import lines for what the declarations use."""
        sources = {
            "builtins": ["builtins"],
            "collections.abc": ["Iterable", "Mapping"],
            "typing": ["ClassVar", "Final", "Literal"],
            "google.protobuf.internal": ["well_known_types"],
            "google.protobuf.internal.containers": [
                "MessageMap",
                "RepeatedCompositeFieldContainer",
                "RepeatedScalarFieldContainer",
                "ScalarMap",
            ],
            "google.protobuf.internal.enum_type_wrapper": ["EnumTypeWrapper"],
            "google.protobuf.message": ["Message"],
            "dapr_shared._proto": sorted(self._siblings),
        }
        used = self._used | self._siblings
        lines: list[str] = []
        for source, names in sources.items():
            wanted = [name for name in names if name in used]
            if wanted:
                lines.append("import builtins" if source == "builtins" else f"from {source} import {', '.join(wanted)}")
        return "\n".join([*lines, ""])

    def enum(self, enum: EnumDescriptorProto, indent: str) -> None:
        """An enum: an `EnumTypeWrapper` with its values, and the values beside it as protobuf puts them."""
        self._use("EnumTypeWrapper", "Final")
        wrapper = f"_{enum.name}"
        kind = wrapper
        if indent:
            self._use("ClassVar")
            kind = f"ClassVar[{wrapper}]"
        values = [f"{value.name}: Final = {value.number}" for value in enum.value]
        self._lines.append(f"{indent}class {wrapper}(EnumTypeWrapper):")
        self._lines += [f"{indent}    {value}" for value in values]
        self._lines += ["", f"{indent}{enum.name}: {kind}"]
        self._lines += [f"{indent}{value}" for value in values]
        self._lines.append("")

    def message(self, message: DescriptorProto, full_name: str, indent: str) -> None:
        """A message class: nested types, fields, constructor, presence."""
        inner = indent + "    "
        base = "Message"
        if full_name.startswith("google.protobuf.") and message.name in _MIXINS:
            base = f"well_known_types.{message.name}, Message"
            self._use("well_known_types")
        self._use("Message")
        self._lines.append(f"{indent}class {message.name}({base}):")
        for enum in message.enum_type:
            self.enum(enum, inner)
        for nested in message.nested_type:
            if not nested.options.map_entry:
                self.message(nested, f"{full_name}.{nested.name}", inner)
        entries = {f".{full_name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
        # A field named as a builtin type (`bytes bytes`) hides that type in the rest of the class.
        hidden = {field.name for field in message.field} & set(_SCALARS.values())
        fields = [field for field in message.field if not keyword.iskeyword(field.name)]
        arguments = [self._field(field, entries, hidden, inner) for field in fields]
        keywords = f", *, {', '.join(arguments)}" if arguments else ""
        self._lines.append(f"{inner}def __init__(self{keywords}) -> None: ...")
        self._presence(message, inner)
        self._lines.append("")

    def _field(
        self, field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto], hidden: set[str], indent: str
    ) -> str:
        """Declare a field's attribute and return its argument of the constructor."""
        entry = entries.get(field.type_name)
        if entry is not None:
            key, value = (self._type(part, hidden) for part in entry.field)
            container = "MessageMap" if entry.field[1].type == _F.TYPE_MESSAGE else "ScalarMap"
            self._use(container, "Mapping")
            self._property(field.name, f"{container}[{key}, {value}]", indent)
            return f"{field.name}: Mapping[{key}, {value}] | None = ..."
        kind = self._type(field, hidden)
        is_message = field.type == _F.TYPE_MESSAGE
        if field.label == _F.LABEL_REPEATED:
            container = "RepeatedCompositeFieldContainer" if is_message else "RepeatedScalarFieldContainer"
            self._use(container, "Iterable")
            self._property(field.name, f"{container}[{kind}]", indent)
            return f"{field.name}: Iterable[{kind}] | None = ..."
        if is_message:
            self._property(field.name, kind, indent)
        else:
            self._lines.append(f"{indent}{field.name}: {kind}")
        return f"{field.name}: {kind} | None = ..."

    def _property(self, name: str, kind: str, indent: str) -> None:
        """A read-only attribute: protobuf refuses to assign messages and containers."""
        self._lines += [f"{indent}@property", f"{indent}def {name}(self) -> {kind}: ..."]

    def _presence(self, message: DescriptorProto, indent: str) -> None:
        """`HasField` for what has presence, `WhichOneof` for the oneofs that were written (not those of `optional`)."""
        oneofs: dict[str, list[str]] = {}
        present: list[str] = []
        for field in message.field:
            if field.HasField("oneof_index") and not field.proto3_optional:
                oneofs.setdefault(message.oneof_decl[field.oneof_index].name, []).append(field.name)
            if field.label != _F.LABEL_REPEATED and (field.HasField("oneof_index") or field.type == _F.TYPE_MESSAGE):
                present.append(field.name)
        if present:
            self._use("Literal")
            names = _literal([*present, *oneofs])
            self._lines.append(f"{indent}def HasField(self, field_name: {names}) -> bool: ...")
        if oneofs:
            members = _literal([name for group in oneofs.values() for name in group])
            self._lines.append(
                f"{indent}def WhichOneof(self, oneof_group: {_literal(oneofs)}) -> {members} | None: ..."
            )

    def _type(self, field: FieldDescriptorProto, hidden: set[str]) -> str:
        """The Python type of one value of a field."""
        if field.type != _F.TYPE_MESSAGE:
            scalar = _SCALARS[field.type]
            if scalar in hidden:
                self._use("builtins")
                return f"builtins.{scalar}"
            return scalar
        full_name = field.type_name.removeprefix(".")
        owner = self._owners[full_name]
        parent, _, name = full_name.rpartition(".")
        while parent in self._owners:
            parent, _, outer = parent.rpartition(".")
            name = f"{outer}.{name}"
        if owner == self._module:
            return name
        self._siblings.add(owner)
        return f"{owner}.{name}"

    def _use(self, *names: str) -> None:
        self._used.update(names)


def _literal(names: Iterable[str]) -> str:
    return f"Literal[{', '.join(repr(name) for name in names)}]".replace("'", '"')
