"""The protocol of pluggable components: its field numbers, which no Python package ships to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import file_descriptors

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

NUMBERS = """

"""
"""Of reference internal §7, compared once with the files that daprd is built from."""


def fields_of(message: Descriptor, prefix: str = "") -> list[str]:
    name = prefix + message.name
    found = (
        [f"{name}: {' '.join(f'{field.name}={field.number}' for field in message.fields)}"] if message.fields else []
    )
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            found += fields_of(nested, f"{name}.")
    return found


def test_field_numbers() -> None:
    """Every field has the number that components in other languages were built with."""
    files = [file for path, file in file_descriptors().items() if path.startswith("dapr/proto/components/v1/")]
    found = [line for file in files for message in file.message_types_by_name.values() for line in fields_of(message)]
    assert sorted(found) == NUMBERS.strip().splitlines()
