"""Names of JSON fields that ignore case, as Go's decoder, and so daprd, reads them.

First step of the request road, and beside it: only a body that the strict decoder has refused comes here, so that the
usual spelling costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def fold_names(data: bytes, shape: inspect.Type, check_count: Callable[[int], None]) -> bytes:
    """The same JSON with its fields named as the structs of `shape` name them; fields that those do not have are left out.

    Where one field is given in two spellings the last one wins. What is not of the shape is left for the decoder to
    refuse. `check_count` is told the length of each array of objects before they are looked at, and may raise. Raises
    `msgspec.DecodeError` for what is no JSON.
    """
    return msgspec.json.encode(_folded(msgspec.Raw(data), shape, check_count))


def _folded(data: msgspec.Raw, shape: inspect.Type, check_count: Callable[[int], None]) -> object:
    structured = _structured(shape)
    try:
        if isinstance(structured, inspect.ListType):
            items = _ARRAY.decode(data)
            check_count(len(items))
            return [_folded(item, structured.item_type, check_count) for item in items]
        if isinstance(structured, inspect.StructType):
            fields = {field.encode_name.lower(): field for field in structured.fields}
            given = [(fields.get(name.lower()), value) for name, value in _OBJECT.decode(data).items()]
            return {field.encode_name: _folded(value, field.type, check_count) for field, value in given if field}
    except msgspec.ValidationError:  # another kind of value: the decoder says so better
        return data
    return data


def _structured(shape: inspect.Type) -> inspect.Type | None:
    """The struct, or the list of them, that the shape is or may be; `None` for what holds no named fields."""
    options = shape.types if isinstance(shape, inspect.UnionType) else (shape,)
    for option in cast("tuple[inspect.Type, ...]", options):
        if isinstance(option, inspect.StructType):
            return option
        if isinstance(option, inspect.ListType) and _structured(option.item_type) is not None:
            return option
    return None
