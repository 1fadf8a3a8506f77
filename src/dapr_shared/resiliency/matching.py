"""Which statuses are worth a retry: `retries.*.matching` of a Resiliency resource.

Step 5 of both roads.
"""

from __future__ import annotations

from dataclasses import dataclass

_GRPC = range(17)
_HTTP = range(100, 600)


@dataclass(frozen=True, slots=True)
class StatusMatching:
    """Lists of statuses; `None`: every status of that protocol (reference behaviours §4)."""

    http: frozenset[int] | None = None
    grpc: frozenset[int] | None = None

    @classmethod
    def parse(cls, http: str, grpc: str) -> StatusMatching:
        """Read lists such as `429,500-599`; an empty text is no list. Raises `ValueError`."""
        return cls(_parse(http, _HTTP, "an HTTP status"), _parse(grpc, _GRPC, "a gRPC code"))

    def worth_retry(self, status: int) -> bool:
        """Whether to try again after this status: 0 to 16 is a gRPC code, 100 to 599 an HTTP status, others are not."""
        if status in _GRPC:
            return self.grpc is None or status in self.grpc
        return status in _HTTP and (self.http is None or status in self.http)


def _parse(text: str, valid: range, what: str) -> frozenset[int] | None:
    if not text.strip():
        return None
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        if not (_number(first) and (_number(last) or not dash)):
            raise ValueError(f"{part!r} is not {what} or a range of them, such as {valid[0]}-{valid[-1]}")
        start, end = int(first), int(last or first)
        if start not in valid or end not in valid or end < start:
            raise ValueError(f"{part!r} is not within {valid[0]}-{valid[-1]}, smaller first")
        found.update(range(start, end + 1))
    return frozenset(found)


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3
