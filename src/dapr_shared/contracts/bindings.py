"""The promise of bindings: an external system that apps call (output), or that calls apps (input).

Last step of the request road and first of the delivery road. One class may be both:
`class Kafka(InputBinding[S], OutputBinding[S])`. Facts: reference http-api §6, components §5; rules: design §5.14.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import ClassVar, TypeAlias

import msgspec

from dapr_shared.contracts.component import BackendError, Component, S
from dapr_shared.contracts.pubsub import Outcome, Subscription

__all__ = [
    "BindingCapability",
    "BindingError",
    "BindingEvent",
    "BindingRequest",
    "BindingResponse",
    "EventHandler",
    "InputBinding",
    "Outcome",
    "OutputBinding",
    "ReadRequest",
    "Reading",
]


class BindingCapability(StrEnum):
    """Directions under the names that Dapr's metadata API uses."""

    INPUT_BINDING = "INPUT_BINDING"
    OUTPUT_BINDING = "OUTPUT_BINDING"


class BindingRequest(msgspec.Struct, frozen=True):
    """Call an external system."""

    operation: str
    """One of the class's `operations`, spelled as there: the block has checked it."""
    data: bytes = b""
    """As the app sent it: over HTTP always JSON (a text is in quotes), over gRPC any bytes."""
    metadata: Mapping[str, str] = {}
    """The app's metadata, and what carries its trace (`traceparent`, `tracestate`, `baggage`)."""


class BindingResponse(msgspec.Struct, frozen=True):
    """What the external system answered."""

    data: bytes = b""
    metadata: Mapping[str, str] = {}


class BindingError(BackendError):
    """The call failed, and there is an answer all the same: the app gets the error with this answer's metadata."""

    def __init__(self, message: str, response: BindingResponse) -> None:
        super().__init__(message)
        self.response = response


class OutputBinding(Component[S]):
    """An external system that apps call.

    `capabilities` has `OUTPUT_BINDING`.
    """

    operations: ClassVar[tuple[str, ...]] = ()
    """What `invoke` can do. The only declaration: the block, the documentation and the conformance suite read it."""

    @abstractmethod
    async def invoke(self, request: BindingRequest) -> BindingResponse | None:
        """Carry out one operation; `None` where the system answers nothing (HTTP 204 for the app).

        Raises `BackendError`, `BindingError` where there is an answer to show.
        """


class BindingEvent(msgspec.Struct, frozen=True):
    """One event as it comes from an external system."""

    data: bytes = b""
    metadata: Mapping[str, str] = {}
    id: str = ""
    """The system's own id, for logs; empty where it has none."""
    answered: Callable[[bytes], None] | None = None
    """Told what the app answered, where the system can take an answer; only for an event that the app accepted."""


EventHandler: TypeAlias = Callable[[BindingEvent], Awaitable[Outcome]]
"""Called for each event; it does not raise. The outcomes are those of pub/sub: `ACCEPTED`, acknowledge it; `RETRY`, the
app answered that it failed, redeliver by the component's rules; `RELEASED`, the app was not reached: give it back
uncounted, it comes again when the reading resumes."""

Reading: TypeAlias = Subscription
"""One app's running reading: `pause` (take nothing more, those with the handler go on), `resume`, `stop(grace)`,
`pending`, as for a subscription of pub/sub. A system that keeps nothing (a clock) drops what comes while it is paused,
and says so in its documentation."""


class ReadRequest(msgspec.Struct, frozen=True):
    """Who reads."""

    reader: str
    """The app id. A system with consumer groups takes it as the group unless its settings name one; each app of an
    instance reads for itself, replicas of one app share."""
    max_in_flight: int = 100
    """Events with the handler at a time, at most; the system's own limit may be lower."""


class InputBinding(Component[S]):
    """An external system that calls apps: at least once where it can wait.

    `capabilities` has `INPUT_BINDING`. An event is acknowledged to the system only after its handler has answered
    `ACCEPTED`; one whose handler is cut off by a crash comes again.
    """

    @abstractmethod
    async def read(self, request: ReadRequest, handler: EventHandler) -> Reading:
        """Begin to bring events to `handler`. Raises `BackendError`.

        Cancelled midway, nothing is left running. The component's own stack stops what is still running.
        """
