"""What the error table is made of: rows, the exception that a row makes, and what a rich error carries.

Both roads. The rows themselves stand in a module of each block beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class GrpcCode(IntEnum):
    """The gRPC status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Resource:
    """What a rich error is about (google.rpc.ResourceInfo)."""

    type: str
    name: str
    owner: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request (google.rpc.BadRequest)."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the table.

    `message` is a `str.format` template over the fields that the raiser gives. A row with a `reason` is answered in
    Dapr's rich form (with `details`), one without in the legacy form. `remedy` is what the reader of the error can do;
    the errors page of the documentation prints it.
    """

    code: str
    http: int
    grpc: GrpcCode
    message: str
    remedy: str
    reason: str = ""
    plain_text: bool = False

    def __call__(
        self,
        *,
        resource: Resource | None = None,
        violations: tuple[FieldViolation, ...] = (),
        info: Mapping[str, str] | None = None,
        **fields: object,
    ) -> DaprError:
        """Make the exception to raise: `raise STATE_STORE_NOT_FOUND(store="x") from cause`."""
        return DaprError(self, self.message.format(**fields), resource, violations, info or {})


class DaprError(Exception):
    """An error with a row in the table, ready to be answered over either protocol."""

    def __init__(
        self,
        row: ErrorRow,
        message: str,
        resource: Resource | None = None,
        violations: tuple[FieldViolation, ...] = (),
        info: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.row = row
        self.message = message
        self.resource = resource
        self.violations = violations
        self.info: Mapping[str, str] = info or {}
        self.metadata: Mapping[str, str] = {}
        """What a backend answered beside its failure; clients get it as response metadata."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (DaprError, (self.row, self.message, self.resource, self.violations, dict(self.info)))


@dataclass(slots=True)
class ErrorTable:
    """All rows, by the name of their constant; the documentation and the tests read it."""

    rows: dict[str, ErrorRow] = field(default_factory=dict[str, ErrorRow])

    def collect(self, names: Mapping[str, object]) -> None:
        """Take every `ErrorRow` constant of a module's namespace."""
        self.rows.update({name: value for name, value in names.items() if isinstance(value, ErrorRow)})
