"""What metadata may cross a gRPC hop.

Part of the first step of the request road and of the last one of both roads. gRPC reserves keys for the transport;
grpc.aio raises on some of them and would take others at their word (`grpc-encoding`, `grpc-timeout`), so everything
that comes from another hop or from an HTTP header passes here first.

The rules (the gRPC protocol's PROTOCOL-HTTP2 document, "Custom-Metadata"; a Go proxy such as daprd drops the same):

- dropped: pseudo headers (`:path`, ...), HTTP's own (`te`, `content-type`, `content-length`, `user-agent`, `host`,
  `connection`, ...) and every `grpc-` key but the trace context (`grpc-trace-bin`, `grpc-tags-bin`) and, in answers,
  `grpc-status-details-bin`;
- keys are lower case letters, digits and `-_.`; values of `-bin` keys are bytes, all others printable ASCII.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]

_HTTP_KEYS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_TRACE_KEYS: Final = frozenset({"grpc-trace-bin", "grpc-tags-bin"})
_ANSWER_KEYS: Final = _TRACE_KEYS | {"grpc-status-details-bin"}
_legal_key = re.compile(r"[0-9a-z_.-]+").fullmatch


def request_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> Pairs:
    """What a client may send of `pairs`: reserved keys dropped, keys in lower case.

    Raises `GrpcError` INTERNAL, as a Go client does, for a key or a value that cannot be sent: silently losing what a
    caller asked to send would be worse.
    """
    cleaned: list[tuple[str, str | bytes]] = []
    for key, value, ok in _checked(pairs, _TRACE_KEYS):
        if not ok:
            raise GrpcError(GrpcCode.INTERNAL, f"metadata key {key!r} or its value has characters that gRPC refuses")
        cleaned.append((key, value))
    return tuple(cleaned)


def answer_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> Pairs:
    """What a server may answer of `pairs`: reserved keys dropped, and also what cannot be sent.

    An answer that exists is worth more than one of its headers, and the client could do nothing about it.
    """
    return tuple((key, value) for key, value, ok in _checked(pairs, _ANSWER_KEYS) if ok)


def received_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> Pairs:
    """Plain tuples of what an engine received (grpc has classes of its own for a pair), equal on both engines."""
    return tuple((key, value) for key, value in pairs if key not in WIRE_ONLY)


WIRE_ONLY: Final = frozenset({"te", "content-type", "grpc-accept-encoding", "grpc-encoding", "grpc-timeout"})
"""Keys that only describe the wire."""


def _checked(
    pairs: Iterable[tuple[str, str | bytes]], allowed: frozenset[str]
) -> Iterator[tuple[str, str | bytes, bool]]:
    for raw_key, raw_value in pairs:
        key = raw_key.lower()
        if key in _HTTP_KEYS or key.startswith(":") or (key.startswith("grpc-") and key not in allowed):
            continue
        value = raw_value
        if key.endswith("-bin"):
            if isinstance(value, str):
                value = value.encode()
            ok = True
        else:
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            ok = value.isascii() and value.isprintable()
        yield key, value, ok and _legal_key(key) is not None
