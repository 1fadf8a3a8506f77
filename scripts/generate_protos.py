"""Compile proto/ to src/dapr_shared/_proto: descriptors.binpb and one module (.py and .pyi) a package.

    python scripts/generate_protos.py          write the files
    python scripts/generate_protos.py --check  compare only; exit 1 and name what is stale

Needs grpcio-tools (dependency group `dev`). The same protos and the same grpcio-tools give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from proto_stubs import ModulePlan, module_source, module_stub, owners_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "src" / "dapr_shared" / "_proto"

WELL_KNOWN = ["google/protobuf/wrappers.proto"]
"""Well-known types that no file of ours imports and that the code needs: actor reminders travel as `Any(BytesValue)`."""

MODULES = {
    "runtime_pb": ("dapr/proto/runtime/v1/", "Messages of dapr.proto.runtime.v1, without the app callbacks."),
    "appcallback_pb": (
        "dapr/proto/runtime/v1/appcallback.proto",
        "Messages of the app callbacks of dapr.proto.runtime.v1.",
    ),
    "components_pb": ("dapr/proto/components/v1/", "Messages of dapr.proto.components.v1: pluggable components."),
    "common_pb": ("dapr/proto/common/v1/", "Messages of dapr.proto.common.v1."),
    "internals_pb": (
        "dapr/proto/internals/v1/",
        "Messages of dapr.proto.internals.v1: what instances and sidecars say to each other.",
    ),
    "rpc_pb": ("google/rpc/", "Messages of google.rpc: a status and its details."),
    "wellknown_pb": ("google/protobuf/", "Messages of google.protobuf that Dapr's protocol uses."),
    "reflection_pb": ("grpc/reflection/v1/", "Messages of grpc.reflection.v1."),
    "reflection_alpha_pb": ("grpc/reflection/v1alpha/", "Messages of grpc.reflection.v1alpha."),
}
"""Module: the paths that belong to it (the longest one that fits wins) and the first line of its docstring."""


def main(arguments: list[str] | None = None) -> int:
    """Generate or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the files that are there, write nothing")
    check: bool = parser.parse_args(arguments).check
    wanted = generate()
    stale = [name for name, content in wanted.items() if _read(TARGET / name) != content]
    left_over = [path for path in TARGET.glob("*_pb.py*") if path.name not in wanted]
    if not check:
        for name in stale:
            (TARGET / name).write_bytes(wanted[name])
        for path in left_over:
            path.unlink()
        print(f"{len(wanted)} files, {len(stale)} written, {len(left_over)} removed")
        return 0
    names = sorted([*stale, *(path.name for path in left_over)])
    if names:
        print(f"stale in {TARGET.relative_to(ROOT)}: {', '.join(names)}", file=sys.stderr)
        print(
            f"run: python scripts/generate_protos.py (compared by grpcio-tools {version('grpcio-tools')})",
            file=sys.stderr,
        )
        return 1
    return 0


def generate() -> dict[str, bytes]:
    """Every generated file by its name."""
    compiled = compile_protos()
    plans = _plans(FileDescriptorSet.FromString(compiled).file)
    owners = owners_of(plans)
    outputs = {"descriptors.binpb": compiled}
    for plan in plans:
        outputs[f"{plan.name}.py"] = module_source(plan).encode()
        outputs[f"{plan.name}.pyi"] = module_stub(plan, owners).encode()
    return outputs


def compile_protos() -> bytes:
    """The serialized FileDescriptorSet of all of proto/ and what it imports, each file after its imports.

    Raises `RuntimeError` when protoc finds an error, which it prints itself.
    """
    sources = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "descriptors.binpb"
        command = [
            "protoc",
            f"--proto_path={SOURCE}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            "--include_imports",
            f"--descriptor_set_out={output}",
            *sources,
            *WELL_KNOWN,
        ]
        if protoc.main(command) != 0:  # pyright: ignore[reportUnknownMemberType]
            raise RuntimeError("protoc refused proto/")
        return output.read_bytes()


def _plans(files: Sequence[FileDescriptorProto]) -> list[ModulePlan]:
    by_module: dict[str, list[FileDescriptorProto]] = {name: [] for name in MODULES}
    for file in sorted(files, key=lambda file: file.name):
        fitting = [name for name, (prefix, _) in MODULES.items() if file.name.startswith(prefix)]
        by_module[max(fitting, key=lambda name: len(MODULES[name][0]))].append(file)
    return [ModulePlan(name, MODULES[name][1], members) for name, members in by_module.items()]


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
