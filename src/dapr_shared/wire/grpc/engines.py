"""The choice of a gRPC engine by name: first step of the request road, at start only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dapr_shared.wire.grpc.aio import AioEngine
from dapr_shared.wire.grpc.native import NativeEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.wire.grpc.interface import Engine
    from dapr_shared.wire.grpc.serving import OnDefect

ENGINES: Final[dict[str, Callable[[OnDefect], Engine]]] = {"aio": AioEngine, "native": NativeEngine}
"""Engine classes by name; the first is the default."""


def engine(name: str, on_defect: OnDefect) -> Engine:
    """The engine called `name`; `on_defect` hears of exceptions of handlers that are no `GrpcError`.

    Raises `ValueError` for an unknown name and `MissingEngineError` when the engine's package is not installed.
    """
    try:
        make = ENGINES[name]
    except KeyError:
        raise ValueError(f"unknown gRPC engine {name!r}: choose one of {', '.join(ENGINES)}") from None
    return make(on_defect)
