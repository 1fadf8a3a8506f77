"""The choice of a gRPC engine by name: first step of the request road, at start only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from dapr_shared.wire.grpc.interface import Engine, OnDefect


def _http2(on_defect: OnDefect) -> Engine:
    from dapr_shared.wire.grpc.http2_server import Http2Engine  # noqa: PLC0415 - one engine is loaded

    return Http2Engine(on_defect)


def _aio(on_defect: OnDefect) -> Engine:
    from dapr_shared.wire.grpc.aio import AioEngine  # noqa: PLC0415 - one engine is loaded

    return AioEngine(on_defect)


ENGINES: Final[dict[str, Callable[[OnDefect], Engine]]] = {"http2": _http2, "aio": _aio}
"""What makes each engine, by name; the first is the default."""


def engine(name: str, on_defect: OnDefect) -> Engine:
    """The engine called `name`; `on_defect` hears of exceptions of handlers that are no `GrpcError`.

    Raises `ValueError` for an unknown name.
    """
    try:
        make = ENGINES[name]
    except KeyError:
        raise ValueError(f"unknown gRPC engine {name!r}: choose one of {', '.join(ENGINES)}") from None
    return make(on_defect)
